//! A rule's statement and a payload, parted by the first line break: read, evaluated, and what is selected is JSON.
#![no_main]

use bytes::Bytes;
use kilter_pipeline::rules::try_statement;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &str| {
    let (sql, payload) = input.split_once('\n').unwrap_or((input, r#"{"a":[{"b":1},{"b":2.5}],"c":"text","d":{"e":null}}"#));
    try_statement(sql, &Bytes::copy_from_slice(payload.as_bytes()));
});
