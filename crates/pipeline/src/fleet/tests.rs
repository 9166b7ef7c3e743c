//! The rules of the registry, by example, on a memory table.

use super::*;
use crate::ingest::PipelineIngest;
use kilter_core::{
    Certificate, CertificateId, CertificateStatus, Thing, ThingName,
    ports::{
        fleet::{PolicyTarget, ThingUpdate},
        ingest::Ingest,
    },
};
use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

const ALLOW: &str = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"iot:*","Resource":"*"}}"#;

fn fleet() -> PipelineFleet {
    let clock = Arc::new(FakeClock::at(kilter_core::Timestamp::from_seconds(1_700_000_000)));
    let (authority, _) = Authority::create("test", clock.now()).unwrap();
    let registry = Arc::new(Registry::open(Arc::new(MemoryTable::new())).unwrap());
    let site = Site { region: "us-east-1".into(), account: "000000000000".into() };
    PipelineFleet { registry, authority: Arc::new(authority), clock, site }
}

fn name(thing: &str) -> ThingName {
    ThingName::new(thing).unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

impl PipelineFleet {
    fn refused(&self, change: FleetChange) -> Kind {
        self.change(change).err().expect("refused").kind
    }
    fn create(&self, thing: &str, attributes: &[(&str, &str)]) -> Result<Arc<Thing>, FleetError> {
        let change = FleetChange::CreateThing { thing: name(thing), thing_type: None, attributes: map(attributes) };
        match self.change(change)? {
            FleetAnswer::Thing(thing) => Ok(thing),
            _ => unreachable!("a thing is what is made"),
        }
    }
    fn issue(&self, active: bool) -> Arc<Certificate> {
        match self.change(FleetChange::IssueCertificate { active }).unwrap() {
            FleetAnswer::Issued { certificate, private_key_pem, .. } => {
                assert!(private_key_pem.starts_with("-----BEGIN PRIVATE"));
                certificate
            }
            _ => unreachable!("a certificate with its key is what is issued"),
        }
    }
    fn certificate(&self, change: FleetChange) -> Arc<Certificate> {
        match self.change(change).unwrap() {
            FleetAnswer::Certificate(certificate) => certificate,
            _ => unreachable!("a certificate is what is made"),
        }
    }
    fn done(&self, change: FleetChange) {
        self.change(change).unwrap_or_else(|error| panic!("{error}"));
    }
    fn group(&self, group: &str, parent: Option<&str>) -> Result<FleetAnswer, FleetError> {
        self.change(FleetChange::CreateGroup {
            name: group.into(),
            parent: parent.map(Into::into),
            description: None,
            attributes: BTreeMap::new(),
            tags: Tags::new(),
        })
    }
}

#[test]
fn things_are_made_once_and_changed_under_a_lock() {
    let fleet = fleet();
    let made = fleet.create("tenant001-pump", &[("line", "a"), ("empty", "")]).unwrap();
    assert_eq!(made.tenant.as_ref().unwrap().as_str(), "tenant001");
    assert_eq!(made.attributes, map(&[("line", "a")]));
    assert_eq!(fleet.create("tenant001-pump", &[("line", "a")]).unwrap().id, made.id, "the same again is the same");
    assert_eq!(fleet.create("tenant001-pump", &[]).unwrap_err().kind, Kind::AlreadyExists);
    assert_eq!(fleet.create("Pump-1", &[]).unwrap().tenant, None, "no tenant is called Pump");
    assert_eq!(fleet.create("x", &[("tenant", "t9")]).unwrap().tenant.as_ref().unwrap().as_str(), "t9");
    assert_eq!(fleet.create("y", &[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]).unwrap_err().kind, Kind::Invalid);
    assert_eq!(fleet.create("y", &[("a b", "1")]).unwrap_err().kind, Kind::Invalid);
    let update = |merge, expected_version, attributes: &[(&str, &str)]| {
        fleet.change(FleetChange::UpdateThing(ThingUpdate {
            thing: name("tenant001-pump"),
            thing_type: None,
            attributes: Some(map(attributes)),
            merge,
            expected_version,
        }))
    };
    update(true, Some(1), &[("bay", "2")]).unwrap();
    assert_eq!(update(true, Some(1), &[]).err().unwrap().kind, Kind::VersionConflict);
    update(true, Some(2), &[("line", "")]).unwrap();
    let seen = fleet.view().things[&name("tenant001-pump")].clone();
    assert_eq!((seen.version, &seen.attributes), (3, &map(&[("bay", "2")])));
    update(false, None, &[("z", "1")]).unwrap();
    assert_eq!(fleet.view().things[&name("tenant001-pump")].attributes, map(&[("z", "1")]));
    let delete = |expected_version| FleetChange::DeleteThing { thing: name("tenant001-pump"), expected_version };
    assert_eq!(fleet.refused(delete(Some(1))), Kind::VersionConflict);
    fleet.done(delete(None));
    fleet.done(delete(None));
}

#[test]
fn types_go_in_the_order_that_aws_wants() {
    let fleet = fleet();
    let create = |searchable: &[&str]| FleetChange::CreateType {
        name: "pump".into(),
        description: None,
        searchable: searchable.iter().map(|s| (*s).to_owned()).collect(),
        tags: Tags::new(),
    };
    fleet.done(create(&["line"]));
    fleet.done(create(&["line"]));
    assert_eq!(fleet.refused(create(&[])), Kind::AlreadyExists);
    let of_type = |thing: &str| FleetChange::CreateThing {
        thing: name(thing),
        thing_type: Some("pump".into()),
        attributes: map(&[("a", "1"), ("b", "1"), ("c", "1"), ("d", "1")]),
    };
    fleet.done(of_type("p1"));
    let delete = || FleetChange::DeleteType("pump".into());
    assert_eq!(fleet.refused(delete()), Kind::Invalid, "not deprecated");
    fleet.done(FleetChange::DeprecateType { name: "pump".into(), deprecate: true });
    assert_eq!(fleet.refused(of_type("p2")), Kind::Invalid);
    assert_eq!(fleet.refused(delete()), Kind::Invalid, "still in use");
    let untyped = |attributes| {
        FleetChange::UpdateThing(ThingUpdate {
            thing: name("p1"),
            thing_type: Some(None),
            attributes,
            merge: false,
            expected_version: None,
        })
    };
    assert_eq!(fleet.refused(untyped(None)), Kind::Invalid, "four attributes need a type");
    fleet.done(untyped(Some(BTreeMap::new())));
    fleet.done(delete());
    assert_eq!(fleet.refused(delete()), Kind::NotFound);
}

#[test]
fn certificates_policies_and_things_let_go_of_each_other_first() {
    let fleet = fleet();
    fleet.create("t1-a", &[]).unwrap();
    let certificate = fleet.issue(true);
    let id = certificate.id.clone();
    let policy =
        |document: &str| FleetChange::CreatePolicy { name: "p".into(), document: document.into(), tags: Tags::new() };
    assert_eq!(fleet.refused(policy("{}")), Kind::MalformedPolicy);
    fleet.done(policy(ALLOW));
    assert_eq!(fleet.refused(policy(ALLOW)), Kind::AlreadyExists);
    let target = PolicyTarget::Certificate(id.clone());
    for _ in 0..2 {
        fleet.done(FleetChange::AttachPolicy("p".into(), target.clone()));
        fleet.done(FleetChange::AttachPrincipal(name("t1-a"), id.clone()));
    }
    assert_eq!(fleet.view().certificates[&id].policies, ["p"]);
    assert!(fleet.registry.state().policy("p").is_some());
    assert_eq!(fleet.view().things[&name("t1-a")].certificates, std::slice::from_ref(&id));
    let delete = |force| FleetChange::DeleteCertificate { certificate: id.clone(), force };
    let status = |status| FleetChange::SetCertificateStatus { certificate: id.clone(), status };
    assert_eq!(fleet.refused(FleetChange::DeleteThing { thing: name("t1-a"), expected_version: None }), Kind::Invalid);
    assert_eq!(fleet.refused(FleetChange::DeletePolicy("p".into())), Kind::DeleteConflict);
    assert_eq!(fleet.refused(delete(true)), Kind::CertificateState);
    assert_eq!(fleet.refused(status(CertificateStatus::Pending)), Kind::Invalid);
    fleet.done(status(CertificateStatus::Revoked));
    assert_eq!(fleet.refused(status(CertificateStatus::Active)), Kind::CertificateState);
    assert_eq!(fleet.refused(delete(true)), Kind::DeleteConflict, "attached to a thing");
    let detach = || FleetChange::DetachPrincipal(name("t1-a"), id.clone());
    fleet.done(detach());
    assert_eq!(fleet.refused(detach()), Kind::NotFound);
    assert_eq!(fleet.refused(delete(false)), Kind::DeleteConflict, "has a policy");
    fleet.done(delete(true));
    fleet.done(FleetChange::DeletePolicy("p".into()));
}

#[test]
fn five_versions_and_no_more() {
    let fleet = fleet();
    fleet.done(FleetChange::CreatePolicy { name: "p".into(), document: ALLOW.into(), tags: Tags::new() });
    let add = |set_default| FleetChange::CreatePolicyVersion { name: "p".into(), document: ALLOW.into(), set_default };
    for _ in 0..4 {
        fleet.done(add(false));
    }
    assert_eq!(fleet.refused(add(true)), Kind::VersionsLimit);
    let delete = |version| FleetChange::DeletePolicyVersion { name: "p".into(), version };
    assert_eq!(fleet.refused(delete(1)), Kind::DeleteConflict);
    fleet.done(FleetChange::SetDefaultPolicyVersion { name: "p".into(), version: 3 });
    fleet.done(delete(1));
    assert_eq!(fleet.refused(delete(1)), Kind::NotFound);
    match fleet.change(add(true)).unwrap() {
        FleetAnswer::PolicyVersion { version, policy } => assert_eq!((version, policy.default), (6, 6)),
        _ => unreachable!("a version is what is made"),
    }
    assert_eq!(fleet.refused(FleetChange::DeletePolicy("p".into())), Kind::DeleteConflict);
}

#[test]
fn groups_are_a_forest() {
    let fleet = fleet();
    fleet.create("t1-a", &[]).unwrap();
    assert_eq!(fleet.group("b", Some("a")).err().unwrap().kind, Kind::NotFound);
    fleet.group("l1", None).unwrap();
    for level in 2..=7 {
        fleet.group(&format!("l{level}"), Some(&format!("l{}", level - 1))).unwrap();
    }
    assert_eq!(fleet.group("l8", Some("l7")).err().unwrap().kind, Kind::Invalid);
    assert_eq!(fleet.group("l7", None).err().unwrap().kind, Kind::AlreadyExists);
    let add = |group: &str| FleetChange::AddToGroup { group: group.into(), thing: name("t1-a") };
    fleet.done(add("l7"));
    assert_eq!(fleet.refused(add("l1")), Kind::Invalid, "one place in a hierarchy");
    let delete = |group: &str| FleetChange::DeleteGroup { name: group.into(), expected_version: None };
    assert_eq!(fleet.refused(delete("l6")), Kind::Invalid);
    fleet.done(delete("l7"));
    assert!(fleet.view().things[&name("t1-a")].groups.is_empty());
}

fn customer_ca() -> (Issuer<'static, KeyPair>, String) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Customer CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let pem = params.self_signed(&key).unwrap().pem();
    (Issuer::new(params, key), pem)
}

fn signed(issuer: &Issuer<'static, KeyPair>, common_name: &str) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().pem()
}

#[test]
fn authorities_prove_their_key_and_vouch_for_what_they_signed() {
    let fleet = fleet();
    let (issuer, ca_pem) = customer_ca();
    let register = |proof: Option<String>, active| FleetChange::RegisterAuthority {
        ca_pem: ca_pem.clone(),
        verification_pem: proof,
        active,
        auto_registration: false,
        template: None,
        tags: Tags::new(),
    };
    let device = |active: bool| FleetChange::RegisterCertificate {
        pem: signed(&issuer, "device"),
        ca_pem: None,
        status: if active { CertificateStatus::Active } else { CertificateStatus::Inactive },
    };
    assert_eq!(fleet.refused(device(true)), Kind::CertificateValidation, "nobody vouches for it");
    assert_eq!(fleet.refused(register(Some(signed(&issuer, "guess")), true)), Kind::RegistrationCode);
    let code = |fleet: &PipelineFleet| match fleet.change(FleetChange::RegistrationCode).unwrap() {
        FleetAnswer::Code(code) => code,
        _ => unreachable!("a code is what is answered"),
    };
    let first = code(&fleet);
    assert_eq!((first.len(), &first), (64, &code(&fleet)));
    assert_eq!(fleet.refused(register(Some(signed(&issuer, "guess")), true)), Kind::RegistrationCode);
    let forged = signed(&customer_ca().0, &first);
    assert_eq!(fleet.refused(register(Some(forged), true)), Kind::CertificateValidation, "the same name, another key");
    fleet.done(register(Some(signed(&issuer, &first)), false));
    assert_eq!(fleet.refused(register(None, true)), Kind::AlreadyExists);
    assert_eq!(fleet.refused(device(true)), Kind::CertificateState, "the CA is INACTIVE");
    let authority = fleet.view().authorities.keys().next().unwrap().clone();
    let update = |active| FleetChange::UpdateAuthority {
        authority: authority.clone(),
        active: Some(active),
        auto_registration: None,
        template: None,
    };
    fleet.done(update(true));
    let made = fleet.certificate(device(true));
    assert_eq!((made.status, made.authority.as_ref()), (CertificateStatus::Active, Some(&authority)));
    let again = FleetChange::RegisterCertificateWithoutCa { pem: made.pem.clone().unwrap(), status: made.status };
    assert_eq!(fleet.refused(again), Kind::AlreadyExists);
    let delete = || FleetChange::DeleteAuthority(authority.clone());
    assert_eq!(fleet.refused(delete()), Kind::CertificateState);
    fleet.done(update(false));
    fleet.done(delete());
    let bad = FleetChange::RegisterCertificateWithoutCa { pem: ca_pem.clone(), status: CertificateStatus::Active };
    assert_eq!(fleet.refused(bad), Kind::CertificateValidation, "an authority is no device");
}

#[test]
fn a_signing_request_gets_no_more_than_a_device_may() {
    let fleet = fleet();
    let mut params = CertificateParams::new(vec!["localhost".into()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "press 7");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let csr_pem = params.serialize_request(&KeyPair::generate().unwrap()).unwrap().pem().unwrap();
    let made = fleet.certificate(FleetChange::CertificateFromCsr { csr_pem, active: false });
    assert_eq!(made.status, CertificateStatus::Inactive);
    let facts = facts_of(made.pem.as_deref().unwrap()).unwrap();
    assert_eq!(facts.subject["CommonName"], ["press 7"]);
    assert!(!facts.is_authority && facts.alternative.is_empty());
    assert!(facts.signed_by(&facts_of(&fleet.authority.ca_pem()).unwrap()));
    let nonsense = FleetChange::CertificateFromCsr { csr_pem: "nonsense".into(), active: true };
    assert_eq!(fleet.refused(nonsense), Kind::Invalid);
}

#[test]
fn what_was_changed_is_there_after_a_restart_and_old_entries_load() {
    let table = Arc::new(MemoryTable::new());
    let put = |pk: &str, sk: &str, json: &str| {
        kilter_core::ports::table::Write::put(&"registry".into(), pk, sk, json.as_bytes().to_vec())
    };
    use kilter_core::ports::table::Table;
    let id = "ab".repeat(32);
    let created = "2026-01-01T00:00:00Z";
    let thing = format!(r#"{{"thing":"p1","tenant":"t1","created":"{created}","certificates":["{id}"]}}"#);
    let certificate = format!(
        r#"{{"id":"{id}","status":"PENDING","created":"{created}","not_after":"{created}","things":["p1"],"policies":["tp"]}}"#
    );
    let policy = format!(r#"{{"name":"tp","document":{ALLOW}}}"#);
    table
        .commit(vec![put("thing", "p1", &thing), put("certificate", &id, &certificate), put("policy", "tp", &policy)])
        .unwrap();
    let mut fleet = fleet();
    fleet.registry = Arc::new(Registry::open(table.clone()).unwrap());
    let id = CertificateId::new(&id).unwrap();
    let view = fleet.view();
    assert_eq!(view.things[&name("p1")].id.len(), 36);
    assert_eq!(view.certificates[&id].status, CertificateStatus::Pending);
    assert!(fleet.registry.state().policy("tp").is_some());
    fleet.group("g", None).unwrap();
    fleet.done(FleetChange::AddToGroup { group: "g".into(), thing: name("p1") });
    fleet.done(FleetChange::RegistrationCode);
    fleet.done(FleetChange::Tag { resource: Taggable::Policy("tp".into()), set: map(&[("a", "b")]), remove: vec![] });
    let again = Registry::open(table).unwrap().state();
    let (before, after) = (fleet.view(), &again.fleet);
    assert_eq!(before.things, after.things);
    assert_eq!(before.groups, after.groups);
    assert_eq!(before.policies, after.policies);
    assert_eq!(before.registration_code, after.registration_code);
    assert_eq!(after.policies["tp"].tags, map(&[("a", "b")]));
}

#[test]
fn a_certificate_kept_without_its_text_says_what_its_device_shows() {
    let fleet = fleet();
    let certificate = fleet.issue(true);
    let der = facts_of(certificate.pem.as_deref().unwrap()).unwrap().der;
    let old = Certificate { pem: None, ..Certificate::clone(&certificate) };
    fleet.registry.change::<(), RegistryError>(|_| Ok((vec![Change::Certificate(old.clone())], ()))).unwrap();
    assert!(fleet.registry.state().facts(&old).is_none());
    let (stream, table) = (Arc::new(MemoryStream::new()), MemoryTable::new());
    let (registry, clock, site) = (fleet.registry.clone(), fleet.clock.clone(), fleet.site.clone());
    let ingest = PipelineIngest::open(registry, stream, &table, clock, site).unwrap();
    ingest.identify(&der).unwrap();
    let facts = fleet.registry.state().facts(&old).unwrap();
    assert_eq!(facts.subject["CommonName"], ["Kilter IoT Certificate"]);
}
