//! The kill test: publishers at full speed, `kill -9` at random moments, and afterwards nothing that was acknowledged
//! is missing, and no answer differs from that of a run without interruption over the same records.

use crate::{
    device,
    harness::{Installation, Server, tell},
    lake::archived_rows,
};
use bytes::Bytes;
use kilter_backend_embedded::{EmbeddedStream, StreamConfig};
use kilter_core::{
    Offset, Record, ShardId, StreamName, Timestamp,
    ports::{
        clock::SystemClock,
        stream::{ReadLimit, Stream},
    },
};
use kilter_door_mqtt::{MqttClient, Options, QoS, Version};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

const TENANT: &str = "killed";
const THINGS: [&str; 4] = ["press-a", "press-b", "press-c", "firehose"];
/// Publishes without a pause what is kept as rejected: the way in at full speed, cheap for the scorer.
const FIREHOSE: usize = 3;
/// The presses publish bursts at full speed, and pause in between, so that a debug build can score it all twice.
const BURST: u64 = 20;
const PAUSE_MS: (u64, u64) = (5, 60);
const KILLS: u64 = 50;
/// A life lasts this long after `/readyz`, in milliseconds: from before the first commit to several of them.
const LIFE_MS: (u64, u64) = (50, 400);
/// Every so many kills one hits the start instead, this long after the process was made.
const EARLY_EVERY: u64 = 5;
const EARLY_MS: (u64, u64) = (1, 120);
/// One reading a minute: nobody is silent within the test's time.
const INTERVAL_SECONDS: u64 = 60;
const FIRST_EVENT: u64 = 1_700_000_000;
/// Rows of one page of the API.
const PAGE: usize = 10_000;

/// xorshift64*: the test's own chance, from one printed number.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn between(&mut self, (low, high): (u64, u64)) -> Duration {
        Duration::from_millis(low + self.next() % (high - low + 1))
    }
}

/// A press whose signals hang together; every 700 readings something goes wrong for 12 of them.
fn payload(thing: usize, number: u64) -> Bytes {
    if thing == FIREHOSE {
        return format!("no JSON {thing}/{number}").into();
    }
    let mut chance =
        Chance(0x9e37_79b9_7f4a_7c15 ^ (number + 1).wrapping_mul(0xff51_afd7_ed55_8ccd) ^ (thing as u64) << 32);
    let mut noise = |size: f64| ((chance.next() >> 11) as f64 / (1u64 << 53) as f64 - 0.5) * size;
    let load = 60.0 + 20.0 * (number as f64 / 48.0).sin() + noise(4.0);
    let fault = number % 700 >= 640 && number % 700 < 652;
    let current = load * 0.7 + noise(1.0) + if fault { 30.0 } else { 0.0 };
    let flow = load * 2.5 + noise(3.0);
    let pressure = 4.0 + load * 0.02 + noise(0.1);
    let temperature = 45.0 + load * 0.2 + noise(0.5) + if fault && thing.is_multiple_of(2) { 25.0 } else { 0.0 };
    let vibration = 1.2 + noise(0.2) + if fault { 4.0 } else { 0.0 };
    // Two of ten have changed places: they are put in order.
    let place = match number % 10 {
        3 => number + 2,
        5 => number - 2,
        _ => number,
    };
    let time = FIRST_EVENT + place * INTERVAL_SECONDS;
    format!(
        "{{\"ts\":{time},\"id\":\"{thing}/{number}\",\"motor\":{{\"current_a\":{current:.3},\"on\":true}},\"flow_m3h\":{flow:.3},\"pressure_bar\":{pressure:.4},\"bearing_c\":{temperature:.3},\"vibration_mms\":{vibration:.4}}}"
    )
    .into()
}

/// What a publisher knows at the end.
struct Published {
    acknowledged: u64,
    /// Numbers below it were handed to a client at least once.
    attempted: u64,
    lives_with_acknowledgements: u64,
}

