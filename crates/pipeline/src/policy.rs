//! AWS IoT policies: what a certificate's documents allow. Explicit `Deny` wins, everything else that no
//! statement allows is denied. What this language subset does not know is refused when a policy is parsed,
//! never ignored: a `Condition` that is skipped opens a door.
//!
//! Source: AWS IoT Core Developer Guide, "AWS IoT Core policies". Patterns in `Resource` know `*` (any run of
//! characters) and `?` (one character) within each of the six parts of an ARN; `+` and `#` are ordinary.

use kilter_core::Action;
use serde::{
    Deserialize, Deserializer,
    de::{
        self, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer},
    },
};
use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

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
        "variable {0:?} is not supported: use ${{iot:ClientId}} or ${{iot:Connection.Thing.ThingName}}, in the part after \
         the account"
    )]
    Variable(String),
}

/// A parsed document, ready to decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Statement {
    allow: bool,
    actions: Vec<Action>,
    resources: Vec<Resource>,
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
    /// Empty is no value: a resource that uses it does not match.
    pub client_id: &'a str,
    /// The thing that the certificate is attached to and the client is named like.
    pub thing: Option<&'a str>,
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
        Ok(Self { statements })
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
        let actions = compile(raw.action, "Action", |action| actions(&action))?.concat();
        let resources = compile(raw.resource, "Resource", |resource| Resource::parse(&resource))?;
        Ok(Self { allow, actions, resources })
    }

    fn applies(&self, request: &Request<'_>) -> bool {
        self.actions.contains(&request.action) && self.resources.iter().any(|resource| resource.matches(request))
    }
}

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
    if found.is_empty() { Err(unknown()) } else { Ok(found) }
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

    /// Part by part, so that no `*` reaches over a colon into a topic made to look like the rest of an ARN.
    fn matches(&self, request: &Request<'_>) -> bool {
        let Self::Arn(patterns) = self else { return true };
        let mut parts = request.resource.splitn(ARN_PARTS, ':');
        patterns.iter().all(|pattern| parts.next().is_some_and(|part| pattern.matches(part, Some(request))))
    }
}

/// A pattern, cut at its `*`: `a*b*` is `[a] [b] []`. One run means that there is no `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern {
    runs: Vec<Run>,
}

/// What stands between two `*`.
type Run = Vec<Piece>;

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `?`
    AnyChar,
    Variable(Variable),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Variable {
    ClientId,
    ThingName,
}

impl Variable {
    fn value<'a>(self, request: &Request<'a>) -> Option<&'a str> {
        let value = match self {
            Self::ClientId => Some(request.client_id),
            Self::ThingName => request.thing,
        };
        value.filter(|value| !value.is_empty())
    }
}

/// A piece with its variable's value in place: text is text, whatever characters it has.
enum Exact<'a> {
    Text(Cow<'a, str>),
    AnyChar,
}

impl Pattern {
    fn parse(pattern: &str) -> Result<Self, PolicyError> {
        let mut runs = vec![Run::new()];
        let mut run = Run::new();
        let mut rest = pattern;
        while let Some(first) = rest.chars().next() {
            let taken = match first {
                '*' => {
                    *last(&mut runs) = std::mem::take(&mut run);
                    runs.push(Run::new());
                    1
                }
                '?' => {
                    run.push(Piece::AnyChar);
                    1
                }
                '$' if rest.starts_with("${") => {
                    let end = rest.find('}').ok_or_else(|| PolicyError::Variable(rest.to_owned()))?;
                    run.push(Piece::Variable(match &rest[2..end] {
                        "iot:ClientId" => Variable::ClientId,
                        "iot:Connection.Thing.ThingName" => Variable::ThingName,
                        _ => return Err(PolicyError::Variable(rest[..=end].to_owned())),
                    }));
                    end + 1
                }
                other => {
                    match run.last_mut() {
                        Some(Piece::Text(text)) => text.push(other),
                        _ => run.push(Piece::Text(other.into())),
                    }
                    other.len_utf8()
                }
            };
            rest = &rest[taken..];
        }
        *last(&mut runs) = run;
        Ok(Self { runs })
    }

