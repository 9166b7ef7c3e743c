//! The ports of `objects` over S3: an object of the port is an object of S3.
//!
//! Staged contents are files in a folder of this machine; publishing uploads them. S3 gives entity tags and version
//! ids, and keeps no order of versions but that of its listings.

mod buckets;
mod content;
mod failure;
mod listing;
mod uploads;

use aws_sdk_s3::{
    Client,
    error::ProvideErrorMetadata,
    operation::head_object::HeadObjectOutput,
    primitives::DateTime,
    types::{ServerSideEncryption, Tag, Tagging},
};
use content::{Place, Spool};
use failure::{construction, failed, invalid, no_key};
use kilter_core::{
    Timestamp,
    ports::{
        clock::{Clock, SystemClock},
        objects::*,
    },
};
use std::{io::Read, path::Path};
use tokio::runtime::Handle;

/// Larger objects are uploaded in parts of this size; held in memory, one at a time.
const PART_BYTES: u64 = 8 << 20;

pub struct AwsObjects {
    client: Client,
    runtime: Handle,
    spool: Spool,
}

impl AwsObjects {
    /// `spool` is a folder of this object's own, for what is not published yet; what an earlier process left there is
    /// deleted.
    pub fn open(client: Client, runtime: Handle, spool: &Path) -> Result<Self, ObjectError> {
        Ok(Self { client, runtime, spool: Spool::open(spool)? })
    }

    async fn head(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        let asked = self.client.head_object().bucket(bucket).key(key).set_version_id(id.map(str::to_owned));
        let error = match asked.send().await {
            Ok(found) => return self.found(bucket, key, found).await.map(Some),
            Err(error) => error,
        };
        let header = |name: &str| error.raw_response().and_then(|answer| answer.headers().get(name)).map(str::to_owned);
        if header("x-amz-delete-marker").as_deref() == Some("true") {
            let id = header("x-amz-version-id").or(id.map(str::to_owned)).unwrap_or_else(|| NULL_VERSION.to_owned());
            let modified = header("last-modified")
                .and_then(|at| DateTime::from_str(&at, aws_sdk_s3::primitives::DateTimeFormat::HttpDate).ok());
            return Ok(Some(marker(key, &id, modified.as_ref())));
        }
        match error.raw_response().map(|answer| answer.status().as_u16()) {
            // An answer without a body does not say what is missing.
            Some(404) => self.need_bucket(bucket).await.map(|()| None),
            // A version id such as the service never gave.
            Some(400) if id.is_some() => Ok(None),
            _ => Err(failed("version", error)),
        }
    }

    async fn found(&self, bucket: &str, key: &str, found: HeadObjectOutput) -> Result<Version, ObjectError> {
        let id = found.version_id().unwrap_or(NULL_VERSION).to_owned();
        let tags = match found.tag_count() {
            None | Some(0) => Vec::new(),
            Some(_) => self.tags(bucket, key, &id).await?,
        };
        let place = Place {
            bucket: bucket.to_owned(),
            key: key.to_owned(),
            version: id.clone(),
            etag: unquoted(found.e_tag()),
        };
        let encrypted = found.server_side_encryption().is_some();
        let contents = vec![place.content(found.content_length().unwrap_or_default(), encrypted)];
        let meta = Meta { etag: place.etag, headers: headers_of(&found), tags, ..Meta::default() };
        let modified = timestamp(found.last_modified());
        let number = modified.as_nanos().max(0) as u64;
        let (key, delete_marker) = (key.to_owned(), false);
        Ok(Version { key, id, number, latest: true, modified, delete_marker, contents, meta })
    }

    async fn tags(&self, bucket: &str, key: &str, id: &str) -> Result<Vec<(String, String)>, ObjectError> {
        let asked = self.client.get_object_tagging().bucket(bucket).key(key).version_id(id).send().await;
        let tags = asked.map_err(|error| failed("version", error))?.tag_set;
        Ok(tags.into_iter().map(|tag| (tag.key, tag.value)).collect())
    }

