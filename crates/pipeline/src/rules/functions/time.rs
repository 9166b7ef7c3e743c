//! Times by patterns: `parse_time` writes them as Joda-Time's `DateTimeFormat` does, `time_to_epoch` reads them as
//! Java's `DateTimeFormatter` does. Both know the same letters here; one that is not known gives Undefined.

use super::{Arguments, defined};
use crate::rules::sql::value::Value;
use chrono::{DateTime, Datelike, FixedOffset, NaiveDate, NaiveTime, Offset, TimeZone, Timelike};
use chrono_tz::Tz;
use std::iter;

/// Longest pattern: a few fields and some words between them.
const PATTERN_CHARS_MAX: usize = 200;

#[derive(Debug, PartialEq)]
enum Part {
    Literal(String),
    /// A letter and how often it stands there.
    Field(char, usize),
}

/// `'` quotes, `''` is one; other letters are fields, all else stands for itself.
fn parts(pattern: &str) -> Option<Vec<Part>> {
    if pattern.chars().count() > PATTERN_CHARS_MAX {
        return None;
    }
    let mut parts = Vec::new();
    let mut chars = pattern.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' if chars.next_if_eq(&'\'').is_some() => parts.push(Part::Literal("'".to_owned())),
            '\'' => {
                let mut text = String::new();
                loop {
                    match chars.next()? {
                        '\'' if chars.next_if_eq(&'\'').is_some() => text.push('\''),
                        '\'' => break,
                        other => text.push(other),
                    }
                }
                parts.push(Part::Literal(text));
            }
            letter if letter.is_ascii_alphabetic() => {
                let count = 1 + iter::from_fn(|| chars.next_if_eq(&letter)).count();
                parts.push(Part::Field(letter, count));
            }
            other => parts.push(Part::Literal(other.to_string())),
        }
    }
    Some(parts)
}

/// A zone by its name (`Europe/Berlin`, `UTC`), as an offset (`+01:00`, `-0330`, `Z`), or both (`UTC+01:00`).
#[derive(Debug, Clone, Copy)]
enum Zone {
    Named(Tz),
    Offset(FixedOffset),
}

fn zone(text: &str) -> Option<Zone> {
    let rest = ["UTC", "GMT", "UT"].iter().find_map(|name| text.strip_prefix(name)).unwrap_or(text);
    if rest.is_empty() || rest == "Z" {
        return Some(Zone::Offset(FixedOffset::east_opt(0)?));
    }
    match rest.strip_prefix(['+', '-']) {
        Some(digits) => offset(digits, rest.starts_with('-')).map(Zone::Offset),
        None => text.parse().ok().map(Zone::Named),
    }
}

fn offset(digits: &str, negative: bool) -> Option<FixedOffset> {
    let plain = digits.replace(':', "");
    let number: i32 = if plain.len() <= 4 { plain.parse().ok()? } else { return None };
    let (hours, minutes) = if plain.len() <= 2 { (number, 0) } else { (number / 100, number % 100) };
    let seconds = hours * 3_600 + minutes * 60;
    FixedOffset::east_opt(if negative { -seconds } else { seconds }).filter(|_| minutes < 60)
}

/// `parse_time(pattern, milliseconds[, zone])`.
pub fn parse_time(arguments: &Arguments<'_>) -> Value {
    let (Some(pattern), Some(millis)) = (arguments.text(0), arguments.int(1)) else { return Value::Undefined };
    let zone_name = match arguments.values.get(2) {
        None => "UTC".into(),
        Some(_) => match arguments.text(2) {
            Some(name) => name,
            None => return Value::Undefined,
        },
    };
    let (Some(parts), Some(utc)) = (parts(&pattern), DateTime::from_timestamp_millis(millis)) else {
        return Value::Undefined;
    };
    let written = match zone(&zone_name) {
        // By name, so that its summer time and its abbreviation are known.
        _ if &*zone_name == "UTC" => write_all(&parts, &utc.with_timezone(&Tz::UTC)),
        Some(Zone::Named(zone)) => write_all(&parts, &utc.with_timezone(&zone)),
        Some(Zone::Offset(offset)) => write_all(&parts, &utc.with_timezone(&offset)),
        None => None,
    };
    defined(written, Value::Text)
}

fn write_all<Z: TimeZone>(parts: &[Part], time: &DateTime<Z>) -> Option<String>
where
    Z::Offset: std::fmt::Display,
{
    let mut text = String::new();
    for part in parts {
        match part {
            Part::Literal(literal) => text.push_str(literal),
            Part::Field(letter, count) => text.push_str(&write(*letter, *count, time)?),
        }
    }
    Some(text)
}

fn write<Z: TimeZone>(letter: char, count: usize, time: &DateTime<Z>) -> Option<String>
where
    Z::Offset: std::fmt::Display,
{
    let padded = |value: u32| format!("{value:0count$}");
    let as_in = |pattern: &str| time.format(pattern).to_string();
    let year = |year: i32| if count == 2 { format!("{:02}", year.rem_euclid(100)) } else { format!("{year:0count$}") };
    let hour = time.hour();
    Some(match letter {
        'G' => if time.year() > 0 { "AD" } else { "BC" }.to_owned(),
        'y' | 'Y' | 'u' => year(time.year()),
        'x' => year(time.iso_week().year()),
        'w' => padded(time.iso_week().week()),
        'e' => padded(time.weekday().number_from_monday()),
        'E' => as_in(if count >= 4 { "%A" } else { "%a" }),
        'D' => padded(time.ordinal()),
        'M' | 'L' if count >= 4 => as_in("%B"),
        'M' | 'L' if count == 3 => as_in("%b"),
        'M' | 'L' => padded(time.month()),
        'd' => padded(time.day()),
        'a' => as_in("%p"),
        'K' => padded(hour % 12),
        'h' => padded(if hour.is_multiple_of(12) { 12 } else { hour % 12 }),
        'H' => padded(hour),
        'k' => padded(if hour == 0 { 24 } else { hour }),
        'm' => padded(time.minute()),
        's' => padded(time.second()),
        'S' if count <= 9 => format!("{:09}", time.nanosecond() % 1_000_000_000)[..count].to_owned(),
        'z' => as_in("%Z"),
        'Z' => as_in(if count == 1 { "%z" } else { "%:z" }),
        'X' | 'O' if time.offset().fix().local_minus_utc() == 0 => "Z".to_owned(),
        'X' => as_in(if count == 3 { "%:z" } else { "%z" }),
        _ => return None,
    })
}

