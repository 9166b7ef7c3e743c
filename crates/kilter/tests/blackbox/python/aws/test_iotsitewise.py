"""IoT SiteWise: models, assets, aliases, values, what is computed from them; waiters, paginators, wrong input."""

import time
from datetime import datetime, timedelta, timezone

from support import client, eventually, refused

sitewise = client("iotsitewise")
ids = {}


def variable(name, of, hierarchy=None):
    value = {"propertyId": of, **({"hierarchyId": hierarchy} if hierarchy else {})}
    return {"name": name, "value": value}


def test_models_and_waiter():
    made = sitewise.create_asset_model(
        assetModelName="Pump",
        assetModelProperties=[
            {"name": "Temperature", "dataType": "DOUBLE", "unit": "C", "type": {"measurement": {}}},
            {"name": "Running", "dataType": "BOOLEAN", "type": {"measurement": {}}},
            {"name": "Serial", "dataType": "STRING", "type": {"attribute": {"defaultValue": "none"}}},
            {
                "name": "Kelvin",
                "dataType": "DOUBLE",
                "type": {"transform": {"expression": "t + 273.15", "variables": [variable("t", "Temperature")]}},
            },
            {
                "name": "Hottest",
                "dataType": "DOUBLE",
                "type": {
                    "metric": {
                        "expression": "max(t)",
                        "variables": [variable("t", "Temperature")],
                        "window": {"tumbling": {"interval": "1m"}},
                    }
                },
            },
        ],
    )
    ids["model"] = made["assetModelId"]
    assert made["assetModelStatus"]["state"] == "CREATING" and made["assetModelArn"].endswith("/" + ids["model"])
    sitewise.get_waiter("asset_model_active").wait(assetModelId=ids["model"])
    model = sitewise.describe_asset_model(assetModelId=ids["model"])
    ids.update({property["name"]: property["id"] for property in model["assetModelProperties"]})
    refused("ResourceAlreadyExistsException", sitewise.create_asset_model, assetModelName="Pump")
    wrong = [{"name": "X", "dataType": "DOUBLE", "type": {"transform": {"expression": "y", "variables": []}}}]
    says = "not one of the expression's variables"
    refused("InvalidRequestException", sitewise.create_asset_model, assetModelName="Wrong", assetModelProperties=wrong, says=says)
    refused("ResourceNotFoundException", sitewise.describe_asset_model, assetModelId="0" * 36)
    station = sitewise.create_asset_model(
        assetModelName="Station", assetModelHierarchies=[{"name": "pumps", "childAssetModelId": ids["model"]}]
    )
    ids["station model"] = station["assetModelId"]
    pages = sitewise.get_paginator("list_asset_models").paginate(PaginationConfig={"PageSize": 1})
    names = [summary["name"] for page in pages for summary in page["assetModelSummaries"]]
    assert {"Pump", "Station"} <= set(names) and len(names) == len(set(names))
    pages = sitewise.get_paginator("list_asset_model_properties").paginate(
        assetModelId=ids["model"], PaginationConfig={"PageSize": 2}
    )
    listed = [one["name"] for page in pages for one in page["assetModelPropertySummaries"]]
    assert sorted(listed) == ["Hottest", "Kelvin", "Running", "Serial", "Temperature"]


def test_a_model_is_changed():
    shown = sitewise.describe_asset_model(assetModelId=ids["model"])
    kept = {member: shown[member] for member in ["assetModelName", "assetModelProperties"]}
    changed = sitewise.update_asset_model(assetModelId=ids["model"], assetModelDescription="of the hall", **kept)
    assert changed["assetModelStatus"]["state"] == "UPDATING"
    sitewise.get_waiter("asset_model_active").wait(assetModelId=ids["model"])
    again = sitewise.describe_asset_model(assetModelId=ids["model"])
    assert again["assetModelDescription"] == "of the hall"
    assert [one["id"] for one in again["assetModelProperties"]] == [one["id"] for one in shown["assetModelProperties"]]
    refused("ResourceAlreadyExistsException", sitewise.update_asset_model, assetModelId=ids["model"], assetModelName="Station")
    refused("ResourceNotFoundException", sitewise.update_asset_model, assetModelId="0" * 36, assetModelName="X")


def test_assets_and_hierarchies():
    for name, model in [("one", "model"), ("two", "model"), ("station", "station model")]:
        made = sitewise.create_asset(assetName=name, assetModelId=ids[model])
        ids[name] = made["assetId"]
        sitewise.get_waiter("asset_active").wait(assetId=ids[name])
    hierarchy = sitewise.describe_asset(assetId=ids["station"])["assetHierarchies"][0]["id"]
    ids["hierarchy"] = hierarchy
    for child in ["one", "two"]:
        sitewise.associate_assets(assetId=ids["station"], hierarchyId=hierarchy, childAssetId=ids[child])
    below = sitewise.list_associated_assets(assetId=ids["station"], hierarchyId=hierarchy)["assetSummaries"]
    assert {asset["name"] for asset in below} == {"one", "two"}
    top = sitewise.list_assets(filter="TOP_LEVEL")["assetSummaries"]
    assert "station" in {asset["name"] for asset in top} and "one" not in {asset["name"] for asset in top}
    sitewise.update_asset(assetId=ids["one"], assetName="pump one")
    assert sitewise.describe_asset(assetId=ids["one"])["assetName"] == "pump one"
    refused("ConflictingOperationException", sitewise.delete_asset, assetId=ids["one"])


