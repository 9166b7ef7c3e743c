//! Filter policies of subscriptions: which notifications a subscriber gets ("Amazon SNS subscription filter
//! policies" of the developer guide).

use serde_json::{Map, Value};

/// Conditions in one policy (AWS allows 150 combinations).
const CONDITIONS_MAX: usize = 150;
const POLICY_BYTES_MAX: usize = 64 << 10;
/// Levels of a policy on bodies.
const DEPTH_MAX: usize = 16;

/// Whether a policy can be understood; `Err` says what cannot.
pub fn check(policy: &str, nested: bool) -> Result<Value, String> {
    if policy.len() > POLICY_BYTES_MAX {
        return Err("FilterPolicy: it is too long".into());
    }
    let parsed: Value = serde_json::from_str(policy).map_err(|error| format!("FilterPolicy: {error}"))?;
    let Value::Object(members) = &parsed else { return Err("FilterPolicy: it must be a JSON object".into()) };
    let mut conditions = 0;
    check_object(members, nested, 1, &mut conditions)?;
    if conditions > CONDITIONS_MAX {
        return Err(format!("FilterPolicy: it has more than {CONDITIONS_MAX} conditions"));
    }
    Ok(parsed)
}

fn check_object(
    members: &Map<String, Value>,
    nested: bool,
    depth: usize,
    conditions: &mut usize,
) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("FilterPolicy: it is deeper than {DEPTH_MAX}"));
    }
    for (name, rule) in members {
        match rule {
            Value::Array(items) if name == "$or" => {
                for item in items {
                    let Value::Object(inner) = item else { return Err("FilterPolicy: $or needs objects".into()) };
                    check_object(inner, nested, depth + 1, conditions)?;
                }
            }
            Value::Array(items) => {
                *conditions += items.len();
                items.iter().try_for_each(|item| check_condition(name, item))?;
            }
            Value::Object(inner) if nested => check_object(inner, nested, depth + 1, conditions)?,
            _ => return Err(format!("FilterPolicy: {name:?} must be match an array of conditions")),
        }
    }
    Ok(())
}

fn check_condition(name: &str, condition: &Value) -> Result<(), String> {
    let Value::Object(members) = condition else {
        return match condition {
            Value::Array(_) => Err(format!("FilterPolicy: {name:?} has an array within its array")),
            _ => Ok(()),
        };
    };
    let mut all = members.iter();
    let (Some((kind, value)), None) = (all.next(), all.next()) else {
        return Err(format!("FilterPolicy: a condition of {name:?} must have one member"));
    };
    let fits = match kind.as_str() {
        "exists" => value.is_boolean(),
        "prefix" | "suffix" | "equals-ignore-case" => value.is_string(),
        "numeric" => numeric(value, 0.0).is_some(),
        "anything-but" => match value {
            Value::Object(inner) => {
                inner.len() == 1 && inner.iter().all(|(k, v)| (k == "prefix" || k == "suffix") && v.is_string())
            }
            Value::Null | Value::Bool(_) => false,
            _ => true,
        },
        _ => false,
    };
    if fits { Ok(()) } else { Err(format!("FilterPolicy: the condition {kind:?} of {name:?} is not supported")) }
}

/// Whether what a message says, attributes or body, meets the policy.
pub fn matches(policy: &Value, said: &Map<String, Value>) -> bool {
    let Value::Object(rules) = policy else { return false };
    rules.iter().all(|(name, rule)| match rule {
        Value::Array(items) if name == "$or" => items.iter().any(|item| matches(item, said)),
        Value::Array(conditions) => match said.get(name) {
            // Any element of an array that meets a condition is enough.
            Some(Value::Array(values)) => values.iter().any(|value| any(conditions, Some(value))),
            found => any(conditions, found),
        },
        Value::Object(_) => match said.get(name) {
            Some(Value::Object(inner)) => matches(rule, inner),
            _ => false,
        },
        _ => false,
    })
}

fn any(conditions: &[Value], found: Option<&Value>) -> bool {
    conditions.iter().any(|condition| meets(condition, found))
}

