//! Lifecycle rules: checked, kept, and done. Expiration, noncurrent versions, delete markers that hide nothing, and
//! uploads that were never completed. Transitions are kept and move nothing: all storage classes lie on one disk.

use super::{
    document::{Element, malformed},
    failure::bad,
};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::{
        clock::Clock,
        objects::{Bucket, Listing, ObjectError, Upload, Uploads, Version},
    },
};
use std::{sync::Arc, time::Duration};

const RULES_MAX: usize = 1_000;
/// Versions of one page, and removals of one commit.
const PAGE: usize = 1_000;
const DAY_NANOS: i64 = 86_400_000_000_000;
/// S3 runs its rules once a day; more often costs a walk through the index and shortens nothing below a day.
pub const INTERVAL: Duration = Duration::from_secs(3_600);
/// The setting of a bucket that holds its rules.
const SETTING: &str = "lifecycle";

/// Reads a document and answers it as it is kept: every rule has an ID.
pub(super) fn check(body: &[u8]) -> Result<Element, AwsError> {
    let mut root = Element::parse(body, "LifecycleConfiguration")?;
    root.only(&["Rule"])?;
    if root.children.is_empty() || root.children.len() > RULES_MAX {
        return Err(malformed());
    }
    for (at, rule) in root.children.iter_mut().enumerate() {
        if rule.get("ID").is_none_or(str::is_empty) {
            rule.children.retain(|child| child.name != "ID");
            let text = format!("rule-{}", at + 1);
            rule.children.insert(0, Element { name: "ID".to_owned(), text, children: Vec::new() });
        }
        if rule.get("ID").is_some_and(|id| id.chars().count() > 255) {
            return Err(bad("InvalidArgument", "ID length should not exceed allowed limit of 255"));
        }
        Rule::read(rule)?;
    }
    let mut ids: Vec<&str> = root.children.iter().filter_map(|rule| rule.get("ID")).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(bad("InvalidArgument", "Rule ID must be unique. Found same ID for more than one rule"));
    }
    Ok(root)
}

#[derive(Debug, Default)]
struct Rule {
    enabled: bool,
    prefix: String,
    tags: Vec<(String, String)>,
    /// Bytes: larger than the first, smaller than the second.
    sizes: (Option<u64>, Option<u64>),
    days: Option<u32>,
    date: Option<Timestamp>,
    lone_markers: bool,
    noncurrent: Option<(u32, usize)>,
    abort: Option<u32>,
}

impl Rule {
    fn read(element: &Element) -> Result<Self, AwsError> {
        let enabled = match element.get("Status") {
            Some("Enabled") => true,
            Some("Disabled") => false,
            _ => return Err(malformed()),
        };
        let mut rule = Self { enabled, ..Self::default() };
        rule.filter(element)?;
        let mut actions = element.all("Transition").count() + element.all("NoncurrentVersionTransition").count();
        if let Some(expiration) = element.child("Expiration") {
            rule.expiration(expiration)?;
            actions += 1;
        }
        if let Some(noncurrent) = element.child("NoncurrentVersionExpiration") {
            let kept = noncurrent.get("NewerNoncurrentVersions").map_or(Ok(0), |kept| number(Some(kept)))?;
            rule.noncurrent = Some((number(noncurrent.get("NoncurrentDays"))?, kept as usize));
            actions += 1;
        }
        if let Some(abort) = element.child("AbortIncompleteMultipartUpload") {
            rule.abort = Some(number(abort.get("DaysAfterInitiation"))?);
            if !rule.tags.is_empty() {
                return Err(bad("InvalidRequest", "AbortIncompleteMultipartUpload cannot be specified with Tags."));
            }
            actions += 1;
        }
        if actions == 0 {
            return Err(bad("InvalidRequest", "At least one action needs to be specified in a rule"));
        }
        Ok(rule)
    }

    fn filter(&mut self, element: &Element) -> Result<(), AwsError> {
        let filter = match (element.child("Filter"), element.get("Prefix")) {
            (Some(_), Some(_)) => return Err(malformed()),
            (Some(filter), None) => filter,
            (None, Some(prefix)) => {
                self.prefix = prefix.to_owned();
                return Ok(());
            }
            (None, None) => return Err(malformed()),
        };
        let parts = filter.child("And").unwrap_or(filter);
        for part in &parts.children {
            match part.name.as_str() {
                "Prefix" => self.prefix = part.text.clone(),
                "Tag" => {
                    let (name, value) =
                        (part.get("Key").ok_or_else(malformed)?, part.get("Value").ok_or_else(malformed)?);
                    self.tags.push((name.to_owned(), value.to_owned()));
                }
                "ObjectSizeGreaterThan" => self.sizes.0 = Some(part.text.trim().parse().map_err(|_| malformed())?),
                "ObjectSizeLessThan" => self.sizes.1 = Some(part.text.trim().parse().map_err(|_| malformed())?),
                _ => return Err(malformed()),
            }
        }
        Ok(())
    }

