"""Live rules: made with boto3, fed by a device over MQTT 5, every action with templates, and what fails. A PUBACK means
that the actions are done, so most of it can be looked at without waiting."""

import base64
import json
import os
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
from support import ACCOUNT, PATIENCE, REGION, Web, client, eventually, refused
from test_sns import posted, subscribe

iot, iam, s3, kinesis, dynamodb = (client(name) for name in ["iot", "iam", "s3", "kinesis", "dynamodb"])
sns, sitewise, logs = client("sns"), client("iotsitewise"), client("logs")
FOLDER = Path(tempfile.mkdtemp(prefix="kilter-rules-"))
ALL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]})
TRUST = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
ROLE = f"arn:aws:iam::{ACCOUNT}:role/rules"
DEVICE = "rules-device"
THIRD = "${topic(3)}"
messages = []


web = Web()


def at(path):
    return [(status, headers, body) for where, status, headers, body in web.taken if where == path]


def rule(name, sql, *actions, error=None, **more):
    payload = {"sql": sql, "awsIotSqlVersion": "2016-03-23", "ruleDisabled": False, "actions": list(actions), **more}
    if error:
        payload["errorAction"] = error
    iot.create_topic_rule(ruleName=name, topicRulePayload=payload)


def republish(topic, **more):
    return {"republish": {"roleArn": ROLE, "topic": topic, "qos": 1, **more}}


def publish(topic, payload, properties=None):
    """Returns after PUBACK."""
    if not isinstance(payload, (bytes, str)):
        payload = json.dumps(payload)
    info = device.publish(topic, payload, qos=1, properties=properties)
    info.wait_for_publish(PATIENCE)
    assert info.is_published(), topic


def came(topic):
    """The messages on a topic so far; a message of our own behind them says that all have come."""
    marker = f"rules/marker/{time.monotonic_ns()}"
    publish(marker, "x")
    eventually(marker, lambda: any(message.topic == marker for message in messages))
    return [message for message in messages if message.topic == topic]


def test_a_device_connects():
    global device
    iam.create_role(RoleName="rules", AssumeRolePolicyDocument=TRUST)
    iam.put_role_policy(RoleName="rules", PolicyName="all", PolicyDocument=ALL)
    keys = iot.create_keys_and_certificate(setAsActive=True)
    iot.create_policy(policyName="rules", policyDocument=ALL.replace('"*", "Resource"', '"iot:*", "Resource"'))
    iot.attach_policy(policyName="rules", target=keys["certificateArn"])
    files = [FOLDER / name for name in ["ca.pem", "cert.pem", "key.pem"]]
    files[0].write_bytes(urllib.request.urlopen(os.environ["ROOT_CA_URL"]).read())
    files[1].write_text(keys["certificatePem"])
    files[2].write_text(keys["keyPair"]["PrivateKey"])
    device = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=DEVICE, protocol=mqtt.MQTTv5)
    device.tls_set(*map(str, files))
    subscribed = threading.Event()
    device.on_message = lambda _client, _data, message: messages.append(message)
    device.on_subscribe = lambda *_: subscribed.set()
    device.connect(os.environ["IOT_ENDPOINT"], int(os.environ["IOT_PORT"]))
    device.loop_start()
    device.subscribe("rules/#", qos=1)
    assert subscribed.wait(PATIENCE)


def test_kinesis():
    kinesis.create_stream(StreamName="rules", ShardCount=1)
    action = {"kinesis": {"roleArn": ROLE, "streamName": "rules", "partitionKey": THIRD + "-${clientid()}"}}
    rule("to_kinesis", "SELECT topic(3) AS press, timestamp() AS ts, a.b FROM 'rules/in/+/kinesis'", action)
    publish("rules/in/p1/kinesis", {"a": {"b": 1}})
    shard = kinesis.describe_stream(StreamName="rules")["StreamDescription"]["Shards"][0]["ShardId"]
    start = kinesis.get_shard_iterator(StreamName="rules", ShardId=shard, ShardIteratorType="TRIM_HORIZON")
    (record,) = kinesis.get_records(ShardIterator=start["ShardIterator"])["Records"]
    data = json.loads(record["Data"])
    assert record["PartitionKey"] == f"p1-{DEVICE}" and data["press"] == "p1" and data["b"] == 1
    assert abs(data["ts"] / 1000 - time.time()) < PATIENCE


