"""The AWS IoT device SDK against Kilter: its MQTT 3.1.1 and its MQTT 5 client publish, receive, are given what was
retained, and find their session again. Prints what came as one JSON object."""

import json
import os
import sys
import threading

from awscrt import mqtt, mqtt5
from awsiot import mqtt5_client_builder, mqtt_connection_builder

PORT, CERTIFICATES, TENANT, THREE, FIVE = sys.argv[1:6]
PATIENCE = 30
seen = {}


def files(thing):
    return {
        "endpoint": "localhost",
        "port": int(PORT),
        "cert_filepath": f"{CERTIFICATES}/cert-{thing}.pem",
        "pri_key_filepath": f"{CERTIFICATES}/private-{thing}.key",
        "ca_filepath": f"{CERTIFICATES}/AmazonRootCA1.pem",
        "client_id": thing,
    }


def topic(thing):
    return f"tenants/{TENANT}/devices/{thing}/telemetry"


def three():
    came, done = [], threading.Event()

    def on_message(topic, payload, dup, qos, retain, **_):
        came.append([json.loads(payload)["n"], int(qos), retain])
        if len(came) == 3:
            done.set()

    connection = mqtt_connection_builder.mtls_from_path(clean_session=False, keep_alive_secs=30, **files(THREE))
    first = connection.connect().result(PATIENCE)
    future, _ = connection.publish(topic(THREE), json.dumps({"n": 0}), mqtt.QoS.AT_LEAST_ONCE, retain=True)
    future.result(PATIENCE)
    future, _ = connection.subscribe(topic(THREE), mqtt.QoS.AT_LEAST_ONCE, on_message)
    granted = future.result(PATIENCE)
    for n in (1, 2):
        future, _ = connection.publish(topic(THREE), json.dumps({"n": n}), mqtt.QoS.AT_LEAST_ONCE)
        future.result(PATIENCE)
    assert done.wait(PATIENCE), came
    connection.disconnect().result(PATIENCE)
    again = connection.connect().result(PATIENCE)
    connection.disconnect().result(PATIENCE)
    return {
        "came": came,
        "granted": int(granted["qos"]),
        "present": [first["session_present"], again["session_present"]],
    }


def five():
    came, connected, stopped, done = [], threading.Event(), threading.Event(), threading.Event()
    connacks = []

    def on_connection_success(data):
        connacks.append(data.connack_packet)
        connected.set()

    def on_publish_received(data):
        packet = data.publish_packet
        came.append([json.loads(packet.payload)["n"], int(packet.qos), packet.content_type])
        done.set()

    client = mqtt5_client_builder.mtls_from_path(
        **files(FIVE),
        on_lifecycle_connection_success=on_connection_success,
        on_lifecycle_stopped=lambda _: stopped.set(),
        on_publish_received=on_publish_received,
        session_behavior=mqtt5.ClientSessionBehaviorType.REJOIN_ALWAYS,
        session_expiry_interval_sec=3600,
    )
    client.start()
    assert connected.wait(PATIENCE)
    subscription = mqtt5.Subscription(topic_filter=topic(FIVE), qos=mqtt5.QoS.AT_LEAST_ONCE)
    suback = client.subscribe(mqtt5.SubscribePacket(subscriptions=[subscription])).result(PATIENCE)
    publish = mqtt5.PublishPacket(
        topic=topic(FIVE), payload=json.dumps({"n": 5}), qos=mqtt5.QoS.AT_LEAST_ONCE, content_type="application/json"
    )
    puback = client.publish(publish).result(PATIENCE).puback
    assert done.wait(PATIENCE), came
    # The next connection may bring it again: the SDK stops without waiting for its PUBACK to leave.
    first = list(came)
    client.stop()
    assert stopped.wait(PATIENCE)
    connected.clear()
    client.start()
    assert connected.wait(PATIENCE)
    stopped.clear()
    client.stop()
    assert stopped.wait(PATIENCE)
    return {
        "came": first,
        "granted": [int(code) for code in suback.reason_codes],
        "acknowledged": int(puback.reason_code),
        "present": [connack.session_present for connack in connacks],
    }


print(json.dumps({"three": three(), "five": five()}), flush=True)
# Not through Python's own end: the SDK's native threads crash in it now and then.
os._exit(0)
