//! What a request says about an object beside its bytes: headers that are kept, tags, encryption; what Kilter does not
//! do is refused here.

use super::{
    failure::{bad, not_implemented},
    tagging,
};
use crate::{AwsError, Call};
use kilter_core::ports::objects::{Bucket, Meta};
use std::collections::BTreeMap;

/// S3's limit for all user-defined metadata of an object.
const USER_BYTES_MAX: usize = 2 * 1024;
/// Kept and given back as they came.
const KEPT: [&str; 5] = ["cache-control", "content-disposition", "content-language", "content-type", "expires"];
pub(crate) const USER: &str = "x-amz-meta-";
pub(crate) const STORAGE_CLASS: &str = "x-amz-storage-class";
/// They name a price, not a place: all objects lie on the same disk and are there at once.
const STORAGE_CLASSES: [&str; 6] =
    ["STANDARD", "REDUCED_REDUNDANCY", "STANDARD_IA", "ONEZONE_IA", "INTELLIGENT_TIERING", "GLACIER_IR"];
const TYPE: &str = "binary/octet-stream";

/// Headers and tags of a new object.
pub(crate) fn of(call: &Call) -> Result<Meta, AwsError> {
    refuse(call)?;
    let mut headers = headers(call)?;
    headers.entry("content-type".to_owned()).or_insert_with(|| TYPE.to_owned());
    let tags = call.header("x-amz-tagging").map(tagging::of_header).transpose()?.unwrap_or_default();
    Ok(Meta { headers, tags, ..Meta::default() })
}

fn headers(call: &Call) -> Result<BTreeMap<String, String>, AwsError> {
    let mut kept = BTreeMap::new();
    let mut user = 0;
    for (name, value) in &call.headers {
        let name = name.as_str();
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(bad("InvalidArgument", format!("The value of the header {name} is not UTF-8")));
        };
        if let Some(own) = name.strip_prefix(USER) {
            user += own.len() + value.len();
            // The same header twice is one with both values.
            let joined =
                kept.remove(name).map_or_else(|| value.to_owned(), |before: String| format!("{before},{value}"));
            kept.insert(name.to_owned(), joined);
        } else if KEPT.contains(&name) {
            kept.insert(name.to_owned(), value.to_owned());
        } else if name == "content-encoding" {
            // `aws-chunked` is about the way here, not about the object.
            let own: Vec<&str> =
                value.split(',').map(str::trim).filter(|one| *one != "aws-chunked" && !one.is_empty()).collect();
            if !own.is_empty() {
                kept.insert(name.to_owned(), own.join(","));
            }
        }
    }
    if user > USER_BYTES_MAX {
        let error = bad("MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size");
        return Err(error.with("Size", user.into()).with("MaxSizeAllowed", USER_BYTES_MAX.into()));
    }
    if let Some(class) = call.header(STORAGE_CLASS) {
        if !STORAGE_CLASSES.contains(&class) {
            return Err(bad("InvalidStorageClass", "The storage class you specified is not valid"));
        }
        if class != "STANDARD" {
            kept.insert(STORAGE_CLASS.to_owned(), class.to_owned());
        }
    }
    Ok(kept)
}

fn refuse(call: &Call) -> Result<(), AwsError> {
    let named = |prefix: &str| call.headers.keys().any(|name| name.as_str().starts_with(prefix));
    if named("x-amz-server-side-encryption-customer-") {
        return Err(not_implemented("encryption with a key that the client sends (SSE-C); use AES256"));
    }
    if named("x-amz-server-side-encryption-aws-kms-") || named("x-amz-server-side-encryption-context") {
        return Err(not_implemented("encryption with KMS keys; use AES256"));
    }
    if named("x-amz-object-lock-") {
        return Err(bad("InvalidRequest", "Bucket is missing Object Lock Configuration"));
    }
    if named("x-amz-website-redirect-location") {
        return Err(not_implemented("x-amz-website-redirect-location"));
    }
    if named("x-amz-grant-") {
        return Err(no_acls());
    }
    canned_acl(call)
}

/// The bucket's owner owns everything in it, so only what says just that is taken.
pub(crate) fn canned_acl(call: &Call) -> Result<(), AwsError> {
    match call.header("x-amz-acl") {
        None | Some("private" | "bucket-owner-full-control") => Ok(()),
        Some(_) => Err(no_acls()),
    }
}

pub(crate) fn no_acls() -> AwsError {
    bad("AccessControlListNotSupported", "The bucket does not allow ACLs")
}

/// Whether the object is to be encrypted: as the request says, or else as the bucket does.
pub(crate) fn encrypted(call: &Call, bucket: &Bucket) -> Result<bool, AwsError> {
    match call.header("x-amz-server-side-encryption") {
        None => Ok(bucket.encrypted),
        Some("AES256") => Ok(true),
        Some("aws:kms" | "aws:kms:dsse") => Err(not_implemented("encryption with KMS keys; use AES256")),
        Some(_) => Err(bad("InvalidArgument", "The encryption method specified is not supported")),
    }
}
