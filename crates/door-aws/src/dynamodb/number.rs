//! DynamoDB's numbers: exact decimals of up to 38 significant digits, from 1E-130 to 9.99…E+125 in magnitude.

use serde::{Deserialize, Serialize};
use std::{cmp::Ordering, fmt};

/// Significant digits that a number may have.
const DIGITS_MAX: usize = 38;
/// Powers of ten of the first digit.
const MAGNITUDE_MAX: i64 = 125;
const MAGNITUDE_MIN: i64 = -130;
/// Moves every magnitude above zero, so that it sorts as text of three digits.
const MAGNITUDE_SHIFT: i64 = 200;

/// Kept in its one normal form (no trailing zero in the coefficient, zero is `+0E0`), so equal numbers are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Number {
    negative: bool,
    coefficient: u128,
    exponent: i16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NumberError {
    #[error("The parameter cannot be converted to a numeric value")]
    NotANumber,
    #[error("Attempting to store more than 38 significant digits in a Number")]
    TooPrecise,
    #[error("Number overflow. Attempting to store a number with magnitude larger than supported range")]
    Overflow,
    #[error("Number underflow. Attempting to store a number with magnitude smaller than supported range")]
    Underflow,
}

impl Number {
    pub const ZERO: Self = Self { negative: false, coefficient: 0, exponent: 0 };

