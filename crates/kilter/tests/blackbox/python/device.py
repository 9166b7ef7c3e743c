"""A device that speaks with paho: publishes with QoS 1 and many in flight, receives its own messages, tries what must
be refused, and prints what happened as one JSON object."""

import json
import ssl
import sys
import threading

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

VERSION, PORT, CERTIFICATES, TENANT, THING, COUNT = sys.argv[1:7]
COUNT = int(COUNT)
TOPIC = f"tenants/{TENANT}/devices/{THING}/telemetry"
FOREIGN = f"tenants/not{TENANT}/devices/{THING}/telemetry"
PATIENCE = 60
# In flight, there and back again: the server closes a subscriber that lets more than 100 messages wait.
IN_FLIGHT = 50
V5 = VERSION == "5"

connected, disconnected, done, answered = (threading.Event() for _ in range(4))
acknowledged, received, granted, refused = [], [], [], []
room = threading.Semaphore(IN_FLIGHT)


def on_connect(client, userdata, flags, reason, properties):
    assert not reason.is_failure, reason
    connected.set()


def on_publish(client, userdata, mid, reason, properties):
    if reason.is_failure:
        refused.append(str(reason))
        answered.set()
        return
    acknowledged.append(mid)
    check()


def on_message(client, userdata, message):
    received.append(json.loads(message.payload)["n"])
    room.release()
    check()


def on_subscribe(client, userdata, mid, reasons, properties):
    granted.append(reasons[0])
    answered.set()


def check():
    if len(acknowledged) >= COUNT and len(received) >= COUNT:
        done.set()


def await_(event, what):
    counts = f"{len(acknowledged)} acknowledged, {len(received)} received, refused {refused}"
    assert event.wait(PATIENCE), f"not within {PATIENCE} s: {what} ({counts} at first)"
    event.clear()


client = mqtt.Client(
    CallbackAPIVersion.VERSION2,
    client_id=THING,
    protocol=mqtt.MQTTv5 if V5 else mqtt.MQTTv311,
    reconnect_on_failure=False,
)
client.tls_set(
    ca_certs=f"{CERTIFICATES}/AmazonRootCA1.pem",
    certfile=f"{CERTIFICATES}/cert-{THING}.pem",
    keyfile=f"{CERTIFICATES}/private-{THING}.key",
    tls_version=ssl.PROTOCOL_TLS_CLIENT,
)
client.max_inflight_messages_set(IN_FLIGHT)
client.max_queued_messages_set(0)
client.on_connect, client.on_publish, client.on_message = on_connect, on_publish, on_message
client.on_subscribe = on_subscribe
client.on_disconnect = lambda *_: disconnected.set()
client.connect("localhost", int(PORT))
client.loop_start()
await_(connected, "CONNACK")

client.subscribe(TOPIC, qos=1)
await_(answered, "SUBACK")
assert not granted[-1].is_failure, granted
for n in range(COUNT):
    assert room.acquire(timeout=PATIENCE), f"only {len(received)} of {n} messages came back within {PATIENCE} s"
    client.publish(TOPIC, json.dumps({"ts": 1700000000 + n, "n": n, "temp_c": 20 + n % 7}), qos=1)
await_(done, f"{COUNT} acknowledged and received")

client.subscribe("tenants/+/devices/+/telemetry", qos=1)
await_(answered, "SUBACK of a foreign subscription")
foreign_subscribe_refused = granted[-1].is_failure

# A server of 3.1.1 has no words for it: it closes the connection.
client.publish(FOREIGN, "{}", qos=1)
await_(answered if V5 else disconnected, "a foreign message is refused")
client.disconnect()
client.loop_stop()
print(
    json.dumps(
        {
            "acknowledged": len(acknowledged),
            "received": len(received),
            "in_order": received == list(range(COUNT)),
            "foreign_subscribe_refused": foreign_subscribe_refused,
            "foreign_publish_refused": bool(refused) if V5 else True,
        }
    )
)