def test_republish():
    headers = {
        "contentType": "application/${kind}",
        "payloadFormatIndicator": "UTF8_DATA",
        "messageExpiry": "${cast(3600 AS String)}",
        "correlationData": "${encode(topic(3), 'base64')}",
        "userProperties": [{"key": "press", "value": THIRD}],
    }
    topic = "rules/out/" + THIRD + "/${get_user_properties('line')}"
    rule("again", "SELECT *, 1 AS hop FROM 'rules/in/+/republish'", republish(topic, headers=headers))
    properties = Properties(PacketTypes.PUBLISH)
    properties.UserProperty = ("line", "7")
    publish("rules/in/p1/republish", {"kind": "json"}, properties)
    (message,) = came('rules/out/p1/["7"]')
    assert json.loads(message.payload) == {"kind": "json", "hop": 1} and message.qos == 1
    told = message.properties
    assert told.ContentType == "application/json" and told.CorrelationData == b"p1" and told.PayloadFormatIndicator == 1
    assert told.UserProperty == [("press", "p1")] and 0 < told.MessageExpiryInterval <= 3600


def test_s3():
    s3.create_bucket(Bucket="rules-objects")
    key = "raw/" + THIRD + "/${parse_time('yyyy', timestamp())}/${get(list, 1).id}.json"
    rule("to_s3", "SELECT VALUE list FROM 'rules/in/+/s3'", {"s3": {"roleArn": ROLE, "bucketName": "rules-objects", "key": key}})
    publish("rules/in/p1/s3", {"list": [{"id": "a"}, {"id": "b"}]})
    (entry,) = s3.list_objects_v2(Bucket="rules-objects", Prefix="raw/p1/")["Contents"]
    assert entry["Key"].startswith("raw/p1/20") and entry["Key"].endswith("/b.json")
    body = s3.get_object(Bucket="rules-objects", Key=entry["Key"])["Body"].read()
    assert json.loads(body) == [{"id": "a"}, {"id": "b"}]
    rule("bytes", "SELECT * FROM 'rules/in/+/bytes'", {"s3": {"roleArn": ROLE, "bucketName": "rules-objects", "key": THIRD}})
    publish("rules/in/p1/bytes", b"\x00\xff not JSON")
    assert s3.get_object(Bucket="rules-objects", Key="p1")["Body"].read() == b"\x00\xff not JSON"


def test_dynamodb():
    keys = [("device", "S", "HASH"), ("n", "N", "RANGE")]
    dynamodb.create_table(
        TableName="rules-items",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": name, "AttributeType": kind} for name, kind, _ in keys],
        KeySchema=[{"AttributeName": name, "KeyType": of} for name, _, of in keys],
    )
    dynamodb.get_waiter("table_exists").wait(TableName="rules-items")
    rule("to_v2", "SELECT device, n, list FROM 'rules/in/+/v2'",
         {"dynamoDBv2": {"roleArn": ROLE, "putItem": {"tableName": "rules-items"}}})
    rule("to_v1", "SELECT list FROM 'rules/in/+/v1'", {"dynamoDB": {
        "roleArn": ROLE, "tableName": "rules-items", "hashKeyField": "device", "hashKeyValue": THIRD + "-x",
        "rangeKeyField": "n", "rangeKeyValue": "${n + 1}", "rangeKeyType": "NUMBER", "payloadField": "body"}})
    publish("rules/in/p1/v2", {"device": "p1", "n": 1, "list": [1, None, "x"]})
    publish("rules/in/p1/v1", {"n": 1, "list": [2]})
    item = dynamodb.get_item(TableName="rules-items", Key={"device": {"S": "p1"}, "n": {"N": "1"}})["Item"]
    assert item["list"] == {"L": [{"N": "1"}, {"NULL": True}, {"S": "x"}]}
    item = dynamodb.get_item(TableName="rules-items", Key={"device": {"S": "p1-x"}, "n": {"N": "2"}})["Item"]
    assert item["body"] == {"M": {"list": {"L": [{"N": "2"}]}}}


