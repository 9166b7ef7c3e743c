//! What boto3 cannot show: a stop after every step.

use super::*;
use crate::{policy::Policy, sagemaker::SagemakerPorts, signer::Signer};
use kilter_core::{
    FleetView, Thing, ThingName, Timestamp,
    ports::{
        fleet::{Fleet, FleetAnswer, FleetChange, FleetError, FleetErrorKind, PolicyQuestion, PolicyVerdict},
        function::{Model, Models},
        rules::{RuleError, RulePayload, Rules, TopicRule},
        table::{Item, SkRange, TableError, TableErrorKind, Write},
    },
};
use kilter_testkit::{FakeClock, MemoryObjects, MemoryTable};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read,
    sync::atomic::{AtomicI64, Ordering},
};

/// A registry of things only.
#[derive(Default)]
struct Things(Mutex<BTreeMap<ThingName, Arc<Thing>>>);

impl Things {
    fn names(&self) -> BTreeSet<String> {
        self.0.lock().unwrap().keys().map(ToString::to_string).collect()
    }
}

impl Fleet for Things {
    fn view(&self) -> Arc<FleetView> {
        Arc::new(FleetView { things: Arc::new(self.0.lock().unwrap().clone()), ..FleetView::default() })
    }

    fn change(&self, change: FleetChange) -> std::result::Result<FleetAnswer, FleetError> {
        let mut things = self.0.lock().unwrap();
        let missing =
            |thing: &ThingName| FleetError::new(FleetErrorKind::NotFound, format!("thing {thing} does not exist"));
        match change {
            FleetChange::CreateThing { thing, attributes, .. } => {
                let made = json!({"thing": thing, "created": Timestamp::from_seconds(0), "certificates": [], "attributes": attributes});
                let made: Arc<Thing> = Arc::new(serde_json::from_value(made).unwrap());
                things.insert(thing, made.clone());
                Ok(FleetAnswer::Thing(made))
            }
            FleetChange::UpdateThing(update) => {
                let mut thing = Thing::clone(things.get(&update.thing).ok_or_else(|| missing(&update.thing))?);
                thing.attributes = update.attributes.unwrap_or_default();
                let changed = Arc::new(thing);
                things.insert(update.thing, changed.clone());
                Ok(FleetAnswer::Thing(changed))
            }
            FleetChange::DeleteThing { thing, .. } => {
                things.remove(&thing).map(|_| FleetAnswer::Done).ok_or_else(|| missing(&thing))
            }
            other => Err(FleetError::new(FleetErrorKind::Invalid, format!("{other:?}"))),
        }
    }

    fn simulate(&self, _: &PolicyQuestion) -> std::result::Result<PolicyVerdict, FleetError> {
        Err(FleetError::new(FleetErrorKind::Invalid, "things only"))
    }
}

struct NoRules;

impl Rules for NoRules {
    fn list(&self) -> Vec<TopicRule> {
        Vec::new()
    }
    fn get(&self, _: &str) -> std::result::Result<TopicRule, RuleError> {
        unreachable!("no rule is asked for")
    }
    fn create(&self, _: &str, _: RulePayload) -> std::result::Result<TopicRule, RuleError> {
        unreachable!("no rule is made")
    }
    fn replace(&self, _: &str, _: RulePayload) -> std::result::Result<TopicRule, RuleError> {
        unreachable!("no rule is changed")
    }
    fn set_disabled(&self, _: &str, _: bool) -> std::result::Result<(), RuleError> {
        unreachable!("no rule is changed")
    }
    fn delete(&self, _: &str) -> std::result::Result<bool, RuleError> {
        unreachable!("no rule is deleted")
    }
}

struct NoModels;

impl Models for NoModels {
    fn open(&self, _: &mut dyn Read) -> std::result::Result<Arc<dyn Model>, String> {
        Err("no model is read".to_owned())
    }
}

/// A table that writes so often and then never again, as if Kilter had stopped there.
struct Stops(Arc<MemoryTable>, AtomicI64);

impl Table for Stops {
    fn get(&self, table: &str, pk: &str, sk: &str) -> std::result::Result<Option<Vec<u8>>, TableError> {
        self.0.get(table, pk, sk)
    }
    fn commit(&self, writes: Vec<Write>) -> std::result::Result<(), TableError> {
        match self.1.fetch_sub(1, Ordering::SeqCst) {
            left if left > 0 => self.0.commit(writes),
            _ => Err(TableError::new(TableErrorKind::Io, "commit", "stopped")),
        }
    }
    fn range(
        &self,
        table: &str,
        pk: &str,
        range: SkRange<'_>,
        limit: usize,
    ) -> std::result::Result<Vec<Item>, TableError> {
        self.0.range(table, pk, range, limit)
    }
    fn scan(
        &self,
        table: &str,
        after: Option<(&str, &str)>,
        limit: usize,
    ) -> std::result::Result<Vec<Item>, TableError> {
        self.0.scan(table, after, limit)
    }
    fn drop_table(&self, table: &str) -> std::result::Result<u64, TableError> {
        self.0.drop_table(table)
    }
}

struct Site {
    table: Arc<MemoryTable>,
    things: Arc<Things>,
}

