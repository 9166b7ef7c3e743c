//! Arrays and objects.

use super::{Arguments, defined};
use crate::rules::sql::value::Value;

pub fn get(arguments: &Arguments<'_>) -> Value {
    let index = || arguments.int(1).and_then(|index| usize::try_from(index).ok());
    match arguments.value(0) {
        Value::Array(items) => index().and_then(|index| items.get(index)).cloned().unwrap_or_default(),
        Value::Text(text) => defined(index().and_then(|index| text.chars().nth(index)), Value::text),
        Value::Object(members) => match arguments.value(1) {
            Value::Text(name) => members.get(name).cloned().unwrap_or_default(),
            _ => Value::Undefined,
        },
        _ => Value::Undefined,
    }
}

/// The second where the first is Null or Undefined. Also `nanvl`: no value here is NaN.
pub fn get_or_default(arguments: &Arguments<'_>) -> Value {
    match arguments.value(0) {
        Value::Null | Value::Undefined => arguments.value(1).clone(),
        value => value.clone(),
    }
}

/// `transform('enrichArray', object, array)`: each object of the array with the members of the object added.
pub fn transform(arguments: &Arguments<'_>) -> Value {
    let (Value::Text(mode), Value::Object(added), Value::Array(items)) =
        (arguments.value(0), arguments.value(1), arguments.value(2))
    else {
        return Value::Undefined;
    };
    if mode != "enrichArray" {
        return Value::Undefined;
    }
    let weight = arguments.value(1).weight();
    let mut all = Vec::with_capacity(items.len());
    for item in items {
        arguments.evaluation.spend(weight);
        let Value::Object(members) = item else { return Value::Undefined };
        if arguments.evaluation.exhausted() {
            return Value::Undefined;
        }
        let mut members = members.clone();
        members.extend(added.iter().map(|(name, value)| (name.clone(), value.clone())));
        all.push(Value::Object(members));
    }
    Value::Array(all)
}
