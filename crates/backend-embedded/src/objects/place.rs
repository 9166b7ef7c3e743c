//! Where contents are on the disk. A published object lies below its bucket's folder under a name that people can
//! read, so that a bucket of plain files is of use to whoever looks at the disk; the id in it makes it unique.
//!
//! ```text
//! <root>/_index.redb  _master.key              index, key that wraps the objects' keys
//!       /_staging/<id>  _parts/<id>            not published yet; parts, published or not
//!       /<bucket>/<folder>/…/<name>~<id>.<extension>[.sealed]
//! ```
//!
//! Whatever a key holds: every segment is made of letters, digits and `._=-%` only, never begins with a dot, and `~` is
//! in the names of files and never in those of folders. A key that is too long for the disk lies under its SHA-256.

use aws_lc_rs::digest;
use std::fmt::Write as _;

pub(super) const INDEX: &str = "_index.redb";
pub(super) const MASTER_KEY: &str = "_master.key";
pub(super) const STAGING: &str = "_staging";
pub(super) const PARTS: &str = "_parts";
/// Behind the name of a file that is encrypted, so that no reader of plain files takes it for one.
const SEALED: &str = ".sealed";
/// File systems take 255 bytes; id and extension come on top.
const SEGMENT_BYTES_MAX: usize = 180;
/// Far below the 4,096 bytes of a whole path.
const PATH_BYTES_MAX: usize = 1500;
/// A longer one is not an extension.
const EXTENSION_BYTES_MAX: usize = 16;

pub(super) fn staging(id: u64) -> String {
    format!("{STAGING}/{id}")
}

pub(super) fn part(id: u64) -> String {
    format!("{PARTS}/{id}")
}

/// The place of an object's only content, relative to the root. The bucket's name was checked by [`is_bucket`].
pub(super) fn object(bucket: &str, key: &str, id: u64, sealed: bool) -> String {
    let mut segments: Vec<String> = key.split('/').map(segment).collect();
    let long = segments.iter().any(|segment| segment.len() > SEGMENT_BYTES_MAX)
        || segments.iter().map(|segment| segment.len() + 1).sum::<usize>() > PATH_BYTES_MAX;
    if long {
        segments = vec!["%long".to_owned(), hash(key)];
    }
    let name = segments.pop().unwrap_or_default();
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !long && !stem.is_empty() && extension.len() <= EXTENSION_BYTES_MAX => {
            (stem, format!(".{extension}"))
        }
        _ => (name.as_str(), String::new()),
    };
    let sealed = if sealed { SEALED } else { "" };
    let folder: String = segments.iter().flat_map(|segment| ["/", segment.as_str()]).collect();
    format!("{bucket}{folder}/{stem}~{id}{extension}{sealed}")
}

/// The id in a file's name; `None` where no content is called so.
pub(super) fn id_of(file_name: &str) -> Option<u64> {
    let digits = match file_name.rsplit_once('~') {
        Some((_, rest)) => rest.split('.').next()?,
        None => file_name,
    };
    digits.parse().ok()
}

/// 3 to 63 lower-case letters, digits, dots and dashes, beginning and ending with a letter or digit.
pub(super) fn is_bucket(name: &str) -> bool {
    let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = name.as_bytes();
    (3..=63).contains(&bytes.len())
        && bytes.iter().all(|c| plain(*c) || matches!(c, b'.' | b'-'))
        && bytes.first().copied().is_some_and(plain)
        && bytes.last().copied().is_some_and(plain)
        && !name.contains("..")
}

fn segment(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'=' | b'-') || (byte == b'.' && at > 0);
        if plain {
            safe.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    // Two slashes in a row, or one at an end.
    if safe.is_empty() { "%".to_owned() } else { safe }
}

fn hash(key: &str) -> String {
    digest::digest(&digest::SHA256, key.as_bytes()).as_ref().iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn people_can_read_it() {
        assert_eq!(
            object("lake", "t/raw/date=2026-11-23/part-0.parquet", 7, false),
            "lake/t/raw/date=2026-11-23/part-0~7.parquet"
        );
        assert_eq!(object("lake", "a.parquet", 7, true), "lake/a~7.parquet.sealed");
        assert_eq!(object("b-1", "../../etc/passwd", 1, false), "b-1/%2E./%2E./etc/passwd~1");
        assert_eq!(object("b-1", "/a//b/", 1, false), "b-1/%/a/%/b/%~1");
        assert_eq!(object("b-1", "a~b/é\0", 1, false), "b-1/a%7Eb/%C3%A9%00~1");
        assert!(object("b-1", &"x".repeat(1024), 1, false).starts_with("b-1/%long/"));
        assert!(object("b-1", &"x/".repeat(512), 1, false).len() < 1600);
    }

    #[test]
    fn buckets_are_names() {
        for good in ["abc", "a.b", "iot-data-lake-tenant001-us-east-1", "1a2"] {
            assert!(is_bucket(good), "{good}");
        }
        for bad in ["", "ab", "..", "a..b", "a/b", "Abc", "-ab", "ab-", "_parts", ".abc", "a_b", &"x".repeat(64)] {
            assert!(!is_bucket(bad), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn no_key_leaves_its_bucket(key in "(\\PC|[./~%\\x00])*", id: u64, sealed: bool) {
            let place = object("some-bucket", &key, id, sealed);
            prop_assert!(place.len() < 4096 - 512);
            let mut segments = place.split('/');
            prop_assert_eq!(segments.next(), Some("some-bucket"));
            let segments: Vec<_> = segments.collect();
            for (at, segment) in segments.iter().enumerate() {
                prop_assert!(!segment.is_empty() && !segment.starts_with('.') && segment.len() < 255, "{}", segment);
                prop_assert!(segment.bytes().all(|c| c.is_ascii_alphanumeric() || b"._=-%~".contains(&c)));
                prop_assert_eq!(segment.contains('~'), at + 1 == segments.len(), "folders and files never meet");
            }
            prop_assert_eq!(segments.last().and_then(|name| id_of(name)), Some(id));
        }
    }
}
