//! Replication between buckets of this site: a rule marks what is put (PENDING), one worker copies it and says so
//! (COMPLETED, or FAILED where the destination is gone). What is in another site waits for there being one.
//!
//! The marks are in the index, so a crash loses none: a start looks for what is still pending.

use super::{
    document::{Element, malformed},
    failure::{bad, not_implemented},
    transfer,
};
use crate::AwsError;
use kilter_core::ports::objects::*;
use std::{
    io::Read,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::Duration,
};

/// The setting of a bucket that holds its rules.
pub(super) const SETTING: &str = "replication";
const RULES_MAX: usize = 1_000;
/// Versions that wait for the worker in memory; where there are more, it looks through the buckets instead.
const WAITING_MAX: usize = 10_000;
/// How soon a stop is seen.
const TICK: Duration = Duration::from_millis(200);
const PAGE: usize = 1_000;

#[derive(Debug)]
struct Rule {
    enabled: bool,
    priority: i64,
    prefix: String,
    tags: Vec<(String, String)>,
    destination: String,
    class: Option<String>,
}

impl Rule {
    fn read(element: &Element) -> Result<Self, AwsError> {
        for (name, what) in [
            ("SourceSelectionCriteria", "criteria of the source"),
            ("ExistingObjectReplication", "replication of existing objects"),
        ] {
            if element.child(name).is_some() {
                return Err(not_implemented(what));
            }
        }
        let markers = element.child("DeleteMarkerReplication").and_then(|markers| markers.get("Status"));
        if markers == Some("Enabled") {
            return Err(not_implemented("replication of delete markers"));
        }
        let enabled = match element.get("Status") {
            Some("Enabled") => true,
            Some("Disabled") => false,
            _ => return Err(malformed()),
        };
        let (mut prefix, mut tags) = (element.get("Prefix").unwrap_or_default().to_owned(), Vec::new());
        if let Some(filter) = element.child("Filter") {
            for part in &filter.child("And").unwrap_or(filter).children {
                match part.name.as_str() {
                    "Prefix" => prefix.clone_from(&part.text),
                    "Tag" => tags.push((
                        part.get("Key").ok_or_else(malformed)?.to_owned(),
                        part.get("Value").ok_or_else(malformed)?.to_owned(),
                    )),
                    _ => return Err(malformed()),
                }
            }
        }
        let destination = element.child("Destination").ok_or_else(malformed)?;
        if let Some(other) =
            destination.children.iter().find(|child| !matches!(child.name.as_str(), "Bucket" | "StorageClass"))
        {
            return Err(not_implemented(&format!("{} of a replication's destination", other.name)));
        }
        let bucket = destination.get("Bucket").and_then(|arn| arn.strip_prefix("arn:aws:s3:::"));
        let invalid = || bad("InvalidArgument", "Invalid bucket ARN.");
        Ok(Self {
            enabled,
            priority: element.get("Priority").map_or(Ok(0), |text| text.trim().parse().map_err(|_| malformed()))?,
            prefix,
            tags,
            destination: bucket.filter(|bucket| !bucket.is_empty()).ok_or_else(invalid)?.to_owned(),
            class: destination.get("StorageClass").map(str::to_owned),
        })
    }

    fn covers(&self, key: &str, meta: &Meta) -> bool {
        self.enabled && key.starts_with(&self.prefix) && self.tags.iter().all(|tag| meta.tags.contains(tag))
    }
}

/// Reads a document: as it is kept (every rule has an ID), and the buckets that it names.
pub(super) fn check(body: &[u8]) -> Result<(Element, Vec<String>), AwsError> {
    let mut root = Element::parse(body, "ReplicationConfiguration")?;
    root.only(&["Role", "Rule"])?;
    if root.get("Role").is_none_or(|role| !role.starts_with("arn:aws:iam::")) {
        return Err(bad("InvalidArgument", "Invalid Role ARN"));
    }
    let mut destinations = Vec::new();
    for (at, rule) in root.children.iter_mut().filter(|child| child.name == "Rule").enumerate() {
        if rule.get("ID").is_none_or(str::is_empty) {
            rule.children.retain(|child| child.name != "ID");
            let text = format!("rule-{}", at + 1);
            rule.children.insert(0, Element { name: "ID".to_owned(), text, children: Vec::new() });
        }
        destinations.push(Rule::read(rule)?.destination);
    }
    if destinations.is_empty() || destinations.len() > RULES_MAX {
        return Err(malformed());
    }
    Ok((root, destinations))
}

