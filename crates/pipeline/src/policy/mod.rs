//! AWS IoT policies: what a certificate's documents allow. Explicit `Deny` wins, everything else that no
//! statement allows is denied. What is not known is refused when a policy is parsed, never ignored: a `Condition`
//! that is skipped opens a door.
//!
//! Source: AWS IoT Core Developer Guide, "AWS IoT Core policies". Patterns in `Resource` know `*` (any run of
//! characters) and `?` (one character) within each of the six parts of an ARN; `+` and `#` are ordinary.

mod condition;
mod context;
mod pattern;
mod raw;

pub use context::{Context, ThingFacts};

use condition::Test;
use kilter_core::Action;
use pattern::Pattern;
use raw::{Object, OneOrMany, RawDocument, RawStatement};
use std::sync::Arc;

/// Most characters of a document that are not white space: AWS's own limit.
pub const DOCUMENT_CHARS_MAX: usize = 2048;

/// Most bytes of a document, white space included: bounds what is read before it is judged.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;

/// The only version whose variables are variables.
const VERSION: &str = "2012-10-17";

/// `arn:<partition>:iot:<region>:<account>:<resource>`; only the last part may hold colons.
const ARN_PARTS: usize = 6;

const ACTIONS: [Action; 5] =
    [Action::Connect, Action::Publish, Action::Subscribe, Action::Receive, Action::RetainPublish];

/// Why a policy document was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    #[error(
        "the policy document is too large: {chars} characters without white space, at most {DOCUMENT_CHARS_MAX} are \
         taken ({DOCUMENT_BYTES_MAX} bytes in all); split it into several policies"
    )]
    TooLarge { chars: usize },
    #[error("the policy document is not understood, and nothing in it is ignored: {0}")]
    Malformed(String),
    #[error("policy version {0:?} is not supported: write \"Version\": \"2012-10-17\"")]
    Version(String),
    #[error("{0} is empty: name at least one")]
    Empty(&'static str),
    #[error(
        "action {0:?} is none that is decided here: use iot:Connect, iot:Publish, iot:Subscribe, iot:Receive, iot:RetainPublish, with * and ?"
    )]
    Action(String),
    #[error(
        "resource {0:?} is neither \"*\" nor an ARN: write arn:aws:iot:<region>:<account>:topic/<topic> or the like"
    )]
    Resource(String),
    #[error(
        "variable {0:?} is not supported: use ${{iot:ClientId}}, ${{iot:Connection.Thing.…}}, ${{iot:Certificate.…}}, \
         ${{aws:SourceIp}} or ${{aws:CurrentTime}}, in the part after the account"
    )]
    Variable(String),
    #[error("condition {operator:?} on {key:?} cannot be used: {why}")]
    Condition { operator: String, key: String, why: &'static str },
    #[error("a statement needs one of {0}, and not both")]
    Either(&'static str),
}

/// A parsed document, ready to decide.
#[derive(Debug, Clone, PartialEq)]
pub struct Policy {
    statements: Vec<Statement>,
    asks_certificate: bool,
}

#[derive(Debug, Clone, PartialEq)]
struct Statement {
    sid: Option<String>,
    allow: bool,
    actions: Vec<Action>,
    resources: Vec<Resource>,
    /// The resources are those that it does not concern.
    except: bool,
    conditions: Vec<Test>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Resource {
    Any,
    Arn([Pattern; ARN_PARTS]),
}

/// What somebody wants to do.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub action: Action,
    /// A full ARN: see [`resource_arn`].
    pub resource: &'a str,
    /// Who, from where and when.
    pub context: Context<'a>,
}

/// `policy` and `statement` count from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allowed { policy: usize, statement: usize },
    DeniedExplicitly { policy: usize, statement: usize },
    NotAllowed,
}

