//! Which operation on what: method, address and sub-resource of a request.

use crate::{Call, uri};
use axum::http::Method;

/// What stands behind the bucket's name in a `Host` header of the virtual-host style.
const HOST: &str = "localhost";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub operation: Operation,
    pub bucket: String,
    pub key: String,
}

/// The operations that there are, by their names in S3's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBuckets,
    CreateBucket,
    HeadBucket,
    DeleteBucket,
    /// Reads, writes and removes one of a bucket's settings.
    GetSetting(&'static str),
    PutSetting(&'static str),
    DeleteSetting(&'static str),
    ListObjects,
    ListObjectsV2,
    ListObjectVersions,
    ListMultipartUploads,
    DeleteObjects,
    GetObject,
    HeadObject,
    GetObjectAttributes,
    PutObject,
    CopyObject,
    DeleteObject,
    GetObjectTagging,
    PutObjectTagging,
    DeleteObjectTagging,
    GetObjectAcl,
    PutObjectAcl,
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListParts,
    /// Of S3's, not of Kilter's; what the request called it.
    Unknown(&'static str),
    /// Of a sub-resource that Kilter has not: [`sub_resource`] says which.
    UnknownSubResource,
}

/// Sub-resources of a bucket that are settings, with the names that policies know them by.
const SETTINGS: [(&str, &str); 17] = [
    ("accelerate", "AccelerateConfiguration"),
    ("acl", "BucketAcl"),
    ("cors", "BucketCORS"),
    ("encryption", "EncryptionConfiguration"),
    ("inventory", "InventoryConfiguration"),
    ("lifecycle", "LifecycleConfiguration"),
    ("location", "BucketLocation"),
    ("logging", "BucketLogging"),
    ("notification", "BucketNotification"),
    ("object-lock", "BucketObjectLockConfiguration"),
    ("ownershipControls", "BucketOwnershipControls"),
    ("policy", "BucketPolicy"),
    ("policyStatus", "BucketPolicyStatus"),
    ("publicAccessBlock", "BucketPublicAccessBlock"),
    ("replication", "ReplicationConfiguration"),
    ("requestPayment", "BucketRequestPayment"),
    ("tagging", "BucketTagging"),
];
const MORE_SETTINGS: [(&str, &str); 2] = [("versioning", "BucketVersioning"), ("website", "BucketWebsite")];
/// Sub-resources that S3 has and Kilter has not, whose parameter may have a value.
const UNKNOWN: [&str; 5] = ["analytics", "intelligent-tiering", "metrics", "restore", "select"];
/// Parameters that say how, not of what; as good as absent where they are empty.
const HOW: [&str; 18] = [
    "bucket-region",
    "continuation-token",
    "delimiter",
    "encoding-type",
    "fetch-owner",
    "id",
    "key-marker",
    "marker",
    "max-buckets",
    "max-keys",
    "max-parts",
    "max-uploads",
    "part-number-marker",
    "prefix",
    "start-after",
    "upload-id-marker",
    "version-id-marker",
    "versionId",
];

impl Route {
    pub fn of(call: &Call) -> Self {
        let (bucket, key) = place(call);
        let operation = match (bucket.is_empty(), key.is_empty()) {
            (true, _) if call.method == Method::GET => Operation::ListBuckets,
            (true, _) => Operation::Unknown("this method on the service"),
            (false, true) => of_bucket(call),
            (false, false) => of_object(call),
        };
        Self { operation, bucket, key }
    }

    /// The action of policies, and what it is asked for.
    pub fn access(&self, versioned: bool) -> (String, String) {
        use Operation as O;
        let name = match self.operation {
            O::ListBuckets => "ListAllMyBuckets".to_owned(),
            O::HeadBucket | O::ListObjects | O::ListObjectsV2 => "ListBucket".to_owned(),
            O::ListObjectVersions => "ListBucketVersions".to_owned(),
            O::ListMultipartUploads => "ListBucketMultipartUploads".to_owned(),
            O::GetSetting(name) => format!("Get{}", setting_action(name)),
            O::PutSetting(name) => format!("Put{}", setting_action(name)),
            O::DeleteSetting("policy") => "DeleteBucketPolicy".to_owned(),
            O::DeleteSetting(name) => format!("Put{}", setting_action(name)),
            O::HeadObject | O::GetObject => "GetObject".to_owned(),
            O::CopyObject
            | O::CreateMultipartUpload
            | O::UploadPart
            | O::UploadPartCopy
            | O::CompleteMultipartUpload
            | O::PutObject => "PutObject".to_owned(),
            // Versions may be named in the body: whoever may do it may do both.
            O::DeleteObjects => "DeleteObjectVersion".to_owned(),
            O::ListParts => "ListMultipartUploadParts".to_owned(),
            O::Unknown(_) | O::UnknownSubResource => "*".to_owned(),
            other => format!("{other:?}"),
        };
        let resource = match (self.bucket.as_str(), self.operation) {
            ("", _) => "*".to_owned(),
            // The keys are in the body: whoever may do it may do it with every key.
            (bucket, O::DeleteObjects) => format!("arn:aws:s3:::{bucket}/*"),
            (bucket, _) if self.key.is_empty() => format!("arn:aws:s3:::{bucket}"),
            (bucket, _) => format!("arn:aws:s3:::{bucket}/{}", self.key),
        };
        // A version that is named is a right of its own.
        let version = match self.operation {
            O::GetObject | O::HeadObject | O::GetObjectAttributes | O::DeleteObject if versioned => "Version",
            O::GetObjectTagging | O::PutObjectTagging | O::DeleteObjectTagging if versioned => "Version",
            _ => "",
        };
        let name = match name.strip_suffix("Tagging").or(name.strip_suffix("Attributes")) {
            Some(verb) if !version.is_empty() => format!("{verb}{version}{}", &name[verb.len()..]),
            _ => format!("{name}{version}"),
        };
        (format!("s3:{name}"), resource)
    }
}

fn setting_action(name: &str) -> &str {
    let all = SETTINGS.iter().chain(&MORE_SETTINGS);
    all.into_iter().find(|(setting, _)| *setting == name).map_or(name, |(_, action)| action)
}

/// Bucket and key, decoded: of the path, or with the bucket in the host's name (`bucket.s3.localhost`,
/// `bucket.s3.<region>.localhost`, `bucket.localhost`).
fn place(call: &Call) -> (String, String) {
    let path = call.path.strip_prefix('/').unwrap_or(&call.path);
    let host = call.header("host").unwrap_or_default();
    if let Some(bucket) = host_bucket(host, &call.region) {
        return (bucket.to_owned(), uri::decode(path, false));
    }
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (uri::decode(bucket, false), uri::decode(key, false))
}

fn host_bucket<'a>(host: &'a str, region: &str) -> Option<&'a str> {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let before = name.strip_suffix(HOST)?.strip_suffix('.')?;
    let before = before.strip_suffix(region).and_then(|rest| rest.strip_suffix('.')).unwrap_or(before);
    let bucket = match before.strip_suffix("s3") {
        Some("") => return None,
        Some(rest) => rest.strip_suffix('.').unwrap_or(before),
        None => before,
    };
    (!bucket.is_empty()).then_some(bucket)
}

fn setting(call: &Call) -> Option<&'static str> {
    let all = SETTINGS.iter().chain(&MORE_SETTINGS);
    all.into_iter().map(|(name, _)| *name).find(|name| call.query(name).is_some())
}

