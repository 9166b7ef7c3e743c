//! Walks a statement's tree over one message.

use super::{
    expr::{Case, CastType, Column, Columns, Expr, Nested, Operator, Query, Statement},
    value::{Object, Value},
};
use crate::rules::functions::{Arguments, Function};
use bytes::Bytes;
use kilter_core::{MessageProperties, Timestamp};
use std::{
    borrow::Cow,
    cell::{Cell, OnceCell, RefCell},
    collections::HashMap,
};

/// Work that one message may be to one rule, in values visited or made (about 30 ms): nested queries over arrays, and
/// texts made of texts, would otherwise cost what their author likes.
pub const STEPS_MAX: u64 = 500_000;
/// Longest text or JSON that an expression may make: a message's largest payload, base64 and all.
pub const TEXT_BYTES_MAX: usize = 256 << 10;

/// Largest payload that a statement may make: a record's of a stream.
pub const RESULT_BYTES_MAX: usize = 1 << 20;

/// What is known of a message.
#[derive(Debug, Clone)]
pub struct Message<'m> {
    /// Without the prefix of Basic Ingest.
    pub topic: &'m str,
    pub payload: &'m Bytes,
    /// `None`: it did not come over MQTT.
    pub client_id: Option<&'m str>,
    /// The certificate's id.
    pub principal: Option<&'m str>,
    pub source_ip: Option<&'m str>,
    pub properties: Option<&'m MessageProperties>,
    pub arrival: Timestamp,
    pub account: &'m str,
    /// Random bits of this message alone: what `newuuid()`, `rand()` and `traceid()` are made of.
    pub seed: u128,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    #[error("the statement needs a JSON payload, and the payload is not JSON: {0}")]
    NotJson(String),
    #[error("the statement took more than {STEPS_MAX} steps on this message: make it simpler, or its arrays shorter")]
    TooMuch,
    #[error("the statement made {0} bytes of this message, and at most {RESULT_BYTES_MAX} are taken: select less")]
    TooLarge(usize),
}

/// What SELECT made of a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// WHERE was not true, or there was nothing to select.
    Nothing,
    Payload(Bytes),
}

/// One message under evaluation, by one rule's statement and the templates of its actions.
pub struct Evaluation<'m> {
    pub message: &'m Message<'m>,
    json: OnceCell<Result<Value, String>>,
    variables: RefCell<HashMap<String, Value>>,
    steps: Cell<u64>,
    /// How many random values were given out.
    pub drawn: Cell<u64>,
    not_json: Cell<bool>,
}

/// What a name may mean: the element at hand, then those around it.
struct Scope<'a> {
    value: &'a Value,
    alias: Option<&'a str>,
    outer: Option<&'a Scope<'a>>,
}

impl<'m> Evaluation<'m> {
    pub fn new(message: &'m Message<'m>) -> Self {
        Self {
            message,
            json: OnceCell::new(),
            variables: RefCell::default(),
            steps: Cell::new(0),
            drawn: Cell::new(0),
            not_json: Cell::new(false),
        }
    }

    fn json(&self) -> Result<&Value, String> {
        let parsed = self.json.get_or_init(|| serde_json::from_slice(self.message.payload).map_err(|e| e.to_string()));
        parsed.as_ref().map_err(Clone::clone)
    }

    /// Takes note of work; whoever does much of it asks [`Self::exhausted`].
    pub fn spend(&self, steps: u64) {
        self.steps.set(self.steps.get().saturating_add(steps));
    }

    pub fn exhausted(&self) -> bool {
        self.steps.get() > STEPS_MAX
    }

    /// Sets the variables, asks WHERE, and selects.
    pub fn run(&self, statement: &Statement) -> Result<Outcome, EvalError> {
        for (name, expr) in &statement.variables {
            let value = self.eval(expr, None).into_owned();
            self.variables.borrow_mut().insert(name.clone(), value);
        }
        let query = &statement.query;
        if query.is_whole() {
            return match query.condition.as_ref().is_none_or(|condition| self.is_true(condition, None)) {
                true => self.finish(Outcome::Payload(self.message.payload.clone())),
                false if self.not_json.get() => Err(EvalError::NotJson(self.json().err().unwrap_or_default())),
                false => self.finish(Outcome::Nothing),
            };
        }
        let selected = match self.json() {
            Ok(json) => self.select_from(query, json, None, None),
            Err(why) => {
                let undefined = Value::Undefined;
                let selected = self.select_one(query, &Scope { value: &undefined, alias: None, outer: None });
                if self.not_json.get() {
                    return Err(EvalError::NotJson(why));
                }
                selected
            }
        };
        let outcome = match selected {
            // An array payload of which no element was taken.
            Value::Array(items) if items.is_empty() && matches!(self.json(), Ok(Value::Array(_))) => Outcome::Nothing,
            other => other.to_json().map_or(Outcome::Nothing, |text| Outcome::Payload(text.into())),
        };
        self.finish(outcome)
    }

