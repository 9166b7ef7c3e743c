"""DynamoDB, operation by operation: waiters, paginators, typed exceptions, wrong input, export and import."""

import gzip
import json
import time
from decimal import Decimal

import boto3
from boto3.dynamodb.conditions import Attr, Key
from support import ACCOUNT, REGION, client, eventually, refused

ddb = client("dynamodb")
TABLE = "readings"
ARN = f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/{TABLE}"


def resource():
    return boto3.resource("dynamodb").Table(TABLE)


def test_create_table_and_waiter():
    made = ddb.create_table(
        TableName=TABLE,
        AttributeDefinitions=[
            {"AttributeName": "pk", "AttributeType": "S"},
            {"AttributeName": "sk", "AttributeType": "N"},
            {"AttributeName": "kind", "AttributeType": "S"},
        ],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
        BillingMode="PAY_PER_REQUEST",
        GlobalSecondaryIndexes=[
            {
                "IndexName": "by-kind",
                "KeySchema": [{"AttributeName": "kind", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "KEYS_ONLY"},
            }
        ],
        Tags=[{"Key": "team", "Value": "pumps"}],
    )["TableDescription"]
    assert made["TableArn"] == ARN and made["TableStatus"] == "CREATING"
    ddb.get_waiter("table_exists").wait(TableName=TABLE, WaiterConfig={"Delay": 1})
    table = ddb.describe_table(TableName=TABLE)["Table"]
    assert table["TableStatus"] == "ACTIVE"
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["GlobalSecondaryIndexes"][0]["IndexStatus"] == "ACTIVE"
    try:
        ddb.create_table(
            TableName=TABLE,
            AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
            BillingMode="PAY_PER_REQUEST",
        )
    except ddb.exceptions.ResourceInUseException as error:
        assert error.response["Error"]["Message"] == f"Table already exists: {TABLE}"
    else:
        raise AssertionError("made twice")


def test_create_table_wrong_input():
    good = dict(
        TableName="wrong",
        AttributeDefinitions=[{"AttributeName": "pk", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "pk", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    for change, says in [
        ({"TableName": "a/b"}, "regular expression pattern"),
        ({"AttributeDefinitions": []}, "not defined in AttributeDefinitions"),
        ({"KeySchema": [{"AttributeName": "pk", "KeyType": "RANGE"}]}, "not a HASH key type"),
        ({"BillingMode": "PROVISIONED"}, "must both be specified"),
        ({"StreamSpecification": {"StreamEnabled": True, "StreamViewType": "NEW_IMAGE"}}, "not supported by Kilter"),
    ]:
        refused("ValidationException", ddb.create_table, says=says, **{**good, **change})
    refused("ResourceNotFoundException", ddb.describe_table, TableName="nothing", says="Table: nothing not found")


def test_put_get_update_delete():
    table = resource()
    table.put_item(Item={"pk": "a", "sk": 1, "n": Decimal("0.1"), "b": b"\x00\xff", "l": [1, "x", None], "s": {"u", "v"}})
    item = table.get_item(Key={"pk": "a", "sk": 1}, ConsistentRead=True)["Item"]
    assert item["n"] == Decimal("0.1") and item["b"].value == b"\x00\xff" and item["s"] == {"u", "v"}
    assert item["l"] == [1, "x", None]
    got = table.get_item(Key={"pk": "a", "sk": 1}, ProjectionExpression="l[1], n", ReturnConsumedCapacity="TOTAL")
    assert got["Item"] == {"l": ["x"], "n": Decimal("0.1")}
    assert got["ConsumedCapacity"]["CapacityUnits"] == 0.5
    updated = table.update_item(
        Key={"pk": "a", "sk": 1},
        UpdateExpression="SET n = n + :d, l = list_append(l, :l) REMOVE b ADD hits :one DELETE s :u",
        ConditionExpression=Attr("n").lt(1),
        ExpressionAttributeValues={":d": Decimal("0.2"), ":l": ["y"], ":one": 1, ":u": {"u"}},
        ReturnValues="ALL_NEW",
    )["Attributes"]
    assert updated["n"] == Decimal("0.3") and updated["hits"] == 1 and updated["s"] == {"v"} and "b" not in updated
    old = table.delete_item(Key={"pk": "a", "sk": 1}, ReturnValues="ALL_OLD")["Attributes"]
    assert old == updated
    assert "Item" not in table.get_item(Key={"pk": "a", "sk": 1})


def test_conditional_check_failed():
    table = resource()
    table.put_item(Item={"pk": "c", "sk": 1, "v": 1})
    exceptions = table.meta.client.exceptions
    try:
        table.put_item(
            Item={"pk": "c", "sk": 1},
            ConditionExpression="attribute_not_exists(pk)",
            ReturnValuesOnConditionCheckFailure="ALL_OLD",
        )
    except exceptions.ConditionalCheckFailedException as error:
        assert error.response["Item"]["v"] == {"N": "1"}
    else:
        raise AssertionError("the condition did not hold")


def test_wrong_input():
    key = {"pk": {"S": "c"}, "sk": {"N": "1"}}
    cases = [
        (ddb.put_item, {"Item": {"pk": {"S": "x"}}}, "Missing the key sk"),
        (ddb.put_item, {"Item": {**key, "n": {"N": "1e999"}}}, "Number overflow"),
        (ddb.put_item, {"Item": {**key, "n": {"N": "1" * 39}}}, "more than 38 significant digits"),
        (ddb.put_item, {"Item": {**key, "s": {"SS": ["a", "a"]}}}, "contains duplicates"),
        (ddb.put_item, {"Item": {**key, "x": {"S": "x" * 410_000}}}, "Item size has exceeded"),
        (ddb.get_item, {"Key": {"pk": {"S": "c"}}}, "does not match the schema"),
        (ddb.get_item, {"Key": key, "ProjectionExpression": "name"}, "reserved keyword: name"),
        (
            ddb.update_item,
            {"Key": key, "UpdateExpression": "SET pk = :v", "ExpressionAttributeValues": {":v": {"S": "x"}}},
            "part of the key",
        ),
        (
            ddb.update_item,
            {"Key": key, "UpdateExpression": "SET a = :v", "ExpressionAttributeValues": {":w": {"S": "x"}}},
            "is not defined; attribute value: :v",
        ),
        (ddb.update_item, {"Key": key, "UpdateExpression": "SET a ="}, "Syntax error; token: \"<EOF>\""),
        (ddb.query, {}, "KeyConditionExpression parameter must be specified"),
        (ddb.scan, {"Segment": 3, "TotalSegments": 3}, "must be less than"),
        (ddb.scan, {"ScanFilter": {"a": {"ComparisonOperator": "NULL"}}}, "use FilterExpression"),
    ]
    for call, parameters, says in cases:
        refused("ValidationException", call, TableName=TABLE, says=says, **parameters)
    refused("ResourceNotFoundException", ddb.put_item, TableName="nothing", Item=key)
    refused("UnknownOperationException", ddb.execute_statement, Statement="SELECT * FROM readings")


def test_query_order_filter_and_pages():
    table = resource()
    with table.batch_writer() as batch:
        for sk in range(60):
            batch.put_item(Item={"pk": "q", "sk": sk - 30, "kind": "even" if sk % 2 == 0 else "odd", "x": "y" * 40_000, "z": str(sk % 3)})
    found = table.query(KeyConditionExpression=Key("pk").eq("q") & Key("sk").between(-2, 2), ScanIndexForward=False)
    assert [item["sk"] for item in found["Items"]] == [2, 1, 0, -1, -2]
    # A page ends at 1 MB.
    first = table.query(KeyConditionExpression=Key("pk").eq("q"))
    assert 20 < first["Count"] < 30 and first["LastEvaluatedKey"]["sk"] == first["Items"][-1]["sk"]
    pages = ddb.get_paginator("query").paginate(
        TableName=TABLE,
        KeyConditionExpression="pk = :p",
        FilterExpression="kind = :k",
        ExpressionAttributeValues={":p": {"S": "q"}, ":k": {"S": "even"}},
        ProjectionExpression="sk",
        PaginationConfig={"PageSize": 7},
    )
    found = [int(item["sk"]["N"]) for page in pages for item in page["Items"]]
    assert found == list(range(-30, 30, 2))
    by_kind = table.query(IndexName="by-kind", KeyConditionExpression=Key("kind").eq("odd"), Select="COUNT")
    assert by_kind["Count"] == 30
    item = table.query(IndexName="by-kind", KeyConditionExpression=Key("kind").eq("odd"), Limit=1)["Items"][0]
    assert set(item) == {"pk", "sk", "kind"}


def test_scan_segments_and_count():
    counts = [
        page["Count"]
        for segment in range(4)
        for page in ddb.get_paginator("scan").paginate(TableName=TABLE, Segment=segment, TotalSegments=4, Select="COUNT")
    ]
    whole = sum(page["Count"] for page in ddb.get_paginator("scan").paginate(TableName=TABLE))
    assert sum(counts) == whole >= 61


def test_batches():
    keys = [{"pk": {"S": "q"}, "sk": {"N": str(sk)}} for sk in range(10)] + [{"pk": {"S": "no"}, "sk": {"N": "1"}}]
    got = ddb.batch_get_item(RequestItems={TABLE: {"Keys": keys, "ProjectionExpression": "sk"}})
    assert len(got["Responses"][TABLE]) == 10 and got["UnprocessedKeys"] == {}
    says = "contains duplicates"
    refused("ValidationException", ddb.batch_get_item, RequestItems={TABLE: {"Keys": [keys[0], keys[0]]}}, says=says)
    many = [{"DeleteRequest": {"Key": {"pk": {"S": "z"}, "sk": {"N": str(n)}}}} for n in range(26)]
    refused("ValidationException", ddb.batch_write_item, RequestItems={TABLE: many}, says="less than or equal to 25")


def test_transactions():
    key = {"pk": {"S": "t"}, "sk": {"N": "1"}}
    add = {
        "Update": {
            "TableName": TABLE,
            "Key": key,
            "UpdateExpression": "ADD n :one",
            "ExpressionAttributeValues": {":one": {"N": "1"}},
        }
    }
    check = {"ConditionCheck": {"TableName": TABLE, "Key": {"pk": {"S": "t"}, "sk": {"N": "2"}}, "ConditionExpression": "attribute_exists(pk)"}}
    try:
        ddb.transact_write_items(TransactItems=[add, check])
    except ddb.exceptions.TransactionCanceledException as error:
        codes = [reason["Code"] for reason in error.response["CancellationReasons"]]
        assert codes == ["None", "ConditionalCheckFailed"]
    else:
        raise AssertionError("the check did not hold")
    for _ in range(2):
        ddb.transact_write_items(TransactItems=[add], ClientRequestToken="the-same")
    got = ddb.transact_get_items(TransactItems=[{"Get": {"TableName": TABLE, "Key": key}}])
    assert got["Responses"][0]["Item"]["n"] == {"N": "1"}
    refused("IdempotentParameterMismatchException", ddb.transact_write_items, TransactItems=[add, {"Put": {"TableName": TABLE, "Item": {"pk": {"S": "t"}, "sk": {"N": "3"}}}}], ClientRequestToken="the-same")


def test_update_table_builds_an_index():
    ddb.update_table(
        TableName=TABLE,
        AttributeDefinitions=[{"AttributeName": "z", "AttributeType": "S"}],
        GlobalSecondaryIndexUpdates=[
            {
                "Create": {
                    "IndexName": "by-z",
                    "KeySchema": [{"AttributeName": "z", "KeyType": "HASH"}],
                    "Projection": {"ProjectionType": "KEYS_ONLY"},
                }
            }
        ],
    )
    eventually("the table is ACTIVE", lambda: ddb.describe_table(TableName=TABLE)["Table"]["TableStatus"] == "ACTIVE")
    assert resource().query(IndexName="by-z", KeyConditionExpression=Key("z").eq("1"))["Count"] == 20
    ddb.update_table(TableName=TABLE, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "by-z"}}])
    eventually("it is gone", lambda: len(ddb.describe_table(TableName=TABLE)["Table"]["GlobalSecondaryIndexes"]) == 1)
    replica = [{"Create": {"RegionName": "us-west-2"}}]
    refused("ValidationException", ddb.update_table, TableName=TABLE, ReplicaUpdates=replica, says="joined no other site")


def test_time_to_live():
    assert ddb.describe_time_to_live(TableName=TABLE)["TimeToLiveDescription"]["TimeToLiveStatus"] == "DISABLED"
    resource().put_item(Item={"pk": "ttl", "sk": 1, "until": int(time.time()) - 10})
    resource().put_item(Item={"pk": "ttl", "sk": 2, "until": int(time.time()) + 1000})
    ddb.update_time_to_live(TableName=TABLE, TimeToLiveSpecification={"Enabled": True, "AttributeName": "until"})
    assert ddb.describe_time_to_live(TableName=TABLE)["TimeToLiveDescription"]["AttributeName"] == "until"
    table = resource()
    eventually("the item expires", lambda: "Item" not in table.get_item(Key={"pk": "ttl", "sk": 1}))
    assert "Item" in table.get_item(Key={"pk": "ttl", "sk": 2})


def test_tags_and_limits():
    ddb.tag_resource(ResourceArn=ARN, Tags=[{"Key": "env", "Value": "test"}])
    ddb.untag_resource(ResourceArn=ARN, TagKeys=["team"])
    assert ddb.list_tags_of_resource(ResourceArn=ARN)["Tags"] == [{"Key": "env", "Value": "test"}]
    refused("ResourceNotFoundException", ddb.list_tags_of_resource, ResourceArn=ARN + "x")
    assert ddb.describe_limits()["TableMaxReadCapacityUnits"] > 0
    assert ddb.describe_endpoints()["Endpoints"]


def test_point_in_time_recovery_and_restore():
    says = "Point in time recovery is not enabled"
    refused("PointInTimeRecoveryUnavailableException", ddb.export_table_to_point_in_time, TableArn=ARN, S3Bucket="x", says=says)
    status = ddb.update_continuous_backups(
        TableName=TABLE, PointInTimeRecoverySpecification={"PointInTimeRecoveryEnabled": True}
    )["ContinuousBackupsDescription"]["PointInTimeRecoveryDescription"]
    assert status["PointInTimeRecoveryStatus"] == "ENABLED" and status["RecoveryPeriodInDays"] == 35
    table = resource()
    time.sleep(0.01)
    then = ddb.describe_continuous_backups(TableName=TABLE)["ContinuousBackupsDescription"]
    then = then["PointInTimeRecoveryDescription"]["LatestRestorableDateTime"]
    before = sum(page["Count"] for page in ddb.get_paginator("scan").paginate(TableName=TABLE, Select="COUNT"))
    time.sleep(0.01)
    table.delete_item(Key={"pk": "q", "sk": 0})
    table.put_item(Item={"pk": "later", "sk": 1})
    table.put_item(Item={"pk": "later", "sk": 2})
    made = ddb.restore_table_to_point_in_time(SourceTableName=TABLE, TargetTableName="restored", RestoreDateTime=then)
    assert made["TableDescription"]["RestoreSummary"]["SourceTableArn"] == ARN
    ddb.get_waiter("table_exists").wait(TableName="restored", WaiterConfig={"Delay": 1})
    restored = sum(page["Count"] for page in ddb.get_paginator("scan").paginate(TableName="restored", Select="COUNT"))
    assert restored == before
    assert "Item" in ddb.get_item(TableName="restored", Key={"pk": {"S": "q"}, "sk": {"N": "0"}})


def test_export_and_import():
    s3 = client("s3")
    s3.create_bucket(Bucket="ddb-backup")
    started = ddb.export_table_to_point_in_time(TableArn=ARN, S3Bucket="ddb-backup", S3Prefix="weekly")["ExportDescription"]
    arn = started["ExportArn"]
    done = lambda: ddb.describe_export(ExportArn=arn)["ExportDescription"]["ExportStatus"] == "COMPLETED"
    eventually("the export completes", done)
    export = ddb.describe_export(ExportArn=arn)["ExportDescription"]
    summary = json.load(s3.get_object(Bucket="ddb-backup", Key=export["ExportManifest"])["Body"])
    files = s3.get_object(Bucket="ddb-backup", Key=summary["manifestFilesS3Key"])["Body"].read()
    files = [json.loads(line) for line in files.splitlines()]
    assert sum(file["itemCount"] for file in files) == summary["itemCount"] == export["ItemCount"] > 60
    body = s3.get_object(Bucket="ddb-backup", Key=files[0]["dataFileS3Key"])["Body"].read()
    line = json.loads(gzip.decompress(body).splitlines()[0])
    assert line["Item"]["pk"]["S"]
    assert arn in [summary["ExportArn"] for summary in ddb.list_exports(TableArn=ARN)["ExportSummaries"]]
    imported = ddb.import_table(
        S3BucketSource={"S3Bucket": "ddb-backup", "S3KeyPrefix": files[0]["dataFileS3Key"].rsplit("/", 1)[0] + "/"},
        InputFormat="DYNAMODB_JSON",
        InputCompressionType="GZIP",
        TableCreationParameters={
            "TableName": "imported",
            "AttributeDefinitions": [
                {"AttributeName": "pk", "AttributeType": "S"},
                {"AttributeName": "sk", "AttributeType": "N"},
            ],
            "KeySchema": [{"AttributeName": "pk", "KeyType": "HASH"}, {"AttributeName": "sk", "KeyType": "RANGE"}],
            "BillingMode": "PAY_PER_REQUEST",
        },
    )["ImportTableDescription"]
    look = lambda: ddb.describe_import(ImportArn=imported["ImportArn"])["ImportTableDescription"]
    eventually("the import completes", lambda: look()["ImportStatus"] == "COMPLETED")
    assert look()["ImportedItemCount"] == export["ItemCount"]
    refused("ExportNotFoundException", ddb.describe_export, ExportArn=arn + "x")
    (listed,) = ddb.list_imports(TableArn=look()["TableArn"])["ImportSummaryList"]
    assert listed["ImportArn"] == imported["ImportArn"] and listed["ImportStatus"] == "COMPLETED"
    refused("ImportNotFoundException", ddb.describe_import, ImportArn=imported["ImportArn"] + "x")


def test_delete_table_and_waiter():
    for table in [TABLE, "restored", "imported"]:
        assert table in ddb.list_tables()["TableNames"]
        assert ddb.delete_table(TableName=table)["TableDescription"]["TableStatus"] == "DELETING"
        ddb.get_waiter("table_not_exists").wait(TableName=table, WaiterConfig={"Delay": 1})
    names = [name for page in ddb.get_paginator("list_tables").paginate(PaginationConfig={"PageSize": 1}) for name in page["TableNames"]]
    assert TABLE not in names