/// `time_to_epoch(text, pattern)`: milliseconds. Where the text names no zone it is UTC.
pub fn time_to_epoch(arguments: &Arguments<'_>) -> Value {
    let (Some(text), Some(pattern)) = (arguments.text(0), arguments.text(1)) else { return Value::Undefined };
    let millis = parts(&pattern).and_then(|parts| {
        let mut read = Fields::default();
        let rest = parts.iter().try_fold(&*text, |rest, part| read.take(rest, part))?;
        if rest.is_empty() { read.millis() } else { None }
    });
    defined(millis, Value::Int)
}

/// What has been read of a time so far.
#[derive(Debug, Default)]
struct Fields {
    year: Option<i32>,
    month: Option<u32>,
    day: Option<u32>,
    ordinal: Option<u32>,
    hour: Option<u32>,
    /// Of a clock of twelve hours, 0 to 11.
    half_hour: Option<u32>,
    afternoon: bool,
    minute: u32,
    second: u32,
    nanos: u32,
    zone: Option<Zone>,
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

impl Fields {
    /// Reads one part of the pattern; answers what is left of the text.
    fn take<'t>(&mut self, text: &'t str, part: &Part) -> Option<&'t str> {
        let (letter, count) = match part {
            Part::Literal(literal) => return text.strip_prefix(literal.as_str()),
            Part::Field(letter, count) => (*letter, *count),
        };
        match letter {
            'G' => text.strip_prefix("AD"),
            'M' | 'L' if count >= 3 => {
                let (index, rest) = name(text, &MONTHS, count)?;
                self.month = Some(index as u32 + 1);
                Some(rest)
            }
            'E' => name(text, &DAYS, count).map(|(_, rest)| rest),
            'a' => {
                self.afternoon = text.get(..2)?.eq_ignore_ascii_case("PM");
                text.get(2..).filter(|_| self.afternoon || text[..2].eq_ignore_ascii_case("AM"))
            }
            'V' | 'z' | 'Z' | 'X' | 'x' | 'O' => {
                let end =
                    text.find(|c: char| !(c.is_ascii_alphanumeric() || "/_+-:".contains(c))).unwrap_or(text.len());
                self.zone = Some(zone(&text[..end])?);
                Some(&text[end..])
            }
            _ => self.number(text, letter, count),
        }
    }

    fn number<'t>(&mut self, text: &'t str, letter: char, count: usize) -> Option<&'t str> {
        // A single letter takes as many digits as there are; more letters say how many.
        let most = match (letter, count) {
            ('y' | 'u' | 'Y', 2) => 2,
            ('y' | 'u' | 'Y', _) => 9,
            (_, 1) => 9,
            (_, count) => count,
        };
        let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits == 0 || (count > 1 && digits < count) {
            return None;
        }
        let value: u32 = text[..digits].parse().ok()?;
        match letter {
            'y' | 'u' | 'Y' if count == 2 => self.year = Some(2_000 + value as i32),
            'y' | 'u' | 'Y' => self.year = Some(i32::try_from(value).ok()?),
            'M' | 'L' => self.month = Some(value),
            'd' => self.day = Some(value),
            'D' => self.ordinal = Some(value),
            'H' => self.hour = Some(value),
            'k' => self.hour = Some(value % 24),
            'h' | 'K' => self.half_hour = Some(value % 12),
            'm' => self.minute = value,
            's' => self.second = value,
            'S' => self.nanos = value.checked_mul(10u32.checked_pow(9u32.checked_sub(digits as u32)?)?)?,
            'n' => self.nanos = value,
            _ => return None,
        }
        Some(&text[digits..])
    }

    fn millis(&self) -> Option<i64> {
        let date = match self.ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(self.year?, ordinal)?,
            None => NaiveDate::from_ymd_opt(self.year?, self.month?, self.day?)?,
        };
        let half = self.half_hour.map(|hour| hour + if self.afternoon { 12 } else { 0 });
        let hour = self.hour.or(half).unwrap_or(0);
        let time = NaiveTime::from_hms_nano_opt(hour, self.minute, self.second, self.nanos)?;
        let local = date.and_time(time);
        Some(match self.zone {
            None => local.and_utc().timestamp_millis(),
            // When clocks are set back an hour comes twice: the first is meant.
            Some(Zone::Named(zone)) => zone.from_local_datetime(&local).earliest()?.timestamp_millis(),
            Some(Zone::Offset(offset)) => offset.from_local_datetime(&local).earliest()?.timestamp_millis(),
        })
    }
}

/// A name of the list, whole for four letters and more, else its first three.
fn name<'t>(text: &'t str, names: &[&str], count: usize) -> Option<(usize, &'t str)> {
    names.iter().enumerate().find_map(|(index, name)| {
        let name = if count >= 4 { name } else { &name[..3] };
        let head = text.get(..name.len())?;
        head.eq_ignore_ascii_case(name).then(|| (index, &text[name.len()..]))
    })
}
