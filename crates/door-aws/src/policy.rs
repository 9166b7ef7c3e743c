//! IAM policy documents: what an access key, or a role, may do. Explicit Deny wins; what is not allowed is denied.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Of one document, as IAM bounds a managed policy.
pub const POLICY_BYTES_MAX: usize = 6_144;
/// Work of matching one pattern is bounded by the product of its length and the text's.
const PATTERN_BYTES_MAX: usize = 2_048;

/// A document that was read and found whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub struct Policy {
    document: Value,
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Set,
    resources: Set,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Set {
    /// All but these.
    not: bool,
    patterns: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the policy is not valid: {0}")]
pub struct PolicyError(pub String);

fn invalid<T>(why: impl Into<String>) -> Result<T, PolicyError> {
    Err(PolicyError(why.into()))
}

impl Policy {
    /// Everything everywhere: the root key's.
    pub fn all() -> Self {
        let document = serde_json::json!({
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}],
        });
        Self::from_value(document).expect("the document above is a policy; a test reads it")
    }

    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        if text.len() > POLICY_BYTES_MAX {
            return invalid(format!("it has more than {POLICY_BYTES_MAX} bytes"));
        }
        match serde_json::from_str(text) {
            Ok(document) => Self::from_value(document),
            Err(error) => invalid(format!("it is not JSON: {error}")),
        }
    }

    fn from_value(document: Value) -> Result<Self, PolicyError> {
        let Some(object) = document.as_object() else { return invalid("it is not a JSON object") };
        if let Some(version) =
            object.get("Version").filter(|v| !matches!(v.as_str(), Some("2012-10-17" | "2008-10-17")))
        {
            return invalid(format!("Version {version} is not known: use \"2012-10-17\""));
        }
        let statements = match object.get("Statement") {
            Some(Value::Array(all)) => all.iter().map(statement).collect::<Result<Vec<_>, _>>()?,
            Some(one @ Value::Object(_)) => vec![statement(one)?],
            _ => return invalid("it needs Statement, an array of objects"),
        };
        if statements.is_empty() {
            return invalid("Statement is empty");
        }
        Ok(Self { document, statements })
    }

    pub fn document(&self) -> &Value {
        &self.document
    }

    /// `Some(true)`: allowed, `Some(false)`: denied in words, `None`: it says nothing.
    pub fn says(&self, action: &str, resource: &str) -> Option<bool> {
        let mut said = None;
        for statement in &self.statements {
            if statement.actions.holds(action, true) && statement.resources.holds(resource, false) {
                if !statement.allow {
                    return Some(false);
                }
                said = Some(true);
            }
        }
        said
    }

    pub fn allows(&self, action: &str, resource: &str) -> bool {
        self.says(action, resource) == Some(true)
    }
}

/// Whether policies together allow it: one must, none may deny it.
pub fn allowed(policies: &[&Policy], action: &str, resource: &str) -> bool {
    let said: Vec<Option<bool>> = policies.iter().map(|policy| policy.says(action, resource)).collect();
    said.contains(&Some(true)) && !said.contains(&Some(false))
}

impl TryFrom<Value> for Policy {
    type Error = PolicyError;
    fn try_from(document: Value) -> Result<Self, PolicyError> {
        Self::from_value(document)
    }
}

impl From<Policy> for Value {
    fn from(policy: Policy) -> Self {
        policy.document
    }
}

fn statement(value: &Value) -> Result<Statement, PolicyError> {
    let Some(object) = value.as_object() else { return invalid("a statement is not an object") };
    for key in object.keys() {
        match key.as_str() {
            "Sid" | "Effect" | "Action" | "NotAction" | "Resource" | "NotResource" => {}
            // A condition that is not evaluated would let more through than its writer meant.
            "Condition" => return invalid("Condition is not supported here: write the statement without it"),
            other => return invalid(format!("a statement has the unknown element {other}")),
        }
    }
    let allow = match object.get("Effect").and_then(Value::as_str) {
        Some("Allow") => true,
        Some("Deny") => false,
        _ => return invalid("Effect must be \"Allow\" or \"Deny\""),
    };
    let set = |name: &str, not_name: &str| match (object.get(name), object.get(not_name)) {
        (Some(value), None) => patterns(name, value).map(|patterns| Set { not: false, patterns }),
        (None, Some(value)) => patterns(not_name, value).map(|patterns| Set { not: true, patterns }),
        _ => invalid(format!("a statement needs {name} or {not_name}, and not both")),
    };
    Ok(Statement { allow, actions: set("Action", "NotAction")?, resources: set("Resource", "NotResource")? })
}

