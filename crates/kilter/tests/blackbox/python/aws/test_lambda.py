"""The scoring functions: listed, looked at, asked."""

import json
import os
import urllib.request

from support import ACCOUNT, REGION, client, refused

functions = client("lambda")
TENANT = "lambdatest"
NAME = f"score-telemetry-{TENANT}"
ARN = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{NAME}"


def invoke(payload, **options):
    answer = functions.invoke(FunctionName=NAME, Payload=json.dumps(payload), **options)
    return answer, json.loads(answer["Payload"].read() or "null")


def test_a_tenant_has_its_function():
    missing = refused("ResourceNotFoundException", functions.get_function, FunctionName=NAME)
    assert isinstance(missing, functions.exceptions.ResourceNotFoundException)
    headers = {"authorization": f"Bearer {os.environ['KILTER_TOKEN']}", "content-type": "application/json"}
    body = json.dumps({"tenant": TENANT}).encode()
    urllib.request.urlopen(urllib.request.Request(os.environ["KILTER_URL"] + "/api/v1/tenants", body, headers))
    for name in [NAME, ARN, f"{ACCOUNT}:function:{NAME}", NAME + ":$LATEST"]:
        assert functions.get_function(FunctionName=name)["Configuration"]["FunctionArn"] == ARN
    assert functions.get_function_configuration(FunctionName=NAME)["State"] == "Active"
    pages = functions.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 1})
    assert NAME in [one["FunctionName"] for page in pages for one in page["Functions"]]
    # With the tenant comes its alert topic.
    topics = client("sns").list_topics()["Topics"]
    assert f"arn:aws:sns:{REGION}:{ACCOUNT}:alerts-{TENANT}" in [topic["TopicArn"] for topic in topics]


def test_it_scores_a_payload():
    answer, body = invoke({"topic": f"tenants/{TENANT}/devices/pump-1/telemetry", "flow": 5.5})
    assert answer["StatusCode"] == 200 and answer["ExecutedVersion"] == "$LATEST" and "FunctionError" not in answer
    (reading,) = body["readings"]
    assert reading["thing"] == "pump-1" and reading["verdict"], reading
    answer, body = invoke({"flow": 5.5})
    assert answer["FunctionError"] == "Unhandled" and "names no thing" in body["errorMessage"]
    answer, _ = invoke({}, InvocationType="DryRun")
    assert answer["StatusCode"] == 204
    refused("InvalidParameterValueException", functions.invoke, FunctionName=NAME, InvocationType="Event")


def test_what_is_not_offered():
    refused("UnknownOperationException", functions.delete_function, FunctionName=NAME)
