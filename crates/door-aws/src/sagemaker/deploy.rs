//! From a model's archive in a bucket to what an endpoint serves.

use super::{
    Inner, Result,
    store::{Deployed, Endpoint, Status},
};
use crate::AwsError;
use kilter_core::ports::{function::Model, objects::ObjectError, table::TableError};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, MutexGuard, PoisonError},
};

/// Of an archive as it lies in its bucket.
const ARCHIVE_BYTES_MAX: u64 = 64 << 20;

/// Models in memory: by endpoint, with the archive that they came from.
pub type Serving = BTreeMap<String, (String, Arc<dyn Model>)>;

/// Reads the model that an endpoint wants, in the background: whoever asks sees `Creating` or `Updating` meanwhile.
pub fn begin(inner: &Arc<Inner>, endpoint: String) {
    let inner = inner.clone();
    tokio::task::spawn_blocking(move || {
        if let Err(error) = inner.deploy(&endpoint) {
            tracing::error!(endpoint, %error, "an endpoint's model was not deployed; the next start tries again");
        }
    });
}

impl Inner {
    /// Goes on with deployments, and deletes archives that nobody serves: what a stop in their middle left.
    pub fn resume(&self) -> std::result::Result<(), TableError> {
        let mut used = BTreeSet::new();
        for endpoint in self.store.all::<Endpoint>()? {
            if matches!(endpoint.status, Status::Creating | Status::Updating)
                && let Err(error) = self.deploy(&endpoint.name)
            {
                tracing::error!(endpoint = endpoint.name, %error, "an endpoint's model was not deployed");
            }
        }
        for endpoint in self.store.all::<Endpoint>()? {
            used.extend(endpoint.served.into_iter().chain(endpoint.wanted).map(|deployed| deployed.archive));
        }
        for archive in self.store.archives()?.iter().filter(|archive| !used.contains(*archive)) {
            self.store.drop_archive(archive)?;
        }
        Ok(())
    }

    fn deploy(&self, name: &str) -> Result<()> {
        let Some(Endpoint { wanted: Some(wanted), .. }) = self.store.get(name)? else { return Ok(()) };
        let read = self.fetch(&wanted);
        let _alone = self.changes();
        let Some(mut endpoint) = self.store.get::<Endpoint>(name)? else { return Ok(()) };
        endpoint.modified = self.clock.now();
        let unused = match read {
            Ok(model) => {
                self.serving().insert(name.to_owned(), (wanted.archive.clone(), model));
                endpoint.wanted = None;
                endpoint.status = Status::InService;
                endpoint.served.replace(wanted).map(|before| before.archive)
            }
            Err(why) => {
                tracing::warn!(endpoint = name, why, "an endpoint's model cannot be served");
                endpoint.failure = Some(why);
                endpoint.status = if endpoint.served.is_some() { Status::InService } else { Status::Failed };
                // What failed is shown as long as there is nothing else to show.
                let archive = wanted.archive.clone();
                if endpoint.served.is_some() {
                    endpoint.wanted = None;
                } else {
                    endpoint.wanted = Some(wanted);
                }
                Some(archive)
            }
        };
        self.store.save(&endpoint)?;
        unused.map_or(Ok(()), |archive| self.store.drop_archive(&archive).map_err(AwsError::internal))
    }

    /// Copies the archive out of its bucket, then reads it. `Err`: why it cannot be served.
    fn fetch(&self, wanted: &Deployed) -> std::result::Result<Arc<dyn Model>, String> {
        let url = wanted.model.data_url().unwrap_or_default();
        let place =
            url.strip_prefix("s3://").and_then(|place| place.split_once('/')).filter(|(_, key)| !key.is_empty());
        let (bucket, key) = place.ok_or_else(|| {
            format!(
                "ModelDataUrl of model {} is '{url}'; expected is s3://BUCKET/KEY of a bucket here",
                wanted.variant.model
            )
        })?;
        let unreadable = |error: ObjectError| format!("{url} cannot be read: {}", error.message);
        let none = || format!("Could not find model data at {url}: there is no such object in a bucket of this server");
        let bucket_there = self.objects.bucket(bucket).map_err(unreadable)?.is_some();
        let found = if bucket_there { self.objects.version(bucket, key, None).map_err(unreadable)? } else { None };
        let object = found.filter(|version| !version.delete_marker).ok_or_else(none)?;
        if object.bytes() > ARCHIVE_BYTES_MAX {
            return Err(format!("{url} has {} bytes; an archive has at most {ARCHIVE_BYTES_MAX}", object.bytes()));
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = self.objects.read(&object.contents, 0, object.bytes()).map_err(unreadable)?;
        let copied = self.store.drop_archive(&wanted.archive).map_err(|error| error.to_string());
        copied
            .and_then(|()| {
                let kept = self.store.keep_archive(&wanted.archive, &mut bytes, ARCHIVE_BYTES_MAX);
                kept.map_err(|error| error.to_string())
            })
            .map_err(|why| format!("{url} cannot be copied: {why}"))?;
        self.models.open(&mut self.store.archive(&wanted.archive)).map_err(|why| format!("{url} is no model: {why}"))
    }

    /// The model of an endpoint that is in service: from memory, or after a start from its archive.
    pub fn model(&self, endpoint: &str, archive: &str) -> Result<Arc<dyn Model>> {
        let known = || {
            let serving = self.serving();
            serving.get(endpoint).filter(|(of, _)| of == archive).map(|(_, model)| model.clone())
        };
        if let Some(model) = known() {
            return Ok(model);
        }
        let _one = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(model) = known() {
            return Ok(model);
        }
        let model = self.models.open(&mut self.store.archive(archive)).map_err(AwsError::internal)?;
        self.serving().insert(endpoint.to_owned(), (archive.to_owned(), model.clone()));
        Ok(model)
    }

    pub fn stop_serving(&self, endpoint: &str) {
        self.serving().remove(endpoint);
    }

    fn serving(&self) -> MutexGuard<'_, Serving> {
        self.serving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
