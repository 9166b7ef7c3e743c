"""Kinesis: streams, shards, records, tags."""

import datetime
import json

from support import ACCOUNT, REGION, client, eventually, refused

kinesis = client("kinesis")
PLAIN = "plain.stream-1"
TENANT = "anomaly-stream-kinesis1"


def arn(name):
    return f"arn:aws:kinesis:{REGION}:{ACCOUNT}:stream/{name}"


def iterator(name, kind, shard=0, **more):
    shard = f"shardId-{shard:012}"
    return kinesis.get_shard_iterator(StreamName=name, ShardId=shard, ShardIteratorType=kind, **more)["ShardIterator"]


def everything(name, shards=1):
    found = []
    for shard in range(shards):
        token = iterator(name, "TRIM_HORIZON", shard)
        while True:
            got = kinesis.get_records(ShardIterator=token)
            found += got["Records"]
            token = got.get("NextShardIterator")
            if token is None or (not got["Records"] and got["MillisBehindLatest"] == 0):
                break
    return found


def test_streams_come():
    kinesis.create_stream(StreamName=PLAIN, ShardCount=3, Tags={"made": "here"})
    kinesis.get_waiter("stream_exists").wait(StreamName=PLAIN)
    refused("ResourceInUseException", kinesis.create_stream, StreamName=PLAIN, ShardCount=3, says="already exists")
    refused("ValidationException", kinesis.create_stream, StreamName="no/good", ShardCount=1, says="streamName")
    refused("ValidationException", kinesis.create_stream, StreamName="none", ShardCount=1000, says="shardCount")
    on_demand = {"StreamMode": "ON_DEMAND"}
    refused("InvalidArgumentException", kinesis.create_stream, StreamName="none", StreamModeDetails=on_demand)
    refused("ResourceNotFoundException", kinesis.describe_stream, StreamName="none", says="none under account")
    summary = kinesis.describe_stream_summary(StreamName=PLAIN)["StreamDescriptionSummary"]
    assert summary["StreamARN"] == arn(PLAIN) and summary["StreamStatus"] == "ACTIVE"
    assert summary["OpenShardCount"] == 3 and summary["RetentionPeriodHours"] == 168
    since = datetime.datetime.now(datetime.timezone.utc) - summary["StreamCreationTimestamp"]
    assert since < datetime.timedelta(minutes=5)
    assert kinesis.describe_limits()["OpenShardCount"] >= 3


def test_pages():
    for number in range(5):
        kinesis.create_stream(StreamName=f"page-{number}", ShardCount=1)
    pages = list(kinesis.get_paginator("list_streams").paginate(PaginationConfig={"PageSize": 2}))
    names = [name for page in pages for name in page["StreamNames"]]
    assert len(pages) >= 3 and names == sorted(set(names)) and {f"page-{n}" for n in range(5)} <= set(names)
    for number in range(5):
        kinesis.delete_stream(StreamName=f"page-{number}")
    first = kinesis.list_shards(StreamName=PLAIN, MaxResults=2)
    rest = kinesis.list_shards(NextToken=first["NextToken"])
    shards = first["Shards"] + rest["Shards"]
    assert [shard["ShardId"] for shard in shards] == [f"shardId-{n:012}" for n in range(3)]
    assert "NextToken" not in rest
    ranges = [shard["HashKeyRange"] for shard in shards]
    assert ranges[0]["StartingHashKey"] == "0" and int(ranges[-1]["EndingHashKey"]) == 2**128 - 1
    for one, next_one in zip(ranges, ranges[1:]):
        assert int(one["EndingHashKey"]) + 1 == int(next_one["StartingHashKey"])
    refused("InvalidArgumentException", kinesis.list_shards, NextToken="nonsense")
    described = kinesis.describe_stream(StreamARN=arn(PLAIN), Limit=2)["StreamDescription"]
    assert len(described["Shards"]) == 2 and described["HasMoreShards"]
    rest = list(kinesis.get_paginator("describe_stream").paginate(StreamName=PLAIN, PaginationConfig={"PageSize": 2}))
    assert sum(len(page["StreamDescription"]["Shards"]) for page in rest) == 3