impl Site {
    fn open(&self, commits: i64) -> CloudFormation {
        let (table, clock) =
            (Arc::new(Stops(self.table.clone(), AtomicI64::new(commits))), Arc::new(FakeClock::default()));
        let sagemaker = Sagemaker::open(SagemakerPorts {
            table: Arc::new(MemoryTable::new()),
            objects: Arc::new(MemoryObjects::default()),
            models: Arc::new(NoModels),
            clock: clock.clone(),
        });
        let iot = Iot { fleet: self.things.clone(), rules: Arc::new(NoRules), endpoint: "localhost".into() };
        let (region, account) = ("us-east-1".to_owned(), "123456789012".to_owned());
        CloudFormation::open(CloudFormationPorts { table, clock, iot, sagemaker: sagemaker.unwrap(), region, account })
            .unwrap()
    }
}

fn ask(service: &CloudFormation, action: &str, template: Option<&Value>) -> Result<Answer> {
    let key = json!({"id": "AKIA", "name": "root", "status": "ACTIVE", "created": Timestamp::from_seconds(0), "secret": "",
        "policy": Policy::all()});
    let signer = Signer::Key(Box::new(serde_json::from_value(key).unwrap()));
    let mut call = Call { signer: Some(Arc::new(signer)), ..service.0.own_call() };
    call.query = vec![("Action".to_owned(), action.to_owned()), ("StackName".to_owned(), "s".to_owned())];
    call.query.extend(template.map(|template| ("TemplateBody".to_owned(), template.to_string())));
    service.answer(&call)
}

fn template(things: &[(&str, &str, u32)]) -> Value {
    let one = |(logical, name, attribute): &(&str, &str, u32)| {
        let attributes = json!({"Attributes": {"a": attribute}});
        let properties = json!({"ThingName": name, "AttributePayload": attributes});
        ((*logical).to_owned(), json!({"Type": "AWS::IoT::Thing", "Properties": properties}))
    };
    json!({"Resources": things.iter().map(one).collect::<serde_json::Map<_, _>>()})
}

#[test]
fn after_a_stop_anywhere_the_stack_knows_what_is_there_and_can_be_deleted() {
    let first = template(&[("A", "a", 1), ("B", "b", 1), ("C", "c", 1)]);
    // A changes in place, B becomes another one, C goes, D comes.
    let second = template(&[("A", "a", 2), ("B", "b2", 1), ("D", "d", 1)]);
    let mut endings = BTreeSet::new();
    for commits in 0.. {
        let site = Site { table: Arc::new(MemoryTable::new()), things: Arc::default() };
        let service = site.open(commits);
        let steps: [(&str, Option<&Value>); 3] =
            [("CreateStack", Some(&first)), ("UpdateStack", Some(&second)), ("DeleteStack", None)];
        let stopped = steps.iter().find(|(action, template)| ask(&service, action, *template).is_err());
        drop(service);
        let service = site.open(i64::MAX);
        let Some((action, _)) = stopped else { break };
        let Some(stack) = service.0.find("s").unwrap() else {
            assert!(*action != "UpdateStack" && site.things.names().is_empty(), "{commits}: {:?}", site.things.names());
            continue;
        };
        endings.insert(stack.status.word());
        let names = |of: &[store::Resource]| of.iter().filter_map(|one| one.physical.clone()).collect::<BTreeSet<_>>();
        let (own, leaving, there) = (names(&stack.resources), names(&stack.leaving), site.things.names());
        assert!(
            there.is_subset(&(&own | &leaving)),
            "{commits}: {there:?} are there, {own:?} and {leaving:?} are known"
        );
        assert!(*action == "DeleteStack" || own.is_subset(&there), "{commits}: {own:?} should be there, {there:?} are");
        let in_step = stack.resources.iter().find(|one| one.logical == "A").and_then(|one| {
            let name = ThingName::new(one.physical.as_deref()?).ok()?;
            Some((
                one.properties["AttributePayload"]["Attributes"]["a"].to_string(),
                site.things.view().things.get(&name)?.attributes["a"].clone(),
            ))
        });
        assert!(in_step.is_none_or(|(kept, real)| kept == real), "{commits}");
        ask(&service, "DeleteStack", None).unwrap();
        assert_eq!(site.things.names(), BTreeSet::new(), "{commits}");
        assert!(service.0.find("s").unwrap().is_none());
    }
    assert_eq!(
        endings,
        BTreeSet::from([
            "CREATE_COMPLETE",
            "DELETE_FAILED",
            "ROLLBACK_COMPLETE",
            "UPDATE_COMPLETE",
            "UPDATE_ROLLBACK_COMPLETE"
        ])
    );
}

#[test]
fn old_events_and_deleted_stacks_are_forgotten() {
    let site = Site { table: Arc::new(MemoryTable::new()), things: Arc::default() };
    let service = site.open(i64::MAX);
    for _ in 0..102 {
        ask(&service, "CreateStack", Some(&template(&[("A", "a", 1)]))).unwrap();
        ask(&service, "DeleteStack", None).unwrap();
    }
    let kept = service.0.store.all().unwrap();
    assert_eq!(kept.len(), 100);
    let partitions: BTreeSet<String> = site
        .table
        .scan("cloudformation", None, usize::MAX)
        .unwrap()
        .into_iter()
        .map(|item| item.pk)
        .filter(|pk| pk.starts_with("events/"))
        .collect();
    assert_eq!(partitions.len(), 100, "their events go with them");
    ask(&service, "CreateStack", Some(&template(&[("A", "a", 1)]))).unwrap();
    for attribute in 2..420 {
        ask(&service, "UpdateStack", Some(&template(&[("A", "a", attribute)]))).unwrap();
    }
    let stack = service.0.find("s").unwrap().unwrap();
    assert!(stack.events > 2_000);
    assert_eq!(service.0.store.events(&stack.uuid, None, usize::MAX).unwrap().len(), 2_000);
}
