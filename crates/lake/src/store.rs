//! The object store, blocking and durable: when `put` returns, file and folders are on disk.

use crate::{LakeError, LakeErrorKind, layout::Lane};
use bytes::Bytes;
use futures::executor;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, local::LocalFileSystem, path::Path};
use std::{
    fs, io,
    path::{Path as FsPath, PathBuf},
    sync::Arc,
};

/// Objects below a folder of the local disk. Buckets are its sub-folders.
pub(crate) struct Store {
    objects: Arc<dyn ObjectStore>,
    root: PathBuf,
}

fn refused(operation: &'static str, what: &str, source: object_store::Error) -> LakeError {
    let message = format!("the store refused {what}; check free space and permissions, then try again");
    LakeError::new(LakeErrorKind::Io, operation, message).with_source(source)
}

fn disk(operation: &'static str, path: &FsPath, source: io::Error) -> LakeError {
    let message = format!("{}: {source}; check free space and permissions, then try again", path.display());
    LakeError::new(LakeErrorKind::Io, operation, message).with_source(source)
}

impl Store {
    /// Makes the folder where it is missing.
    pub fn open(root: &FsPath) -> Result<Self, LakeError> {
        fs::create_dir_all(root).map_err(|source| disk("open", root, source))?;
        let objects = LocalFileSystem::new_with_prefix(root)
            .map_err(|source| refused("open", &root.display().to_string(), source))?
            // Writes go to a staging name, are synced, renamed into place, and the folders synced.
            .with_fsync(true);
        Ok(Self { objects: Arc::new(objects), root: root.to_owned() })
    }

    /// Replaces what is there, atomically. Durable on return.
    pub fn put(&self, path: &Path, bytes: Bytes) -> Result<(), LakeError> {
        let put = self.objects.put(path, bytes.into());
        executor::block_on(put).map(drop).map_err(|source| refused("write", path.as_ref(), source))
    }

    /// `None` where there is no such object.
    pub fn get(&self, path: &Path) -> Result<Option<Bytes>, LakeError> {
        let get = async { self.objects.get(path).await?.bytes().await };
        match executor::block_on(get) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(refused("read", path.as_ref(), source)),
        }
    }

    /// Objects below a prefix, in no order.
    pub fn list(&self, prefix: &Path) -> impl Iterator<Item = Result<ObjectMeta, LakeError>> {
        let prefix = prefix.clone();
        executor::block_on_stream(self.objects.list(Some(&prefix)))
            .map(move |object| object.map_err(|source| refused("list", prefix.as_ref(), source)))
    }

    /// An object that is gone already is no error.
    pub fn delete(&self, path: &Path) -> Result<(), LakeError> {
        match executor::block_on(self.objects.delete(path)) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(refused("delete", path.as_ref(), source)),
        }
    }

    pub fn has_bucket(&self, bucket: &str) -> bool {
        self.root.join(bucket).is_dir()
    }

    /// Whether it was made by this call. Durable on return.
    pub fn create_bucket(&self, bucket: &str) -> Result<bool, LakeError> {
        let path = self.root.join(bucket);
        match fs::create_dir(&path) {
            Ok(()) => self.sync_root().map(|()| true),
            Err(source) if source.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(source) => Err(disk("create bucket", &path, source)),
        }
    }

    /// Removes a bucket and all that is in it; says how many objects that were.
    pub fn drop_bucket(&self, bucket: &str) -> Result<u64, LakeError> {
        let mut objects = 0;
        for object in self.list(&Path::from(bucket)) {
            self.delete(&object?.location)?;
            objects += 1;
        }
        // The folders, and what an interrupted write left under a staging name, are no objects.
        let path = self.root.join(bucket);
        match fs::remove_dir_all(&path) {
            Ok(()) => self.sync_root()?,
            Err(source) if source.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(disk("delete bucket", &path, source)),
        }
        Ok(objects)
    }

    /// Deletes what interrupted writes of a lane left under staging names (`<name>#<number>`), which the
    /// store neither lists nor deletes. Only the lane's one writer may call it.
    pub fn sweep(&self, lane: &Lane, folder: &Path) -> Result<(), LakeError> {
        let folder = self.root.join(folder.as_ref());
        let prefix = format!("part-{}-", lane.shard.0);
        let mut folders = vec![folder];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
                Err(source) => return Err(disk("recover", &folder, source)),
            };
            for entry in entries {
                let entry = entry.map_err(|source| disk("recover", &folder, source))?;
                let path = entry.path();
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if name.starts_with("date=") && path.is_dir() {
                    folders.push(path);
                } else if name.starts_with(&prefix) && name.contains('#') {
                    fs::remove_file(&path).map_err(|source| disk("recover", &path, source))?;
                }
            }
        }
        Ok(())
    }

    fn sync_root(&self) -> Result<(), LakeError> {
        let synced = fs::File::open(&self.root).and_then(|root| root.sync_all());
        synced.map_err(|source| disk("sync", &self.root, source))
    }
}
