//! Takes over a folder of plain files, `<bucket>/<key>`, as earlier releases kept the lake.

use super::{EmbeddedObjects, fault};
use kilter_core::ports::objects::*;
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    path::Path,
};

/// Bytes that are read and written at a time.
const PIECE: usize = 256 * 1024;

impl EmbeddedObjects {
    /// Makes every file below `folder` an object and deletes the file then; says how many. A crash in between is
    /// answered by calling it again: a key that is there already is not replaced. Staging names (`#`) are dropped.
    ///
    /// # Errors
    /// `Io` where the disk refuses, `Invalid` for a file whose name is no key; what was not moved stays.
    pub fn adopt(&self, folder: &Path, region: &str) -> Result<u64, ObjectError> {
        let failed = |error| fault("adopt", format!("{} cannot be moved into the objects", folder.display()), error);
        if !folder.is_dir() {
            return Ok(0);
        }
        let mut adopted = 0;
        for bucket in fs::read_dir(folder).map_err(failed)? {
            let bucket = bucket.map_err(failed)?;
            let name = bucket.file_name().to_string_lossy().into_owned();
            if !bucket.file_type().map_err(failed)?.is_dir() {
                continue;
            }
            self.create_bucket(&name, region)?;
            let mut folders = vec![bucket.path()];
            while let Some(inner) = folders.pop() {
                for entry in fs::read_dir(&inner).map_err(failed)? {
                    let path = entry.map_err(failed)?.path();
                    if path.is_dir() {
                        folders.push(path);
                        continue;
                    }
                    adopted += u64::from(self.adopt_file(&bucket.path(), &name, &path)?);
                    fs::remove_file(&path).map_err(failed)?;
                }
            }
        }
        // Only empty folders are left.
        fs::remove_dir_all(folder).map_err(failed)?;
        Ok(adopted)
    }

    fn adopt_file(&self, root: &Path, bucket: &str, path: &Path) -> Result<bool, ObjectError> {
        let failed = |error| fault("adopt", format!("{} cannot be read", path.display()), error);
        let invalid = || {
            let message = format!("{} has a name that is no key; move it elsewhere and start again", path.display());
            ObjectError::new(ObjectErrorKind::Invalid, "adopt", message)
        };
        let key = path.strip_prefix(root).ok().and_then(Path::to_str).ok_or_else(invalid)?;
        if key.contains('#') || self.version(bucket, key, None)?.is_some() {
            return Ok(false);
        }
        let mut file = File::open(path).map_err(failed)?;
        let mut staging = self.stage(false)?;
        let (mut hash, mut piece) = (md5::Context::new(), vec![0; PIECE]);
        loop {
            let read = match file.read(&mut piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(failed(error)),
            };
            hash.consume(&piece[..read]);
            staging.write_all(&piece[..read]).map_err(failed)?;
        }
        let meta = Meta { etag: format!("{:x}", hash.finalize()), ..Meta::default() };
        self.publish(bucket, key, vec![staging.finish()?], meta, PutCondition::Absent)?;
        Ok(true)
    }
}