    fn finish(&self, outcome: Outcome) -> Result<Outcome, EvalError> {
        match outcome {
            _ if self.exhausted() => Err(EvalError::TooMuch),
            Outcome::Payload(made) if made.len() > RESULT_BYTES_MAX => Err(EvalError::TooLarge(made.len())),
            outcome => Ok(outcome),
        }
    }

    /// An expression on the message, outside of any query: that of a substitution template.
    pub fn value(&self, expr: &Expr) -> Result<Value, EvalError> {
        self.not_json.set(false);
        let value = self.eval(expr, None).into_owned();
        match (self.exhausted(), self.not_json.get()) {
            (true, _) => Err(EvalError::TooMuch),
            (_, true) => Err(EvalError::NotJson(self.json().err().unwrap_or_default())),
            _ => Ok(value),
        }
    }

    fn select_from(&self, query: &Query, source: &Value, alias: Option<&str>, outer: Option<&Scope<'_>>) -> Value {
        let one = |value| self.select_one(query, &Scope { value, alias, outer });
        match source {
            Value::Array(items) => {
                let mut selected = Vec::new();
                for item in items {
                    if self.exhausted() {
                        break;
                    }
                    let value = one(item);
                    if !value.is_undefined() {
                        selected.push(value);
                    }
                }
                Value::Array(selected)
            }
            Value::Undefined => Value::Undefined,
            other => one(other),
        }
    }

    fn select_one(&self, query: &Query, scope: &Scope<'_>) -> Value {
        self.spend(1);
        if query.condition.as_ref().is_some_and(|condition| !self.is_true(condition, Some(scope))) {
            return Value::Undefined;
        }
        let columns = match &query.columns {
            Columns::Value(expr) => return self.eval(expr, Some(scope)).into_owned(),
            Columns::List(columns) => columns,
        };
        // A value that is no object is what `*` alone selects of it.
        if query.is_whole() {
            self.spend(scope.value.weight());
            return scope.value.clone();
        }
        let mut members = Object::new();
        for column in columns {
            match column {
                Column::All => self.add_members(&mut members, Cow::Borrowed(scope.value), true),
                Column::Members(expr) => self.add_members(&mut members, self.eval(expr, Some(scope)), false),
                Column::Item(expr, path) => {
                    let value = self.eval(expr, Some(scope)).into_owned();
                    if !value.is_undefined() {
                        set(&mut members, path, value);
                    }
                }
            }
        }
        Value::Object(members)
    }

    fn add_members(&self, members: &mut Object, from: Cow<'_, Value>, all: bool) {
        self.spend(from.weight());
        if let Value::Object(found) = from.into_owned() {
            members.extend(found);
        } else if all && self.json().is_err() {
            // `*` beside other columns has no meaning for a payload that is not JSON.
            self.not_json.set(true);
        }
    }

    fn is_true(&self, condition: &Expr, scope: Option<&Scope<'_>>) -> bool {
        self.eval(condition, scope).to_bool() == Some(true)
    }

