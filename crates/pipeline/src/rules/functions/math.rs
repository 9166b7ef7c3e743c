//! Numbers. Texts that are numbers are taken for them; what has no real result is Undefined.

use super::{Arguments, defined};
use crate::rules::sql::value::Value;

pub fn real(arguments: &Arguments<'_>, f: fn(f64) -> f64) -> Value {
    defined(arguments.decimal(0), |d| Value::number(f(d)))
}

/// Rounding: an Int stays as it is, to the last digit.
pub fn rounded(arguments: &Arguments<'_>, f: fn(f64) -> f64) -> Value {
    match arguments.value(0) {
        Value::Int(i) => Value::Int(*i),
        _ => real(arguments, f),
    }
}

pub fn real2(arguments: &Arguments<'_>, f: fn(f64, f64) -> f64) -> Value {
    defined(arguments.decimal(0).zip(arguments.decimal(1)), |(a, b)| Value::number(f(a, b)))
}

pub fn abs(arguments: &Arguments<'_>) -> Value {
    match arguments.value(0) {
        Value::Int(i) => i.checked_abs().map_or(Value::Undefined, Value::Int),
        value => defined(value.to_decimal(), |d| Value::number(d.abs())),
    }
}

pub fn sign(arguments: &Arguments<'_>) -> Value {
    defined(arguments.decimal(0), |d| Value::Int(if d == 0.0 { 0 } else { d.signum() as i64 }))
}

pub fn bits(arguments: &Arguments<'_>, f: fn(i64, i64) -> i64) -> Value {
    defined(arguments.int(0).zip(arguments.int(1)), |(a, b)| Value::Int(f(a, b)))
}

pub fn bit_not(arguments: &Arguments<'_>) -> Value {
    defined(arguments.int(0), |a| Value::Int(!a))
}

pub fn remainder(arguments: &Arguments<'_>) -> Value {
    match (arguments.value(0), arguments.value(1)) {
        (Value::Int(a), Value::Int(b)) => a.checked_rem(*b).map_or(Value::Undefined, Value::Int),
        _ => real2(arguments, |a, b| a % b),
    }
}

/// Cuts digits off, not through arithmetic, which would turn 1.15 into 1.14.
pub fn trunc(arguments: &Arguments<'_>) -> Value {
    let (Some(value), Value::Int(_) | Value::Decimal(_)) = (arguments.decimal(0), arguments.value(1)) else {
        return Value::Undefined;
    };
    if let Value::Int(whole) = arguments.value(0) {
        return Value::Int(*whole);
    }
    let places = arguments.int(1).unwrap_or(0).clamp(0, 34) as usize;
    let text = value.to_string();
    let end = text.find('.').map_or(text.len(), |dot| (dot + 1 + places).min(text.len()));
    defined(text[..end].parse().ok(), Value::number)
}