/// Decides by all policies together. Takes time linear in the resource's length, but for patterns that have a
/// `?` after a `*`: there, times the number of characters between two `*`.
pub fn decide(policies: &[Arc<Policy>], request: &Request<'_>) -> Decision {
    let mut decision = Decision::NotAllowed;
    for (policy, document) in policies.iter().enumerate() {
        for (statement, rule) in document.statements.iter().enumerate() {
            // An allowing statement after the first changes nothing.
            if (rule.allow && decision != Decision::NotAllowed) || !rule.applies(request) {
                continue;
            }
            if !rule.allow {
                return Decision::DeniedExplicitly { policy, statement };
            }
            decision = Decision::Allowed { policy, statement };
        }
    }
    decision
}

/// The resource that an action on a client id (connect), topic filter (subscribe) or topic concerns.
pub fn resource_arn(region: &str, account: &str, action: Action, subject: &str) -> String {
    let kind = match action {
        Action::Connect => "client",
        Action::Publish | Action::Receive | Action::RetainPublish => "topic",
        Action::Subscribe => "topicfilter",
    };
    format!("arn:aws:iot:{region}:{account}:{kind}/{subject}")
}

impl Policy {
    /// Whether a decision depends on what the certificate says about itself.
    pub fn asks_certificate(&self) -> bool {
        self.asks_certificate
    }

    /// What a statement is called in its document, where it is.
    pub fn sid(&self, statement: usize) -> Option<&str> {
        self.statements.get(statement).and_then(|statement| statement.sid.as_deref())
    }

    pub fn parse(json: &str) -> Result<Self, PolicyError> {
        let chars = json.chars().filter(|c| !c.is_whitespace()).count();
        if chars > DOCUMENT_CHARS_MAX || json.len() > DOCUMENT_BYTES_MAX {
            return Err(PolicyError::TooLarge { chars });
        }
        let Object(document): Object<RawDocument> =
            serde_json::from_str(json).map_err(|error| PolicyError::Malformed(error.to_string()))?;
        if document.version != VERSION {
            return Err(PolicyError::Version(document.version));
        }
        let statements = compile(document.statement, "Statement", |Object(raw)| Statement::compile(raw))?;
        let asks_certificate = statements.iter().any(Statement::asks_certificate);
        Ok(Self { statements, asks_certificate })
    }
}

/// Each of one or many, of which there must be one.
fn compile<T, U>(
    raw: OneOrMany<T>,
    what: &'static str,
    each: impl Fn(T) -> Result<U, PolicyError>,
) -> Result<Vec<U>, PolicyError> {
    if raw.0.is_empty() {
        return Err(PolicyError::Empty(what));
    }
    raw.0.into_iter().map(each).collect()
}

impl Statement {
    fn compile(raw: RawStatement) -> Result<Self, PolicyError> {
        let allow = match raw.effect.as_str() {
            "Allow" => true,
            "Deny" => false,
            other => return Err(PolicyError::Malformed(format!("Effect is {other:?}, not Allow or Deny"))),
        };
        let actions = match (raw.action, raw.not_action) {
            (Some(list), None) => compile(list, "Action", |action| actions(&action))?.concat(),
            (None, Some(list)) => {
                let except = compile(list, "NotAction", |action| actions(&action))?.concat();
                ACTIONS.into_iter().filter(|action| !except.contains(action)).collect()
            }
            _ => return Err(PolicyError::Either("Action and NotAction")),
        };
        let resource = |text: String| Resource::parse(&text);
        let (resources, except) = match (raw.resource, raw.not_resource) {
            (Some(list), None) => (compile(list, "Resource", resource)?, false),
            (None, Some(list)) => (compile(list, "NotResource", resource)?, true),
            _ => return Err(PolicyError::Either("Resource and NotResource")),
        };
        let conditions =
            raw.condition.0.into_iter().map(|(operator, key, values)| Test::parse(&operator, &key, &values));
        let conditions = conditions.collect::<Result<_, _>>()?;
        Ok(Self { sid: raw.sid, allow, actions, resources, except, conditions })
    }

