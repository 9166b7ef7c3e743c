//! A stream is split, merged and scaled while devices publish and the server is killed: nothing that was acknowledged is
//! missing, and what was found equals what a stream of one shard finds in the same messages.

use crate::{
    aws::environment,
    device,
    harness::{Installation, Server, eventually},
    kill::free_ports,
    tools,
};
use bytes::Bytes;
use kilter_door_mqtt::{MqttClient, Options, QoS};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

const TENANT: &str = "resharded";
/// Their hash keys lie in different halves.
const THINGS: [&str; 2] = ["press-a", "press-b"];
/// Acknowledged of each thing between two changes.
const STEP: u64 = 250;
/// A debug build must be able to score it all twice.
const PAUSE: Duration = Duration::from_millis(3);
const ROWS_MAX: usize = 10_000;

/// One reading a minute; every 90 readings something goes wrong for five of them.
fn payload(number: u64) -> Bytes {
    let wave = (number as f64 / 9.0).sin() + ((number * 7919) % 101) as f64 / 300.0;
    let fault = if number % 90 >= 85 { 9.0 } else { 0.0 };
    let time = 1_700_000_000 + number * 60;
    format!("{{\"ts\":{time},\"flow\":{wave},\"power\":{}}}", 2.0 * wave + fault).into()
}

/// Publishes 0, 1, 2, … until it may stop; what was not acknowledged is sent again.
async fn publisher(options: Options, acknowledged: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let topic = device::topic(TENANT, &options.client_id);
    while !stop.load(Ordering::Acquire) {
        let Ok(client) = MqttClient::connect(options.clone()).await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let first = acknowledged.load(Ordering::Acquire);
        for number in first.. {
            let published = client.publish(&topic, payload(number), QoS::AtLeastOnce).await;
            acknowledged.store(first + client.acked(), Ordering::Release);
            if published.is_err() || stop.load(Ordering::Acquire) {
                break;
            }
            tokio::time::sleep(PAUSE).await;
        }
        let _ = client.flush().await;
        acknowledged.store(first + client.acked(), Ordering::Release);
    }
}

/// Whoever changes the stream: boto3 in a process of its own.
struct Operator {
    process: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Operator {
    fn new(python: &Path, installation: &Installation) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/reshard.py");
        let mut command = Command::new(python);
        command.arg(script).envs(environment(installation)).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let (asks, answers) = (process.stdin.take().unwrap(), process.stdout.take().unwrap());
        Self { process, asks, answers: BufReader::new(answers) }
    }

    /// Answers the open shards.
    fn change(&mut self, installation: &Installation, operation: &str, parameters: &Value) -> Vec<String> {
        let endpoint = environment(installation).into_iter().find(|(name, _)| name == "AWS_ENDPOINT_URL").unwrap().1;
        let stream = format!("anomaly-stream-{TENANT}");
        let asked = json!({"endpoint": endpoint, "stream": stream, "operation": operation, "parameters": parameters});
        writeln!(self.asks, "{asked}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{operation}: {error}: {answer:?}"))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Rows and anomalies without what names shards and arrivals.
fn answers(server: &Server) -> Vec<Value> {
    let rows = THINGS
        .iter()
        .flat_map(|thing| server.list(&format!("/api/v1/tenants/{TENANT}/things/{thing}/readings?limit={ROWS_MAX}")));
    let anomalies = server.list(&format!("/api/v1/anomalies?tenant={TENANT}&limit={ROWS_MAX}"));
    let mut all: Vec<Value> = rows.chain(anomalies).collect();
    for answer in &mut all {
        ["position", "arrival", "id"].iter().for_each(|name| drop(answer.as_object_mut().unwrap().remove(*name)));
    }
    all
}

#[test]
fn reshards_and_kills_while_devices_publish_change_no_answer() {
    let Some(python) = tools::python("reshard") else { return };
    let installation = Installation::new("");
    installation.onboard(TENANT, &THINGS);
    let (mqtt, http) = free_ports(4_000);
    let mut server = installation.start_on(&mqtt, &http);
    let mut operator = Operator::new(&python, &installation);
    let (runtime, stop) = (device::runtime(), Arc::new(AtomicBool::new(false)));
    let acknowledged: Vec<Arc<AtomicU64>> = THINGS.iter().map(|_| Arc::default()).collect();
    let tasks = THINGS.iter().zip(&acknowledged).map(|(thing, acknowledged)| {
        runtime.spawn(publisher(device::options(&installation, &mqtt, thing), acknowledged.clone(), stop.clone()))
    });
    let tasks: Vec<_> = tasks.collect();
    let reach = |number: u64| {
        eventually("both things are acknowledged more", || {
            acknowledged.iter().all(|done| done.load(Ordering::Acquire) >= number).then_some(())
        });
    };

    let changes = [
        (
            "split_shard",
            json!({"ShardToSplit": "shardId-000000000000", "NewStartingHashKey": (1u128 << 127).to_string()}),
        ),
        (
            "merge_shards",
            json!({"ShardToMerge": "shardId-000000000001", "AdjacentShardToMerge": "shardId-000000000002"}),
        ),
        ("update_shard_count", json!({"TargetShardCount": 2, "ScalingType": "UNIFORM_SCALING"})),
    ];
    for (change, (operation, parameters)) in (1..).zip(&changes) {
        reach(change * STEP);
        let open = operator.change(&installation, operation, parameters);
        assert_eq!(open.len(), if *operation == "merge_shards" { 1 } else { 2 }, "{open:?}");
        server.kill();
        server = installation.start_on(&mqtt, &http);
    }
    reach(4 * STEP);
    stop.store(true, Ordering::Release);
    tasks.into_iter().for_each(|task| runtime.block_on(task).unwrap());

    let counts: Vec<u64> = acknowledged.iter().map(|done| done.load(Ordering::Acquire)).collect();
    let ledger = server.settled_ledger(TENANT, counts.iter().sum());
    assert_eq!(ledger.len(), THINGS.len(), "a line for each thing, whatever the shards: {ledger:?}");
    installation.kilter(&["ledger"]).succeeded();
    let found = answers(&server);
    drop(server);

    let other = Installation::new("");
    other.onboard(TENANT, &THINGS);
    let server = other.start();
    for (thing, count) in THINGS.iter().zip(&counts) {
        let all = (0..*count).map(payload);
        runtime.block_on(device::publish(&other, &server, (TENANT, thing), all)).unwrap();
    }
    server.settled_ledger(TENANT, counts.iter().sum());
    let expected = answers(&server);
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.to_string(), expected.to_string());
    }
    assert_eq!(found.len(), expected.len());
    let scored = found.iter().filter(|row| row["score"].is_number()).count();
    assert!(scored > 200, "only {scored} rows have a score: the test tests little");
}