    /// What was just published, as it is shown from now on.
    async fn published(&self, bucket: &str, key: &str, id: Option<&str>, known: Known) -> Result<Version, ObjectError> {
        let id = id.unwrap_or(NULL_VERSION);
        if let Some(version) = self.head(bucket, key, Some(id)).await?
            && version.meta.etag == known.etag
        {
            return Ok(version);
        }
        // Somebody has replaced or removed it since.
        let place =
            Place { bucket: bucket.to_owned(), key: key.to_owned(), version: id.to_owned(), etag: known.etag.clone() };
        let modified = SystemClock.now();
        Ok(Version {
            key: key.to_owned(),
            id: id.to_owned(),
            number: modified.as_nanos().max(0) as u64,
            latest: true,
            modified,
            delete_marker: false,
            contents: vec![place.content(known.bytes as i64, known.encrypted)],
            meta: Meta { etag: known.etag, ..known.meta },
        })
    }

    async fn put(&self, bucket: &str, key: &str, bytes: Vec<u8>, new: New) -> Result<Version, ObjectError> {
        let size = bytes.len() as u64;
        let put = self.client.put_object().bucket(bucket).key(key).body(bytes.into());
        let put = with_headers!(put, new.meta.headers, "publish");
        let put = put.set_tagging(tagging(&new.meta.tags)).set_server_side_encryption(encryption(new.encrypted));
        let put = put.set_if_none_match(new.absent()).set_if_match(new.etag());
        let done = put.send().await.map_err(|error| failed("publish", error))?;
        let known = Known { etag: unquoted(done.e_tag()), bytes: size, encrypted: new.encrypted, meta: new.meta };
        self.published(bucket, key, done.version_id(), known).await
    }

    fn publish_from(&self, bucket: &str, key: &str, contents: &[Content], new: New) -> Result<Version, ObjectError> {
        let total = contents.iter().map(|content| content.bytes).sum();
        let mut reader = self.read(contents, 0, total)?;
        if total > PART_BYTES {
            return self.publish_in_parts(bucket, key, &mut *reader, total, new);
        }
        let bytes = piece(&mut *reader, total)?;
        self.runtime.block_on(self.put(bucket, key, bytes, new))
    }
}

/// What is to become an object.
struct New {
    meta: Meta,
    encrypted: bool,
    condition: PutCondition,
}

impl New {
    fn absent(&self) -> Option<String> {
        (self.condition == PutCondition::Absent).then(|| "*".to_owned())
    }

    fn etag(&self) -> Option<String> {
        match &self.condition {
            PutCondition::Etag(etag) => Some(format!("\"{etag}\"")),
            PutCondition::Always | PutCondition::Absent => None,
        }
    }
}

/// What the service's answer to a put says of the object.
struct Known {
    etag: String,
    bytes: u64,
    encrypted: bool,
    meta: Meta,
}

/// The next bytes, all of them.
fn piece(reader: &mut dyn Read, bytes: u64) -> Result<Vec<u8>, ObjectError> {
    let mut piece = Vec::new();
    let read = reader.take(bytes).read_to_end(&mut piece).map_err(|error| content::unreadable("publish", error))?;
    if read as u64 == bytes { Ok(piece) } else { Err(content::short("publish")) }
}

/// The headers of an object's metadata, on a request that makes one.
macro_rules! with_headers {
    ($request:expr, $headers:expr, $operation:expr) => {{
        let mut request = $request;
        for (name, value) in &$headers {
            request = match (name.as_str(), name.strip_prefix("x-amz-meta-")) {
                (_, Some(own)) => request.metadata(own, value),
                ("content-type", _) => request.content_type(value),
                ("cache-control", _) => request.cache_control(value),
                ("content-disposition", _) => request.content_disposition(value),
                ("content-encoding", _) => request.content_encoding(value),
                ("content-language", _) => request.content_language(value),
                _ => {
                    return Err(crate::objects::invalid($operation, format!("S3 keeps no header {name} of an object")));
                }
            };
        }
        request
    }};
}
use with_headers;

fn headers_of(found: &HeadObjectOutput) -> std::collections::BTreeMap<String, String> {
    let plain = [
        ("content-type", found.content_type()),
        ("cache-control", found.cache_control()),
        ("content-disposition", found.content_disposition()),
        ("content-encoding", found.content_encoding()),
        ("content-language", found.content_language()),
    ];
    let plain = plain.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())));
    let own = found.metadata().into_iter().flatten();
    plain.chain(own.map(|(name, value)| (format!("x-amz-meta-{name}"), value.clone()))).collect()
}

