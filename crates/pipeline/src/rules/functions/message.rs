//! What is known of the message itself. Random values come from the message's seed: drawn once, at ingest, and never
//! again.

use super::{Arguments, defined};
use crate::rules::sql::value::Value;
use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, prelude::BASE64_STANDARD};

const NANOS_PER_MILLI: i64 = 1_000_000;

pub fn account_id(arguments: &Arguments<'_>) -> Value {
    Value::text(arguments.evaluation.message.account)
}

pub fn client_id(arguments: &Arguments<'_>) -> Value {
    Value::text(arguments.evaluation.message.client_id.unwrap_or("n/a"))
}

pub fn principal(arguments: &Arguments<'_>) -> Value {
    defined(arguments.evaluation.message.principal, Value::text)
}

pub fn source_ip(arguments: &Arguments<'_>) -> Value {
    defined(arguments.evaluation.message.source_ip, Value::text)
}

/// Milliseconds since the epoch.
pub fn timestamp(arguments: &Arguments<'_>) -> Value {
    Value::Int(arguments.evaluation.message.arrival.as_nanos().div_euclid(NANOS_PER_MILLI))
}

pub fn topic(arguments: &Arguments<'_>) -> Value {
    let topic = arguments.evaluation.message.topic;
    if arguments.values.is_empty() {
        return Value::text(topic);
    }
    let level = arguments.int(0).and_then(|number| usize::try_from(number).ok()).and_then(|n| n.checked_sub(1));
    defined(level.and_then(|level| topic.split('/').nth(level)), Value::text)
}

pub fn trace_id(arguments: &Arguments<'_>) -> Value {
    let message = arguments.evaluation.message;
    defined(message.client_id, |_| Value::Text(trace_id_of(message.seed)))
}

/// Of a message with this seed, which it does not give away.
pub fn trace_id_of(seed: u128) -> String {
    uuid(derive(seed, 0))
}

pub fn new_uuid(arguments: &Arguments<'_>) -> Value {
    Value::Text(uuid(draw(arguments)))
}

pub fn rand(arguments: &Arguments<'_>) -> Value {
    let [a, b, c, d, e, f, g, ..] = draw(arguments);
    // 53 bits: as many as a double between 0 and 1 has.
    let bits = u64::from_be_bytes([0, a, b, c, d, e, f, g]) >> 3;
    Value::number(bits as f64 / (1u64 << 53) as f64)
}

fn draw(arguments: &Arguments<'_>) -> [u8; 16] {
    let evaluation = arguments.evaluation;
    let number = evaluation.drawn.get() + 1;
    evaluation.drawn.set(number);
    derive(evaluation.message.seed, number)
}

fn derive(seed: u128, number: u64) -> [u8; 16] {
    let mut input = seed.to_be_bytes().to_vec();
    input.extend(number.to_be_bytes());
    let digest = digest(&SHA256, &input);
    let mut derived = [0; 16];
    derived.copy_from_slice(&digest.as_ref()[..16]);
    derived
}

/// Version 4, variant 1 (RFC 9562 §5.4).
pub fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let text = format!("{:032x}", u128::from_be_bytes(bytes));
    [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
}

pub fn mqtt_property(arguments: &Arguments<'_>) -> Value {
    let (Some(properties), Some(name)) = (arguments.evaluation.message.properties, arguments.text(0)) else {
        return Value::Undefined;
    };
    match &*name {
        "content_type" => defined(properties.content_type.as_deref(), Value::text),
        "response_topic" => defined(properties.response_topic.as_deref(), Value::text),
        "correlation_data" => {
            defined(properties.correlation_data.as_ref(), |data| Value::text(BASE64_STANDARD.encode(data)))
        }
        "format_indicator" => defined(properties.payload_format, |format| {
            Value::text(if format == 1 { "UTF8_DATA" } else { "UNSPECIFIED_BYTES" })
        }),
        _ => Value::Undefined,
    }
}

/// The values of a user property, in their order; Undefined where there is none.
pub fn user_properties(arguments: &Arguments<'_>) -> Value {
    let (Some(properties), Some(name)) = (arguments.evaluation.message.properties, arguments.text(0)) else {
        return Value::Undefined;
    };
    let found = properties.user.iter().filter(|(known, _)| *known == *name).map(|(_, value)| Value::text(value));
    let found: Vec<Value> = found.collect();
    if found.is_empty() { Value::Undefined } else { Value::Array(found) }
}
