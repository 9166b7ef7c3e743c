//! `method host path?query` of a request to S3: one operation on one resource, whatever was sent.
#![no_main]

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Uri};
use kilter_core::Timestamp;
use kilter_door_aws::{Call, S3, StreamService, uri};
use kilter_testkit::MemoryObjects;
use libfuzzer_sys::fuzz_target;
use std::sync::{Arc, LazyLock};

static S3_DOOR: LazyLock<S3> = LazyLock::new(|| S3::new(Arc::new(MemoryObjects::default())));

fuzz_target!(|input: &str| {
    let mut words = input.splitn(3, ' ');
    let (Some(method), Some(host), Some(address)) = (words.next(), words.next(), words.next()) else { return };
    let (Ok(method), Ok(host), Ok(address)) =
        (method.parse::<Method>(), HeaderValue::from_str(host), address.parse::<Uri>())
    else {
        return;
    };
    let call = Call {
        method,
        path: address.path().to_owned(),
        query: uri::pairs(address.query().unwrap_or_default()),
        headers: HeaderMap::from_iter([(http::header::HOST, host)]),
        body: Bytes::new(),
        region: "us-east-1".into(),
        account: "123456789012".into(),
        access_key: String::new(),
        signer: None,
        request_id: String::new(),
        now: Timestamp::from_seconds(0),
    };
    let access = S3_DOOR.access(&call);
    assert!(access.action.starts_with("s3:"), "{access:?}");
    assert!(access.resources.iter().all(|resource| resource == "*" || resource.starts_with("arn:aws:s3:::")), "{access:?}");
});