    /// Digits with an optional sign, point and power of ten.
    pub fn parse(text: &str) -> Result<Self, NumberError> {
        let (negative, unsigned) = match text.as_bytes() {
            [b'-', ..] => (true, &text[1..]),
            [b'+', ..] => (false, &text[1..]),
            _ => (false, text),
        };
        let (mantissa, power) = match unsigned.find(['e', 'E']) {
            Some(at) => (&unsigned[..at], parse_power(&unsigned[at + 1..])?),
            None => (unsigned, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = || whole.bytes().chain(fraction.bytes());
        if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
            return Err(NumberError::NotANumber);
        }
        let digits: Vec<u8> = digits().map(|digit| digit - b'0').collect();
        let Some(first) = digits.iter().position(|digit| *digit != 0) else { return Ok(Self::ZERO) };
        let last = digits.iter().rposition(|digit| *digit != 0).unwrap_or(first);
        if last - first >= DIGITS_MAX {
            return Err(NumberError::TooPrecise);
        }
        let coefficient = digits[first..=last].iter().fold(0, |sum, digit| sum * 10 + u128::from(*digit));
        let exponent = power.saturating_add(whole.len() as i64 - 1 - last as i64);
        Self::checked(negative, coefficient, exponent)
    }

    fn checked(negative: bool, mut coefficient: u128, mut exponent: i64) -> Result<Self, NumberError> {
        if coefficient == 0 {
            return Ok(Self::ZERO);
        }
        while coefficient.is_multiple_of(10) {
            coefficient /= 10;
            exponent = exponent.saturating_add(1);
        }
        let digits = count_digits(coefficient);
        if digits > DIGITS_MAX {
            return Err(NumberError::TooPrecise);
        }
        let magnitude = exponent.saturating_add(digits as i64 - 1);
        if magnitude > MAGNITUDE_MAX {
            return Err(NumberError::Overflow);
        }
        if magnitude < MAGNITUDE_MIN {
            return Err(NumberError::Underflow);
        }
        let exponent = i16::try_from(exponent).map_err(|_| NumberError::Underflow)?;
        Ok(Self { negative, coefficient, exponent })
    }

    /// Exact, or an error.
    pub fn plus(self, other: Self) -> Result<Self, NumberError> {
        if self.coefficient == 0 {
            return Ok(other);
        }
        if other.coefficient == 0 {
            return Ok(self);
        }
        // The lowest digits are not zero and do not cancel unless both stand in the same place: a sum that does not
        // fit here has more than 38 significant digits.
        let exponent = self.exponent.min(other.exponent);
        let a = self.scaled(exponent).ok_or(NumberError::TooPrecise)?;
        let b = other.scaled(exponent).ok_or(NumberError::TooPrecise)?;
        let (negative, sum) = if self.negative == other.negative {
            (self.negative, a.checked_add(b).ok_or(NumberError::TooPrecise)?)
        } else if a >= b {
            (self.negative, a - b)
        } else {
            (other.negative, b - a)
        };
        Self::checked(negative, sum, i64::from(exponent))
    }

    pub fn minus(self, other: Self) -> Result<Self, NumberError> {
        self.plus(other.negated())
    }

    fn negated(self) -> Self {
        Self { negative: !self.negative && self.coefficient != 0, ..self }
    }

    fn scaled(self, exponent: i16) -> Option<u128> {
        let by = u32::try_from(self.exponent - exponent).ok()?;
        10u128.checked_pow(by)?.checked_mul(self.coefficient)
    }

    /// Text that sorts bytewise as the numbers do.
    pub fn sortable(self) -> String {
        if self.coefficient == 0 {
            return "1".to_owned();
        }
        let digits = self.coefficient.to_string();
        let magnitude = i64::from(self.exponent) + digits.len() as i64 - 1 + MAGNITUDE_SHIFT;
        if self.negative {
            let mirrored: String = digits.bytes().map(|digit| char::from(b'0' + b'9' - digit)).collect();
            // `~` sorts behind every digit: of two that begin alike the longer is the smaller.
            format!("0{:03}{mirrored}~", 999 - magnitude)
        } else {
            format!("2{magnitude:03}{digits}")
        }
    }

    /// Bytes that DynamoDB counts for it: one for two significant digits, one for the power, one for a minus sign.
    pub fn size(self) -> usize {
        if self.coefficient == 0 {
            1
        } else {
            count_digits(self.coefficient).div_ceil(2) + 1 + usize::from(self.negative)
        }
    }

    /// The whole number of seconds that a time-to-live attribute holds.
    pub fn as_i64(self) -> Option<i64> {
        let magnitude = match self.exponent {
            0.. => self.scaled(0)?,
            below => self.coefficient / 10u128.checked_pow(u32::from(below.unsigned_abs()))?,
        };
        let magnitude = i64::try_from(magnitude).ok()?;
        Some(if self.negative { -magnitude } else { magnitude })
    }
}

fn parse_power(text: &str) -> Result<i64, NumberError> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Err(NumberError::NotANumber);
    }
    // A power of more digits than fit is out of range whatever it says.
    let power = digits.parse().unwrap_or(i64::from(i32::MAX));
    Ok(if text.starts_with('-') { -power } else { power })
}

fn count_digits(coefficient: u128) -> usize {
    coefficient.checked_ilog10().map_or(1, |log| log as usize + 1)
}

impl From<u64> for Number {
    fn from(whole: u64) -> Self {
        Self::checked(false, u128::from(whole), 0).expect("20 digits are in range")
    }
}

