"""IAM: roles, their trust and their policies."""

import json

from support import ACCOUNT, client, refused

iam = client("iam")
ROLE = "role-of-tests"
ARN = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "iot.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
POLICY = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": ["kinesis:PutRecord"], "Resource": "arn:aws:kinesis:*:*:stream/a&b<c"}],
}


def test_roles_come():
    made = iam.create_role(
        RoleName=ROLE,
        AssumeRolePolicyDocument=json.dumps(TRUST),
        Description="of <tests> & more",
        Tags=[{"Key": "a", "Value": "1"}],
    )["Role"]
    assert made["Arn"] == ARN and made["AssumeRolePolicyDocument"] == TRUST
    got = iam.get_role(RoleName=ROLE)["Role"]
    assert got["Description"] == "of <tests> & more" and got["RoleId"] == made["RoleId"]
    iam.get_waiter("role_exists").wait(RoleName=ROLE)
    trust = json.dumps(TRUST)
    refused("EntityAlreadyExists", iam.create_role, RoleName=ROLE, AssumeRolePolicyDocument=trust)
    refused("MalformedPolicyDocument", iam.create_role, RoleName="x", AssumeRolePolicyDocument="{}")
    refused("ValidationError", iam.create_role, RoleName="no/slash", AssumeRolePolicyDocument=trust)
    try:
        iam.get_role(RoleName="none")
    except iam.exceptions.NoSuchEntityException:
        pass
    else:
        raise AssertionError("a role that is not there was shown")


def test_pages():
    for n in range(5):
        iam.create_role(RoleName=f"page-{n}", AssumeRolePolicyDocument=json.dumps(TRUST), Path="/pages/")
    pages = iam.get_paginator("list_roles").paginate(PathPrefix="/pages/", PaginationConfig={"PageSize": 2})
    pages = [[role["RoleName"] for role in page["Roles"]] for page in pages]
    assert pages == [["page-0", "page-1"], ["page-2", "page-3"], ["page-4"]]
    for n in range(5):
        iam.delete_role(RoleName=f"page-{n}")


def test_policies():
    refused("NoSuchEntity", iam.get_role_policy, RoleName=ROLE, PolicyName="none")
    iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=json.dumps(POLICY))
    assert iam.get_role_policy(RoleName=ROLE, PolicyName="p")["PolicyDocument"] == POLICY
    assert iam.list_role_policies(RoleName=ROLE)["PolicyNames"] == ["p"]
    assert iam.list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"] == []
    assert iam.list_instance_profiles_for_role(RoleName=ROLE)["InstanceProfiles"] == []
    bad = json.dumps({"Statement": [{"Effect": "Allow"}]})
    refused("MalformedPolicyDocument", iam.put_role_policy, RoleName=ROLE, PolicyName="p", PolicyDocument=bad)
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(TRUST))


def test_tags():
    iam.tag_role(RoleName=ROLE, Tags=[{"Key": "b", "Value": "2"}])
    assert len(iam.list_role_tags(RoleName=ROLE)["Tags"]) == 2
    iam.untag_role(RoleName=ROLE, TagKeys=["a"])
    assert iam.list_role_tags(RoleName=ROLE)["Tags"] == [{"Key": "b", "Value": "2"}]


def test_what_is_not_offered():
    refused("InvalidAction", iam.create_user, UserName="u", says="CreateUser")


def test_roles_go():
    refused("DeleteConflict", iam.delete_role, RoleName=ROLE, says="delete-role-policy")
    iam.delete_role_policy(RoleName=ROLE, PolicyName="p")
    iam.delete_role(RoleName=ROLE)
    refused("NoSuchEntity", iam.delete_role, RoleName=ROLE)
