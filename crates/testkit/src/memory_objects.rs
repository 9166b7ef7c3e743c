//! The ports of `objects` in memory: the plainest thing that can be right.

use kilter_core::{Timestamp, ports::objects::*};
use std::{
    collections::BTreeMap,
    io::{self, Cursor, Read, Write},
    sync::{Arc, Mutex, MutexGuard},
};

#[derive(Default)]
struct State {
    next: u64,
    bytes: BTreeMap<u64, Arc<Vec<u8>>>,
    buckets: BTreeMap<String, Bucket>,
    /// By bucket and key, newest last.
    versions: BTreeMap<(String, String), Vec<Version>>,
    /// By bucket, key and id.
    uploads: BTreeMap<(String, String, String), Upload>,
    parts: BTreeMap<(String, u32), Part>,
}

/// Time is the number of changes, in nanoseconds.
#[derive(Default)]
pub struct MemoryObjects(Arc<Mutex<State>>);

impl MemoryObjects {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no check panics while it holds the lock")
    }
}

impl State {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    fn bucket(&self, name: &str) -> Result<&Bucket, ObjectError> {
        self.buckets.get(name).ok_or_else(|| fail(ObjectErrorKind::NoBucket, format!("there is no bucket {name}")))
    }

    fn put(
        &mut self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        meta: Meta,
        condition: &PutCondition,
    ) -> Result<Version, ObjectError> {
        let versioning = self.bucket(bucket)?.versioning;
        if key.is_empty() || key.len() > KEY_BYTES_MAX {
            return Err(fail(ObjectErrorKind::Invalid, format!("a key of {} bytes", key.len())));
        }
        let number = self.number();
        let versions = self.versions.entry((bucket.to_owned(), key.to_owned())).or_default();
        let newest = versions.last().filter(|version| !version.delete_marker);
        match (condition, newest) {
            (PutCondition::Absent, Some(_)) => {
                return Err(fail(ObjectErrorKind::ConditionFailed, format!("{key} is there already")));
            }
            (PutCondition::Etag(_), None) => return Err(fail(ObjectErrorKind::NoKey, format!("{key} is not there"))),
            (PutCondition::Etag(etag), Some(newest)) if newest.meta.etag != *etag => {
                return Err(fail(ObjectErrorKind::ConditionFailed, format!("{key} has another entity tag")));
            }
            _ => {}
        }
        let version = Version {
            key: key.to_owned(),
            id: version_id(versioning, number),
            number,
            latest: true,
            modified: Timestamp::from_nanos(number as i64),
            delete_marker: false,
            contents,
            meta,
        };
        if versioning != Versioning::Enabled {
            versions.retain(|old| old.id != NULL_VERSION);
        }
        versions.push(version.clone());
        Ok(version)
    }

    fn remove(&mut self, bucket: &str, key: &str, id: Option<&str>) -> Result<Removed, ObjectError> {
        let versioning = self.bucket(bucket)?.versioning;
        let number = self.number();
        let versions = self.versions.entry((bucket.to_owned(), key.to_owned())).or_default();
        if let Some(id) = id {
            let found = versions.iter().position(|version| version.id == id).map(|at| versions.remove(at));
            let delete_marker = found.is_some_and(|version| version.delete_marker);
            return Ok(Removed { version: Some(id.to_owned()), delete_marker });
        }
        if versioning != Versioning::Enabled {
            versions.retain(|old| old.id != NULL_VERSION);
        }
        if versioning == Versioning::Off {
            return Ok(Removed::default());
        }
        let id = version_id(versioning, number);
        versions.push(Version {
            key: key.to_owned(),
            id: id.clone(),
            number,
            latest: true,
            modified: Timestamp::from_nanos(number as i64),
            delete_marker: true,
            contents: Vec::new(),
            meta: Meta::default(),
        });
        Ok(Removed { version: Some(id), delete_marker: true })
    }
}

fn version_id(versioning: Versioning, number: u64) -> String {
    if versioning == Versioning::Enabled { format!("{number:016x}") } else { NULL_VERSION.to_owned() }
}

fn fail(kind: ObjectErrorKind, message: String) -> ObjectError {
    ObjectError::new(kind, "memory", message)
}

