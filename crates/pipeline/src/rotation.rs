//! Certificates that are replaced in stages. A rotation is kept with its thing in the registry, so it outlives the
//! server; [`Rotations`] brings it to its end.

use crate::{
    control::{Failure, PipelineControl, certificate_view},
    ingest::{PipelineIngest, Site},
    registry::{Change, Registry, RegistryError, State},
    uses::Uses,
};
use kilter_core::{
    Certificate, CertificateEntry, CertificateId, CertificateStatus, IssuedIdentity, Rotation, RotationState, TenantId,
    Thing, ThingName, Timestamp,
    ports::{
        clock::Clock,
        control::{ControlError, ControlErrorKind, VALID_HOURS_DEFAULT},
    },
};
use std::{
    collections::BTreeSet,
    slice,
    sync::{Arc, Mutex},
    time::Duration,
};

/// A device that has not come within a quarter of a year will not.
const WITHIN_SECONDS_MAX: u32 = 90 * 86_400;
/// Devices find back to a server that was away at the deadline within this.
const RETURN_SECONDS: i64 = 300;
/// How often rotations are looked at, and how many looks later uses are written down: once a minute.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const WRITE_EVERY: u32 = 120;

impl PipelineControl {
    pub(crate) fn rotate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        within_seconds: u32,
    ) -> Result<IssuedIdentity, Failure> {
        if within_seconds == 0 || within_seconds > WITHIN_SECONDS_MAX {
            let message = format!("a device cannot be waited for {within_seconds} s: choose 1 s to 90 days");
            return Err(ControlError::new(ControlErrorKind::Invalid, message).into());
        }
        let (mut identity, mut certificate) = self.issue(tenant, thing, VALID_HOURS_DEFAULT)?;
        let deadline = self.clock.now().plus_seconds(i64::from(within_seconds));
        self.registry
            .change::<(), Failure>(|state| Ok((begin(state, tenant, thing, &mut certificate, deadline)?, ())))?;
        identity.certificate = certificate_view(&self.site, &certificate);
        tracing::info!(%tenant, %thing, certificate = %certificate.id, %deadline, "rotation began");
        Ok(identity)
    }
}

/// Gives the new certificate all that the thing's others have, and notes down what is to be retired.
fn begin(
    state: &State,
    tenant: &TenantId,
    name: &ThingName,
    new: &mut Certificate,
    deadline: Timestamp,
) -> Result<Vec<Change>, ControlError> {
    let thing =
        state.fleet.things.get(name).filter(|thing| thing.tenant.as_ref() == Some(tenant)).ok_or_else(|| {
            let message = format!("tenant {tenant} has no thing {name}: see `kilter thing list --tenant {tenant}`");
            ControlError::new(ControlErrorKind::NotFound, message)
        })?;
    let conflict = |message| Err(ControlError::new(ControlErrorKind::Conflict, message));
    let old: Vec<&Arc<Certificate>> = active(state, &thing.certificates).collect();
    if old.is_empty() {
        let message = format!(
            "thing {name} has no ACTIVE certificate that could be replaced: issue one with `kilter thing rotate {name}`"
        );
        return conflict(message);
    }
    let things: BTreeSet<&ThingName> = old.iter().flat_map(|certificate| &certificate.things).collect();
    let things: Vec<&Arc<Thing>> = things.into_iter().filter_map(|name| state.fleet.things.get(name)).collect();
    if let Some((other, running)) = things.iter().find_map(|thing| Some((thing, waiting(thing)?))) {
        let message = format!(
            "a rotation of thing {} is under way, until {}: wait for its end (`kilter cert list --thing {}`), or end it \
             with `kilter thing revoke {} --certificate {}`",
            other.thing, running.deadline, other.thing, other.thing, running.new
        );
        return conflict(message);
    }
    let policies: BTreeSet<&String> = old.iter().flat_map(|certificate| &certificate.policies).collect();
    new.policies = policies.into_iter().cloned().collect();
    new.things = things.iter().map(|thing| thing.thing.clone()).collect();
    let rotation = Rotation {
        new: new.id.clone(),
        old: old.iter().map(|certificate| certificate.id.clone()).collect(),
        started: new.created,
        deadline,
        state: RotationState::Waiting,
        ended: None,
    };
    let attached = things.into_iter().map(|known| {
        let mut changed = Thing::clone(known);
        changed.certificates.push(new.id.clone());
        if changed.thing == *name {
            changed.rotation = Some(rotation.clone());
        }
        Change::Thing(changed)
    });
    Ok(attached.chain([Change::Certificate(new.clone())]).collect())
}