/// The rule that covers an object: the enabled one of the highest priority.
fn rule_for(bucket: &Bucket, key: &str, meta: &Meta) -> Option<Rule> {
    let document = bucket.settings.get(SETTING)?;
    let root = Element::parse(document.as_bytes(), "ReplicationConfiguration").ok()?;
    let rules = root.all("Rule").filter_map(|rule| Rule::read(rule).ok());
    rules.filter(|rule| rule.covers(key, meta)).max_by_key(|rule| rule.priority)
}

/// A version that is to be copied.
struct Waiting {
    bucket: String,
    key: String,
    id: String,
}

/// Storage that follows its buckets' replication rules.
pub struct Replicating {
    inner: Arc<dyn Uploads>,
    tell: SyncSender<Waiting>,
    waiting: Mutex<Receiver<Waiting>>,
    /// More waited than the queue holds, or were left by an earlier process.
    look: AtomicBool,
}

impl Replicating {
    pub fn new(inner: Arc<dyn Uploads>) -> Self {
        let (tell, waiting) = sync_channel(WAITING_MAX);
        Self { inner, tell, waiting: Mutex::new(waiting), look: AtomicBool::new(true) }
    }

    fn mark(&self, bucket: &str, key: &str, meta: &mut Meta) -> Result<(), ObjectError> {
        // What is being copied here is not copied on.
        if meta.replication.is_none()
            && let Some(bucket) = self.inner.bucket(bucket)?
            && rule_for(&bucket, key, meta).is_some()
        {
            meta.replication = Some(Replication::Pending);
        }
        Ok(())
    }

    fn tell(&self, bucket: &str, version: &Version) {
        if version.meta.replication == Some(Replication::Pending) {
            let waiting = Waiting { bucket: bucket.to_owned(), key: version.key.clone(), id: version.id.clone() };
            if self.tell.try_send(waiting).is_err() {
                self.look.store(true, Ordering::Release);
            }
        }
    }

    /// Copies what waits, until `stop`. Blocking: on one thread of its own.
    pub fn run(&self, stop: &AtomicBool) {
        let queue = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.load(Ordering::Acquire) {
            if self.look.swap(false, Ordering::AcqRel)
                && let Err(error) = self.look_through()
            {
                tracing::warn!(%error, "what waits to be replicated could not be looked for; it is tried again");
                self.look.store(true, Ordering::Release);
            }
            if let Ok(waiting) = queue.recv_timeout(TICK) {
                self.copy_one(&waiting);
            }
        }
    }

    fn look_through(&self) -> Result<(), ObjectError> {
        for bucket in self.inner.buckets()?.iter().filter(|bucket| bucket.settings.contains_key(SETTING)) {
            let mut listing = Listing { limit: PAGE, versions: true, ..Listing::default() };
            loop {
                let page = self.inner.list(&bucket.name, &listing)?;
                let Some(last) = page.last() else { break };
                (listing.from, listing.from_version) = (last.key.clone(), Some(last.id.clone()));
                let pending = page.into_iter().filter(|version| version.meta.replication == Some(Replication::Pending));
                // The oldest of a key first, so that the newest ends up in front.
                let mut pending: Vec<_> = pending.collect();
                pending.sort_by_key(|version| version.number);
                for version in pending {
                    self.copy_one(&Waiting { bucket: bucket.name.clone(), key: version.key, id: version.id });
                }
            }
        }
        Ok(())
    }

