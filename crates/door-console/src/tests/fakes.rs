//! One small installation: tenant001 with one pump, one anomaly, one alert, one ledger line that does not add up.

use crate::ReadyItem;
use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use kilter_core::{
    ports::{
        clock::Clock,
        control::{Control, ControlError, ControlErrorKind, OnboardRequest, Onboarded},
        deliver::RefusalView,
        fleet::{Fleet, FleetAnswer, FleetChange, FleetError, FleetErrorKind, PolicyQuestion, PolicyVerdict},
        query::{Filter, Inventory, LiveEvent, ObjectView, RecordView, Results},
    },
    *,
};
use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

/// Remembers what it was asked, in words.
#[derive(Default)]
pub struct Fake {
    pub asked: Mutex<Vec<String>>,
    pub not_ready: AtomicBool,
    /// The live stream stays open after its events, as the real one does.
    pub endless: AtomicBool,
}

pub fn tenant() -> TenantId {
    TenantId::new("tenant001").unwrap()
}
pub fn pump() -> ThingName {
    ThingName::new("pump-1").unwrap()
}
pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_700_000_000 + seconds)
}

pub fn reading(n: i64) -> ScoredReading {
    ScoredReading {
        thing: pump(),
        event_time: at(n),
        arrival: at(n),
        position: format!("0:{n}:0").into(),
        verdict: if n == 0 { Verdict::Warming { seen: 1, needed: 2 } } else { Verdict::Normal },
        score: (n > 0).then(|| Score::new(1.0)),
        threshold: (n > 0).then(|| Score::new(3.0)),
        values: [("pressure".into(), 4.0)].into(),
        causes: vec![cause()],
        corrected: (n == 2).then_some(Correction { revision: 1, known: at(3), offset: Offset(3) }),
    }
}

fn cause() -> Cause {
    Cause {
        signal: "pressure".into(),
        share: 1.0,
        direction: Direction::Low,
        value: 2.1,
        expected: [3.8, 4.4],
        detector: "cusum".into(),
    }
}

pub fn episode() -> Episode {
    Episode {
        id: "pump-1@2023-11-14T22:13:20Z".into(),
        tenant: tenant(),
        thing: pump(),
        start: at(0),
        peak: at(1),
        end: None,
        severity: Severity::High,
        peak_score: Score::new(6.0),
        threshold: Score::new(3.0),
        readings: 2,
        causes: vec![cause()],
        known: at(0),
        corrected: None,
        withdrawn: None,
    }
}

pub fn alert(raised: Timestamp) -> Alert {
    Alert {
        key: "pump-1@2023-11-14T22:13:20Z/opened".into(),
        event: AlertEvent::Opened,
        raised,
        episode: episode(),
        summary: "pump-1: pressure low".to_owned(),
        deliveries: vec![Delivery { to: "console".to_owned(), at: raised, attempts: 1, error: None }],
    }
}

fn certificate(status: CertificateStatus) -> CertificateView {
    CertificateView {
        id: CertificateId::new("ab12").unwrap(),
        arn: "arn:aws:iot:us-east-1:000000000000:cert/ab12".to_owned(),
        status,
        created: at(0),
        not_after: at(3600),
        policies: vec![tenant().policy()],
    }
}

fn identity(thing: &ThingName) -> IssuedIdentity {
    IssuedIdentity {
        thing: thing.clone(),
        certificate: certificate(CertificateStatus::Active),
        certificate_pem: "certificate".to_owned(),
        private_key_pem: "private".to_owned(),
        public_key_pem: "public".to_owned(),
        ca_pem: "ca".to_owned(),
    }
}

fn view(tenant: TenantId) -> TenantView {
    TenantView {
        created: at(0),
        budget: AlertBudget::default(),
        things: vec![pump()],
        stream: tenant.stream().to_string(),
        table: tenant.table(),
        bucket: tenant.bucket("us-east-1"),
        lake_prefix: format!("{tenant}/"),
        alert_topic: tenant.alert_topic(),
        rule: RuleView { name: tenant.rule(), sql: "SELECT *".to_owned(), stream: tenant.stream().to_string() },
        policy: PolicyView { name: tenant.policy(), document: serde_json::json!({"Version": "2012-10-17"}) },
        tenant,
    }
}

