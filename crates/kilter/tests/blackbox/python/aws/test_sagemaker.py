"""SageMaker: models, endpoint configurations and endpoints, from a CSV to a score."""

import datetime
import io
import json
import os
import subprocess
import tarfile
import tempfile
from pathlib import Path

from botocore.exceptions import ClientError, WaiterError
from support import ACCOUNT, REGION, client, refused

sagemaker = client("sagemaker")
runtime = client("sagemaker-runtime")
s3 = client("s3")
BUCKET = "models-of-tests"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/SageMakerExecutionRole"
ARN = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}"
QUICKLY = {"Delay": 1, "MaxAttempts": 60}


def kilter(*arguments):
    return subprocess.run([os.environ["KILTER_PROGRAM"], *arguments], check=True, capture_output=True, text=True).stdout


def model(name, key=None, **container):
    url = {"ModelDataUrl": f"s3://{BUCKET}/{key or name}"}
    return sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "anomaly-detector:latest"} | url | container
    )


def config(name, model):
    variant = {"VariantName": "primary", "ModelName": model, "InitialInstanceCount": 1, "InstanceType": "ml.t2.medium"}
    return sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])


def failed(endpoint):
    try:
        sagemaker.get_waiter("endpoint_in_service").wait(EndpointName=endpoint, WaiterConfig=QUICKLY)
    except WaiterError as error:
        last = error.last_response
        assert last["EndpointStatus"] == "Failed", last
        return last["FailureReason"]
    raise AssertionError("it is in service")


def test_a_model_is_trained_and_uploaded():
    s3.create_bucket(Bucket=BUCKET)
    with tempfile.TemporaryDirectory() as folder:
        csv, archive = Path(folder, "pump.csv"), Path(folder, "model.tar.gz")
        rows = [f"2026-01-01T00:{n // 60:02}:{n % 60:02}Z,{5 + n % 7},{90 + n % 11}" for n in range(600)]
        csv.write_text("time,flow,temperature\n" + "\n".join(rows))
        said = kilter("model", "train", csv, "--out", archive, "--num-trees", "50", "--output", "json")
        said = json.loads(said)
        assert (said["features"], said["points"], said["num_samples_per_tree"]) == (["flow", "temperature"], 600, 256)
        s3.upload_file(str(archive), BUCKET, "good")


def test_models():
    assert model("good")["ModelArn"] == f"{ARN}:model/good"
    shown = sagemaker.describe_model(ModelName="good")
    assert shown["PrimaryContainer"]["ModelDataUrl"] == f"s3://{BUCKET}/good" and shown["ExecutionRoleArn"] == ROLE
    assert shown["EnableNetworkIsolation"] is False and shown["CreationTime"].tzinfo
    refused("ValidationException", model, "good", says="Cannot create already existing model")
    refused("ValidationException", sagemaker.describe_model, ModelName="none", says=f'Could not find model "{ARN}:model/none"')
    refused("ValidationException", sagemaker.delete_model, ModelName="none", says="Could not find model")
    refused("ValidationException", model, "no_underscore", says="'modelName' failed to satisfy constraint")
    refused("ValidationException", model, "a" * 64, says="length less than or equal to 63")
    refused("ValidationException", model, "x", ModelDataUrl="ftp://x", says="modelDataUrl")
    refused("ValidationException", model, "x", Mode="MultiModel", says="SingleModel")
    refused("ValidationException", sagemaker.create_model, ModelName="x", ExecutionRoleArn=ROLE, says="primaryContainer")
    wrong = f"arn:aws:iam::{ACCOUNT}:user/somebody"
    container = {"ModelDataUrl": "s3://b/k"}
    refused("ValidationException", sagemaker.create_model, ModelName="x", ExecutionRoleArn=wrong, PrimaryContainer=container, says="executionRoleArn")
    vpc = {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    refused("ValidationException", sagemaker.create_model, ModelName="x", ExecutionRoleArn=ROLE, PrimaryContainer=container, VpcConfig=vpc, says="does not offer VpcConfig")


def test_configurations():
    assert config("good", "good")["EndpointConfigArn"] == f"{ARN}:endpoint-config/good"
    shown = sagemaker.describe_endpoint_config(EndpointConfigName="good")
    (variant,) = shown["ProductionVariants"]
    assert variant["ModelName"] == "good" and variant["InstanceType"] == "ml.t2.medium" and variant["InitialVariantWeight"] == 1.0
    refused("ValidationException", config, "good", "good", says="Cannot create already existing endpoint configuration")
    refused("ValidationException", config, "x", "none", says=f'Could not find model "{ARN}:model/none"')
    missing = f'Could not find endpoint configuration "{ARN}:endpoint-config/none"'
    refused("ValidationException", sagemaker.describe_endpoint_config, EndpointConfigName="none", says=missing)
    refused("ValidationException", sagemaker.delete_endpoint_config, EndpointConfigName="none", says=missing)
    two = [{"VariantName": name, "ModelName": "good"} for name in ("a", "b")]
    refused("ValidationException", sagemaker.create_endpoint_config, EndpointConfigName="x", ProductionVariants=two, says="one model")


def test_an_endpoint_comes_into_service():
    refused("ValidationException", sagemaker.create_endpoint, EndpointName="e", EndpointConfigName="none", says="endpoint configuration")
    made = sagemaker.create_endpoint(EndpointName="e", EndpointConfigName="good", Tags=[{"Key": "a", "Value": "1"}])
    assert made["EndpointArn"] == f"{ARN}:endpoint/e"
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=QUICKLY)
    shown = sagemaker.describe_endpoint(EndpointName="e")
    assert shown["EndpointConfigName"] == "good" and shown["LastModifiedTime"] >= shown["CreationTime"]
    (variant,) = shown["ProductionVariants"]
    assert variant["VariantName"] == "primary" and variant["DeployedImages"][0]["SpecifiedImage"] == "anomaly-detector:latest"
    refused("ValidationException", sagemaker.create_endpoint, EndpointName="e", EndpointConfigName="good", says="Cannot create already existing endpoint")


