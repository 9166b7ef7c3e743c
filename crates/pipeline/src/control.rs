//! Tenants, things and certificates: making them, changing them, removing them.

use crate::{
    authority::{Authority, AuthorityError},
    checkpoint::table_of,
    ingest::{PipelineIngest, Site},
    record::OUTBOX,
    registry::{Change, Registry, RegistryError, State, Tenant, new_policy},
    resources::PipelineResources,
    rules::Rule,
};
use kilter_core::{
    AlertBudget, Certificate, CertificateId, CertificateStatus, CertificateView, IssuedIdentity, PolicyRecord,
    PolicyView, Removed, RuleView, Tags, TenantId, TenantView, Thing, ThingName, ThingView, Timestamp,
    ports::{
        action::RuleRoles,
        clock::Clock,
        control::{Control, ControlError, ControlErrorKind, OnboardRequest, Onboarded, VALID_HOURS_DEFAULT},
        stream::{Stream, StreamError, StreamErrorKind},
        table::{SkRange, Table, TableError, Write},
    },
};
use kilter_lake::Lake;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, RwLock},
    time::Duration,
};

/// Shards of one tenant's stream: each is a file that every group commit may have to sync.
pub const SHARDS_MAX: u32 = 64;
/// A longer life than the authority's own makes no sense.
const VALID_HOURS_MAX: u32 = 20 * 365 * 24;
/// How long a removal waits for its turn is bounded by one round of the scorer; this is only for the log.
const SLOW_REMOVAL: Duration = Duration::from_secs(5);

pub struct PipelineControl {
    pub registry: Arc<Registry>,
    pub ingest: Arc<PipelineIngest>,
    pub stream: Arc<dyn Stream>,
    /// Of results, checkpoints and the outbox.
    pub table: Arc<dyn Table>,
    pub lake: Arc<Lake>,
    pub authority: Arc<Authority>,
    pub resources: Arc<PipelineResources>,
    pub roles: Arc<dyn RuleRoles>,
    pub clock: Arc<dyn Clock>,
    pub site: Site,
    /// Held for writing while a tenant is removed.
    pub gate: Arc<RwLock<()>>,
}

fn not_found(message: String) -> ControlError {
    ControlError::new(ControlErrorKind::NotFound, message)
}

pub fn unknown_tenant(tenant: &TenantId) -> ControlError {
    not_found(format!(
        "tenant {tenant} does not exist: make it with `kilter tenant onboard {tenant}`, or see `kilter tenant list`"
    ))
}

pub fn unknown_thing(thing: &ThingName) -> ControlError {
    not_found(format!("there is no thing {thing}: see `kilter thing list`"))
}

impl From<RegistryError> for Failure {
    fn from(error: RegistryError) -> Self {
        Self(ControlError::internal(error.to_string(), error))
    }
}

/// Lets `?` turn what fails below into what an operator sees.
pub struct Failure(pub ControlError);

impl From<ControlError> for Failure {
    fn from(error: ControlError) -> Self {
        Self(error)
    }
}
impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        let kind = match error.kind {
            StreamErrorKind::Conflict => ControlErrorKind::Conflict,
            StreamErrorKind::NotFound => ControlErrorKind::NotFound,
            _ => ControlErrorKind::Internal,
        };
        Self(ControlError { kind, message: error.to_string(), source: Some(Arc::new(error)) })
    }
}
impl From<TableError> for Failure {
    fn from(error: TableError) -> Self {
        Self(ControlError::internal(error.to_string(), error))
    }
}
impl From<AuthorityError> for Failure {
    fn from(error: AuthorityError) -> Self {
        Self(ControlError::internal(error.to_string(), error))
    }
}
impl From<kilter_lake::LakeError> for Failure {
    fn from(error: kilter_lake::LakeError) -> Self {
        Self(ControlError::internal(error.to_string(), error))
    }
}
impl From<crate::checkpoint::CheckpointError> for Failure {
    fn from(error: crate::checkpoint::CheckpointError) -> Self {
        Self(ControlError::internal(error.to_string(), error))
    }
}