impl Fake {
    fn note(&self, what: String) {
        self.asked.lock().unwrap().push(what);
    }
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
    pub fn ready_items(&self) -> Vec<ReadyItem> {
        let ready = !self.not_ready.load(Ordering::SeqCst);
        let detail = if ready { "127.0.0.1:8883" } else { "opening the stream" };
        vec![ReadyItem { name: "mqtt".to_owned(), ready, detail: detail.to_owned() }]
    }
    fn known(&self, asked: &TenantId) -> Result<(), ControlError> {
        if *asked == tenant() { Ok(()) } else { Err(ControlError::new(ControlErrorKind::NotFound, "no such tenant")) }
    }
}

impl Clock for Fake {
    fn now(&self) -> Timestamp {
        at(8 * 24 * 3600)
    }
}

impl Control for Fake {
    fn onboard(&self, request: OnboardRequest) -> Result<Onboarded, ControlError> {
        self.note(format!("onboard {} {:?}", request.tenant, request.things));
        let identities = request.things.iter().map(identity).collect();
        Ok(Onboarded { tenant: view(request.tenant), identities, created: vec!["stream".to_owned()] })
    }
    fn offboard(&self, tenant: &TenantId) -> Result<Removed, ControlError> {
        self.known(tenant)?;
        self.note(format!("offboard {tenant}"));
        Ok(Removed { things: vec![pump()], stream_records: 7, ..Removed::default() })
    }
    fn create_thing(&self, tenant: &TenantId, thing: &ThingName) -> Result<IssuedIdentity, ControlError> {
        self.known(tenant)?;
        if *thing == pump() {
            return Err(ControlError::new(ControlErrorKind::Conflict, "pump-1 is there already"));
        }
        self.note(format!("create {tenant} {thing}"));
        Ok(identity(thing))
    }
    fn issue_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        hours: u32,
    ) -> Result<IssuedIdentity, ControlError> {
        self.known(tenant)?;
        if hours == 0 {
            return Err(ControlError::new(ControlErrorKind::Invalid, "valid_hours must be at least 1"));
        }
        self.note(format!("issue {tenant} {thing} {hours}"));
        Ok(identity(thing))
    }
    fn rotate_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        within_seconds: u32,
    ) -> Result<IssuedIdentity, ControlError> {
        self.known(tenant)?;
        self.note(format!("rotate {tenant} {thing} {within_seconds}"));
        Ok(identity(thing))
    }
    fn set_certificate_status(
        &self,
        certificate_id: &CertificateId,
        status: CertificateStatus,
    ) -> Result<CertificateView, ControlError> {
        self.note(format!("status {certificate_id} {status:?}"));
        if certificate_id.as_str() == "dead" {
            panic!("a broken registry");
        }
        Ok(certificate(status))
    }
}

pub fn refusal() -> RefusalView {
    RefusalView {
        time: at(0),
        kind: "certificate".to_owned(),
        peer: "10.0.0.1:4711".to_owned(),
        client_id: String::new(),
        certificate: Some(CertificateId::new("ab12").unwrap()),
        reason: "certificate ab12 is REVOKED, not ACTIVE".to_owned(),
        count: 2,
    }
}

impl Fleet for Fake {
    fn view(&self) -> std::sync::Arc<FleetView> {
        std::sync::Arc::default()
    }
    fn change(&self, _: FleetChange) -> Result<FleetAnswer, FleetError> {
        Err(FleetError::new(FleetErrorKind::Internal, "this door changes no fleet"))
    }
    fn simulate(&self, question: &PolicyQuestion) -> Result<PolicyVerdict, FleetError> {
        self.note(format!("simulate {:?} {}", question.action, question.subject));
        Ok(PolicyVerdict {
            allowed: true,
            decision: "allowed".to_owned(),
            resource: format!("arn:aws:iot:us-east-1:000000000000:topic/{}", question.subject),
            policy: Some(tenant().policy()),
            version: Some(1),
            statement: Some(2),
            sid: Some("own".to_owned()),
            reason: "statement 2 (own) allows it".to_owned(),
            policies: vec![tenant().policy()],
        })
    }
}