def invoke(body, content="text/csv", **options):
    answer = runtime.invoke_endpoint(EndpointName="e", ContentType=content, Body=body, **options)
    return answer["Body"].read().decode(), answer


def test_it_scores():
    body, answer = invoke("8,95\n8,400\n")
    ordinary, odd = [one["score"] for one in json.loads(body)["scores"]]
    assert odd > 2 * ordinary > 0, body
    assert answer["ContentType"] == "application/json" and answer["InvokedProductionVariant"] == "primary"
    instances = json.dumps({"instances": [{"features": [8, 95]}, {"data": {"features": {"values": [8, 400]}}}]})
    assert invoke(instances, "application/json")[0] == body
    assert invoke('{"features": [8, 95]}\n{"features": [8, 400]}', "application/jsonlines")[0] == body
    text, answer = invoke("8,95\n8,400\n", Accept="text/csv", TargetVariant="primary")
    assert [float(line) for line in text.split()] == [ordinary, odd] and answer["ContentType"] == "text/csv"


def test_what_cannot_be_scored():
    for body, content, status, says in [
        ("1,2,3\n", "text/csv", 400, "3 numbers, the model takes 2"),
        ("1,two\n", "text/csv", 400, '"two"'),
        ('{"instances": [{"features": ["1", 2]}]}', "application/json", 400, "expected f64"),
        ("", "text/csv", 400, "no point"),
        ("x", "image/png", 415, "not supported"),
    ]:
        error = refused("ModelError", invoke, body, content, says=says)
        assert isinstance(error, runtime.exceptions.ModelError)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 424
        assert error.response["OriginalStatusCode"] == status and says in error.response["OriginalMessage"]
    refused("ModelError", invoke, "1,2", Accept="image/png", says="406")
    refused("ValidationError", invoke, "1" * (6 * 1024 * 1024 + 1), says="6291456")
    refused("ValidationError", invoke, "1,2", TargetVariant="other", says="Variant other")
    refused("ValidationError", invoke, "1,2", TargetModel="other", says="TargetModel")
    refused("ValidationError", runtime.invoke_endpoint, EndpointName="none", Body=b"1,2", says="Endpoint none of account")


def archive(**files):
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        for name, content in files.items():
            header = tarfile.TarInfo(name)
            header.size = len(content)
            tar.addfile(header, io.BytesIO(content))
    return packed.getvalue()


def test_what_is_no_model_fails_and_says_what_is_expected():
    for name, content, says in [
        ("text", b"no archive", "a gzipped tar"),
        ("onnx", archive(**{"model.onnx": b"x"}), "holds model.onnx, and no kilter-forest.bin"),
        ("pickle", archive(**{"kilter-forest.bin": b"x"}), "does not begin as model files do"),
        ("absent", None, "Could not find model data"),
    ]:
        if content is not None:
            s3.put_object(Bucket=BUCKET, Key=name, Body=content)
        model(name)
        config(name, name)
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
        reason = failed(name)
        assert says in reason, reason
        refused("ValidationError", runtime.invoke_endpoint, EndpointName=name, Body=b"1,2", ContentType="text/csv", says="is Failed")