/// What a tenant's things may do by default: connect under their own name, and speak and listen below their own topic.
fn default_policy(site: &Site, tenant: &TenantId, now: Timestamp) -> PolicyRecord {
    let own = format!("tenants/{tenant}/devices/${{iot:Connection.Thing.ThingName}}/*");
    let document = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": "iot:Connect",
             "Resource": site.arn("client", "${iot:Connection.Thing.ThingName}")},
            {"Effect": "Allow", "Action": ["iot:Publish", "iot:RetainPublish", "iot:Receive"],
             "Resource": site.arn("topic", &own)},
            {"Effect": "Allow", "Action": "iot:Subscribe", "Resource": site.arn("topicfilter", &own)},
        ],
    });
    new_policy(tenant.policy(), document.to_string(), now, Tags::new())
}

impl PipelineControl {
    /// A thing's certificate with the registry changes that make it known, not yet applied.
    pub(crate) fn issue(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        valid_hours: u32,
    ) -> Result<(IssuedIdentity, Certificate), Failure> {
        if valid_hours == 0 || valid_hours > VALID_HOURS_MAX {
            let message =
                format!("a certificate cannot be valid for {valid_hours} hours: choose 1 to {VALID_HOURS_MAX}");
            return Err(ControlError::new(ControlErrorKind::Invalid, message).into());
        }
        let now = self.clock.now();
        let issued =
            self.authority.issue_client(thing.as_str(), now, now.plus_seconds(i64::from(valid_hours) * 3_600))?;
        let certificate = Certificate {
            id: issued.id,
            status: CertificateStatus::Active,
            created: now,
            not_after: issued.not_after,
            things: vec![thing.clone()],
            policies: vec![tenant.policy()],
            not_before: Some(issued.not_before),
            pem: Some(issued.certificate_pem.clone()),
            authority: None,
            modified: None,
        };
        let identity = IssuedIdentity {
            thing: thing.clone(),
            certificate: certificate_view(&self.site, &certificate),
            certificate_pem: issued.certificate_pem,
            private_key_pem: issued.private_key_pem,
            public_key_pem: issued.public_key_pem,
            ca_pem: self.authority.ca_pem(),
        };
        Ok((identity, certificate))
    }

    fn add_things(&self, tenant: &TenantId, things: &[ThingName]) -> Result<Vec<IssuedIdentity>, Failure> {
        let made =
            things.iter().map(|thing| self.issue(tenant, thing, VALID_HOURS_DEFAULT)).collect::<Result<Vec<_>, _>>()?;
        let now = self.clock.now();
        self.registry.change::<(), Failure>(|state| {
            let mut changes = Vec::new();
            for (identity, certificate) in &made {
                if let Some(there) = state.fleet.things.get(&identity.thing) {
                    return Err(thing_exists(there).into());
                }
                let thing = Thing {
                    thing: identity.thing.clone(),
                    tenant: Some(tenant.clone()),
                    created: now,
                    certificates: vec![certificate.id.clone()],
                    id: String::new(),
                    thing_type: None,
                    attributes: BTreeMap::new(),
                    groups: BTreeSet::new(),
                    version: 1,
                    rotation: None,
                };
                changes.extend([Change::Thing(thing), Change::Certificate(certificate.clone())]);
            }
            Ok((changes, ()))
        })?;
        for (identity, _) in &made {
            tracing::info!(%tenant, thing = %identity.thing, certificate = %identity.certificate.id, "thing created");
        }
        Ok(made.into_iter().map(|(identity, _)| identity).collect())
    }

