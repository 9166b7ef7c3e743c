//! The functions of AWS IoT SQL: one table, one file per kind. Each follows the section of its name in the
//! developer guide ("Functions"); `docs/guide/rules.md` lists them for operators, and a test compares the two.

mod collection;
mod encoding;
mod math;
mod message;
mod regexp;
#[cfg(test)]
mod tests;
mod text;
mod time;

pub use message::{trace_id_of, uuid};

use super::sql::{Evaluation, Expr, value::Value};
use regex::{Regex, RegexBuilder};
use std::borrow::Cow;

/// Memory of a compiled regular expression: patterns that need more are built to cost, not to match.
const REGEX_BYTES_MAX: usize = 256 << 10;

#[derive(Debug)]
pub struct Function {
    /// In lower case; a statement may write it in any.
    pub name: &'static str,
    /// Fewest and most.
    pub arguments: (usize, usize),
    /// Its second argument is a regular expression.
    pub takes_regex: bool,
    /// `*` as its first argument stands for the payload's bytes, JSON or not.
    pub takes_raw: bool,
    pub run: fn(&Arguments<'_>) -> Value,
}

/// What a function is called with.
pub struct Arguments<'a> {
    /// Without the first where that is the raw payload.
    pub values: &'a [Cow<'a, Value>],
    pub raw: bool,
    /// The second argument, where it was known beforehand.
    pub regex: Option<&'a Regex>,
    pub evaluation: &'a Evaluation<'a>,
}

impl Arguments<'_> {
    fn value(&self, index: usize) -> &Value {
        self.values.get(index).map_or(&Value::Undefined, |value| value)
    }
    fn decimal(&self, index: usize) -> Option<f64> {
        self.value(index).to_decimal()
    }
    fn int(&self, index: usize) -> Option<i64> {
        self.value(index).to_int()
    }
    fn text(&self, index: usize) -> Option<Cow<'_, str>> {
        match self.value(index) {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            other => other.to_text().map(Cow::Owned),
        }
    }
}

/// `None` becomes Undefined.
fn defined<T>(value: Option<T>, wrap: impl Fn(T) -> Value) -> Value {
    value.map_or(Value::Undefined, wrap)
}

const fn function(name: &'static str, least: usize, most: usize, run: fn(&Arguments<'_>) -> Value) -> Function {
    Function { name, arguments: (least, most), takes_regex: false, takes_raw: false, run }
}

const fn with_regex(name: &'static str, arguments: usize, run: fn(&Arguments<'_>) -> Value) -> Function {
    Function { name, arguments: (arguments, arguments), takes_regex: true, takes_raw: false, run }
}

const fn with_raw(name: &'static str, arguments: usize, run: fn(&Arguments<'_>) -> Value) -> Function {
    Function { name, arguments: (arguments, arguments), takes_regex: false, takes_raw: true, run }
}