/// Publishes 0, 1, 2, … for as long as it may; after each lost connection goes on with the first that was not
/// acknowledged.
async fn publisher(options: Options, thing: usize, stop: Arc<AtomicBool>) -> Published {
    let topic = device::topic(TENANT, THINGS[thing]);
    let mut done = Published { acknowledged: 0, attempted: 0, lives_with_acknowledgements: 0 };
    let mut chance = Chance(thing as u64 + 1);
    while !stop.load(Ordering::Acquire) {
        let Ok(client) = MqttClient::connect(options.clone()).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut next = done.acknowledged;
        let alive = loop {
            if stop.load(Ordering::Acquire) {
                break client.flush().await.is_ok();
            }
            if client.publish(&topic, payload(thing, next), QoS::AtLeastOnce).await.is_err() {
                break false;
            }
            next += 1;
            done.attempted = done.attempted.max(next);
            if thing != FIREHOSE && next.is_multiple_of(BURST) {
                tokio::time::sleep(chance.between(PAUSE_MS)).await;
            }
        };
        let settled = client.acked();
        assert!(!alive || done.acknowledged + settled == next, "a flush that succeeded has acknowledged everything");
        done.acknowledged += settled;
        done.lives_with_acknowledgements += u64::from(settled > 0);
    }
    done
}

#[test]
fn fifty_kills_lose_nothing_and_change_no_answer() {
    let seed = std::env::var("KILTER_KILL_SEED").ok().map(|seed| seed.parse().expect("KILTER_KILL_SEED is a number"));
    let now = || SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_micros() as u64;
    let seed: u64 = seed.unwrap_or_else(now);
    tell(&format!("kill test: KILTER_KILL_SEED={seed}"));
    let began = Instant::now();
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    let out = installation.certificates();
    let mut onboard = vec!["tenant", "onboard", TENANT, "--alerts-per-week", "200", "--out", out.to_str().unwrap()];
    onboard.extend(THINGS.iter().flat_map(|thing| ["--thing", thing]));
    installation.kilter(&onboard).succeeded();

    let published = kill_while_publishing(&installation, seed);
    let acknowledged: u64 = published.iter().map(|p| p.acknowledged).sum();
    tell(&format!("kill test: {KILLS} kills, {acknowledged} messages acknowledged, after {:?}", began.elapsed()));

    let server = installation.start();
    let interrupted = Answers::of(&server, acknowledged);
    assert!(server.stop().success());
    let records = stream_records(&installation.data(), TENANT);
    check_stream(&records, &published);
    check_ledger(&interrupted.ledger, &records);
    check_lake(&installation.data(), &interrupted);

    let again = Installation::new("[lake]\nflush_seconds = 1\n");
    fs::remove_dir_all(again.data()).unwrap();
    copy(&installation.data(), &again.data());
    fs::remove_file(again.data().join("results.redb")).unwrap();
    let server = again.start();
    let uninterrupted = Answers::of(&server, acknowledged);
    interrupted.must_equal(&uninterrupted);
    let first = server.list("/api/v1/tenants/killed/records?limit=100");
    assert_eq!(first.len(), 100);
    for shown in &first {
        // In order of arrival, which connections that publish at once need not have in the stream.
        let record = &records[usize::try_from(shown["offset"].as_u64().unwrap()).unwrap()];
        assert_eq!(shown["data"].as_str().unwrap().as_bytes(), record.record.data);
    }
    tell(&format!(
        "kill test: {} records, {} rows, {} anomalies, {} alerts equal those of an uninterrupted run, after {:?}",
        records.len(),
        interrupted.rows.values().map(Vec::len).sum::<usize>(),
        interrupted.anomalies.len(),
        interrupted.alerts.len(),
        began.elapsed()
    ));
}

fn kill_while_publishing(installation: &Installation, seed: u64) -> Vec<Published> {
    let (mqtt, http) = free_ports(seed);
    let stop = Arc::new(AtomicBool::new(false));
    let runtime = device::runtime();
    let tasks: Vec<_> = (0..THINGS.len())
        .map(|thing| {
            let mut options = device::options(installation, &mqtt, THINGS[thing]);
            options.version = if thing.is_multiple_of(2) { Version::V5 } else { Version::V311 };
            runtime.spawn(publisher(options, thing, stop.clone()))
        })
        .collect();
    kill_again_and_again(installation, (&mqtt, &http), seed, KILLS, LIFE_MS);
    // The last life lets everybody finish.
    let server = installation.start_on(&mqtt, &http);
    stop.store(true, Ordering::Release);
    let published: Vec<Published> = tasks.into_iter().map(|task| runtime.block_on(task).unwrap()).collect();
    server.kill();
    for (thing, p) in THINGS.iter().zip(&published) {
        let lives = p.lives_with_acknowledgements;
        assert!(lives >= KILLS / 3, "{thing} was acknowledged something in {lives} lives only: the test tests little");
    }
    published
}

