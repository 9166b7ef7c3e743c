//! Conditions: an operator, a key and values. All tests of a statement must hold; of a test's values one must.
//!
//! Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Conditions with multiple context keys
//! or values". A key that has no value fails a test, but for the negated operators, `…IfExists` and `ForAllValues`.

use super::{PolicyError, Request, context::Key, pattern::Pattern};
use kilter_core::Timestamp;
use std::net::IpAddr;

#[derive(Debug, Clone, PartialEq)]
pub struct Test {
    key: Key,
    set: Option<Set>,
    if_exists: bool,
    negated: bool,
    values: Values,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Set {
    Any,
    All,
}

#[derive(Debug, Clone, PartialEq)]
enum Values {
    Text(Vec<Pattern>),
    /// In lower case, with the request's value put in lower case.
    TextNoCase(Vec<Pattern>),
    Number(Order, Vec<f64>),
    Date(Order, Vec<Timestamp>),
    Bool(Vec<bool>),
    Address(Vec<Net>),
    /// `true`: there must be no value.
    Null(bool),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Order {
    fn holds<T: PartialOrd>(self, left: &T, right: &T) -> bool {
        match self {
            Self::Equal => left == right,
            Self::Less => left < right,
            Self::LessOrEqual => left <= right,
            Self::Greater => left > right,
            Self::GreaterOrEqual => left >= right,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    bits: u8,
}

impl Net {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Self { address, bits })
    }

    fn contains(self, other: IpAddr) -> bool {
        let differ = match (self.address, other.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => u128::from(own.to_bits() ^ other.to_bits()) << 96,
            (IpAddr::V6(own), IpAddr::V6(other)) => own.to_bits() ^ other.to_bits(),
            _ => return false,
        };
        differ.leading_zeros() >= u32::from(self.bits)
    }
}

/// Seconds since the epoch, RFC 3339, or a date alone.
fn moment(text: &str) -> Option<Timestamp> {
    if let Ok(seconds) = text.parse::<i64>() {
        return Some(Timestamp::from_seconds(seconds));
    }
    Timestamp::parse_rfc3339(text).or_else(|| Timestamp::parse_rfc3339(&format!("{text}T00:00:00Z")))
}

fn all<T>(values: &[String], read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    values.iter().map(|value| read(value)).collect()
}

/// A pattern in lower case; the names of its variables keep theirs.
fn lower(text: &str) -> String {
    let mut made = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(start) = rest.find("${") {
        let end = rest[start..].find('}').map_or(rest.len(), |end| start + end + 1);
        made.push_str(&rest[..start].to_lowercase());
        made.push_str(&rest[start..end]);
        rest = &rest[end..];
    }
    made + &rest.to_lowercase()
}

impl Test {
    pub fn parse(operator: &str, key: &str, values: &[String]) -> Result<Self, PolicyError> {
        let refuse = |why| PolicyError::Condition { operator: operator.to_owned(), key: key.to_owned(), why };
        let known = Key::parse(key).ok_or_else(|| refuse("the key is none that is known here"))?;
        if values.is_empty() {
            return Err(refuse("it has no value"));
        }
        let (set, rest) = match operator.split_once(':') {
            Some(("ForAnyValue", rest)) => (Some(Set::Any), rest),
            Some(("ForAllValues", rest)) => (Some(Set::All), rest),
            Some(_) => return Err(refuse("only ForAnyValue and ForAllValues stand before an operator")),
            None => (None, operator),
        };
        let (name, if_exists) = rest.strip_suffix("IfExists").map_or((rest, false), |name| (name, true));
        let patterns = |wild: bool| -> Result<Vec<Pattern>, PolicyError> {
            values.iter().map(|value| if wild { Pattern::parse(value) } else { Pattern::exact(value) }).collect()
        };
        let number = |order| {
            let finite = |text: &str| text.parse::<f64>().ok().filter(|number| number.is_finite());
            all(values, finite)
                .map(|values| Values::Number(order, values))
                .ok_or_else(|| refuse("a value is not a number"))
        };
        let date = |order| {
            let why = "a value is neither RFC 3339 nor seconds since 1970";
            all(values, moment).map(|values| Values::Date(order, values)).ok_or_else(|| refuse(why))
        };
        let truth = || all(values, |text| text.parse().ok()).ok_or_else(|| refuse("a value is neither true nor false"));
        let address = || {
            let why = "a value is neither an address nor a network such as 10.0.0.0/8";
            all(values, Net::parse).map(Values::Address).ok_or_else(|| refuse(why))
        };
        let no_case = || {
            let lower: Result<Vec<Pattern>, PolicyError> = values.iter().map(|v| Pattern::exact(&lower(v))).collect();
            lower.map(Values::TextNoCase)
        };
        let (negated, values) = match name {
            "StringEquals" => (false, Values::Text(patterns(false)?)),
            "StringNotEquals" => (true, Values::Text(patterns(false)?)),
            "StringEqualsIgnoreCase" => (false, no_case()?),
            "StringNotEqualsIgnoreCase" => (true, no_case()?),
            "StringLike" | "ArnEquals" | "ArnLike" => (false, Values::Text(patterns(true)?)),
            "StringNotLike" | "ArnNotEquals" | "ArnNotLike" => (true, Values::Text(patterns(true)?)),
            "NumericEquals" => (false, number(Order::Equal)?),
            "NumericNotEquals" => (true, number(Order::Equal)?),
            "NumericLessThan" => (false, number(Order::Less)?),
            "NumericLessThanEquals" => (false, number(Order::LessOrEqual)?),
            "NumericGreaterThan" => (false, number(Order::Greater)?),
            "NumericGreaterThanEquals" => (false, number(Order::GreaterOrEqual)?),
            "DateEquals" => (false, date(Order::Equal)?),
            "DateNotEquals" => (true, date(Order::Equal)?),
            "DateLessThan" => (false, date(Order::Less)?),
            "DateLessThanEquals" => (false, date(Order::LessOrEqual)?),
            "DateGreaterThan" => (false, date(Order::Greater)?),
            "DateGreaterThanEquals" => (false, date(Order::GreaterOrEqual)?),
            "Bool" => (false, Values::Bool(truth()?)),
            "IpAddress" => (false, address()?),
            "NotIpAddress" => (true, address()?),
            "Null" if if_exists || set.is_some() => return Err(refuse("Null stands alone")),
            "Null" => match truth()?.as_slice() {
                [only] => (false, Values::Null(*only)),
                _ => return Err(refuse("Null has one value")),
            },
            _ => return Err(refuse("the operator is none that is known here")),
        };
        Ok(Self { key: known, set, if_exists, negated, values })
    }