    fn copy_one(&self, waiting: &Waiting) {
        let status = match self.copy(waiting) {
            Ok(None) => return,
            Ok(Some(())) => Replication::Completed,
            Err(error) if error.kind == ObjectErrorKind::Io => {
                tracing::warn!(bucket = waiting.bucket, %error, "an object could not be replicated; it is tried again");
                self.look.store(true, Ordering::Release);
                return;
            }
            Err(error) => {
                tracing::warn!(bucket = waiting.bucket, %error, "an object cannot be replicated");
                Replication::Failed
            }
        };
        // It may have been removed meanwhile.
        if let Err(error) =
            self.inner.amend(&waiting.bucket, &waiting.key, &waiting.id, Amend::Replication(Some(status)))
            && !matches!(error.kind, ObjectErrorKind::NoKey | ObjectErrorKind::NoBucket)
        {
            tracing::warn!(bucket = waiting.bucket, %error, "an object's replication status could not be kept");
            self.look.store(true, Ordering::Release);
        }
    }

    /// `None`: it is not there any more, or does not wait any more.
    fn copy(&self, waiting: &Waiting) -> Result<Option<()>, ObjectError> {
        let Some(bucket) = self.inner.bucket(&waiting.bucket)? else { return Ok(None) };
        let found = self.inner.version(&waiting.bucket, &waiting.key, Some(&waiting.id))?;
        let Some(source) = found.filter(|found| found.meta.replication == Some(Replication::Pending)) else {
            return Ok(None);
        };
        let gone = |what: &str| ObjectError::new(ObjectErrorKind::NoBucket, "replicate", what.to_owned());
        let rule = rule_for(&bucket, &waiting.key, &source.meta).ok_or_else(|| gone("no rule covers it any more"))?;
        let destination = self.inner.bucket(&rule.destination)?.ok_or_else(|| gone("the destination is gone"))?;
        if destination.versioning != Versioning::Enabled {
            return Err(gone("the destination keeps no versions"));
        }
        let encrypted = source.encrypted() || destination.encrypted;
        let copied = transfer::copy(&*self.inner, &source, (0, source.bytes()), None, encrypted)?;
        let mut meta = Meta { replication: Some(Replication::Replica), ..source.meta };
        if let Some(class) = rule.class.filter(|class| class != "STANDARD") {
            meta.headers.insert(super::meta::STORAGE_CLASS.to_owned(), class);
        }
        self.inner.publish(&rule.destination, &waiting.key, vec![copied.content], meta, PutCondition::Always)?;
        Ok(Some(()))
    }
}

impl Buckets for Replicating {
    fn create_bucket(&self, bucket: &str, region: &str) -> Result<bool, ObjectError> {
        self.inner.create_bucket(bucket, region)
    }
    fn bucket(&self, bucket: &str) -> Result<Option<Bucket>, ObjectError> {
        self.inner.bucket(bucket)
    }
    fn buckets(&self) -> Result<Vec<Bucket>, ObjectError> {
        self.inner.buckets()
    }
    fn configure(&self, bucket: &str, change: BucketChange) -> Result<(), ObjectError> {
        self.inner.configure(bucket, change)
    }
    fn delete_bucket(&self, bucket: &str) -> Result<(), ObjectError> {
        self.inner.delete_bucket(bucket)
    }
}

impl Contents for Replicating {
    fn stage(&self, encrypted: bool) -> Result<Box<dyn Staging>, ObjectError> {
        self.inner.stage(encrypted)
    }
    fn read(&self, contents: &[Content], from: u64, to: u64) -> Result<Box<dyn Read + Send>, ObjectError> {
        self.inner.read(contents, from, to)
    }
    fn discard(&self, content: Content) {
        self.inner.discard(content);
    }
}