/// Starts the server and kills it, so many times. A life lasts `life_ms` after `/readyz`; every fifth kill hits the start.
pub fn kill_again_and_again(
    installation: &Installation,
    (mqtt, http): (&str, &str),
    seed: u64,
    kills: u64,
    life_ms: (u64, u64),
) {
    let mut chance = Chance::new(seed);
    for kill in 1..=kills {
        let (server, lives_ms) = if kill % EARLY_EVERY == 0 {
            (installation.spawn(mqtt, http), EARLY_MS)
        } else {
            (installation.start_on(mqtt, http), life_ms)
        };
        std::thread::sleep(chance.between(lives_ms));
        server.kill();
    }
}

/// Two ports that stay ours while the server is away: below the range that connections take theirs from.
pub fn free_ports(seed: u64) -> (String, String) {
    let mut free = (0..).map(|i| 20_000 + (seed.wrapping_add(i * 7) % 10_000)).filter_map(|port| {
        let address = format!("127.0.0.1:{port}");
        std::net::TcpListener::bind(&address).is_ok().then_some(address)
    });
    (free.next().unwrap(), free.next().unwrap())
}

/// All that the server says about the tenant.
struct Answers {
    rows: BTreeMap<&'static str, Vec<Value>>,
    anomalies: Vec<Value>,
    alerts: Vec<Value>,
    ledger: Vec<Value>,
}

impl Answers {
    /// Once nothing waits any more.
    fn of(server: &Server, received: u64) -> Self {
        let ledger = server.settled_ledger(TENANT, received);
        let events = |what: &str| server.list(&format!("/api/v1/{what}?tenant={TENANT}&limit={PAGE}"));
        let mut alerts = events("alerts");
        for alert in &mut alerts {
            // When and where it was delivered is another matter.
            alert.as_object_mut().unwrap().remove("deliveries").unwrap();
        }
        let presses = THINGS.into_iter().take(FIREHOSE);
        let rows = presses.map(|thing| (thing, all_rows(server, thing))).collect();
        Self { rows, anomalies: events("anomalies"), alerts, ledger }
    }

    fn must_equal(&self, other: &Self) {
        assert_eq!(self.ledger, other.ledger);
        for (thing, rows) in &self.rows {
            let others = &other.rows[thing];
            for (row, other) in rows.iter().zip(others) {
                assert_eq!(row.to_string(), other.to_string(), "a row of {thing}");
            }
            assert_eq!(rows.len(), others.len(), "rows of {thing}");
            let scored = rows.iter().filter(|row| row["score"].is_number()).count();
            assert!(scored > 100, "only {scored} rows of {thing} have a score: the test tests little");
        }
        for (anomaly, other) in self.anomalies.iter().zip(&other.anomalies) {
            assert_eq!(anomaly.to_string(), other.to_string());
        }
        assert_eq!(self.anomalies.len(), other.anomalies.len());
        assert!(!self.anomalies.is_empty(), "no anomaly was found: the test tests little");
        assert_eq!(self.alerts, other.alerts);
        assert!(!self.alerts.is_empty());
    }
}

/// Every row of a thing, oldest first.
fn all_rows(server: &Server, thing: &str) -> Vec<Value> {
    let mut pages = Vec::new();
    let mut before = String::new();
    loop {
        let page = server.list(&format!("/api/v1/tenants/{TENANT}/things/{thing}/readings?limit={PAGE}{before}"));
        let (full, oldest) =
            (page.len() == PAGE, page.first().map(|row| row["event_time"].as_str().unwrap().to_owned()));
        pages.push(page);
        match oldest.filter(|_| full) {
            // A thing has one row per moment here.
            Some(time) => {
                let earlier = Timestamp::parse_rfc3339(&time).unwrap().as_nanos() - 1;
                before = format!("&before={}", Timestamp::from_nanos(earlier));
            }
            None => return pages.into_iter().rev().flatten().collect(),
        }
    }
}