    fn eval<'e>(&'e self, expr: &'e Expr, scope: Option<&'e Scope<'e>>) -> Cow<'e, Value> {
        self.spend(1);
        if self.exhausted() {
            return Cow::Owned(Value::Undefined);
        }
        let all = |exprs: &'e [Expr]| exprs.iter().map(|e| self.eval(e, scope)).collect::<Vec<_>>();
        Cow::Owned(match expr {
            Expr::Literal(value) => return Cow::Borrowed(value),
            Expr::Message => return scope.map_or_else(|| self.message_value(), |scope| Cow::Borrowed(scope.value)),
            Expr::Name(name) => return self.name(name, scope),
            Expr::Variable(name) => {
                let value = self.variables.borrow().get(name).cloned().unwrap_or_default();
                self.spend(value.weight());
                value
            }
            Expr::Member(of, name) => return member(self.eval(of, scope), name),
            Expr::Not(of) => Value::from(self.eval(of, scope).to_bool().map(|b| !b)),
            Expr::Negative(of) => arithmetic(Operator::Subtract, &Value::Int(0), &self.eval(of, scope)),
            Expr::Binary(operator, left, right) => binary(*operator, &self.eval(left, scope), &self.eval(right, scope)),
            Expr::In(item, list) => self.is_in(&self.eval(item, scope), &self.eval(list, scope)),
            Expr::Exists(nested) => Value::Bool(match &*self.eval(nested, scope) {
                Value::Undefined => false,
                Value::Array(items) => !items.is_empty(),
                _ => true,
            }),
            Expr::Case(case) => return self.case(case, scope),
            Expr::Cast(of, to) => cast(&self.eval(of, scope), *to),
            Expr::Call(function, arguments) => match arguments.first() {
                Some(Expr::Message) if function.takes_raw => self.call(function, &[], &all(&arguments[1..]), None),
                _ => self.call(function, &all(arguments), &[], None),
            },
            Expr::Regex(function, regex, arguments) => self.call(function, &all(arguments), &[], Some(regex)),
            Expr::Array(items) => {
                let items = all(items).into_iter().map(Cow::into_owned).filter(|item| !item.is_undefined());
                Value::Array(items.collect())
            }
            Expr::Object(members) => {
                let members = members.iter().map(|(name, e)| (name.clone(), self.eval(e, scope).into_owned()));
                Value::Object(members.filter(|(_, value)| !value.is_undefined()).collect())
            }
            Expr::Nested(nested) => self.nested(nested, scope),
        })
    }

    fn call(
        &self,
        function: &Function,
        arguments: &[Cow<'_, Value>],
        after_raw: &[Cow<'_, Value>],
        regex: Option<&regex::Regex>,
    ) -> Value {
        let raw = arguments.is_empty() && !after_raw.is_empty();
        let values = if raw { after_raw } else { arguments };
        self.spend(values.iter().map(|value| value.weight()).sum());
        let made = (function.run)(&Arguments { values, raw, regex, evaluation: self });
        self.spend(made.weight());
        match &made {
            Value::Text(text) if text.len() > TEXT_BYTES_MAX => Value::Undefined,
            _ => made,
        }
    }

    fn message_value(&self) -> Cow<'_, Value> {
        match self.json() {
            Ok(json) => Cow::Borrowed(json),
            Err(_) => {
                self.not_json.set(true);
                Cow::Owned(Value::Undefined)
            }
        }
    }

    fn name<'e>(&'e self, name: &str, scope: Option<&'e Scope<'e>>) -> Cow<'e, Value> {
        let mut around = scope;
        while let Some(scope) = around {
            if scope.alias == Some(name) {
                return Cow::Borrowed(scope.value);
            }
            if let Some(value) = scope.value.member(name) {
                return Cow::Borrowed(value);
            }
            around = scope.outer;
        }
        if scope.is_some() && self.json().is_ok() {
            return match self.json() {
                Ok(Value::Object(members)) => members.get(name).map_or(Cow::Owned(Value::Undefined), Cow::Borrowed),
                _ => Cow::Owned(Value::Undefined),
            };
        }
        match self.message_value() {
            Cow::Borrowed(json) => json.member(name).map_or(Cow::Owned(Value::Undefined), Cow::Borrowed),
            owned => owned,
        }
    }

    fn is_in(&self, item: &Value, list: &Value) -> Value {
        self.spend(list.weight());
        match (item, list) {
            (Value::Undefined, _) | (_, Value::Undefined) => Value::Undefined,
            (item, Value::Array(items)) => Value::Bool(items.iter().any(|known| known.equals(item) == Some(true))),
            (item, only) => Value::from(item.equals(only)),
        }
    }

    fn case<'e>(&'e self, case: &'e Case, scope: Option<&'e Scope<'e>>) -> Cow<'e, Value> {
        let operand = case.operand.as_ref().map(|operand| self.eval(operand, scope));
        if operand.as_ref().is_some_and(|value| value.is_undefined()) {
            return Cow::Owned(Value::Undefined);
        }
        for (when, then) in &case.branches {
            let found = match &operand {
                Some(operand) => operand.equals(&self.eval(when, scope)) == Some(true),
                None => self.is_true(when, scope),
            };
            if found {
                return self.eval(then, scope);
            }
        }
        case.otherwise.as_ref().map_or(Cow::Owned(Value::Undefined), |otherwise| self.eval(otherwise, scope))
    }

    fn nested(&self, nested: &Nested, scope: Option<&Scope<'_>>) -> Value {
        let source = self.eval(&nested.source, scope);
        self.select_from(&nested.query, &source, nested.alias.as_deref(), scope)
    }
}

