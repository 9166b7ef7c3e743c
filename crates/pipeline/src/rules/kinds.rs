//! The kinds of actions that rules may have, and what each must say.

use kilter_core::StreamName;
use serde_json::Value;

use super::template::is_template;

/// Each kind with the parameters that it cannot do without.
const KINDS: [(&str, &[&str]); 11] = [
    ("cloudwatchLogs", &["logGroupName"]),
    ("cloudwatchMetric", &["metricNamespace", "metricName", "metricValue", "metricUnit"]),
    ("dynamoDB", &["tableName", "hashKeyField", "hashKeyValue"]),
    ("dynamoDBv2", &["putItem"]),
    ("http", &["url"]),
    ("iotSiteWise", &["putAssetPropertyValueEntries"]),
    ("kinesis", &["streamName"]),
    ("lambda", &["functionArn"]),
    ("republish", &["topic"]),
    ("s3", &["bucketName", "key"]),
    ("sns", &["targetArn"]),
];

/// What is wrong with an action, in words.
pub fn check(kind: &str, parameters: &Value) -> Result<(), String> {
    let Some((_, required)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let known: Vec<&str> = KINDS.iter().map(|(known, _)| *known).collect();
        return Err(format!("actions of the kind {kind:?} are not carried out here; these are: {}", known.join(", ")));
    };
    let Value::Object(members) = parameters else {
        return Err(format!("the parameters of {kind} must be an object"));
    };
    for name in *required {
        match members.get(*name) {
            None | Some(Value::Null) => return Err(format!("{kind} needs {name}")),
            Some(Value::String(text)) if text.is_empty() => return Err(format!("{name} of {kind} is empty")),
            Some(_) => {}
        }
    }
    if kind == "kinesis" {
        let name = text(parameters, "streamName");
        if is_template(name) {
            return Err("streamName must be a name: a stream chosen by a template is not supported here".to_owned());
        }
        StreamName::new(name).map_err(|error| error.to_string())?;
    }
    if kind == "republish" && !matches!(parameters.get("qos"), None | Some(Value::Null)) {
        let qos = parameters["qos"].as_u64().or_else(|| text(parameters, "qos").parse().ok());
        if qos.is_none_or(|qos| qos > 1) && !is_template(text(parameters, "qos")) {
            return Err("qos of republish must be 0 or 1".to_owned());
        }
    }
    Ok(())
}

/// A parameter that is a text; empty where it is not there.
pub fn text<'v>(parameters: &'v Value, name: &str) -> &'v str {
    parameters.get(name).and_then(Value::as_str).unwrap_or("")
}

/// What an action writes to, for error messages: the bucket, the table, …
pub fn resource(kind: &str, parameters: &Value) -> String {
    let required = KINDS.iter().find(|(known, _)| *known == kind).and_then(|(_, required)| required.first());
    match required.and_then(|name| parameters.get(*name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Object(members)) => text(&Value::Object(members.clone()), "tableName").to_owned(),
        _ => String::new(),
    }
}

/// The IAM action that a rule's role must allow, and on what.
pub fn permission(kind: &str, parameters: &Value, region: &str, account: &str) -> (&'static str, String) {
    let arn = |service: &str, resource: String| format!("arn:aws:{service}:{region}:{account}:{resource}");
    let of = resource(kind, parameters);
    match kind {
        "cloudwatchLogs" => ("logs:PutLogEvents", arn("logs", format!("log-group:{of}"))),
        "cloudwatchMetric" => ("cloudwatch:PutMetricData", "*".to_owned()),
        "dynamoDB" | "dynamoDBv2" => ("dynamodb:PutItem", arn("dynamodb", format!("table/{of}"))),
        "iotSiteWise" => ("iotsitewise:BatchPutAssetPropertyValue", "*".to_owned()),
        "kinesis" => ("kinesis:PutRecord", arn("kinesis", format!("stream/{of}"))),
        "republish" => ("iot:Publish", arn("iot", format!("topic/{of}"))),
        "s3" => ("s3:PutObject", format!("arn:aws:s3:::{of}/{}", text(parameters, "key"))),
        "sns" => ("sns:Publish", of),
        "lambda" => ("lambda:InvokeFunction", of),
        _ => ("execute-api:Invoke", "*".to_owned()),
    }
}

/// `KinesisAction`, `S3Action`, …: as error messages of AWS name an action.
pub fn action_name(kind: &str) -> String {
    let mut letters = kind.chars();
    letters.next().map_or_else(String::new, |first| format!("{}{}Action", first.to_ascii_uppercase(), letters.as_str()))
}
