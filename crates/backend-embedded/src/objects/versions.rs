//! Objects and their versions: a key's newest version is one item, all older ones lie in a second table. A key that
//! has any version has a newest one.

use super::{
    EmbeddedObjects, FILES, PAGE, bucket_in,
    commit::{Draft, from_table, parse},
    newest, older, place, sk_of,
};
use kilter_core::{
    Timestamp,
    ports::{objects::*, table::SkRange},
};

impl Objects for EmbeddedObjects {
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        mut contents: Vec<Content>,
        meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError> {
        let give_up = |contents: &[Content]| contents.iter().for_each(|content| self.disk.unlink(&content.place));
        let ready = check_key(key).and_then(|()| self.need_bucket(bucket)).and_then(|_| self.next_id());
        let number = ready.inspect_err(|_| give_up(&contents))?;
        if let [content] = contents.as_mut_slice()
            && content.place.starts_with(place::STAGING)
        {
            let to = place::object(bucket, key, content.id, content.key.is_some());
            if let Err(error) = self.disk.settle(content, to) {
                give_up(&contents);
                return Err(error);
            }
        }
        let put =
            Put { key: key.to_owned(), number, now: self.clock.now(), contents: contents.clone(), meta, condition };
        let name = bucket.to_owned();
        self.change(move |draft| put_version(draft, &name, put)).inspect_err(|error| {
            // After a failed commit nobody knows whether the index has the object.
            if error.kind != ObjectErrorKind::Io {
                give_up(&contents);
            }
        })
    }

    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        self.need_bucket(bucket)?;
        let found = self.table.get(&newest(bucket), "", key).map_err(|error| from_table(&error))?;
        let Some(mut found) = found.as_deref().map(parse::<Version>).transpose()? else { return Ok(None) };
        found.latest = true;
        let Some(id) = id.filter(|id| *id != found.id) else { return Ok(Some(found)) };
        let all =
            self.table.range(&older(bucket), key, SkRange::ALL, usize::MAX).map_err(|error| from_table(&error))?;
        Ok(Self::items::<Version>(all)?.into_iter().find(|version| version.id == id))
    }

    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError> {
        targets.iter().try_for_each(|(key, _)| check_key(key))?;
        let now = self.clock.now();
        let targets: Result<Vec<_>, ObjectError> =
            targets.iter().map(|(key, id)| Ok((key.clone(), id.clone(), self.next_id()?))).collect();
        let (targets, name) = (targets?, bucket.to_owned());
        self.change(move |draft| {
            let versioning = bucket_in(draft, &name)?.versioning;
            let remove = |(key, id, number): (String, Option<String>, u64)| match id {
                Some(id) => remove_version(draft, &name, &key, &id),
                None => remove_newest(draft, &name, &key, versioning, number, now),
            };
            targets.into_iter().map(remove).collect()
        })
    }

    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError> {
        let (name, key, id) = (bucket.to_owned(), key.to_owned(), id.to_owned());
        self.change(move |draft| {
            bucket_in(draft, &name)?;
            let found = find(draft, &name, &key, &id)?.filter(|(version, _)| !version.delete_marker);
            let Some((mut version, is_newest)) = found else {
                let message = format!("bucket {name} has no object {key:?} of version {id}");
                return Err(ObjectError::new(ObjectErrorKind::NoKey, "amend", message));
            };
            match change {
                Amend::Tags(tags) => version.meta.tags = tags,
                Amend::Replication(replication) => version.meta.replication = replication,
            }
            match is_newest {
                true => draft.put(&newest(&name), "", &key, &version),
                false => draft.put(&older(&name), &key, &older_sk(version.number), &version),
            }
        })
    }

    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        self.need_bucket(bucket)?;
        let to = behind_prefix(&listing.prefix);
        let mut from = listing.from.clone().max(listing.prefix.clone());
        let mut found = Vec::new();
        while found.len() < listing.limit {
            let range = SkRange { from: &from, to: to.as_deref(), descending: false };
            // Delete markers are read and not shown.
            let limit = (listing.limit - found.len()).saturating_add(1).min(PAGE);
            let page = self.table.range(&newest(bucket), "", range, limit).map_err(|error| from_table(&error))?;
            let full = page.len() == limit;
            for mut version in Self::items::<Version>(page)? {
                from = format!("{}\0", version.key);
                version.latest = true;
                if listing.versions {
                    self.list_versions(bucket, version, listing, &mut found)?;
                } else if !version.delete_marker {
                    found.push(version);
                }
            }
            if !full {
                break;
            }
        }
        found.truncate(listing.limit);
        Ok(found)
    }
}

impl EmbeddedObjects {
    /// All versions of a key, those behind `from_version` only where the listing starts within this key.
    fn list_versions(
        &self,
        bucket: &str,
        newest: Version,
        listing: &Listing,
        into: &mut Vec<Version>,
    ) -> Result<(), ObjectError> {
        if into.len() >= listing.limit {
            return Ok(());
        }
        let key = newest.key.clone();
        let older = self.table.range(&older(bucket), &key, SkRange::ALL, usize::MAX);
        let mut versions = vec![newest];
        versions.extend(Self::items::<Version>(older.map_err(|error| from_table(&error))?)?);
        if let Some(id) = listing.from_version.as_ref().filter(|_| key == listing.from) {
            // The version may have been removed since: then by its number.
            let number = versions.iter().find(|version| version.id == *id).map(|version| version.number);
            let number = number.or_else(|| u64::from_str_radix(id, 16).ok());
            versions.retain(|version| number.is_some_and(|number| version.number < number));
        }
        into.extend(versions);
        Ok(())
    }
}