fn meets(condition: &Value, found: Option<&Value>) -> bool {
    let Value::Object(members) = condition else {
        return found.is_some_and(|found| same(condition, found));
    };
    let Some((kind, value)) = members.iter().next() else { return false };
    if kind == "exists" {
        return value.as_bool() == Some(found.is_some());
    }
    let Some(found) = found else { return false };
    let texts = || found.as_str().zip(value.as_str());
    match kind.as_str() {
        "prefix" => texts().is_some_and(|(text, part)| text.starts_with(part)),
        "suffix" => texts().is_some_and(|(text, part)| text.ends_with(part)),
        "equals-ignore-case" => texts().is_some_and(|(text, other)| text.to_lowercase() == other.to_lowercase()),
        "numeric" => found.as_f64().and_then(|number| numeric(value, number)).unwrap_or(false),
        "anything-but" => match value {
            Value::Array(refused) => !refused.iter().any(|refused| same(refused, found)),
            Value::Object(_) => !meets(value, Some(found)),
            refused => !same(refused, found),
        },
        _ => false,
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// `["<", 5]`, `[">=", 0, "<", 10]`, `["=", 3]`; `None` where it is not such a list.
fn numeric(condition: &Value, number: f64) -> Option<bool> {
    let list = condition.as_array().filter(|list| list.len() == 2 || list.len() == 4)?;
    let mut all = true;
    for pair in list.chunks(2) {
        let bound = pair[1].as_f64()?;
        all &= match pair[0].as_str()? {
            "=" => number == bound,
            "<" => number < bound,
            "<=" => number <= bound,
            ">" => number > bound,
            ">=" => number >= bound,
            _ => return None,
        };
    }
    Some(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn policies_let_through_what_they_name() {
        let said = json!({"store": "example_corp", "event": "order-placed", "price": 150, "tags": ["a", "b"], "ok": true,
            "n": null, "inner": {"deep": {"x": 5}}});
        let said = said.as_object().unwrap();
        for (policy, expected) in [
            (json!({"store": ["example_corp", "other"]}), true),
            (json!({"store": ["other"]}), false),
            (json!({"store": ["example_corp"], "event": ["x"]}), false),
            (json!({"event": [{"prefix": "order-"}]}), true),
            (json!({"event": [{"suffix": "placed"}]}), true),
            (json!({"event": [{"equals-ignore-case": "ORDER-PLACED"}]}), true),
            (json!({"event": [{"anything-but": ["a", "order-placed"]}]}), false),
            (json!({"event": [{"anything-but": {"prefix": "x"}}]}), true),
            (json!({"missing": [{"anything-but": "x"}]}), false),
            (json!({"price": [{"numeric": [">=", 100, "<", 200]}]}), true),
            (json!({"price": [{"numeric": ["<", 100]}]}), false),
            (json!({"price": [150.0]}), true),
            (json!({"tags": ["b"]}), true),
            (json!({"tags": ["c"]}), false),
            (json!({"ok": [true]}), true),
            (json!({"n": [null]}), true),
            (json!({"missing": [{"exists": false}]}), true),
            (json!({"store": [{"exists": false}]}), false),
            (json!({"$or": [{"store": ["x"]}, {"price": [{"numeric": ["=", 150]}]}]}), true),
            (json!({"inner": {"deep": {"x": [{"numeric": [">", 4]}]}}}), true),
            (json!({"inner": {"deep": {"y": [1]}}}), false),
        ] {
            assert!(check(&policy.to_string(), true).is_ok(), "{policy}");
            assert_eq!(matches(&policy, said), expected, "{policy}");
        }
        for bad in [
            r#"[]"#,
            r#"{"a": 5}"#,
            r#"{"a": [{"cidr": "10.0.0.0/8"}]}"#,
            r#"{"a": [{"numeric": ["<"]}]}"#,
            "{",
            r#"{"a": [[1]]}"#,
        ] {
            assert!(check(bad, false).is_err(), "{bad}");
        }
        assert!(check(r#"{"a": {"b": [1]}}"#, false).is_err(), "attributes are flat");
    }
}
