//! Any body as a form of the query protocol: read or refused, and its lists and structures end.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, Method};
use kilter_core::Timestamp;
use kilter_door_aws::{Call, form::Form, uri};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (&str, &[u8])| {
    let (query, body) = input;
    let call = Call {
        method: Method::POST,
        path: "/".into(),
        query: uri::pairs(query),
        headers: HeaderMap::new(),
        body: Bytes::copy_from_slice(body),
        region: "us-east-1".into(),
        account: "123456789012".into(),
        access_key: String::new(),
        signer: None,
        request_id: String::new(),
        now: Timestamp::from_seconds(0),
    };
    let Ok(form) = Form::parse(&call) else { return };
    let _ = form.action();
    for value in form.list("Tags") {
        assert_eq!(uri::decode(&uri::encode(value, false), true), value);
    }
    for structure in form.structures("Tags") {
        let _ = (structure.get("Key"), structure.required("Value"));
    }
});