    fn expiration(&mut self, element: &Element) -> Result<(), AwsError> {
        let marker = element.get("ExpiredObjectDeleteMarker");
        match (element.get("Days"), element.get("Date"), marker) {
            (Some(days), None, None) => self.days = Some(number(Some(days))?),
            (None, Some(date), None) => {
                let date = Timestamp::parse_rfc3339(date).ok_or_else(malformed)?;
                if date.as_nanos() % DAY_NANOS != 0 {
                    return Err(bad("InvalidArgument", "'Date' must be at midnight GMT"));
                }
                self.date = Some(date);
            }
            (None, None, Some(marker)) => self.lone_markers = marker.trim() == "true",
            _ => return Err(malformed()),
        }
        Ok(())
    }

    fn covers(&self, version: &Version) -> bool {
        let bytes = version.bytes();
        self.enabled
            && version.key.starts_with(&self.prefix)
            && self.tags.iter().all(|tag| version.meta.tags.contains(tag))
            && self.sizes.0.is_none_or(|least| bytes > least)
            && self.sizes.1.is_none_or(|most| bytes < most)
    }

    fn expires(&self, version: &Version, now: Timestamp) -> bool {
        self.days.is_some_and(|days| over(version.modified, days, now)) || self.date.is_some_and(|date| now >= date)
    }
}

fn number(text: Option<&str>) -> Result<u32, AwsError> {
    let number: u32 = text.ok_or_else(malformed)?.trim().parse().map_err(|_| malformed())?;
    if number > 0 { Ok(number) } else { Err(bad("InvalidArgument", "Days must be a positive integer")) }
}

/// Whether so many days have passed, counted as S3 does: to the next midnight UTC.
fn over(since: Timestamp, days: u32, now: Timestamp) -> bool {
    let exact = since.as_nanos().saturating_add(i64::from(days).saturating_mul(DAY_NANOS));
    let midnight = exact.div_euclid(DAY_NANOS).saturating_add(i64::from(exact.rem_euclid(DAY_NANOS) > 0));
    now.as_nanos().div_euclid(DAY_NANOS) >= midnight
}

/// What a run has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub expired: u64,
    pub noncurrent: u64,
    pub markers: u64,
    pub aborted: u64,
}

pub struct Lifecycle {
    pub objects: Arc<dyn Uploads>,
    pub clock: Arc<dyn Clock>,
}

impl Lifecycle {
    /// Does what all rules of all buckets ask for now. Blocking.
    ///
    /// # Errors
    /// What the storage says; what was done until then stays done, and the next run goes on.
    pub fn run(&self) -> Result<Done, ObjectError> {
        let mut done = Done::default();
        for bucket in self.objects.buckets()? {
            let rules = rules_of(&bucket);
            if !rules.is_empty() {
                self.versions(&bucket.name, &rules, &mut done)?;
                self.uploads(&bucket.name, &rules, &mut done)?;
            }
        }
        Ok(done)
    }

    fn versions(&self, bucket: &str, rules: &[Rule], done: &mut Done) -> Result<(), ObjectError> {
        let now = self.clock.now();
        let mut listing = Listing { limit: PAGE, versions: true, ..Listing::default() };
        let mut key = Key::default();
        loop {
            let page = self.objects.list(bucket, &listing)?;
            let Some(last) = page.last() else { break };
            (listing.from, listing.from_version) = (last.key.clone(), Some(last.id.clone()));
            let mut targets = Vec::new();
            for version in page {
                if key.name != version.key {
                    targets.extend(key.lone_marker(rules, done));
                    key = Key { name: version.key.clone(), ..Key::default() };
                }
                targets.extend(key.next(version, rules, now, done));
            }
            self.objects.remove(bucket, &targets)?;
        }
        let last: Vec<_> = key.lone_marker(rules, done).into_iter().collect();
        if last.is_empty() { Ok(()) } else { self.objects.remove(bucket, &last).map(drop) }
    }

    fn uploads(&self, bucket: &str, rules: &[Rule], done: &mut Done) -> Result<(), ObjectError> {
        let now = self.clock.now();
        let ended = |upload: &Upload| {
            let of = |rule: &&Rule| rule.enabled && upload.key.starts_with(&rule.prefix);
            rules.iter().filter(of).any(|rule| rule.abort.is_some_and(|days| over(upload.begun, days, now)))
        };
        let mut after = (String::new(), String::new());
        loop {
            let page = self.objects.uploads(bucket, "", (&after.0, &after.1), PAGE)?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.key.clone(), last.id.clone());
            for upload in page.iter().filter(|upload| ended(upload)) {
                self.objects.end_upload(bucket, upload, None)?;
                done.aborted += 1;
            }
        }
    }
}