def test_sns():
    arn = sns.create_topic(Name="rules-alarms")["TopicArn"]
    subscribe(arn, "/rules-alarms")
    rule("to_sns", "SELECT a FROM 'rules/in/+/sns' WHERE a > 1", {"sns": {"roleArn": ROLE, "targetArn": arn, "messageFormat": "RAW"}})
    publish("rules/in/p1/sns", {"a": 1})
    publish("rules/in/p1/sns", {"a": 2})
    assert posted("/rules-alarms", "Notification")[1]["Message"] == '{"a":2}'


def test_lambda():
    kinesis.create_stream(StreamName="anomaly-stream-rules001", ShardCount=1)
    functions = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:"
    rule("to_lambda", "SELECT * FROM 'rules/in/+/lambda'", {"lambda": {"functionArn": functions + "score-telemetry-rules001"}},
         error=republish("rules/errors/lambda"))
    rule("no_lambda", "SELECT * FROM 'rules/in/+/nolambda'", {"lambda": {"functionArn": functions + "mine"}},
         error=republish("rules/errors/lambda"))
    publish("rules/in/p1/lambda", {})
    assert came("rules/errors/lambda") == []
    publish("rules/in/p1/nolambda", {})
    (error,) = came("rules/errors/lambda")
    assert json.loads(error.payload)["failures"][0]["failedAction"] == "LambdaAction"


def test_site_wise():
    model = sitewise.create_asset_model(assetModelName="rules-press", assetModelProperties=[
        {"name": "temp", "dataType": "DOUBLE", "type": {"measurement": {}}}])["assetModelId"]
    sitewise.get_waiter("asset_model_active").wait(assetModelId=model)
    asset = sitewise.create_asset(assetName="rules-press-1", assetModelId=model)["assetId"]
    sitewise.get_waiter("asset_active").wait(assetId=asset)
    temp = sitewise.describe_asset(assetId=asset)["assetProperties"][0]["id"]
    sitewise.update_asset_property(assetId=asset, propertyId=temp, propertyAlias="/rules/p1/temp")
    value = {"value": {"doubleValue": "${temp / 2.0}"}, "timestamp": {"timeInSeconds": "${floor(timestamp() / 1E3)}"}, "quality": "GOOD"}
    rule("to_site_wise", "SELECT * FROM 'rules/in/+/sitewise'", {"iotSiteWise": {"roleArn": ROLE, "putAssetPropertyValueEntries": [
        {"propertyAlias": "/rules/" + THIRD + "/temp", "propertyValues": [value]}]}})
    publish("rules/in/p1/sitewise", {"temp": 41})
    seen = sitewise.get_asset_property_value(assetId=asset, propertyId=temp)["propertyValue"]
    # 41 by 2.0, which is an Int in this version of SQL.
    assert seen["value"]["doubleValue"] == 20 and abs(seen["timestamp"]["timeInSeconds"] - time.time()) < PATIENCE


def test_cloud_watch():
    rule("to_metric", "SELECT * FROM 'rules/in/+/metric'", {"cloudwatchMetric": {
        "roleArn": ROLE, "metricNamespace": "rules", "metricName": THIRD, "metricValue": "${a * 2}", "metricUnit": "Count"}})
    rule("to_logs", "SELECT a FROM 'rules/in/+/logs'", {"cloudwatchLogs": {"roleArn": ROLE, "logGroupName": "rules-log"}})
    publish("rules/in/p1/metric", {"a": 21})
    metrics = urllib.request.urlopen(os.environ["KILTER_URL"] + "/metrics").read().decode()
    assert 'kilter_rule_metric{namespace="rules",name="p1",unit="Count"} 42' in metrics
    publish("rules/in/p1/logs", {"a": 1})
    assert [event["message"] for event in logs.filter_log_events(logGroupName="rules-log")["events"]] == ['{"a":1}']


