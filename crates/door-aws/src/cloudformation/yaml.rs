//! A template's text as a JSON value: JSON, or YAML with CloudFormation's short tags (`!Ref`, `!Sub`, …).
//!
//! Follows "CloudFormation template formats" of the user guide: no aliases, no merged keys, one document.

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use serde_json::{Map, Number, Value, json};

/// Of lists and objects in one another: what is evaluated later goes down as deep on the stack.
const DEPTH_MAX: usize = 64;

/// `Err`: why it cannot be read.
pub fn read(text: &str) -> Result<Value, String> {
    let value = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| format!("JSON not well-formed: {error}"))?
    } else {
        // Only where it is needed: what looks like JSON may be text.
        yaml(text).or_else(|error| yaml(&json_on_one_line(text)).map_err(|_| error))?
    };
    check(&value, 0).map(|()| value)
}

fn check(value: &Value, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(too_deep());
    }
    match value {
        Value::Null => Err("null values are not allowed in templates".to_owned()),
        Value::Array(all) => all.iter().try_for_each(|one| check(one, depth + 1)),
        Value::Object(all) => {
            all.iter().try_for_each(|(key, one)| check(one, depth + 1).map_err(|why| within(key, why)))
        }
        _ => Ok(()),
    }
}

fn within(key: &str, why: String) -> String {
    if why.len() > 512 { why } else { format!("{key:.64}: {why}") }
}

fn too_deep() -> String {
    format!("lists and objects may be {DEPTH_MAX} deep")
}

/// A list or an object that has begun, with its tag.
enum Open {
    List(Vec<Value>, Option<String>),
    Object(Map<String, Value>, Option<String>, Option<String>),
}

fn yaml(text: &str) -> Result<Value, String> {
    let mut open: Vec<Open> = Vec::new();
    let mut whole = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("YAML not well-formed: {error}"))?;
        let at = |why: String| format!("{why} (line {}, column {})", span.start.line(), span.start.col() + 1);
        let value = match event {
            Event::Alias(_) => return Err(at("YAML aliases are not allowed in CloudFormation templates".to_owned())),
            Event::DocumentStart(_) if whole.is_some() => return Err(at("a template is one document".to_owned())),
            Event::Scalar(text, style, _, tag) => {
                if let Some(Open::Object(object, key @ None, _)) = open.last_mut() {
                    if text == "<<" && style == ScalarStyle::Plain {
                        return Err(at("merged keys (<<) are not allowed in CloudFormation templates".to_owned()));
                    }
                    if object.contains_key(text.as_ref()) {
                        return Err(at(format!("duplicate key {text:.64}")));
                    }
                    *key = Some(text.into_owned());
                    continue;
                }
                scalar(&text, style, tag.as_deref()).map_err(at)?
            }
            Event::SequenceStart(_, tag) => {
                open.push(Open::List(Vec::new(), function(tag.as_deref()).map_err(at)?));
                if open.len() > DEPTH_MAX { return Err(at(too_deep())) } else { continue }
            }
            Event::MappingStart(_, tag) => {
                open.push(Open::Object(Map::new(), None, function(tag.as_deref()).map_err(at)?));
                if open.len() > DEPTH_MAX { return Err(at(too_deep())) } else { continue }
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(list, function)) => applied(function, Value::Array(list)),
                Some(Open::Object(object, _, function)) => applied(function, Value::Object(object)),
                None => return Err(at("an end without a beginning".to_owned())),
            },
            _ => continue,
        };
        match open.last_mut() {
            None => whole = Some(value),
            Some(Open::List(list, _)) => list.push(value),
            Some(Open::Object(object, key, _)) => match key.take() {
                Some(key) => drop(object.insert(key, value)),
                None => return Err(at("keys are text".to_owned())),
            },
        }
    }
    whole.ok_or_else(|| "it is empty".to_owned())
}

/// The function that a tag is short for.
fn function(tag: Option<&Tag>) -> Result<Option<String>, String> {
    match tag {
        None => Ok(None),
        Some(tag) if tag.handle == "!" && tag.suffix.is_empty() => Ok(None),
        Some(tag) if tag.handle == "!" => match tag.suffix.as_str() {
            plain @ ("Ref" | "Condition") => Ok(Some(plain.to_owned())),
            name => Ok(Some(format!("Fn::{name:.64}"))),
        },
        Some(tag) if tag.is_yaml_core_schema() => match tag.suffix.as_str() {
            "str" | "int" | "float" | "bool" | "map" | "seq" => Ok(None),
            other => Err(format!("the tag !!{other:.64} is not allowed in CloudFormation templates")),
        },
        Some(tag) => Err(format!("the tag {:.64} is not known", tag.to_string())),
    }
}

