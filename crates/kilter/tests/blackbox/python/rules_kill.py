"""For the kill test of rules' actions: `make URL` makes a bucket and a rule with two actions, `list` prints the keys of
the bucket's objects as JSON."""

import json
import sys

import boto3

ROLE = "arn:aws:iam::123456789012:role/rules"
TRUST = {"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}
ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}


def document(statement):
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def make(url):
    iam = boto3.client("iam")
    iam.create_role(RoleName="rules", AssumeRolePolicyDocument=document(TRUST))
    iam.put_role_policy(RoleName="rules", PolicyName="all", PolicyDocument=document(ALL))
    boto3.client("s3").create_bucket(Bucket="acted")
    actions = [
        {"s3": {"roleArn": ROLE, "bucketName": "acted", "key": "${n}"}},
        {"http": {"url": url + "/${n}", "confirmationUrl": url}},
    ]
    payload = {"sql": "SELECT n FROM 'tenants/acted/devices/+/events'", "awsIotSqlVersion": "2016-03-23", "actions": actions}
    boto3.client("iot").create_topic_rule(ruleName="acted", topicRulePayload=payload)


def keys():
    pages = boto3.client("s3").get_paginator("list_objects_v2").paginate(Bucket="acted")
    print(json.dumps([entry["Key"] for page in pages for entry in page.get("Contents", [])]))


make(sys.argv[2]) if sys.argv[1] == "make" else keys()