    /// `false` where a variable has no value. Without a request, variables have none.
    fn matches(&self, text: &str, request: Option<&Request<'_>>) -> bool {
        let mut runs = Vec::with_capacity(self.runs.len());
        for run in &self.runs {
            let Some(run) = exact(run, request) else { return false };
            runs.push(run);
        }
        let Some((first, others)) = runs.split_first() else { return text.is_empty() };
        let Some(mut rest) = strip(first, text) else { return false };
        let Some((last, middle)) = others.split_last() else { return rest.is_empty() };
        // Leftmost is best: whatever matches after a later occurrence also matches after an earlier one.
        for run in middle {
            match find(run, rest) {
                Some(behind) => rest = behind,
                None => return false,
            }
        }
        ends_with(last, rest)
    }
}

fn last(runs: &mut [Run]) -> &mut Run {
    runs.last_mut().expect("a pattern has at least one run")
}

/// A run with its variables' values; neighbouring texts become one, so that it can be searched for at once.
fn exact<'a>(run: &'a [Piece], request: Option<&Request<'a>>) -> Option<Vec<Exact<'a>>> {
    let mut pieces: Vec<Exact<'a>> = Vec::with_capacity(run.len());
    for piece in run {
        let text = match piece {
            Piece::Text(text) => text.as_str(),
            Piece::Variable(variable) => variable.value(request?)?,
            Piece::AnyChar => {
                pieces.push(Exact::AnyChar);
                continue;
            }
        };
        match pieces.last_mut() {
            Some(Exact::Text(before)) => before.to_mut().push_str(text),
            _ => pieces.push(Exact::Text(Cow::Borrowed(text))),
        }
    }
    Some(pieces)
}

/// What is left of `text` behind the run; `None` where it does not start with it.
fn strip<'t>(run: &[Exact<'_>], text: &'t str) -> Option<&'t str> {
    run.iter().try_fold(text, |rest, piece| match piece {
        Exact::Text(text) => rest.strip_prefix(&**text),
        Exact::AnyChar => {
            let mut chars = rest.chars();
            chars.next().map(|_| chars.as_str())
        }
    })
}

fn ends_with(run: &[Exact<'_>], text: &str) -> bool {
    run.iter()
        .rev()
        .try_fold(text, |rest, piece| match piece {
            Exact::Text(text) => rest.strip_suffix(&**text),
            Exact::AnyChar => {
                let mut chars = rest.chars();
                chars.next_back().map(|_| chars.as_str())
            }
        })
        .is_some()
}

/// What is left of `text` behind the run's first occurrence.
fn find<'t>(run: &[Exact<'_>], text: &'t str) -> Option<&'t str> {
    if let [Exact::Text(needle)] = run {
        return text.find(&**needle).map(|at| &text[at + needle.len()..]);
    }
    let mut starts = text.char_indices().map(|(at, _)| at).chain([text.len()]);
    starts.find_map(|at| strip(run, &text[at..]))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawDocument {
    version: String,
    /// A name for people, without effect.
    #[serde(rename = "Id")]
    _id: Option<String>,
    statement: OneOrMany<Object<RawStatement>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct RawStatement {
    /// A name for people, without effect.
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: String,
    action: OneOrMany<String>,
    resource: OneOrMany<String>,
}

/// A JSON object. Derived structs alone would take an array of their fields' values as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Only<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Only<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(Only(PhantomData))
    }
}

/// A value or an array of such values.
struct OneOrMany<T>(Vec<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for OneOrMany<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Either<T> {
            type Value = OneOrMany<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or an array of values")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                T::deserialize(StrDeserializer::new(text)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(|one| OneOrMany(vec![one]))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Self::Value, A::Error> {
                Vec::deserialize(SeqAccessDeserializer::new(seq)).map(OneOrMany)
            }
        }

        deserializer.deserialize_any(Either(PhantomData))
    }
}

#[cfg(test)]
mod tests;
