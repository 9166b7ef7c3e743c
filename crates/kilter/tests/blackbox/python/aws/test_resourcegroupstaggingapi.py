"""Resource Groups Tagging: the tags of all services in one place."""

import json

from support import ACCOUNT, REGION, client, refused

tagging = client("resourcegroupstaggingapi")
ALL = {}


def arn(service, resource):
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


def test_resources_of_every_service():
    client("kinesis").create_stream(StreamName="tagged-stream", ShardCount=1)
    ALL["kinesis:stream"] = arn("kinesis", "stream/tagged-stream")
    ALL["sns:topic"] = client("sns").create_topic(Name="tagged-topic")["TopicArn"]
    key = {"AttributeName": "k"}
    table = client("dynamodb").create_table(
        TableName="tagged-table",
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[key | {"KeyType": "HASH"}],
        AttributeDefinitions=[key | {"AttributeType": "S"}],
    )
    ALL["dynamodb:table"] = table["TableDescription"]["TableArn"]
    ALL["iotsitewise:asset-model"] = client("iotsitewise").create_asset_model(assetModelName="tagged")["assetModelArn"]
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}
    ALL["iot:policy"] = client("iot").create_policy(policyName="tagged", policyDocument=json.dumps(document))["policyArn"]
    client("s3").create_bucket(Bucket="tagged-bucket")
    ALL["s3:bucket"] = "arn:aws:s3:::tagged-bucket"
    model = client("sagemaker").create_model(
        ModelName="tagged", ExecutionRoleArn=f"arn:aws:iam::{ACCOUNT}:role/r-of-models", PrimaryContainer={"ModelDataUrl": "s3://b/k"}
    )
    ALL["sagemaker:model"] = model["ModelArn"]
    client("dynamodb").get_waiter("table_exists").wait(TableName="tagged-table", WaiterConfig={"Delay": 1})
    assert found(TagFilters=[{"Key": "plant"}]) == {}, "what has no tag is not listed"
    answer = tagging.tag_resources(ResourceARNList=list(ALL.values()), Tags={"plant": "north", "cost": "7"})
    assert answer["FailedResourcesMap"] == {}, answer


def found(**parameters):
    pages = tagging.get_paginator("get_resources").paginate(PaginationConfig={"PageSize": 2}, **parameters)
    listed = [one for page in pages for one in page["ResourceTagMappingList"]]
    return {one["ResourceARN"]: {tag["Key"]: tag["Value"] for tag in one["Tags"]} for one in listed}


def test_they_are_found():
    tags = {"plant": "north", "cost": "7"}
    assert found(TagFilters=[{"Key": "plant", "Values": ["south", "north"]}]) == {one: tags for one in ALL.values()}
    assert found(TagFilters=[{"Key": "plant", "Values": ["south"]}]) == {}
    assert found(TagFilters=[{"Key": "plant"}, {"Key": "other"}]) == {}
    for kind, one in ALL.items():
        assert found(ResourceTypeFilters=[kind], TagFilters=[{"Key": "plant"}]) == {one: tags}, kind
    assert ALL["s3:bucket"] in found(ResourceTypeFilters=["s3"])
    answer = tagging.get_resources(ResourceARNList=[ALL["sns:topic"]])
    assert [one["ResourceARN"] for one in answer["ResourceTagMappingList"]] == [ALL["sns:topic"]]


def test_services_see_them():
    tags = client("kinesis").list_tags_for_stream(StreamName="tagged-stream")["Tags"]
    assert {"Key": "plant", "Value": "north"} in tags
    assert {"Key": "plant", "Value": "north"} in client("s3").get_bucket_tagging(Bucket="tagged-bucket")["TagSet"]
    assert client("iotsitewise").list_tags_for_resource(resourceArn=ALL["iotsitewise:asset-model"])["tags"]["cost"] == "7"
    assert {"Key": "plant", "Value": "north"} in client("sns").list_tags_for_resource(ResourceArn=ALL["sns:topic"])["Tags"]


def test_keys_and_values():
    client("sns").tag_resource(ResourceArn=ALL["sns:topic"], Tags=[{"Key": "plant", "Value": "south"}])
    keys = [key for page in tagging.get_paginator("get_tag_keys").paginate() for key in page["TagKeys"]]
    assert {"plant", "cost"} <= set(keys) and keys == sorted(set(keys))
    pages = tagging.get_paginator("get_tag_values").paginate(Key="plant")
    assert [value for page in pages for value in page["TagValues"]] == ["north", "south"]


def test_what_fails_is_told_and_keeps_nothing_else_back():
    missing, unknown = arn("kinesis", "stream/none"), arn("ec2", "instance/i-1")
    failed = tagging.tag_resources(ResourceARNList=[missing, ALL["sns:topic"], unknown], Tags={"a": "1"})["FailedResourcesMap"]
    assert set(failed) == {missing, unknown} and failed[missing]["ErrorCode"] == "InvalidParameterException", failed
    assert "not found" in failed[missing]["ErrorMessage"] and failed[unknown]["StatusCode"] == 400
    assert found(TagFilters=[{"Key": "a"}]).keys() == {ALL["sns:topic"]}
    refused("InvalidParameterException", tagging.tag_resources, ResourceARNList=[missing], Tags={"aws:x": "1"}, says="aws:")
    refused("InvalidParameterException", tagging.tag_resources, ResourceARNList=[missing] * 21, Tags={"a": "1"}, says="1 to 20")
    refused("InvalidParameterException", tagging.get_resources, ResourcesPerPage=101, says="1 to 100")
    both = {"ResourceARNList": [missing], "TagFilters": [{"Key": "a"}]}
    error = refused("InvalidParameterException", tagging.get_resources, **both, says="cannot be combined")
    assert isinstance(error, tagging.exceptions.InvalidParameterException)
    refused("UnknownOperationException", tagging.start_report_creation, S3Bucket="reports", says="StartReportCreation")


def test_they_are_taken_away():
    answer = tagging.untag_resources(ResourceARNList=list(ALL.values()), TagKeys=["plant", "cost", "a"])
    assert answer["FailedResourcesMap"] == {}, answer
    assert found(TagFilters=[{"Key": "plant"}]) == {}
    client("sagemaker").delete_model(ModelName="tagged")
    client("kinesis").delete_stream(StreamName="tagged-stream")
    client("dynamodb").delete_table(TableName="tagged-table")
    client("s3").delete_bucket(Bucket="tagged-bucket")
    client("sns").delete_topic(TopicArn=ALL["sns:topic"])
    client("iot").delete_policy(policyName="tagged")