    fn asks_certificate(&self) -> bool {
        let arns = self.resources.iter().filter_map(|resource| match resource {
            Resource::Any => None,
            Resource::Arn(patterns) => Some(patterns),
        });
        arns.flatten().any(Pattern::asks_certificate) || self.conditions.iter().any(Test::asks_certificate)
    }

    fn applies(&self, request: &Request<'_>) -> bool {
        self.actions.contains(&request.action)
            && self.concerns(request)
            && self.conditions.iter().all(|test| test.holds(request, self.allow))
    }

    fn concerns(&self, request: &Request<'_>) -> bool {
        let named = self.resources.iter().any(|resource| resource.matches(request));
        if !self.except {
            return named;
        }
        // An exception that cannot be told grants nothing, and takes nothing back.
        let told = || self.resources.iter().all(|resource| resource.resolves(request));
        !named && (!self.allow || told())
    }
}

/// What else a device may be allowed in AWS IoT: taken, because policies that devices share with AWS name it, and
/// without effect, because nothing here asks for it.
const ELSEWHERE: &[&str] = &[
    "iot:GetThingShadow",
    "iot:UpdateThingShadow",
    "iot:DeleteThingShadow",
    "iot:ListNamedShadowsForThing",
    "iot:GetRetainedMessage",
    "iot:ListRetainedMessages",
    "iot:DescribeJobExecution",
    "iot:GetPendingJobExecutions",
    "iot:StartNextPendingJobExecution",
    "iot:UpdateJobExecution",
    "iot:AssumeRoleWithCertificate",
    "greengrass:Discover",
];

/// The actions that a pattern stands for. AWS compares them without regard to case. A pattern that stands for
/// none would be a `Deny` that denies nothing.
fn actions(pattern: &str) -> Result<Vec<Action>, PolicyError> {
    let unknown = || PolicyError::Action(pattern.to_owned());
    if pattern.contains("${") {
        return Err(unknown());
    }
    let lower = Pattern::parse(&pattern.to_ascii_lowercase())?;
    let found: Vec<Action> =
        ACTIONS.into_iter().filter(|action| lower.matches(&action.name().to_ascii_lowercase(), None)).collect();
    let elsewhere = || ELSEWHERE.iter().any(|action| lower.matches(&action.to_ascii_lowercase(), None));
    if found.is_empty() && !elsewhere() { Err(unknown()) } else { Ok(found) }
}

impl Resource {
    fn parse(text: &str) -> Result<Self, PolicyError> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let invalid = || PolicyError::Resource(text.to_owned());
        let parts: Vec<&str> = text.splitn(ARN_PARTS, ':').collect();
        // A variable in an earlier part would have been cut at its own colon.
        if let Some(part) = parts.iter().take(ARN_PARTS - 1).find(|part| part.contains("${")) {
            return Err(PolicyError::Variable((*part).to_owned()));
        }
        if parts.len() < ARN_PARTS || parts[0] != "arn" {
            return Err(invalid());
        }
        let patterns: Vec<Pattern> = parts.into_iter().map(Pattern::parse).collect::<Result<_, _>>()?;
        patterns.try_into().map(Self::Arn).map_err(|_| invalid())
    }

    fn resolves(&self, request: &Request<'_>) -> bool {
        match self {
            Self::Any => true,
            Self::Arn(patterns) => patterns.iter().all(|pattern| pattern.resolves(request)),
        }
    }

    /// Part by part, so that no `*` reaches over a colon into a topic made to look like the rest of an ARN.
    fn matches(&self, request: &Request<'_>) -> bool {
        let Self::Arn(patterns) = self else { return true };
        let mut parts = request.resource.splitn(ARN_PARTS, ':');
        patterns.iter().all(|pattern| parts.next().is_some_and(|part| pattern.matches(part, Some(request))))
    }
}

#[cfg(test)]
mod tests;