fn member<'e>(of: Cow<'e, Value>, name: &str) -> Cow<'e, Value> {
    match of {
        Cow::Borrowed(value) => value.member(name).map_or(Cow::Owned(Value::Undefined), Cow::Borrowed),
        Cow::Owned(Value::Object(mut members)) => Cow::Owned(members.swap_remove(name).unwrap_or_default()),
        Cow::Owned(_) => Cow::Owned(Value::Undefined),
    }
}

/// Puts a value below a path of names, making the objects on the way.
fn set(members: &mut Object, path: &[String], value: Value) {
    let Some((first, rest)) = path.split_first() else { return };
    if rest.is_empty() {
        members.insert(first.clone(), value);
        return;
    }
    let inner = members.entry(first.clone()).or_insert_with(|| Value::Object(Object::new()));
    if !matches!(inner, Value::Object(_)) {
        *inner = Value::Object(Object::new());
    }
    if let Value::Object(inner) = inner {
        set(inner, rest, value);
    }
}

fn binary(operator: Operator, left: &Value, right: &Value) -> Value {
    let both = |combine: fn(bool, bool) -> bool| {
        Value::from(left.to_bool().zip(right.to_bool()).map(|(left, right)| combine(left, right)))
    };
    let ordered = |holds: fn(f64, f64) -> bool| match (left, right) {
        // Not through doubles, which cannot tell large neighbours apart.
        (Value::Int(a), Value::Int(b)) => Value::Bool(holds(a.cmp(b) as i8 as f64, 0.0)),
        _ => Value::from(left.to_decimal().zip(right.to_decimal()).map(|(a, b)| holds(a, b))),
    };
    match operator {
        Operator::Or => both(|a, b| a || b),
        Operator::And => both(|a, b| a && b),
        Operator::Equal => Value::from(left.equals(right)),
        Operator::NotEqual => Value::from(left.equals(right).map(|equal| !equal)),
        Operator::Less => ordered(|a, b| a < b),
        Operator::LessOrEqual => ordered(|a, b| a <= b),
        Operator::Greater => ordered(|a, b| a > b),
        Operator::GreaterOrEqual => ordered(|a, b| a >= b),
        Operator::Add if matches!(left, Value::Text(_)) || matches!(right, Value::Text(_)) => {
            match (left.to_text(), right.to_text()) {
                (Some(left), Some(right)) if left.len() + right.len() <= TEXT_BYTES_MAX => Value::Text(left + &right),
                _ => Value::Undefined,
            }
        }
        _ => arithmetic(operator, left, right),
    }
}

pub(super) fn arithmetic(operator: Operator, left: &Value, right: &Value) -> Value {
    if let (Value::Int(a), Value::Int(b)) = (left, right) {
        let whole = match operator {
            Operator::Add => a.checked_add(*b),
            Operator::Subtract => a.checked_sub(*b),
            Operator::Multiply => a.checked_mul(*b),
            Operator::Divide => a.checked_div(*b),
            _ => a.checked_rem(*b),
        };
        if let Some(whole) = whole {
            return Value::Int(whole);
        }
    }
    let Some((a, b)) = left.to_decimal().zip(right.to_decimal()) else { return Value::Undefined };
    Value::number(match operator {
        Operator::Add => a + b,
        Operator::Subtract => a - b,
        Operator::Multiply => a * b,
        Operator::Divide => a / b,
        _ => a % b,
    })
}

fn cast(value: &Value, to: CastType) -> Value {
    let number = match value {
        Value::Bool(b) => Some(f64::from(u8::from(*b))),
        other => other.to_decimal(),
    };
    match (to, value) {
        (CastType::Text, value) => value.to_text().map_or(Value::Undefined, Value::Text),
        (CastType::Int | CastType::Decimal, Value::Int(i)) => Value::Int(*i),
        (CastType::Int, _) => number.map_or(Value::Undefined, |d| Value::number(d.floor())),
        (CastType::Decimal, _) => number.map_or(Value::Undefined, Value::number),
        (CastType::Bool, Value::Int(_) | Value::Decimal(_)) => Value::from(number.map(|d| d != 0.0)),
        (CastType::Bool, value) => Value::from(value.to_bool()),
    }
}