    /// Makes what the tenant lacks, in an order that a crash in between does not harm: the second run makes the rest.
    fn provision(&self, request: &OnboardRequest) -> Result<Vec<String>, Failure> {
        let tenant = &request.tenant;
        let mut created = Vec::new();
        let known = self.registry.state().tenants.get(tenant).cloned();
        let stream = tenant.stream();
        // Splits and merges may have changed what was asked for once.
        let there = self.stream.describe(&stream).ok().map(|view| view.shards.open().len() as u32);
        let shards = request.shards.or(there).or(known.as_ref().map(|t| t.shards)).unwrap_or(1);
        if shards == 0 || shards > SHARDS_MAX {
            let message = format!("a stream cannot have {shards} shards: choose 1 to {SHARDS_MAX}");
            return Err(ControlError::new(ControlErrorKind::Invalid, message).into());
        }
        let budget = request.budget.or(known.as_ref().map(|t| t.budget)).unwrap_or_default();
        check_budget(budget)?;
        if there.is_none() {
            created.push(format!("stream {stream} with {shards} shard(s)"));
        }
        self.resources.place_stream(&stream, shards)?;
        if self.lake.create_bucket(tenant)? {
            created.push(format!("lake prefix {}/{tenant}/", tenant.bucket(&self.site.region)));
        }
        if let Some(role) = self.roles.provide().map_err(|why| ControlError::new(ControlErrorKind::Internal, why))? {
            created.push(format!("role {role}"));
        }
        let now = self.clock.now();
        let (table, topic) = (tenant.table(), tenant.alert_topic());
        let made = self.registry.change::<Vec<String>, Failure>(|state| {
            let mut changes = Vec::new();
            let mut made = Vec::new();
            let wanted =
                Tenant { tenant: tenant.clone(), created: known.as_ref().map_or(now, |t| t.created), budget, shards };
            match state.tenants.get(tenant) {
                None => {
                    made.extend([format!("tenant {tenant}"), format!("table {table}"), format!("alert topic {topic}")])
                }
                Some(there) if there.budget != budget => {
                    made.push(format!("alert budget {} per asset and week", budget.per_asset_and_week))
                }
                Some(_) => {}
            }
            if state.tenants.get(tenant) != Some(&wanted) {
                changes.push(Change::Tenant(wanted));
            }
            if !state.fleet.policies.contains_key(&tenant.policy()) {
                made.push(format!("policy {}", tenant.policy()));
                changes.push(Change::Policy(default_policy(&self.site, tenant, now)));
            }
            if !state.rules.contains_key(&tenant.rule()) {
                made.push(format!("rule {}", tenant.rule()));
                changes.push(Change::Rule(Rule::telemetry(tenant, now)));
            }
            Ok((changes, made))
        })?;
        created.extend(made);
        self.resources.made_whole(tenant)?;
        Ok(created)
    }

