//! What one message costs the rules, from its topic to the records of its batch: one rule, and 5,000 of which one
//! matches.

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use kilter_core::{
    StreamName, Timestamp,
    ports::{
        rules::{RuleAction, RulePayload},
        stream::StreamAdmin,
    },
};
use kilter_pipeline::{
    ingest::{PipelineIngest, Site},
    registry::{Change, Registry, RegistryError},
    rules::{Engine, Origin, Rule},
};
use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};
use serde_json::json;
use std::{hint::black_box, sync::Arc};

const SQL: &str = "SELECT topic(3) AS press, temp * 9 / 5 + 32 AS fahrenheit, * FROM";

fn rule(number: usize, filter: &str) -> Change {
    let payload = RulePayload {
        sql: format!("{SQL} '{filter}'"),
        description: None,
        actions: vec![RuleAction::new("kinesis", json!({"streamName": "all", "partitionKey": "${topic(3)}"}))],
        rule_disabled: false,
        aws_iot_sql_version: "2016-03-23".to_owned(),
        error_action: None,
    };
    Change::Rule(Rule::new(&format!("rule_{number}"), Timestamp::default(), payload))
}

/// An engine with the one rule that matches, and others beside it.
fn engine(others: usize) -> Arc<Engine> {
    let stream = Arc::new(MemoryStream::new());
    stream.create(&StreamName::new("all").expect("a name"), 1).expect("memory takes it");
    let table = Arc::new(MemoryTable::new());
    let registry = Arc::new(Registry::open(table.clone()).expect("memory is empty"));
    // Half of them share their first levels with it.
    let filters = (0..others).map(|i| if i % 2 == 0 { format!("plant/hall/{i}/+") } else { format!("site/{i}/#") });
    let rules = std::iter::once("plant/hall/+/temp".to_owned()).chain(filters).enumerate();
    let changes = rules.map(|(number, filter)| rule(number, &filter)).collect();
    registry.change::<(), RegistryError>(|_| Ok((changes, ()))).expect("the rules are valid");
    let site = Site { region: "us-east-1".into(), account: "123456789012".into() };
    let ingest = PipelineIngest::open(registry, stream, &*table, Arc::new(FakeClock::default()), site);
    ingest.expect("memory is empty").rules
}

fn rules(criterion: &mut Criterion) {
    let origin = Origin::default();
    let payload = Bytes::from_static(br#"{"temp":41.5,"pressure":4.2,"state":"on"}"#);
    for (name, others) in [("one rule", 0), ("5,000 rules, one matches", 4_999)] {
        let engine = engine(others);
        criterion.bench_function(name, |bencher| {
            bencher.iter(|| {
                let (rules, topic) = engine.rules_for(black_box("plant/hall/press/temp"));
                assert_eq!(rules.len(), 1);
                engine.route(&rules, &topic.into(), &payload, None, &origin, Timestamp::from_seconds(1_700_000_000))
            });
        });
    }
}

criterion_group!(benches, rules);
criterion_main!(benches);
