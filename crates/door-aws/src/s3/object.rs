//! Single objects: put, get, head, attributes, delete.

use super::{
    Request,
    checksum::Algorithm,
    condition::{self, Verdict},
    document::{Element, NAMESPACE, malformed},
    failure::{bad, failure, missing, no_bucket, no_key},
    meta,
    reply::{self, Reply, http_date, iso, quoted},
    transfer::{self, Expected},
};
use crate::{AwsError, payload::Payload, xml::Xml};
use axum::{body::Body, http::StatusCode, response::Response};
use kilter_core::ports::objects::*;

/// S3's limit for one DeleteObjects.
const DELETES_MAX: usize = 1_000;
/// Query parameters of a GET that replace headers of the answer.
const OVERRIDES: [(&str, &str); 6] = [
    ("response-cache-control", "cache-control"),
    ("response-content-disposition", "content-disposition"),
    ("response-content-encoding", "content-encoding"),
    ("response-content-language", "content-language"),
    ("response-content-type", "content-type"),
    ("response-expires", "expires"),
];

impl Request {
    /// The object that the request names, and its bucket.
    pub(super) async fn version(&self) -> Result<(Bucket, Version), AwsError> {
        let id = self.call.query("versionId").map(str::to_owned);
        let (bucket, version) = self.find(self.place(), id.clone()).await?;
        if version.delete_marker {
            return Err(self.marker_error(id.is_some()));
        }
        Ok((bucket, version))
    }

    /// A delete marker is found too.
    pub(super) async fn find(
        &self,
        (bucket, key): (String, String),
        id: Option<String>,
    ) -> Result<(Bucket, Version), AwsError> {
        let (name, key_asked, id_asked) = (bucket.clone(), key.clone(), id.clone());
        let found = self.blocking(move |objects| {
            let Some(found) = objects.bucket(&name)? else { return Ok(None) };
            Ok(Some((found, objects.version(&name, &key_asked, id_asked.as_deref())?)))
        });
        let (found, version) = found.await?.ok_or_else(|| no_bucket(&bucket))?;
        match (version, id) {
            (Some(version), _) => Ok((found, version)),
            (None, None) => Err(no_key(&key)),
            (None, Some(id)) => {
                let error = missing("NoSuchVersion", "The specified version does not exist.");
                Err(error.with("Key", key.into()).with("VersionId", id.into()))
            }
        }
    }

    fn marker_error(&self, named: bool) -> AwsError {
        match named {
            true => {
                let message = "The specified method is not allowed against this resource.";
                failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
                    .with("Method", self.call.method.as_str().into())
                    .with("ResourceType", "DeleteMarker".into())
            }
            false => no_key(&self.route.key),
        }
    }

    /// Shown where the bucket keeps versions, or did.
    pub(super) fn version_header(bucket: &Bucket, version: &Version) -> Option<String> {
        (bucket.versioning != Versioning::Off).then(|| version.id.clone())
    }

    pub(super) async fn put_object(&self, body: Payload) -> Result<Response, AwsError> {
        let mut meta = meta::of(&self.call)?;
        let condition = condition::of_put(&self.call)?;
        let expected = Expected::of(&self.call)?.or(Algorithm::Crc64Nvme);
        let found = self.bucket().await?;
        let encrypted = meta::encrypted(&self.call, &found)?;
        let received = transfer::receive(&self.objects, body, &expected, encrypted).await?;
        (meta.etag, meta.checksum) = (received.md5, received.checksum);
        let (bucket, key) = self.place();
        let put = move |objects: &dyn Uploads| objects.publish(&bucket, &key, vec![received.content], meta, condition);
        let version = self.blocking(put).await.map_err(|error| self.put_error(error))?;
        let reply = Reply::new(StatusCode::OK).with("etag", quoted(&version.meta.etag));
        with_checksum(with_kept(reply, &found, &version), &version).done()
    }

    pub(super) fn put_error(&self, error: AwsError) -> AwsError {
        match error.code.as_str() {
            "NoSuchBucket" => no_bucket(&self.route.bucket),
            "NoSuchKey" => no_key(&self.route.key),
            _ => error,
        }
    }

