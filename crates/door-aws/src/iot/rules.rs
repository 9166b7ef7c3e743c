//! Topic rules, over the port that the rules engine offers.

use super::{Request, invalid, present};
use crate::{Answer, AwsError, json::seconds};
use axum::http::StatusCode;
use kilter_core::{
    ports::rules::{RuleError, RuleErrorKind, RulePayload},
    topics,
};
use serde_json::{Value, json};

const PAGE: (&str, &str) = ("nextToken", "maxResults");

pub fn answer(request: &Request<'_>, name: &str) -> Option<Result<Answer, AwsError>> {
    let (rules, rule) = (&request.iot.rules, request.part(0));
    let empty = |done: Result<(), RuleError>| done.map(|()| Answer::empty()).map_err(refused);
    Some(match name {
        "CreateTopicRule" => payload(request).and_then(|payload| empty(rules.create(rule, payload).map(drop))),
        "ReplaceTopicRule" => payload(request).and_then(|payload| empty(rules.replace(rule, payload).map(drop))),
        "EnableTopicRule" => empty(rules.set_disabled(rule, false)),
        "DisableTopicRule" => empty(rules.set_disabled(rule, true)),
        "DeleteTopicRule" => empty(rules.delete(rule).map(drop)),
        "GetTopicRule" => get(request),
        "ListTopicRules" => list(request),
        _ => return None,
    })
}

fn payload(request: &Request<'_>) -> Result<RulePayload, AwsError> {
    request.input()
}

fn refused(error: RuleError) -> AwsError {
    let (code, status) = match error.kind {
        RuleErrorKind::NotFound => ("ResourceNotFoundException", StatusCode::NOT_FOUND),
        RuleErrorKind::Exists => ("ResourceAlreadyExistsException", StatusCode::CONFLICT),
        RuleErrorKind::Sql => ("SqlParseException", StatusCode::BAD_REQUEST),
        RuleErrorKind::Invalid => ("InvalidRequestException", StatusCode::BAD_REQUEST),
        RuleErrorKind::Internal => ("InternalException", StatusCode::INTERNAL_SERVER_ERROR),
    };
    AwsError::new(code, error.message).with_status(status)
}

fn get(request: &Request<'_>) -> Result<Answer, AwsError> {
    let found = request.iot.rules.get(request.part(0)).map_err(refused)?;
    let mut rule = serde_json::to_value(&found.payload).map_err(AwsError::internal)?;
    rule["ruleName"] = json!(found.name);
    rule["createdAt"] = seconds(found.created);
    Ok(Answer::json(&json!({ "ruleArn": request.arn("rule", &found.name), "rule": rule })))
}

fn list(request: &Request<'_>) -> Result<Answer, AwsError> {
    let all = request.iot.rules.list();
    let topic = request.call.query("topic");
    let disabled = match request.call.query("ruleDisabled") {
        None => None,
        Some("true") => Some(true),
        Some("false") => Some(false),
        Some(other) => return Err(invalid(format!("ruleDisabled is {other:?}, not true or false"))),
    };
    let wanted = all.iter().filter(|rule| {
        let on_topic =
            topic.is_none_or(|topic| !rule.topic_pattern.is_empty() && topics::matches(&rule.topic_pattern, topic));
        on_topic && disabled.is_none_or(|disabled| rule.payload.rule_disabled == disabled)
    });
    let (page, next) = request.page(PAGE, wanted, |rule| rule.name.as_str())?;
    let rules: Vec<Value> = page
        .into_iter()
        .map(|rule| {
            json!({
                "ruleArn": request.arn("rule", &rule.name),
                "ruleName": rule.name,
                "topicPattern": rule.topic_pattern,
                "createdAt": seconds(rule.created),
                "ruleDisabled": rule.payload.rule_disabled,
            })
        })
        .collect();
    Ok(Answer::json(&present(json!({ "rules": rules, "nextToken": next }))))
}
