//! Texts. What is not one is converted as the reference says; Null and Undefined are not, and give Undefined.

use super::{Arguments, defined};
use crate::rules::sql::{TEXT_BYTES_MAX, value::Value};

/// Spaces that `lpad` and `rpad` add at most.
const PAD_MAX: i64 = 1_000;

pub fn change(arguments: &Arguments<'_>, f: fn(&str) -> String) -> Value {
    defined(arguments.text(0), |text| Value::Text(f(&text)))
}

pub fn measure(arguments: &Arguments<'_>, f: fn(&str) -> usize) -> Value {
    defined(arguments.text(0), |text| Value::Int(f(&text) as i64))
}

pub fn compare(arguments: &Arguments<'_>, f: fn(&str, &str) -> bool) -> Value {
    defined(arguments.text(0).zip(arguments.text(1)), |(text, part)| Value::Bool(f(&text, &part)))
}

pub fn chr(arguments: &Arguments<'_>) -> Value {
    let code = arguments.int(0).and_then(|code| u8::try_from(code).ok()).filter(u8::is_ascii);
    defined(code, |code| Value::text(char::from(code)))
}

pub fn concat(arguments: &Arguments<'_>) -> Value {
    let values = arguments.values;
    if let [only] = values {
        return Value::clone(only);
    }
    if values.iter().any(|value| matches!(**value, Value::Array(_))) {
        let mut all = Vec::new();
        for value in values {
            match &**value {
                Value::Array(items) => all.extend(items.iter().cloned()),
                Value::Undefined => {}
                other => all.push(other.clone()),
            }
        }
        return Value::Array(all);
    }
    if !values.iter().any(|value| matches!(**value, Value::Text(_))) {
        return Value::Undefined;
    }
    let texts: Option<Vec<_>> = (0..values.len()).map(|index| arguments.text(index)).collect();
    defined(texts, |texts| Value::Text(texts.concat()))
}

pub fn index_of(arguments: &Arguments<'_>) -> Value {
    defined(arguments.text(0).zip(arguments.text(1)), |(text, part)| {
        Value::Int(text.find(&*part).map_or(-1, |at| text[..at].chars().count() as i64))
    })
}

pub fn pad(arguments: &Arguments<'_>, f: fn(&str, String) -> String) -> Value {
    defined(arguments.text(0).zip(arguments.int(1)), |(text, spaces)| {
        Value::Text(f(&text, " ".repeat(spaces.clamp(0, PAD_MAX) as usize)))
    })
}

pub fn replace(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(from), Some(to)) = (arguments.text(0), arguments.text(1), arguments.text(2)) else {
        return Value::Undefined;
    };
    if from.is_empty() {
        return Value::text(text);
    }
    let found = text.matches(&*from).count();
    // Before it is made: a short text may become a very long one.
    if text.len() + found * to.len() > TEXT_BYTES_MAX {
        return Value::Undefined;
    }
    Value::Text(text.replace(&*from, &to))
}

pub fn substring(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(from)) = (arguments.text(0), arguments.int(1)) else { return Value::Undefined };
    let to = match arguments.values.get(2) {
        None => i64::MAX,
        Some(_) => match arguments.int(2) {
            Some(to) => to,
            None => return Value::Undefined,
        },
    };
    let (from, to) = (from.max(0), to.max(0));
    let length = usize::try_from(to.saturating_sub(from)).unwrap_or(0);
    Value::Text(text.chars().skip(usize::try_from(from).unwrap_or(usize::MAX)).take(length).collect())
}
