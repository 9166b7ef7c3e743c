"""AWS IoT's registry, policies and rules, operation by operation: paginators, typed exceptions, wrong input; and the
data plane. What is made here is what the command line shows and what a device connects with."""

import json
import os
import ssl
import subprocess
import tempfile
import threading
import urllib.request
from pathlib import Path

import paho.mqtt.client as mqtt
from support import ACCOUNT, REGION, client, eventually, refused

iot = client("iot")
FOLDER = Path(tempfile.mkdtemp(prefix="kilter-iot-"))
THING = "tenant009-press"
ALL = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*"}]})
made = {}


def arn(resource):
    return f"arn:aws:iot:{REGION}:{ACCOUNT}:{resource}"


def openssl(*arguments):
    done = subprocess.run(["openssl", *arguments], cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def collected(operation, member, **parameters):
    pages = list(iot.get_paginator(operation).paginate(**parameters))
    return [entry for page in pages for entry in page[member]], len(pages)


class Device:
    """A paho client; `outcome` is CONNACK's reason or what ended the connection before it."""

    def __init__(self, client_id, certificate, key):
        (FOLDER / f"{client_id}.pem").write_text(certificate)
        (FOLDER / f"{client_id}.key").write_text(key)
        self.outcome, self.messages, self.gone = None, [], threading.Event()
        self.mqtt = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=client_id)
        ca = FOLDER / "AmazonRootCA1.pem"
        if not ca.exists():
            ca.write_bytes(urllib.request.urlopen(os.environ["ROOT_CA_URL"]).read())
        self.mqtt.tls_set(str(ca), str(FOLDER / f"{client_id}.pem"), str(FOLDER / f"{client_id}.key"))
        self.mqtt.on_connect = self.connected
        self.mqtt.on_disconnect = lambda *_: self.gone.set()
        self.mqtt.on_message = lambda _client, _data, message: self.messages.append(message)

    def connected(self, _client, _data, _flags, reason, _properties):
        self.outcome = str(reason)

    def connect(self):
        try:
            self.mqtt.connect(os.environ["IOT_ENDPOINT"], int(os.environ["IOT_PORT"]))
            self.mqtt.loop_start()
            return eventually("an answer to CONNECT", lambda: self.outcome or (self.gone.is_set() and "closed"))
        except (ssl.SSLError, OSError) as error:
            return str(error)

    def close(self):
        self.mqtt.disconnect()
        self.mqtt.loop_stop()


def test_things():
    created = iot.create_thing(thingName=THING, attributePayload={"attributes": {"line": "a"}})
    assert created["thingArn"] == arn(f"thing/{THING}") and len(created["thingId"]) == 36
    assert iot.create_thing(thingName=THING, attributePayload={"attributes": {"line": "a"}})["thingId"] == created["thingId"]
    refused("ResourceAlreadyExistsException", iot.create_thing, thingName=THING)
    seen = iot.describe_thing(thingName=THING)
    assert seen["attributes"] == {"line": "a"} and seen["version"] == 1 and seen["defaultClientId"] == THING
    iot.update_thing(thingName=THING, attributePayload={"attributes": {"bay": "2"}, "merge": True}, expectedVersion=1)
    refused("VersionConflictException", iot.update_thing, thingName=THING, expectedVersion=1)
    assert iot.describe_thing(thingName=THING)["attributes"] == {"line": "a", "bay": "2"}
    try:
        iot.describe_thing(thingName="nobody")
    except iot.exceptions.ResourceNotFoundException as error:
        assert error.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    else:
        raise AssertionError("nobody was described")
    four = {name: "1" for name in "abcd"}
    refused("InvalidRequestException", iot.create_thing, thingName="x", attributePayload={"attributes": four}, says="3")
    for number in range(7):
        iot.create_thing(thingName=f"page-{number}", attributePayload={"attributes": {"kind": "page"}})
    names, pages = collected("list_things", "things", attributeName="kind", attributeValue="page", PaginationConfig={"PageSize": 3})
    assert [thing["thingName"] for thing in names] == [f"page-{number}" for number in range(7)] and pages == 3
    refused("InvalidRequestException", iot.list_things, nextToken="zz")


