//! Objects that come in parts. S3 knows an upload by bucket, key and id together: so the port's id has all three.

use super::{
    AwsObjects, Known, New, PART_BYTES, check_key, encryption, failure::failed, invalid, listing::decode, piece,
    tagging, timestamp, unquoted, with_headers,
};
use aws_sdk_s3::{
    primitives::ByteStream,
    types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart, EncodingType, MultipartUpload},
};
use kilter_core::ports::objects::*;
use std::io::Read;

const PAGE_MAX: usize = 1_000;
/// How the service proves that a part has arrived whole.
const CHECKSUM: ChecksumAlgorithm = ChecksumAlgorithm::Crc32;

/// An upload's place in S3.
struct Named<'a> {
    id: &'a str,
    bucket: &'a str,
    key: &'a str,
}

impl<'a> Named<'a> {
    fn read(id: &'a str) -> Option<Self> {
        let mut parts = id.splitn(3, ' ');
        Some(Self { id: parts.next()?, bucket: parts.next()?, key: parts.next()? })
    }

    fn write(bucket: &str, key: &str, id: &str) -> String {
        format!("{id} {bucket} {key}")
    }
}

fn named<'a>(operation: &'static str, id: &'a str) -> Result<Named<'a>, ObjectError> {
    Named::read(id).ok_or_else(|| {
        let message = "the upload's id is not one of this backend";
        ObjectError::new(ObjectErrorKind::NoUpload, operation, message)
    })
}

fn upload_of(bucket: &str, listed: &MultipartUpload) -> Upload {
    let key = decode(listed.key().unwrap_or_default());
    Upload {
        id: Named::write(bucket, &key, listed.upload_id().unwrap_or_default()),
        key,
        begun: timestamp(listed.initiated()),
        encrypted: false,
        meta: Meta::default(),
    }
}

fn completed(part: &Part) -> CompletedPart {
    let checksum = part.checksum.as_ref().map(|checksum| checksum.value.clone());
    CompletedPart::builder()
        .part_number(part.number as i32)
        .e_tag(format!("\"{}\"", part.etag))
        .set_checksum_crc32(checksum)
        .build()
}

impl AwsObjects {
    async fn begin(&self, bucket: &str, key: &str, meta: &Meta, encrypted: bool) -> Result<String, ObjectError> {
        let begin = self.client.create_multipart_upload().bucket(bucket).key(key).checksum_algorithm(CHECKSUM);
        let begin = with_headers!(begin, meta.headers, "create an upload");
        let begin = begin.set_tagging(tagging(&meta.tags)).set_server_side_encryption(encryption(encrypted));
        let begun = begin.send().await.map_err(|error| failed("create an upload", error))?;
        Ok(begun.upload_id.unwrap_or_default())
    }

    async fn send_part(&self, to: &Named<'_>, number: u32, body: ByteStream) -> Result<CompletedPart, ObjectError> {
        let part = self.client.upload_part().bucket(to.bucket).key(to.key).upload_id(to.id);
        let part = part.part_number(number as i32).checksum_algorithm(CHECKSUM).body(body);
        let sent = part.send().await.map_err(|error| failed("put a part", error))?;
        let done = CompletedPart::builder().part_number(number as i32);
        Ok(done.set_e_tag(sent.e_tag).set_checksum_crc32(sent.checksum_crc32).build())
    }

