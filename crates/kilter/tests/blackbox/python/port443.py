"""MQTT as on AWS IoT's port 443: over WebSocket, and plain where the client names it by ALPN. Prints what came."""

import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

PORT, CERTIFICATES, TENANT, THING = sys.argv[1:5]
TOPIC = f"tenants/{TENANT}/devices/{THING}/telemetry"
PATIENCE = 30
# Larger than a WebSocket frame that a small buffer would take at once.
LARGE = "x" * 100_000


def round_trip(version, transport, alpn):
    came, subscribed, done = [], threading.Event(), threading.Event()
    client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=THING, protocol=version, transport=transport)
    context = ssl.create_default_context(cafile=f"{CERTIFICATES}/AmazonRootCA1.pem")
    context.load_cert_chain(f"{CERTIFICATES}/cert-{THING}.pem", f"{CERTIFICATES}/private-{THING}.key")
    if alpn:
        context.set_alpn_protocols([alpn])
    client.tls_set_context(context)
    client.on_connect = lambda client, *_: client.subscribe(TOPIC, qos=2)
    client.on_subscribe = lambda *_: subscribed.set()

    def on_message(client, userdata, message):
        came.append(len(message.payload))
        if len(came) == 2:
            done.set()

    client.on_message = on_message
    client.connect("localhost", int(PORT))
    client.loop_start()
    assert subscribed.wait(PATIENCE), f"{transport} {alpn}: not subscribed"
    for payload in ("{}", LARGE):
        client.publish(TOPIC, payload, qos=2)
    assert done.wait(PATIENCE), f"{transport} {alpn}: {came}"
    client.disconnect()
    client.loop_stop()
    return came


print(
    json.dumps(
        {
            "websocket": round_trip(mqtt.MQTTv311, "websockets", None),
            "websocket_5": round_trip(mqtt.MQTTv5, "websockets", "http/1.1"),
            "alpn": round_trip(mqtt.MQTTv311, "tcp", "x-amzn-mqtt-ca"),
            "alpn_5": round_trip(mqtt.MQTTv5, "tcp", "mqtt"),
        }
    )
)
