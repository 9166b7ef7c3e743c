//! Regular expressions: those of the `regex` crate, which take time linear in the text. Look-around and back
//! references, which Java has, are not valid here; capture groups in replacements are written `$1`.

use super::{Arguments, defined};
use crate::rules::sql::{TEXT_BYTES_MAX, value::Value};
use regex::Regex;

fn with(arguments: &Arguments<'_>, f: impl Fn(&Regex, &str) -> Value) -> Value {
    let Some(text) = arguments.text(0) else { return Value::Undefined };
    arguments.evaluation.spend(text.len() as u64 / 8);
    match arguments.regex {
        Some(regex) => f(regex, &text),
        // Not known beforehand: reading it costs more than using it.
        None => {
            arguments.evaluation.spend(REGEX_STEPS);
            if arguments.evaluation.exhausted() {
                return Value::Undefined;
            }
            defined(arguments.text(1).and_then(|pattern| super::regex(&pattern)), |regex| f(&regex, &text))
        }
    }
}

/// Steps that reading a regular expression is worth.
const REGEX_STEPS: u64 = 2_000;

pub fn matches(arguments: &Arguments<'_>) -> Value {
    with(arguments, |regex, text| Value::Bool(regex.is_match(text)))
}

pub fn substr(arguments: &Arguments<'_>) -> Value {
    with(arguments, |regex, text| defined(regex.find(text), |found| Value::text(found.as_str())))
}

pub fn replace(arguments: &Arguments<'_>) -> Value {
    let Some(to) = arguments.text(2) else { return Value::Undefined };
    // As in Java a group is named by its number alone: `$1x` is group 1, then an x.
    let to = replacement(&to);
    with(arguments, |regex, text| {
        let mut made = String::new();
        let mut from = 0;
        for found in regex.captures_iter(text) {
            let Some(whole) = found.get(0) else { continue };
            made.push_str(&text[from..whole.start()]);
            found.expand(&to, &mut made);
            from = whole.end();
            if made.len() > TEXT_BYTES_MAX {
                return Value::Undefined;
            }
        }
        made.push_str(&text[from..]);
        Value::Text(made)
    })
}

fn replacement(java: &str) -> String {
    let mut made = String::with_capacity(java.len() + 8);
    let mut chars = java.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '$' if chars.peek().is_some_and(char::is_ascii_digit) => {
                made.push_str("${");
                while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                    made.push(digit);
                }
                made.push('}');
            }
            '$' if chars.peek() == Some(&'{') => made.push('$'),
            '$' => made.push_str("$$"),
            other => made.push(other),
        }
    }
    made
}
