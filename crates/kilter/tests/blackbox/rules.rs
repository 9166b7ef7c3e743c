//! Rules' actions under `kill -9`: what was acknowledged has been carried out, into an object and to a web server.

use crate::{
    aws::environment,
    device,
    harness::{Installation, PATIENCE, eventually, tell},
    http,
    kill::{Chance, free_ports},
    tools,
};
use kilter_door_mqtt::{MqttClient, Options, QoS};
use std::{
    collections::BTreeSet,
    io::{BufReader, Write},
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
    time::Duration,
};

const KILLS: u64 = 8;
/// In flight: few, so that acknowledgements come soon and often.
const INFLIGHT_MAX: u16 = 8;
/// A life lasts this long after its first acknowledgement, in milliseconds.
const LIFE_MS: (u64, u64) = (0, 200);

/// A web server of a rule's action. Tells of each request by its path, and answers unless it is `shut`.
struct Web {
    url: String,
    taken: Arc<Mutex<BTreeSet<u64>>>,
    arrived: Receiver<u64>,
    shut: Arc<AtomicBool>,
}

fn web() -> Web {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (taken, shut) = (Arc::<Mutex<BTreeSet<u64>>>::default(), Arc::new(AtomicBool::new(false)));
    let (tells, arrived) = channel();
    let (of_thread, gate) = (taken.clone(), shut.clone());
    // Ends with the process: nobody connects once the server is gone.
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, taken, gate, tells) = (stream.unwrap(), of_thread.clone(), gate.clone(), tells.clone());
            thread::spawn(move || answer(stream, &taken, &gate, &tells));
        }
    });
    Web { url, taken, arrived, shut }
}

fn answer(mut stream: std::net::TcpStream, taken: &Mutex<BTreeSet<u64>>, shut: &AtomicBool, tells: &Sender<u64>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    while let Ok((first, headers)) = http::read_head(&mut reader) {
        let Ok(_) = http::read_body(&mut reader, &headers) else { return };
        let number = first.split(' ').nth(1).unwrap()[1..].parse().unwrap();
        let _ = tells.send(number);
        if shut.load(Ordering::Acquire) {
            // The sender is killed before it is answered.
            thread::sleep(PATIENCE);
        }
        taken.lock().unwrap().insert(number);
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").is_err() {
            return;
        }
    }
}

fn script(python: &Path, installation: &Installation, arguments: &[&str]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/rules_kill.py");
    let mut command = Command::new(python);
    let output = command.arg(path).args(arguments).envs(environment(installation)).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn event(number: u64) -> String {
    format!("{{\"n\":{number}}}")
}

/// Publishes 0, 1, 2, … and sends again what was not acknowledged when a connection ended, as devices do; answers how
/// many were acknowledged. `handed` counts what was handed over, again or not.
async fn publish_until(stop: Arc<AtomicBool>, handed: Arc<AtomicU64>, options: Options, topic: Arc<str>) -> u64 {
    let mut acknowledged = 0;
    while !stop.load(Ordering::Acquire) {
        let Ok(client) = MqttClient::connect(options.clone()).await else {
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        };
        let mut next = acknowledged;
        while !stop.load(Ordering::Acquire)
            && client.publish(&topic, event(next).into(), QoS::AtLeastOnce).await.is_ok()
        {
            next += 1;
            handed.store(next - acknowledged, Ordering::Release);
        }
        handed.store(0, Ordering::Release);
        let _ = client.flush().await;
        acknowledged += client.acked();
    }
    acknowledged
}

#[test]
fn what_is_acknowledged_has_been_carried_out_whatever_is_killed() {
    let Some(python) = tools::python("rules under kills") else { return };
    let seed = std::env::var("KILTER_KILL_SEED").ok().map_or(1, |seed| seed.parse().expect("a number"));
    let installation = Installation::new("");
    installation.onboard("acted", &["press"]);
    let (mqtt, http) = free_ports(seed);
    let web = web();
    let server = installation.start_on(&mqtt, &http);
    script(&python, &installation, &["make", &web.url]);
    let topic: Arc<str> = "tenants/acted/devices/press/events".into();
    let runtime = device::runtime();
    let options = || Options { inflight_max: INFLIGHT_MAX, ..device::options(&installation, &mqtt, "press") };

    // In the middle of an action: the request is there, the answer is not.
    web.shut.store(true, Ordering::Release);
    let acknowledged = runtime.block_on(async {
        let client = MqttClient::connect(options()).await.unwrap();
        client.publish(&topic, event(0).into(), QoS::AtLeastOnce).await.unwrap();
        assert_eq!(tokio::task::block_in_place(|| web.arrived.recv_timeout(PATIENCE)), Ok(0));
        server.kill();
        client.ended().await;
        client.acked()
    });
    assert_eq!(acknowledged, 0, "no acknowledgement before the action is done");
    web.shut.store(false, Ordering::Release);

    // And anywhere.
    let (stop, handed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let publisher = runtime.spawn(publish_until(stop.clone(), handed.clone(), options(), topic));
    // More than may be in flight were handed over: the first are acknowledged.
    let acknowledges = || (handed.load(Ordering::Acquire) > u64::from(INFLIGHT_MAX)).then_some(());
    let mut chance = Chance::new(seed);
    for _ in 0..KILLS {
        let server = installation.start_on(&mqtt, &http);
        eventually("this life acknowledges", acknowledges);
        thread::sleep(chance.between(LIFE_MS));
        server.kill();
        eventually("the device notices", || (handed.load(Ordering::Acquire) == 0).then_some(()));
    }
    let _server = installation.start_on(&mqtt, &http);
    eventually("the last life acknowledges", acknowledges);
    stop.store(true, Ordering::Release);
    let acknowledged = runtime.block_on(publisher).unwrap();
    let listed: Vec<String> = serde_json::from_str(&script(&python, &installation, &["list"])).unwrap();
    let objects: BTreeSet<u64> = listed.iter().map(|key| key.parse().unwrap()).collect();
    let posted = web.taken.lock().unwrap();
    tell(&format!(
        "rules under {KILLS} kills: {acknowledged} messages acknowledged, {} objects, {} of them posted",
        objects.len(),
        posted.len()
    ));
    assert!(acknowledged > KILLS, "each life acknowledged");
    for number in 0..acknowledged {
        assert!(objects.contains(&number) && posted.contains(&number), "message {number} was acknowledged");
    }
}
