//! The ports of `objects` on the local disk: contents as files ([`place`]), what they are as items of one redb file.
//!
//! A put is: file written beside what is published and synced; moved to its place, folder synced; index committed.
//! Only then it is there. A removal commits first and deletes files then. So a crash leaves files too many, never one
//! too few; what is too many is cleared away after the next start ([`EmbeddedObjects::scrub`]).

mod adopt;
mod commit;
mod content;
mod place;
mod seal;
mod uploads;
mod versions;

use crate::{directory::create_directory, table::EmbeddedTable};
use commit::{Committer, Draft, from_table, lock, parse};
use content::Disk;
use kilter_core::ports::{
    clock::Clock,
    objects::*,
    table::{Item, SkRange, Table, Write},
};
use serde::de::DeserializeOwned;
use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

/// Tables of the index. Those of a bucket have its name behind the slash, which no bucket's name holds.
const BUCKETS: &str = "buckets";
/// The files that objects and parts are made of, by id.
const FILES: &str = "files";
const META: &str = "meta";
const PARTS: &str = "parts";
/// Ids that are reserved with one commit; a start leaves at most as many unused.
const ID_BLOCK: u64 = 10_000;
/// Items of one read of the index while a listing looks for what it may show.
const PAGE: usize = 1_000;

/// The newest version of each key: pk "", sk the key.
fn newest(bucket: &str) -> String {
    format!("newest/{bucket}")
}

/// All older versions: pk the key, sk sorts the newest first.
fn older(bucket: &str) -> String {
    format!("older/{bucket}")
}

/// Uploads in progress: pk the key, sk the id.
fn uploads(bucket: &str) -> String {
    format!("uploads/{bucket}")
}

pub struct EmbeddedObjects {
    disk: Arc<Disk>,
    table: Arc<dyn Table>,
    committer: Committer,
    clock: Arc<dyn Clock>,
    /// The next id, and the first that is not reserved.
    ids: Mutex<(u64, u64)>,
    /// Ids from here on were given out by this process.
    started_at: u64,
}

impl EmbeddedObjects {
    /// Opens the folder, or makes it. One process at a time.
    ///
    /// # Errors
    /// `Io` where the disk refuses, `Damaged` where index or key are not what was written.
    pub fn open(root: &Path, clock: Arc<dyn Clock>) -> Result<Self, ObjectError> {
        let failed = |error| fault("open", format!("{} cannot be used", root.display()), error);
        create_directory(root).map_err(failed)?;
        content::make_folders(root).map_err(failed)?;
        let table = EmbeddedTable::open(&root.join(place::INDEX)).map_err(|error| from_table(&error))?;
        let table: Arc<dyn Table> = Arc::new(table);
        let next = table.get(META, "", "next").map_err(|error| from_table(&error))?;
        let next: u64 = next.as_deref().map(parse).transpose()?.unwrap_or(1);
        let key = seal::MasterKey::open(&root.join(place::MASTER_KEY))?;
        let disk = Arc::new(Disk { root: root.to_owned(), key });
        let committer = Committer::new(table.clone());
        Ok(Self { disk, table, committer, clock, ids: Mutex::new((next, next)), started_at: next })
    }

    /// Deletes files that a crash left and nothing refers to; says how many. Reads every folder: run it beside the
    /// work, once after a start.
    pub fn scrub(&self) -> Result<u64, ObjectError> {
        self.disk.scrub(self.started_at, &|id| {
            let known = self.table.get(FILES, "", &sk_of(id)).map_err(|error| from_table(&error))?;
            Ok(known.is_some())
        })
    }

    fn next_id(&self) -> Result<u64, ObjectError> {
        let mut ids = lock(&self.ids);
        if ids.0 == ids.1 {
            let reserved = ids.1 + ID_BLOCK;
            let write = Write::put(&Arc::from(META), "", "next", reserved.to_string().into_bytes());
            self.table.commit(vec![write]).map_err(|error| from_table(&error))?;
            ids.1 = reserved;
        }
        ids.0 += 1;
        Ok(ids.0 - 1)
    }

