"""CloudFormation: stacks of things, certificates, policies, what attaches them, and models."""

import json
import os
import subprocess

from support import ACCOUNT, REGION, client, refused

cfn = client("cloudformation")
iot = client("iot")
iam = client("iam")
sts = client("sts")
FAST = {"Delay": 0.2, "MaxAttempts": 100}
DOCUMENT = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}]}

TEMPLATE = """
AWSTemplateFormatVersion: '2010-09-09'
Description: A device with its identity
Parameters:
  Name: {Type: String, Default: cf-pump1, MinLength: 3}
  Sites: {Type: CommaDelimitedList, Default: 'north, south'}
  Csr: {Type: String, Default: ''}
  Existing: {Type: String, Default: ''}
  Secret: {Type: String, Default: hidden, NoEcho: true}
Conditions:
  New: !Not [!Equals [!Ref Csr, '']]
  Given: !Not [!Equals [!Ref Existing, '']]
  Attach: !Or [!Condition New, !Condition Given]
  Both: !And [!Condition New, !Condition Given]
Resources:
  Thing:
    Type: AWS::IoT::Thing
    Properties:
      ThingName: !Ref Name
      AttributePayload:
        Attributes:
          tenant: cf
          sites: !Join ['-', !Ref Sites]
          line: 7
          where: !If [Both, both, !Ref 'AWS::NoValue']
  Policy:
    Type: AWS::IoT::Policy
    Properties:
      PolicyName: !Sub '${Name}-policy'
      PolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Action: iot:Connect
            Resource: !Sub 'arn:aws:iot:${AWS::Region}:${AWS::AccountId}:client/${Thing}'
      Tags: [{Key: own, Value: '1'}]
  Certificate:
    Type: AWS::IoT::Certificate
    Condition: New
    Properties: {CertificateSigningRequest: !Ref Csr, Status: ACTIVE}
  PolicyOfDevice:
    Type: AWS::IoT::PolicyPrincipalAttachment
    Condition: Attach
    Properties:
      PolicyName: !Ref Policy
      Principal: !If [New, !GetAtt Certificate.Arn, !Ref Existing]
  ThingOfDevice:
    Type: AWS::IoT::ThingPrincipalAttachment
    Condition: Attach
    DependsOn: [PolicyOfDevice]
    Properties:
      ThingName: !Ref Thing
      Principal: !If [New, !GetAtt Certificate.Arn, !Ref Existing]
Outputs:
  ThingName: {Value: !Ref Thing, Description: As it is called}
  PolicyArn: {Value: !GetAtt Policy.Arn}
  CertificateId: {Condition: New, Value: !Ref Certificate}
  Stack: {Value: !Sub '${AWS::StackName} ${AWS::StackId}'}
"""


def key(name, value):
    return {"ParameterKey": name, "ParameterValue": value}


def same(*names):
    return [{"ParameterKey": name, "UsePreviousValue": True} for name in names]


def small(**resources):
    return json.dumps({"Resources": resources})