    pub(super) async fn get_object(&self, with_body: bool) -> Result<Response, AwsError> {
        let id = self.call.query("versionId").map(str::to_owned);
        let (found, version) = self.find(self.place(), id.clone()).await?;
        if version.delete_marker {
            let error = self.marker_error(id.is_some());
            let reply = reply::error(&self.call, &error).with("x-amz-delete-marker", "true");
            let reply = if id.is_some() { reply.with("allow", "DELETE") } else { reply };
            return reply
                .with("x-amz-version-id", &version.id)
                .with("last-modified", http_date(version.modified))
                .done();
        }
        let verdict = condition::check(&self.call, "", &version)?;
        if verdict == Verdict::NotModified {
            let reply = Reply::new(StatusCode::NOT_MODIFIED).with("etag", quoted(&version.meta.etag));
            return with_kept(reply.with("last-modified", http_date(version.modified)), &found, &version).done();
        }
        let bytes = version.bytes();
        let range = match self.call.query("partNumber") {
            Some(number) => Some(part_range(&version, number)?),
            None => condition::range(self.call.header("range"), bytes)?,
        };
        let (from, to) = range.unwrap_or((0, bytes));
        let status = if range.is_some() { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let mut reply = Reply::new(status)
            .with("accept-ranges", "bytes")
            .with("etag", quoted(&version.meta.etag))
            .with("last-modified", http_date(version.modified))
            .with("content-length", (to - from).to_string())
            .with_some("content-range", range.map(|_| format!("bytes {from}-{}/{bytes}", to.saturating_sub(1))));
        for (name, value) in &version.meta.headers {
            reply = reply.with(name, value);
        }
        for (parameter, header) in OVERRIDES {
            reply = reply.with_some(header, self.call.query(parameter));
        }
        if !version.meta.tags.is_empty() {
            reply = reply.with("x-amz-tagging-count", version.meta.tags.len().to_string());
        }
        if self.call.query("partNumber").is_some() && !version.meta.parts.is_empty() {
            reply = reply.with("x-amz-mp-parts-count", version.meta.parts.len().to_string());
        }
        if range.is_none()
            && self.call.header("x-amz-checksum-mode").is_some_and(|mode| mode.eq_ignore_ascii_case("enabled"))
        {
            reply = with_checksum(reply, &version);
        }
        reply = with_kept(reply, &found, &version).with_some("x-amz-replication-status", replication(&version));
        if !with_body {
            return reply.done();
        }
        let contents = version.contents.clone();
        let reader = self.blocking(move |objects| objects.read(&contents, from, to)).await?;
        let body = if from == to { Body::empty() } else { transfer::send(reader) };
        reply.body(body).done()
    }

    pub(super) async fn get_attributes(&self) -> Result<Response, AwsError> {
        let (found, version) = self.version().await?;
        let asked = self.call.header("x-amz-object-attributes").unwrap_or_default();
        let wants = |name: &str| asked.split(',').any(|one| one.trim() == name);
        if asked.is_empty() {
            return Err(bad(
                "InvalidArgument",
                "The x-amz-object-attributes header specifying the attributes to be retrieved is missing or empty",
            ));
        }
        let mut xml = Xml::new();
        xml.root("GetObjectAttributesResponse", NAMESPACE);
        if wants("ETag") {
            xml.text("ETag", &version.meta.etag);
        }
        if let Some(checksum) = version.meta.checksum.as_ref().filter(|_| wants("Checksum")) {
            xml.open("Checksum").text(&format!("Checksum{}", checksum.algorithm), &checksum.value);
            xml.text("ChecksumType", checksum_type(checksum)).close("Checksum");
        }
        if wants("ObjectParts") && !version.meta.parts.is_empty() {
            xml.open("ObjectParts").text("PartsCount", &version.meta.parts.len().to_string()).close("ObjectParts");
        }
        if wants("StorageClass") {
            xml.text("StorageClass", storage_class(&version));
        }
        if wants("ObjectSize") {
            xml.text("ObjectSize", &version.bytes().to_string());
        }
        xml.close("GetObjectAttributesResponse");
        let reply = Reply::xml(xml).with("last-modified", http_date(version.modified));
        reply.with_some("x-amz-version-id", Self::version_header(&found, &version)).done()
    }

    pub(super) async fn delete_object(&self) -> Result<Response, AwsError> {
        if self.call.header("if-match").is_some() {
            return Err(super::failure::not_implemented("If-Match on DeleteObject"));
        }
        let (bucket, key) = self.place();
        let target = (key, self.call.query("versionId").map(str::to_owned));
        let removed = self.blocking(move |objects| objects.remove(&bucket, &[target])).await;
        let removed = removed.map_err(|error| self.put_error(error))?.pop().unwrap_or_default();
        let reply = Reply::new(StatusCode::NO_CONTENT);
        let reply = if removed.delete_marker { reply.with("x-amz-delete-marker", "true") } else { reply };
        reply.with_some("x-amz-version-id", removed.version).done()
    }

    pub(super) async fn delete_objects(&self, body: &[u8]) -> Result<Response, AwsError> {
        let root = Element::parse(body, "Delete")?;
        let quiet = root.get("Quiet").is_some_and(|quiet| quiet.trim() == "true");
        let target =
            |object: &Element| Some((object.get("Key")?.to_owned(), object.get("VersionId").map(str::to_owned)));
        let targets: Option<Vec<_>> = root.all("Object").map(target).collect();
        let targets = targets.filter(|targets| (1..=DELETES_MAX).contains(&targets.len())).ok_or_else(malformed)?;
        let fine = |key: &String| (1..=KEY_BYTES_MAX).contains(&key.len());
        let (good, refused): (Vec<_>, Vec<_>) = targets.into_iter().partition(|(key, _)| fine(key));
        let (bucket, asked) = (self.route.bucket.clone(), good.clone());
        let removed = self.blocking(move |objects| objects.remove(&bucket, &asked)).await;
        let removed = removed.map_err(|error| self.put_error(error))?;
        let mut xml = Xml::new();
        xml.root("DeleteResult", NAMESPACE);
        for ((key, version), removed) in good.iter().zip(removed).filter(|_| !quiet) {
            xml.open("Deleted").text("Key", key);
            if let Some(version) = version {
                xml.text("VersionId", version);
            }
            if removed.delete_marker {
                xml.text("DeleteMarker", "true");
                xml.text("DeleteMarkerVersionId", removed.version.as_deref().unwrap_or_default());
            }
            xml.close("Deleted");
        }
        for (key, _) in refused {
            xml.open("Error").text("Key", &key).text("Code", "KeyTooLongError");
            xml.text("Message", "Your key is too long").close("Error");
        }
        xml.close("DeleteResult");
        Reply::xml(xml).done()
    }

    pub(super) async fn get_object_acl(&self) -> Result<Response, AwsError> {
        self.version().await?;
        Reply::xml(owner_only(&self.call.account)).done()
    }

    pub(super) async fn put_object_acl(&self, body: &[u8]) -> Result<Response, AwsError> {
        self.version().await?;
        meta::canned_acl(&self.call)?;
        match self.call.header("x-amz-acl").is_some() && body.is_empty() {
            true => Reply::new(StatusCode::OK).done(),
            false => Err(meta::no_acls()),
        }
    }
}

/// The only list of rights that there is: all of them are the owner's.
pub(super) fn owner_only(account: &str) -> Xml {
    let mut xml = Xml::new();
    xml.root("AccessControlPolicy", NAMESPACE);
    owner(&mut xml, "Owner", account);
    xml.open("AccessControlList").open("Grant");
    xml.raw("<Grantee xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xsi:type=\"CanonicalUser\">");
    xml.text("ID", account).close("Grantee").text("Permission", "FULL_CONTROL");
    xml.close("Grant").close("AccessControlList").close("AccessControlPolicy");
    xml
}

pub(super) fn owner(xml: &mut Xml, element: &str, account: &str) {
    xml.open(element).text("ID", account).close(element);
}

fn part_range(version: &Version, number: &str) -> Result<(u64, u64), AwsError> {
    let number: usize = number
        .parse()
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| bad("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive"))?;
    let whole = [version.bytes()];
    let parts = if version.meta.parts.is_empty() { &whole[..] } else { &version.meta.parts };
    let Some(bytes) = parts.get(number - 1) else {
        let message = "The requested partnumber is not satisfiable";
        return Err(failure(StatusCode::RANGE_NOT_SATISFIABLE, "InvalidPartNumber", message));
    };
    let from = parts[..number - 1].iter().sum();
    Ok((from, from + bytes))
}