def test_records():
    single = kinesis.put_record(StreamName=PLAIN, PartitionKey="a key", Data=b"\x00\xff")
    assert single["ShardId"].startswith("shardId-")
    many = [{"PartitionKey": f"k{n}", "Data": f"{n}".encode()} for n in range(500)]
    answer = kinesis.put_records(StreamName=PLAIN, Records=many)
    assert answer["FailedRecordCount"] == 0 and len(answer["Records"]) == 500
    numbers = {(r["ShardId"], r["SequenceNumber"]) for r in answer["Records"]}
    assert len(numbers) == 500 and len({shard for shard, _ in numbers}) == 3
    found = everything(PLAIN, 3)
    assert len(found) == 501
    assert {(r["PartitionKey"], r["Data"]) for r in found} == {("a key", b"\x00\xff")} | {
        (r["PartitionKey"], r["Data"]) for r in many
    }
    # The shard follows from the MD5 of the key, as Kinesis has it.
    import hashlib

    for record, place in zip(many, answer["Records"]):
        number = int.from_bytes(hashlib.md5(record["PartitionKey"].encode()).digest())
        assert place["ShardId"] == f"shardId-{number * 3 // 2**128:012}"


def test_iterators():
    name = "iterators"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    latest = iterator(name, "LATEST")
    places = [kinesis.put_record(StreamName=name, PartitionKey="k", Data=str(n).encode()) for n in range(4)]
    numbers = [place["SequenceNumber"] for place in places]
    assert numbers == sorted(numbers)

    def data(token, **more):
        return [r["Data"] for r in kinesis.get_records(ShardIterator=token, **more)["Records"]]

    assert data(latest) == [b"0", b"1", b"2", b"3"]
    assert data(iterator(name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2])) == [b"2", b"3"]
    assert data(iterator(name, "AFTER_SEQUENCE_NUMBER", StartingSequenceNumber=numbers[2])) == [b"3"]
    assert data(iterator(name, "TRIM_HORIZON"), Limit=2) == [b"0", b"1"]
    at = kinesis.get_records(ShardIterator=iterator(name, "TRIM_HORIZON"))["Records"][1]
    assert b"1" in data(iterator(name, "AT_TIMESTAMP", Timestamp=at["ApproximateArrivalTimestamp"]))
    part = kinesis.get_records(ShardIterator=iterator(name, "TRIM_HORIZON"), Limit=1)
    assert part["MillisBehindLatest"] >= 0 and len(part["Records"]) == 1
    assert data(part["NextShardIterator"]) == [b"1", b"2", b"3"]
    refused("InvalidArgumentException", kinesis.get_records, ShardIterator="AAAA")
    refused("InvalidArgumentException", iterator, name, "AT_SEQUENCE_NUMBER", StartingSequenceNumber="12")
    refused("InvalidArgumentException", iterator, name, "AT_SEQUENCE_NUMBER")
    refused("ValidationException", iterator, name, "SOMEWHERE", says="shardIteratorType")
    refused("ResourceNotFoundException", iterator, name, "LATEST", shard=1, says="does not exist")
    future = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    refused("InvalidArgumentException", iterator, name, "AT_TIMESTAMP", Timestamp=future)
    kinesis.delete_stream(StreamName=name)
    refused("ResourceNotFoundException", kinesis.get_records, ShardIterator=latest)


def test_what_cannot_be_put():
    refused("ResourceNotFoundException", kinesis.put_record, StreamName="none", PartitionKey="k", Data=b"")
    big = b"x" * (1 << 20)
    refused("ValidationException", kinesis.put_record, StreamName=PLAIN, PartitionKey="k", Data=big, says="data")
    refused("ValidationException", kinesis.put_record, StreamName=PLAIN, PartitionKey="k" * 257, Data=b"")
    too_many = [{"PartitionKey": "k", "Data": b""}] * 501
    refused("ValidationException", kinesis.put_records, StreamName=PLAIN, Records=too_many, says="records")
    heavy = [{"PartitionKey": "k", "Data": b"x" * 1_000_000}] * 11
    refused("InvalidArgumentException", kinesis.put_records, StreamName=PLAIN, Records=heavy)
    for wrong in ["-1", "01", "x", str(2**128)]:
        hashed = {"StreamName": PLAIN, "PartitionKey": "k", "Data": b"", "ExplicitHashKey": wrong}
        refused("InvalidArgumentException", kinesis.put_record, **hashed, says="ExplicitHashKey")


TOP = 2**128 - 1


def shards(name, **more):
    page = kinesis.list_shards(StreamName=name, MaxResults=2, **more)
    found = page["Shards"]
    while "NextToken" in page:
        page = kinesis.list_shards(NextToken=page["NextToken"], MaxResults=2)
        found += page["Shards"]
    return found