pub(super) struct Put {
    pub key: String,
    pub number: u64,
    pub now: Timestamp,
    pub contents: Vec<Content>,
    pub meta: Meta,
    pub condition: PutCondition,
}

pub(super) fn put_version(draft: &mut Draft, bucket: &str, put: Put) -> Result<Version, ObjectError> {
    let versioning = bucket_in(draft, bucket)?.versioning;
    let current: Option<Version> = draft.get(&newest(bucket), "", &put.key)?;
    let object = current.as_ref().filter(|version| !version.delete_marker);
    let holds = match &put.condition {
        PutCondition::Always => true,
        PutCondition::Absent => object.is_none(),
        PutCondition::Etag(etag) => object.is_some_and(|object| object.meta.etag == *etag),
    };
    if !holds {
        let kind = match (&put.condition, object) {
            (PutCondition::Etag(_), None) => ObjectErrorKind::NoKey,
            _ => ObjectErrorKind::ConditionFailed,
        };
        return Err(ObjectError::new(kind, "publish", format!("the condition on {:?} does not hold", put.key)));
    }
    let version = Version {
        key: put.key,
        id: new_id(versioning, put.number),
        number: put.number,
        latest: true,
        modified: put.now,
        delete_marker: false,
        contents: put.contents,
        meta: put.meta,
    };
    for content in &version.contents {
        draft.put(FILES, "", &sk_of(content.id), &content.place)?;
    }
    step_aside(draft, bucket, &version.key, current, versioning)?;
    draft.put(&newest(bucket), "", &version.key, &version)?;
    Ok(version)
}

fn remove_newest(
    draft: &mut Draft,
    bucket: &str,
    key: &str,
    versioning: Versioning,
    number: u64,
    now: Timestamp,
) -> Result<Removed, ObjectError> {
    let current: Option<Version> = draft.get(&newest(bucket), "", key)?;
    step_aside(draft, bucket, key, current, versioning)?;
    if versioning == Versioning::Off {
        draft.delete(&newest(bucket), "", key);
        return Ok(Removed::default());
    }
    let marker = Version {
        key: key.to_owned(),
        id: new_id(versioning, number),
        number,
        latest: true,
        modified: now,
        delete_marker: true,
        contents: Vec::new(),
        meta: Meta::default(),
    };
    draft.put(&newest(bucket), "", key, &marker)?;
    Ok(Removed { version: Some(marker.id), delete_marker: true })
}

fn remove_version(draft: &mut Draft, bucket: &str, key: &str, id: &str) -> Result<Removed, ObjectError> {
    let Some((version, is_newest)) = find(draft, bucket, key, id)? else {
        return Ok(Removed { version: Some(id.to_owned()), delete_marker: false });
    };
    free(draft, &version);
    if is_newest {
        // The next older one comes to the front.
        match draft.partition::<Version>(&older(bucket), key)?.into_iter().next() {
            Some(next) => {
                draft.delete(&older(bucket), key, &older_sk(next.number));
                draft.put(&newest(bucket), "", key, &next)?;
            }
            None => draft.delete(&newest(bucket), "", key),
        }
    } else {
        draft.delete(&older(bucket), key, &older_sk(version.number));
    }
    Ok(Removed { version: Some(version.id), delete_marker: version.delete_marker })
}

/// Makes room for a new newest version: what is there becomes an older one, or goes where a new one replaces it.
fn step_aside(
    draft: &mut Draft,
    bucket: &str,
    key: &str,
    current: Option<Version>,
    versioning: Versioning,
) -> Result<(), ObjectError> {
    let Some(current) = current else { return Ok(()) };
    let replaces_null = versioning != Versioning::Enabled;
    if replaces_null && current.id == NULL_VERSION {
        free(draft, &current);
        return Ok(());
    }
    if replaces_null {
        let old = draft.partition::<Version>(&older(bucket), key)?;
        if let Some(null) = old.into_iter().find(|version| version.id == NULL_VERSION) {
            free(draft, &null);
            draft.delete(&older(bucket), key, &older_sk(null.number));
        }
    }
    draft.put(&older(bucket), key, &older_sk(current.number), &current)
}

/// The version, and whether it is the newest.
fn find(draft: &Draft, bucket: &str, key: &str, id: &str) -> Result<Option<(Version, bool)>, ObjectError> {
    let current: Option<Version> = draft.get(&newest(bucket), "", key)?;
    if let Some(current) = current.filter(|current| current.id == id) {
        return Ok(Some((current, true)));
    }
    let old = draft.partition::<Version>(&older(bucket), key)?;
    Ok(old.into_iter().find(|version| version.id == id).map(|version| (version, false)))
}

fn free(draft: &mut Draft, version: &Version) {
    for content in &version.contents {
        draft.delete(FILES, "", &sk_of(content.id));
        draft.freed.push(content.place.clone());
    }
}

fn new_id(versioning: Versioning, number: u64) -> String {
    match versioning {
        Versioning::Enabled => format!("{number:016x}"),
        Versioning::Off | Versioning::Suspended => NULL_VERSION.to_owned(),
    }
}

/// The newest of the older versions comes first.
fn older_sk(number: u64) -> String {
    format!("{:016x}", u64::MAX - number)
}

pub(super) fn check_key(key: &str) -> Result<(), ObjectError> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) {
        return Ok(());
    }
    let message = format!("a key has {} bytes; allowed are 1 to {KEY_BYTES_MAX}", key.len());
    Err(ObjectError::new(ObjectErrorKind::Invalid, "access", message))
}