/// What answers to reads and writes alike say of a version.
pub(super) fn with_kept(reply: Reply, bucket: &Bucket, version: &Version) -> Reply {
    let id = Request::version_header(bucket, version);
    let encryption = version.encrypted().then_some("AES256");
    reply.with_some("x-amz-version-id", id).with_some("x-amz-server-side-encryption", encryption)
}

pub(super) fn with_checksum(reply: Reply, version: &Version) -> Reply {
    let Some(checksum) = &version.meta.checksum else { return reply };
    let Some(algorithm) = Algorithm::of_name(&checksum.algorithm) else { return reply };
    reply.with(algorithm.header(), &checksum.value).with("x-amz-checksum-type", checksum_type(checksum))
}

pub(super) fn checksum_type(checksum: &Checksum) -> &'static str {
    if checksum.composite { "COMPOSITE" } else { "FULL_OBJECT" }
}

pub(super) fn storage_class(version: &Version) -> &str {
    version.meta.headers.get(meta::STORAGE_CLASS).map_or("STANDARD", String::as_str)
}

fn replication(version: &Version) -> Option<&'static str> {
    Some(match version.meta.replication? {
        Replication::Pending => "PENDING",
        Replication::Completed => "COMPLETED",
        Replication::Failed => "FAILED",
        Replication::Replica => "REPLICA",
    })
}

/// Elements of a copy's or a listing's result.
pub(super) fn result(xml: &mut Xml, etag: &str, modified: kilter_core::Timestamp, checksum: Option<&Checksum>) {
    xml.text("LastModified", &iso(modified)).text("ETag", &quoted(etag));
    if let Some(checksum) = checksum {
        xml.text(&format!("Checksum{}", checksum.algorithm), &checksum.value);
        xml.text("ChecksumType", checksum_type(checksum));
    }
}