impl Objects for Replicating {
    fn publish(
        &self,
        bucket: &str,
        key: &str,
        contents: Vec<Content>,
        mut meta: Meta,
        condition: PutCondition,
    ) -> Result<Version, ObjectError> {
        if let Err(error) = self.mark(bucket, key, &mut meta) {
            contents.into_iter().for_each(|content| self.inner.discard(content));
            return Err(error);
        }
        let version = self.inner.publish(bucket, key, contents, meta, condition)?;
        self.tell(bucket, &version);
        Ok(version)
    }
    fn version(&self, bucket: &str, key: &str, id: Option<&str>) -> Result<Option<Version>, ObjectError> {
        self.inner.version(bucket, key, id)
    }
    fn remove(&self, bucket: &str, targets: &[(String, Option<String>)]) -> Result<Vec<Removed>, ObjectError> {
        self.inner.remove(bucket, targets)
    }
    fn amend(&self, bucket: &str, key: &str, id: &str, change: Amend) -> Result<(), ObjectError> {
        self.inner.amend(bucket, key, id, change)
    }
    fn list(&self, bucket: &str, listing: &Listing) -> Result<Vec<Version>, ObjectError> {
        self.inner.list(bucket, listing)
    }
}

impl Uploads for Replicating {
    fn create_upload(&self, bucket: &str, key: &str, meta: Meta, encrypted: bool) -> Result<Upload, ObjectError> {
        self.inner.create_upload(bucket, key, meta, encrypted)
    }
    fn upload(&self, bucket: &str, key: &str, id: &str) -> Result<Option<Upload>, ObjectError> {
        self.inner.upload(bucket, key, id)
    }
    fn put_part(&self, bucket: &str, upload: &Upload, part: Part) -> Result<(), ObjectError> {
        self.inner.put_part(bucket, upload, part)
    }
    fn parts(&self, upload: &str, after: u32, limit: usize) -> Result<Vec<Part>, ObjectError> {
        self.inner.parts(upload, after, limit)
    }
    fn end_upload(
        &self,
        bucket: &str,
        upload: &Upload,
        mut object: Option<(Vec<Part>, Meta, PutCondition)>,
    ) -> Result<Option<Version>, ObjectError> {
        if let Some((_, meta, _)) = &mut object {
            self.mark(bucket, &upload.key, meta)?;
        }
        let version = self.inner.end_upload(bucket, upload, object)?;
        version.iter().for_each(|version| self.tell(bucket, version));
        Ok(version)
    }
    fn uploads(
        &self,
        bucket: &str,
        prefix: &str,
        after: (&str, &str),
        limit: usize,
    ) -> Result<Vec<Upload>, ObjectError> {
        self.inner.uploads(bucket, prefix, after, limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_testkit::{
        MemoryObjects,
        objects::{self as suite, stage},
    };
    use std::thread;

    struct Subject(Arc<MemoryObjects>);

    impl suite::Subject for Subject {
        fn fresh(&mut self) -> Arc<dyn Uploads> {
            self.0 = Arc::default();
            Arc::new(Replicating::new(self.0.clone()))
        }
        fn reopen(&mut self, _: Arc<dyn Uploads>) -> Arc<dyn Uploads> {
            Arc::new(Replicating::new(self.0.clone()))
        }
    }

    #[test]
    fn replicating_storage_keeps_the_contract() {
        suite::check(&mut Subject(Arc::default()));
    }

    fn document(rules: &str) -> String {
        let role = "<Role>arn:aws:iam::123456789012:role/r</Role>";
        format!("<ReplicationConfiguration>{role}{rules}</ReplicationConfiguration>")
    }

    fn rule(inside: &str, to: &str) -> String {
        format!(
            "<Rule><Status>Enabled</Status>{inside}<Destination><Bucket>arn:aws:s3:::{to}</Bucket><StorageClass>STANDARD_IA</StorageClass></Destination></Rule>"
        )
    }

    #[test]
    fn what_a_rule_covers_is_copied_and_says_so() {
        let inner = Arc::new(MemoryObjects::default());
        for bucket in ["from", "one", "two"] {
            inner.create_bucket(bucket, "r").unwrap();
            inner.configure(bucket, BucketChange::Versioning(Versioning::Enabled)).unwrap();
        }
        let rules = rule("<Priority>1</Priority><Filter><Prefix>a</Prefix></Filter>", "one")
            + &rule("<Priority>2</Priority><Filter><Prefix>aa</Prefix></Filter>", "two")
            + &rule("<Priority>3</Priority><Filter><Prefix>gone</Prefix></Filter>", "nowhere");
        let (kept, destinations) = check(document(&rules).as_bytes()).unwrap();
        assert_eq!(destinations, ["one", "two", "nowhere"]);
        inner.configure("from", BucketChange::Setting(SETTING.into(), Some(kept.write()))).unwrap();
        let storage = Replicating::new(inner.clone());
        let put = |key: &str, bytes: &[u8]| {
            let content = stage(&storage, bytes, false);
            storage.publish("from", key, vec![content], Meta::default(), PutCondition::Always).unwrap()
        };
        let put = [put("a", b"first"), put("a", b"second"), put("aa", b"x"), put("b", b"x"), put("gone", b"x")];
        assert_eq!(put[0].meta.replication, Some(Replication::Pending));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| storage.run(&stop));
            let status =
                |at: usize| inner.version("from", &put[at].key, Some(&put[at].id)).unwrap().unwrap().meta.replication;
            while [0, 1, 2, 4].iter().any(|at| status(*at) == Some(Replication::Pending)) {
                thread::yield_now();
            }
            stop.store(true, Ordering::Release);
            let (done, failed) = (Some(Replication::Completed), Some(Replication::Failed));
            assert_eq!([0, 1, 2, 3, 4].map(status), [done, done, done, None, failed]);
        });
        let all =
            |bucket: &str| inner.list(bucket, &Listing { limit: 9, versions: true, ..Listing::default() }).unwrap();
        let one = all("one");
        assert_eq!(one.iter().map(|v| (&*v.key, v.bytes())).collect::<Vec<_>>(), [("a", 6), ("a", 5)]);
        assert!(one.iter().all(|v| v.meta.replication == Some(Replication::Replica)));
        assert_eq!(one[0].meta.headers["x-amz-storage-class"], "STANDARD_IA");
        assert_eq!(all("two").len(), 1, "the rule of the higher priority");
    }

    #[test]
    fn what_was_pending_is_found_after_a_start() {
        let inner = Arc::new(MemoryObjects::default());
        for bucket in ["from", "one"] {
            inner.create_bucket(bucket, "r").unwrap();
            inner.configure(bucket, BucketChange::Versioning(Versioning::Enabled)).unwrap();
        }
        let (kept, _) = check(document(&rule("<Filter/>", "one")).as_bytes()).unwrap();
        inner.configure("from", BucketChange::Setting(SETTING.into(), Some(kept.write()))).unwrap();
        let storage = Replicating::new(inner.clone());
        let content = stage(&storage, b"x", false);
        storage.publish("from", "k", vec![content], Meta::default(), PutCondition::Always).unwrap();
        drop(storage);
        Replicating::new(inner.clone()).look_through().unwrap();
        let found = inner.version("from", "k", None).unwrap().unwrap();
        assert_eq!(found.meta.replication, Some(Replication::Completed));
        assert!(inner.version("one", "k", None).unwrap().is_some());
    }

    #[test]
    fn configurations_are_checked() {
        let fine = rule("<Filter/><DeleteMarkerReplication><Status>Disabled</Status></DeleteMarkerReplication>", "b");
        assert_eq!(check(document(&fine).as_bytes()).unwrap().0.child("Rule").unwrap().get("ID"), Some("rule-1"));
        let markers = rule("<DeleteMarkerReplication><Status>Enabled</Status></DeleteMarkerReplication>", "b");
        assert_eq!(check(document(&markers).as_bytes()).unwrap_err().code, "NotImplemented");
        for bad in
            ["", "<Rule/>", "<Rule><Status>Enabled</Status></Rule>", "<Odd/>", &fine.replace("arn:aws:s3:::", "")]
        {
            assert!(check(document(bad).as_bytes()).is_err(), "{bad}");
        }
    }
}