impl Inventory for Fake {
    fn tenants(&self) -> Result<Vec<TenantView>, ControlError> {
        Ok(vec![view(tenant())])
    }
    fn things(&self, tenant: Option<&TenantId>) -> Result<Vec<ThingView>, ControlError> {
        if let Some(tenant) = tenant {
            self.known(tenant)?;
        }
        Ok(vec![ThingView {
            tenant: Some(self::tenant()),
            thing: pump(),
            arn: "arn:aws:iot:us-east-1:000000000000:thing/pump-1".to_owned(),
            created: at(0),
            certificates: vec![certificate(CertificateStatus::Active)],
        }])
    }
    fn certificates(
        &self,
        tenant: Option<&TenantId>,
        thing: Option<&ThingName>,
    ) -> Result<Vec<CertificateEntry>, ControlError> {
        self.note(format!("certificates {tenant:?} {thing:?}"));
        let rotation = Rotation {
            new: CertificateId::new("ab12").unwrap(),
            old: vec![CertificateId::new("cd34").unwrap()],
            started: at(0),
            deadline: at(60),
            state: RotationState::Waiting,
            ended: None,
        };
        Ok(vec![CertificateEntry {
            certificate: certificate(CertificateStatus::Active),
            things: vec![pump()],
            not_before: Some(at(0)),
            last_used: None,
            rotation: Some(rotation),
        }])
    }
    fn stream_records(&self, tenant: &TenantId, limit: usize) -> Result<Vec<RecordView>, ControlError> {
        self.known(tenant)?;
        self.note(format!("records {limit}"));
        Ok(vec![RecordView {
            shard: ShardId(0),
            offset: Offset(0),
            thing: pump(),
            arrival: at(0),
            topic: tenant.telemetry_topic(&pump()),
            data: "{}".to_owned(),
            rejected: None,
        }])
    }
    fn lake_objects(&self, tenant: &TenantId) -> Result<Vec<ObjectView>, ControlError> {
        self.known(tenant)?;
        Ok(vec![ObjectView { bucket: "b".to_owned(), key: "k".to_owned(), bytes: 1, modified: at(0) }])
    }
}

impl Results for Fake {
    fn readings(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<ScoredReading>, ControlError> {
        self.known(tenant)?;
        self.note(format!("readings {tenant} {thing} {before:?} {limit}"));
        Ok((0..limit.min(3) as i64).map(reading).collect())
    }
    fn anomalies(&self, filter: &Filter) -> Result<Vec<Episode>, ControlError> {
        self.note(format!("anomalies {filter:?}"));
        Ok(vec![Episode { end: Some(at(9)), ..episode() }, episode()])
    }
    fn alerts(&self, filter: &Filter) -> Result<Vec<Alert>, ControlError> {
        self.note(format!("alerts {filter:?}"));
        Ok(vec![alert(at(2 * 24 * 3600)), alert(at(0))])
    }
    fn ledger(&self, tenant: Option<&TenantId>) -> Result<Vec<LedgerLine>, ControlError> {
        self.note(format!("ledger {tenant:?}"));
        let line = LedgerLine {
            tenant: self::tenant(),
            thing: pump(),
            received: 10,
            stored: 9,
            rejected: 0,
            scored: 8,
            late: 1,
            waiting: 0,
        };
        Ok(vec![line])
    }
    fn live(&self) -> BoxStream<'static, LiveEvent> {
        let other = TenantId::new("tenant002").unwrap();
        let events = stream::iter([
            LiveEvent::Reading { tenant: tenant(), reading: reading(1) },
            LiveEvent::Reading { tenant: other.clone(), reading: reading(2) },
            LiveEvent::Anomaly { episode: episode() },
            LiveEvent::Anomaly { episode: Episode { tenant: other, ..episode() } },
            LiveEvent::Alert { alert: alert(at(0)) },
            LiveEvent::Missed { events: 5 },
        ]);
        if self.endless.load(Ordering::SeqCst) { events.chain(stream::pending()).boxed() } else { events.boxed() }
    }
}
