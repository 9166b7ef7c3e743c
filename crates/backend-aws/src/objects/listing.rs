//! Listings, page by page. Keys travel percent-encoded: XML has no word for some of them.

use super::{AwsObjects, Place, failure::failed, marker, timestamp, unquoted};
use aws_sdk_s3::{
    primitives::DateTime,
    types::{DeleteMarkerEntry, EncodingType, ObjectVersion},
};
use kilter_core::ports::objects::{Listing, Meta, NULL_VERSION, ObjectError, Version};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use std::collections::BTreeMap;

/// Of one page.
const PAGE_MAX: usize = 1_000;

pub fn encode(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

/// A key as S3 writes it with `encoding-type=url`.
pub fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

/// A text behind which the given key comes, and hardly another one before it: a marker, as S3's are exclusive.
pub fn before(key: &str) -> Option<String> {
    let mut chars: Vec<char> = key.chars().collect();
    let last = u32::from(chars.pop()?);
    // The code points below U+E000 are no characters.
    let lower = if last == 0xe000 { Some(0xd7ff) } else { last.checked_sub(1) };
    if let Some(lower) = lower.and_then(char::from_u32) {
        chars.extend([lower, '\u{10ffff}']);
    }
    Some(chars.into_iter().collect()).filter(|marker: &String| !marker.is_empty())
}

fn page_of(limit: usize, found: usize) -> i32 {
    (limit - found).min(PAGE_MAX) as i32
}

/// Where a listing of versions goes on: behind a key, or behind one of its versions.
#[derive(Clone, Default)]
struct Behind {
    key: Option<String>,
    version: Option<String>,
}

impl AwsObjects {
    pub(super) async fn list_newest(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        let (mut found, mut token) = (Vec::new(), None);
        while found.len() < listing.limit {
            let page = self.client.list_objects_v2().bucket(bucket).prefix(&listing.prefix);
            let page = page.encoding_type(EncodingType::Url).max_keys(page_of(listing.limit, found.len()));
            let page = page.set_start_after(before(&listing.from)).set_continuation_token(token);
            let page = page.send().await.map_err(|error| failed("list", error))?;
            for object in page.contents.unwrap_or_default() {
                let size = object.size;
                let facts = Facts {
                    bucket,
                    key: decode(object.key().unwrap_or_default()),
                    // Of the newest version a listing does not say the id.
                    id: None,
                    latest: true,
                    modified: object.last_modified,
                };
                found.push(facts.version(unquoted(object.e_tag.as_deref()), size));
            }
            found.retain(|version| version.key >= listing.from);
            token = page.next_continuation_token;
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }

    pub(super) async fn list_versions(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        let mut found = Vec::new();
        let mut behind = match &listing.from_version {
            Some(id) => Behind { key: Some(listing.from.clone()), version: Some(id.clone()) },
            None => Behind { key: before(&listing.from), version: None },
        };
        while found.len() < listing.limit {
            let max = page_of(listing.limit, found.len());
            let page = self.versions_page(bucket, &listing.prefix, &behind, max).await?;
            found.extend(self.in_order(bucket, &listing.prefix, page.entries, behind).await?);
            found.retain(|version: &Version| version.key >= listing.from);
            match page.next {
                Some(next) => behind = next,
                None => break,
            }
        }
        Ok(found)
    }

    async fn versions_page(&self, bucket: &str, prefix: &str, behind: &Behind, max: i32) -> Result<Page, ObjectError> {
        let page = self.client.list_object_versions().bucket(bucket).prefix(prefix).encoding_type(EncodingType::Url);
        let page = page.set_key_marker(behind.key.clone()).set_version_id_marker(behind.version.clone());
        let page = page.max_keys(max).send().await.map_err(|error| failed("list", error))?;
        let mut entries: BTreeMap<String, Versions> = BTreeMap::new();
        for version in page.versions.unwrap_or_default() {
            let version = version_of(bucket, version);
            entries.entry(version.key.clone()).or_default().objects.push(version);
        }
        for version in page.delete_markers.unwrap_or_default() {
            let version = marker_of(version);
            entries.entry(version.key.clone()).or_default().markers.push(version);
        }
        let next = page.next_key_marker.filter(|_| page.is_truncated == Some(true));
        let next = next.map(|key| Behind { key: Some(decode(&key)), version: page.next_version_id_marker });
        Ok(Page { entries, next })
    }

    /// Puts a page's entries in the service's order. The SDK tells objects and delete markers apart and so forgets
    /// which of a key's were between which; where that cannot be concluded, they are listed again one by one.
    async fn in_order(
        &self,
        bucket: &str,
        prefix: &str,
        entries: BTreeMap<String, Versions>,
        mut behind: Behind,
    ) -> Result<Vec<Version>, ObjectError> {
        let mut all = Vec::new();
        for (_, Versions { objects, markers }) in entries {
            let marked_first = matches!(&markers[..], [only] if only.latest);
            if objects.is_empty() || markers.is_empty() || marked_first {
                all.extend(markers.into_iter().chain(objects));
            } else {
                for _ in 0..objects.len() + markers.len() {
                    let page = self.versions_page(bucket, prefix, &behind, 1).await?;
                    let one = page.entries.into_values().flat_map(|one| one.objects.into_iter().chain(one.markers));
                    all.extend(one);
                    behind = page.next.unwrap_or_default();
                }
            }
            if let Some(last) = all.last() {
                behind = Behind { key: Some(last.key.clone()), version: Some(last.id.clone()) };
            }
        }
        Ok(all)
    }
}

/// What a page says of one key, newest first each.
#[derive(Default)]
struct Versions {
    objects: Vec<Version>,
    markers: Vec<Version>,
}

struct Page {
    entries: BTreeMap<String, Versions>,
    next: Option<Behind>,
}

/// What listings say of an object beside its bytes.
struct Facts<'a> {
    bucket: &'a str,
    key: String,
    id: Option<String>,
    latest: bool,
    modified: Option<DateTime>,
}

impl Facts<'_> {
    fn version(self, etag: String, size: Option<i64>) -> Version {
        let id = self.id.unwrap_or_default();
        let (bucket, key) = (self.bucket.to_owned(), self.key.clone());
        let place = Place { bucket, key, version: id.clone(), etag: etag.clone() };
        let modified = timestamp(self.modified.as_ref());
        Version {
            key: self.key,
            id,
            number: modified.as_nanos().max(0) as u64,
            latest: self.latest,
            modified,
            delete_marker: false,
            contents: vec![place.content(size.unwrap_or_default(), false)],
            meta: Meta { etag, ..Meta::default() },
        }
    }
}

