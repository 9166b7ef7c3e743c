//! Objects in parts.

use super::{
    Request,
    checksum::{self, Algorithm},
    condition,
    document::{Element, NAMESPACE, malformed},
    failure::{bad, no_upload},
    meta, object,
    reply::{Reply, iso, quoted},
    transfer::{self, Expected},
};
use crate::{AwsError, payload::Payload, xml::Xml};
use axum::{http::StatusCode, response::Response};
use kilter_core::ports::objects::*;

pub(super) const PARTS_MAX: u32 = 10_000;
/// Of every part but the last.
const PART_BYTES_MIN: u64 = 5 << 20;
const PAGE_MAX: usize = 1_000;

impl Request {
    fn upload_id(&self) -> &str {
        self.call.query("uploadId").unwrap_or_default()
    }

    async fn upload(&self) -> Result<(Bucket, Upload), AwsError> {
        let ((bucket, key), id) = (self.place(), self.upload_id().to_owned());
        let of = self.bucket().await?;
        let found = self.blocking(move |objects| objects.upload(&bucket, &key, &id)).await?;
        found.map(|found| (of, found)).ok_or_else(|| no_upload(self.upload_id()))
    }

    fn part_number(&self) -> Result<u32, AwsError> {
        let number = self.call.query("partNumber").and_then(|number| number.parse().ok());
        number.filter(|number| (1..=PARTS_MAX).contains(number)).ok_or_else(|| {
            bad("InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
                .with("ArgumentName", "partNumber".into())
        })
    }

    pub(super) async fn create_upload(&self) -> Result<Response, AwsError> {
        let mut meta = meta::of(&self.call)?;
        let algorithm = self.call.header("x-amz-checksum-algorithm").map(transfer::algorithm_of).transpose()?;
        let algorithm = algorithm.unwrap_or(Algorithm::Crc64Nvme);
        let composite = match (self.call.header("x-amz-checksum-type"), algorithm) {
            (None, Algorithm::Crc64Nvme)
            | (Some("FULL_OBJECT"), Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Crc64Nvme) => false,
            (None, _) => true,
            (Some("COMPOSITE"), Algorithm::Crc32 | Algorithm::Crc32c | Algorithm::Sha1 | Algorithm::Sha256) => true,
            (Some(kind), _) => {
                let message = format!(
                    "The {kind} checksum type cannot be used with the {} checksum algorithm.",
                    algorithm.name().to_lowercase()
                );
                return Err(bad("InvalidRequest", message));
            }
        };
        meta.checksum = Some(Checksum { algorithm: algorithm.name().to_owned(), value: String::new(), composite });
        let encrypted = meta::encrypted(&self.call, &self.bucket().await?)?;
        let (bucket, key) = self.place();
        let upload = self.blocking(move |objects| objects.create_upload(&bucket, &key, meta, encrypted)).await?;
        let mut xml = Xml::new();
        xml.root("InitiateMultipartUploadResult", NAMESPACE);
        xml.text("Bucket", &self.route.bucket).text("Key", &upload.key).text("UploadId", &upload.id);
        xml.close("InitiateMultipartUploadResult");
        let kind = if composite { "COMPOSITE" } else { "FULL_OBJECT" };
        let reply =
            Reply::xml(xml).with("x-amz-checksum-algorithm", algorithm.name()).with("x-amz-checksum-type", kind);
        reply.with_some("x-amz-server-side-encryption", encrypted.then_some("AES256")).done()
    }

    pub(super) async fn upload_part(&self, body: Payload) -> Result<Response, AwsError> {
        let number = self.part_number()?;
        let (_, upload) = self.upload().await?;
        let algorithm = algorithm_of(&upload);
        let expected = Expected::of(&self.call)?;
        if let Some(other) = expected.algorithm().filter(|other| *other != algorithm) {
            let message = format!(
                "Checksum Type mismatch occurred, expected checksum Type: {}, actual checksum Type: {}",
                algorithm.name().to_lowercase(),
                other.name().to_lowercase()
            );
            return Err(bad("InvalidRequest", message));
        }
        let received = transfer::receive(&self.objects, body, &expected.or(algorithm), upload.encrypted).await?;
        let part = self.put_part(upload, number, received).await?;
        let mut reply = Reply::new(StatusCode::OK).with("etag", quoted(&part.etag));
        if let Some(checksum) = &part.checksum {
            reply = reply.with(algorithm.header(), &checksum.value);
        }
        reply.with_some("x-amz-server-side-encryption", part.content.key.map(|_| "AES256")).done()
    }

    pub(super) async fn upload_part_copy(&self) -> Result<Response, AwsError> {
        let number = self.part_number()?;
        let (_, upload) = self.upload().await?;
        let (_, source) = self.copy_source().await?;
        let bytes = source.bytes();
        let range = match self.call.header("x-amz-copy-source-range") {
            None => (0, bytes),
            Some(header) => {
                let invalid = || {
                    bad(
                        "InvalidArgument",
                        "The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy",
                    )
                };
                let (first, last) =
                    header.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')).ok_or_else(invalid)?;
                let (first, last): (u64, u64) =
                    (first.parse().map_err(|_| invalid())?, last.parse().map_err(|_| invalid())?);
                if first > last || last >= bytes {
                    let message = format!("Range specified is not valid for source object of size: {bytes}");
                    return Err(bad("InvalidArgument", message));
                }
                (first, last + 1)
            }
        };
        if range.1 - range.0 > transfer::PUT_BYTES_MAX {
            return Err(bad(
                "InvalidRequest",
                "The specified copy source is larger than the maximum allowable size for a copy source: 5368709120",
            ));
        }
        let (algorithm, encrypted) = (algorithm_of(&upload), upload.encrypted);
        let copy = move |objects: &dyn Uploads| transfer::copy(objects, &source, range, Some(algorithm), encrypted);
        let received = self.blocking(copy).await?;
        let part = self.put_part(upload, number, received).await?;
        let mut xml = Xml::new();
        xml.root("CopyPartResult", NAMESPACE);
        xml.text("LastModified", &iso(part.modified)).text("ETag", &quoted(&part.etag));
        if let Some(checksum) = &part.checksum {
            xml.text(&algorithm.element(), &checksum.value);
        }
        xml.close("CopyPartResult");
        Reply::xml(xml).done()
    }

    async fn put_part(&self, upload: Upload, number: u32, received: transfer::Received) -> Result<Part, AwsError> {
        let transfer::Received { content, md5, checksum } = received;
        let part = Part { number, etag: md5, checksum, modified: self.call.now, content };
        let (bucket, new) = (self.route.bucket.clone(), part.clone());
        let put = self.blocking(move |objects| objects.put_part(&bucket, &upload, new)).await;
        put.map(|()| part).map_err(|error| self.upload_error(error))
    }

    fn upload_error(&self, error: AwsError) -> AwsError {
        if error.code == "NoSuchUpload" { no_upload(self.upload_id()) } else { self.put_error(error) }
    }

    pub(super) async fn complete_upload(&self, body: &[u8]) -> Result<Response, AwsError> {
        let (found, upload) = self.upload().await?;
        let condition = condition::of_put(&self.call)?;
        let named = named_parts(body)?;
        let id = upload.id.clone();
        let stored = self.blocking(move |objects| objects.parts(&id, 0, PARTS_MAX as usize)).await?;
        let parts = chosen(&named, stored)?;
        let meta = self.completed(&upload, &parts)?;
        let bucket = self.route.bucket.clone();
        let end = move |objects: &dyn Uploads| objects.end_upload(&bucket, &upload, Some((parts, meta, condition)));
        let version = self.blocking(end).await.map_err(|error| self.upload_error(error))?;
        let version = version.ok_or_else(|| AwsError::internal("an upload ended without an object"))?;
        let mut xml = Xml::new();
        xml.root("CompleteMultipartUploadResult", NAMESPACE);
        let host = self.call.header("host").unwrap_or_default();
        xml.text("Location", &format!("http://{host}{}", self.call.path));
        xml.text("Bucket", &self.route.bucket).text("Key", &version.key).text("ETag", &quoted(&version.meta.etag));
        if let Some(checksum) = &version.meta.checksum {
            xml.text(&format!("Checksum{}", checksum.algorithm), &checksum.value);
            xml.text("ChecksumType", object::checksum_type(checksum));
        }
        xml.close("CompleteMultipartUploadResult");
        object::with_kept(Reply::xml(xml), &found, &version).done()
    }

    /// What is known of the object made of these parts: its entity tag is the MD5 of the parts' MD5s.
    fn completed(&self, upload: &Upload, parts: &[Part]) -> Result<Meta, AwsError> {
        let mut md5 = md5::Context::new();
        for part in parts {
            let bytes = (0..part.etag.len()).step_by(2).map(|at| u8::from_str_radix(&part.etag[at..at + 2], 16));
            md5.consume(
                bytes.collect::<Result<Vec<u8>, _>>().map_err(|_| AwsError::internal("a part's tag is no MD5"))?,
            );
        }
        let mut meta = upload.meta.clone();
        meta.etag = format!("{:x}-{}", md5.finalize(), parts.len());
        meta.parts = parts.iter().map(|part| part.content.bytes).collect();
        let algorithm = algorithm_of(upload);
        let composite = upload.meta.checksum.as_ref().is_some_and(|checksum| checksum.composite);
        let values = || parts.iter().map(|part| part.checksum.as_ref().map_or("", |sum| sum.value.as_str()));
        let value = match composite {
            true => checksum::composite(algorithm, values()).map(|value| format!("{value}-{}", parts.len())),
            false => checksum::full_object(algorithm, values().zip(parts.iter().map(|part| part.content.bytes))),
        };
        let value = value.ok_or_else(|| AwsError::internal("a part's checksum cannot be read"))?;
        let plain = |value: &str| value.split('-').next().unwrap_or_default().to_owned();
        if self.call.header(algorithm.header()).is_some_and(|expected| plain(expected) != plain(&value)) {
            let message =
                format!("The {} you specified did not match the calculated checksum.", algorithm.name().to_lowercase());
            return Err(bad("BadDigest", message));
        }
        meta.checksum = Some(Checksum { algorithm: algorithm.name().to_owned(), value, composite });
        if let Some(size) = self.call.header("x-amz-mp-object-size") {
            let bytes: u64 = meta.parts.iter().sum();
            if size.parse() != Ok(bytes) {
                return Err(bad(
                    "InvalidRequest",
                    "The provided 'x-amz-mp-object-size' header value does not match what was computed.",
                ));
            }
        }
        Ok(meta)
    }

    pub(super) async fn abort_upload(&self) -> Result<Response, AwsError> {
        let (_, upload) = self.upload().await?;
        let bucket = self.route.bucket.clone();
        let end = self.blocking(move |objects| objects.end_upload(&bucket, &upload, None)).await;
        end.map_err(|error| self.upload_error(error))?;
        Reply::new(StatusCode::NO_CONTENT).done()
    }

    pub(super) async fn list_parts(&self) -> Result<Response, AwsError> {
        let (_, upload) = self.upload().await?;
        let limit = super::listing::limit(&self.call, "max-parts", PAGE_MAX)?;
        let after = self.call.query("part-number-marker").map_or(Ok(0), str::parse::<u32>);
        let after = after.map_err(|_| bad("InvalidArgument", "part-number-marker is not a number"))?;
        let id = upload.id.clone();
        let mut parts = self.blocking(move |objects| objects.parts(&id, after, limit + 1)).await?;
        let truncated = parts.len() > limit;
        parts.truncate(limit);
        let mut xml = Xml::new();
        xml.root("ListPartsResult", NAMESPACE);
        xml.text("Bucket", &self.route.bucket).text("Key", &upload.key).text("UploadId", &upload.id);
        object::owner(&mut xml, "Initiator", &self.call.account);
        object::owner(&mut xml, "Owner", &self.call.account);
        xml.text("StorageClass", class_of(&upload)).text("PartNumberMarker", &after.to_string());
        xml.text("MaxParts", &limit.to_string()).text("IsTruncated", if truncated { "true" } else { "false" });
        if let Some(last) = parts.last().filter(|_| truncated) {
            xml.text("NextPartNumberMarker", &last.number.to_string());
        }
        xml.text("ChecksumAlgorithm", algorithm_of(&upload).name());
        for part in &parts {
            xml.open("Part").text("PartNumber", &part.number.to_string());
            xml.text("LastModified", &iso(part.modified)).text("ETag", &quoted(&part.etag));
            xml.text("Size", &part.content.bytes.to_string());
            if let Some(checksum) = &part.checksum {
                xml.text(&format!("Checksum{}", checksum.algorithm), &checksum.value);
            }
            xml.close("Part");
        }
        xml.close("ListPartsResult");
        Reply::xml(xml).done()
    }

    pub(super) async fn list_uploads(&self) -> Result<Response, AwsError> {
        let query = |name: &str| self.call.query(name).unwrap_or_default().to_owned();
        let (prefix, key, id) = (query("prefix"), query("key-marker"), query("upload-id-marker"));
        if self.call.query("delimiter").is_some_and(|delimiter| !delimiter.is_empty()) {
            return Err(super::failure::not_implemented("a delimiter in ListMultipartUploads"));
        }
        let limit = super::listing::limit(&self.call, "max-uploads", PAGE_MAX)?;
        let (bucket, sought, from) = (self.route.bucket.clone(), prefix.clone(), key.clone());
        // Without an id, all uploads of the marker's key are behind.
        let after = if id.is_empty() && !key.is_empty() { "\u{10ffff}".to_owned() } else { id.clone() };
        let found = self.blocking(move |objects| objects.uploads(&bucket, &sought, (&from, &after), limit + 1)).await;
        let mut found = found.map_err(|error| self.put_error(error))?;
        let truncated = found.len() > limit;
        found.truncate(limit);
        let mut xml = Xml::new();
        xml.root("ListMultipartUploadsResult", NAMESPACE);
        xml.text("Bucket", &self.route.bucket).text("KeyMarker", &key).text("UploadIdMarker", &id);
        xml.text("Prefix", &prefix).text("MaxUploads", &limit.to_string());
        xml.text("IsTruncated", if truncated { "true" } else { "false" });
        if let Some(last) = found.last().filter(|_| truncated) {
            xml.text("NextKeyMarker", &last.key).text("NextUploadIdMarker", &last.id);
        }
        for upload in &found {
            xml.open("Upload").text("Key", &upload.key).text("UploadId", &upload.id);
            object::owner(&mut xml, "Initiator", &self.call.account);
            object::owner(&mut xml, "Owner", &self.call.account);
            xml.text("StorageClass", class_of(upload)).text("Initiated", &iso(upload.begun));
            xml.text("ChecksumAlgorithm", algorithm_of(upload).name()).close("Upload");
        }
        xml.close("ListMultipartUploadsResult");
        Reply::xml(xml).done()
    }
}

fn class_of(upload: &Upload) -> &str {
    upload.meta.headers.get(meta::STORAGE_CLASS).map_or("STANDARD", String::as_str)
}

fn algorithm_of(upload: &Upload) -> Algorithm {
    let checksum = upload.meta.checksum.as_ref();
    checksum.and_then(|checksum| Algorithm::of_name(&checksum.algorithm)).unwrap_or(Algorithm::Crc64Nvme)
}

/// Numbers, entity tags and, where they are given, checksums.
fn named_parts(body: &[u8]) -> Result<Vec<(u32, Element)>, AwsError> {
    let root = Element::parse(body, "CompleteMultipartUpload")?;
    let number = |part: &Element| Some((part.get("PartNumber")?.trim().parse().ok()?, part.clone()));
    let named: Option<Vec<(u32, Element)>> = root.all("Part").map(number).collect();
    let named = named.filter(|named| !named.is_empty()).ok_or_else(malformed)?;
    if named.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
        let message =
            "The list of parts was not in ascending order. The parts list must be specified in order by part number.";
        return Err(bad("InvalidPartOrder", message));
    }
    Ok(named)
}