def test_thing_types():
    created = iot.create_thing_type(
        thingTypeName="press", thingTypeProperties={"thingTypeDescription": "a press", "searchableAttributes": ["line"]}
    )
    assert created["thingTypeArn"] == arn("thingtype/press")
    iot.update_thing(thingName=THING, thingTypeName="press")
    seen = iot.describe_thing_type(thingTypeName="press")
    assert seen["thingTypeProperties"]["searchableAttributes"] == ["line"] and not seen["thingTypeMetadata"]["deprecated"]
    iot.update_thing_type(thingTypeName="press", thingTypeProperties={"searchableAttributes": ["line", "bay"]})
    properties = iot.describe_thing_type(thingTypeName="press")["thingTypeProperties"]
    assert properties == {"thingTypeDescription": "a press", "searchableAttributes": ["line", "bay"]}
    many = {"searchableAttributes": list("abcd")}
    refused("InvalidRequestException", iot.update_thing_type, thingTypeName="press", thingTypeProperties=many, says="3")
    refused("ResourceNotFoundException", iot.update_thing_type, thingTypeName="none")
    refused("InvalidRequestException", iot.delete_thing_type, thingTypeName="press", says="deprecated")
    iot.deprecate_thing_type(thingTypeName="press")
    refused("InvalidRequestException", iot.create_thing, thingName="late", thingTypeName="press", says="deprecated")
    iot.deprecate_thing_type(thingTypeName="press", undoDeprecate=True)
    listed, _ = collected("list_thing_types", "thingTypes")
    assert [entry["thingTypeName"] for entry in listed] == ["press"]
    refused("ResourceNotFoundException", iot.describe_thing_type, thingTypeName="none")


def test_groups():
    iot.create_thing_group(thingGroupName="plant")
    iot.create_thing_group(thingGroupName="hall", parentGroupName="plant")
    seen = iot.describe_thing_group(thingGroupName="hall")
    assert seen["thingGroupMetadata"]["parentGroupName"] == "plant"
    assert seen["thingGroupMetadata"]["rootToParentThingGroups"][0]["groupName"] == "plant"
    iot.add_thing_to_thing_group(thingGroupName="hall", thingName=THING)
    refused("InvalidRequestException", iot.add_thing_to_thing_group, thingGroupName="plant", thingName=THING)
    assert collected("list_things_in_thing_group", "things", thingGroupName="plant", recursive=True)[0] == [THING]
    assert collected("list_things_in_thing_group", "things", thingGroupName="plant")[0] == []
    assert iot.list_thing_groups_for_thing(thingName=THING)["thingGroups"][0]["groupArn"] == arn("thinggroup/hall")
    changed = iot.update_thing_group(thingGroupName="hall", thingGroupProperties={"thingGroupDescription": "hall 1"})
    assert changed["version"] == 2
    refused("InvalidRequestException", iot.delete_thing_group, thingGroupName="plant", says="hall")
    below, _ = collected("list_thing_groups", "thingGroups", parentGroup="plant")
    assert [group["groupName"] for group in below] == ["hall"]


def test_search():
    found = iot.search_index(queryString="thingTypeName:press AND attributes.line:a")["things"]
    assert [thing["thingName"] for thing in found] == [THING] and found[0]["thingGroupNames"] == ["hall"]
    assert len(iot.search_index(queryString="thingName:page-*", maxResults=5)["things"]) == 5
    refused("InvalidQueryException", iot.search_index, queryString="attributes.line > 3")