def names(name, **filter):
    return [int(shard["ShardId"].removeprefix("shardId-")) for shard in shards(name, ShardFilter=filter)]


def test_an_explicit_hash_key_chooses_the_shard():
    name = "explicit"
    kinesis.create_stream(StreamName=name, ShardCount=2)
    put = [{"PartitionKey": "k", "ExplicitHashKey": str(key), "Data": b""} for key in [0, 2**127 - 1, 2**127, TOP]]
    placed = kinesis.put_records(StreamName=name, Records=put)["Records"]
    assert [place["ShardId"][-1] for place in placed] == ["0", "0", "1", "1"]
    single = kinesis.put_record(StreamName=name, **put[3])
    assert single["ShardId"] == "shardId-000000000001"
    kinesis.delete_stream(StreamName=name)


def test_a_split_and_a_merge():
    name = "reshard"
    kinesis.create_stream(StreamName=name, ShardCount=1)
    before = datetime.datetime.now(datetime.timezone.utc)
    places = [kinesis.put_record(StreamName=name, PartitionKey="k", Data=b"%d" % n) for n in range(3)]
    numbers = [place["SequenceNumber"] for place in places]
    latest = iterator(name, "LATEST")
    middle = str(2**127)
    kinesis.split_shard(StreamName=name, ShardToSplit="shardId-000000000000", NewStartingHashKey=middle)
    kinesis.get_waiter("stream_exists").wait(StreamName=name)
    low = kinesis.put_record(StreamName=name, PartitionKey="k", ExplicitHashKey="0", Data=b"low")
    high = kinesis.put_record(StreamName=name, PartitionKey="k", ExplicitHashKey=middle, Data=b"high")
    assert (low["ShardId"][-1], high["ShardId"][-1]) == ("1", "2")
    assert max(numbers) < min(low["SequenceNumber"], high["SequenceNumber"])
    parent, *children = shards(name)
    ending = parent["SequenceNumberRange"]["EndingSequenceNumber"]
    assert ending >= numbers[-1]
    for child in children:
        assert child["ParentShardId"] == parent["ShardId"] and "AdjacentParentShardId" not in child
        assert child["SequenceNumberRange"]["StartingSequenceNumber"] > ending
        assert "EndingSequenceNumber" not in child["SequenceNumberRange"]
    assert [int(child["HashKeyRange"]["StartingHashKey"]) for child in children] == [0, 2**127]
    assert [int(child["HashKeyRange"]["EndingHashKey"]) for child in children] == [2**127 - 1, TOP]
    # A closed shard is read to its end, which names those that go on.
    part = kinesis.get_records(ShardIterator=iterator(name, "TRIM_HORIZON"), Limit=2)
    assert "ChildShards" not in part
    end = kinesis.get_records(ShardIterator=part["NextShardIterator"])
    assert [r["Data"] for r in part["Records"] + end["Records"]] == [b"0", b"1", b"2"]
    for got in [end, kinesis.get_records(ShardIterator=latest)]:
        assert "NextShardIterator" not in got and got["MillisBehindLatest"] == 0
        assert [child["ShardId"][-1] for child in got["ChildShards"]] == ["1", "2"]
        assert got["ChildShards"][0]["ParentShards"] == [parent["ShardId"]]
    kinesis.merge_shards(
        StreamARN=arn(name), ShardToMerge="shardId-000000000002", AdjacentShardToMerge="shardId-000000000001"
    )
    merged = shards(name)[-1]
    assert (merged["ParentShardId"][-1], merged["AdjacentParentShardId"][-1]) == ("2", "1")
    assert merged["HashKeyRange"] == parent["HashKeyRange"]
    assert {r["Data"] for r in everything(name, 4)} == {b"0", b"1", b"2", b"low", b"high"}
    summary = kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    assert summary["OpenShardCount"] == 1 and summary["StreamStatus"] == "ACTIVE"

    assert names(name, Type="AT_LATEST") == [3]
    assert names(name, Type="AT_TRIM_HORIZON") == [0] == names(name, Type="AT_TIMESTAMP", Timestamp=before)
    assert names(name, Type="FROM_TRIM_HORIZON") == [0, 1, 2, 3] == names(name, Type="FROM_TIMESTAMP", Timestamp=before)
    assert names(name, Type="AFTER_SHARD_ID", ShardId="shardId-000000000001") == [2, 3]
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(minutes=1)
    assert names(name, Type="FROM_TIMESTAMP", Timestamp=later) == [3]
    refused("InvalidArgumentException", names, name, Type="AT_TIMESTAMP", says="Timestamp")
    refused("InvalidArgumentException", names, name, Type="AFTER_SHARD_ID", says="ShardId")
    refused("ValidationException", names, name, Type="SOMETIMES", says="shardFilter.type")