fn rules_of(bucket: &Bucket) -> Vec<Rule> {
    let Some(document) = bucket.settings.get(SETTING) else { return Vec::new() };
    let root = Element::parse(document.as_bytes(), "LifecycleConfiguration");
    let rules = root.and_then(|root| root.children.iter().map(Rule::read).collect());
    rules.unwrap_or_else(|error| {
        tracing::error!(bucket = bucket.name, %error, "the lifecycle rules of a bucket cannot be read; put them again");
        Vec::new()
    })
}

/// One key while its versions go by, the newest first.
#[derive(Default)]
struct Key {
    name: String,
    /// The delete marker that is the newest version, while nothing older was seen.
    marker: Option<Version>,
    /// Since when the version at hand is not the newest.
    superseded: Option<Timestamp>,
    noncurrent: usize,
}

type Target = (String, Option<String>);

impl Key {
    fn next(&mut self, version: Version, rules: &[Rule], now: Timestamp, done: &mut Done) -> Option<Target> {
        let superseded = self.superseded.replace(version.modified);
        self.marker = None;
        let (key, id) = (version.key.clone(), version.id.clone());
        match superseded {
            None if version.delete_marker => {
                self.marker = Some(version);
                None
            }
            // Removed as a client removes it: with versions, a delete marker hides it.
            None => {
                let expired = rules.iter().any(|rule| rule.covers(&version) && rule.expires(&version, now));
                done.expired += u64::from(expired);
                expired.then_some((key, None))
            }
            Some(since) => {
                self.noncurrent += 1;
                let gone = |rule: &Rule| {
                    rule.noncurrent.is_some_and(|(days, kept)| self.noncurrent > kept && over(since, days, now))
                };
                let gone = rules.iter().any(|rule| rule.covers(&version) && gone(rule));
                done.noncurrent += u64::from(gone);
                gone.then_some((key, Some(id)))
            }
        }
    }

