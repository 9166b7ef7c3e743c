//! From a telemetry payload to readings (contract §4). A payload that cannot be used whole is refused whole, with
//! a reason its owner can act on; every outcome is listed in `docs/guide/input.md`.

mod samples;

use kilter_core::{Reading, Timestamp};
use kilter_detect::vibration::{WAVEFORMS_MAX, Waveform};
use samples::Samples;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Objects may nest this deep; deeper ones are a mistake, and each level costs a name.
pub const DEPTH_MAX: usize = 16;
/// Readings in one payload: with more, one message would hold a commit up for long.
pub const BATCH_READINGS_MAX: usize = 1_000;
/// An event time this far ahead of arrival is a wrong clock: kept, it would make all that follows late.
pub const AHEAD_SECONDS_MAX: i64 = 600;
/// 2000-01-01T00:00:00Z. Before it a device's clock is not set (it counts from its own start).
pub const EVENT_TIME_MIN: Timestamp = Timestamp::from_seconds(946_684_800);
/// A reason is for reading, and it quotes input.
const REASON_CHARS_MAX: usize = 300;

/// A reading, and the waveforms that came with it, sorted by name, each name once.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    pub reading: Reading,
    pub waveforms: Vec<(Box<str>, Waveform)>,
}

impl From<Reading> for Decoded {
    fn from(reading: Reading) -> Self {
        Self { reading, waveforms: Vec::new() }
    }
}

/// Decodes a payload that arrived at `arrival`. `Err` is the reason for its rejection.
pub fn decode(payload: &[u8], arrival: Timestamp) -> Result<Vec<Decoded>, Box<str>> {
    if payload.is_empty() {
        return Err("the payload is empty".into());
    }
    let text = std::str::from_utf8(payload).map_err(|e| shorten(&format!("the payload is not UTF-8: {e}")))?;
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let flats = Payload
        .deserialize(&mut deserializer)
        .and_then(|flats| deserializer.end().map(|()| flats))
        .map_err(|e| shorten(&format!("the payload is not usable JSON: {e}")))?;
    let is_batch = text.trim_start().starts_with('[');
    if flats.is_empty() {
        return Err("the batch is empty".into());
    }
    flats
        .into_iter()
        .enumerate()
        .map(|(index, flat)| {
            flat.into_reading(arrival)
                .map_err(|why| if is_batch { shorten(&format!("element {index}: {why}")) } else { shorten(&why) })
        })
        .collect()
}

fn shorten(reason: &str) -> Box<str> {
    reason.chars().take(REASON_CHARS_MAX).collect::<String>().into()
}

/// One object, flattened; names not yet sorted.
#[derive(Default)]
struct Flat {
    signals: Vec<(Box<str>, f64)>,
    /// By name, with `rate_hz`.
    waveforms: Vec<(Box<str>, f64, Samples)>,
    /// By precedence: `ts`, `timestamp`, `time`.
    times: [Option<Result<Timestamp, String>>; 3],
}

pub const MILLI_NANOS: i64 = 1_000_000;

/// As a rule's `timestamp()` says it.
pub fn to_millis(time: Timestamp) -> Timestamp {
    Timestamp::from_nanos(time.as_nanos().div_euclid(MILLI_NANOS) * MILLI_NANOS)
}

/// The payload's own time. A rule may have added the time at which it ran, in milliseconds, under one of the names
/// (`timestamp() AS ts`): where there is another, that one is the payload's.
fn event_time(times: [Option<Result<Timestamp, String>>; 3], arrival: Timestamp) -> Result<Timestamp, String> {
    let mut given = times.into_iter().flatten();
    match given.next() {
        None => Ok(arrival),
        Some(Ok(time)) if time == to_millis(arrival) => given.next().unwrap_or(Ok(time)),
        Some(time) => time,
    }
}

/// In an object with this array of numbers and a `rate_hz`, the array is a waveform.
const SAMPLES_FIELD: &str = "samples";
const TIME_FIELDS: [&str; 3] = ["ts", "timestamp", "time"];

