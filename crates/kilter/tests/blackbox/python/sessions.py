"""A device with a kept session that publishes and receives its own messages of QoS 1 and 2 while the server is killed
under it. Runs until a line comes on standard input; then lets everything arrive and prints what did."""

import collections
import json
import ssl
import sys
import threading
import time

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

VERSION, PORT, CERTIFICATES, TENANT, THING = sys.argv[1:6]
TOPIC = f"tenants/{TENANT}/devices/{THING}/telemetry"
V5 = VERSION == "5"
PATIENCE = 120
# Both ways together below what the server keeps in flight and queues for one client.
IN_FLIGHT = 20

stop = threading.Event()
subscribed = threading.Event()
room = threading.Semaphore(IN_FLIGHT)
acknowledged, received = [], collections.Counter()
connections = collections.Counter()


def on_connect(client, userdata, flags, reason, properties):
    connections["with" if flags.session_present else "without"] += 1
    # Once is enough while the session is kept.
    if not subscribed.is_set():
        client.subscribe(TOPIC, qos=2)


def on_subscribe(client, userdata, mid, reasons, properties):
    subscribed.set()


def on_publish(client, userdata, mid, reason, properties):
    # No lock: paho holds one of its own here that publish() asks for.
    acknowledged.append(mid)
    room.release()


def on_message(client, userdata, message):
    received[json.loads(message.payload)["n"]] += 1


class Client(mqtt.Client):
    """paho 2.1 forgets, when an attempt to reconnect fails, that a message was received (PUBREC) and publishes it again,
    which MQTT 5 [MQTT-4.3.3-6] forbids."""

    def _messages_reconnect_reset_out(self):
        for message in self._out_messages.values():
            if message.state == mqtt.mqtt_ms_resend_pubrel:
                message.state = mqtt.mqtt_ms_wait_for_pubcomp
        super()._messages_reconnect_reset_out()


client = Client(
    CallbackAPIVersion.VERSION2,
    client_id=THING,
    protocol=mqtt.MQTTv5 if V5 else mqtt.MQTTv311,
    **({} if V5 else {"clean_session": False}),
)
client.tls_set(
    ca_certs=f"{CERTIFICATES}/AmazonRootCA1.pem",
    certfile=f"{CERTIFICATES}/cert-{THING}.pem",
    keyfile=f"{CERTIFICATES}/private-{THING}.key",
    tls_version=ssl.PROTOCOL_TLS_CLIENT,
)
client.max_inflight_messages_set(IN_FLIGHT)
client.max_queued_messages_set(0)
client.reconnect_delay_set(min_delay=1, max_delay=1)
client._reconnect_min_delay = client._reconnect_max_delay = client._reconnect_delay = 0.02
client.on_connect, client.on_subscribe = on_connect, on_subscribe
client.on_publish, client.on_message = on_publish, on_message
arguments = {"keepalive": 30}
if V5:
    kept = Properties(PacketTypes.CONNECT)
    kept.SessionExpiryInterval = 3600
    arguments |= {"clean_start": False, "properties": kept}
client.connect("localhost", int(PORT), **arguments)
client.loop_start()
subscribed.wait(PATIENCE)
print("connected", flush=True)


def listen():
    sys.stdin.readline()
    stop.set()


threading.Thread(target=listen, daemon=True).start()
number = 0
while not stop.is_set():
    if not room.acquire(timeout=0.1):
        continue
    payload = json.dumps({"ts": 1_700_000_000 + number, "n": number, "temp_c": 20 + number % 7})
    client.publish(TOPIC, payload, qos=1 + number % 2)
    number += 1
    time.sleep(0.002)

began = time.time()
while time.time() - began < PATIENCE and (len(acknowledged) < number or len(received) < number):
    time.sleep(0.05)
# What is doubled would come now.
time.sleep(1)
client.disconnect()
client.loop_stop()
print(
    json.dumps(
        {
            "published": number,
            "acknowledged": len(acknowledged),
            "lost": [n for n in range(number) if received[n] == 0],
            "doubled": [n for n in range(1, number, 2) if received[n] > 1],
            "resumed": connections["with"],
            "fresh": connections["without"],
        }
    )
)