def test_certificates_and_their_things():
    made["keys"] = keys = iot.create_keys_and_certificate(setAsActive=True)
    assert keys["keyPair"]["PrivateKey"].startswith("-----BEGIN PRIVATE")
    seen = iot.describe_certificate(certificateId=keys["certificateId"])["certificateDescription"]
    assert seen["status"] == "ACTIVE" and seen["certificatePem"] == keys["certificatePem"]
    assert seen["validity"]["notAfter"] > seen["validity"]["notBefore"]
    iot.attach_thing_principal(thingName=THING, principal=keys["certificateArn"])
    iot.attach_thing_principal(thingName=THING, principal=keys["certificateArn"])
    assert iot.list_thing_principals(thingName=THING)["principals"] == [keys["certificateArn"]]
    assert iot.list_principal_things(principal=keys["certificateArn"])["things"] == [THING]
    refused("InvalidRequestException", iot.delete_thing, thingName=THING, says="attached")
    refused("ResourceNotFoundException", iot.describe_certificate, certificateId="0" * 64)
    refused("InvalidRequestException", iot.attach_thing_principal, thingName=THING, principal="nonsense")
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
            "/O=Acme/CN=from csr", "-keyout", "csr.key", "-out", "device.csr")
    csr = (FOLDER / "device.csr").read_text()
    signed = iot.create_certificate_from_csr(certificateSigningRequest=csr)
    assert iot.describe_certificate(certificateId=signed["certificateId"])["certificateDescription"]["status"] == "INACTIVE"
    refused("InvalidRequestException", iot.create_certificate_from_csr, certificateSigningRequest="nonsense")
    iot.delete_certificate(certificateId=signed["certificateId"])
    listed, _ = collected("list_certificates", "certificates", PaginationConfig={"PageSize": 1})
    assert keys["certificateId"] in [entry["certificateId"] for entry in listed]


def test_policies():
    created = iot.create_policy(policyName="press-policy", policyDocument=ALL)
    assert created["policyVersionId"] == "1" and created["policyDocument"] == ALL
    refused("ResourceAlreadyExistsException", iot.create_policy, policyName="press-policy", policyDocument=ALL)
    refused("MalformedPolicyException", iot.create_policy, policyName="bad", policyDocument='{"Version": "2012-10-17"}')
    for version in range(2, 6):
        assert iot.create_policy_version(policyName="press-policy", policyDocument=ALL)["policyVersionId"] == str(version)
    refused("VersionsLimitExceededException", iot.create_policy_version, policyName="press-policy", policyDocument=ALL)
    refused("DeleteConflictException", iot.delete_policy, policyName="press-policy")
    iot.set_default_policy_version(policyName="press-policy", policyVersionId="5")
    refused("DeleteConflictException", iot.delete_policy_version, policyName="press-policy", policyVersionId="5")
    for version in range(1, 5):
        iot.delete_policy_version(policyName="press-policy", policyVersionId=str(version))
    assert iot.get_policy(policyName="press-policy")["defaultVersionId"] == "5"
    assert [v["versionId"] for v in iot.list_policy_versions(policyName="press-policy")["policyVersions"]] == ["5"]
    assert iot.get_policy_version(policyName="press-policy", policyVersionId="5")["isDefaultVersion"]
    target = made["keys"]["certificateArn"]
    iot.attach_policy(policyName="press-policy", target=target)
    assert iot.list_attached_policies(target=target)["policies"][0]["policyArn"] == arn("policy/press-policy")
    assert iot.list_targets_for_policy(policyName="press-policy")["targets"] == [target]
    refused("DeleteConflictException", iot.delete_policy, policyName="press-policy", says="attached")
    refused("ResourceNotFoundException", iot.attach_policy, policyName="none", target=target)
    # As they were called before policies had targets.
    iot.detach_principal_policy(policyName="press-policy", principal=target)
    assert iot.list_principal_policies(principal=target)["policies"] == []
    iot.attach_principal_policy(policyName="press-policy", principal=target)
    assert [policy["policyName"] for policy in iot.list_principal_policies(principal=target)["policies"]] == ["press-policy"]
    refused("ResourceNotFoundException", iot.attach_principal_policy, policyName="none", principal=target)
    refused("InvalidRequestException", iot.list_principal_policies, principal="nonsense")
    listed, _ = collected("list_policies", "policies", PaginationConfig={"PageSize": 1})
    assert "press-policy" in [policy["policyName"] for policy in listed]