impl Buckets for MemoryObjects {
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError> {
        let mut state = self.state();
        if bucket.len() < 3 || bucket.contains(['/', '_']) {
            return Err(fail(ObjectErrorKind::Invalid, format!("{bucket:?} is no name of a bucket")));
        }
        let created = Timestamp::from_nanos(state.number() as i64);
        let there = state.buckets.contains_key(bucket);
        state.buckets.entry(bucket.to_owned()).or_insert_with(|| Bucket {
            name: bucket.to_owned(),
            region: region.to_owned(),
            created,
            versioning: Versioning::Off,
            encrypted: false,
            settings: BTreeMap::new(),
        });
        Ok(!there)
    }

    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError> {
        Ok(self.state().buckets.get(bucket).cloned())
    }

    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        Ok(self.state().buckets.values().cloned().collect())
    }

    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError> {
        let mut state = self.state();
        state.bucket(bucket)?;
        let bucket = state.buckets.get_mut(bucket).expect("it was there a line above");
        match change {
            BucketChange::Versioning(versioning) => bucket.versioning = versioning,
            BucketChange::Encrypted(encrypted) => bucket.encrypted = encrypted,
            BucketChange::Setting(name, Some(value)) => drop(bucket.settings.insert(name, value)),
            BucketChange::Setting(name, None) => drop(bucket.settings.remove(&name)),
        }
        Ok(())
    }

    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        let mut state = self.state();
        state.bucket(bucket)?;
        if state.versions.iter().any(|((of, _), versions)| of == bucket && !versions.is_empty()) {
            return Err(fail(ObjectErrorKind::NotEmpty, format!("bucket {bucket} is not empty")));
        }
        state.uploads.retain(|(of, ..), _| of != bucket);
        state.buckets.remove(bucket);
        Ok(())
    }
}

struct Staged {
    state: Arc<Mutex<State>>,
    bytes: Vec<u8>,
    encrypted: bool,
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Staging for Staged {
    fn finish(self: Box<Self>) -> Result<Content, ObjectError> {
        let mut state = self.state.lock().expect("no check panics while it holds the lock");
        let (id, bytes) = (state.number(), self.bytes.len() as u64);
        state.bytes.insert(id, Arc::new(self.bytes));
        Ok(Content { id, place: String::new(), bytes, key: self.encrypted.then(|| "memory".to_owned()) })
    }
}

impl Contents for MemoryObjects {
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError> {
        Ok(Box::new(Staged { state: self.0.clone(), bytes: Vec::new(), encrypted }))
    }

    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError> {
        let state = self.state();
        let all: Option<Vec<u8>> = contents.iter().try_fold(Vec::new(), |mut all, content| {
            all.extend_from_slice(state.bytes.get(&content.id)?);
            Some(all)
        });
        let all = all.ok_or_else(|| fail(ObjectErrorKind::Damaged, "the bytes are gone".to_owned()))?;
        let to = (to as usize).min(all.len());
        Ok(Box::new(Cursor::new(all[(from as usize).min(to)..to].to_vec())))
    }

    fn discard(&self, content: Content) {
        self.state().bytes.remove(&content.id);
    }
}

impl Objects for MemoryObjects {
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError> {
        self.state().put(bucket, key, contents, meta, &condition)
    }

    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        let state = self.state();
        state.bucket(bucket)?;
        let Some(versions) = state.versions.get(&(bucket.to_owned(), key.to_owned())) else { return Ok(None) };
        let newest = versions.last().map(|version| version.number);
        let found = versions.iter().rev().find(|version| id.is_none_or(|id| version.id == id));
        Ok(found.map(|version| Version { latest: Some(version.number) == newest, ..version.clone() }))
    }

    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError> {
        let mut state = self.state();
        state.bucket(bucket)?;
        targets.iter().map(|(key, id)| state.remove(bucket, key, id.as_deref())).collect()
    }

    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError> {
        let mut state = self.state();
        state.bucket(bucket)?;
        let versions = state.versions.entry((bucket.to_owned(), key.to_owned())).or_default();
        let found = versions.iter_mut().find(|version| version.id == id && !version.delete_marker);
        let version = found.ok_or_else(|| fail(ObjectErrorKind::NoKey, format!("{key} is not there")))?;
        match change {
            Amend::Tags(tags) => version.meta.tags = tags,
            Amend::Replication(replication) => version.meta.replication = replication,
        }
        Ok(())
    }

    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        let state = self.state();
        state.bucket(bucket)?;
        let keys = state
            .versions
            .iter()
            .filter(|((of, key), _)| of == bucket && key.starts_with(&listing.prefix) && *key >= listing.from);
        let mut found = Vec::new();
        for ((_, key), versions) in keys {
            let newest_first = versions.iter().rev().enumerate();
            let mut all: Vec<_> =
                newest_first.map(|(at, version)| Version { latest: at == 0, ..version.clone() }).collect();
            match &listing.from_version {
                _ if !listing.versions => all.retain(|version| version.latest && !version.delete_marker),
                Some(id) if *key == listing.from => {
                    let at = all.iter().position(|version| version.id == *id).map_or(all.len(), |at| at + 1);
                    all.drain(..at);
                }
                _ => {}
            }
            found.extend(all);
        }
        found.truncate(listing.limit);
        Ok(found)
    }
}