impl Flat {
    fn into_reading(mut self, arrival: Timestamp) -> Result<Decoded, String> {
        let event_time = event_time(self.times, arrival)?;
        if event_time > arrival.plus_seconds(AHEAD_SECONDS_MAX) {
            return Err(format!(
                "its time {event_time} is more than {AHEAD_SECONDS_MAX} s ahead of its arrival at {arrival}: check the device's clock"
            ));
        }
        if event_time < EVENT_TIME_MIN {
            return Err(format!("its time {event_time} is before {EVENT_TIME_MIN}: the device's clock is not set"));
        }
        if self.signals.is_empty() && self.waveforms.is_empty() {
            return Err("it has no numeric field".to_owned());
        }
        let waveforms = waveforms(self.waveforms)?;
        // Stable, so that of equal names the last one given stands last and wins.
        self.signals.sort_by(|a, b| a.0.cmp(&b.0));
        let mut signals: Vec<(Box<str>, f64)> = Vec::with_capacity(self.signals.len());
        for (name, value) in self.signals {
            match signals.last_mut() {
                Some(last) if last.0 == name => last.1 = value,
                _ => signals.push((name, value)),
            }
        }
        Ok(Decoded { reading: Reading { event_time, signals }, waveforms })
    }

    /// An object had samples. Where it had a `rate_hz` as well, among the signals from `began` on, it is a waveform.
    fn sampled(&mut self, name: &str, began: usize, samples: Samples) {
        let is_rate = |signal: &str| signal.strip_prefix(name) == Some(".rate_hz");
        let (rates, others): (Vec<_>, Vec<_>) = self.signals.drain(began..).partition(|(signal, _)| is_rate(signal));
        self.signals.extend(others);
        if let Some((_, rate_hz)) = rates.last() {
            self.waveforms.push((name.into(), *rate_hz, samples));
        }
    }
}

/// Of equal names the last one counts.
fn waveforms(mut sampled: Vec<(Box<str>, f64, Samples)>) -> Result<Vec<(Box<str>, Waveform)>, String> {
    sampled.reverse();
    sampled.sort_by(|a, b| a.0.cmp(&b.0));
    sampled.dedup_by(|later, kept| later.0 == kept.0);
    if sampled.len() > WAVEFORMS_MAX {
        return Err(format!("it has {} waveforms, and may have {WAVEFORMS_MAX}", sampled.len()));
    }
    let made = sampled.into_iter().map(|(name, rate_hz, samples)| match samples.into_waveform(rate_hz) {
        Ok(waveform) => Ok((name, waveform)),
        Err(why) => Err(format!("its waveform {name} {why}")),
    });
    made.collect()
}

/// Epoch seconds, milliseconds or nanoseconds, told apart by size: the three ranges do not meet for any date
/// between 1973 and 5138.
fn epoch(value: f64, exact: Option<i64>) -> Result<Timestamp, String> {
    let size = value.abs();
    let scale: i64 = match size {
        s if s < 1e11 => 1_000_000_000,
        s if s < 1e14 => 1_000_000,
        s if (1e17..9.2e18).contains(&s) => 1,
        _ => return Err(format!("its time {value} is neither epoch seconds, milliseconds nor nanoseconds")),
    };
    Ok(Timestamp::from_nanos(match exact {
        Some(whole) => whole.saturating_mul(scale),
        // Whole and fraction apart: their product together would be rounded to 256 ns.
        None => (value.trunc() as i64).saturating_mul(scale).saturating_add((value.fract() * scale as f64) as i64),
    }))
}

fn time_from_text(text: &str) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Ok(whole) = text.parse::<i64>() {
        return epoch(whole as f64, Some(whole));
    }
    if let Some(time) = Timestamp::parse_rfc3339(text) {
        return Ok(time);
    }
    match text.parse::<f64>() {
        Ok(value) if value.is_finite() => epoch(value, None),
        _ => Err(format!("its time {text:?} is neither an epoch number nor RFC 3339")),
    }
}

/// A payload: one object, or an array of them.
struct Payload;