    /// `allow`: whether the statement allows. A negated test on a variable without a value grants nothing.
    pub fn holds(&self, request: &Request<'_>, allow: bool) -> bool {
        let mut found = self.key.values(request);
        if let Values::Null(absent) = self.values {
            return found.is_empty() == absent;
        }
        if self.negated && allow && !self.resolves(request) {
            return false;
        }
        if found.is_empty() {
            return match self.set {
                Some(Set::All) => true,
                Some(Set::Any) => self.if_exists,
                None => self.if_exists || self.negated,
            };
        }
        if self.set.is_none() {
            found.truncate(1);
        }
        let mut single = found.iter().map(|value| self.matches(value, request) != self.negated);
        match self.set {
            Some(Set::All) => single.all(|holds| holds),
            Some(Set::Any) | None => single.any(|holds| holds),
        }
    }

    pub fn asks_certificate(&self) -> bool {
        let patterns = match &self.values {
            Values::Text(patterns) | Values::TextNoCase(patterns) => patterns.as_slice(),
            _ => &[],
        };
        self.key.asks_certificate() || patterns.iter().any(Pattern::asks_certificate)
    }

    fn resolves(&self, request: &Request<'_>) -> bool {
        match &self.values {
            Values::Text(patterns) | Values::TextNoCase(patterns) => patterns.iter().all(|p| p.resolves(request)),
            _ => true,
        }
    }

    /// Whether one of the test's values fits; a value of another type fits none.
    fn matches(&self, value: &str, request: &Request<'_>) -> bool {
        match &self.values {
            Values::Text(patterns) => patterns.iter().any(|pattern| pattern.matches(value, Some(request))),
            Values::TextNoCase(patterns) => {
                let value = value.to_lowercase();
                patterns.iter().any(|pattern| pattern.matches_lower(&value, request))
            }
            Values::Number(order, wanted) => {
                value.parse::<f64>().is_ok_and(|value| wanted.iter().any(|wanted| order.holds(&value, wanted)))
            }
            Values::Date(order, wanted) => {
                moment(value).is_some_and(|value| wanted.iter().any(|wanted| order.holds(&value, wanted)))
            }
            Values::Bool(wanted) => value.parse::<bool>().is_ok_and(|value| wanted.contains(&value)),
            Values::Address(nets) => {
                value.parse::<IpAddr>().is_ok_and(|value| nets.iter().any(|net| net.contains(value)))
            }
            Values::Null(_) => false,
        }
    }
}