    async fn complete(
        &self,
        to: &Named<'_>,
        parts: Vec<CompletedPart>,
        bytes: u64,
        new: New,
    ) -> Result<Version, ObjectError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let end = self.client.complete_multipart_upload().bucket(to.bucket).key(to.key).upload_id(to.id);
        let end = end.multipart_upload(parts).set_if_none_match(new.absent()).set_if_match(new.etag());
        let done = end.send().await.map_err(|error| failed("end an upload", error))?;
        let known = Known { etag: unquoted(done.e_tag()), bytes, encrypted: new.encrypted, meta: new.meta };
        self.published(to.bucket, to.key, done.version_id(), known).await
    }

    async fn give_up(&self, to: &Named<'_>) -> Result<(), ObjectError> {
        let abort = self.client.abort_multipart_upload().bucket(to.bucket).key(to.key).upload_id(to.id);
        abort.send().await.map(drop).map_err(|error| failed("end an upload", error))
    }

    /// An object too large for one request.
    pub(super) fn publish_in_parts(
        &self,
        bucket: &str,
        key: &str,
        reader: &mut dyn Read,
        total: u64,
        new: New,
    ) -> Result<Version, ObjectError> {
        let id = self.runtime.block_on(self.begin(bucket, key, &new.meta, new.encrypted))?;
        let to = Named { id: &id, bucket, key };
        let done = self.send_pieces(&to, reader, total);
        let done = done.and_then(|parts| self.runtime.block_on(self.complete(&to, parts, total, new)));
        if done.is_err()
            && let Err(error) = self.runtime.block_on(self.give_up(&to))
        {
            tracing::warn!(bucket, key, %error, "the parts of an object that failed were not deleted");
        }
        done
    }

    fn send_pieces(
        &self,
        to: &Named<'_>,
        reader: &mut dyn Read,
        total: u64,
    ) -> Result<Vec<CompletedPart>, ObjectError> {
        let (mut parts, mut sent) = (Vec::new(), 0);
        while sent < total {
            let bytes = PART_BYTES.min(total - sent);
            let body = piece(reader, bytes)?.into();
            parts.push(self.runtime.block_on(self.send_part(to, parts.len() as u32 + 1, body))?);
            sent += bytes;
        }
        Ok(parts)
    }

    async fn list_uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError> {
        let mut found = Vec::new();
        let mut key = Some(after.0.to_owned()).filter(|key| !key.is_empty());
        let mut id = Named::read(after.1).map(|named| named.id.to_owned());
        while found.len() < limit {
            let page = self.client.list_multipart_uploads().bucket(bucket).prefix(prefix);
            let page = page.encoding_type(EncodingType::Url).max_uploads((limit - found.len()).min(PAGE_MAX) as i32);
            let page = page.set_key_marker(key).set_upload_id_marker(id);
            let page = page.send().await.map_err(|error| failed("list uploads", error))?;
            found.extend(page.uploads().iter().map(|listed| upload_of(bucket, listed)));
            if page.is_truncated != Some(true) {
                break;
            }
            key = page.next_key_marker.as_deref().map(decode);
            id = page.next_upload_id_marker;
        }
        Ok(found)
    }

    async fn list_parts(&self, of: &Named<'_>, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError> {
        let (mut found, mut after) = (Vec::new(), Some(after.to_string()));
        while found.len() < limit {
            let page = self.client.list_parts().bucket(of.bucket).key(of.key).upload_id(of.id);
            let page = page.set_part_number_marker(after).max_parts((limit - found.len()).min(PAGE_MAX) as i32);
            let page = page.send().await.map_err(|error| failed("list parts", error))?;
            found.extend(page.parts().iter().map(|part| {
                let value = part.checksum_crc32().map(str::to_owned);
                let algorithm = CHECKSUM.as_str().to_owned();
                Part {
                    number: part.part_number().unwrap_or_default().max(0) as u32,
                    etag: unquoted(part.e_tag()),
                    checksum: value.map(|value| Checksum { algorithm, value, composite: false }),
                    modified: timestamp(part.last_modified()),
                    content: Content {
                        id: 0,
                        // Nobody can read a part before the object is there.
                        place: String::new(),
                        bytes: part.size().unwrap_or_default().max(0) as u64,
                        key: None,
                    },
                }
            }));
            after = page.next_part_number_marker.filter(|_| page.is_truncated == Some(true));
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

impl Uploads for AwsObjects {
    fn create_upload(&self, bucket: &str, key: &str, meta: Meta, encrypted: bool) -> Result<Upload, ObjectError> {
        check_key("create an upload", key)?;
        let id = self.runtime.block_on(self.begin(bucket, key, &meta, encrypted))?;
        let id = Named::write(bucket, key, &id);
        let begun = self.upload(bucket, key, &id)?;
        let begun = begun.ok_or_else(|| {
            let message = "the upload was given up by somebody else just after it was begun";
            ObjectError::new(ObjectErrorKind::NoUpload, "create an upload", message)
        })?;
        Ok(Upload { encrypted, meta, ..begun })
    }

    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Upload>, ObjectError> {
        let all = self.runtime.block_on(self.list_uploads(bucket, key, ("", ""), usize::MAX))?;
        Ok(all.into_iter().find(|upload| upload.key == key && upload.id == id))
    }

    fn put_part(&self, _: &str, upload: &Upload, part: Part) -> Result<(), ObjectError> {
        let to = named("put a part", &upload.id)?;
        let path = self.spool.file(&part.content);
        let path = path.ok_or_else(|| invalid("put a part", "a part is made of what was staged"))?;
        let done = self.runtime.block_on(async {
            let body = ByteStream::from_path(&path).await;
            let body = body.map_err(|error| invalid("put a part", "the staged content is gone").with_source(error))?;
            self.send_part(&to, part.number, body).await
        });
        self.discard(part.content);
        done.map(drop)
    }

    fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError> {
        self.runtime.block_on(self.list_parts(&named("list parts", upload)?, after, limit))
    }

    fn end_upload(
        &self,
        _: &str,
        upload: &Upload,
        object: Option<(Vec<Part>, Meta, PutCondition)>,
    ) -> Result<Option<Version>, ObjectError> {
        let to = named("end an upload", &upload.id)?;
        let Some((parts, meta, condition)) = object else {
            return self.runtime.block_on(self.give_up(&to)).map(|()| None);
        };
        let new = New { meta, encrypted: upload.encrypted, condition };
        let bytes = parts.iter().map(|part| part.content.bytes).sum();
        let parts = parts.iter().map(completed).collect();
        self.runtime.block_on(self.complete(&to, parts, bytes, new)).map(Some)
    }

    fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError> {
        self.runtime.block_on(self.list_uploads(bucket, prefix, after, limit))
    }
}
