//! S3: buckets, objects with versions, uploads in parts, settings; REST with XML. Bodies go through to the disk.
//!
//! `route.rs` says which operation a request is, `object.rs`, `copying.rs`, `upload.rs`, `listing.rs`, `bucket.rs` and
//! `setting.rs` answer it; `transfer.rs` moves bytes; `lifecycle.rs` and `replication.rs` do what
//! rules say.

pub mod action;
mod bucket;
mod checksum;
mod condition;
mod copying;
pub mod document;
mod failure;
pub mod lifecycle;
mod listing;
mod meta;
mod object;
pub mod replication;
mod reply;
mod route;
mod setting;
mod tagging;
mod transfer;
mod upload;

use crate::{Access, AwsError, Call, StreamService, payload::Payload};
use axum::{http::StatusCode, response::Response};
use failure::{bad, failure, from_objects, no_bucket, not_implemented};
use futures::future::BoxFuture;
use kilter_core::ports::objects::{Bucket, KEY_BYTES_MAX, ObjectError, Uploads};
use route::{Operation, Route};
use std::sync::Arc;

/// Documents that come in are held whole: 10,000 parts, 1,000 keys of 1 KiB, 1,000 lifecycle rules.
const DOCUMENT_BYTES_MAX: usize = 4 << 20;

pub struct S3 {
    objects: Arc<dyn Uploads>,
}

/// One request on its way.
struct Request {
    call: Call,
    route: Route,
    objects: Arc<dyn Uploads>,
}

impl S3 {
    pub fn new(objects: Arc<dyn Uploads>) -> Self {
        Self { objects }
    }
}

impl StreamService for S3 {
    fn name(&self) -> &'static str {
        "s3"
    }

    fn access(&self, call: &Call) -> Access {
        let (action, resource) = Route::of(call).access(call.query("versionId").is_some());
        Access { action, resources: vec![resource] }
    }

    fn further_access(&self, call: &Call) -> Option<Access> {
        let (bucket, key, version) = copying::source(call.header("x-amz-copy-source")?)?;
        let action = if version.is_some() { "s3:GetObjectVersion" } else { "s3:GetObject" };
        Some(Access { action: action.to_owned(), resources: vec![format!("arn:aws:s3:::{bucket}/{key}")] })
    }

    fn call(self: Arc<Self>, call: Call, body: Payload) -> BoxFuture<'static, Result<Response, AwsError>> {
        let route = Route::of(&call);
        let request = Request { call, route, objects: self.objects.clone() };
        Box::pin(async move { request.answer(body).await })
    }
}

impl Request {
    async fn answer(&self, body: Payload) -> Result<Response, AwsError> {
        use Operation as O;
        if self.route.key.len() > KEY_BYTES_MAX {
            let error = bad("KeyTooLongError", "Your key is too long");
            return Err(error.with("Size", self.route.key.len().into()).with("MaxSizeAllowed", KEY_BYTES_MAX.into()));
        }
        if let Some(owner) = self.call.header("x-amz-expected-bucket-owner").filter(|owner| *owner != self.call.account)
        {
            tracing::debug!(owner, "another owner was expected");
            return Err(failure(StatusCode::FORBIDDEN, "AccessDenied", "Access Denied"));
        }
        match self.route.operation {
            O::ListBuckets => self.list_buckets().await,
            O::CreateBucket => self.create_bucket(&self.document(body).await?).await,
            O::HeadBucket => self.head_bucket().await,
            O::DeleteBucket => self.delete_bucket().await,
            O::GetSetting(name) => self.get_setting(name).await,
            O::PutSetting(name) => self.put_setting(name, &self.document(body).await?).await,
            O::DeleteSetting(name) => self.delete_setting(name).await,
            O::ListObjects => self.list_objects().await,
            O::ListObjectsV2 => self.list_objects_v2().await,
            O::ListObjectVersions => self.list_object_versions().await,
            O::ListMultipartUploads => self.list_uploads().await,
            O::DeleteObjects => self.delete_objects(&self.document(body).await?).await,
            O::GetObject => self.get_object(true).await,
            O::HeadObject => self.get_object(false).await,
            O::GetObjectAttributes => self.get_attributes().await,
            O::PutObject => self.put_object(body).await,
            O::CopyObject => self.copy_object().await,
            O::DeleteObject => self.delete_object().await,
            O::GetObjectTagging => self.get_tags().await,
            O::PutObjectTagging => self.put_tags(&self.document(body).await?).await,
            O::DeleteObjectTagging => self.delete_tags().await,
            O::GetObjectAcl => self.get_object_acl().await,
            O::PutObjectAcl => self.put_object_acl(&self.document(body).await?).await,
            O::CreateMultipartUpload => self.create_upload().await,
            O::UploadPart => self.upload_part(body).await,
            O::UploadPartCopy => self.upload_part_copy().await,
            O::CompleteMultipartUpload => self.complete_upload(&self.document(body).await?).await,
            O::AbortMultipartUpload => self.abort_upload().await,
            O::ListParts => self.list_parts().await,
            O::Unknown(what) => Err(not_implemented(what)),
            O::UnknownSubResource => Err(not_implemented(route::sub_resource(&self.call).unwrap_or_default())),
        }
    }

    /// The body of an operation that takes a document, compared with its checksums.
    async fn document(&self, mut body: Payload) -> Result<Vec<u8>, AwsError> {
        let expected = transfer::Expected::of(&self.call)?;
        let mut whole = Vec::new();
        while let Some(piece) = body.next().await? {
            if whole.len() + piece.len() > DOCUMENT_BYTES_MAX {
                let message = "Your request was too big.";
                return Err(
                    bad("MaxMessageLengthExceeded", message).with("MaxMessageLengthBytes", DOCUMENT_BYTES_MAX.into())
                );
            }
            whole.extend_from_slice(&piece);
        }
        expected.check_whole(&whole, body.trailers())?;
        Ok(whole)
    }

    /// Port calls block: off the async threads.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&dyn Uploads) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, AwsError> {
        let objects = self.objects.clone();
        let done = tokio::task::spawn_blocking(move || work(&*objects)).await;
        done.map_err(|_| AwsError::internal("an operation on objects panicked"))?.map_err(from_objects)
    }

    async fn bucket(&self) -> Result<Bucket, AwsError> {
        let name = self.route.bucket.clone();
        let found = self.blocking(move |objects| objects.bucket(&name)).await?;
        found.ok_or_else(|| no_bucket(&self.route.bucket))
    }

    fn place(&self) -> (String, String) {
        (self.route.bucket.clone(), self.route.key.clone())
    }
}
