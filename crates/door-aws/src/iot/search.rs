//! `SearchIndex` over the things: terms of the form `field:value`, joined by AND (a blank is one as well), with
//! `NOT` or `-` before a term, and `*` and `?` in values. What else fleet indexing's language knows is refused.

use super::{Request, cut, invalid, present};
use crate::{Answer, AwsError};
use axum::http::StatusCode;
use kilter_core::{FleetView, Thing};
use serde::Deserialize;
use serde_json::{Value, json};

const QUERY_CHARS_MAX: usize = 1_000;
const TERMS_MAX: usize = 12;
const RESULTS_DEFAULT: usize = 100;
const RESULTS_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Input {
    index_name: Option<String>,
    query_string: String,
    next_token: Option<String>,
    max_results: Option<usize>,
}

#[derive(Debug, PartialEq)]
struct Term {
    negated: bool,
    field: String,
    value: String,
}

pub fn answer(request: &Request<'_>) -> Result<Answer, AwsError> {
    let input: Input = request.input()?;
    if input.index_name.as_deref().is_some_and(|name| name != "AWS_Things") {
        return Err(super::not_found("there is one index: AWS_Things"));
    }
    let limit = input.max_results.unwrap_or(RESULTS_DEFAULT);
    if !(1..=RESULTS_MAX).contains(&limit) {
        return Err(invalid(format!("maxResults is {limit}, not 1 to {RESULTS_MAX}")));
    }
    let terms = parse(&input.query_string).map_err(|why| {
        AwsError::new("InvalidQueryException", format!("the query is not understood: {why}"))
            .with_status(StatusCode::BAD_REQUEST)
    })?;
    let view = request.view();
    let found = view.things.values().filter(|thing| terms.iter().all(|term| holds(&view, thing, term)));
    let (page, next) = cut(input.next_token.as_deref(), limit, found, |thing| thing.thing.as_str())?;
    let things: Vec<Value> = page.into_iter().map(|thing| shown(thing)).collect();
    Ok(Answer::json(&present(json!({ "things": things, "nextToken": next }))))
}

fn shown(thing: &Thing) -> Value {
    present(json!({
        "thingName": thing.thing.as_str(),
        "thingId": thing.id,
        "thingTypeName": thing.thing_type,
        "thingGroupNames": thing.groups,
        "attributes": thing.attributes,
    }))
}

fn parse(query: &str) -> Result<Vec<Term>, String> {
    if query.chars().count() > QUERY_CHARS_MAX {
        return Err(format!("it has more than {QUERY_CHARS_MAX} characters"));
    }
    let mut terms = Vec::new();
    let mut negated = false;
    for word in query.split_whitespace() {
        match word {
            "AND" => continue,
            "NOT" => {
                negated = true;
                continue;
            }
            "OR" => return Err("OR is not offered: ask twice".to_owned()),
            _ => {}
        }
        if word.contains(['(', ')', '[', ']', '{', '}', '<', '>', '"', '\\']) {
            return Err(format!("{word:?} has brackets, quotes or comparisons, which are not offered"));
        }
        let (minus, word) = word.strip_prefix('-').map_or((false, word), |rest| (true, rest));
        let (field, value) = word.split_once(':').unwrap_or(("thingName", word));
        let known = matches!(field, "thingName" | "thingTypeName" | "thingId" | "thingGroupNames")
            || field.strip_prefix("attributes.").is_some_and(|name| !name.is_empty());
        if !known {
            return Err(format!(
                "field {field:?} is not known: use thingName, thingTypeName, thingId, thingGroupNames, attributes.<name>"
            ));
        }
        terms.push(Term { negated: negated || minus, field: field.to_owned(), value: value.to_owned() });
        negated = false;
    }
    if terms.is_empty() || terms.len() > TERMS_MAX || negated {
        return Err(format!("it needs 1 to {TERMS_MAX} terms such as thingName:pump*"));
    }
    Ok(terms)
}

fn holds(view: &FleetView, thing: &Thing, term: &Term) -> bool {
    let matches = |value: &str| like(&term.value, value);
    let found = match term.field.as_str() {
        "thingName" => matches(thing.thing.as_str()),
        "thingId" => matches(&thing.id),
        "thingTypeName" => thing.thing_type.as_deref().is_some_and(matches),
        "thingGroupNames" => {
            thing.groups.iter().flat_map(|group| view.lineage(group)).any(|group| matches(&group.name))
        }
        attribute => {
            let name = attribute.strip_prefix("attributes.").unwrap_or(attribute);
            thing.attributes.get(name).is_some_and(|value| matches(value))
        }
    };
    found != term.negated
}

/// `*` is any run of characters, `?` any one; case does not matter. Linear but for the last `*`, to which it goes back.
fn like(pattern: &str, text: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let text: Vec<char> = text.to_lowercase().chars().collect();
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some('?') => (p, t) = (p + 1, t + 1),
            Some(c) if *c == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_read_and_the_rest_is_refused() {
        let terms = parse("thingName:pump* AND attributes.line:a NOT thingTypeName:x -thingGroupNames:g").unwrap();
        let negated: Vec<bool> = terms.iter().map(|term| term.negated).collect();
        assert_eq!(negated, [false, false, true, true]);
        assert_eq!(
            parse("pump?").unwrap()[0],
            Term { negated: false, field: "thingName".into(), value: "pump?".into() }
        );
        for wrong in ["", "NOT", "a OR b", "shadow.x:1", "attributes.:1", "attributes.a>3", "\"a b\"", &"a ".repeat(13)]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*", "ABC", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*c", "abbc", true),
            ("a*b", "ab c", false),
            ("abc", "abcd", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
