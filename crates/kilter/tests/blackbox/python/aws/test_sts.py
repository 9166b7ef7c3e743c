"""STS: sessions of roles."""

import datetime
import json
import os
import urllib.error
import urllib.request
from pathlib import Path

from botocore.config import Config

from support import ACCOUNT, client, eventually, refused

sts = client("sts")
iam = client("iam")
ROLE = "auditor"
ARN = f"arn:aws:iam::{ACCOUNT}:role/audit/{ROLE}"


def trust(*principals):
    statement = {"Effect": "Allow", "Principal": {"AWS": list(principals)}, "Action": "sts:AssumeRole"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def allow(action):
    return json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]})


def assume(arn=ARN, by=sts, **parameters):
    return by.assume_role(RoleArn=arn, RoleSessionName="tests", **parameters)


def of(answer, service, **changed):
    given = answer["Credentials"]
    keys = {
        "aws_access_key_id": given["AccessKeyId"],
        "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    }
    return client(service, **(keys | changed))


def changed(token):
    return ("B" if token[0] == "A" else "A") + token[1:]


def test_a_session_has_the_rights_of_its_role():
    iam.create_role(RoleName=ROLE, Path="/audit/", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{ACCOUNT}:root"))
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow(["kinesis:List*", "s3:ListAllMyBuckets", "s3:CreateBucket"]))
    answer = assume(DurationSeconds=900)
    credentials, user = answer["Credentials"], answer["AssumedRoleUser"]
    assert credentials["AccessKeyId"].startswith("ASIA") and len(credentials["SecretAccessKey"]) == 40
    left = credentials["Expiration"] - datetime.datetime.now(datetime.timezone.utc)
    assert datetime.timedelta(minutes=10) < left <= datetime.timedelta(minutes=15)
    assert user["Arn"] == f"arn:aws:sts::{ACCOUNT}:assumed-role/{ROLE}/tests" and user["AssumedRoleId"].endswith(":tests")
    who = of(answer, "sts").get_caller_identity()
    assert (who["Arn"], who["UserId"], who["Account"]) == (user["Arn"], user["AssumedRoleId"], ACCOUNT)
    of(answer, "kinesis").list_streams()
    s3 = of(answer, "s3")
    s3.list_buckets()
    refused("AccessDeniedException", of(answer, "kinesis").create_stream, StreamName="x", ShardCount=1, says=user["Arn"])
    refused("AccessDenied", s3.delete_bucket, Bucket="x")
    # What the role may do is asked at each request.
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow("s3:List*"))
    refused("AccessDeniedException", of(answer, "kinesis").list_streams)


def test_a_session_policy_narrows():
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow(["kinesis:*", "logs:*"]))
    narrow = assume(Policy=allow(["kinesis:ListStreams", "s3:*"]))
    assert narrow["PackedPolicySize"] > 0
    of(narrow, "kinesis").list_streams()
    refused("AccessDeniedException", of(narrow, "logs").describe_log_groups)
    refused("AccessDenied", of(narrow, "s3").list_buckets)
    refused("MalformedPolicyDocument", assume, Policy="{}")
    refused("PackedPolicyTooLarge", assume, Policy=" " * 2049)


def test_what_is_wrong_with_credentials():
    answer = assume()
    token = answer["Credentials"]["SessionToken"]
    refused("InvalidClientTokenId", of(answer, "sts", aws_session_token=None).get_caller_identity)
    refused("InvalidClientTokenId", of(answer, "sts", aws_session_token=changed(token)).get_caller_identity, says="token")
    refused("InvalidClientTokenId", of(answer, "sts", aws_session_token=assume()["Credentials"]["SessionToken"]).get_caller_identity)
    refused("SignatureDoesNotMatch", of(answer, "sts", aws_secret_access_key="wrong").get_caller_identity)
    root = {"aws_access_key_id": os.environ["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": os.environ["AWS_SECRET_ACCESS_KEY"]}
    refused("InvalidClientTokenId", client("sts", **root, aws_session_token=token).get_caller_identity)
    bad = {"aws_session_token": changed(token)}
    refused("InvalidToken", of(answer, "s3", **bad).list_buckets)
    refused("UnrecognizedClientException", of(answer, "kinesis", **bad).list_streams)


def test_a_presigned_address_carries_the_token():
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow("s3:ListAllMyBuckets"))
    url = of(assume(), "s3").generate_presigned_url("list_buckets")
    with urllib.request.urlopen(url) as reply:
        assert b"ListAllMyBucketsResult" in reply.read()
    try:
        urllib.request.urlopen(url.replace("X-Amz-Security-Token=", "X-Amz-Security-Token=A"))
        raise AssertionError("another token was believed")
    except urllib.error.HTTPError as error:
        assert error.code == 403 and b"InvalidToken" in error.read()


def test_who_is_not_trusted():
    for arn in (ARN, f"arn:aws:iam::{ACCOUNT}:role/none", f"arn:aws:iam::{ACCOUNT}:role/{ROLE}", "arn:aws:iam::999999999999:role/r"):
        iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=trust(f"arn:aws:iam::{ACCOUNT}:user/somebody"))
        refused("AccessDenied", assume, arn, says="not authorized to perform: sts:AssumeRole")
    service = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps({"Statement": service}))
    refused("AccessDenied", assume)
    log = Path(os.environ["AWS_CONFIG_FILE"]).parent.parent / "audit/denials.jsonl"
    denied = lambda: [line for line in map(json.loads, log.read_text().splitlines()) if line["action"] == "sts:AssumeRole"]
    assert "trust policy" in eventually("the denials are in the audit log", denied)[0]["reason"]
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=trust(sts.get_caller_identity()["Arn"]))
    assume()


def test_a_session_assumes_another_role():
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=allow("sts:AssumeRole"))
    second = f"arn:aws:iam::{ACCOUNT}:role/second"
    iam.create_role(RoleName="second", AssumeRolePolicyDocument=trust(f"arn:aws:iam::{ACCOUNT}:role/audit/{ROLE}"), MaxSessionDuration=7200)
    refused("AccessDenied", assume, second)
    first = assume()
    chained = assume(second, of(first, "sts"))
    assert of(chained, "sts").get_caller_identity()["Arn"].endswith("assumed-role/second/tests")
    refused("ValidationError", assume, second, of(first, "sts"), DurationSeconds=7200, says="role chaining")
    # A role that is made anew is another one.
    iam.delete_role(RoleName="second")
    refused("InvalidClientTokenId", of(chained, "sts").get_caller_identity, says="deleted")
    iam.create_role(RoleName="second", AssumeRolePolicyDocument=trust("*"))
    refused("InvalidClientTokenId", of(chained, "sts").get_caller_identity)
    iam.delete_role(RoleName="second")


def test_wrong_input():
    # What boto3 itself would refuse.
    plain = client("sts", config=Config(parameter_validation=False))
    refused("ValidationError", assume, by=plain, DurationSeconds=899, says="greater than or equal to 900")
    refused("ValidationError", assume, by=plain, DurationSeconds=43201, says="less than or equal to 43200")
    refused("ValidationError", assume, DurationSeconds=7200, says="MaxSessionDuration")
    refused("ValidationError", sts.assume_role, RoleArn=ARN, RoleSessionName="no spaces", says="roleSessionName")
    refused("ValidationError", assume, Tags=[{"Key": "a", "Value": "1"}], says="does not offer Tags")
    refused("InvalidAction", sts.get_session_token, says="GetSessionToken")


def test_it_goes():
    iam.delete_role_policy(RoleName=ROLE, PolicyName="p")
    iam.delete_role(RoleName=ROLE)
