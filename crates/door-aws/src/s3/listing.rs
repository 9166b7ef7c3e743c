//! Listings: objects (both versions of the call) and versions, with prefixes that roll up.

use super::{
    Request,
    document::NAMESPACE,
    failure::bad,
    object::{owner, storage_class},
    reply::{Reply, iso, quoted},
};
use crate::{AwsError, Call, uri, xml::Xml};
use axum::response::Response;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use kilter_core::ports::objects::*;

const KEYS_MAX: usize = 1_000;

/// What one page shows.
#[derive(Debug, Default)]
struct Page {
    versions: Vec<Version>,
    /// Common prefixes, in order.
    prefixes: Vec<String>,
    /// The first key of the next page.
    next: Option<String>,
}

#[derive(Clone)]
struct Walk {
    bucket: String,
    prefix: String,
    delimiter: String,
    from: String,
    from_version: Option<String>,
    limit: usize,
    versions: bool,
}

impl Walk {
    fn run(mut self, objects: &dyn Uploads) -> Result<Page, ObjectError> {
        let mut page = Page::default();
        let mut room = self.limit;
        'read: loop {
            let listing = Listing {
                prefix: self.prefix.clone(),
                from: self.from.clone(),
                from_version: self.from_version.take(),
                limit: room + 1,
                versions: self.versions,
            };
            let found = objects.list(&self.bucket, &listing)?;
            let more = found.len() > room;
            for version in found {
                if room == 0 {
                    page.next = Some(version.key);
                    return Ok(page);
                }
                room -= 1;
                let Some(common) = self.common(&version.key) else {
                    page.versions.push(version);
                    continue;
                };
                page.prefixes.push(common.clone());
                // Past all keys that roll up into it.
                match behind_prefix(&common) {
                    Some(behind) => self.from = behind,
                    None => return Ok(page),
                }
                continue 'read;
            }
            debug_assert!(!more, "a page that is longer than its room ends above");
            return Ok(page);
        }
    }

    /// The prefix that the key rolls up into.
    fn common(&self, key: &str) -> Option<String> {
        if self.delimiter.is_empty() {
            return None;
        }
        let at = key.strip_prefix(&self.prefix)?.find(&self.delimiter)?;
        Some(key[..self.prefix.len() + at + self.delimiter.len()].to_owned())
    }

    /// Starts behind a key, and behind all that rolls up into it where it is a common prefix.
    fn after(&mut self, marker: &str) {
        let rolled_up = self.common(marker).filter(|common| common == marker);
        self.from = match rolled_up.and_then(|common| behind_prefix(&common)) {
            Some(behind) => behind,
            None => format!("{marker}\0"),
        };
    }
}

/// A page's size: what was asked for, at most `max`.
pub(super) fn limit(call: &Call, name: &str, max: usize) -> Result<usize, AwsError> {
    let Some(asked) = call.query(name).filter(|asked| !asked.is_empty()) else { return Ok(max) };
    let invalid = || {
        bad("InvalidArgument", format!("Provided {name} not an integer or within integer range"))
            .with("ArgumentName", name.into())
            .with("ArgumentValue", asked.into())
    };
    let asked: i32 = asked.parse().map_err(|_| invalid())?;
    usize::try_from(asked).map(|asked| asked.min(max)).map_err(|_| invalid())
}

impl Request {
    fn encoding(&self) -> Result<bool, AwsError> {
        match self.call.query("encoding-type") {
            None | Some("") => Ok(false),
            Some("url") => Ok(true),
            Some(_) => Err(bad("InvalidArgument", "Invalid Encoding Method specified in Request")),
        }
    }

    fn walk(&self, versions: bool) -> Result<Walk, AwsError> {
        let query = |name: &str| self.call.query(name).unwrap_or_default().to_owned();
        Ok(Walk {
            bucket: self.route.bucket.clone(),
            prefix: query("prefix"),
            delimiter: query("delimiter"),
            from: String::new(),
            from_version: None,
            limit: limit(&self.call, "max-keys", KEYS_MAX)?,
            versions,
        })
    }

    async fn page(&self, walk: &Walk) -> Result<Page, AwsError> {
        let walk = walk.clone();
        // A page of nothing is the end: there is no marker that would lead on.
        let nothing = walk.limit == 0;
        let page = self.blocking(move |objects| walk.run(objects)).await.map_err(|error| self.put_error(error))?;
        Ok(if nothing { Page::default() } else { page })
    }