impl<'de> DeserializeSeed<'de> for Payload {
    type Value = Vec<Flat>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<Flat>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Payload {
    type Value = Vec<Flat>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object or an array of objects")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Vec<Flat>, A::Error> {
        let mut flat = Flat::default();
        Object { flat: &mut flat, prefix: &mut String::new(), depth: 1 }.visit_map(map)?;
        Ok(vec![flat])
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<Flat>, A::Error> {
        let mut flats = Vec::new();
        while let Some(flat) = seq.next_element_seed(Element)? {
            if flats.len() == BATCH_READINGS_MAX {
                return Err(A::Error::custom(format!("a batch may have at most {BATCH_READINGS_MAX} readings")));
            }
            flats.push(flat);
        }
        Ok(flats)
    }
}

struct Element;

impl<'de> DeserializeSeed<'de> for Element {
    type Value = Flat;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Flat, D::Error> {
        let mut flat = Flat::default();
        deserializer.deserialize_map(Object { flat: &mut flat, prefix: &mut String::new(), depth: 1 })?;
        Ok(flat)
    }
}

/// Walks one object and adds its fields to `flat`, names joined by dots behind `prefix`.
struct Object<'a> {
    flat: &'a mut Flat,
    prefix: &'a mut String,
    depth: usize,
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        if self.depth > DEPTH_MAX {
            return Err(A::Error::custom(format!("objects are nested deeper than {DEPTH_MAX}")));
        }
        let (length, began) = (self.prefix.len(), self.flat.signals.len());
        let mut samples = None;
        while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            if length > 0 {
                self.prefix.push('.');
            }
            self.prefix.push_str(&name);
            let time = if self.depth == 1 { TIME_FIELDS.iter().position(|f| *f == name) } else { None };
            let place = (self.depth > 1 && name == SAMPLES_FIELD).then_some(&mut samples);
            let (depth, name) = (self.depth, &mut *self.prefix);
            map.next_value_seed(Field { flat: self.flat, name, depth, time, samples: place })?;
            self.prefix.truncate(length);
        }
        if let Some(samples) = samples {
            self.flat.sampled(self.prefix, began, samples);
        }
        Ok(())
    }
}

/// One field's value.
struct Field<'a> {
    flat: &'a mut Flat,
    name: &'a mut String,
    depth: usize,
    /// Index into [`TIME_FIELDS`] where the field is the payload's time.
    time: Option<usize>,
    /// Where an array goes that may be a waveform's.
    samples: Option<&'a mut Option<Samples>>,
}