fn tagging(tags: &[(String, String)]) -> Option<String> {
    let pairs: Vec<String> =
        tags.iter().map(|(name, value)| format!("{}={}", listing::encode(name), listing::encode(value))).collect();
    (!pairs.is_empty()).then(|| pairs.join("&"))
}

fn encryption(encrypted: bool) -> Option<ServerSideEncryption> {
    encrypted.then_some(ServerSideEncryption::Aes256)
}

fn unquoted(etag: Option<&str>) -> String {
    etag.unwrap_or_default().trim_matches('"').to_owned()
}

/// In whole seconds: all that a `Last-Modified` has.
fn timestamp(at: Option<&DateTime>) -> Timestamp {
    Timestamp::from_seconds(at.map_or(0, DateTime::secs))
}

fn marker(key: &str, id: &str, modified: Option<&DateTime>) -> Version {
    let modified = timestamp(modified);
    Version {
        key: key.to_owned(),
        id: id.to_owned(),
        number: modified.as_nanos().max(0) as u64,
        latest: true,
        modified,
        delete_marker: true,
        contents: Vec::new(),
        meta: Meta::default(),
    }
}

fn check_key(operation: &'static str, key: &str) -> Result<(), ObjectError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    Err(invalid(operation, format!("a key has {} bytes; allowed are 1 to {KEY_BYTES_MAX}", key.len())))
}

impl Objects for AwsObjects {
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError> {
        let encrypted = contents.iter().any(|content| content.key.is_some());
        let new = New { meta, encrypted, condition };
        let done = check_key("publish", key).and_then(|()| self.publish_from(bucket, key, &contents, new));
        contents.into_iter().for_each(|content| self.discard(content));
        done
    }

    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        check_key("version", key)?;
        self.runtime.block_on(async {
            let Some(mut version) = self.head(bucket, key, id).await? else { return Ok(None) };
            if id.is_some() {
                let newest = self.head(bucket, key, None).await?;
                version.latest = newest.is_some_and(|newest| newest.id == version.id);
            }
            Ok(Some(version))
        })
    }

    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError> {
        self.runtime.block_on(async {
            let mut removed = Vec::with_capacity(targets.len());
            // One by one: the service's deletion of many names them in XML, which has no word for some keys.
            for (key, id) in targets {
                check_key("remove", key)?;
                let sent = self.client.delete_object().bucket(bucket).key(key).set_version_id(id.clone()).send().await;
                removed.push(match sent {
                    Ok(done) => Removed {
                        version: done.version_id().map(str::to_owned).or_else(|| id.clone()),
                        delete_marker: done.delete_marker().unwrap_or_default(),
                    },
                    // A version id such as the service never gave: it is not there.
                    Err(error) if id.is_some() && error.code() == Some("InvalidArgument") => {
                        Removed { version: id.clone(), delete_marker: false }
                    }
                    Err(error) => return Err(failed("remove", error)),
                });
            }
            Ok(removed)
        })
    }

    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError> {
        let Amend::Tags(tags) = change else {
            return Err(invalid("amend", "S3 itself says how far an object's replication is; nobody else can"));
        };
        let tag = |(name, value): (String, String)| Tag::builder().key(name).value(value).build();
        let tags = tags.into_iter().map(tag).collect::<Result<Vec<_>, _>>();
        let tags = tags.and_then(|tags| Tagging::builder().set_tag_set(Some(tags)).build());
        let tags = tags.map_err(|error| construction("amend", error))?;
        self.runtime.block_on(async {
            // The newest may be a delete marker, of which the service would say that there is no such key.
            let sent = self.client.put_object_tagging().bucket(bucket).key(key).version_id(id).tagging(tags).send();
            match sent.await {
                Ok(_) => Ok(()),
                Err(error) if error.code() == Some("InvalidArgument") => Err(no_key("amend", key)),
                Err(error) => Err(failed("amend", error)),
            }
        })
    }

    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        self.runtime.block_on(async {
            if listing.versions {
                self.list_versions(bucket, listing).await
            } else {
                self.list_newest(bucket, listing).await
            }
        })
    }
}