/// A certificate with its last use and the latest rotation that it is part of.
pub fn certificate_entry(site: &Site, state: &State, uses: &Uses, certificate: &Certificate) -> CertificateEntry {
    let things = certificate.things.iter().filter_map(|name| state.fleet.things.get(name));
    let rotations = things.filter_map(|thing| thing.rotation.as_ref());
    let own = rotations.filter(|rotation| rotation.new == certificate.id || rotation.old.contains(&certificate.id));
    CertificateEntry {
        certificate: certificate_view(site, certificate),
        things: certificate.things.clone(),
        not_before: certificate.not_before,
        last_used: uses.last(&certificate.id),
        rotation: own.max_by_key(|rotation| rotation.started).cloned(),
    }
}

fn waiting(thing: &Thing) -> Option<&Rotation> {
    thing.rotation.as_ref().filter(|rotation| rotation.state == RotationState::Waiting)
}

fn active<'s>(state: &'s State, ids: &'s [CertificateId]) -> impl Iterator<Item = &'s Arc<Certificate>> {
    let known = ids.iter().filter_map(|id| state.fleet.certificates.get(id));
    known.filter(|certificate| certificate.status == CertificateStatus::Active)
}

/// How a rotation ends, where it does now.
fn end(state: &State, rotation: &Rotation, used: bool, late: bool) -> Option<RotationState> {
    // Somebody has withdrawn the new certificate.
    let gone = active(state, slice::from_ref(&rotation.new)).next().is_none();
    if gone || (late && !used) { Some(RotationState::RolledBack) } else { used.then_some(RotationState::Done) }
}

/// What an end changes: whichever certificates lose become INACTIVE.
fn ended(state: &State, thing: &Thing, rotation: &Rotation, outcome: RotationState, now: Timestamp) -> Vec<Change> {
    let losing = if outcome == RotationState::Done { &rotation.old[..] } else { slice::from_ref(&rotation.new) };
    let retired = active(state, losing).map(|certificate| {
        let status = CertificateStatus::Inactive;
        Change::Certificate(Certificate { status, modified: Some(now), ..Certificate::clone(certificate) })
    });
    let rotation = Rotation { state: outcome, ended: Some(now), ..rotation.clone() };
    retired.chain([Change::Thing(Thing { rotation: Some(rotation), ..thing.clone() })]).collect()
}

/// Brings rotations to their end, and keeps track of when certificates are used.
pub struct Rotations {
    registry: Arc<Registry>,
    ingest: Arc<PipelineIngest>,
    clock: Arc<dyn Clock>,
    began: Timestamp,
    /// The things whose rotations wait, as of a revision of the registry.
    waiting: Mutex<(u64, Vec<ThingName>)>,
}