impl Ord for Number {
    fn cmp(&self, other: &Self) -> Ordering {
        let sign = |n: &Self| match (n.coefficient, n.negative) {
            (0, _) => 0,
            (_, true) => -1,
            (_, false) => 1,
        };
        let magnitude = |n: &Self| i64::from(n.exponent) + count_digits(n.coefficient) as i64;
        let digits = |n: &Self| n.coefficient * 10u128.pow((DIGITS_MAX - count_digits(n.coefficient)) as u32);
        let of_size = || magnitude(self).cmp(&magnitude(other)).then_with(|| digits(self).cmp(&digits(other)));
        sign(self).cmp(&sign(other)).then_with(|| match sign(self) {
            0 => Ordering::Equal,
            1 => of_size(),
            _ => of_size().reverse(),
        })
    }
}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Without a power of ten, as the service answers.
impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.coefficient.to_string();
        let sign = if self.negative { "-" } else { "" };
        let point = digits.len() as i64 + i64::from(self.exponent);
        match usize::try_from(point) {
            Ok(point) if self.exponent >= 0 => write!(f, "{sign}{digits:0<point$}"),
            Ok(point) if point > 0 => write!(f, "{sign}{}.{}", &digits[..point], &digits[point..]),
            _ => write!(f, "{sign}0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(text: &str) -> Number {
        Number::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn prints_plainly() {
        for (text, printed) in [
            ("0", "0"),
            ("-0", "0"),
            ("0.000", "0"),
            ("007", "7"),
            ("1.50", "1.5"),
            ("1E2", "100"),
            ("+12.5e-3", "0.0125"),
            (".5", "0.5"),
            ("5.", "5"),
            ("-1e-130", &format!("-0.{}1", "0".repeat(129))),
            ("9.9e125", &format!("99{}", "0".repeat(124))),
            (&"9".repeat(38), &"9".repeat(38)),
        ] {
            assert_eq!(number(text).to_string(), printed, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_out_of_range() {
        for text in ["", "-", ".", "1e", "e5", "1.2.3", "abc", "1 ", " 1", "0x1", "NaN", "1e5.5", "--1"] {
            assert_eq!(Number::parse(text), Err(NumberError::NotANumber), "{text:?}");
        }
        assert_eq!(Number::parse(&"1".repeat(39)), Err(NumberError::TooPrecise));
        assert_eq!(Number::parse("1e126"), Err(NumberError::Overflow));
        assert_eq!(Number::parse("1e99999999999999999999"), Err(NumberError::Overflow));
        assert_eq!(Number::parse("1e-131"), Err(NumberError::Underflow));
    }

    #[test]
    fn adds_exactly() {
        let sum = |a: &str, b: &str| number(a).plus(number(b)).map(|sum| sum.to_string());
        assert_eq!(sum("0.1", "0.2").unwrap(), "0.3");
        assert_eq!(sum("1", "-1").unwrap(), "0");
        assert_eq!(sum("1e38", "-1").unwrap(), "9".repeat(38));
        assert_eq!(sum("1e38", "1"), Err(NumberError::TooPrecise));
        assert_eq!(sum("1e125", "1e-130"), Err(NumberError::TooPrecise));
        assert_eq!(sum("9e125", "1e125"), Err(NumberError::Overflow));
        assert_eq!(sum("-5", "3").unwrap(), "-2");
        assert_eq!(number("3").minus(number("5")).unwrap().to_string(), "-2");
    }

    fn any_number() -> impl Strategy<Value = Number> {
        (any::<i64>(), -60i32..60).prop_map(|(coefficient, power)| number(&format!("{coefficient}e{power}")))
    }

    proptest! {
        #[test]
        fn sorts_as_text(a in any_number(), b in any_number()) {
            prop_assert_eq!(a.sortable().cmp(&b.sortable()), a.cmp(&b));
        }

        #[test]
        fn near_numbers_sort_as_text(a in -3000i64..3000, b in -3000i64..3000, power in -3i32..3) {
            let (x, y) = (number(&format!("{a}e{power}")), number(&format!("{b}e{power}")));
            prop_assert_eq!(x.cmp(&y), a.cmp(&b));
            prop_assert_eq!(x.sortable().cmp(&y.sortable()), a.cmp(&b));
        }

        #[test]
        fn whole_numbers_add_as_whole_numbers_do(a in any::<i64>(), b in any::<i64>()) {
            let sum = number(&a.to_string()).plus(number(&b.to_string())).unwrap();
            prop_assert_eq!(sum.to_string(), (i128::from(a) + i128::from(b)).to_string());
        }

        #[test]
        fn printed_is_read_again(a in any_number()) {
            prop_assert_eq!(number(&a.to_string()), a);
        }

        #[test]
        fn any_text_is_taken_or_refused(text in "\\PC{0,40}") {
            let _ = Number::parse(&text);
        }
    }
}