    pub(super) async fn list_objects(&self) -> Result<Response, AwsError> {
        let text = Text(self.encoding()?);
        let mut walk = self.walk(false)?;
        let marker = self.call.query("marker").unwrap_or_default();
        if !marker.is_empty() {
            walk.after(marker);
        }
        let page = self.page(&walk).await?;
        let mut xml = Xml::new();
        xml.root("ListBucketResult", NAMESPACE);
        self.head(&mut xml, &walk, text);
        xml.text("Marker", &text.of(marker)).text("IsTruncated", flag(page.next.is_some()));
        let last_key = page.versions.last().map(|version| version.key.as_str());
        let last = last_key.max(page.prefixes.last().map(String::as_str));
        if let Some(last) = last.filter(|_| page.next.is_some() && !walk.delimiter.is_empty()) {
            xml.text("NextMarker", &text.of(last));
        }
        self.contents(&mut xml, &page, text, true);
        xml.close("ListBucketResult");
        Reply::xml(xml).done()
    }

    pub(super) async fn list_objects_v2(&self) -> Result<Response, AwsError> {
        let text = Text(self.encoding()?);
        let mut walk = self.walk(false)?;
        let start = self.call.query("start-after").unwrap_or_default();
        let token = self.call.query("continuation-token");
        match token {
            Some(token) => {
                let invalid = || {
                    bad("InvalidArgument", "The continuation token provided is incorrect")
                        .with("ArgumentName", "continuation-token".into())
                };
                let raw = URL_SAFE_NO_PAD.decode(token).map_err(|_| invalid())?;
                walk.from = String::from_utf8(raw).map_err(|_| invalid())?;
            }
            None if !start.is_empty() => walk.after(start),
            None => {}
        }
        let page = self.page(&walk).await?;
        let mut xml = Xml::new();
        xml.root("ListBucketResult", NAMESPACE);
        self.head(&mut xml, &walk, text);
        xml.text("KeyCount", &(page.versions.len() + page.prefixes.len()).to_string());
        xml.text("IsTruncated", flag(page.next.is_some()));
        if let Some(token) = token {
            xml.text("ContinuationToken", token);
        }
        if let Some(next) = &page.next {
            xml.text("NextContinuationToken", &URL_SAFE_NO_PAD.encode(next));
        }
        if !start.is_empty() {
            xml.text("StartAfter", &text.of(start));
        }
        let owner = self.call.query("fetch-owner") == Some("true");
        self.contents(&mut xml, &page, text, owner);
        xml.close("ListBucketResult");
        Reply::xml(xml).done()
    }

    pub(super) async fn list_object_versions(&self) -> Result<Response, AwsError> {
        let text = Text(self.encoding()?);
        let mut walk = self.walk(true)?;
        let key = self.call.query("key-marker").unwrap_or_default();
        let id = self.call.query("version-id-marker").filter(|id| !id.is_empty());
        if id.is_some() && key.is_empty() {
            return Err(bad("InvalidArgument", "A version-id marker cannot be specified without a key marker."));
        }
        match id {
            Some(id) => (walk.from, walk.from_version) = (key.to_owned(), Some(id.to_owned())),
            None if !key.is_empty() => walk.after(key),
            None => {}
        }
        let page = self.page(&walk).await?;
        let mut xml = Xml::new();
        xml.root("ListVersionsResult", NAMESPACE);
        self.head(&mut xml, &walk, text);
        xml.text("KeyMarker", &text.of(key)).text("VersionIdMarker", id.unwrap_or_default());
        xml.text("IsTruncated", flag(page.next.is_some()));
        if page.next.is_some() {
            let last = page.versions.last();
            match (last, page.prefixes.last()) {
                (Some(last), prefix) if prefix.is_none_or(|prefix| *prefix < last.key) => {
                    xml.text("NextKeyMarker", &text.of(&last.key)).text("NextVersionIdMarker", &last.id);
                }
                (_, prefix) => {
                    xml.text("NextKeyMarker", &text.of(prefix.map_or("", String::as_str)));
                }
            }
        }
        for version in &page.versions {
            let element = if version.delete_marker { "DeleteMarker" } else { "Version" };
            xml.open(element).text("Key", &text.of(&version.key)).text("VersionId", &version.id);
            xml.text("IsLatest", flag(version.latest)).text("LastModified", &iso(version.modified));
            if !version.delete_marker {
                xml.text("ETag", &quoted(&version.meta.etag)).text("Size", &version.bytes().to_string());
                xml.text("StorageClass", storage_class(version));
                checksum(&mut xml, version);
            }
            owner(&mut xml, "Owner", &self.call.account);
            xml.close(element);
        }
        prefixes(&mut xml, &page, text);
        xml.close("ListVersionsResult");
        Reply::xml(xml).done()
    }

