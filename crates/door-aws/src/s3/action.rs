//! Rules' action `s3`: the message becomes an object.

use super::{
    bucket::check_name,
    checksum::{Algorithm, Hasher},
};
use futures::future::BoxFuture;
use kilter_core::ports::{
    action::{ActionCall, ActionError, ActionTarget},
    objects::*,
};
use serde_json::Value;
use std::{io::Write, sync::Arc};

const KINDS: [&str; 1] = ["s3"];
/// What a client that does not say gets for it.
const TYPE: &str = "binary/octet-stream";

pub struct S3Action {
    objects: Arc<dyn Uploads>,
}

impl S3Action {
    pub fn new(objects: Arc<dyn Uploads>) -> Self {
        Self { objects }
    }
}

fn text<'a>(parameters: &'a Value, name: &str) -> Option<&'a str> {
    parameters.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
}

impl ActionTarget for S3Action {
    fn kinds(&self) -> &[&'static str] {
        &KINDS
    }

    fn check(&self, _kind: &str, parameters: &Value) -> Result<(), String> {
        let bucket = text(parameters, "bucketName").ok_or("an s3 action needs bucketName")?;
        text(parameters, "key").ok_or("an s3 action needs key")?;
        if !bucket.contains("${") && check_name(bucket).is_err() {
            return Err(format!("{bucket:?} is no name of a bucket"));
        }
        match text(parameters, "cannedAcl") {
            None | Some("private" | "bucket-owner-full-control") => Ok(()),
            Some(acl) => {
                Err(format!("cannedAcl {acl:?} is not offered: everything in a bucket is its owner's; use private"))
            }
        }
    }

    fn perform(&self, call: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let objects = self.objects.clone();
        Box::pin(async move {
            let bucket = text(&call.parameters, "bucketName").unwrap_or_default().to_owned();
            let resource = bucket.clone();
            let key = text(&call.parameters, "key").unwrap_or_default().to_owned();
            let put = tokio::task::spawn_blocking(move || put(&*objects, &bucket, &key, &call.payload)).await;
            let failed = |message: String, retryable| ActionError { resource: resource.clone(), message, retryable };
            match put {
                Ok(done) => done.map_err(|error| failed(error.message.clone(), error.kind == ObjectErrorKind::Io)),
                Err(_) => Err(failed("the object could not be written; the log says why".to_owned(), true)),
            }
        })
    }
}

/// The same message again makes the same object again.
fn put(objects: &dyn Uploads, bucket: &str, key: &str, payload: &[u8]) -> Result<(), ObjectError> {
    let none = || {
        ObjectError::new(ObjectErrorKind::NoBucket, "publish", format!("there is no bucket {bucket}; create it first"))
    };
    let encrypted = objects.bucket(bucket)?.ok_or_else(none)?.encrypted;
    let mut staging = objects.stage(encrypted)?;
    staging.write_all(payload).map_err(|error| {
        ObjectError::new(ObjectErrorKind::Io, "publish", format!("the object cannot be written: {error}"))
            .with_source(error)
    })?;
    let mut sum = Hasher::new(Algorithm::Crc64Nvme);
    sum.update(payload);
    let checksum =
        Checksum { algorithm: Algorithm::Crc64Nvme.name().to_owned(), value: sum.finish(), composite: false };
    let meta = Meta {
        etag: format!("{:x}", md5::compute(payload)),
        headers: [("content-type".to_owned(), TYPE.to_owned())].into(),
        checksum: Some(checksum),
        ..Meta::default()
    };
    objects.publish(bucket, key, vec![staging.finish()?], meta, PutCondition::Always).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_testkit::{MemoryObjects, objects::read};
    use serde_json::json;

    #[tokio::test]
    async fn a_message_becomes_an_object() {
        let objects = Arc::new(MemoryObjects::default());
        objects.create_bucket("messages", "r").unwrap();
        let action = S3Action::new(objects.clone());
        let call = |bucket: &str, key: &str| ActionCall {
            rule: "rule".into(),
            kind: "s3".into(),
            parameters: json!({"roleArn": "r", "bucketName": bucket, "key": key}),
            payload: b"{\"a\":1}".as_slice().into(),
            topic: "t".into(),
        };
        for _ in 0..2 {
            action.perform(call("messages", "a/b")).await.unwrap();
        }
        let found = objects.version("messages", "a/b", None).unwrap().unwrap();
        assert_eq!(read(&*objects, &found, 0, 100), b"{\"a\":1}");
        let error = action.perform(call("not-there", "k")).await.unwrap_err();
        assert!(!error.retryable && error.message.contains("create it first"), "{error}");
        assert!(!action.perform(call("messages", "")).await.unwrap_err().retryable);
    }

    #[test]
    fn parameters_are_checked() {
        let action = S3Action::new(Arc::new(MemoryObjects::default()));
        let check = |parameters: Value| action.check("s3", &parameters);
        check(json!({"bucketName": "b-${topic(1)}", "key": "${newuuid()}", "cannedAcl": "private"})).unwrap();
        for bad in [
            json!({}),
            json!({"bucketName": "abc"}),
            json!({"bucketName": "A", "key": "k"}),
            json!({"bucketName": "abc", "key": "k", "cannedAcl": "public-read"}),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