def test_what_was_made_here_connects():
    data = client("iot-data")
    keys = made["keys"]
    device = Device(THING, keys["certificatePem"], keys["keyPair"]["PrivateKey"])
    assert device.connect() == "Success"
    device.mqtt.subscribe("orders/#", qos=1)
    def arrived():
        data.publish(topic="orders/press", qos=1, payload=b'{"go": true}')
        return device.messages
    message = eventually("the order arrives", arrived)[0]
    assert message.topic == "orders/press" and json.loads(message.payload) == {"go": True}
    # A policy that no longer allows the connection ends it within a second.
    nothing = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iot:Connect", "Resource": "*"}]})
    iot.create_policy_version(policyName="press-policy", policyDocument=nothing, setAsDefault=True)
    assert device.gone.wait(5), "the session outlived its policy"
    device.close()
    assert Device(THING, keys["certificatePem"], keys["keyPair"]["PrivateKey"]).connect() != "Success"


def test_a_groups_policy_holds_for_its_things():
    keys = made["keys"]
    iot.detach_policy(policyName="press-policy", target=keys["certificateArn"])
    document = {"Version": "2012-10-17", "Statement": [{
        "Effect": "Allow", "Action": "iot:Connect", "Resource": arn("client/${iot:Connection.Thing.ThingName}"),
        "Condition": {"StringEquals": {"iot:Connection.Thing.Attributes[line]": "a"}}}]}
    iot.create_policy(policyName="plant-policy", policyDocument=json.dumps(document))
    iot.attach_policy(policyName="plant-policy", target=arn("thinggroup/plant"))
    assert iot.list_attached_policies(target=arn("thinggroup/hall"), recursive=True)["policies"]
    device = Device(THING, keys["certificatePem"], keys["keyPair"]["PrivateKey"])
    assert device.connect() == "Success"
    iot.update_thing(thingName=THING, attributePayload={"attributes": {"line": "b"}, "merge": True})
    assert device.gone.wait(5), "the thing is of another line now"
    device.close()


def test_what_holds_and_what_it_allows():
    keys = made["keys"]
    deny = {"Version": "2012-10-17", "Statement": [{"Effect": "Deny", "Action": "iot:Publish", "Resource": arn("topic/secret")}]}
    iot.create_policy(policyName="no-secrets", policyDocument=json.dumps(deny))
    iot.attach_policy(policyName="no-secrets", target=keys["certificateArn"])
    iot.update_thing(thingName=THING, attributePayload={"attributes": {"line": "a"}, "merge": True})
    held = iot.get_effective_policies(principal=keys["certificateArn"], thingName=THING)["effectivePolicies"]
    assert [policy["policyName"] for policy in held] == ["no-secrets", "plant-policy"]
    assert json.loads(held[0]["policyDocument"]) == deny and held[0]["policyArn"] == arn("policy/no-secrets")
    assert iot.get_effective_policies(thingName=THING)["effectivePolicies"] == held[1:]
    refused("ResourceNotFoundException", iot.get_effective_policies, thingName="nobody")
    refused("InvalidRequestException", iot.get_effective_policies, says="principal")
    infos = [
        {"actionType": "CONNECT", "resources": [arn(f"client/{THING}")]},
        {"actionType": "PUBLISH", "resources": [arn("topic/open")]},
        {"actionType": "PUBLISH", "resources": [arn("topic/secret")]},
    ]
    asked = {"principal": keys["certificateArn"], "clientId": THING, "authInfos": infos}
    results = iot.test_authorization(**asked)["authResults"]
    assert [one["authDecision"] for one in results] == ["ALLOWED", "IMPLICIT_DENY", "EXPLICIT_DENY"]
    assert [one["authInfo"] for one in results] == infos
    assert [policy["policyName"] for policy in results[0]["allowed"]["policies"]] == ["plant-policy"]
    assert [policy["policyName"] for policy in results[2]["denied"]["explicitDeny"]["policies"]] == ["no-secrets"]
    # Another client id is no name of the certificate's thing.
    other = iot.test_authorization(**asked | {"clientId": "other"})["authResults"]
    assert other[0]["authDecision"] == "IMPLICIT_DENY"
    wrong = [{"actionType": "PUBLISH", "resources": [arn("topicfilter/#")]}]
    refused("InvalidRequestException", iot.test_authorization, **asked | {"authInfos": wrong}, says="topic/")
    skip = asked | {"policyNamesToSkip": ["no-secrets"]}
    refused("InvalidRequestException", iot.test_authorization, **skip, says="not offered")
    stranger = asked | {"principal": arn("cert/" + "0" * 64)}
    refused("ResourceNotFoundException", iot.test_authorization, **stranger)
    iot.detach_policy(policyName="no-secrets", target=keys["certificateArn"])
    iot.delete_policy(policyName="no-secrets")


