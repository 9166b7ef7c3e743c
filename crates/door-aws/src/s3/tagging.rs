//! Tags of objects and buckets.

use super::{
    Request, S3,
    document::{Element, NAMESPACE},
    failure::{bad, no_key},
    from_objects, no_bucket,
    reply::Reply,
};
use crate::{AwsError, Call, tagging::Tagged, uri, xml::Xml};
use axum::{http::StatusCode, response::Response};
use kilter_core::ports::objects::{Amend, Bucket, BucketChange};
use std::collections::{BTreeMap, HashSet};

const OBJECT_TAGS_MAX: usize = 10;
pub(crate) const BUCKET_TAGS_MAX: usize = 50;
/// In characters.
const NAME_MAX: usize = 128;
const VALUE_MAX: usize = 256;

pub(crate) type Tags = Vec<(String, String)>;

/// `x-amz-tagging: a=1&b=2`.
pub(crate) fn of_header(header: &str) -> Result<Tags, AwsError> {
    check(uri::pairs(header), OBJECT_TAGS_MAX)
}

pub(crate) fn of_document(bytes: &[u8], limit: usize) -> Result<Tags, AwsError> {
    let root = Element::parse(bytes, "Tagging")?;
    let set = root.child("TagSet").ok_or_else(super::document::malformed)?;
    let tag = |tag: &Element| Some((tag.get("Key")?.to_owned(), tag.get("Value")?.to_owned()));
    let tags: Option<Tags> = set.all("Tag").map(tag).collect();
    check(tags.ok_or_else(super::document::malformed)?, limit)
}

fn check(tags: Tags, limit: usize) -> Result<Tags, AwsError> {
    if tags.len() > limit {
        return Err(bad("BadRequest", format!("Object tags cannot be greater than {limit}")));
    }
    let mut seen = HashSet::new();
    for (name, value) in &tags {
        if name.is_empty() || name.chars().count() > NAME_MAX || name.starts_with("aws:") {
            return Err(
                bad("InvalidTag", "The TagKey you have provided is invalid").with("TagKey", name.as_str().into())
            );
        }
        if value.chars().count() > VALUE_MAX {
            return Err(
                bad("InvalidTag", "The TagValue you have provided is invalid").with("TagKey", name.as_str().into())
            );
        }
        if !seen.insert(name) {
            let message = "Cannot provide multiple Tags with the same key";
            return Err(bad("InvalidTag", message).with("TagKey", name.as_str().into()));
        }
    }
    Ok(tags)
}

pub(crate) fn document(tags: &Tags) -> Xml {
    let mut xml = Xml::new();
    xml.root("Tagging", NAMESPACE).open("TagSet");
    for (name, value) in tags {
        xml.open("Tag").text("Key", name).text("Value", value).close("Tag");
    }
    xml.close("TagSet").close("Tagging");
    xml
}

impl Request {
    pub(super) async fn get_tags(&self) -> Result<Response, AwsError> {
        let (found, version) = self.version().await?;
        let reply = Reply::xml(document(&version.meta.tags));
        reply.with_some("x-amz-version-id", Self::version_header(&found, &version)).done()
    }

    pub(super) async fn put_tags(&self, body: &[u8]) -> Result<Response, AwsError> {
        let tags = of_document(body, OBJECT_TAGS_MAX)?;
        self.amend_tags(tags, StatusCode::OK).await
    }

    pub(super) async fn delete_tags(&self) -> Result<Response, AwsError> {
        self.amend_tags(Tags::new(), StatusCode::NO_CONTENT).await
    }

    async fn amend_tags(&self, tags: Tags, status: StatusCode) -> Result<Response, AwsError> {
        let (found, version) = self.version().await?;
        let ((bucket, key), id) = (self.place(), version.id.clone());
        let amended = self.blocking(move |objects| objects.amend(&bucket, &key, &id, Amend::Tags(tags))).await;
        amended.map_err(|error| if error.code == "NoSuchKey" { no_key(&self.route.key) } else { error })?;
        Reply::new(status).with_some("x-amz-version-id", Self::version_header(&found, &version)).done()
    }
}

/// Of a bucket.
fn bucket_tags(bucket: &Bucket) -> Result<BTreeMap<String, String>, AwsError> {
    let tags = bucket.settings.get("tagging").map(|document| of_document(document.as_bytes(), BUCKET_TAGS_MAX));
    Ok(tags.transpose()?.unwrap_or_default().into_iter().collect())
}

impl Tagged for S3 {
    fn service(&self) -> &'static str {
        "s3"
    }

    fn tagged(&self, _: &Call) -> Result<Vec<(String, BTreeMap<String, String>)>, AwsError> {
        let buckets = self.objects.buckets().map_err(from_objects)?;
        buckets.iter().map(|bucket| Ok((format!("arn:aws:s3:::{}", bucket.name), bucket_tags(bucket)?))).collect()
    }

    fn retag(&self, _: &Call, arn: &str, set: &BTreeMap<String, String>, remove: &[String]) -> Result<(), AwsError> {
        let name = arn.strip_prefix("arn:aws:s3:::").unwrap_or_default();
        let bucket = self.objects.bucket(name).map_err(from_objects)?.ok_or_else(|| no_bucket(name))?;
        let mut tags = bucket_tags(&bucket)?;
        tags.extend(set.clone());
        tags.retain(|key, _| !remove.contains(key));
        let tags = check(tags.into_iter().collect(), BUCKET_TAGS_MAX)?;
        let kept = (!tags.is_empty()).then(|| document(&tags).finish());
        let change = BucketChange::Setting("tagging".to_owned(), kept);
        self.objects.configure(name, change).map_err(from_objects)
    }
}