fn version_of(bucket: &str, version: ObjectVersion) -> Version {
    let facts = Facts {
        bucket,
        key: decode(version.key().unwrap_or_default()),
        id: Some(version.version_id.unwrap_or_else(|| NULL_VERSION.to_owned())),
        latest: version.is_latest.unwrap_or_default(),
        modified: version.last_modified,
    };
    facts.version(unquoted(version.e_tag.as_deref()), version.size)
}

fn marker_of(entry: DeleteMarkerEntry) -> Version {
    let id = entry.version_id().unwrap_or(NULL_VERSION);
    let found = marker(&decode(entry.key().unwrap_or_default()), id, entry.last_modified());
    Version { latest: entry.is_latest.unwrap_or_default(), ..found }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_marker_is_just_before_its_key() {
        assert_eq!(before(""), None);
        assert_eq!(before("\0"), None);
        assert_eq!(before("a\0").as_deref(), Some("a"));
        assert_eq!(before("b").as_deref(), Some("a\u{10ffff}"));
        assert_eq!(before("\u{e000}").as_deref(), Some("\u{d7ff}\u{10ffff}"));
        for key in ["b", "a/b", "\u{10ffff}", "\u{1}"] {
            let marker = before(key).unwrap();
            assert!(*marker < *key, "{key:?}");
        }
    }

    #[test]
    fn keys_come_back_from_their_encoding() {
        for key in ["a b+c%d/é", "\0\u{ffff}", "ключ"] {
            assert_eq!(decode(&encode(key)), key);
        }
        assert_eq!(decode("a+b%2Bc"), "a b+c");
    }
}