pub static FUNCTIONS: &[Function] = &[
    function("abs", 1, 1, math::abs),
    function("accountid", 0, 0, message::account_id),
    function("acos", 1, 1, |a| math::real(a, f64::acos)),
    function("asin", 1, 1, |a| math::real(a, f64::asin)),
    function("atan", 1, 1, |a| math::real(a, f64::atan)),
    function("atan2", 2, 2, |a| math::real2(a, f64::atan2)),
    function("bitand", 2, 2, |a| math::bits(a, |a, b| a & b)),
    function("bitnot", 1, 1, math::bit_not),
    function("bitor", 2, 2, |a| math::bits(a, |a, b| a | b)),
    function("bitxor", 2, 2, |a| math::bits(a, |a, b| a ^ b)),
    function("ceil", 1, 1, |a| math::rounded(a, f64::ceil)),
    function("chr", 1, 1, text::chr),
    function("clientid", 0, 0, message::client_id),
    function("concat", 0, usize::MAX, text::concat),
    function("cos", 1, 1, |a| math::real(a, f64::cos)),
    function("cosh", 1, 1, |a| math::real(a, f64::cosh)),
    with_raw("decode", 2, encoding::decode),
    with_raw("encode", 2, encoding::encode),
    function("endswith", 2, 2, |a| text::compare(a, |text, end| text.ends_with(end))),
    function("exp", 1, 1, |a| math::real(a, f64::exp)),
    function("floor", 1, 1, |a| math::rounded(a, f64::floor)),
    function("get", 2, 2, collection::get),
    function("get_mqtt_property", 1, 1, message::mqtt_property),
    function("get_or_default", 2, 2, collection::get_or_default),
    function("get_user_properties", 1, 1, message::user_properties),
    function("indexof", 2, 2, text::index_of),
    function("isnull", 1, 1, |a| Value::Bool(*a.value(0) == Value::Null)),
    function("isundefined", 1, 1, |a| Value::Bool(a.value(0).is_undefined())),
    function("length", 1, 1, |a| text::measure(a, |text| text.chars().count())),
    function("ln", 1, 1, |a| math::real(a, f64::ln)),
    function("log", 1, 1, |a| math::real(a, f64::log10)),
    function("lower", 1, 1, |a| text::change(a, |text| text.to_lowercase())),
    function("lpad", 2, 2, |a| text::pad(a, |text, spaces| spaces + text)),
    function("ltrim", 1, 1, |a| text::change(a, |text| text.trim_start().to_owned())),
    function("md2", 1, 1, |a| encoding::hash(a, encoding::md2)),
    function("md5", 1, 1, |a| encoding::hash(a, encoding::md5)),
    function("mod", 2, 2, math::remainder),
    function("nanvl", 2, 2, collection::get_or_default),
    function("newuuid", 0, 0, message::new_uuid),
    function("numbytes", 1, 1, |a| text::measure(a, str::len)),
    function("parse_time", 2, 3, time::parse_time),
    function("power", 2, 2, |a| math::real2(a, f64::powf)),
    function("principal", 0, 0, message::principal),
    function("rand", 0, 0, message::rand),
    with_regex("regexp_matches", 2, regexp::matches),
    with_regex("regexp_replace", 3, regexp::replace),
    with_regex("regexp_substr", 2, regexp::substr),
    function("remainder", 2, 2, math::remainder),
    function("replace", 3, 3, text::replace),
    function("round", 1, 1, |a| math::rounded(a, f64::round)),
    function("rpad", 2, 2, |a| text::pad(a, |text, spaces| text.to_owned() + &spaces)),
    function("rtrim", 1, 1, |a| text::change(a, |text| text.trim_end().to_owned())),
    function("sha1", 1, 1, |a| encoding::hash(a, encoding::sha1)),
    function("sha224", 1, 1, |a| encoding::hash(a, encoding::sha224)),
    function("sha256", 1, 1, |a| encoding::hash(a, encoding::sha256)),
    function("sha384", 1, 1, |a| encoding::hash(a, encoding::sha384)),
    function("sha512", 1, 1, |a| encoding::hash(a, encoding::sha512)),
    function("sign", 1, 1, math::sign),
    function("sin", 1, 1, |a| math::real(a, f64::sin)),
    function("sinh", 1, 1, |a| math::real(a, f64::sinh)),
    function("sourceip", 0, 0, message::source_ip),
    function("sql_version", 0, 0, |_| Value::text("2016-03-23")),
    function("sqrt", 1, 1, |a| math::real(a, f64::sqrt)),
    function("startswith", 2, 2, |a| text::compare(a, |text, start| text.starts_with(start))),
    function("substring", 2, 3, text::substring),
    function("tan", 1, 1, |a| math::real(a, f64::tan)),
    function("tanh", 1, 1, |a| math::real(a, f64::tanh)),
    function("time_to_epoch", 2, 2, time::time_to_epoch),
    function("timestamp", 0, 0, message::timestamp),
    function("topic", 0, 1, message::topic),
    function("traceid", 0, 0, message::trace_id),
    function("transform", 3, 3, collection::transform),
    function("trim", 1, 1, |a| text::change(a, |text| text.trim().to_owned())),
    function("trunc", 2, 2, math::trunc),
    function("upper", 1, 1, |a| text::change(a, |text| text.to_uppercase())),
];

/// Functions of AWS that ask other services while a message waits: a rule that has them is refused.
const EXTERNAL: [&str; 6] =
    ["aws_lambda", "get_dynamodb", "get_registry_data", "get_secret", "get_thing_shadow", "machinelearning_predict"];

/// By its name in lower case.
pub fn find(name: &str) -> Result<&'static Function, String> {
    if let Ok(index) = FUNCTIONS.binary_search_by(|function| function.name.cmp(name)) {
        return Ok(&FUNCTIONS[index]);
    }
    Err(match EXTERNAL.contains(&name) {
        true => format!("{name}() asks another service for each message, which rules here do not do"),
        false => format!("there is no function {name}()"),
    })
}

/// Why a call that AWS knows is refused here.
pub fn not_here(function: &Function, arguments: &[Expr]) -> Option<String> {
    match (function.name, arguments.get(1)) {
        ("decode", Some(Expr::Literal(Value::Text(scheme)))) if scheme.eq_ignore_ascii_case("proto") => Some(
            "decode(…, 'proto') reads its description of the message from S3, which rules here do not do".to_owned(),
        ),
        _ => None,
    }
}

pub fn regex(pattern: &str) -> Option<Regex> {
    RegexBuilder::new(pattern).size_limit(REGEX_BYTES_MAX).dfa_size_limit(REGEX_BYTES_MAX).build().ok()
}
