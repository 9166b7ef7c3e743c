//! What every implementation of the port `Notify` must do, taken from its doc comments sentence by sentence.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a check says its name and fails by panicking")]

use futures::{
    FutureExt,
    future::{BoxFuture, join_all},
};
use kilter_core::{Alert, AlertEvent, Cause, Direction, Episode, Score, Severity, Timestamp, ports::notify::Notify};
use std::{collections::BTreeSet, sync::Arc};

/// The tenant whose alerts the destinations of a suite are for.
pub const TENANT: &str = "plant1";
/// A tenant whose alerts they are not for.
pub const OTHER_TENANT: &str = "plant2";

/// How a destination fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It does not answer, and may later.
    Down,
    /// It never will take an alert.
    Refuses,
}

/// Hands the suite destinations to try.
pub trait Subject: Send {
    /// For the alerts of [`TENANT`] alone; takes them, and has none.
    fn fresh(&mut self) -> Arc<dyn Notify>;
    /// What the receiver behind the last made has, as it came: the key that came with each alert, and the alert.
    fn arrived(&mut self) -> BoxFuture<'_, Vec<(String, Alert)>>;
    /// Makes the last made fail from now on, or take alerts again; `false`: it does not fail that way.
    fn fail(&mut self, how: Option<Failure>) -> bool;
}

type Check = for<'a> fn(&'a mut dyn Subject) -> BoxFuture<'a, ()>;

/// Runs all checks; panics at the first that does not hold.
pub async fn check(subject: &mut dyn Subject) {
    let checks: [(&str, Check); 7] = [
        ("it has a name, the same every time", |s| names(s).boxed()),
        ("it wants the alerts that it is for, and asking sends nothing", |s| wants(s).boxed()),
        ("what it has taken has arrived whole, in the order of the answers", |s| arrives(s).boxed()),
        ("what is sent again comes under the same key", |s| repeats(s).boxed()),
        ("many at once all arrive", |s| many(s).boxed()),
        ("without an answer it is tried again, and arrives then", |s| down(s).boxed()),
        ("what is refused for good is not tried again", |s| refuses(s).boxed()),
    ];
    for (what, run) in checks {
        // Captured by the test harness, shown when a check fails.
        println!("notify: {what}");
        run(subject).await;
    }
}

/// An alert of a tenant, with all that an alert can have.
pub fn alert(tenant: &str, key: &str, event: AlertEvent) -> Alert {
    let at = Timestamp::from_seconds;
    let cause = Cause {
        signal: "d<ru>ck & \"temp\" ü".into(),
        share: 0.75,
        direction: Direction::Low,
        value: 2.5,
        expected: [3.5, 4.25],
        detector: "cusum".into(),
    };
    let episode = Episode {
        id: format!("press@{key}").into(),
        tenant: tenant.parse().unwrap(),
        thing: "press".parse().unwrap(),
        start: at(1_700_000_000),
        peak: at(1_700_000_001),
        end: (event != AlertEvent::Opened).then(|| at(1_700_000_009)),
        severity: Severity::Critical,
        peak_score: Score::new(6.0),
        threshold: Score::new(3.0),
        readings: 7,
        causes: vec![cause],
        known: at(1_700_000_002),
        corrected: None,
        withdrawn: (event == AlertEvent::Withdrawn).then(|| at(1_700_000_010)),
    };
    let summary = "Press: <pressure> 4 bar below what was expected; „Öldruck“ & temperature, \u{1f6b0}".into();
    Alert { key: key.into(), event, raised: at(1_700_000_003), episode, summary, deliveries: Vec::new() }
}

fn opened(key: &str) -> Alert {
    alert(TENANT, key, AlertEvent::Opened)
}

async fn keys(subject: &mut dyn Subject) -> Vec<String> {
    subject.arrived().await.into_iter().map(|(key, _)| key).collect()
}

async fn names(subject: &mut dyn Subject) {
    let name = subject.fresh().name().to_owned();
    assert!(!name.is_empty(), "an alert's deliveries show it");
    let again = subject.fresh();
    assert_eq!(again.name(), name);
    again.publish(&opened("k")).await.unwrap();
    assert_eq!(again.name(), name);
}

async fn wants(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    for event in [AlertEvent::Opened, AlertEvent::Closed, AlertEvent::Amended, AlertEvent::Withdrawn] {
        assert!(notify.wants(&alert(TENANT, "k", event)), "{event:?}");
        assert!(!notify.wants(&alert(OTHER_TENANT, "k", event)), "{event:?}");
    }
    assert_eq!(subject.arrived().await, []);
}

async fn arrives(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    let events = [AlertEvent::Opened, AlertEvent::Amended, AlertEvent::Closed, AlertEvent::Withdrawn];
    let mut sent = Vec::new();
    for (number, event) in events.into_iter().enumerate() {
        let alert = alert(TENANT, &format!("press@1:{number}/told"), event);
        notify.publish(&alert).await.unwrap();
        sent.push((alert.key.to_string(), alert));
        assert_eq!(subject.arrived().await, sent);
    }
}

async fn repeats(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    let alert = opened("twice");
    notify.publish(&alert).await.unwrap();
    notify.publish(&alert).await.unwrap();
    let arrived = subject.arrived().await;
    assert!((1..=2).contains(&arrived.len()), "once, or once more: {arrived:?}");
    assert!(arrived.iter().all(|(key, same)| key == "twice" && *same == alert), "{arrived:?}");
}

async fn many(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    let alerts: Vec<Alert> = (0..20).map(|number| opened(&format!("{number}"))).collect();
    for answered in join_all(alerts.iter().map(|alert| notify.publish(alert))).await {
        answered.unwrap();
    }
    let arrived = keys(subject).await;
    assert_eq!(arrived.len(), alerts.len());
    let arrived: BTreeSet<&str> = arrived.iter().map(String::as_str).collect();
    assert_eq!(arrived, alerts.iter().map(|alert| &*alert.key).collect());
}

async fn down(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    if !subject.fail(Some(Failure::Down)) {
        return;
    }
    let error = notify.publish(&opened("late")).await.unwrap_err();
    assert!(error.retryable, "{error}");
    assert!(error.to_string().len() > 10, "an error must say what happened: {error}");
    assert_eq!(keys(subject).await, Vec::<String>::new());
    subject.fail(None);
    notify.publish(&opened("late")).await.unwrap();
    assert_eq!(keys(subject).await, ["late"]);
}

async fn refuses(subject: &mut dyn Subject) {
    let notify = subject.fresh();
    if !subject.fail(Some(Failure::Refuses)) {
        return;
    }
    let error = notify.publish(&opened("never")).await.unwrap_err();
    assert!(!error.retryable, "{error}");
    assert!(error.to_string().len() > 10, "an error must say what happened: {error}");
    assert_eq!(keys(subject).await, Vec::<String>::new());
}