impl Field<'_> {
    fn number(self, value: f64, exact: Option<i64>) {
        match self.time {
            Some(index) => self.flat.times[index] = Some(epoch(value, exact)),
            None => self.flat.signals.push((self.name.as_str().into(), value)),
        }
    }
    fn not_a_time<E: serde::de::Error>(self, what: &str) -> Result<(), E> {
        if let Some(index) = self.time {
            self.flat.times[index] = Some(Err(format!("its time {:?} is {what}", TIME_FIELDS[index])));
        }
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Field<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Field<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON value")
    }
    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<(), E> {
        if self.time.is_some() {
            return self.not_a_time("a boolean");
        }
        self.number(f64::from(u8::from(value)), None);
        Ok(())
    }
    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.number(value as f64, Some(value));
        Ok(())
    }
    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.number(value as f64, i64::try_from(value).ok());
        Ok(())
    }
    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        self.number(value, None);
        Ok(())
    }
    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        if let Some(index) = self.time {
            self.flat.times[index] = Some(time_from_text(value));
        }
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        match self.samples {
            Some(place) => *place = Some(Samples::take(seq)?),
            None => while seq.next_element::<IgnoredAny>()?.is_some() {},
        }
        Field { samples: None, ..self }.not_a_time("an array")
    }
    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        if let Some(index) = self.time {
            self.flat.times[index] = Some(Err("its time is an object".to_owned()));
        }
        Object { flat: self.flat, prefix: self.name, depth: self.depth + 1 }.visit_map(map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    fn one(payload: &str) -> Reading {
        let decoded = only(payload);
        assert!(decoded.waveforms.is_empty(), "{payload}");
        decoded.reading
    }
    fn only(payload: &str) -> Decoded {
        let mut all = decode(payload.as_bytes(), NOW).unwrap();
        assert_eq!(all.len(), 1, "{payload}");
        all.remove(0)
    }
    fn refused(payload: &[u8]) -> String {
        decode(payload, NOW).unwrap_err().into()
    }

    #[test]
    fn signals_are_flattened_sorted_and_unique() {
        let r = one(r#"{"b":2,"a":{"y":1.5,"x":{"deep":true}},"s":"text","n":null,"list":[1,{"q":2}],"b":3}"#);
        let expected: Vec<(Box<str>, f64)> = vec![("a.x.deep".into(), 1.0), ("a.y".into(), 1.5), ("b".into(), 3.0)];
        assert_eq!(r.signals, expected);
        assert_eq!(r.event_time, NOW);
    }

    fn samples(count: usize) -> String {
        (0..count).map(|i| format!("{}", i % 7)).collect::<Vec<_>>().join(",")
    }

    #[test]
    fn samples_with_a_rate_are_a_waveform() {
        let s = samples(64);
        let decoded = only(&format!(
            r#"{{"a":1,"rig":{{"de":{{"rpm":1800,"samples":[{s}],"rate_hz":12000}},"b":2}},"x":{{"rate_hz":8000,"samples":[{s}]}}}}"#
        ));
        let names: Vec<&str> = decoded.reading.signals.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["a", "rig.b", "rig.de.rpm"]);
        let numbers = (0..64).map(|i| f64::from(i % 7)).collect();
        let waveform = Waveform::new(12_000.0, numbers).unwrap();
        assert_eq!(decoded.waveforms[0], ("rig.de".into(), waveform));
        assert_eq!((decoded.waveforms.len(), &*decoded.waveforms[1].0), (2, "x"));
        // A waveform alone is a reading.
        let alone = only(&format!(r#"{{"v":{{"rate_hz":10,"samples":[{s}]}}}}"#));
        assert_eq!((alone.reading.signals.len(), alone.waveforms.len()), (0, 1));
        // Of two of one name the last one counts.
        let twice = only(&format!(r#"{{"v":{{"rate_hz":10,"samples":[{s}]}},"v":{{"rate_hz":20,"samples":[{s}]}}}}"#));
        assert_eq!(
            twice.waveforms,
            [("v".into(), Waveform::new(20.0, (0..64).map(|i| f64::from(i % 7)).collect()).unwrap())]
        );
    }

    #[test]
    fn other_arrays_are_left_alone() {
        for payload in [
            r#"{"a":1,"v":[1,2,3]}"#,
            r#"{"a":1,"v":{"samples":[1,2,3]}}"#,
            r#"{"a":1,"v":{"rate_hz":"fast","samples":[1,2,3]}}"#,
            r#"{"a":1,"samples":[1,2,3]}"#,
        ] {
            assert_eq!(one(payload).signals, [("a".into(), 1.0)], "{payload}");
        }
        let at_the_top = one(r#"{"rate_hz":5,"samples":[1,2,3]}"#);
        assert_eq!(at_the_top.signals, [("rate_hz".into(), 5.0)]);
        assert_eq!(one(r#"{"v":{"rate_hz":5,"samples":7}}"#).signals.len(), 2);
    }

    #[test]
    fn waveforms_that_cannot_be_used_say_why() {
        let of = |rate: &str, samples: &str| {
            refused(format!(r#"{{"a":1,"v":{{"rate_hz":{rate},"samples":[{samples}]}}}}"#).as_bytes())
        };
        assert!(of("100", "").contains("its waveform v has 0 samples"));
        assert!(of("100", "1").contains("1 samples"));
        assert!(of("0", &samples(64)).contains("rate_hz of 0"));
        assert!(of("-1e300", &samples(64)).contains("rate_hz"));
        assert!(of("100", &samples(40_000)).contains("has 40000 samples, and may have 16384"));
        for other in ["null", "\"x\"", "true", "[1]", "{\"b\":1}"] {
            assert!(of("100", &format!("{},{other}", samples(64))).contains("array of numbers"), "{other}");
        }
        assert!(of("100", "NaN").contains("JSON"));
        let many: Vec<String> =
            (0..9).map(|i| format!(r#""v{i}":{{"rate_hz":9,"samples":[{}]}}"#, samples(64))).collect();
        assert!(refused(format!("{{{}}}", many.join(",")).as_bytes()).contains("9 waveforms, and may have 8"));
    }

    #[test]
    fn times_in_every_unit() {
        let t = Timestamp::from_seconds(1_699_999_000);
        for payload in [
            r#"{"ts":1699999000,"a":1}"#,
            r#"{"ts":"1699999000","a":1}"#,
            r#"{"timestamp":1699999000000,"a":1}"#,
            r#"{"time":1699999000000000000,"a":1}"#,
            r#"{"time":"1699999000000000000","a":1}"#,
            r#"{"ts":1699999000.0,"a":1}"#,
            r#"{"ts":"2023-11-14T21:56:40Z","a":1}"#,
            r#"{"time":"2001-01-01T00:00:00Z","ts":"2023-11-14T22:56:40+01:00","a":1}"#,
        ] {
            assert_eq!(one(payload).event_time, t, "{payload}");
        }
        assert_eq!(one(r#"{"ts":1699999000.25,"a":1}"#).event_time.as_nanos(), 1_699_999_000_250_000_000);
    }

    #[test]
    fn a_rules_timestamp_does_not_hide_the_payloads_own_time() {
        let (now, own) = (1_700_000_000_000_i64, Timestamp::from_seconds(1_699_999_000));
        for (payload, expected) in [
            (format!(r#"{{"topic":"t","ts":{now},"timestamp":1699999000,"a":1}}"#), own),
            (format!(r#"{{"time":"2023-11-14T21:56:40Z","ts":{now},"a":1}}"#), own),
            (format!(r#"{{"topic":"t","ts":{now},"a":1}}"#), NOW),
            (r#"{"topic":"t","ts":"1699999000","a":1}"#.to_owned(), own),
        ] {
            let reading = one(&payload);
            assert_eq!(reading.event_time, expected, "{payload}");
            assert_eq!(reading.signals.len(), 1, "{payload}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_why() {
        for (payload, why) in [
            (&b""[..], "empty"),
            (b"\xff\xfe", "UTF-8"),
            (b"temperature=5", "JSON"),
            (b"{\"a\":NaN}", "JSON"),
            (b"{\"a\":1e999}", "JSON"),
            (b"{\"a\":1} trailing", "JSON"),
            (b"17", "JSON"),
            (b"[1,2]", "JSON"),
            (b"[]", "batch is empty"),
            (b"{}", "no numeric field"),
            (b"{\"state\":\"on\"}", "no numeric field"),
            (b"{\"ts\":1699999000}", "no numeric field"),
            (b"{\"ts\":\"yesterday\",\"a\":1}", "RFC 3339"),
            (b"{\"ts\":true,\"a\":1}", "boolean"),
            (b"{\"ts\":[1],\"a\":1}", "array"),
            (b"{\"ts\":1e15,\"a\":1}", "neither"),
            (b"{\"ts\":5,\"a\":1}", "not set"),
            (b"{\"ts\":\"2100-01-01T00:00:00Z\",\"a\":1}", "ahead"),
            (b"[{\"a\":1},{\"b\":\"x\"}]", "element 1"),
        ] {
            assert!(refused(payload).contains(why), "{:?}: {}", String::from_utf8_lossy(payload), refused(payload));
        }
    }

    #[test]
    fn limits_hold_at_the_edge_and_one_past_it() {
        let nested = |depth: usize| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
        assert_eq!(one(&nested(DEPTH_MAX)).signals.len(), 1);
        assert!(refused(nested(DEPTH_MAX + 1).as_bytes()).contains("deeper"));
        let batch = |n: usize| format!("[{}]", vec!["{\"a\":1}"; n].join(","));
        assert_eq!(decode(batch(BATCH_READINGS_MAX).as_bytes(), NOW).unwrap().len(), BATCH_READINGS_MAX);
        assert!(refused(batch(BATCH_READINGS_MAX + 1).as_bytes()).contains("at most"));
        let ahead = |s: i64| format!("{{\"ts\":{},\"a\":1}}", 1_700_000_000 + s);
        assert!(decode(ahead(AHEAD_SECONDS_MAX).as_bytes(), NOW).is_ok());
        assert!(decode(ahead(AHEAD_SECONDS_MAX + 1).as_bytes(), NOW).is_err());
    }

    #[test]
    fn extreme_but_finite_values_are_readings() {
        assert_eq!(one(r#"{"a":1e308,"b":-1e308,"c":5e-324}"#).signals.len(), 3);
        let many: Vec<String> = (0..10_000).map(|i| format!("\"f{i}\":{i}")).collect();
        assert_eq!(one(&format!("{{{}}}", many.join(","))).signals.len(), 10_000);
    }

    proptest! {
        #[test]
        fn any_bytes_have_an_outcome(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Err(reason) = decode(&bytes, NOW) {
                prop_assert!(!reason.is_empty() && reason.chars().count() <= REASON_CHARS_MAX);
            }
        }
        #[test]
        fn finite_numbers_come_through_exactly(value in proptest::num::f64::NORMAL) {
            let payload = serde_json::json!({ "v": value }).to_string();
            prop_assert_eq!(one(&payload).signals[0].1, value);
        }
    }
}