fn patterns(name: &str, value: &Value) -> Result<Vec<String>, PolicyError> {
    let one = |value: &Value| match value.as_str() {
        Some(text) if text.len() <= PATTERN_BYTES_MAX => Ok(text.to_owned()),
        _ => invalid(format!("{name} must be text, or an array of texts")),
    };
    match value {
        Value::Array(all) if !all.is_empty() => all.iter().map(one).collect(),
        Value::Array(_) => invalid(format!("{name} is empty")),
        value => Ok(vec![one(value)?]),
    }
}

impl Set {
    fn holds(&self, text: &str, any_case: bool) -> bool {
        let found = self.patterns.iter().any(|pattern| {
            if any_case {
                matches(pattern.to_ascii_lowercase().as_bytes(), text.to_ascii_lowercase().as_bytes())
            } else {
                matches(pattern.as_bytes(), text.as_bytes())
            }
        });
        found != self.not
    }
}

/// `*`: any bytes, `?`: any one.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p, t));
                p += 1;
            }
            Some(&c) if c == b'?' || c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match &mut retry {
                Some((star, from)) => {
                    *from += 1;
                    (p, t) = (*star + 1, *from);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(text: &str) -> Policy {
        Policy::parse(text).unwrap()
    }

    #[test]
    fn deny_wins_and_nothing_is_allowed_by_default() {
        let p = policy(
            r#"{"Statement": [
                {"Effect": "Allow", "Action": ["kinesis:Get*", "Kinesis:List*"], "Resource": "arn:aws:kinesis:*:*:stream/a*"},
                {"Effect": "Deny", "Action": "kinesis:*", "Resource": "*/abc"}]}"#,
        );
        let arn = |name: &str| format!("arn:aws:kinesis:us-east-1:123456789012:stream/{name}");
        assert!(p.allows("kinesis:GetRecords", &arn("ab")));
        assert!(p.allows("kinesis:ListShards", &arn("a")));
        assert!(!p.allows("kinesis:GetRecords", &arn("abc")));
        assert!(!p.allows("kinesis:PutRecord", &arn("ab")));
        assert!(!p.allows("kinesis:GetRecords", &arn("b")));
        assert!(!p.allows("kinesis:GetRecords", "*"), "an unknown resource needs a policy for all");
        assert!(!p.allows("kinesis:*", &arn("ab")), "an unknown action needs a policy for all");
        assert!(Policy::all().allows("kinesis:*", "*"));
    }

    #[test]
    fn not_action_and_not_resource() {
        let p = policy(r#"{"Statement": {"Effect": "Allow", "NotAction": "iam:*", "NotResource": "arn:x"}}"#);
        assert!(p.allows("s3:GetObject", "arn:y"));
        assert!(!p.allows("s3:GetObject", "arn:x"));
        assert!(!p.allows("iam:CreateRole", "arn:y"));
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        for (text, why) in [
            ("[]", "object"),
            (r#"{"Statement": []}"#, "empty"),
            (r#"{"Statement": [{"Effect": "Allow", "Action": "*"}]}"#, "Resource"),
            (r#"{"Statement": [{"Effect": "allow", "Action": "*", "Resource": "*"}]}"#, "Effect"),
            (r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {}}]}"#, "Condition"),
            (r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}]}"#, "Principal"),
            (r#"{"Version": "2020", "Statement": []}"#, "Version"),
            ("{", "JSON"),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn wildcards() {
        let m = |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes());
        assert!(m("a*c?e", "abbbcde") && m("*", "") && m("**", "x") && m("a*", "a"));
        assert!(!m("a?", "a") && !m("", "a") && !m("a*b", "ac"));
    }
}