def thing(name, **more):
    return {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": name}} | more


def request():
    """A certificate signing request, made by openssl."""
    command = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=device -keyout /dev/null"
    return subprocess.run(command.split(), check=True, capture_output=True, text=True).stdout


def create(name, template=TEMPLATE, **more):
    made = cfn.create_stack(StackName=name, TemplateBody=template, **more)["StackId"]
    cfn.get_waiter("stack_create_complete").wait(StackName=made, WaiterConfig=FAST)
    return made


def update(name, **more):
    cfn.update_stack(StackName=name, **more)
    cfn.get_waiter("stack_update_complete").wait(StackName=name, WaiterConfig=FAST)


def delete(name):
    cfn.delete_stack(StackName=name)
    cfn.get_waiter("stack_delete_complete").wait(StackName=name, WaiterConfig=FAST)


def described(name):
    return cfn.describe_stacks(StackName=name)["Stacks"][0]


def outputs(name):
    return {one["OutputKey"]: one["OutputValue"] for one in described(name)["Outputs"]}


def resources(name):
    pages = cfn.get_paginator("list_stack_resources").paginate(StackName=name)
    return {one["LogicalResourceId"]: one for page in pages for one in page["StackResourceSummaries"]}


def events(name):
    """The oldest first."""
    pages = cfn.get_paginator("describe_stack_events").paginate(StackName=name)
    return [event for page in pages for event in page["StackEvents"]][::-1]


def kilter(*arguments):
    done = subprocess.run([os.environ["KILTER_PROGRAM"], *arguments, "--output", "json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_device_in_one_piece():
    refused("ValidationError", cfn.describe_stacks, StackName="cf-device", says="Stack with id cf-device does not exist")
    csr = request()
    tags = [{"Key": "plant", "Value": "north"}]
    arn = create("cf-device", Parameters=[key("Csr", csr), key("Secret", "very")], Tags=tags, ClientRequestToken="one", Capabilities=["CAPABILITY_IAM"])
    assert arn.startswith(f"arn:aws:cloudformation:{REGION}:{ACCOUNT}:stack/cf-device/")
    stack = described("cf-device")
    assert (stack["StackId"], stack["StackStatus"], stack["Description"]) == (arn, "CREATE_COMPLETE", "A device with its identity")
    assert stack["Tags"] == tags and stack["Capabilities"] == ["CAPABILITY_IAM"] and stack["DisableRollback"] is False
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in stack["Parameters"]}
    assert parameters["Secret"] == "****" and parameters["Csr"] == csr and parameters["Name"] == "cf-pump1"
    found = outputs("cf-device")
    assert found["ThingName"] == "cf-pump1" and found["Stack"] == f"cf-device {arn}"
    certificate = iot.describe_certificate(certificateId=found["CertificateId"])["certificateDescription"]
    assert certificate["status"] == "ACTIVE"
    attributes = iot.describe_thing(thingName="cf-pump1")["attributes"]
    assert attributes == {"tenant": "cf", "sites": "north-south", "line": "7"}
    assert iot.list_thing_principals(thingName="cf-pump1")["principals"] == [certificate["certificateArn"]]
    policies = iot.list_attached_policies(target=certificate["certificateArn"])["policies"]
    assert [one["policyName"] for one in policies] == ["cf-pump1-policy"] and policies[0]["policyArn"] == found["PolicyArn"]
    document = json.loads(iot.get_policy(policyName="cf-pump1-policy")["policyDocument"])
    assert document["Statement"][0]["Resource"] == f"arn:aws:iot:{REGION}:{ACCOUNT}:client/cf-pump1"
    tags = iot.list_tags_for_resource(resourceArn=found["PolicyArn"])["tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"own": "1", "plant": "north"}
    listed = resources("cf-device")
    assert {one["ResourceStatus"] for one in listed.values()} == {"CREATE_COMPLETE"} and len(listed) == 5
    assert listed["Certificate"]["PhysicalResourceId"] == found["CertificateId"]
    happened = events(arn)
    assert [(one["LogicalResourceId"], one["ResourceStatus"]) for one in (happened[0], happened[-1])] == [("cf-device", "CREATE_IN_PROGRESS"), ("cf-device", "CREATE_COMPLETE")]
    order = [one["LogicalResourceId"] for one in happened if one["ResourceStatus"] == "CREATE_COMPLETE"]
    assert order.index("Thing") < order.index("Policy") < order.index("PolicyOfDevice") < order.index("ThingOfDevice")
    assert all(one["ClientRequestToken"] == "one" for one in happened)
    assert cfn.get_template(StackName="cf-device")["TemplateBody"] == TEMPLATE


def test_kilter_knows_what_was_made():
    shown = kilter("thing", "show", "cf-pump1")
    assert "cf-pump1" in json.dumps(shown), shown


def test_a_name_is_taken_and_an_answer_may_be_lost():
    error = refused("AlreadyExistsException", create, "cf-device")
    assert isinstance(error, cfn.exceptions.AlreadyExistsException)
    again = cfn.create_stack(StackName="cf-device", TemplateBody=TEMPLATE, ClientRequestToken="one")["StackId"]
    assert again == described("cf-device")["StackId"]


def test_updates():
    keep = same("Csr", "Secret")
    unchanged = {"StackName": "cf-device", "TemplateBody": TEMPLATE, "Parameters": keep}
    refused("ValidationError", cfn.update_stack, **unchanged, says="No updates are to be performed.")
    refused("ValidationError", cfn.update_stack, **unchanged | {"TemplateBody": "# the same\n" + TEMPLATE}, says="No updates")
    before = resources("cf-device")
    template = TEMPLATE.replace("iot:Connect", "iot:*").replace("line: 7", "line: 8")
    update("cf-device", TemplateBody=template, Parameters=keep)
    after = resources("cf-device")
    changed = {name for name in after if after[name]["ResourceStatus"] == "UPDATE_COMPLETE"}
    assert changed == {"Thing", "Policy"}, after
    assert {name: one["PhysicalResourceId"] for name, one in after.items()} == {name: one["PhysicalResourceId"] for name, one in before.items()}
    assert iot.describe_thing(thingName="cf-pump1")["attributes"]["line"] == "8"
    assert "iot:*" in iot.get_policy(policyName="cf-pump1-policy")["policyDocument"]
    assert described("cf-device")["StackStatus"] == "UPDATE_COMPLETE" and "LastUpdatedTime" in described("cf-device")
    # More often than a policy has versions.
    for action in ("iot:Connect", "iot:Publish", "iot:Subscribe", "iot:Receive", "iot:*"):
        update("cf-device", TemplateBody=template.replace("iot:*", action), Parameters=keep)
    # Another name: another thing, and the one before goes.
    update("cf-device", UsePreviousTemplate=True, Parameters=[key("Name", "cf-pump2"), *keep])
    assert outputs("cf-device")["ThingName"] == "cf-pump2"
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-pump1")
    refused("ResourceNotFoundException", iot.get_policy, policyName="cf-pump1-policy")
    assert len(iot.list_thing_principals(thingName="cf-pump2")["principals"]) == 1
    # Tags alone.
    update("cf-device", UsePreviousTemplate=True, Parameters=same("Name", "Csr", "Secret"), Tags=[{"Key": "plant", "Value": "south"}])
    tags = iot.list_tags_for_resource(resourceArn=outputs("cf-device")["PolicyArn"])["tags"]
    assert {tag["Key"]: tag["Value"] for tag in tags} == {"own": "1", "plant": "south"}
    # Without the certificate, an own one.
    own = iot.create_keys_and_certificate(setAsActive=True)
    gone = outputs("cf-device")["CertificateId"]
    update("cf-device", UsePreviousTemplate=True, Parameters=[key("Existing", own["certificateArn"]), key("Csr", ""), *same("Name", "Secret")])
    refused("ResourceNotFoundException", iot.describe_certificate, certificateId=gone)
    assert iot.list_thing_principals(thingName="cf-pump2")["principals"] == [own["certificateArn"]]
    assert "CertificateId" not in outputs("cf-device")


def test_an_update_that_fails_is_taken_back():
    iot.create_thing(thingName="cf-foreign")
    before = resources("cf-device")
    template = TEMPLATE.replace("line: 7", "line: 9").replace("iot:Connect", "iot:Nothing")
    template = template.replace("Outputs:", "  Zone: {Type: AWS::IoT::Thing, Properties: {ThingName: cf-foreign}, DependsOn: Thing}\nOutputs:")
    keep = same("Name", "Csr", "Existing", "Secret")
    cfn.update_stack(StackName="cf-device", TemplateBody=template.replace("iot:Nothing", "iot:Connect"), Parameters=keep, ClientRequestToken="bad")
    stack = described("cf-device")
    assert stack["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", stack
    mine = [event for event in events("cf-device") if event.get("ClientRequestToken") == "bad"]
    reason = next(event for event in mine if event["ResourceStatus"] == "CREATE_FAILED")
    assert reason["LogicalResourceId"] == "Zone" and "already exists" in reason["ResourceStatusReason"]
    assert {name: one["PhysicalResourceId"] for name, one in resources("cf-device").items()} == {name: one["PhysicalResourceId"] for name, one in before.items()}
    assert iot.describe_thing(thingName="cf-pump2")["attributes"]["line"] == "8"
    # With DisableRollback it stays as far as it came, and a better template goes on from there.
    cfn.update_stack(StackName="cf-device", TemplateBody=template, Parameters=keep, DisableRollback=True)
    assert described("cf-device")["StackStatus"] == "UPDATE_FAILED"
    update("cf-device", TemplateBody=TEMPLATE, Parameters=keep)
    assert iot.describe_thing(thingName="cf-pump2")["attributes"]["line"] == "7"
    iot.describe_thing(thingName="cf-foreign")


def test_a_stack_goes_with_all_it_made():
    arn = described("cf-device")["StackId"]
    delete("cf-device")
    for name in ("cf-pump1", "cf-pump2"):
        refused("ResourceNotFoundException", iot.describe_thing, thingName=name)
    refused("ResourceNotFoundException", iot.get_policy, policyName="cf-pump2-policy")
    assert described(arn)["StackStatus"] == "DELETE_COMPLETE" and events(arn)[-1]["ResourceStatus"] == "DELETE_COMPLETE"
    assert arn not in [stack["StackId"] for page in cfn.get_paginator("describe_stacks").paginate() for stack in page["Stacks"]]
    cfn.delete_stack(StackName="cf-device")
    refused("ValidationError", cfn.update_stack, StackName="cf-device", TemplateBody=TEMPLATE, says="does not exist")
    refused("ValidationError", cfn.describe_stack_events, StackName="cf-device", says="Stack [cf-device] does not exist")
    refused("ValidationError", cfn.list_stack_resources, StackName="cf-device", says="does not exist")
    iot.delete_thing(thingName="cf-foreign")


def test_a_creation_that_fails_is_taken_back():
    iot.create_thing(thingName="cf-taken")
    template = small(A=thing("cf-a"), B=thing("cf-taken", DependsOn="A"))
    cfn.create_stack(StackName="cf-back", TemplateBody=template)
    stack = described("cf-back")
    assert stack["StackStatus"] == "ROLLBACK_COMPLETE" and "[B]" in stack["StackStatusReason"], stack
    happened = [(event["LogicalResourceId"], event["ResourceStatus"]) for event in events("cf-back")]
    assert [("B", "CREATE_FAILED"), ("cf-back", "ROLLBACK_IN_PROGRESS"), ("A", "DELETE_IN_PROGRESS"), ("A", "DELETE_COMPLETE"), ("cf-back", "ROLLBACK_COMPLETE")] == happened[-5:]
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-a")
    iot.describe_thing(thingName="cf-taken")
    refused("ValidationError", cfn.update_stack, StackName="cf-back", TemplateBody=template, says="is in ROLLBACK_COMPLETE state and can not be updated")
    delete("cf-back")
    cfn.create_stack(StackName="cf-back", TemplateBody=template, OnFailure="DO_NOTHING")
    assert described("cf-back")["StackStatus"] == "CREATE_FAILED"
    assert {name: one["ResourceStatus"] for name, one in resources("cf-back").items()} == {"A": "CREATE_COMPLETE", "B": "CREATE_FAILED"}
    iot.describe_thing(thingName="cf-a")
    delete("cf-back")
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-a")
    iot.describe_thing(thingName="cf-taken")
    iot.delete_thing(thingName="cf-taken")


def test_what_cannot_be_deleted_is_told_and_tried_again():
    create("cf-left", small(A=thing("cf-left-a"), B=thing("cf-left-b", DeletionPolicy="Retain")))
    other = iot.create_keys_and_certificate(setAsActive=True)["certificateArn"]
    iot.attach_thing_principal(thingName="cf-left-a", principal=other)
    cfn.delete_stack(StackName="cf-left")
    stack = described("cf-left")
    assert stack["StackStatus"] == "DELETE_FAILED" and "[A]" in stack["StackStatusReason"], stack
    iot.detach_thing_principal(thingName="cf-left-a", principal=other)
    delete("cf-left")
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-left-a")
    iot.delete_thing(thingName="cf-left-b")


def test_the_playbook_08_as_the_cookbook_has_it():
    template = (
        "Conditions:\n  CreateNewCert: false\n  HasExistingCert: !Not [ !Equals [ \"\", \"\" ] ]\n"
        "  DoAttach: !Or [ CreateNewCert, HasExistingCert ]\nResources:\n  DRThing:\n    Type: AWS::IoT::Thing\n"
        "    Properties:\n      ThingName: \"cf-dr\"\n  DRPolicy:\n    Type: AWS::IoT::Policy\n    Properties:\n"
        f"      PolicyName: \"cf-dr\"\n      PolicyDocument: {json.dumps(DOCUMENT, indent=4)}\n"
        "  DRCert:\n    Condition: CreateNewCert\n    Type: AWS::IoT::Certificate\n    Properties:\n"
        "      CertificateSigningRequest: |\n        \n      Status: ACTIVE\n      CertificateMode: DEFAULT\n"
        "  Attach:\n    Condition: DoAttach\n    Type: AWS::IoT::PolicyPrincipalAttachment\n    Properties:\n"
        "      PolicyName: !Ref DRPolicy\n      Principal: !If\n        - CreateNewCert\n        - !GetAtt DRCert.Arn\n        - \"\"\n"
        "Outputs:\n  ThingName:\n    Value: !Ref DRThing\n  CertificateArn:\n    Condition: CreateNewCert\n    Value: !GetAtt DRCert.Arn\n"
    )
    create("cf-dr", template, DisableRollback=True, NotificationARNs=[])
    assert outputs("cf-dr") == {"ThingName": "cf-dr"} and set(resources("cf-dr")) == {"DRThing", "DRPolicy"}
    assert json.loads(iot.get_policy(policyName="cf-dr")["policyDocument"]) == DOCUMENT
    delete("cf-dr")


def test_names_that_are_made_up_and_models():
    container = {"Image": "x", "ModelDataUrl": {"Fn::Join": ["", ["s3://models-of-cf/", {"Ref": "AWS::Region"}]]}}
    model = {"ModelName": "cf-model", "ExecutionRoleArn": f"arn:aws:iam::{ACCOUNT}:role/r-of-models", "PrimaryContainer": container}
    template = small(T={"Type": "AWS::IoT::Thing"}, M={"Type": "AWS::SageMaker::Model", "Properties": model})
    create("cf-made-up", template, Tags=[{"Key": "a", "Value": "1"}])
    made = {name: one["PhysicalResourceId"] for name, one in resources("cf-made-up").items()}
    assert made["T"].startswith("cf-made-up-T-")
    described_model = client("sagemaker").describe_model(ModelName="cf-model")
    assert made["M"] == described_model["ModelArn"] and described_model["PrimaryContainer"]["ModelDataUrl"].endswith(REGION)
    assert client("sagemaker").list_tags(ResourceArn=made["M"])["Tags"] == [{"Key": "a", "Value": "1"}]
    container["Image"] = "y"
    cfn.update_stack(StackName="cf-made-up", TemplateBody=small(T={"Type": "AWS::IoT::Thing"}, M={"Type": "AWS::SageMaker::Model", "Properties": model}))
    failed = [event for event in events("cf-made-up") if event["ResourceStatus"] == "UPDATE_FAILED"]
    assert "custom-named resource requires replacing" in failed[0]["ResourceStatusReason"]
    delete("cf-made-up")


def test_lists_have_pages():
    things = {f"T{n:03}": thing(f"cf-many-{n}") for n in range(60)}
    create("cf-many", small(**things))
    update("cf-many", TemplateBody=small(**{name: one | {"Properties": one["Properties"] | {"AttributePayload": {"Attributes": {"a": "1"}}}} for name, one in things.items()}))
    assert len(events("cf-many")) == 2 + 2 * 60 + 3 + 2 * 60
    assert len(cfn.describe_stack_events(StackName="cf-many")["StackEvents"]) == 100
    update("cf-many", TemplateBody=small(**things, **{f"U{n:03}": thing(f"cf-more-{n}") for n in range(60)}))
    assert len(resources("cf-many")) == 120
    delete("cf-many")
    refused("ValidationError", cfn.describe_stack_events, StackName=create("cf-token", small(T=thing("cf-token"))), NextToken="x", says="NextToken")
    delete("cf-token")


def test_rights_are_those_of_who_asks():
    trust = {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    role = iam.create_role(RoleName="cf-role", AssumeRolePolicyDocument=json.dumps({"Statement": trust}))["Role"]["Arn"]
    stacks = {"Effect": "Allow", "Action": "cloudformation:*", "Resource": f"arn:aws:cloudformation:*:*:stack/cf-mine*/*"}
    things = {"Effect": "Allow", "Action": "iot:*Thing", "Resource": "arn:aws:iot:*:*:thing/cf-mine-*"}
    iam.put_role_policy(RoleName="cf-role", PolicyName="p", PolicyDocument=json.dumps({"Statement": [stacks, things]}))
    given = sts.assume_role(RoleArn=role, RoleSessionName="tests")["Credentials"]
    keys = {"aws_access_key_id": given["AccessKeyId"], "aws_secret_access_key": given["SecretAccessKey"], "aws_session_token": given["SessionToken"]}
    mine = client("cloudformation", **keys)
    refused("AccessDenied", mine.create_stack, StackName="cf-other", TemplateBody=small(T=thing("cf-mine-1")), says="stack/cf-other/*")
    refused("AccessDenied", mine.describe_stacks)
    mine.create_stack(StackName="cf-mine", TemplateBody=small(A=thing("cf-mine-1"), B=thing("cf-yours-1", DependsOn="A")))
    denied = next(event for event in events("cf-mine") if event["ResourceStatus"] == "CREATE_FAILED")
    assert "not authorized to perform: iot:CreateThing" in denied["ResourceStatusReason"] and denied["LogicalResourceId"] == "B"
    assert mine.describe_stacks(StackName="cf-mine")["Stacks"][0]["StackStatus"] == "ROLLBACK_COMPLETE"
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-mine-1")
    mine.delete_stack(StackName="cf-mine")
    # What somebody else made is not theirs to delete by way of a stack.
    create("cf-mine", small(A=thing("cf-yours-2")))
    mine.delete_stack(StackName="cf-mine")
    assert described("cf-mine")["StackStatus"] == "DELETE_FAILED"
    iot.describe_thing(thingName="cf-yours-2")
    delete("cf-mine")
    iam.delete_role_policy(RoleName="cf-role", PolicyName="p")
    iam.delete_role(RoleName="cf-role")


def test_wrong_input():
    good = small(T=thing("cf-never"))
    for template, why in [
        ("{", "JSON not well-formed"),
        ("a: [", "YAML not well-formed"),
        ("Resources: &a {T: {Type: 'AWS::IoT::Thing'}}\nMetadata: *a", "aliases"),
        (json.dumps({"Resources": {"B": {"Type": "AWS::S3::Bucket"}}}), "AWS::S3::Bucket"),
        (small(T=thing({"Fn::Select": [0, ["a"]]})), "Fn::Select"),
        (small(T=thing({"Fn::ImportValue": "a"})), "Fn::ImportValue"),
        (small(T=thing({"Ref": "Missing"})), "Missing"),
        (small(T=thing("cf-never", DependsOn="T")), "Circular dependency"),
        (small(T={"Type": "AWS::IoT::Thing", "Properties": {"Name": "x"}}), "Name"),
        (json.dumps({"Transform": "AWS::Serverless-2016-10-31", "Resources": {"T": thing("x")}}), "Transform"),
        (good + " " * 51_200, "51200"),
    ]:
        error = refused("ValidationError", cfn.create_stack, StackName="cf-never", TemplateBody=template, says=why)
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    deep = "Resources:\n  T:\n    Type: AWS::IoT::Thing\n    Metadata: " + "[" * 5_000
    refused("ValidationError", cfn.create_stack, StackName="cf-never", TemplateBody=deep)
    for parameters, why in [
        ({"StackName": "cf_never"}, "stackName"),
        ({"StackName": "c" * 129}, "stackName"),
        ({"RoleARN": f"arn:aws:iam::{ACCOUNT}:role/r-of-stacks"}, "RoleARN"),
        ({"NotificationARNs": [f"arn:aws:sns:{REGION}:{ACCOUNT}:t"]}, "NotificationARNs"),
        ({"EnableTerminationProtection": True}, "EnableTerminationProtection"),
        ({"OnFailure": "DELETE"}, "OnFailure"),
        ({"OnFailure": "ROLLBACK", "DisableRollback": True}, "not both"),
        ({"Parameters": [key("Z", "1")]}, "[Z] do not exist in the template"),
        ({"Tags": [{"Key": "aws:x", "Value": "1"}]}, "aws:"),
        ({"TemplateBody": TEMPLATE, "Parameters": [key("Name", "a")]}, "MinLength"),
    ]:
        refused("ValidationError", cfn.create_stack, **({"StackName": "cf-never", "TemplateBody": good} | parameters), says=why)
    url = {"StackName": "cf-never", "TemplateURL": "https://s3.amazonaws.com/b/k"}
    refused("ValidationError", cfn.create_stack, **url, says="TemplateURL")
    refused("InvalidAction", cfn.create_change_set, StackName="cf-never", ChangeSetName="c", TemplateBody=good, says="CreateChangeSet")
    refused("ValidationError", cfn.describe_stacks, StackName="cf-never")
    refused("ResourceNotFoundException", iot.describe_thing, thingName="cf-never")
