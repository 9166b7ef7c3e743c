"""Which operations the endpoint answers, and which tests drive each. boto3 knows the operations of every service: each one
is asked for with made-up input, and what is not refused as unknown is answered here, and must have a test where it
succeeds."""

import boto3
import support
from botocore.exceptions import ClientError

SERVICES = [
    "cloudformation", "dynamodb", "iam", "iot", "iot-data", "iotsitewise", "kinesis", "lambda", "logs",
    "resourcegroupstaggingapi", "s3", "sagemaker", "sagemaker-runtime", "sns", "sts",
]
# How services refuse what they do not know, and what boto3 does not sign.
UNKNOWN = {"UnknownOperationException", "InvalidAction", "NotImplemented", "MissingAuthenticationToken"}
# What is never there, and says so.
ABSENT = {
    ("s3", name)
    for name in [
        "GetBucketCors", "GetBucketInventoryConfiguration", "GetBucketPolicy", "GetBucketPolicyStatus", "GetBucketWebsite",
        "GetObjectLockConfiguration",
    ]
}
BUCKET = "probed-bucket"

# The tests in which an operation succeeded, and those in which it was refused: {(service, operation): {test}}.
succeeded, refused = {}, {}
test = None


def note(http_response, model, **_):
    if test:
        of = succeeded if http_response.status_code < 300 else refused
        of.setdefault((model.service_model.service_name, model.name), set()).add(test)


def watch():
    """From here on, every client of boto3 is looked over the shoulder."""
    boto3.setup_default_session()
    boto3.DEFAULT_SESSION.events.register("after-call", note)


def made_up(shape):
    """Input of the right types, with what is required and nothing else."""
    match shape.type_name:
        case "structure":
            names = list(shape.members)[:1] if shape.is_tagged_union else shape.required_members
            return {name: made_up(shape.members[name]) for name in names}
        case "list":
            return [made_up(shape.member)]
        case "map" | "document":
            return {}
        case "string":
            bucket = shape.name in ("BucketName", "AnyBucketName")
            return BUCKET if bucket else shape.enum[0] if shape.enum else "x" * max(shape.metadata.get("min", 1), 1)
        case "boolean":
            return False
        case "blob":
            return b"x"
        case _:
            return max(shape.metadata.get("min", 0), 1)


def ask(client, model):
    """Whether the endpoint knows the operation. However little the input says, it is no failure of the endpoint's."""
    given = made_up(model.input_shape) if model.input_shape else {}
    try:
        client._make_api_call(model.name, given)
        return True
    except ClientError as error:
        code, status = error.response["Error"]["Code"], error.response["ResponseMetadata"]["HTTPStatusCode"]
        assert code in UNKNOWN or status < 500, f"{model.name} of {given}: {error}"
        return code not in UNKNOWN


def answered():
    """(service, operation) of all that is answered."""
    global test
    test = None  # what is asked here is no test
    s3 = support.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_object(Bucket=BUCKET, Key="so-that-it-stays", Body=b"")
    found = []
    for service in SERVICES:
        client = support.client(service)
        models = client.meta.service_model
        found += [(service, name) for name in models.operation_names if ask(client, models.operation_model(name))]
    return found


def test_every_operation_that_is_answered_succeeds_in_a_test():
    every = answered()
    for one in every:
        done, not_done = (", ".join(sorted(of.get(one, []))) or "–" for of in (succeeded, refused))
        print(f"{one[0]} {one[1]}: done in {done}; refused in {not_done}")
    untested = [" ".join(one) for one in every if one not in succeeded and not (one in ABSENT and one in refused)]
    assert not untested, f"no test has these succeed: {', '.join(untested)}"