/// What of a bucket or an object a request is for: a parameter that stands without a value. One that is not known must
/// never be passed over: without it, what is meant for a part would be done to the whole.
pub(super) fn sub_resource(call: &Call) -> Option<&str> {
    let how =
        |name: &str| HOW.contains(&name) || name.starts_with("response-") || name.to_lowercase().starts_with("x-");
    let mut named = call.query.iter().map(|(name, value)| (name.as_str(), value.is_empty()));
    named.find(|(name, empty)| UNKNOWN.contains(name) || *empty && !how(name)).map(|(name, _)| name)
}

fn of_bucket(call: &Call) -> Operation {
    use Operation as O;
    let has = |name: &str| call.query(name).is_some();
    match (call.method.as_str(), setting(call)) {
        ("GET", Some(setting)) => O::GetSetting(setting),
        ("PUT", Some(setting)) => O::PutSetting(setting),
        ("DELETE", Some(setting)) => O::DeleteSetting(setting),
        ("GET", None) if has("versions") => O::ListObjectVersions,
        ("GET", None) if has("uploads") => O::ListMultipartUploads,
        ("POST", None) if has("delete") => O::DeleteObjects,
        _ if sub_resource(call).is_some() => O::UnknownSubResource,
        ("GET", None) if call.query("list-type") == Some("2") => O::ListObjectsV2,
        ("GET", None) => O::ListObjects,
        ("HEAD", None) => O::HeadBucket,
        ("PUT", None) => O::CreateBucket,
        ("DELETE", None) => O::DeleteBucket,
        ("POST", None) => O::Unknown("POST of a form"),
        _ => O::Unknown("this method on a bucket"),
    }
}