    fn remove_data(&self, tenant: &TenantId, removed: &mut Removed) -> Result<(), Failure> {
        let began = std::time::Instant::now();
        let _alone = self.gate.write().expect("no holder of the gate panics");
        let stream = tenant.stream();
        match self.stream.delete(&stream) {
            Ok(records) => {
                removed.streams.push(stream.to_string());
                removed.stream_records = records;
            }
            Err(error) if error.kind == StreamErrorKind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
        self.ingest.forget(&stream);
        removed.table_items = self.table.drop_table(&tenant.table())?;
        removed.tables.push(tenant.table());
        self.table.drop_table(&table_of(&stream))?;
        self.drop_outbox(tenant)?;
        removed.lake_objects = self.lake.remove_tenant(tenant)?;
        if began.elapsed() > SLOW_REMOVAL {
            tracing::warn!(%tenant, seconds = began.elapsed().as_secs(), "removing the tenant's data held scoring up");
        }
        Ok(())
    }

    fn drop_outbox(&self, tenant: &TenantId) -> Result<(), Failure> {
        let waiting = self.table.range(OUTBOX, "alert", SkRange::ALL, usize::MAX)?;
        let own = waiting.iter().filter(|item| {
            serde_json::from_slice::<kilter_core::Alert>(&item.value).is_ok_and(|alert| alert.episode.tenant == *tenant)
        });
        self.table.commit(own.map(|item| Write::delete(&OUTBOX.into(), &item.pk, &item.sk)).collect())?;
        Ok(())
    }
}

fn check_budget(budget: AlertBudget) -> Result<(), ControlError> {
    let per_week = budget.per_asset_and_week;
    if per_week.is_finite() && (0.01..=10_000.0).contains(&per_week) {
        return Ok(());
    }
    let message = format!("an alert budget of {per_week} per asset and week is not usable: choose 0.01 to 10000");
    Err(ControlError::new(ControlErrorKind::Invalid, message))
}

fn thing_exists(there: &Thing) -> ControlError {
    let message = format!(
        "thing {} exists already, {}: choose another name, or issue it a new certificate with `kilter thing rotate {}`",
        there.thing,
        there.tenant.as_ref().map_or_else(|| "without a tenant".to_owned(), |tenant| format!("in tenant {tenant}")),
        there.thing
    );
    ControlError::new(ControlErrorKind::Conflict, message)
}

pub fn certificate_view(site: &Site, certificate: &Certificate) -> CertificateView {
    CertificateView {
        id: certificate.id.clone(),
        arn: site.arn("cert", certificate.id.as_str()),
        status: certificate.status,
        created: certificate.created,
        not_after: certificate.not_after,
        policies: certificate.policies.clone(),
    }
}

pub fn thing_view(site: &Site, state: &State, thing: &Thing) -> ThingView {
    let certificates = thing.certificates.iter().filter_map(|id| state.fleet.certificates.get(id));
    ThingView {
        tenant: thing.tenant.clone(),
        thing: thing.thing.clone(),
        arn: site.arn("thing", thing.thing.as_str()),
        created: thing.created,
        certificates: certificates.map(|c| certificate_view(site, c)).collect(),
    }
}

/// A tenant that was made one AWS command at a time may lack its rule and its policy: then their names are shown, and
/// nothing of what they would say.
pub fn tenant_view(site: &Site, state: &State, tenant: &Tenant) -> TenantView {
    let id = &tenant.tenant;
    let missing = || RuleView { name: id.rule(), sql: String::new(), stream: id.stream().to_string() };
    let rule = state.rules.get(&id.rule()).map_or_else(missing, |known| known.rule.view());
    let policy = state.fleet.policies.get(&id.policy());
    let document = policy.and_then(|policy| serde_json::from_str(policy.document()).ok()).unwrap_or_default();
    TenantView {
        tenant: id.clone(),
        created: tenant.created,
        budget: tenant.budget,
        things: state
            .fleet
            .things
            .values()
            .filter(|t| t.tenant.as_ref() == Some(id))
            .map(|t| t.thing.clone())
            .collect(),
        stream: id.stream().to_string(),
        table: id.table(),
        bucket: id.bucket(&site.region),
        lake_prefix: format!("{id}/"),
        alert_topic: id.alert_topic(),
        rule,
        policy: PolicyView { name: id.policy(), document },
    }
}

impl Control for PipelineControl {
    fn onboard(&self, request: OnboardRequest) -> Result<Onboarded, ControlError> {
        let inner = || -> Result<Onboarded, Failure> {
            let mut created = self.provision(&request)?;
            let state = self.registry.state();
            let mut new: Vec<ThingName> = Vec::new();
            for thing in &request.things {
                match state.fleet.things.get(thing) {
                    Some(there) if there.tenant.as_ref() != Some(&request.tenant) => {
                        return Err(thing_exists(there).into());
                    }
                    Some(_) => {}
                    None if new.contains(thing) => {}
                    None => new.push(thing.clone()),
                }
            }
            let identities = self.add_things(&request.tenant, &new)?;
            for identity in &identities {
                created.push(format!("thing {} with certificate {}", identity.thing, identity.certificate.id));
            }
            let state = self.registry.state();
            let tenant = state.tenants.get(&request.tenant).map(|tenant| tenant_view(&self.site, &state, tenant));
            let tenant = tenant.ok_or_else(|| unknown_tenant(&request.tenant))?;
            tracing::info!(tenant = %request.tenant, created = created.len(), "tenant onboarded");
            Ok(Onboarded { tenant, identities, created })
        };
        inner().map_err(|Failure(error)| error)
    }