    /// Commits a change, then deletes the files that it freed.
    fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Draft) -> Result<T, ObjectError> + Send + 'static,
    ) -> Result<T, ObjectError> {
        let (done, freed) = self.committer.change(change)?;
        freed.iter().for_each(|place| self.disk.unlink(place));
        Ok(done)
    }

    fn need_bucket(&self, bucket: &str) -> Result<Bucket, ObjectError> {
        self.bucket(bucket)?.ok_or_else(|| no_bucket(bucket))
    }

    fn items<T: DeserializeOwned>(items: Vec<Item>) -> Result<Vec<T>, ObjectError> {
        items.iter().map(|item| parse(&item.value)).collect()
    }
}

impl Buckets for EmbeddedObjects {
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError> {
        if !place::is_bucket(bucket) {
            let rule = "use 3 to 63 lower-case letters, digits, dots and dashes";
            return Err(ObjectError::new(
                ObjectErrorKind::Invalid,
                "create",
                format!("{bucket:?} is no bucket: {rule}"),
            ));
        }
        let made = Bucket {
            name: bucket.to_owned(),
            region: region.to_owned(),
            created: self.clock.now(),
            versioning: Versioning::Off,
            encrypted: false,
            settings: Default::default(),
        };
        self.change(move |draft| {
            if draft.get::<Bucket>(BUCKETS, "", &made.name)?.is_some() {
                return Ok(false);
            }
            draft.put(BUCKETS, "", &made.name, &made)?;
            Ok(true)
        })
    }

    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError> {
        if !place::is_bucket(bucket) {
            return Ok(None);
        }
        let found = self.table.get(BUCKETS, "", bucket).map_err(|error| from_table(&error))?;
        found.as_deref().map(parse).transpose()
    }

    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        Self::items(self.table.range(BUCKETS, "", SkRange::ALL, usize::MAX).map_err(|error| from_table(&error))?)
    }

    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError> {
        let name = bucket.to_owned();
        self.change(move |draft| {
            let mut bucket = bucket_in(draft, &name)?;
            match change {
                BucketChange::Versioning(versioning) => bucket.versioning = versioning,
                BucketChange::Encrypted(encrypted) => bucket.encrypted = encrypted,
                BucketChange::Setting(name, Some(value)) => drop(bucket.settings.insert(name, value)),
                BucketChange::Setting(name, None) => drop(bucket.settings.remove(&name)),
            }
            draft.put(BUCKETS, "", &name, &bucket)
        })
    }

    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        let name = bucket.to_owned();
        for upload in self.uploads(bucket, "", ("", ""), usize::MAX)? {
            self.end_upload(bucket, &upload, None)?;
        }
        self.change(move |draft| {
            bucket_in(draft, &name)?;
            if !draft.is_empty(&newest(&name))? || !draft.is_empty(&uploads(&name))? {
                let message = format!("bucket {name} has objects, versions or delete markers; remove them first");
                return Err(ObjectError::new(ObjectErrorKind::NotEmpty, "delete bucket", message));
            }
            draft.delete(BUCKETS, "", &name);
            Ok(())
        })
    }
}

impl Contents for EmbeddedObjects {
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError> {
        Ok(Box::new(self.disk.stage(self.next_id()?, encrypted)?))
    }

    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn io::Read + Send>, ObjectError> {
        Ok(Box::new(self.disk.read(contents, from, to)?))
    }

    fn discard(&self, content: Content) {
        self.disk.unlink(&content.place);
    }
}

fn bucket_in(draft: &Draft, name: &str) -> Result<Bucket, ObjectError> {
    draft.get(BUCKETS, "", name)?.ok_or_else(|| no_bucket(name))
}

fn sk_of(id: u64) -> String {
    format!("{id:020}")
}

fn no_bucket(bucket: &str) -> ObjectError {
    ObjectError::new(ObjectErrorKind::NoBucket, "access", format!("there is no bucket {bucket}; create it first"))
}

fn damaged(message: &str) -> ObjectError {
    ObjectError::new(ObjectErrorKind::Damaged, "read", format!("{message}; restore the objects from a backup"))
}

fn fault(operation: &'static str, what: String, error: io::Error) -> ObjectError {
    let message = format!("{what}: {error}; check free space and permissions, then try again");
    ObjectError::new(ObjectErrorKind::Io, operation, message).with_source(error)
}
