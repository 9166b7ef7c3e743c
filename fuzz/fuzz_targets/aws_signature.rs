//! A method and an address, then a header in each line: whatever a stranger signs is read or denied, and is never what a
//! key of ours has signed.
#![no_main]

use http::{HeaderName, HeaderValue, Request, request::Parts};
use kilter_core::Timestamp;
use kilter_door_aws::{
    sigv4::{self, DenialKind, sha256_hex},
    uri,
};
use libfuzzer_sys::fuzz_target;

fn parts(input: &str) -> Option<Parts> {
    let mut lines = input.split('\n');
    let (method, address) = lines.next()?.split_once(' ')?;
    let mut request = Request::builder().method(method).uri(address);
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
        request = request.header(name, HeaderValue::from_str(value).ok()?);
    }
    Some(request.body(()).ok()?.into_parts().0)
}

fuzz_target!(|input: &str| {
    let Some(parts) = parts(input) else { return };
    let query = uri::pairs(parts.uri.query().unwrap_or_default());
    let Ok(Some(signed)) = sigv4::read(&parts, &query) else { return };
    let _ = signed.check_time(Timestamp::from_seconds(1_369_353_600));
    let denial = signed.check(&parts, "a secret that nobody has", &sha256_hex(b"")).err();
    assert_eq!(denial.map(|denial| denial.kind), Some(DenialKind::Mismatch));
});