def test_what_cannot_be_split_or_merged():
    name = "reshard"
    closed, open_one, none = "shardId-000000000000", "shardId-000000000003", "shardId-000000000009"

    def split(shard, key, says="", code="InvalidArgumentException"):
        refused(code, kinesis.split_shard, StreamName=name, ShardToSplit=shard, NewStartingHashKey=key, says=says)

    split(closed, "7", says="is closed")
    split(open_one, "0", says="does not split")
    split(open_one, "00", code="ValidationException", says="newStartingHashKey")
    split(none, "7", code="ResourceNotFoundException", says="does not exist")
    split("x", "7", code="ResourceNotFoundException")
    kinesis.update_shard_count(StreamName=name, TargetShardCount=2, ScalingType="UNIFORM_SCALING")
    kinesis.update_shard_count(StreamName=name, TargetShardCount=3, ScalingType="UNIFORM_SCALING")
    open_ones = shards(name, ShardFilter={"Type": "AT_LATEST"})
    open_ones.sort(key=lambda shard: int(shard["HashKeyRange"]["StartingHashKey"]))
    first, _, last = (shard["ShardId"] for shard in open_ones)
    apart = {"StreamName": name, "ShardToMerge": first, "AdjacentShardToMerge": last}
    refused("InvalidArgumentException", kinesis.merge_shards, **apart, says="not neighbours")
    refused("InvalidArgumentException", kinesis.merge_shards, **apart | {"AdjacentShardToMerge": closed})
    refused("ResourceNotFoundException", kinesis.merge_shards, **apart | {"AdjacentShardToMerge": none[:-2] + "99"})
    elsewhere = apart | {"StreamName": "none"}
    refused("ResourceNotFoundException", kinesis.merge_shards, **elsewhere, says="none under account")
    kinesis.delete_stream(StreamName=name)