def ca(subject="/CN=Customer CA"):
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", subject, "-keyout", "ca.key", "-out", "ca.pem")


def signed(name, subject):
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", subject,
            "-keyout", f"{name}.key", "-out", f"{name}.csr")
    # Without an extension openssl makes version 1, which TLS libraries no longer take.
    (FOLDER / "extensions").write_text("extendedKeyUsage=clientAuth\n")
    openssl("x509", "-req", "-extfile", "extensions", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "30", "-out", f"{name}.pem")
    return (FOLDER / f"{name}.pem").read_text(), (FOLDER / f"{name}.key").read_text()


def test_customer_ca():
    ca()
    pem = (FOLDER / "ca.pem").read_text()
    wrong, _ = signed("wrong", "/CN=guess")
    refused("RegistrationCodeValidationException", iot.register_ca_certificate, caCertificate=pem, verificationCertificate=wrong)
    code = iot.get_registration_code()["registrationCode"]
    proof, _ = signed("proof", f"/CN={code}")
    created = iot.register_ca_certificate(
        caCertificate=pem, verificationCertificate=proof, setAsActive=True, tags=[{"Key": "who", "Value": "acme"}]
    )
    made["ca"] = created["certificateId"]
    refused("ResourceAlreadyExistsException", iot.register_ca_certificate, caCertificate=pem, verificationCertificate=proof)
    seen = iot.describe_ca_certificate(certificateId=made["ca"])["certificateDescription"]
    assert seen["status"] == "ACTIVE" and seen["autoRegistrationStatus"] == "DISABLE"
    assert iot.list_tags_for_resource(resourceArn=created["certificateArn"])["tags"] == [{"Key": "who", "Value": "acme"}]
    device, _ = signed("registered", "/CN=registered")
    registered = iot.register_certificate(certificatePem=device, setAsActive=True)
    described = iot.describe_certificate(certificateId=registered["certificateId"])["certificateDescription"]
    assert described["caCertificateId"] == made["ca"]
    by_ca, _ = collected("list_certificates_by_ca", "certificates", caCertificateId=made["ca"])
    assert [entry["certificateId"] for entry in by_ca] == [registered["certificateId"]]
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "30",
            "-subj", "/CN=alone", "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", "alone.key", "-out", "alone.pem")
    alone = (FOLDER / "alone.pem").read_text()
    refused("CertificateValidationException", iot.register_certificate, certificatePem=alone)
    iot.register_certificate_without_ca(certificatePem=alone, status="INACTIVE")
    iot.update_ca_certificate(certificateId=made["ca"], newAutoRegistrationStatus="ENABLE")
    refused("CertificateStateException", iot.delete_ca_certificate, certificateId=made["ca"])
    assert iot.list_ca_certificates()["certificates"][0]["certificateId"] == made["ca"]


