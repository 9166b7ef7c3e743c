"""Topics, subscriptions with confirmation over HTTP, filters, publishing."""

import json
import re
import urllib.request

from support import ACCOUNT, REGION, Web, client, eventually, refused

sns = client("sns")
ARN = f"arn:aws:sns:{REGION}:{ACCOUNT}:"
web = Web()


def posted(path, kind):
    """The newest message of a kind to a path of the listener, with its headers."""

    def look():
        found = [(headers, json.loads(body)) for at, _, headers, body in web.taken if at == path and f'"Type":"{kind}'.encode() in body]
        return found and found[-1]

    return eventually(f"{kind} to {path}", look)


def subscribe(topic, path, **attributes):
    answer = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=web.url + path, Attributes=attributes)
    assert answer["SubscriptionArn"] == "pending confirmation"
    token = posted(path, "SubscriptionConfirmation")[1]["Token"]
    return sns.confirm_subscription(TopicArn=topic, Token=token)["SubscriptionArn"]


def test_topics():
    made = sns.create_topic(Name="t1", Attributes={"DisplayName": "One"}, Tags=[{"Key": "a", "Value": "1"}])
    assert made["TopicArn"] == ARN + "t1"
    assert sns.create_topic(Name="t1")["TopicArn"] == ARN + "t1"
    refused("InvalidParameter", sns.create_topic, Name="t1", Tags=[{"Key": "a", "Value": "2"}])
    refused("InvalidParameter", sns.create_topic, Name="not a name")
    refused("InvalidParameter", sns.create_topic, Name="x.fifo", Attributes={"FifoTopic": "true"})
    attributes = sns.get_topic_attributes(TopicArn=ARN + "t1")["Attributes"]
    assert attributes["DisplayName"] == "One" and attributes["Owner"] == ACCOUNT and json.loads(attributes["Policy"])
    policy = json.loads(attributes["EffectiveDeliveryPolicy"])["http"]["defaultHealthyRetryPolicy"]
    assert (policy["minDelayTarget"], policy["maxDelayTarget"], policy["numRetries"]) == (2, 300, 18), policy
    sns.set_topic_attributes(TopicArn=ARN + "t1", AttributeName="DisplayName", AttributeValue="Two")
    assert sns.get_topic_attributes(TopicArn=ARN + "t1")["Attributes"]["DisplayName"] == "Two"
    refused(
        "InvalidParameter", sns.set_topic_attributes, TopicArn=ARN + "t1", AttributeName="KmsMasterKeyId", AttributeValue="k"
    )
    missing = refused("NotFound", sns.get_topic_attributes, TopicArn=ARN + "nope")
    assert isinstance(missing, sns.exceptions.NotFoundException)
    refused("InvalidParameter", sns.get_topic_attributes, TopicArn="arn:aws:sns:mars:1:t1")


def test_tags():
    sns.tag_resource(ResourceArn=ARN + "t1", Tags=[{"Key": "b", "Value": "<&>"}])
    assert sns.list_tags_for_resource(ResourceArn=ARN + "t1")["Tags"] == [
        {"Key": "a", "Value": "1"},
        {"Key": "b", "Value": "<&>"},
    ]
    sns.untag_resource(ResourceArn=ARN + "t1", TagKeys=["a"])
    assert [tag["Key"] for tag in sns.list_tags_for_resource(ResourceArn=ARN + "t1")["Tags"]] == ["b"]
    refused("ResourceNotFound", sns.tag_resource, ResourceArn=ARN + "nope", Tags=[{"Key": "b", "Value": ""}])


def test_topics_are_listed_in_pages():
    names = [f"page-{n:03}" for n in range(105)]
    for name in names:
        sns.create_topic(Name=name)
    pages = list(sns.get_paginator("list_topics").paginate())
    found = [topic["TopicArn"] for page in pages for topic in page["Topics"]]
    assert len(pages) > 1 and [ARN + name for name in names] == [arn for arn in found if ":page-" in arn]
    for name in names:
        sns.delete_topic(TopicArn=ARN + name)
    sns.delete_topic(TopicArn=ARN + "page-000")


def test_a_subscription_is_confirmed_by_its_token():
    topic = ARN + "t1"
    answer = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=web.url + "/a", ReturnSubscriptionArn=True)
    headers, body = posted("/a", "SubscriptionConfirmation")
    assert headers["x-amz-sns-message-type"] == "SubscriptionConfirmation" and body["TopicArn"] == topic
    listed = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert [one["SubscriptionArn"] for one in listed] == ["PendingConfirmation"]
    refused("InvalidParameter", sns.confirm_subscription, TopicArn=topic, Token="wrong", says="Token")
    # As a browser does it, without a signature.
    said = urllib.request.urlopen(body["SubscribeURL"]).read().decode()
    assert re.search(r"<SubscriptionArn>(.*)</SubscriptionArn>", said)[1] == answer["SubscriptionArn"]
    (listed,) = sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]
    assert listed["SubscriptionArn"] == answer["SubscriptionArn"] and listed["Endpoint"] == web.url + "/a"
    assert listed in sns.list_subscriptions()["Subscriptions"]
    attributes = sns.get_subscription_attributes(SubscriptionArn=answer["SubscriptionArn"])["Attributes"]
    assert attributes["PendingConfirmation"] == "false"
    again = sns.subscribe(TopicArn=topic, Protocol="http", Endpoint=web.url + "/a")
    assert again["SubscriptionArn"] == answer["SubscriptionArn"]