def put(value, at, **entry):
    entry = {"entryId": "1", **entry}
    entry["propertyValues"] = [{"value": value, "timestamp": {"timeInSeconds": int(at), "offsetInNanos": 0}}]
    return sitewise.batch_put_asset_property_value(entries=[entry])["errorEntries"]


def test_values_by_id_and_alias():
    sitewise.update_asset_property(assetId=ids["one"], propertyId=ids["Temperature"], propertyAlias="/plant/one/t")
    described = sitewise.describe_asset_property(assetId=ids["one"], propertyId=ids["Temperature"])
    assert described["assetProperty"]["alias"] == "/plant/one/t"
    ids["start"] = start = int(time.time()) // 60 * 60 - 180
    for second in range(5):
        assert put({"doubleValue": 20.0 + second}, start + second, propertyAlias="/plant/one/t") == []
    by_id = dict(assetId=ids["one"], propertyId=ids["Temperature"])
    latest = sitewise.get_asset_property_value(propertyAlias="/plant/one/t")["propertyValue"]
    assert latest["value"]["doubleValue"] == 24.0 and latest["timestamp"]["timeInSeconds"] == start + 4
    pages = sitewise.get_paginator("get_asset_property_value_history").paginate(
        startDate=datetime.fromtimestamp(start, timezone.utc), PaginationConfig={"PageSize": 2}, **by_id
    )
    values = [point["value"]["doubleValue"] for page in pages for point in page["assetPropertyValueHistory"]]
    assert values == [20.0, 21.0, 22.0, 23.0, 24.0]
    serial = sitewise.get_asset_property_value(assetId=ids["one"], propertyId=ids["Serial"])["propertyValue"]
    assert serial["value"]["stringValue"] == "none"
    [error] = put({"stringValue": "hot"}, start, **by_id)
    assert error["errors"][0]["errorCode"] == "InvalidRequestException"
    [error] = put({"doubleValue": 1.0}, start - 8 * 86_400, **by_id)
    assert error["errors"][0]["errorCode"] == "TimestampOutOfRangeException"
    [error] = put({"doubleValue": 1.0}, start, propertyAlias="/nowhere")
    assert error["errors"][0]["errorCode"] == "ResourceNotFoundException"


def test_what_is_computed():
    kelvin = sitewise.get_asset_property_value(assetId=ids["one"], propertyId=ids["Kelvin"])["propertyValue"]
    assert abs(kelvin["value"]["doubleValue"] - 297.15) < 1e-9
    look = lambda: sitewise.get_asset_property_value(assetId=ids["one"], propertyId=ids["Hottest"]).get("propertyValue")
    hottest = eventually("the window has ended", look)
    assert hottest["value"]["doubleValue"] == 24.0 and hottest["timestamp"]["timeInSeconds"] == ids["start"] + 60
    start = datetime.fromtimestamp(ids["start"] - 60, timezone.utc)
    span = dict(startDate=start, endDate=start + timedelta(minutes=3))
    aggregates = sitewise.get_asset_property_aggregates(
        propertyAlias="/plant/one/t", aggregateTypes=["AVERAGE", "COUNT", "STANDARD_DEVIATION"], resolution="1m", **span
    )["aggregatedValues"]
    assert aggregates[0]["value"]["average"] == 22.0 and aggregates[0]["value"]["count"] == 5
    entries = [{"entryId": "a", "propertyAlias": "/plant/one/t"}, {"entryId": "b", "propertyAlias": "/nowhere"}]
    batch = sitewise.batch_get_asset_property_value(entries=entries)
    assert batch["successEntries"][0]["assetPropertyValue"]["value"]["doubleValue"] == 24.0
    assert batch["errorEntries"][0]["errorCode"] == "ResourceNotFoundException"
    history = [{**entry, **span} for entry in entries]
    batch = sitewise.batch_get_asset_property_value_history(entries=history)
    assert [point["value"]["doubleValue"] for point in batch["successEntries"][0]["assetPropertyValueHistory"]] == [20.0, 21.0, 22.0, 23.0, 24.0]
    assert [(one["entryId"], one["errorCode"]) for one in batch["errorEntries"]] == [("b", "ResourceNotFoundException")]
    wanted = {"aggregateTypes": ["MAXIMUM"], "resolution": "1m"}
    batch = sitewise.batch_get_asset_property_aggregates(entries=[{**entry, **wanted} for entry in history])
    assert [one["value"] for one in batch["successEntries"][0]["aggregatedValues"]] == [{"maximum": 24.0}]
    assert [(one["entryId"], one["errorCode"]) for one in batch["errorEntries"]] == [("b", "ResourceNotFoundException")]


def test_tags():
    arn = sitewise.describe_asset(assetId=ids["one"])["assetArn"]
    sitewise.tag_resource(resourceArn=arn, tags={"line": "a", "shift": "b"})
    sitewise.untag_resource(resourceArn=arn, tagKeys=["shift"])
    assert sitewise.list_tags_for_resource(resourceArn=arn)["tags"] == {"line": "a"}


def test_delete():
    refused("ConflictingOperationException", sitewise.delete_asset_model, assetModelId=ids["model"])
    for child in ["one", "two"]:
        sitewise.disassociate_assets(assetId=ids["station"], hierarchyId=ids["hierarchy"], childAssetId=ids[child])
    for asset in ["one", "two", "station"]:
        sitewise.delete_asset(assetId=ids[asset])
        sitewise.get_waiter("asset_not_exists").wait(assetId=ids[asset])
    for model in ["station model", "model"]:
        sitewise.delete_asset_model(assetModelId=ids[model])
        sitewise.get_waiter("asset_model_not_exists").wait(assetModelId=ids[model])