def test_http_is_tried_again_where_that_may_help():
    headers = [{"key": "x-press", "value": THIRD}]
    action = {"http": {"url": web.url + "/hook/${topic(3)}", "confirmationUrl": web.url + "/hook", "headers": headers}}
    rule("to_http", "SELECT * FROM 'rules/in/+/http'", action, error=republish("rules/errors/http"))
    web.answers.update({"/hook/p2": [503, 429], "/hook/p3": [400], "/hook/p4": [500, 500, 500]})
    for press in ["p1", "p2", "p3", "p4"]:
        publish(f"rules/in/{press}/http", {"press": press})
    publish("rules/in/p5/http", b"\x00")
    for press, statuses in [("p1", [200]), ("p2", [503, 429, 200]), ("p3", [400]), ("p4", [500] * 3), ("p5", [200])]:
        seen = at(f"/hook/{press}")
        assert [status for status, _, _ in seen] == statuses, (press, seen)
        assert seen[0][1]["x-press"] == press
    assert at("/hook/p1")[0][2] == b'{"press": "p1"}' and at("/hook/p1")[0][1]["content-type"] == "application/json"
    assert at("/hook/p5")[0][1]["content-type"] == "application/octet-stream"
    failed = [json.loads(message.payload) for message in came("rules/errors/http")]
    assert [error["failures"][0]["errorMessage"] for error in failed] == ["the receiver answered 400", "the receiver answered 500"]


def test_the_error_action_is_told_of_every_failure_at_once():
    missing = f"arn:aws:sns:{REGION}:{ACCOUNT}:missing"
    rule("failing", "SELECT * FROM 'rules/in/+/failing'",
         {"s3": {"roleArn": ROLE, "bucketName": "missing-bucket", "key": "k"}},
         {"kinesis": {"roleArn": ROLE, "streamName": "missing-stream", "partitionKey": "k"}},
         {"dynamoDBv2": {"roleArn": ROLE, "putItem": {"tableName": "missing-table"}}},
         {"sns": {"roleArn": ROLE, "targetArn": missing}},
         {"s3": {"roleArn": ROLE + "-none", "bucketName": "rules-objects", "key": "k"}},
         {"s3": {"roleArn": ROLE, "bucketName": "rules-objects", "key": "${missing}"}},
         {"cloudwatchLogs": {"roleArn": ROLE, "logGroupName": "rules-good"}},
         error=republish("rules/errors/" + THIRD))
    publish("rules/in/p1/failing", b"\x01\x02")
    (message,) = came("rules/errors/p1")
    error = json.loads(message.payload)
    assert sorted(error) == ["base64OriginalPayload", "clientId", "cloudwatchTraceId", "failures", "ruleName", "topic"]
    assert error["ruleName"] == "failing" and error["topic"] == "rules/in/p1/failing" and error["clientId"] == DEVICE
    assert base64.b64decode(error["base64OriginalPayload"]) == b"\x01\x02"
    failures = {(one["failedAction"], one["failedResource"]) for one in error["failures"]}
    assert failures == {("S3Action", "missing-bucket"), ("KinesisAction", "missing-stream"), ("SnsAction", missing),
                        ("DynamoDBv2Action", "missing-table"), ("S3Action", "rules-objects")}, failures
    said = " ".join(one["errorMessage"] for one in error["failures"])
    assert len(error["failures"]) == 6 and "rules-none" in said and "not JSON" in said, said
    assert len(logs.filter_log_events(logGroupName="rules-good")["events"]) == 1, "the others are carried out"
    events = logs.filter_log_events(logGroupName="/aws/iot/rules/failing")["events"]
    assert json.loads(events[0]["message"])["status"] == "Failure"
    metrics = urllib.request.urlopen(os.environ["KILTER_URL"] + "/metrics").read().decode()
    assert 'kilter_rule_failures_total{rule="failing"} 1' in metrics


def test_a_failure_without_error_action_is_in_the_log_with_its_message():
    rule("quiet", "SELECT * FROM 'rules/in/+/quiet'", {"s3": {"roleArn": ROLE, "bucketName": "missing-bucket", "key": "k"}})
    publish("rules/in/p1/quiet", "lost?")
    (event,) = logs.filter_log_events(logGroupName="/aws/iot/rules/quiet")["events"]
    assert base64.b64decode(json.loads(event["message"])["base64OriginalPayload"]) == b"lost?"