    /// The delete marker that hides nothing any more, where a rule removes such.
    fn lone_marker(&mut self, rules: &[Rule], done: &mut Done) -> Option<Target> {
        let marker = self.marker.take()?;
        let covered = rules.iter().any(|rule| {
            rule.enabled && rule.tags.is_empty() && marker.key.starts_with(&rule.prefix) && rule.lone_markers
        });
        done.markers += u64::from(covered);
        covered.then_some((marker.key, Some(marker.id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::ports::objects::*;
    use kilter_testkit::{FakeClock, MemoryObjects};
    use std::io::Write;

    const B: &str = "bucket";

    /// A day is 86,400 s after the last change in `MemoryObjects`, whose time stands still near 1970.
    fn made(rules: &str, versioning: Versioning) -> (Arc<MemoryObjects>, Arc<FakeClock>, Lifecycle) {
        let objects = Arc::new(MemoryObjects::default());
        objects.create_bucket(B, "r").unwrap();
        objects.configure(B, BucketChange::Versioning(versioning)).unwrap();
        let document = check(format!("<LifecycleConfiguration>{rules}</LifecycleConfiguration>").as_bytes()).unwrap();
        objects.configure(B, BucketChange::Setting(SETTING.into(), Some(document.write()))).unwrap();
        let clock = Arc::new(FakeClock::default());
        let lifecycle = Lifecycle { objects: objects.clone(), clock: clock.clone() };
        (objects, clock, lifecycle)
    }

    fn put(objects: &MemoryObjects, key: &str, tags: &[(&str, &str)]) {
        let mut staging = objects.stage(false).unwrap();
        staging.write_all(b"12345").unwrap();
        let content = staging.finish().unwrap();
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        objects.publish(B, key, vec![content], Meta { tags, ..Meta::default() }, PutCondition::Always).unwrap();
    }

    fn left(objects: &MemoryObjects, versions: bool) -> Vec<String> {
        let found = objects.list(B, &Listing { limit: 100, versions, ..Listing::default() }).unwrap();
        found.into_iter().map(|v| if v.delete_marker { format!("-{}", v.key) } else { v.key }).collect()
    }

    fn at_day(clock: &FakeClock, day: i64) {
        clock.set(Timestamp::from_nanos(day * DAY_NANOS + 1));
    }

    #[test]
    fn days_are_counted_to_midnight() {
        let at = |text| Timestamp::parse_rfc3339(text).unwrap();
        let since = at("2026-01-01T10:00:00Z");
        assert!(!over(since, 1, at("2026-01-02T23:59:59Z")));
        assert!(over(since, 1, at("2026-01-03T00:00:00Z")));
        assert!(over(at("2026-01-01T00:00:00Z"), 1, at("2026-01-02T00:00:00Z")));
    }

    #[test]
    fn what_is_over_expires_and_the_rest_stays() {
        let rules = "<Rule><Filter><And><Prefix>old/</Prefix><Tag><Key>a</Key><Value>b</Value></Tag></And></Filter><Status>Enabled</Status><Expiration><Days>2</Days></Expiration></Rule>\
                     <Rule><Filter><ObjectSizeGreaterThan>5</ObjectSizeGreaterThan></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>\
                     <Rule><Filter><Prefix></Prefix></Filter><Status>Disabled</Status><Expiration><Days>1</Days></Expiration></Rule>";
        let (objects, clock, lifecycle) = made(rules, Versioning::Off);
        put(&objects, "old/x", &[("a", "b"), ("c", "d")]);
        put(&objects, "old/y", &[]);
        put(&objects, "new/z", &[("a", "b")]);
        at_day(&clock, 2);
        assert_eq!(lifecycle.run().unwrap(), Done::default());
        at_day(&clock, 3);
        assert_eq!(lifecycle.run().unwrap(), Done { expired: 1, ..Done::default() });
        assert_eq!(left(&objects, false), ["new/z", "old/y"]);
        assert_eq!(lifecycle.run().unwrap(), Done::default());
    }

    #[test]
    fn versions_markers_and_uploads_go_too() {
        let rules = "<Rule><Prefix></Prefix><Status>Enabled</Status><NoncurrentVersionExpiration><NoncurrentDays>1</NoncurrentDays><NewerNoncurrentVersions>1</NewerNoncurrentVersions></NoncurrentVersionExpiration><AbortIncompleteMultipartUpload><DaysAfterInitiation>7</DaysAfterInitiation></AbortIncompleteMultipartUpload></Rule>\
                     <Rule><Prefix>lone</Prefix><Status>Enabled</Status><Expiration><ExpiredObjectDeleteMarker>true</ExpiredObjectDeleteMarker></Expiration></Rule>\
                     <Rule><Prefix>exp</Prefix><Status>Enabled</Status><Expiration><Date>1970-01-03T00:00:00Z</Date></Expiration></Rule>";
        let (objects, clock, lifecycle) = made(rules, Versioning::Enabled);
        for _ in 0..4 {
            put(&objects, "k", &[]);
        }
        put(&objects, "exp", &[]);
        objects.remove(B, &[("lone".into(), None), ("other".into(), None)]).unwrap();
        objects.create_upload(B, "up", Meta::default(), false).unwrap();
        at_day(&clock, 1);
        assert_eq!(lifecycle.run().unwrap(), Done { markers: 1, ..Done::default() });
        at_day(&clock, 2);
        assert_eq!(lifecycle.run().unwrap(), Done { expired: 1, noncurrent: 2, ..Done::default() });
        assert_eq!(left(&objects, true), ["-exp", "exp", "k", "k", "-other"]);
        at_day(&clock, 8);
        assert_eq!(lifecycle.run().unwrap().aborted, 1);
        assert_eq!(objects.uploads(B, "", ("", ""), 9).unwrap(), []);
    }

    #[test]
    fn rules_are_checked() {
        let of = |rule: &str| check(format!("<LifecycleConfiguration>{rule}</LifecycleConfiguration>").as_bytes());
        let fine = "<Rule><Filter/><Status>Enabled</Status><Transition><Days>30</Days><StorageClass>STANDARD_IA</StorageClass></Transition></Rule>";
        assert_eq!(of(fine).unwrap().children[0].get("ID"), Some("rule-1"));
        let twice =
            "<Rule><ID>a</ID><Filter/><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>".repeat(2);
        for bad in [
            "",
            "<Rule><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
            "<Rule><Filter/><Status>On</Status><Expiration><Days>1</Days></Expiration></Rule>",
            "<Rule><Filter/><Status>Enabled</Status></Rule>",
            "<Rule><Filter/><Status>Enabled</Status><Expiration><Days>0</Days></Expiration></Rule>",
            "<Rule><Filter/><Status>Enabled</Status><Expiration><Days>x</Days></Expiration></Rule>",
            "<Rule><Filter/><Status>Enabled</Status><Expiration><Date>1970-01-01T01:00:00Z</Date></Expiration></Rule>",
            "<Rule><Filter><Odd/></Filter><Status>Enabled</Status><Expiration><Days>1</Days></Expiration></Rule>",
            &twice,
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }
}
