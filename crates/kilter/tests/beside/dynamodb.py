"""DynamoDB put and query latency of several endpoints: each in turn, three rounds, one request after the other and then
by 8 threads at once. Credentials come from the environment (`kilter env`).

usage: dynamodb.py NAME=URL …
"""

import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config

ITEMS, THREADS, ROUNDS = 300, 8, 3
KEYS = [("pk", "S", "HASH"), ("sk", "N", "RANGE")]


def timed(call):
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def one_round(url, table, got):
    config = Config(max_pool_connections=THREADS)
    ddb = boto3.client("dynamodb", endpoint_url=url, region_name="us-east-1", config=config)
    ddb.create_table(
        TableName=table,
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind, _ in KEYS],
        KeySchema=[{"AttributeName": name, "KeyType": role} for name, _, role in KEYS],
        BillingMode="PAY_PER_REQUEST",
    )

    def put(n):
        item = {"pk": {"S": f"p{n % 10}"}, "sk": {"N": str(n)}, "x": {"S": "y" * 200}}
        ddb.put_item(TableName=table, Item=item)

    def query(n):
        values = {":p": {"S": f"p{n % 10}"}, ":n": {"N": "10"}}
        condition = "pk = :p AND sk > :n"
        ddb.query(TableName=table, KeyConditionExpression=condition, ExpressionAttributeValues=values, Limit=20)

    put(0)
    got["put"] += [timed(lambda: put(n)) for n in range(1, ITEMS)]
    got["query"] += [timed(lambda: query(n)) for n in range(ITEMS)]
    with ThreadPoolExecutor(THREADS) as pool:
        got["rate"].append(ITEMS / timed(lambda: list(pool.map(put, range(ITEMS, 2 * ITEMS)))))
    ddb.delete_table(TableName=table)


def main():
    endpoints = [argument.split("=", 1) for argument in sys.argv[1:]]
    if not endpoints:
        sys.exit(__doc__)
    all_got = {name: {"put": [], "query": [], "rate": []} for name, _ in endpoints}
    for number in range(ROUNDS):
        for name, url in endpoints:
            one_round(url, f"beside{number}", all_got[name])

    def ms(values):
        return f"{1000 * statistics.median(values):.2f} / {1000 * sorted(values)[int(len(values) * 0.99)]:.2f} ms"

    for name, got in all_got.items():
        print(f"{name}: put {ms(got['put'])}, query {ms(got['query'])} (p50 / p99), ", end="")
        print(f"{THREADS} threads {statistics.median(got['rate']):.0f} puts/s")


if __name__ == "__main__":
    main()