fn applied(function: Option<String>, value: Value) -> Value {
    match function {
        None => value,
        Some(name) => json!({ name: value }),
    }
}

fn scalar(text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let function = function(tag)?;
    if function.as_deref() == Some("Fn::GetAtt") {
        let (resource, attribute) = text.split_once('.').ok_or("!GetAtt needs Resource.Attribute")?;
        return Ok(json!({"Fn::GetAtt": [resource, attribute]}));
    }
    let is_text = style != ScalarStyle::Plain || tag.is_some();
    let is_number = tag.is_some_and(|tag| tag.is_yaml_core_schema() && tag.suffix != "str");
    let value = if is_text && !is_number { Value::String(text.to_owned()) } else { plain(text) };
    Ok(applied(function, value))
}

/// A number only where nothing of it is lost: account numbers begin with zeros, versions end with them.
fn plain(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::Bool(true),
        "false" | "False" | "FALSE" => Value::Bool(false),
        _ => match serde_json::from_str::<Number>(text) {
            Ok(number) if number.to_string() == text => Value::Number(number),
            _ => Value::String(text.to_owned()),
        },
    }
}

/// JSON that was pasted behind a key over several lines, put on one: YAML wants such lines further to the right than
/// their key, and who pastes documents into a template (the cookbook's playbook 08 does) indents none of them.
fn json_on_one_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(": {\n").into_iter().chain(rest.find(": [\n")).min() {
        let (before, from) = rest.split_at(at + 2);
        out.push_str(before);
        let mut values = serde_json::Deserializer::from_str(from).into_iter::<Value>();
        match values.next() {
            Some(Ok(value)) => {
                out.push_str(&value.to_string());
                rest = &from[values.byte_offset()..];
            }
            _ => {
                out.push_str(&from[..1]);
                rest = &from[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let short = "A: !Not [ !Equals [ \"x\", '' ] ]\nB: !If\n  - C\n  - !GetAtt D.Arn\n  - !Ref AWS::NoValue\nE: !Sub\n  - 'a${b}'\n  - b: !Ref Z\n";
        let long = r#"{"A": {"Fn::Not": [{"Fn::Equals": ["x", ""]}]},
            "B": {"Fn::If": ["C", {"Fn::GetAtt": ["D", "Arn"]}, {"Ref": "AWS::NoValue"}]},
            "E": {"Fn::Sub": ["a${b}", {"b": {"Ref": "Z"}}]}}"#;
        assert_eq!(read(short).unwrap(), read(long).unwrap());
    }

    #[test]
    fn scalars_lose_nothing() {
        let text = "a: 012345678901\nb: 123456789012\nc: 2012-10-17\nd: 1.10\ne: 1.5\nf: yes\ng: true\nh: '5'\ni: !!str 5\nj: 1e3\n2012: x\n";
        let read = read(text).unwrap();
        assert_eq!(
            read,
            json!({"a": "012345678901", "b": 123456789012_u64, "c": "2012-10-17", "d": "1.10", "e": 1.5, "f": "yes", "g": true,
                "h": "5", "i": "5", "j": "1e3", "2012": "x"})
        );
    }

    #[test]
    fn pasted_json_is_read_wherever_it_stands() {
        let text =
            "a:\n  b:\n    Document: {\n    \"Statement\": [\n        1\n    ],\n    \"V\": \"2\"\n}\n    c: 1\n";
        assert_eq!(read(text).unwrap()["a"]["b"], json!({"Document": {"Statement": [1], "V": "2"}, "c": 1}));
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_its_place() {
        let deep = format!("a: {}", "[".repeat(200));
        let deeper = format!("a:\n  {}", "- ".repeat(20_000));
        let json = format!("{{\"a\": {}{}}}", "[".repeat(100), "]".repeat(100));
        for (text, why) in [
            ("", "empty"),
            ("a: [\n", "YAML not well-formed"),
            ("a: &x 1\nb: *x\n", "aliases"),
            ("a: 1\nb:\n  <<: {c: 1}\n", "merged"),
            ("a: 1\na: 2\n", "duplicate key a (line 2"),
            ("a: 1\n---\nb: 2\n", "one document"),
            ("a:\n", "a: null values"),
            ("? [a]\n: 1\n", "keys are text"),
            ("a: !!binary aGk=\n", "!!binary"),
            ("a: !<tag:x> 1\n", "not known"),
            ("a: !GetAtt b\n", "Resource.Attribute"),
            ("{\"a\": }", "JSON not well-formed"),
            (&deep, "deep"),
            (&deeper, "deep"),
            (&json, "deep"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(why), "{text:.60}: {error}");
        }
    }
}