def test_what_is_too_large_is_a_failure():
    columns = ", ".join(f"big AS b{n}" for n in range(9))
    rule("large", f"SELECT {columns} FROM 'rules/in/+/large'", republish("rules/out/large"), error=republish("rules/errors/large"))
    publish("rules/in/p1/large", {"big": "x" * 120_000})
    (message,) = came("rules/errors/large")
    assert "select less" in json.loads(message.payload)["failures"][0]["errorMessage"]
    assert came("rules/out/large") == []


def test_basic_ingest_and_rules_that_are_switched_off():
    rule("direct", "SELECT topic() AS t, topic(2) AS second", republish("rules/out/direct"))
    publish("$aws/rules/direct/hall/press", {})
    (message,) = came("rules/out/direct")
    assert json.loads(message.payload) == {"t": "hall/press", "second": "press"}
    before = len(messages)
    # Nobody's rule: accepted, as AWS does, and counted.
    publish("$aws/rules/nobody/hall/press", {})
    metrics = urllib.request.urlopen(os.environ["KILTER_URL"] + "/metrics").read().decode()
    assert "kilter_rule_not_found_total 1" in metrics
    iot.disable_topic_rule(ruleName="direct")
    publish("$aws/rules/direct/hall/press", {})
    assert len(came("rules/out/direct")) == 1 and len(messages) == before + 1, "only the marker"
    iot.enable_topic_rule(ruleName="direct")
    publish("$aws/rules/direct/hall/press", {})
    assert len(came("rules/out/direct")) == 2
    rule("born_disabled", "SELECT * FROM 'rules/in/+/disabled'", republish("rules/out/disabled"), ruleDisabled=True)
    publish("rules/in/p1/disabled", {})
    assert came("rules/out/disabled") == []


def test_readings_that_a_rule_dates_to_the_same_millisecond_are_all_scored():
    sql = "SELECT topic() as topic, timestamp() as ts, * FROM 'tenants/rules001/devices/+/telemetry'"
    action = {"kinesis": {"roleArn": ROLE, "streamName": "anomaly-stream-rules001", "partitionKey": "rules001"}}
    rule("telemetry_to_kinesis_rules001", sql, action)
    topic = f"tenants/rules001/devices/{DEVICE}/telemetry"
    sent = [device.publish(topic, json.dumps({"temp": n % 5}), qos=1) for n in range(300)]
    for info in sent:
        info.wait_for_publish(PATIENCE)

    def line():
        ledger = json.loads(urllib.request.urlopen(os.environ["KILTER_URL"] + "/api/v1/ledger?tenant=rules001").read())
        return next((line for line in ledger if line["received"] == 300 and line["waiting"] == 0), None)

    settled = eventually("nothing waits", line)
    assert (settled["scored"], settled["late"], settled["rejected"]) == (300, 0, 0), settled


def test_what_is_not_offered_is_refused_when_the_rule_is_made():
    payload = {"sql": "SELECT * FROM 'x'", "actions": []}
    for function in ["aws_lambda('arn', *)", "get_thing_shadow('a', 'b')", "get_dynamodb('t', 'k', 'v', 'r')",
                     "get_secret('s', 'SecretString', 'r')", "get_registry_data('DescribeThing', 'a', 'r')",
                     "machinelearning_predict('m', 'r', a)", "decode(*, 'proto', 'bucket', 'key', 'file', 'Message')"]:
        refused("SqlParseException", iot.create_topic_rule, ruleName="external", says="which rules here do not",
                topicRulePayload=dict(payload, sql=f"SELECT {function} AS x FROM 'x'"))
    for kind, parameters in [("sqs", {"roleArn": ROLE, "queueUrl": "x"}), ("firehose", {"roleArn": ROLE, "deliveryStreamName": "x"})]:
        refused("InvalidRequestException", iot.create_topic_rule, ruleName="other", says="are not carried out here",
                topicRulePayload=dict(payload, actions=[{kind: parameters}]))
    device.disconnect()
    device.loop_stop()