def test_just_in_time_registration():
    policy = json.dumps({"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "iot:*", "Resource": "*",
             "Condition": {"StringEquals": {"iot:Certificate.Subject.CommonName": "${iot:ClientId}"}}}]})
    iot.create_policy(policyName="by-name", policyDocument=policy)
    certificate, key = signed("newcomer", "/CN=newcomer")
    assert Device("newcomer", certificate, key).connect() != "Success", "it waits for its activation"
    waiting = [c for c in collected("list_certificates_by_ca", "certificates", caCertificateId=made["ca"])[0]
               if c["status"] == "PENDING_ACTIVATION"]
    assert len(waiting) == 1
    iot.attach_policy(policyName="by-name", target=waiting[0]["certificateArn"])
    iot.update_certificate(certificateId=waiting[0]["certificateId"], newStatus="ACTIVE")
    device = Device("newcomer", certificate, key)
    assert device.connect() == "Success"
    device.close()
    assert Device("impostor", certificate, key).connect() != "Success", "its certificate has another name"
    template = {
        "Parameters": {"AWS::IoT::Certificate::CommonName": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {
                "ThingName": {"Fn::Join": ["-", ["tenant009", {"Ref": "AWS::IoT::Certificate::CommonName"}]]},
                "AttributePayload": {"origin": "template"}}},
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "ACTIVE"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": ALL}},
        },
    }
    refused("InvalidRequestException", iot.update_ca_certificate, certificateId=made["ca"],
            registrationConfig={"templateBody": json.dumps({"Resources": {"x": {"Type": "AWS::S3::Bucket", "Properties": {}}}})})
    iot.update_ca_certificate(certificateId=made["ca"], registrationConfig={"templateBody": json.dumps(template)})
    certificate, key = signed("planned", "/CN=planned")
    device = Device("tenant009-planned", certificate, key)
    assert device.connect() == "Success", "the template made it ACTIVE at once"
    device.close()
    assert iot.describe_thing(thingName="tenant009-planned")["attributes"] == {"origin": "template"}
    iot.update_ca_certificate(certificateId=made["ca"], removeAutoRegistration=True)
    certificate, key = signed("late", "/CN=late")
    assert Device("late", certificate, key).connect() != "Success"