/// The stored parts that the request names, in order, once they are what it says and large enough.
fn chosen(named: &[(u32, Element)], stored: Vec<Part>) -> Result<Vec<Part>, AwsError> {
    let mut stored = stored.into_iter().peekable();
    let mut parts = Vec::with_capacity(named.len());
    for (number, element) in named {
        while stored.next_if(|part| part.number < *number).is_some() {}
        let part = stored.next_if(|part| part.number == *number);
        let etag = element.get("ETag").unwrap_or_default().trim().trim_matches('"');
        let same_sum = |part: &Part| {
            let sum = part.checksum.as_ref();
            sum.is_none_or(|sum| {
                element.get(&format!("Checksum{}", sum.algorithm)).is_none_or(|value| value == sum.value)
            })
        };
        let Some(part) = part.filter(|part| part.etag == etag && same_sum(part)) else {
            let message = "One or more of the specified parts could not be found. The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.";
            return Err(bad("InvalidPart", message).with("PartNumber", (*number).into()).with("ETag", etag.into()));
        };
        parts.push(part);
    }
    let small = parts.iter().take(parts.len().saturating_sub(1)).find(|part| part.content.bytes < PART_BYTES_MIN);
    match small {
        None => Ok(parts),
        Some(part) => {
            let error = bad("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size");
            let error =
                error.with("ProposedSize", part.content.bytes.into()).with("MinSizeAllowed", PART_BYTES_MIN.into());
            Err(error.with("PartNumber", part.number.into()))
        }
    }
}