def test_a_stream_is_scaled():
    name = "scaled"
    kinesis.create_stream(StreamName=name, ShardCount=4)

    def scale(target):
        return kinesis.update_shard_count(StreamName=name, TargetShardCount=target, ScalingType="UNIFORM_SCALING")

    many = [{"PartitionKey": f"k{n}", "Data": b"%d" % n} for n in range(100)]
    kinesis.put_records(StreamName=name, Records=many)
    answer = scale(6)
    assert (answer["CurrentShardCount"], answer["TargetShardCount"]) == (4, 6)
    assert answer["StreamName"] == name and answer["StreamARN"] == arn(name)
    kinesis.put_records(StreamName=name, Records=many)
    open_ones = shards(name, ShardFilter={"Type": "AT_LATEST"})
    starts = sorted(int(shard["HashKeyRange"]["StartingHashKey"]) for shard in open_ones)
    assert starts == [n * (2**128 // 6) for n in range(6)]
    scale(3)
    kinesis.put_records(StreamName=name, Records=many)
    all_shards = shards(name)
    assert kinesis.describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]["OpenShardCount"] == 3
    assert len(everything(name, len(all_shards))) == 300
    refused("InvalidArgumentException", scale, 7, says="double")
    refused("InvalidArgumentException", scale, 1, says="half")
    wrong = {"StreamName": name, "TargetShardCount": 4, "ScalingType": "OTHER"}
    refused("ValidationException", kinesis.update_shard_count, **wrong, says="scalingType")
    scale(3)
    assert len(shards(name)) == len(all_shards), "nothing is to be done"
    kinesis.delete_stream(StreamName=name)
    kinesis.create_stream(StreamName=name, ShardCount=64)
    refused("LimitExceededException", scale, 65, says="64")
    split = {"StreamName": name, "ShardToSplit": "shardId-000000000000", "NewStartingHashKey": "7"}
    refused("LimitExceededException", kinesis.split_shard, **split, says="64")
    kinesis.delete_stream(StreamName=name)


def test_retention():
    def hours():
        return kinesis.describe_stream_summary(StreamName=PLAIN)["StreamDescriptionSummary"]["RetentionPeriodHours"]

    increase, decrease = kinesis.increase_stream_retention_period, kinesis.decrease_stream_retention_period
    increase(StreamName=PLAIN, RetentionPeriodHours=8760)
    assert hours() == 8760
    decrease(StreamARN=arn(PLAIN), RetentionPeriodHours=24)
    assert hours() == 24 == kinesis.describe_stream(StreamName=PLAIN)["StreamDescription"]["RetentionPeriodHours"]
    refused("InvalidArgumentException", decrease, StreamName=PLAIN, RetentionPeriodHours=23, says="Minimum")
    refused("InvalidArgumentException", increase, StreamName=PLAIN, RetentionPeriodHours=8761, says="Maximum")
    refused("InvalidArgumentException", decrease, StreamName=PLAIN, RetentionPeriodHours=25, says="Increase")
    increase(StreamName=PLAIN, RetentionPeriodHours=168)
    refused("InvalidArgumentException", increase, StreamName=PLAIN, RetentionPeriodHours=167, says="Decrease")
    refused("ResourceNotFoundException", increase, StreamName="none", RetentionPeriodHours=48)


def test_tags():
    def tags():
        return {t["Key"]: t["Value"] for t in kinesis.list_tags_for_stream(StreamName=PLAIN)["Tags"]}

    assert tags() == {"made": "here"}
    kinesis.add_tags_to_stream(StreamName=PLAIN, Tags={"a": "1", "b": "2", "made": "there"})
    assert tags() == {"a": "1", "b": "2", "made": "there"}
    kinesis.remove_tags_from_stream(StreamName=PLAIN, TagKeys=["a", "none"])
    kinesis.tag_resource(ResourceARN=arn(PLAIN), Tags={"c": "3"})
    kinesis.untag_resource(ResourceARN=arn(PLAIN), TagKeys=["b"])
    listed = kinesis.list_tags_for_resource(ResourceARN=arn(PLAIN))["Tags"]
    assert listed == [{"Key": "c", "Value": "3"}, {"Key": "made", "Value": "there"}]
    page = kinesis.list_tags_for_stream(StreamName=PLAIN, Limit=1)
    assert page["HasMoreTags"] and page["Tags"][0]["Key"] == "c"
    refused("ValidationException", kinesis.add_tags_to_stream, StreamName=PLAIN, Tags={"aws:x": "1"})


def test_what_is_not_offered():
    refused("UnknownOperationException", kinesis.register_stream_consumer, StreamARN=arn(PLAIN), ConsumerName="c")


def test_streams_go():
    kinesis.delete_stream(StreamName=PLAIN)
    kinesis.get_waiter("stream_not_exists").wait(StreamName=PLAIN)
    refused("ResourceNotFoundException", kinesis.delete_stream, StreamName=PLAIN)
    kinesis.create_stream(StreamName=PLAIN, ShardCount=1)
    assert everything(PLAIN) == []
    assert kinesis.list_tags_for_stream(StreamName=PLAIN)["Tags"] == []
    kinesis.delete_stream(StreamName=PLAIN)


def test_a_tenant_comes_into_being_with_its_stream_and_is_scored():
    import os
    import urllib.request

    def ledger():
        lines = json.load(urllib.request.urlopen(f"{os.environ['KILTER_URL']}/api/v1/ledger?tenant=kinesis1"))
        return {line["thing"]: (line["received"], line["scored"], line["rejected"]) for line in lines}

    kinesis.create_stream(StreamName=TENANT, ShardCount=1)
    for n in range(10):
        kinesis.put_record(StreamName=TENANT, PartitionKey="pump1", Data=json.dumps({"ts": 1_700_000_000 + n, "a": n}))
    kinesis.put_record(StreamName=TENANT, PartitionKey="pump 2", Data=b"not JSON")
    eventually("all is scored", lambda: ledger() == {"pump1": (10, 10, 0), "pump_2": (1, 0, 1)})
    kinesis.delete_stream(StreamName=TENANT)
    assert ledger() == {}
    kinesis.create_stream(StreamName=TENANT, ShardCount=1)
    kinesis.put_record(StreamName=TENANT, PartitionKey="pump1", Data=json.dumps({"ts": 1_700_000_100, "a": 1}))
    eventually("the ledger begins anew", lambda: ledger() == {"pump1": (1, 1, 0)})
    kinesis.delete_stream(StreamName=TENANT)
