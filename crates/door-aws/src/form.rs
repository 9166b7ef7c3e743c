//! The query protocol: an operation and its parameters as a form, the answer as XML.

use crate::{Answer, AwsError, Call, protocol::Protocol, uri};
use std::collections::BTreeMap;

/// Parameters of one form; a real request has a few dozen.
const PARAMETERS_MAX: usize = 2_000;

/// The parameters of a request, from its body and its query.
#[derive(Debug, Clone, Default)]
pub struct Form(BTreeMap<String, String>);

impl Form {
    pub fn parse(call: &Call) -> Result<Self, AwsError> {
        let body = std::str::from_utf8(&call.body).map_err(|_| malformed("the form is not UTF-8"))?;
        let typed = call.header("content-type").is_none_or(|t| t.starts_with("application/x-www-form-urlencoded"));
        let sent = if typed { uri::pairs(body) } else { Vec::new() };
        if sent.len() + call.query.len() > PARAMETERS_MAX {
            return Err(malformed("the form has too many parameters"));
        }
        Ok(Self(call.query.iter().cloned().chain(sent).collect()))
    }

    /// The operation.
    pub fn action(&self) -> Result<&str, AwsError> {
        self.get("Action").ok_or_else(|| AwsError::new("MissingAction", "The request names no Action"))
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Whether there is a parameter of this name, or a list or map.
    pub fn has(&self, name: &str) -> bool {
        let part = |key: &String| key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        self.0.keys().any(part)
    }

    pub fn required(&self, name: &str) -> Result<&str, AwsError> {
        let missing = || AwsError::new("ValidationError", format!("The request must contain the parameter {name}"));
        self.get(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    }

    /// `Name.member.1`, `Name.member.2`, … in order.
    pub fn list(&self, name: &str) -> Vec<&str> {
        (1..=self.0.len()).map_while(|n| self.get(&format!("{name}.member.{n}"))).collect()
    }

    /// A list of structures: `Name.member.1.Key` and so on, each without its prefix.
    pub fn structures(&self, name: &str) -> Vec<Form> {
        let part = |n: usize| {
            let prefix = format!("{name}.member.{n}.");
            let own = self.0.iter().filter_map(|(k, v)| k.strip_prefix(&prefix).map(|k| (k.to_owned(), v.clone())));
            let own: BTreeMap<String, String> = own.collect();
            (!own.is_empty()).then_some(Form(own))
        };
        (1..=self.0.len()).map_while(part).collect()
    }

    /// A map: `Name.entry.1.key`, `Name.entry.1.value`, ….
    pub fn map(&self, name: &str) -> Vec<(&str, &str)> {
        let entry = |n: usize| {
            let key = self.get(&format!("{name}.entry.{n}.key"))?;
            Some((key, self.get(&format!("{name}.entry.{n}.value")).unwrap_or_default()))
        };
        (1..=self.0.len()).map_while(entry).collect()
    }
}

fn malformed(why: &str) -> AwsError {
    AwsError::new("MalformedInput", format!("The request cannot be read: {why}"))
}

/// `<XResponse><XResult>…</XResult><ResponseMetadata>…`; `result` is XML, and absent for operations without a result.
pub fn answer(service: &str, action: &str, result: Option<&str>, call: &Call) -> Answer {
    let namespace = match Protocol::of(service) {
        Protocol::Query(namespace) => namespace,
        _ => "",
    };
    let result = result.map(|xml| format!("<{action}Result>{xml}</{action}Result>")).unwrap_or_default();
    Answer::xml(format!(
        "<{action}Response xmlns=\"{namespace}\">{result}<ResponseMetadata><RequestId>{}</RequestId></ResponseMetadata>\
         </{action}Response>",
        call.request_id
    ))
}
