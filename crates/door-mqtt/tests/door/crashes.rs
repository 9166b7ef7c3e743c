//! What is said before it is on disk is a lie after a crash: the server is ended between two commits of the sessions'
//! store, and whoever was told something is held to it.

use crate::{
    exact::Exact,
    fixtures::{Disk, Gate, House, eventually},
    raw::{Raw, ack, connect, message, subscription},
};
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::{Packet, ReasonCode, packet::Publish};

const BOTH: [Version; 2] = [Version::V311, Version::V5];
/// Messages of each run, of QoS 1 and 2 in turn.
const MESSAGES: usize = 6;

/// Until the device is done, or nothing more comes while the disk is held. Answers whether it is done.
async fn converse(raw: &mut Raw, device: &mut Exact, gate: &Gate) -> bool {
    while !device.is_done() {
        let held = gate.is_holding();
        let packets = raw.until_quiet().await;
        if packets.is_empty() && held {
            return false;
        }
        let answers: Vec<Packet> = packets.into_iter().filter_map(|packet| device.receive(packet)).collect();
        raw.send_together(answers).await;
    }
    true
}

/// A device publishes to itself; after `commits` commits the server crashes, and the device goes on with the next one.
/// Answers whether it came to a crash.
async fn crash_after(commits: usize, version: Version) -> bool {
    let gate = Gate::open();
    let house = House::open_on(gate.clone()).await;
    let (mut raw, _) = Raw::open(&house, connect("dev-exact", version)).await;
    raw.subscribe(None, vec![subscription("t/x", QoS::ExactlyOnce)]).await;
    let mut device = Exact::new("t/x".into());
    gate.allow(commits);
    raw.send_together((0..MESSAGES).map(|_| device.publish())).await;
    let crashed = !converse(&mut raw, &mut device, &gate).await;
    if crashed {
        let house = house.crash().await;
        gate.end();
        let (mut raw, known) = Raw::open(&house, connect("dev-exact", version)).await;
        assert!(known.session_present);
        raw.send_together(device.resume()).await;
        assert!(converse(&mut raw, &mut device, &Gate::open()).await);
    }
    device.judge();
    crashed
}

#[tokio::test]
async fn a_crash_between_any_two_commits_loses_nothing_and_doubles_no_qos_2() {
    for version in BOTH {
        let mut commits = 0;
        while crash_after(commits, version).await {
            commits += 1;
        }
        assert!(commits >= 3, "{commits} commits were made: the test tests little");
    }
}

#[tokio::test]
async fn a_qos_2_message_among_others_is_not_acknowledged_with_them() {
    let gate = Gate::open();
    let house = House::open_on(gate.clone()).await;
    for (version, id) in BOTH.into_iter().zip(["dev-three", "dev-five"]) {
        let (mut publisher, _) = Raw::open(&house, connect(id, version)).await;
        gate.allow(0);
        let qos = [QoS::AtLeastOnce, QoS::ExactlyOnce, QoS::AtLeastOnce];
        let messages = qos.into_iter().zip(1..).map(|(qos, id)| Packet::Publish(message("t/x", "x", qos, id)));
        publisher.send_together(messages).await;
        let early = publisher.until_quiet().await;
        assert_eq!(early, [Packet::PubAck(ack(1))], "the second is not on disk, and the third comes after it");
        gate.allow(usize::MAX);
        assert_eq!(publisher.next().await, Some(Packet::PubRec(ack(2))));
        assert_eq!(publisher.next().await, Some(Packet::PubAck(ack(3))));
    }
}

#[tokio::test]
async fn a_qos_2_message_that_no_stream_took_is_new_when_it_comes_again() {
    let house = House::open().await;
    for version in BOTH {
        let id = format!("dev-{version:?}");
        let (mut publisher, _) = Raw::open(&house, connect(&id, version)).await;
        publisher.subscribe(None, vec![subscription("t/x", QoS::ExactlyOnce)]).await;
        house.ingest.set_disk(Disk::Broken(kilter_core::ports::stream::StreamErrorKind::Busy));
        publisher.send(Packet::Publish(message("t/x", "once", QoS::ExactlyOnce, 1))).await;
        while publisher.next().await.is_some() {}
        house.ingest.set_disk(Disk::Good);
        let (mut publisher, known) = Raw::open(&house, connect(&id, version)).await;
        assert!(known.session_present);
        let again = Publish { dup: true, ..message("t/x", "once", QoS::ExactlyOnce, 1) };
        publisher.send(Packet::Publish(again)).await;
        let mut seen = [publisher.next().await.unwrap(), publisher.next().await.unwrap()];
        seen.sort_by_key(|packet| matches!(packet, Packet::Publish(_)));
        assert_eq!(seen[0], Packet::PubRec(ack(1)));
        assert!(matches!(seen[1], Packet::Publish(_)), "a subscriber has it, too: {seen:?}");
        publisher.vanish().await;
    }
}

#[tokio::test]
async fn a_message_that_is_not_allowed_after_a_crash_is_refused_and_not_acknowledged() {
    let gate = Gate::open();
    let house = House::open_on(gate.clone()).await;
    let (mut publisher, _) = Raw::open(&house, connect("dev-from", Version::V5)).await;
    // The intent is the last that reaches the disk.
    gate.allow(1);
    publisher.send(Packet::Publish(message("t/x", "x", QoS::ExactlyOnce, 1))).await;
    eventually("the next commit waits", || gate.is_holding()).await;
    house.ingest.silence();
    let house = house.crash().await;
    gate.end();
    let (mut publisher, known) = Raw::open(&house, connect("dev-from", Version::V5)).await;
    assert!(known.session_present);
    publisher.send(Packet::Publish(Publish { dup: true, ..message("t/x", "x", QoS::ExactlyOnce, 1) })).await;
    let Some(Packet::PubRec(answer)) = publisher.next().await else { panic!("no PUBREC") };
    assert_eq!(answer.code, ReasonCode::NOT_AUTHORIZED);
}