fn of_object(call: &Call) -> Operation {
    use Operation as O;
    let has = |name: &str| call.query(name).is_some();
    let copies = call.headers.contains_key("x-amz-copy-source");
    match call.method.as_str() {
        "GET" if has("tagging") => O::GetObjectTagging,
        "GET" if has("acl") => O::GetObjectAcl,
        "GET" if has("attributes") => O::GetObjectAttributes,
        "PUT" if has("tagging") => O::PutObjectTagging,
        "PUT" if has("acl") => O::PutObjectAcl,
        "POST" if has("uploads") => O::CreateMultipartUpload,
        "DELETE" if has("tagging") => O::DeleteObjectTagging,
        _ if sub_resource(call).is_some() => O::UnknownSubResource,
        "GET" if has("uploadId") => O::ListParts,
        "GET" => O::GetObject,
        "HEAD" => O::HeadObject,
        "PUT" if has("uploadId") && copies => O::UploadPartCopy,
        "PUT" if has("uploadId") => O::UploadPart,
        "PUT" if copies => O::CopyObject,
        "PUT" => O::PutObject,
        "POST" if has("uploadId") => O::CompleteMultipartUpload,
        "DELETE" if has("uploadId") => O::AbortMultipartUpload,
        "DELETE" => O::DeleteObject,
        _ => O::Unknown("this method on an object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_of_hosts() {
        let bucket = |host| host_bucket(host, "us-east-1");
        assert_eq!(bucket("b.s3.localhost:4566"), Some("b"));
        assert_eq!(bucket("a.b.s3.localhost"), Some("a.b"));
        assert_eq!(bucket("b.s3.us-east-1.localhost:1"), Some("b"));
        assert_eq!(bucket("b.localhost"), Some("b"));
        assert_eq!(bucket("bs3.localhost"), Some("bs3"));
        for none in ["localhost", "localhost:4566", "s3.localhost", "s3.us-east-1.localhost", "127.0.0.1:4566", ""] {
            assert_eq!(bucket(none), None, "{none}");
        }
    }

    #[test]
    fn a_sub_resource_is_never_passed_over() {
        let operation = |method: &str, address: &str| {
            let (path, query) = address.split_once('?').unwrap_or((address, ""));
            let call = Call {
                method: method.parse().unwrap(),
                path: path.to_owned(),
                query: uri::pairs(query),
                ..Call::new("us-east-1", "", kilter_core::Timestamp::from_seconds(0))
            };
            Route::of(&call).operation
        };
        for method in ["GET", "HEAD", "PUT", "POST", "DELETE"] {
            for place in ["/b", "/b/k"] {
                for unknown in ["annotation&annotationName=x", "metadataConfiguration", "new", "metrics=x", "uploadId"]
                {
                    let address = format!("{place}?{unknown}");
                    assert_eq!(operation(method, &address), Operation::UnknownSubResource, "{method} {address}");
                }
            }
        }
        assert_eq!(operation("DELETE", "/b?uploads"), Operation::UnknownSubResource);
        assert_eq!(operation("PUT", "/b/k?encryption"), Operation::UnknownSubResource);
        assert_eq!(operation("GET", "/b?prefix=&marker&max-keys=2"), Operation::ListObjects);
        assert_eq!(operation("GET", "/b/k?versionId=&response-expires&X-Amz-Signature"), Operation::GetObject);
        assert_eq!(operation("DELETE", "/b?encryption"), Operation::DeleteSetting("encryption"));
    }
}