impl Rotations {
    pub fn new(registry: Arc<Registry>, ingest: Arc<PipelineIngest>, clock: Arc<dyn Clock>) -> Self {
        let began = clock.now();
        Self { registry, ingest, clock, began, waiting: Mutex::default() }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let this = Arc::new(self);
        let mut every = tokio::time::interval(LOOK_EVERY);
        for look in 1_u32.. {
            every.tick().await;
            let round = this.clone();
            match tokio::task::spawn_blocking(move || round.round(look.is_multiple_of(WRITE_EVERY))).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "rotations could not be looked at; they are tried again"),
                Err(panic) => tracing::error!(%panic, "looking at rotations failed"),
            }
        }
    }

    fn round(&self, write: bool) -> Result<(), RegistryError> {
        for thing in self.waiting() {
            self.look_at(&thing)?;
        }
        if write {
            let sessions = self.ingest.deliver().map_or_else(Vec::new, |door| door.sessions());
            for certificate in sessions.iter().filter(|s| s.peer.is_some()).filter_map(|s| s.certificate.as_ref()) {
                self.registry.uses.saw(certificate, self.clock.now());
            }
            self.registry.write_uses()?;
        }
        Ok(())
    }

    fn waiting(&self) -> Vec<ThingName> {
        let revision = self.registry.revision();
        let mut known = self.waiting.lock().expect("no holder of the list's lock panics");
        if known.0 != revision {
            let state = self.registry.state();
            let all = state.fleet.things.values().filter(|thing| waiting(thing).is_some());
            *known = (revision, all.map(|thing| thing.thing.clone()).collect());
        }
        known.1.clone()
    }

    fn late(&self, rotation: &Rotation, now: Timestamp) -> bool {
        let back = self.began.plus_seconds(RETURN_SECONDS);
        now > if rotation.started < self.began { rotation.deadline.max(back) } else { rotation.deadline }
    }

    fn look_at(&self, name: &ThingName) -> Result<(), RegistryError> {
        let now = self.clock.now();
        let ended = self.registry.change::<Option<Rotation>, RegistryError>(|state| {
            let thing = state.fleet.things.get(name);
            let Some((thing, rotation)) = thing.and_then(|thing| Some((thing, waiting(thing)?))) else {
                return Ok((Vec::new(), None));
            };
            let used = self.registry.uses.last(&rotation.new).is_some();
            match end(state, rotation, used, self.late(rotation, now)) {
                None => Ok((Vec::new(), None)),
                Some(outcome) => {
                    let after = Rotation { state: outcome, ..rotation.clone() };
                    Ok((ended(state, thing, rotation, outcome, now), Some(after)))
                }
            }
        })?;
        match ended {
            None => {}
            Some(rotation) if rotation.state == RotationState::Done => {
                tracing::info!(thing = %name, certificate = %rotation.new, old = rotation.old.len(),
                    "rotation done: the device uses the new certificate, the old ones are INACTIVE");
            }
            Some(rotation) => {
                tracing::warn!(thing = %name, certificate = %rotation.new, deadline = %rotation.deadline,
                    "rotation rolled back: no connection with the new certificate was let in, the old ones stay");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kilter_core::ports::table::Table;
    use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};
    use std::collections::BTreeMap;

    const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);

    /// One tenant's things on a table; opened again, it is as after a restart.
    struct Fleet {
        table: Arc<dyn Table>,
        clock: Arc<FakeClock>,
        registry: Arc<Registry>,
        rotations: Rotations,
    }

    fn tenant() -> TenantId {
        TenantId::new("t1").unwrap()
    }
    fn name(thing: &str) -> ThingName {
        ThingName::new(thing).unwrap()
    }
    fn id(digit: char) -> CertificateId {
        CertificateId::new(&digit.to_string().repeat(64)).unwrap()
    }

    fn certificate(digit: char, things: &[&str], policies: &[&str]) -> Certificate {
        Certificate {
            id: id(digit),
            status: CertificateStatus::Active,
            created: NOW,
            not_after: NOW.plus_seconds(86_400),
            things: things.iter().map(|thing| name(thing)).collect(),
            policies: policies.iter().map(|policy| (*policy).to_owned()).collect(),
            not_before: None,
            pem: None,
            authority: None,
            modified: None,
        }
    }

    fn thing(thing: &str, certificates: &str) -> Thing {
        Thing {
            thing: name(thing),
            tenant: Some(tenant()),
            created: NOW,
            certificates: certificates.chars().map(id).collect(),
            id: String::new(),
            thing_type: None,
            attributes: BTreeMap::new(),
            groups: BTreeSet::new(),
            version: 1,
            rotation: None,
        }
    }

    impl Fleet {
        fn open(table: Arc<dyn Table>, clock: Arc<FakeClock>) -> Self {
            let registry = Arc::new(Registry::open(table.clone()).unwrap());
            let site = Site { region: "us-east-1".into(), account: "000000000000".into() };
            let stream = Arc::new(MemoryStream::new());
            let ingest = PipelineIngest::open(registry.clone(), stream, &*table, clock.clone(), site).unwrap();
            let rotations = Rotations::new(registry.clone(), Arc::new(ingest), clock.clone());
            Self { table, clock, registry, rotations }
        }

        /// `pump` with the certificates a and b, b being also `valve`'s, and c, which is REVOKED.
        fn new() -> Self {
            let fleet = Self::open(Arc::new(MemoryTable::new()), Arc::new(FakeClock::at(NOW)));
            fleet.put(vec![
                Change::Thing(thing("pump", "abc")),
                Change::Thing(thing("valve", "b")),
                Change::Certificate(certificate('a', &["pump"], &["one"])),
                Change::Certificate(certificate('b', &["pump", "valve"], &["one", "two"])),
                Change::Certificate(Certificate {
                    status: CertificateStatus::Revoked,
                    ..certificate('c', &["pump"], &["three"])
                }),
            ]);
            fleet
        }

        fn put(&self, changes: Vec<Change>) {
            self.registry.change::<(), RegistryError>(|_| Ok((changes, ()))).unwrap();
        }

        fn begin(&self, thing: &str, new: char, seconds: i64) -> Result<(), String> {
            let mut new = certificate(new, &[], &[]);
            new.created = self.clock.now();
            let deadline = new.created.plus_seconds(seconds);
            let changes = begin(&self.registry.state(), &tenant(), &name(thing), &mut new, deadline);
            changes.map(|changes| self.put(changes)).map_err(|error| error.message)
        }

        fn again(&self) -> Self {
            Self::open(self.table.clone(), self.clock.clone())
        }

        /// The rotation's state and the letters of the ACTIVE certificates, after a look at it.
        fn look(&self) -> (RotationState, String) {
            self.rotations.round(false).unwrap();
            let state = self.registry.state();
            let active = state.fleet.certificates.values().filter(|c| c.status == CertificateStatus::Active);
            let letters = active.map(|c| c.id.as_str().chars().next().unwrap()).collect();
            (state.fleet.things[&name("pump")].rotation.clone().unwrap().state, letters)
        }
    }

    #[test]
    fn the_new_certificate_gets_what_the_old_ones_have_and_replaces_them_once_used() {
        let fleet = Fleet::new();
        fleet.begin("pump", 'd', 60).unwrap();
        let state = fleet.registry.state();
        let new = &state.fleet.certificates[&id('d')];
        assert_eq!(
            (&new.things, &new.policies),
            (&vec![name("pump"), name("valve")], &vec!["one".into(), "two".into()])
        );
        for thing in ["pump", "valve"] {
            assert!(state.fleet.things[&name(thing)].certificates.contains(&id('d')), "{thing}");
        }
        assert_eq!(fleet.look(), (RotationState::Waiting, "abd".into()));
        fleet.registry.uses.saw(&id('a'), NOW);
        assert_eq!(fleet.look(), (RotationState::Waiting, "abd".into()), "the old one does not count");
        fleet.registry.uses.saw(&id('d'), NOW);
        assert_eq!(fleet.look(), (RotationState::Done, "d".into()));
        fleet.begin("pump", 'e', 60).unwrap();
        assert_eq!(fleet.look(), (RotationState::Waiting, "de".into()), "the next one");
    }

    #[test]
    fn a_new_certificate_that_is_not_used_in_time_is_withdrawn() {
        let fleet = Fleet::new();
        fleet.begin("pump", 'd', 60).unwrap();
        fleet.clock.advance(Duration::from_secs(60));
        assert_eq!(fleet.look(), (RotationState::Waiting, "abd".into()));
        fleet.clock.advance(Duration::from_secs(1));
        assert_eq!(fleet.look(), (RotationState::RolledBack, "ab".into()));
    }

    #[test]
    fn revoking_the_new_certificate_ends_the_rotation() {
        let fleet = Fleet::new();
        fleet.begin("pump", 'd', 60).unwrap();
        let revoked = Certificate { status: CertificateStatus::Revoked, ..certificate('d', &["pump"], &[]) };
        fleet.put(vec![Change::Certificate(revoked)]);
        fleet.registry.uses.saw(&id('d'), NOW);
        assert_eq!(fleet.look(), (RotationState::RolledBack, "ab".into()));
        assert_eq!(fleet.registry.state().fleet.certificates[&id('d')].status, CertificateStatus::Revoked);
    }

    #[test]
    fn a_restart_goes_on_and_a_device_gets_time_to_come_back() {
        let fleet = Fleet::new();
        fleet.begin("pump", 'd', 60).unwrap();
        fleet.clock.advance(Duration::from_secs(3_600));
        let fleet = fleet.again();
        assert_eq!(fleet.look(), (RotationState::Waiting, "abd".into()), "the server was away at the deadline");
        fleet.registry.uses.saw(&id('d'), fleet.clock.now());
        fleet.registry.write_uses().unwrap();
        let fleet = fleet.again();
        assert_eq!(fleet.registry.uses.last(&id('d')), Some(fleet.clock.now()));
        assert_eq!(fleet.look(), (RotationState::Done, "d".into()), "the use was written down");
        fleet.put(vec![Change::RemoveCertificate(id('d'))]);
        fleet.registry.write_uses().unwrap();
        assert_eq!(fleet.again().registry.uses.last(&id('d')), None, "a certificate that is gone is forgotten");
    }

    #[test]
    fn what_cannot_be_rotated_is_refused_with_the_reason() {
        let fleet = Fleet::new();
        assert!(fleet.begin("nobody", 'd', 60).unwrap_err().contains("has no thing nobody"));
        fleet.begin("pump", 'd', 60).unwrap();
        for thing in ["pump", "valve"] {
            let why = fleet.begin(thing, 'e', 60).unwrap_err();
            assert!(why.contains("a rotation of thing pump is under way"), "{thing}: {why}");
        }
        fleet.put(vec![Change::Thing(thing("bare", "c"))]);
        assert!(fleet.begin("bare", 'e', 60).unwrap_err().contains("no ACTIVE certificate"));
    }

    #[test]
    fn an_entry_tells_use_and_rotation() {
        let fleet = Fleet::new();
        fleet.begin("valve", 'd', 60).unwrap();
        fleet.registry.uses.saw(&id('b'), NOW);
        let state = fleet.registry.state();
        let site = Site { region: "us-east-1".into(), account: "000000000000".into() };
        let entry =
            |digit| certificate_entry(&site, &state, &fleet.registry.uses, &state.fleet.certificates[&id(digit)]);
        assert_eq!((entry('b').last_used, entry('a').last_used), (Some(NOW), None));
        assert_eq!((entry('b').rotation, entry('a').rotation.is_none()), (entry('d').rotation, true));
        assert_eq!(entry('d').rotation.unwrap().old, [id('b')]);
    }
}