impl Uploads for MemoryObjects {
    fn create_upload(&self, bucket: &str, key: &str, meta: Meta, encrypted: bool) -> Result<Upload, ObjectError> {
        let mut state = self.state();
        state.bucket(bucket)?;
        let number = state.number();
        let (id, begun) = (format!("{number:016x}"), Timestamp::from_nanos(number as i64));
        let upload = Upload { id: id.clone(), key: key.to_owned(), begun, encrypted, meta };
        state.uploads.insert((bucket.to_owned(), key.to_owned(), id), upload.clone());
        Ok(upload)
    }

    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Upload>, ObjectError> {
        Ok(self.state().uploads.get(&(bucket.to_owned(), key.to_owned(), id.to_owned())).cloned())
    }

    fn put_part(&self, bucket: &str, upload: &Upload, part: Part) -> Result<(), ObjectError> {
        let mut state = self.state();
        if !state.uploads.contains_key(&(bucket.to_owned(), upload.key.clone(), upload.id.clone())) {
            return Err(fail(ObjectErrorKind::NoUpload, format!("there is no upload {}", upload.id)));
        }
        state.parts.insert((upload.id.clone(), part.number), part);
        Ok(())
    }

    fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError> {
        let state = self.state();
        let parts = state.parts.iter().filter(|((of, number), _)| of == upload && *number > after);
        Ok(parts.map(|(_, part)| part.clone()).take(limit).collect())
    }

    fn end_upload(
        &self,
        bucket: &str,
        upload: &Upload,
        object: Option<(Vec<Part>, Meta, PutCondition)>,
    ) -> Result<Option<Version>, ObjectError> {
        let mut state = self.state();
        let name = (bucket.to_owned(), upload.key.clone(), upload.id.clone());
        if !state.uploads.contains_key(&name) {
            return Err(fail(ObjectErrorKind::NoUpload, format!("there is no upload {}", upload.id)));
        }
        let mut version = None;
        if let Some((parts, meta, condition)) = object {
            if parts.iter().any(|part| state.parts.get(&(upload.id.clone(), part.number)) != Some(part)) {
                return Err(fail(ObjectErrorKind::ConditionFailed, "a part was replaced meanwhile".to_owned()));
            }
            let contents = parts.into_iter().map(|part| part.content).collect();
            version = Some(state.put(bucket, &upload.key, contents, meta, &condition)?);
        }
        state.uploads.remove(&name);
        state.parts.retain(|(of, _), _| *of != upload.id);
        Ok(version)
    }

    fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError> {
        let state = self.state();
        state.bucket(bucket)?;
        let uploads = state.uploads.iter().filter(|((of, key, id), _)| {
            of == bucket && key.starts_with(prefix) && (key.as_str(), id.as_str()) > after
        });
        Ok(uploads.map(|(_, upload)| upload.clone()).take(limit).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Subject, check};

    struct Memory;

    impl Subject for Memory {
        fn fresh(&mut self) -> Arc<dyn Uploads> {
            Arc::new(MemoryObjects::default())
        }
        fn reopen(&mut self, objects: Arc<dyn Uploads>) -> Arc<dyn Uploads> {
            objects
        }
    }

    #[test]
    fn keeps_the_contract() {
        check(&mut Memory);
    }
}