    fn head(&self, xml: &mut Xml, walk: &Walk, text: Text) {
        xml.text("Name", &walk.bucket).text("Prefix", &text.of(&walk.prefix));
        if !walk.delimiter.is_empty() {
            xml.text("Delimiter", &text.of(&walk.delimiter));
        }
        xml.text("MaxKeys", &walk.limit.to_string());
        if text.0 {
            xml.text("EncodingType", "url");
        }
    }

    fn contents(&self, xml: &mut Xml, page: &Page, text: Text, with_owner: bool) {
        for version in &page.versions {
            xml.open("Contents").text("Key", &text.of(&version.key)).text("LastModified", &iso(version.modified));
            xml.text("ETag", &quoted(&version.meta.etag)).text("Size", &version.bytes().to_string());
            checksum(xml, version);
            if with_owner {
                owner(xml, "Owner", &self.call.account);
            }
            xml.text("StorageClass", storage_class(version)).close("Contents");
        }
        prefixes(xml, page, text);
    }
}

fn checksum(xml: &mut Xml, version: &Version) {
    if let Some(checksum) = &version.meta.checksum {
        xml.text("ChecksumAlgorithm", &checksum.algorithm);
        xml.text("ChecksumType", super::object::checksum_type(checksum));
    }
}

fn prefixes(xml: &mut Xml, page: &Page, text: Text) {
    for prefix in &page.prefixes {
        xml.open("CommonPrefixes").text("Prefix", &text.of(prefix)).close("CommonPrefixes");
    }
}

fn flag(is: bool) -> &'static str {
    if is { "true" } else { "false" }
}

/// How keys are written: as they are, or percent-encoded (`encoding-type=url`).
#[derive(Clone, Copy)]
struct Text(bool);

impl Text {
    fn of(self, key: &str) -> String {
        if self.0 { uri::encode(key, true) } else { key.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_testkit::MemoryObjects;
    use proptest::prelude::*;
    use std::{collections::BTreeSet, io::Write, sync::Arc};

    fn walk(prefix: &str, delimiter: &str, limit: usize) -> Walk {
        let text = str::to_owned;
        Walk {
            bucket: text("bucket"),
            prefix: text(prefix),
            delimiter: text(delimiter),
            from: String::new(),
            from_version: None,
            limit,
            versions: false,
        }
    }

    proptest! {
        #[test]
        fn pages_show_every_key_and_every_prefix_once(
            keys in prop::collection::btree_set("[ab/\u{10ffff}]{1,5}", 0..25),
            prefix in "[ab/]{0,2}",
            delimiter in "(/|a/|b|)",
            limit in 1usize..5,
        ) {
            let objects = Arc::new(MemoryObjects::default());
            objects.create_bucket("bucket", "r").unwrap();
            for key in &keys {
                let mut staging = objects.stage(false).unwrap();
                staging.write_all(b"x").unwrap();
                let content = staging.finish().unwrap();
                objects.publish("bucket", key, vec![content], Meta::default(), PutCondition::Always).unwrap();
            }
            let whole = walk(&prefix, &delimiter, 100);
            let (mut expected_keys, mut expected_prefixes) = (Vec::new(), BTreeSet::new());
            for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
                match whole.common(key) {
                    Some(common) => drop(expected_prefixes.insert(common)),
                    None => expected_keys.push(key.clone()),
                }
            }
            let (mut seen_keys, mut seen_prefixes) = (Vec::new(), Vec::new());
            let mut next = walk(&prefix, &delimiter, limit);
            loop {
                let page = next.clone().run(&*objects).unwrap();
                prop_assert!(page.versions.len() + page.prefixes.len() <= limit);
                let last = page.versions.last().map(|version| version.key.clone()).max(page.prefixes.last().cloned());
                seen_keys.extend(page.versions.into_iter().map(|version| version.key));
                seen_prefixes.extend(page.prefixes);
                let Some(first) = page.next else { break };
                // As continuation tokens do, or as markers do.
                match (limit % 2, last) {
                    (1, Some(last)) => next.after(&last),
                    _ => next.from = first,
                }
            }
            prop_assert_eq!(seen_keys, expected_keys);
            prop_assert_eq!(seen_prefixes, expected_prefixes.into_iter().collect::<Vec<_>>());
        }
    }
}