    fn offboard(&self, tenant: &TenantId) -> Result<Removed, ControlError> {
        let inner = || -> Result<Removed, Failure> {
            let mut removed = self.registry.change::<Removed, Failure>(|state| {
                let mut removed = Removed::default();
                let mut changes = Vec::new();
                if !state.tenants.contains_key(tenant) {
                    return Err(unknown_tenant(tenant).into());
                }
                for thing in state.fleet.things.values().filter(|thing| thing.tenant.as_ref() == Some(tenant)) {
                    removed.things.push(thing.thing.clone());
                    removed.certificates.extend(thing.certificates.iter().cloned());
                }
                for rule in state.rules.values().filter(|rule| rule.rule.tenant.as_ref() == Some(tenant)) {
                    removed.rules.push(rule.rule.name.clone());
                }
                if state.fleet.policies.contains_key(&tenant.policy()) {
                    removed.policies.push(tenant.policy());
                }
                changes.extend(removed.rules.iter().cloned().map(Change::RemoveRule));
                changes.extend(removed.certificates.iter().cloned().map(Change::RemoveCertificate));
                changes.extend(removed.things.iter().cloned().map(Change::RemoveThing));
                changes.extend(removed.policies.iter().cloned().map(Change::RemovePolicy));
                Ok((changes, removed))
            })?;
            self.remove_data(tenant, &mut removed)?;
            self.resources.forget(tenant)?;
            // Last, so that a removal that was cut short can be run again.
            self.registry.change::<(), Failure>(|_| Ok((vec![Change::RemoveTenant(tenant.clone())], ())))?;
            tracing::info!(%tenant, things = removed.things.len(), records = removed.stream_records, "tenant offboarded");
            Ok(removed)
        };
        inner().map_err(|Failure(error)| error)
    }

    fn create_thing(&self, tenant: &TenantId, thing: &ThingName) -> Result<IssuedIdentity, ControlError> {
        if !self.registry.state().tenants.contains_key(tenant) {
            return Err(unknown_tenant(tenant));
        }
        let mut made = self.add_things(tenant, std::slice::from_ref(thing)).map_err(|Failure(error)| error)?;
        Ok(made.remove(0))
    }

    fn issue_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        valid_hours: u32,
    ) -> Result<IssuedIdentity, ControlError> {
        let inner = || -> Result<IssuedIdentity, Failure> {
            let (identity, certificate) = self.issue(tenant, thing, valid_hours)?;
            self.registry.change::<(), Failure>(|state| {
                let known = state.fleet.things.get(thing).filter(|t| t.tenant.as_ref() == Some(tenant));
                let mut known = known.map(|thing| Thing::clone(thing)).ok_or_else(|| {
                    not_found(format!(
                        "tenant {tenant} has no thing {thing}: see `kilter thing list --tenant {tenant}`"
                    ))
                })?;
                known.certificates.push(certificate.id.clone());
                Ok((vec![Change::Thing(known), Change::Certificate(certificate.clone())], ()))
            })?;
            tracing::info!(%tenant, %thing, certificate = %certificate.id, valid_hours, "certificate issued");
            Ok(identity)
        };
        inner().map_err(|Failure(error)| error)
    }

    fn rotate_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        within_seconds: u32,
    ) -> Result<IssuedIdentity, ControlError> {
        self.rotate(tenant, thing, within_seconds).map_err(|Failure(error)| error)
    }

    fn set_certificate_status(
        &self,
        id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<CertificateView, ControlError> {
        let changed = self.registry.change::<Certificate, Failure>(|state| {
            let known = state.fleet.certificates.get(id);
            let mut certificate = known
                .map(|certificate| Certificate::clone(certificate))
                .ok_or_else(|| not_found(format!("certificate {id} is not registered: see `kilter thing show`")))?;
            if certificate.status == CertificateStatus::Revoked && status != CertificateStatus::Revoked {
                let message =
                    format!("certificate {id} is REVOKED, which is final: issue a new one with `kilter thing rotate`");
                return Err(ControlError::new(ControlErrorKind::Conflict, message).into());
            }
            certificate.status = status;
            certificate.modified = Some(self.clock.now());
            Ok((vec![Change::Certificate(certificate.clone())], certificate))
        });
        let certificate = changed.map_err(|Failure(error)| error)?;
        tracing::info!(certificate = %id, %status, "certificate status changed");
        Ok(certificate_view(&self.site, &certificate))
    }
}
