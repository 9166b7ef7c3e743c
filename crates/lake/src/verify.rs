//! Checks every manifest against its object: there, unchanged, and as many rows as it says.

use crate::{
    Dataset, Lake, LakeError, LakeErrorKind, columns, lane,
    layout::{Keys, PartName},
};
use kilter_core::TenantId;
use serde::Serialize;
use std::collections::HashSet;

/// What a tenant's lake is worth.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verification {
    /// Objects that are exactly what their manifests say.
    pub intact: u64,
    /// Rows in them.
    pub rows: u64,
    /// Manifests whose object is missing or altered, or that cannot be read.
    pub damaged: Vec<Damage>,
    /// Objects without manifest: attempts that a crash interrupted. They hold no row that is not archived
    /// again under another object; a write in progress shows up here too.
    pub unfinished: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Key of the manifest.
    pub manifest: String,
    pub problem: String,
}

impl Lake {
    /// Reads every object of the tenant: takes as long as that takes. An error means that the store could
    /// not be read; damage is an answer.
    pub fn verify(&self, tenant: &TenantId) -> Result<Verification, LakeError> {
        let keys = self.keys(tenant);
        let mut verification = Verification::default();
        for dataset in Dataset::ALL {
            let mut known = HashSet::new();
            for manifest in self.parts(&keys, &keys.manifests(dataset))? {
                // Whatever is wrong with the manifest, its object is no leaving of a crash.
                known.extend(PartName::of_key(&manifest));
                match self.verify_one(&keys, &manifest) {
                    Ok(rows) => {
                        verification.intact += 1;
                        verification.rows += rows;
                    }
                    Err(error) if error.kind == LakeErrorKind::Damaged => {
                        verification.damaged.push(Damage { manifest, problem: error.message });
                    }
                    Err(error) => return Err(error),
                }
            }
            for key in self.parts(&keys, &keys.dataset(dataset))? {
                if PartName::of_key(&key).is_some_and(|name| !known.contains(&name)) {
                    verification.unfinished.push(key);
                }
            }
        }
        Ok(verification)
    }

    fn parts(&self, keys: &Keys, folder: &str) -> Result<Vec<String>, LakeError> {
        let listed = self.store().list(&keys.bucket, &format!("{folder}/"))?;
        Ok(listed.into_iter().map(|object| object.key).collect())
    }

    fn verify_one(&self, keys: &Keys, key: &str) -> Result<u64, LakeError> {
        let manifest = lane::read_manifest(self.store(), keys, key)?;
        let object = lane::read_object(self.store(), keys, &manifest)?;
        let rows = columns::read_identities(manifest.dataset, &manifest.object, object)?.len() as u64;
        if rows != manifest.rows {
            let message = format!("{} holds {rows} rows, its manifest says {}", manifest.object, manifest.rows);
            return Err(LakeError::new(LakeErrorKind::Damaged, "verify", message));
        }
        Ok(rows)
    }
}
