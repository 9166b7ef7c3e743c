"""Stacks, and a server that is killed while it makes one.

usage: stacks_kill.py before     makes one, begins another, and says so
       stacks_kill.py after      what must be there after the next start
"""

import json
import sys
import threading
import time

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

THINGS = 300
config = Config(retries={"total_max_attempts": 1})
cfn, iot = boto3.client("cloudformation", config=config), boto3.client("iot", config=config)


def thing(name):
    return {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": name}}


def is_there(name):
    try:
        return bool(iot.describe_thing(thingName=name))
    except ClientError as error:
        assert error.response["Error"]["Code"] == "ResourceNotFoundException", error
        return False


def make():
    resources = {f"T{n:03}": thing(f"cf-killed-{n}") for n in range(THINGS)}
    try:
        cfn.create_stack(StackName="cf-killed", TemplateBody=json.dumps({"Resources": resources}))
    except Exception as error:
        print("as expected:", error)


def before():
    kept = {"Resources": {"T": thing("cf-kept")}, "Outputs": {"Thing": {"Value": {"Ref": "T"}}}}
    cfn.create_stack(StackName="cf-kept", TemplateBody=json.dumps(kept), Tags=[{"Key": "a", "Value": "1"}])
    maker = threading.Thread(target=make)
    maker.start()
    while not is_there("cf-killed-10"):
        assert maker.is_alive(), "the stack was made before anybody saw it begin"
        time.sleep(0.01)
    print("begun", flush=True)
    maker.join()


def after():
    kept = cfn.describe_stacks(StackName="cf-kept")["Stacks"][0]
    assert kept["StackStatus"] == "CREATE_COMPLETE" and kept["Tags"] == [{"Key": "a", "Value": "1"}], kept
    assert kept["Outputs"] == [{"OutputKey": "Thing", "OutputValue": "cf-kept"}] and is_there("cf-kept")
    killed = cfn.describe_stacks(StackName="cf-killed")["Stacks"][0]
    assert killed["StackStatus"] == "ROLLBACK_COMPLETE" and "stopped in the middle" in killed["StackStatusReason"], killed
    left = [name for name in (f"cf-killed-{n}" for n in range(THINGS)) if is_there(name)]
    assert left == [], left
    for name in ("cf-kept", "cf-killed"):
        cfn.delete_stack(StackName=name)
        cfn.get_waiter("stack_delete_complete").wait(StackName=name)
    assert not is_there("cf-kept")


{"before": before, "after": after}[sys.argv[1]]()