def test_tags():
    resource = arn("policy/press-policy")
    iot.tag_resource(resourceArn=resource, tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    iot.untag_resource(resourceArn=resource, tagKeys=["a"])
    assert iot.list_tags_for_resource(resourceArn=resource)["tags"] == [{"Key": "b", "Value": "2"}]
    refused("InvalidRequestException", iot.list_tags_for_resource, resourceArn=arn(f"thing/{THING}"))


def test_endpoint():
    assert iot.describe_endpoint(endpointType="iot:Data-ATS")["endpointAddress"] == os.environ["IOT_ENDPOINT"]
    refused("InvalidRequestException", iot.describe_endpoint, endpointType="iot:Jobs")


def test_rules():
    payload = {"sql": "SELECT *, topic(1) AS t FROM 'in/#'", "ruleDisabled": False,
               "actions": [{"republish": {"roleArn": f"arn:aws:iam::{ACCOUNT}:role/r", "topic": "out/${topic(2)}"}}]}
    iot.create_topic_rule(ruleName="again", topicRulePayload=payload)
    refused("ResourceAlreadyExistsException", iot.create_topic_rule, ruleName="again", topicRulePayload=payload)
    rule = iot.get_topic_rule(ruleName="again")
    assert rule["ruleArn"] == arn("rule/again") and rule["rule"]["sql"] == payload["sql"]
    assert rule["rule"]["actions"] == payload["actions"]
    listed, _ = collected("list_topic_rules", "rules", topic="in/x")
    assert "again" in [entry["ruleName"] for entry in listed]
    iot.disable_topic_rule(ruleName="again")
    assert iot.get_topic_rule(ruleName="again")["rule"]["ruleDisabled"]
    iot.enable_topic_rule(ruleName="again")
    assert not iot.get_topic_rule(ruleName="again")["rule"]["ruleDisabled"]
    bad = dict(payload, sql="SELEC * FROM 'in/#'")
    refused("SqlParseException", iot.replace_topic_rule, ruleName="again", topicRulePayload=bad)
    iot.replace_topic_rule(ruleName="again", topicRulePayload=dict(payload, description="twice"))
    assert iot.get_topic_rule(ruleName="again")["rule"]["description"] == "twice"
    iot.delete_topic_rule(ruleName="again")
    refused("ResourceNotFoundException", iot.get_topic_rule, ruleName="again")


def test_retained_messages():
    data = client("iot-data")
    for number in range(3):
        data.publish(topic=f"kept/{number}", qos=1, retain=True, payload=b"kept")
    kept = data.get_retained_message(topic="kept/1")
    assert kept["payload"] == b"kept" and kept["qos"] == 1
    pages = list(data.get_paginator("list_retained_messages").paginate(PaginationConfig={"PageSize": 2}))
    topics = [entry["topic"] for page in pages for entry in page["retainedTopics"]]
    assert [topic for topic in topics if topic.startswith("kept/")] == ["kept/0", "kept/1", "kept/2"]
    data.publish(topic="kept/1", retain=True, payload=b"")
    refused("ResourceNotFoundException", data.get_retained_message, topic="kept/1")
    refused("InvalidRequestException", data.publish, topic="kept/#", payload=b"")


def test_taking_apart():
    keys = made["keys"]
    identity = keys["certificateId"]
    refused("CertificateStateException", iot.delete_certificate, certificateId=identity)
    iot.update_certificate(certificateId=identity, newStatus="INACTIVE")
    refused("DeleteConflictException", iot.delete_certificate, certificateId=identity)
    iot.detach_thing_principal(thingName=THING, principal=keys["certificateArn"])
    refused("ResourceNotFoundException", iot.detach_thing_principal, thingName=THING, principal=keys["certificateArn"])
    iot.delete_certificate(certificateId=identity)
    iot.detach_policy(policyName="plant-policy", target=arn("thinggroup/plant"))
    iot.delete_policy(policyName="plant-policy")
    iot.remove_thing_from_thing_group(thingGroupName="hall", thingName=THING)
    assert iot.list_things_in_thing_group(thingGroupName="hall")["things"] == []
    refused("ResourceNotFoundException", iot.remove_thing_from_thing_group, thingGroupName="none", thingName=THING)
    iot.delete_thing(thingName=THING)
    refused("ResourceNotFoundException", iot.describe_thing, thingName=THING)
    refused("CertificateStateException", iot.delete_ca_certificate, certificateId=made["ca"])
    iot.update_ca_certificate(certificateId=made["ca"], newStatus="INACTIVE")
    iot.delete_ca_certificate(certificateId=made["ca"])
    refused("ResourceNotFoundException", iot.describe_ca_certificate, certificateId=made["ca"])
    code = iot.get_registration_code()["registrationCode"]
    assert iot.get_registration_code()["registrationCode"] == code
    iot.delete_registration_code()
    assert iot.get_registration_code()["registrationCode"] != code
    for group in ["hall", "plant"]:
        iot.delete_thing_group(thingGroupName=group)
    iot.deprecate_thing_type(thingTypeName="press")
    iot.delete_thing_type(thingTypeName="press")


def test_what_is_not_offered():
    refused("UnknownOperationException", iot.list_jobs, says="/jobs")
