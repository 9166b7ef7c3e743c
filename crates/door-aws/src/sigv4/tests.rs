//! The examples that AWS publishes: the General Reference's ListUsers, and those of the S3 API Reference.

use super::*;
use axum::http::{Method, Request};
use chunked::{ChunkError, Chunks};

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const CREDENTIAL: &str = "Credential=AKIAIOSFODNN7EXAMPLE/20130524/us-east-1/s3/aws4_request";

fn parts(method: Method, uri: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

fn signed(parts: &Parts) -> Result<Signed, Denial> {
    let query = crate::uri::pairs(parts.uri.query().unwrap_or_default());
    Ok(read(parts, &query)?.expect("the request is signed"))
}

fn get_object() -> Parts {
    let authorization = format!(
        "AWS4-HMAC-SHA256 {CREDENTIAL},SignedHeaders=host;range;x-amz-content-sha256;x-amz-date,Signature=\
         f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    );
    let headers = [
        ("host", "examplebucket.s3.amazonaws.com"),
        ("range", "bytes=0-9"),
        ("x-amz-content-sha256", EMPTY_SHA256),
        ("x-amz-date", "20130524T000000Z"),
        ("authorization", &authorization),
    ];
    parts(Method::GET, "/test.txt", &headers)
}

#[test]
fn list_users_of_the_general_reference() {
    let headers = [
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", "iam.amazonaws.com"),
        ("x-amz-date", "20150830T123600Z"),
        (
            "authorization",
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/iam/aws4_request, SignedHeaders=content-type;\
             host;x-amz-date, Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7",
        ),
    ];
    let parts = parts(Method::GET, "/?Action=ListUsers&Version=2010-05-08", &headers);
    let signed = signed(&parts).unwrap();
    assert_eq!((signed.region.as_str(), signed.service.as_str()), ("us-east-1", "iam"));
    signed.check(&parts, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", EMPTY_SHA256).unwrap();
}

#[test]
fn get_object_and_every_change_of_it() {
    let right = get_object();
    signed(&right).unwrap().check(&right, SECRET, EMPTY_SHA256).unwrap();
    let refused = |parts: &Parts, secret: &str, hash: &str| {
        let denial = signed(parts).unwrap().check(parts, secret, hash).err().unwrap();
        assert_eq!(denial.kind, DenialKind::Mismatch);
    };
    refused(&right, "another", EMPTY_SHA256);
    refused(&right, SECRET, &sha256_hex(b"x"));
    for (name, value) in [("host", "evil.example"), ("range", "bytes=0-10"), ("x-amz-date", "20130524T000001Z")] {
        let mut other = get_object();
        other.headers.insert(name, value.parse().unwrap());
        refused(&other, SECRET, EMPTY_SHA256);
    }
    let mut other = get_object();
    other.method = Method::PUT;
    refused(&other, SECRET, EMPTY_SHA256);
    let mut other = get_object();
    other.uri = "/other.txt".parse().unwrap();
    refused(&other, SECRET, EMPTY_SHA256);
}

#[test]
fn what_is_not_signed_may_not_steer() {
    let mut other = get_object();
    other.headers.insert("x-amz-copy-source", "/other/secret".parse().unwrap());
    let denial = signed(&other).unwrap_err();
    assert!(denial.message.contains("x-amz-copy-source"), "{denial}");
    let mut other = get_object();
    let without = other.headers["authorization"].to_str().unwrap().replace("host;", "");
    other.headers.insert("authorization", without.parse().unwrap());
    assert!(signed(&other).unwrap_err().message.contains("Host"));
}

#[test]
fn the_clock_counts() {
    let signed = signed(&get_object()).unwrap();
    let at = Timestamp::parse_rfc3339("2013-05-24T00:00:00Z").unwrap();
    signed.check_time(at.plus_seconds(899)).unwrap();
    signed.check_time(at.plus_seconds(-899)).unwrap();
    assert_eq!(signed.check_time(at.plus_seconds(901)).unwrap_err().kind, DenialKind::Skewed);
    assert_eq!(signed.check_time(at.plus_seconds(-901)).unwrap_err().kind, DenialKind::Skewed);
}

#[test]
fn a_presigned_address_is_good_for_its_time() {
    let uri = "/test.txt?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1\
               %2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&\
               X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
    let right = parts(Method::GET, uri, &[("host", "examplebucket.s3.amazonaws.com")]);
    let found = signed(&right).unwrap();
    assert_eq!(found.body, BodyHash::Unsigned);
    found.check(&right, SECRET, "UNSIGNED-PAYLOAD").unwrap();
    let at = Timestamp::parse_rfc3339("2013-05-24T00:00:00Z").unwrap();
    found.check_time(at.plus_seconds(86_400)).unwrap();
    assert_eq!(found.check_time(at.plus_seconds(86_401)).unwrap_err().kind, DenialKind::Skewed);
    let longer = uri.replace("86400", "604800");
    let other = parts(Method::GET, &longer, &[("host", "examplebucket.s3.amazonaws.com")]);
    assert!(signed(&other).unwrap().check(&other, SECRET, "UNSIGNED-PAYLOAD").is_err());
    let too_long = parts(Method::GET, &uri.replace("86400", "604801"), &[("host", "x")]);
    assert_eq!(signed(&too_long).unwrap_err().kind, DenialKind::Incomplete);
}

fn put_in_chunks() -> Signer {
    let authorization = format!(
        "AWS4-HMAC-SHA256 {CREDENTIAL},SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;\
         x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=\
         4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9"
    );
    let streaming = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
    let headers = [
        ("host", "s3.amazonaws.com"),
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-storage-class", "REDUCED_REDUNDANCY"),
        ("authorization", &authorization),
        ("x-amz-content-sha256", streaming),
        ("content-encoding", "aws-chunked"),
        ("x-amz-decoded-content-length", "66560"),
        ("content-length", "66824"),
    ];
    let parts = parts(Method::PUT, "/examplebucket/chunkObject.txt", &headers);
    let signed = signed(&parts).unwrap();
    assert_eq!(signed.body, BodyHash::SignedChunks { trailer: false });
    let key = signed.check(&parts, SECRET, streaming).unwrap();
    signed.chunks(key)
}

use chunked::Signer;

fn chunked_body() -> Vec<u8> {
    let mut body = Vec::new();
    for (bytes, signature) in [
        (65_536, "ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648"),
        (1_024, "0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497"),
        (0, "b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9"),
    ] {
        body.extend(format!("{bytes:x};chunk-signature={signature}\r\n").bytes());
        body.extend(std::iter::repeat_n(b'a', bytes));
        body.extend(b"\r\n");
    }
    body
}

#[test]
fn signed_chunks_however_they_are_cut() {
    for piece in [1, 7, 1_000, 100_000] {
        let mut chunks = Chunks::new(Some(put_in_chunks()), false);
        let body = chunked_body();
        let data: usize = body.chunks(piece).flat_map(|part| chunks.push(part).unwrap()).map(|part| part.len()).sum();
        assert_eq!(data, 66_560);
        chunks.finish().unwrap();
    }
}

#[test]
fn a_changed_or_cut_chunk_is_refused() {
    let mut body = chunked_body();
    let place = body.len() - 300;
    body[place] = b'b';
    assert_eq!(Chunks::new(Some(put_in_chunks()), false).push(&body).unwrap_err(), ChunkError::Signature);
    let body = chunked_body();
    for keep in [0, 50, 70_000.min(body.len() - 90), body.len() - 3] {
        let mut chunks = Chunks::new(Some(put_in_chunks()), false);
        chunks.push(&body[..keep]).unwrap();
        assert_eq!(chunks.finish().unwrap_err(), ChunkError::Incomplete, "{keep}");
    }
    let mut chunks = Chunks::new(Some(put_in_chunks()), false);
    assert_eq!(chunks.push(&[body, b"more of it".to_vec()].concat()).unwrap_err(), ChunkError::Surplus);
}

#[test]
fn trailers_without_a_signature() {
    let mut chunks = Chunks::new(None, false);
    let data = chunks.push(b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n").unwrap();
    assert_eq!(data.concat(), b"hello");
    assert_eq!(chunks.finish().unwrap(), [("x-amz-checksum-crc32".to_owned(), "NhCmhg==".to_owned())]);
}

#[test]
fn trailers_with_a_signature() {
    let signer = put_in_chunks();
    let same = put_in_chunks();
    let body = {
        let mut writer = signer;
        let first = writer.sign_chunk(b"hello");
        let last = writer.sign_chunk(b"");
        let trailer = writer.sign_trailer("x-amz-checksum-crc32:NhCmhg==\n");
        format!(
            "5;chunk-signature={first}\r\nhello\r\n0;chunk-signature={last}\r\nx-amz-checksum-crc32:NhCmhg==\r\n\
             x-amz-trailer-signature:{trailer}\r\n\r\n"
        )
    };
    let mut chunks = Chunks::new(Some(same), true);
    assert_eq!(chunks.push(body.as_bytes()).unwrap().concat(), b"hello");
    assert_eq!(chunks.finish().unwrap().len(), 1);
    for bad in [body.replace("NhCmhg", "NhCmhh"), body.replace("x-amz-trailer-signature", "x-amz-other")] {
        let mut chunks = Chunks::new(Some(put_in_chunks()), true);
        assert_eq!(chunks.push(bad.as_bytes()).unwrap_err(), ChunkError::Signature);
    }
}

proptest::proptest! {
    #[test]
    fn no_body_makes_the_decoder_panic(body: Vec<u8>, cut in 1usize..64) {
        let mut chunks = Chunks::new(None, false);
        let _ = body.chunks(cut).try_for_each(|part| chunks.push(part).map(drop));
        let _ = chunks.finish();
    }

    #[test]
    fn no_head_makes_the_reader_panic(authorization in "(AWS4-HMAC-SHA256 )?[ -~]{0,200}", date in "[0-9TZ]{0,20}") {
        let parts = parts(Method::GET, "/", &[("host", "x"), ("authorization", &authorization), ("x-amz-date", &date)]);
        let _ = read(&parts, &[]);
    }
}