def test_what_cannot_be_subscribed_is_refused():
    topic = ARN + "t1"
    for protocol, endpoint, says in [
        ("email", "a@example.com", "no mail server"),
        ("sqs", "arn:aws:sqs:x", "sqs is not offered"),
        ("http", "https://example.com", "match the specified protocol"),
        ("http", "http://10.0.0.1/", "private address"),
        ("http", "http://169.254.169.254/latest/meta-data", "private address"),
    ]:
        refused("InvalidParameter", sns.subscribe, TopicArn=topic, Protocol=protocol, Endpoint=endpoint, says=says)
    refused("NotFound", sns.subscribe, TopicArn=ARN + "nope", Protocol="http", Endpoint=web.url)


def test_publish_reaches_subscribers():
    topic = ARN + "t1"
    answer = sns.publish(
        TopicArn=topic,
        Subject="About",
        Message='quotes " and <tags> & ünicode',
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "x"}},
    )
    headers, body = posted("/a", "Notification")
    assert body["MessageId"] == answer["MessageId"] == headers["x-amz-sns-message-id"]
    assert body["Message"] == 'quotes " and <tags> & ünicode' and body["Subject"] == "About"
    assert body["MessageAttributes"] == {"kind": {"Type": "String", "Value": "x"}}
    assert body["Signature"] == "unsigned" and body["UnsubscribeURL"].startswith("http://")
    by_protocol = json.dumps({"default": "for all", "http": "for http"})
    answer = sns.publish(TopicArn=topic, Message=by_protocol, MessageStructure="json")
    eventually("the text for http", lambda: posted("/a", "Notification")[1]["Message"] == "for http")
    refused("InvalidParameter", sns.publish, TopicArn=topic, Message="not json", MessageStructure="json")
    refused("InvalidParameter", sns.publish, TopicArn=topic, Message="x" * (256 * 1024 + 1), says="too long")
    refused("InvalidParameter", sns.publish, PhoneNumber="+15555550100", Message="x")
    refused("NotFound", sns.publish, TopicArn=ARN + "nope", Message="x")


def test_filters_choose_and_raw_is_raw():
    topic = ARN + "t1"
    wanted = json.dumps({"severity": ["high", {"prefix": "crit"}], "score": [{"numeric": [">=", 3]}]})
    chosen = subscribe(topic, "/filtered", FilterPolicy=wanted)
    on_body = subscribe(
        topic, "/body", FilterPolicyScope="MessageBody", FilterPolicy='{"a":{"b":[1]}}', RawMessageDelivery="true"
    )
    attributes = sns.get_subscription_attributes(SubscriptionArn=on_body)["Attributes"]
    assert attributes["FilterPolicyScope"] == "MessageBody" and attributes["RawMessageDelivery"] == "true"

    def attribute(severity, score):
        return {
            "severity": {"DataType": "String", "StringValue": severity},
            "score": {"DataType": "Number", "StringValue": str(score)},
        }

    sns.publish(TopicArn=topic, Message="low", MessageAttributes=attribute("low", 9))
    sns.publish(TopicArn=topic, Message="weak", MessageAttributes=attribute("high", 2))
    sns.publish(TopicArn=topic, Message="critical", MessageAttributes=attribute("critical", 3.5))
    sns.publish(TopicArn=topic, Message='{"a":{"b":1}}')
    eventually("the raw body", lambda: ("/body", b'{"a":{"b":1}}') in [(at, body) for at, _, _, body in web.taken])
    eventually("the filtered message", lambda: posted("/filtered", "Notification")[1]["Message"] == "critical")
    texts = [json.loads(body)["Message"] for at, _, _, body in web.taken if at == "/filtered" and b'"Type":"Notification' in body]
    assert texts == ["critical"], texts
    refused(
        "InvalidParameter",
        sns.set_subscription_attributes,
        SubscriptionArn=chosen,
        AttributeName="FilterPolicy",
        AttributeValue='{"a": 1}',
    )
    sns.set_subscription_attributes(SubscriptionArn=chosen, AttributeName="FilterPolicy", AttributeValue="{}")
    assert "FilterPolicy" not in sns.get_subscription_attributes(SubscriptionArn=chosen)["Attributes"]


def test_batches():
    topic = ARN + "t1"
    entries = [{"Id": "1", "Message": "one"}, {"Id": "2", "Message": "x", "Subject": "\n"}]
    answer = sns.publish_batch(TopicArn=topic, PublishBatchRequestEntries=entries)
    assert [one["Id"] for one in answer["Successful"]] == ["1"]
    assert [(one["Id"], one["Code"], one["SenderFault"]) for one in answer["Failed"]] == [("2", "InvalidParameter", True)]
    double = [{"Id": "1", "Message": "a"}, {"Id": "1", "Message": "b"}]
    refused("BatchEntryIdsNotDistinct", sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=double)
    many = [{"Id": str(n), "Message": "a"} for n in range(11)]
    refused("TooManyEntriesInBatchRequest", sns.publish_batch, TopicArn=topic, PublishBatchRequestEntries=many)


def test_unsubscribe_and_delete():
    topic = ARN + "t1"
    for one in sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"]:
        sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
        sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
    assert sns.list_subscriptions_by_topic(TopicArn=topic)["Subscriptions"] == []
    assert sns.get_topic_attributes(TopicArn=topic)["Attributes"]["SubscriptionsDeleted"] == "3"
    sns.delete_topic(TopicArn=topic)
    sns.delete_topic(TopicArn=topic)
    refused("NotFound", sns.list_subscriptions_by_topic, TopicArn=topic)
