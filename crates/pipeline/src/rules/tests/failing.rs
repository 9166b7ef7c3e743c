//! Failing actions: which are tried again, what is said of those that stay failed, and that nobody acknowledges a
//! message that is nowhere.

use super::*;
use std::{collections::VecDeque, time::Duration};

/// Answers each call with the next outcome: `None` succeeds, otherwise whether trying again may help. With none left it
/// succeeds.
#[derive(Default)]
struct Flaky {
    outcomes: Mutex<VecDeque<Option<bool>>>,
    calls: Mutex<usize>,
    /// How long each call takes, and on which clock.
    slow: Duration,
    clock: FakeClock,
}

impl ActionTarget for Flaky {
    fn kinds(&self) -> &[&'static str] {
        &["sns"]
    }
    fn check(&self, _: &str, _: &Value) -> Result<(), String> {
        Ok(())
    }
    fn perform(&self, _: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        *self.calls.lock().unwrap() += 1;
        let outcome = self.outcomes.lock().unwrap().pop_front().flatten();
        self.clock.advance(self.slow);
        let failed = |retryable| ActionError { resource: "alarms".into(), message: "x".repeat(5_000), retryable };
        futures::future::ready(outcome.map_or(Ok(()), |retryable| Err(failed(retryable)))).boxed()
    }
}

fn flaky(house: &House, outcomes: &[Option<bool>], slow: Duration) -> Arc<Flaky> {
    let (outcomes, clock) = (Mutex::new(outcomes.iter().copied().collect()), house.clock.clone());
    let target = Arc::new(Flaky { outcomes, slow, clock, ..Flaky::default() });
    house.engine.add_target(target.clone());
    house.rule_with_errors("r", "SELECT * FROM 'a'", json!([{"sns": {"targetArn": "alarms"}}]));
    target
}

const AGAIN: Option<bool> = Some(true);
const NEVER: Option<bool> = Some(false);

#[tokio::test]
async fn what_may_help_is_tried_three_times_and_then_told() {
    for (outcomes, calls, told) in [
        (&[][..], 1, 0),
        (&[AGAIN, AGAIN], 3, 0),
        (&[AGAIN, AGAIN, AGAIN], 3, 1),
        (&[NEVER], 1, 1),
        (&[AGAIN, NEVER], 2, 1),
    ] {
        let house = house();
        let target = flaky(&house, outcomes, Duration::ZERO);
        house.publish("a", "raw").await;
        let errors = house.errors();
        assert_eq!((*target.calls.lock().unwrap(), errors.len()), (calls, told), "{outcomes:?}");
        assert_eq!(house.log("r").len(), told);
        for error in errors {
            assert_eq!((&error["topic"], &error["base64OriginalPayload"]), (&json!("a"), &json!("cmF3")));
            let failure = &error["failures"][0];
            assert_eq!((&failure["failedAction"], &failure["failedResource"]), (&json!("SnsAction"), &json!("alarms")));
            assert_eq!(failure["errorMessage"].as_str().unwrap().len(), 1_000, "long ones are cut");
        }
    }
}

#[tokio::test]
async fn a_slow_target_is_not_waited_for_again() {
    let house = house();
    let target = flaky(&house, &[AGAIN, AGAIN], Duration::from_secs(6));
    house.publish("a", "raw").await;
    assert_eq!(*target.calls.lock().unwrap(), 1);
    assert_eq!(house.errors().len(), 1);
}

/// Answers only when it is let; counts who waits for it.
#[derive(Default)]
struct Hanging {
    waiting: Arc<Mutex<usize>>,
    gate: Arc<tokio::sync::Notify>,
}

