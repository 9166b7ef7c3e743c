"""The AWS endpoint of `kilter serve` beside servers of the same job: puts and gets of Kinesis, DynamoDB and S3, all from the
same client (boto3) in the same run, three rounds, each server in turn. Prints a table of medians, with ratios to Kilter.

A peer's SERVICES are those that it has: `kinesis,dynamodb:other=http://127.0.0.1:9000`. moto is started where it is installed
(`pip install boto3 'moto[server]'`); Kilter is started on a fresh directory below the current one.
"""

import argparse
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

ROUNDS, THREADS, SERVICES = 3, 8, ("kinesis", "dynamodb", "s3")
SINGLE = 300  # requests, one after the other
BATCHES, BATCH, RECORD = 60, 100, b"r" * 1000  # of put_records
OBJECTS, OBJECT, SMALL = 48, os.urandom(1 << 20), os.urandom(4096)


class Peer:
    def __init__(self, name, url, services, key=("test", "test")):
        self.name, self.url, self.services, self.key, self.got = name, url, services, key, {}

    def client(self, service):
        config = Config(max_pool_connections=THREADS, s3={"addressing_style": "path"}, retries={"max_attempts": 1})
        return boto3.client(
            service,
            endpoint_url=self.url,
            region_name="us-east-1",
            config=config,
            aws_access_key_id=self.key[0],
            aws_secret_access_key=self.key[1],
        )

    def note(self, figure, values):
        self.got.setdefault(figure, []).extend(values)


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def at_once(call, count):
    """Seconds that `count` calls take, from THREADS threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return timed(lambda: list(pool.map(call, range(count))))


def kinesis(peer, name):
    client = peer.client("kinesis")
    client.create_stream(StreamName=name, ShardCount=2)
    client.get_waiter("stream_exists").wait(StreamName=name, WaiterConfig={"Delay": 1})

    def put(n):
        client.put_record(StreamName=name, PartitionKey=f"k{n}", Data=RECORD)

    def put_batch(n):
        records = [{"PartitionKey": f"k{n}-{i}", "Data": RECORD} for i in range(BATCH)]
        assert client.put_records(StreamName=name, Records=records)["FailedRecordCount"] == 0

    put(0)
    peer.note("Kinesis put_record ms", [1000 * timed(lambda: put(n)) for n in range(1, SINGLE)])
    peer.note("Kinesis put_records, records/s", [BATCHES * BATCH / at_once(put_batch, BATCHES)])
    found, seconds = 0, 0.0
    for shard in client.list_shards(StreamName=name)["Shards"]:
        began = time.perf_counter()
        place = {"StreamName": name, "ShardId": shard["ShardId"], "ShardIteratorType": "TRIM_HORIZON"}
        iterator = client.get_shard_iterator(**place)["ShardIterator"]
        while True:
            page = client.get_records(ShardIterator=iterator, Limit=1000)
            found += len(page["Records"])
            iterator = page["NextShardIterator"]
            if not page["Records"]:
                break
        seconds += time.perf_counter() - began
    if found != SINGLE + BATCHES * BATCH:
        print(f"{peer.name}: {found} of {SINGLE + BATCHES * BATCH} acknowledged records came back", file=sys.stderr)
    peer.note("Kinesis get_records, records/s", [found / seconds])
    client.delete_stream(StreamName=name)


def dynamodb(peer, name):
    client = peer.client("dynamodb")
    keys = [("pk", "S", "HASH"), ("sk", "N", "RANGE")]
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": kind} for key, kind, _ in keys],
        KeySchema=[{"AttributeName": key, "KeyType": role} for key, _, role in keys],
        BillingMode="PAY_PER_REQUEST",
    )

    def put(n):
        item = {"pk": {"S": f"p{n % 10}"}, "sk": {"N": str(n)}, "x": {"S": "y" * 200}}
        client.put_item(TableName=name, Item=item)

    def query(n):
        found = client.query(
            TableName=name,
            KeyConditionExpression="pk = :p AND sk > :n",
            ExpressionAttributeValues={":p": {"S": f"p{n % 10}"}, ":n": {"N": "10"}},
            Limit=20,
        )
        assert found["Count"] == 20

    put(0)
    peer.note("DynamoDB put_item ms", [1000 * timed(lambda: put(n)) for n in range(1, SINGLE)])
    peer.note("DynamoDB query of 20 ms", [1000 * timed(lambda: query(n)) for n in range(SINGLE)])
    peer.note("DynamoDB put_item, 8 threads, items/s", [SINGLE / at_once(lambda n: put(n + SINGLE), SINGLE)])
    client.delete_table(TableName=name)


def s3(peer, name):
    client = peer.client("s3")
    client.create_bucket(Bucket=name)

    def put(n):
        client.put_object(Bucket=name, Key=f"large/{n}", Body=OBJECT)

    def get(n):
        assert len(client.get_object(Bucket=name, Key=f"large/{n}")["Body"].read()) == len(OBJECT)

    def put_small(n):
        client.put_object(Bucket=name, Key=f"small/{n}", Body=SMALL)

    peer.note("S3 put of 4 KiB ms", [1000 * timed(lambda: put_small(n)) for n in range(SINGLE)])
    peer.note("S3 put of 1 MiB, 8 threads, MiB/s", [OBJECTS / at_once(put, OBJECTS)])
    peer.note("S3 get of 1 MiB, 8 threads, MiB/s", [OBJECTS / at_once(get, OBJECTS)])
    for kind, count in (("large", OBJECTS), ("small", SINGLE)):
        for n in range(count):
            client.delete_object(Bucket=name, Key=f"{kind}/{n}")
    client.delete_bucket(Bucket=name)


def free_ports(count):
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    return [one.getsockname()[1] for one in held]


def answers(url, child, patience=60):
    until = time.monotonic() + patience
    while time.monotonic() < until:
        if child.poll() is not None:
            sys.exit(f"{child.args[0]} ended with {child.returncode}")
        try:
            return urllib.request.urlopen(url, timeout=1).close()
        except OSError:
            time.sleep(0.05)
    sys.exit(f"{url} does not answer")


def start_kilter(binary, folder):
    mqtt, http, aws = free_ports(3)
    data = ["--data-dir", os.path.join(folder, "data")]
    listen = [f"--{name}=127.0.0.1:{port}" for name, port in (("mqtt", mqtt), ("http", http), ("aws", aws))]
    child = subprocess.Popen([binary, "serve", *listen, *data], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    answers(f"http://127.0.0.1:{http}/readyz", child)
    facts = json.loads(subprocess.check_output([binary, "env", "--output", "json", *data]))
    with open(facts["AWS_SHARED_CREDENTIALS_FILE"], encoding="utf-8") as file:
        lines = dict(line.strip().split(" = ", 1) for line in file if " = " in line)
    key = (lines["aws_access_key_id"], lines["aws_secret_access_key"])
    return child, Peer("kilter", facts["AWS_ENDPOINT_URL"], SERVICES, key)


def start_moto():
    program = os.path.join(os.path.dirname(sys.executable), "moto_server")
    program = program if os.path.exists(program) else shutil.which("moto_server")
    if program is None:
        print("SKIPPED: moto is not installed", file=sys.stderr)
        return []
    (port,) = free_ports(1)
    child = subprocess.Popen([program, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    answers(f"http://127.0.0.1:{port}/moto-api/", child)
    return [(child, Peer("moto", f"http://127.0.0.1:{port}", SERVICES))]


def given(argument):
    services, name_and_url = argument.split(":", 1)
    name, url = name_and_url.split("=", 1)
    return Peer(name, url, services.split(","))


def shown(peer, figure):
    values = sorted(peer.got.get(figure, []))
    if not values:
        return "–"
    middle = statistics.median(values)
    return f"{middle:.2f} / {values[int(len(values) * 0.99)]:.2f}" if figure.endswith(" ms") else f"{middle:,.0f}"


def ratio(ours, peer, figure):
    if figure not in peer.got:
        return "–"
    return f"{statistics.median(ours.got[figure]) / statistics.median(peer.got[figure]):.2f}"


def table(peers):
    ours, others = peers[0], peers[1:]
    heads = ["", *(peer.name for peer in peers), *(f"kilter : {peer.name}" for peer in others)]
    print("| " + " | ".join(heads) + " |")
    print("|---" * len(heads) + "|")
    for figure in ours.got:
        label = figure[: -len(" ms")] + ", ms (p50 / p99)" if figure.endswith(" ms") else figure
        row = [label, *(shown(peer, figure) for peer in peers), *(ratio(ours, peer, figure) for peer in others)]
        print("| " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kilter", help="the program")
    parser.add_argument("peers", nargs="*", type=given, metavar="SERVICES:NAME=URL")
    parser.add_argument("--only", default=",".join(SERVICES), help="services to measure")
    asked = parser.parse_intermixed_args()
    folder = tempfile.mkdtemp(prefix="kilter-beside-", dir=".")
    children = []
    try:
        child, ours = start_kilter(asked.kilter, folder)
        children.append(child)
        peers = [ours]
        for child, peer in start_moto():
            children.append(child)
            peers.append(peer)
        peers += asked.peers
        for number in range(ROUNDS):
            for service, measure in (("kinesis", kinesis), ("dynamodb", dynamodb), ("s3", s3)):
                for peer in peers:
                    if service in peer.services and service in asked.only.split(","):
                        measure(peer, f"beside-{number}")
        table(peers)
    finally:
        for child in children:
            child.terminate()
            child.wait()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
