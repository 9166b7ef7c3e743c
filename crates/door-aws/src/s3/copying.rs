//! Copies within the storage: CopyObject, and the source of UploadPartCopy.

use super::{
    Request,
    checksum::Algorithm,
    condition,
    document::NAMESPACE,
    failure::{bad, no_key},
    meta, object,
    reply::Reply,
    tagging, transfer,
};
use crate::{AwsError, uri, xml::Xml};
use axum::response::Response;
use kilter_core::ports::objects::*;

/// Headers that change an object, so that it may be copied onto itself.
const CHANGES: [&str; 4] =
    [meta::STORAGE_CLASS, "x-amz-server-side-encryption", "x-amz-tagging-directive", "x-amz-checksum-algorithm"];

/// Bucket, key and version that `x-amz-copy-source` names; `None` where it names none.
pub(super) fn source(header: &str) -> Option<(String, String, Option<String>)> {
    let (path, id) = match header.split_once("?versionId=") {
        Some((path, id)) => (path, Some(id.to_owned())),
        None => (header, None),
    };
    let path = uri::decode(path, false);
    let (bucket, key) = path.trim_start_matches('/').split_once('/')?;
    (!bucket.is_empty() && !key.is_empty()).then(|| (bucket.to_owned(), key.to_owned(), id))
}

impl Request {
    /// The version that `x-amz-copy-source` names, once its conditions hold.
    pub(super) async fn copy_source(&self) -> Result<((String, String), Version), AwsError> {
        let found = source(self.call.header("x-amz-copy-source").unwrap_or_default());
        let invalid =
            || bad("InvalidArgument", "Copy Source must mention the source bucket and key: sourcebucket/sourcekey");
        let (bucket, key, id) = found.ok_or_else(invalid)?;
        let place = (bucket, key.clone());
        let named = id.is_some();
        let (_, version) = self.find(place.clone(), id).await?;
        if version.delete_marker {
            let message = "The source of a copy request may not specifically refer to a delete marker by version id.";
            return Err(if named { bad("InvalidRequest", message) } else { no_key(&key) });
        }
        condition::check(&self.call, "x-amz-copy-source-", &version)?;
        Ok((place, version))
    }

    pub(super) async fn copy_object(&self) -> Result<Response, AwsError> {
        let (source_place, source) = self.copy_source().await?;
        let replaces = self.directive("x-amz-metadata-directive")?;
        if source_place == self.place()
            && source.latest
            && !replaces
            && !CHANGES.iter().any(|name| self.call.headers.contains_key(*name))
        {
            let message = "This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.";
            return Err(bad("InvalidRequest", message));
        }
        if source.bytes() > transfer::PUT_BYTES_MAX {
            let message = format!(
                "The specified copy source is larger than the maximum allowable size for a copy source: {}",
                transfer::PUT_BYTES_MAX
            );
            return Err(bad("InvalidRequest", message));
        }
        let mut new = meta::of(&self.call)?;
        if !replaces {
            let class = new.headers.remove(meta::STORAGE_CLASS);
            new.headers = source.meta.headers.clone();
            new.headers.remove(meta::STORAGE_CLASS);
            new.headers.extend(class.map(|class| (meta::STORAGE_CLASS.to_owned(), class)));
        }
        new.tags = match self.directive("x-amz-tagging-directive")? {
            true => self.call.header("x-amz-tagging").map(tagging::of_header).transpose()?.unwrap_or_default(),
            false => source.meta.tags.clone(),
        };
        let algorithm = match self.call.header("x-amz-checksum-algorithm") {
            Some(name) => transfer::algorithm_of(name)?,
            None => source
                .meta
                .checksum
                .as_ref()
                .and_then(|sum| Algorithm::of_name(&sum.algorithm))
                .unwrap_or(Algorithm::Crc64Nvme),
        };
        let condition = condition::of_put(&self.call)?;
        let found = self.bucket().await?;
        let encrypted = meta::encrypted(&self.call, &found)?;
        let (bucket, key) = self.place();
        let (source_id, bytes) = (source.id.clone(), source.bytes());
        let copy = move |objects: &dyn Uploads| {
            let received = transfer::copy(objects, &source, (0, bytes), Some(algorithm), encrypted)?;
            let meta = Meta { etag: received.md5, checksum: received.checksum, ..new };
            objects.publish(&bucket, &key, vec![received.content], meta, condition)
        };
        let version = self.blocking(copy).await.map_err(|error| self.put_error(error))?;
        let mut xml = Xml::new();
        xml.root("CopyObjectResult", NAMESPACE);
        object::result(&mut xml, &version.meta.etag, version.modified, version.meta.checksum.as_ref());
        xml.close("CopyObjectResult");
        let source_id = (source_id != NULL_VERSION).then_some(source_id);
        let reply = Reply::xml(xml).with_some("x-amz-copy-source-version-id", source_id);
        object::with_kept(reply, &found, &version).done()
    }

    /// Whether the request's own values replace the source's.
    fn directive(&self, header: &str) -> Result<bool, AwsError> {
        match self.call.header(header) {
            None | Some("COPY") => Ok(false),
            Some("REPLACE") => Ok(true),
            Some(_) => Err(bad("InvalidArgument", format!("Unknown {header}."))),
        }
    }
}
