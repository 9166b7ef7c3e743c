"""Changes the shards of a stream; as a server that was killed comes back elsewhere, each line says where.

Reads lines of JSON (endpoint, stream, operation, parameters) and answers each with the ids of the open shards.
"""

import json
import sys

import boto3

for line in sys.stdin:
    asked = json.loads(line)
    kinesis = boto3.client("kinesis", endpoint_url=asked["endpoint"])
    getattr(kinesis, asked["operation"])(StreamName=asked["stream"], **asked["parameters"])
    shards = kinesis.list_shards(StreamName=asked["stream"], ShardFilter={"Type": "AT_LATEST"})["Shards"]
    print(json.dumps([shard["ShardId"] for shard in shards]), flush=True)