impl ActionTarget for Hanging {
    fn kinds(&self) -> &[&'static str] {
        &["http"]
    }
    fn check(&self, _: &str, _: &Value) -> Result<(), String> {
        Ok(())
    }
    fn perform(&self, _: ActionCall) -> BoxFuture<'static, Result<(), ActionError>> {
        let (waiting, gate) = (self.waiting.clone(), self.gate.clone());
        async move {
            *waiting.lock().unwrap() += 1;
            gate.notified().await;
            Ok(())
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_target_that_hangs_is_asked_by_so_many_at_once_and_holds_up_no_other_rule() {
    let house = house();
    let target = Arc::new(Hanging::default());
    house.engine.add_target(target.clone());
    house.rule("hangs", "SELECT * FROM 'a'", json!([{"http": {"url": "https://example.com"}}]));
    house.rule(
        "works",
        "SELECT * FROM 'b'",
        json!([{"kinesis": {"streamName": "other"}}, {"s3": {"bucketName": "b", "key": "k"}}]),
    );
    let published = (0..100).map(|_| house.publish("a", "{}"));
    let mut published = futures::future::join_all(published);
    assert!(futures::poll!(&mut published).is_pending());
    assert_eq!(*target.waiting.lock().unwrap(), 64);
    house.publish("b", "{}").await;
    let let_go = async {
        while *target.waiting.lock().unwrap() < 100 {
            target.gate.notify_waiters();
            tokio::task::yield_now().await;
        }
        target.gate.notify_waiters();
    };
    futures::join!(published, let_go);
}

#[tokio::test]
async fn a_message_that_nobody_could_keep_is_not_acknowledged() {
    let house = house_without_log();
    let missing = json!([{"s3": {"bucketName": "missing", "key": "k"}}]);
    house.rule("nowhere", "SELECT * FROM 'a/1'", missing.clone());
    let error = house.try_publish("a/1", "raw").await.unwrap_err();
    assert!(error.to_string().contains("the rule nowhere failed"), "{error}");
    // Its error action, or a stream, has it.
    house.rule_with_errors("told", "SELECT * FROM 'a/2'", missing.clone());
    house.publish("a/2", "raw").await;
    let stream = json!({"kinesis": {"streamName": "other"}});
    house.rule("stored", "SELECT * FROM 'a/3'", json!([missing[0], stream]));
    house.publish("a/3", "raw").await;
    assert_eq!((house.errors().len(), house.records("other").len()), (1, 1));
}

#[tokio::test]
async fn a_stream_that_is_not_there_is_a_failure_and_holds_nobody_up() {
    let house = house();
    let streams = json!([{"kinesis": {"streamName": "gone"}}, {"kinesis": {"streamName": "anomaly-stream-gone"}},
        {"kinesis": {"streamName": "other"}}]);
    house.rule_with_errors("r", "SELECT a FROM 'a'", streams);
    for body in [r#"{"a":1}"#, "not json"] {
        house.publish("a", body).await;
        let failures = house.errors()[0]["failures"].clone();
        let resources: Vec<_> = failures.as_array().unwrap().iter().map(|failure| &failure["failedResource"]).collect();
        assert_eq!(resources[..2], ["gone", "anomaly-stream-gone"]);
        if body != "not json" {
            assert!(failures[0]["errorMessage"].as_str().unwrap().contains("aws kinesis create-stream"));
        }
    }
    assert_eq!(house.records("other").len(), 1);
}

#[tokio::test]
async fn what_is_too_large_or_empty_is_a_failure_that_says_so() {
    let house = house();
    let doubled = (1..=9).map(|i| format!("b AS b{i}")).collect::<Vec<_>>().join(", ");
    house.rule_with_errors(
        "large",
        &format!("SELECT {doubled} FROM 'a/1'"),
        json!([{"kinesis": {"streamName": "other"}}]),
    );
    let stream = json!([{"kinesis": {"streamName": "anomaly-stream-t1"}}]);
    house.rule("kept", &format!("SELECT {doubled} FROM '{TELEMETRY}'"), stream);
    house.rule_with_errors(
        "again",
        "SELECT b AS b1, b AS b2, b AS b3 FROM 'a/2'",
        json!([{"republish": {"topic": "b"}}]),
    );
    house.rule_with_errors(
        "key",
        "SELECT 1 AS x FROM 'a/2'",
        json!([{"kinesis": {"streamName": "other", "partitionKey": "${b}"}}]),
    );
    house.rule_with_errors("topic", "SELECT 1 AS x FROM 'a/3'", json!([{"republish": {"topic": "${missing}"}}]));
    let body = json!({"b": "x".repeat(130_000)}).to_string();
    for (topic, whys) in [
        ("a/1", &["and at most 1048576 are taken"][..]),
        ("a/2", &["are more than the 262144", "more than 256 characters"]),
        ("a/3", &["it is empty"]),
    ] {
        house.publish(topic, &body).await;
        let errors = house.errors();
        assert_eq!(errors.len(), whys.len(), "{topic}");
        for (error, why) in errors.iter().zip(whys) {
            let message = error["failures"][0]["errorMessage"].as_str().unwrap();
            assert!(message.contains(why), "{topic}: {message}");
        }
    }
    // A tenant's stream keeps what came.
    house.publish(TELEMETRY, &body).await;
    let records = house.records("anomaly-stream-t1");
    assert!(matches!(&records[0].kind, RecordKind::Rejected(why) if why.contains("select less")));
    assert_eq!(records[0].data, body);
    assert!(house.records("other").is_empty());
}

#[tokio::test]
async fn a_log_groups_bad_name_takes_no_other_event_with_it() {
    let house = house();
    house.rule_with_errors(
        "r",
        "SELECT * FROM 'a'",
        json!([
        {"cloudwatchLogs": {"logGroupName": "${a}"}}, {"cloudwatchLogs": {"logGroupName": "good"}}]),
    );
    let topics = ["a"; 20].map(|topic| house.publish(topic, r#"{"a":"bad name"}"#));
    futures::future::join_all(topics).await;
    let query = LogQuery { limit: 100, ..LogQuery::default() };
    assert_eq!((house.errors().len(), house.logs.events("good", &query).unwrap().len()), (20, 20));
    assert_eq!(house.log("r").len(), 20);
}

#[tokio::test]
async fn republished_messages_carry_the_properties_that_the_action_names() {
    let house = house();
    let republish = |headers: Value| json!([{"republish": {"topic": "b", "qos": 1, "headers": headers}}]);
    house.rule(
        "r",
        "SELECT * FROM 'a'",
        republish(json!({
            "payloadFormatIndicator": "UTF8_DATA", "contentType": "application/${a}", "responseTopic": "re/${topic()}",
            "correlationData": "${encode(topic(), 'base64')}", "messageExpiry": "60",
            "userProperties": [{"key": "site", "value": "${a}"}, {"key": "site", "value": "2"}],
        })),
    );
    house.rule(
        "seen",
        "SELECT get_user_properties('site') AS site FROM 'b'",
        json!([{"kinesis": {"streamName": "other"}}]),
    );
    house.publish("a", r#"{"a":"json"}"#).await;
    let delivered = house.outbox.0.lock().unwrap().pop().unwrap();
    let properties = delivered.properties.unwrap();
    assert_eq!((properties.payload_format, properties.expiry), (Some(1), Some(60)));
    assert_eq!(properties.content_type.as_deref(), Some("application/json"));
    assert_eq!(properties.response_topic.as_deref(), Some("re/a"));
    assert_eq!(properties.correlation_data.as_deref(), Some(&b"a"[..]));
    assert_eq!(properties.user, [("site".into(), "json".into()), ("site".into(), "2".into())]);
    assert_eq!(&house.records("other")[0].data[..], br#"{"site":["json","2"]}"#);
    for (at, headers) in
        [json!({"payloadFormatIndicator": "TEXT"}), json!({"messageExpiry": "soon"}), json!({"correlationData": "%"})]
            .into_iter()
            .enumerate()
    {
        let topic = format!("bad/{at}");
        house.rule_with_errors(&format!("bad{at}"), &format!("SELECT * FROM '{topic}'"), republish(headers));
        house.publish(&topic, "{}").await;
        assert_eq!(house.errors().len(), 1, "{topic}");
    }
}

#[tokio::test]
async fn an_operators_message_needs_no_thing_in_its_topic() {
    let house = house();
    house.rule("r", "SELECT * FROM 'plant/#'", json!([{"kinesis": {"streamName": "other"}}]));
    let (rules, seen) = house.engine.rules_for("plant/x");
    let routed = house.engine.route(&rules, &seen.into(), &"{}".into(), None, &Origin::default(), Timestamp::default());
    house.engine.keep(routed.unwrap()).await.unwrap();
    assert_eq!(house.records("other")[0].thing.as_str(), "plant_x");
}
