//! Where a benchmark's servers keep what they keep.

use anyhow::Context;
use std::{
    io::Write,
    path::{Path, PathBuf},
};

/// A directory for one run, removed at its end.
pub struct Scratch(pub PathBuf);

impl Scratch {
    /// Next to the data directory, so that it is on the same disk.
    pub fn beside(data_dir: &Path) -> anyhow::Result<Self> {
        let mut name = data_dir.file_name().unwrap_or("kilter".as_ref()).to_owned();
        name.push(format!(".bench-{}", std::process::id()));
        let path = data_dir.parent().unwrap_or(Path::new("")).join(name);
        std::fs::create_dir_all(&path).with_context(|| format!("{} cannot be made", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            // Nobody is left to tell when standard error is closed.
            let _ = writeln!(std::io::stderr(), "kilter: remove {} yourself: {error}", self.0.display());
        }
    }
}