/// The whole stream, as it is on disk.
pub fn stream_records(data: &Path, tenant: &str) -> Vec<Record> {
    let stream = EmbeddedStream::open(&data.join("streams"), StreamConfig::default(), Arc::new(SystemClock)).unwrap();
    let name = StreamName::new(&format!("anomaly-stream-{tenant}")).unwrap();
    let mut records: Vec<Record> = Vec::new();
    loop {
        let from = records.last().map_or(Offset(0), |record| record.offset.next());
        let more = stream.read(&name, ShardId(0), from, ReadLimit { records: PAGE, bytes: 16 << 20 }).unwrap();
        if more.is_empty() {
            stream.close();
            return records;
        }
        records.extend(more);
    }
}

/// Each thing's records are what it sent, byte for byte, in order, from the first to at least the last acknowledged;
/// a message may be there again, as what was not acknowledged is sent again.
fn check_stream(records: &[Record], published: &[Published]) {
    let mut next: HashMap<&str, (u64, u64)> = HashMap::new();
    for record in records {
        let name = record.record.thing.as_str();
        let thing = THINGS.iter().position(|t| *t == name).unwrap();
        let (expected, sequence) = next.entry(name).or_default();
        *sequence += 1;
        assert_eq!(record.record.thing_sequence, *sequence, "{name}");
        let number = number_of(&record.record.data);
        assert_eq!(record.record.data, payload(thing, number), "{name} {number} is not what was sent");
        assert!(number <= *expected, "{name}: {number} is there, but {expected} is missing");
        assert!(number < published[thing].attempted, "{name}: {number} was never sent");
        *expected = (*expected).max(number + 1);
    }
    for (name, published) in THINGS.iter().zip(published) {
        let (stored, _) = next[name];
        assert!(
            stored >= published.acknowledged,
            "{name}: {} were acknowledged, {stored} kept",
            published.acknowledged
        );
    }
}

fn number_of(data: &[u8]) -> u64 {
    // Behind the only slash, up to what is no digit.
    let text = std::str::from_utf8(data).unwrap();
    let digits = text.split('/').nth(1).unwrap();
    digits.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}

/// Received is what the stream holds; what is there for the second time is late, everything else is scored.
fn check_ledger(ledger: &[Value], records: &[Record]) {
    for line in ledger {
        let own = records.iter().filter(|r| r.record.thing.as_str() == line["thing"]);
        let numbers: Vec<u64> = own.map(|r| number_of(&r.record.data)).collect();
        let received = numbers.len() as u64;
        let distinct = numbers.into_iter().collect::<BTreeSet<_>>().len() as u64;
        let expected = if line["thing"] == THINGS[FIREHOSE] {
            [received, 0, received, 0, 0, 0]
        } else {
            [received, received, 0, distinct, received - distinct, 0]
        };
        let found =
            ["received", "stored", "rejected", "scored", "late", "waiting"].map(|of| line[of].as_u64().unwrap());
        assert_eq!(found, expected, "{line}");
    }
    assert_eq!(ledger.len(), THINGS.len());
}

/// Stopping has flushed the lake: it holds every record and every revision of every row once.
fn check_lake(data: &Path, answers: &Answers) {
    let sum = |of: &str| answers.ledger.iter().map(|line| line[of].as_u64().unwrap()).sum::<u64>();
    assert_eq!(archived_rows(data, TENANT, "raw"), sum("stored"));
    assert_eq!(archived_rows(data, TENANT, "rejected"), sum("rejected"));
    let rows = answers.rows.values().flatten();
    let revisions = rows.map(|row| 1 + row["corrected"]["revision"].as_u64().unwrap_or(0)).sum::<u64>();
    assert_eq!(archived_rows(data, TENANT, "scored"), revisions);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