def test_update():
    # What cannot be served changes nothing.
    sagemaker.update_endpoint(EndpointName="e", EndpointConfigName="onnx")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="e", WaiterConfig=QUICKLY)
    shown = sagemaker.describe_endpoint(EndpointName="e")
    assert shown["EndpointConfigName"] == "good" and "model.onnx" in shown["FailureReason"]
    assert invoke("8,95\n")[0]
    # A failed endpoint is repaired by another configuration. What is served is a copy: the object may go.
    sagemaker.update_endpoint(EndpointName="onnx", EndpointConfigName="good")
    sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="onnx", WaiterConfig=QUICKLY)
    s3.delete_object(Bucket=BUCKET, Key="good")
    assert runtime.invoke_endpoint(EndpointName="onnx", Body=b"8,95", ContentType="text/csv")["Body"].read()
    refused("ValidationException", sagemaker.update_endpoint, EndpointName="e", EndpointConfigName="none", says="endpoint configuration")
    refused("ValidationException", sagemaker.update_endpoint, EndpointName="none", EndpointConfigName="good", says="Could not find endpoint")


def names(kind, member, **parameters):
    pages = sagemaker.get_paginator(f"list_{kind}").paginate(PaginationConfig={"PageSize": 2}, **parameters)
    return [one[member] for page in pages for one in page["".join(word.title() for word in kind.split("_"))]]


def test_lists():
    made = ["good", "text", "onnx", "pickle", "absent"]
    assert names("models", "ModelName") == made[::-1], "newest first"
    assert names("models", "ModelName", SortBy="Name", SortOrder="Ascending") == sorted(made)
    assert names("models", "ModelName", NameContains="o", SortOrder="Ascending") == ["good", "onnx"]
    assert names("endpoint_configs", "EndpointConfigName", SortOrder="Ascending") == made
    assert names("endpoints", "EndpointName", StatusEquals="InService") == ["onnx", "e"]
    assert names("endpoints", "EndpointName", SortBy="Status", SortOrder="Ascending")[-1] == "onnx"
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
    assert names("endpoints", "EndpointName", CreationTimeAfter=later) == []
    assert len(names("endpoints", "EndpointName", LastModifiedTimeBefore=later)) == 5
    refused("ValidationException", sagemaker.list_models, SortBy="Size", says="sortBy")
    refused("ValidationException", sagemaker.list_models, NextToken="???", says="nextToken")


def test_tags():
    for arn in (f"{ARN}:endpoint/e", f"{ARN}:model/good", f"{ARN}:endpoint-config/good"):
        sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "team", "Value": "press"}, {"Key": "b", "Value": ""}])
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=["b", "none"])
        tags = [tag for page in sagemaker.get_paginator("list_tags").paginate(ResourceArn=arn) for tag in page["Tags"]]
        assert {"Key": "team", "Value": "press"} in tags and "b" not in [tag["Key"] for tag in tags]
    refused("ValidationException", sagemaker.list_tags, ResourceArn=f"{ARN}:model/none", says="Could not find model")
    refused("ValidationException", sagemaker.list_tags, ResourceArn="arn:aws:s3:::b", says="resourceArn")
    refused("ValidationException", sagemaker.add_tags, ResourceArn=arn, Tags=[{"Key": "aws:x", "Value": ""}], says="aws:")


def test_limits():
    made = [f"many-{n}" for n in range(11)]
    for name in made:
        sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="onnx")
    error = refused("ResourceLimitExceeded", sagemaker.create_endpoint, EndpointName="more", EndpointConfigName="onnx", says="Number of endpoints")
    assert isinstance(error, sagemaker.exceptions.ResourceLimitExceeded)
    for name in made:
        failed(name)
        sagemaker.delete_endpoint(EndpointName=name)


def test_they_go():
    for name in names("endpoints", "EndpointName"):
        sagemaker.delete_endpoint(EndpointName=name)
        sagemaker.get_waiter("endpoint_deleted").wait(EndpointName=name, WaiterConfig=QUICKLY)
    for name in names("models", "ModelName"):
        sagemaker.delete_endpoint_config(EndpointConfigName=name)
        sagemaker.delete_model(ModelName=name)
    refused("ValidationException", sagemaker.delete_endpoint, EndpointName="e", says="Could not find endpoint")
    refused("ValidationError", invoke, "1,2", says="not found")


def test_what_is_not_offered():
    refused("UnknownOperationException", sagemaker.list_training_jobs, says="ListTrainingJobs")
    try:
        runtime.invoke_endpoint_async(EndpointName="e", InputLocation="s3://b/k")
    except ClientError as error:
        assert error.response["Error"]["Code"] == "UnknownOperationException"
