"""Log groups, streams and events."""

import time

from support import ACCOUNT, REGION, client, refused

logs = client("logs")
GROUP = "/plant/test"


def now():
    return int(time.time() * 1000)


def test_groups():
    logs.create_log_group(logGroupName=GROUP)
    taken = refused("ResourceAlreadyExistsException", logs.create_log_group, logGroupName=GROUP)
    assert isinstance(taken, logs.exceptions.ResourceAlreadyExistsException)
    refused("InvalidParameterException", logs.create_log_group, logGroupName="not allowed!")
    refused("InvalidParameterException", logs.create_log_group, logGroupName="x", tags={"a": "b"})
    (group,) = logs.describe_log_groups(logGroupNamePrefix="/plant/")["logGroups"]
    assert group["logGroupName"] == GROUP and group["storedBytes"] == 0 and "retentionInDays" not in group
    assert group["arn"] == f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{GROUP}:*"
    logs.put_retention_policy(logGroupName=GROUP, retentionInDays=14)
    assert logs.describe_log_groups(logGroupNamePattern="ANT/TES")["logGroups"][0]["retentionInDays"] == 14
    refused("InvalidParameterException", logs.put_retention_policy, logGroupName=GROUP, retentionInDays=15)
    logs.delete_retention_policy(logGroupName=GROUP)
    refused("ResourceNotFoundException", logs.put_retention_policy, logGroupName="/nope", retentionInDays=14)


def test_groups_are_listed_in_pages():
    names = [f"/pages/{n}" for n in range(5)]
    for name in names:
        logs.create_log_group(logGroupName=name)
    pages = logs.get_paginator("describe_log_groups").paginate(
        logGroupNamePrefix="/pages/", PaginationConfig={"PageSize": 2}
    )
    assert [[group["logGroupName"] for group in page["logGroups"]] for page in pages] == [names[:2], names[2:4], names[4:]]
    for name in names:
        logs.delete_log_group(logGroupName=name)


def test_streams():
    for name in ["s1", "s2", "t1"]:
        logs.create_log_stream(logGroupName=GROUP, logStreamName=name)
    refused("ResourceAlreadyExistsException", logs.create_log_stream, logGroupName=GROUP, logStreamName="s1")
    refused("InvalidParameterException", logs.create_log_stream, logGroupName=GROUP, logStreamName="a:b")
    refused("ResourceNotFoundException", logs.create_log_stream, logGroupName="/nope", logStreamName="s")
    names = [one["logStreamName"] for one in logs.describe_log_streams(logGroupName=GROUP, logStreamNamePrefix="s")["logStreams"]]
    assert names == ["s1", "s2"]
    logs.delete_log_stream(logGroupName=GROUP, logStreamName="t1")
    refused("ResourceNotFoundException", logs.delete_log_stream, logGroupName=GROUP, logStreamName="t1")
    refused("ResourceNotFoundException", logs.describe_log_streams, logGroupName="/nope")


def test_events():
    began = now()
    events = [{"timestamp": began + n, "message": f"event {n}"} for n in range(5)]
    logs.put_log_events(logGroupName=GROUP, logStreamName="s1", logEvents=events)
    logs.put_log_events(logGroupName=GROUP, logStreamName="s2", logEvents=[{"timestamp": began + 9, "message": "ERROR 9"}])
    backwards = list(reversed(events))
    refused("InvalidParameterException", logs.put_log_events, logGroupName=GROUP, logStreamName="s1", logEvents=backwards)
    refused("ResourceNotFoundException", logs.put_log_events, logGroupName=GROUP, logStreamName="no", logEvents=events)
    old = logs.put_log_events(logGroupName=GROUP, logStreamName="s1", logEvents=[{"timestamp": 1, "message": "old"}])
    assert old["rejectedLogEventsInfo"] == {"tooOldLogEventEndIndex": 1}
    newest = logs.describe_log_streams(logGroupName=GROUP, orderBy="LastEventTime", descending=True)["logStreams"]
    assert [one["logStreamName"] for one in newest] == ["s2", "s1"]
    assert newest[0]["lastEventTimestamp"] == began + 9 and newest[0]["lastIngestionTime"] >= began

    def texts(answer):
        return [event["message"] for event in answer["events"]]

    stream = {"logGroupName": GROUP, "logStreamName": "s1"}
    first = logs.get_log_events(**stream, startFromHead=True, limit=2)
    assert texts(first) == ["event 0", "event 1"] and first["events"][0]["timestamp"] == began
    second = logs.get_log_events(**stream, nextToken=first["nextForwardToken"], limit=10)
    assert texts(second) == ["event 2", "event 3", "event 4"]
    end = logs.get_log_events(**stream, nextToken=second["nextForwardToken"])
    assert texts(end) == [] and end["nextForwardToken"] == second["nextForwardToken"]
    assert texts(logs.get_log_events(**stream, nextToken=second["nextBackwardToken"])) == ["event 0", "event 1"]
    assert texts(logs.get_log_events(**stream, limit=2)) == ["event 3", "event 4"]
    assert texts(logs.get_log_events(**stream, startTime=began + 1, endTime=began + 3)) == ["event 1", "event 2"]
    refused("ResourceNotFoundException", logs.get_log_events, logGroupName=GROUP, logStreamName="no")
    refused("InvalidParameterException", logs.get_log_events, **stream, nextToken="x/1")

    found = logs.filter_log_events(logGroupName=GROUP, filterPattern="ERROR")["events"]
    assert [(event["logStreamName"], event["message"]) for event in found] == [("s2", "ERROR 9")]
    pages = logs.get_paginator("filter_log_events").paginate(logGroupName=GROUP, PaginationConfig={"PageSize": 4})
    assert [len(page["events"]) for page in pages] == [4, 2]
    assert len(logs.filter_log_events(logGroupName=GROUP, logStreamNames=["s1"], filterPattern='"event 3"')["events"]) == 1
    refused("InvalidParameterException", logs.filter_log_events, logGroupName=GROUP, filterPattern="{ $.a = 1 }")


def test_delete_and_what_is_not_offered():
    logs.delete_log_group(logGroupName=GROUP)
    refused("ResourceNotFoundException", logs.delete_log_group, logGroupName=GROUP)
    refused("UnknownOperationException", logs.describe_metric_filters, says="DescribeMetricFilters")
