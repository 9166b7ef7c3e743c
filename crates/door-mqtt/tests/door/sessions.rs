//! Sessions that outlive connections and the server: subscriptions, queues, QoS 2 half way, wills.

use crate::{
    fixtures::{Disk, House, eventually, logged},
    raw::{Raw, ack, connect, message, subscription},
};
use bytes::Bytes;
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::{
    Packet, PacketId, ReasonCode,
    packet::{Connect, Disconnect, MessageProperties, Publish, Will},
};
use std::time::Duration;

const BOTH: [Version; 2] = [Version::V311, Version::V5];

async fn publish(house: &House, topic: &str, payload: &str, qos: QoS) {
    let client = house.client("dev-publisher", Version::V5).await;
    client.publish(&topic.into(), Bytes::copy_from_slice(payload.as_bytes()), qos).await.unwrap();
    client.flush().await.unwrap();
    client.disconnect().await.unwrap();
}

fn text(publish: &Publish) -> &str {
    std::str::from_utf8(&publish.payload).unwrap()
}

#[tokio::test]
async fn a_session_waits_for_its_client_even_over_a_restart() {
    let mut house = House::open().await;
    for version in BOTH {
        let (mut listener, first) = Raw::open(&house, connect("dev-kept", version)).await;
        assert!(!first.session_present);
        let codes = listener.subscribe(None, vec![subscription("t/kept/#", QoS::AtLeastOnce)]).await;
        assert_eq!(codes, [ReasonCode::GRANTED_QOS_1]);
        publish(&house, "t/kept/1", "in flight", QoS::AtLeastOnce).await;
        let seen = listener.publish().await;
        assert_eq!((text(&seen), seen.dup), ("in flight", false));
        listener.vanish().await;
        eventually("it is gone", || {
            house.deliver.sessions().iter().all(|s| s.client_id != "dev-kept" || s.peer.is_none())
        })
        .await;
        publish(&house, "t/kept/2", "while away", QoS::AtLeastOnce).await;
        publish(&house, "t/kept/3", "best effort", QoS::AtMostOnce).await;
        house = house.reopen().await;
        publish(&house, "t/kept/4", "after the restart", QoS::AtLeastOnce).await;
        let view = house.deliver.sessions().into_iter().find(|s| s.client_id == "dev-kept").unwrap();
        assert_eq!((view.queued, view.peer, view.subscriptions), (3, None, vec!["t/kept/#".to_owned()]));

        let (mut listener, again) = Raw::open(&house, connect("dev-kept", version)).await;
        assert!(again.session_present);
        let mut found = Vec::new();
        for _ in 0..3 {
            let message = listener.publish().await;
            found.push((text(&message).to_owned(), message.packet_id.unwrap().get(), message.dup));
            listener.send(Packet::PubAck(ack(message.packet_id.unwrap().get()))).await;
        }
        let first = seen.packet_id.unwrap().get();
        assert_eq!(found[0], ("in flight".to_owned(), first, true), "sent again under its identifier");
        assert_eq!(found[1], ("while away".to_owned(), first + 1, false));
        assert_eq!(found[2], ("after the restart".to_owned(), first + 2, false));
        assert!(listener.until_quiet().await.is_empty());
        listener.vanish().await;

        // A clean start discards it, on disk too.
        let clean = Connect { clean: true, session_expiry: None, ..connect("dev-kept", version) };
        let (_, fresh) = Raw::open(&house, clean).await;
        assert!(!fresh.session_present);
        house = house.reopen().await;
        let (last, fresh) = Raw::open(&house, connect("dev-kept", version)).await;
        assert!(!fresh.session_present);
        last.vanish().await;
        let clean = Connect { clean: true, session_expiry: None, ..connect("dev-kept", version) };
        Raw::open(&house, clean).await;
    }
}

#[tokio::test]
async fn qos_2_to_a_client_is_brought_to_its_end_over_crashes() {
    let mut house = House::open().await;
    for version in BOTH {
        let (mut first, _) = Raw::open(&house, Connect { clean: true, ..connect("dev-two", version) }).await;
        first.send(Packet::Disconnect(Disconnect::default())).await;
        let (mut listener, _) = Raw::open(&house, connect("dev-two", version)).await;
        listener.subscribe(None, vec![subscription("t/two", QoS::ExactlyOnce)]).await;
        let (mut publisher, _) = Raw::open(&house, connect("dev-from", version)).await;
        publisher.send(Packet::Publish(message("t/two", "once", QoS::ExactlyOnce, 9))).await;
        assert_eq!(publisher.next().await, Some(Packet::PubRec(ack(9))));
        let sent = listener.publish().await;
        let id = sent.packet_id.unwrap().get();
        // Neither side has said more: after a crash both go on where they were.
        house = house.crash().await;
        let (mut publisher, known) = Raw::open(&house, connect("dev-from", version)).await;
        assert!(known.session_present);
        let again = Publish { dup: true, ..message("t/two", "once", QoS::ExactlyOnce, 9) };
        publisher.send(Packet::Publish(again)).await;
        assert_eq!(publisher.next().await, Some(Packet::PubRec(ack(9))));
        publisher.send(Packet::PubRel(ack(9))).await;
        assert_eq!(publisher.next().await, Some(Packet::PubComp(ack(9))));

        let (mut listener, known) = Raw::open(&house, connect("dev-two", version)).await;
        assert!(known.session_present);
        let again = listener.publish().await;
        assert_eq!((text(&again), again.packet_id, again.dup), ("once", PacketId::new(id), true));
        listener.send(Packet::PubRec(ack(id))).await;
        assert_eq!(listener.next().await, Some(Packet::PubRel(ack(id))));
        house = house.crash().await;
        let (mut listener, _) = Raw::open(&house, connect("dev-two", version)).await;
        // The client has let go of the message: only the release is repeated.
        assert_eq!(listener.next().await, Some(Packet::PubRel(ack(id))));
        listener.send(Packet::PubComp(ack(id))).await;
        assert!(listener.until_quiet().await.is_empty());
        // The identifier is free for another message once it is complete.
        let (mut publisher, _) = Raw::open(&house, connect("dev-from", version)).await;
        publisher.send(Packet::Publish(message("t/two", "another", QoS::ExactlyOnce, 9))).await;
        assert_eq!(publisher.next().await, Some(Packet::PubRec(ack(9))));
        let another = listener.publish().await;
        assert_eq!(text(&another), "another");
        publisher.send(Packet::PubRel(ack(9))).await;
        assert_eq!(publisher.next().await, Some(Packet::PubComp(ack(9))));
        assert_eq!(house.ingest.received("dev-from").len() % 2, 0, "each message once");
    }
    assert_eq!(house.ingest.received("dev-from").len(), 4);
}

#[tokio::test]
async fn a_qos_2_message_is_handed_on_although_its_connection_ends() {
    let house = House::open().await;
    let (mut publisher, _) = Raw::open(&house, connect("dev-from", Version::V5)).await;
    house.ingest.set_disk(Disk::Held);
    publisher.send(Packet::Publish(message("t/x", "once", QoS::ExactlyOnce, 1))).await;
    eventually("it was handed on", || house.ingest.received("dev-from").len() == 1).await;
    publisher.vanish().await;
    house.ingest.set_disk(Disk::Good);
    let (mut publisher, known) = Raw::open(&house, connect("dev-from", Version::V5)).await;
    assert!(known.session_present);
    publisher.send(Packet::Publish(Publish { dup: true, ..message("t/x", "once", QoS::ExactlyOnce, 1) })).await;
    assert_eq!(publisher.next().await, Some(Packet::PubRec(ack(1))));
    assert_eq!(house.ingest.received("dev-from").len(), 1, "it was handed on twice");
    // What is refused is told, and its identifier is free.
    publisher.send(Packet::Publish(message("other", "no", QoS::ExactlyOnce, 2))).await;
    let Some(Packet::PubRec(no)) = publisher.next().await else { panic!("no PUBREC") };
    assert_eq!(no.code, ReasonCode::NOT_AUTHORIZED);
}

#[tokio::test]
async fn nothing_is_acknowledged_before_kept_sessions_have_it() {
    let house = House::open().await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    listener.subscribe(None, vec![subscription("t/#", QoS::AtLeastOnce)]).await;
    listener.vanish().await;
    for i in 0..20 {
        publish(&house, "t/x", &i.to_string(), QoS::AtLeastOnce).await;
    }
    // Acknowledged is on disk.
    let house = house.crash().await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    for i in 0..20 {
        assert_eq!(text(&listener.publish().await), i.to_string());
    }
}

#[tokio::test]
async fn a_full_queue_keeps_what_it_has_and_says_so() {
    let house = House::open_with(|config| config.queue_messages_max = 3).await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    listener.subscribe(None, vec![subscription("t/#", QoS::AtLeastOnce)]).await;
    listener.vanish().await;
    eventually("it is gone", || house.deliver.sessions().iter().all(|session| session.peer.is_none())).await;
    for payload in ["1", "2", "3", "one past"] {
        publish(&house, "t/x", payload, QoS::AtLeastOnce).await;
    }
    logged(&["dev-kept", "its queue is full while it is away"]).await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    for payload in ["1", "2", "3"] {
        assert_eq!(text(&listener.publish().await), payload);
    }
    assert!(listener.until_quiet().await.is_empty());
}

#[tokio::test]
async fn all_queues_together_are_bounded_at_the_edge_and_one_past() {
    let house = House::open_with(|config| config.all_queues_messages_max = 10).await;
    for id in ["dev-away-1", "dev-away-2"] {
        let (mut listener, _) = Raw::open(&house, connect(id, Version::V5)).await;
        listener.subscribe(None, vec![subscription(&format!("t/{id}"), QoS::AtLeastOnce)]).await;
        listener.vanish().await;
    }
    let (mut here, _) = Raw::open(&house, connect("dev-here", Version::V5)).await;
    here.subscribe(None, vec![subscription("t/here", QoS::AtLeastOnce)]).await;
    eventually("both are gone", || house.deliver.sessions().iter().filter(|s| s.peer.is_none()).count() == 2).await;
    // Nine of ten for those who are away, whoever they are.
    for number in 0..9 {
        publish(&house, &format!("t/dev-away-{}", number % 2 + 1), "kept", QoS::AtLeastOnce).await;
    }
    publish(&house, "t/dev-away-2", "one past", QoS::AtLeastOnce).await;
    logged(&["dev-away-2", "all_queues_messages_max"]).await;
    // The tenth is for who is here; then it is told, and who has come gives room again.
    publish(&house, "t/here", "the tenth", QoS::AtLeastOnce).await;
    assert_eq!(text(&here.publish().await), "the tenth");
    publish(&house, "t/here", "one past", QoS::AtLeastOnce).await;
    let Some(Packet::Disconnect(farewell)) = here.next().await else { panic!("no DISCONNECT") };
    assert_eq!(farewell.code, ReasonCode::QUOTA_EXCEEDED);
    let queued = |house: &House| -> Vec<u64> {
        let listeners = house.deliver.sessions().into_iter().filter(|session| !session.subscriptions.is_empty());
        listeners.map(|session| session.queued).collect()
    };
    assert_eq!(queued(&house), [5, 4, 1]);
    let (mut listener, _) = Raw::open(&house, connect("dev-away-1", Version::V5)).await;
    for _ in 0..5 {
        let kept = listener.publish().await;
        listener.send(Packet::PubAck(ack(kept.packet_id.unwrap().get()))).await;
    }
    listener.until_quiet().await;
    // What was kept over a restart counts.
    let house = house.reopen_with(|config| config.all_queues_messages_max = 8).await;
    for payload in ["sixth", "seventh", "one past"] {
        publish(&house, "t/dev-away-2", payload, QoS::AtLeastOnce).await;
    }
    assert_eq!(queued(&house), [0, 6, 1]);
}

#[tokio::test]
async fn sessions_are_counted_and_end() {
    let house = House::open_with(|config| {
        config.sessions_max = 2;
        config.session_expiry_seconds_max = 1;
    })
    .await;
    let (first, answer) = Raw::open(&house, connect("dev-1", Version::V5)).await;
    assert_eq!(answer.session_expiry, Some(1), "the server says how long it keeps it");
    let (second, _) = Raw::open(&house, connect("dev-2", Version::V5)).await;
    let (_, full) = Raw::open(&house, connect("dev-3", Version::V5)).await;
    assert_eq!(full.code, ReasonCode::QUOTA_EXCEEDED);
    first.vanish().await;
    second.vanish().await;
    eventually("both have ended", || house.deliver.sessions().is_empty()).await;
    let (_, fresh) = Raw::open(&house, connect("dev-1", Version::V5)).await;
    assert!(!fresh.session_present);
}

fn will(delay: u32) -> Option<Will> {
    Some(Will {
        topic: "t/will".into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::ExactlyOnce,
        retain: true,
        delay: Some(delay),
        properties: None,
    })
}

#[tokio::test]
async fn a_will_waits_for_its_delay_and_not_longer_than_the_session() {
    let house = House::open().await;
    let (mut listener, _) = Raw::open(&house, connect("dev-listener", Version::V5)).await;
    listener.subscribe(None, vec![subscription("t/will", QoS::ExactlyOnce)]).await;
    // Back in time: not sent.
    let (late, _) = Raw::open(&house, Connect { will: will(1000), ..connect("dev-w", Version::V5) }).await;
    late.vanish().await;
    let (back, known) = Raw::open(&house, Connect { will: will(1), ..connect("dev-w", Version::V5) }).await;
    assert!(known.session_present);
    assert!(listener.until_quiet().await.is_empty());
    // Not back: sent after the delay.
    back.vanish().await;
    let sent = listener.publish().await;
    assert_eq!((text(&sent), sent.qos, sent.retain), ("gone", QoS::ExactlyOnce, false));
    assert!(house.deliver.retained("t/will").is_some());
    // The session ends before the delay: sent then.
    let short = Connect { will: will(1000), session_expiry: Some(1), ..connect("dev-w", Version::V5) };
    Raw::open(&house, short).await.0.vanish().await;
    assert_eq!(text(&listener.publish().await), "gone");
    // A clean start ends the session: sent at once.
    let (gone, _) = Raw::open(&house, Connect { will: will(1000), ..connect("dev-w", Version::V5) }).await;
    gone.vanish().await;
    Raw::open(&house, Connect { clean: true, ..connect("dev-w", Version::V5) }).await;
    assert_eq!(text(&listener.publish().await), "gone");
}

#[tokio::test]
async fn a_will_survives_the_server() {
    let house = House::open().await;
    let (_alive, _) = Raw::open(&house, Connect { will: will(0), ..connect("dev-w", Version::V5) }).await;
    let house = house.crash().await;
    // The client gets a while to come back; then a new will is the one that counts.
    let (back, known) = Raw::open(&house, connect("dev-w", Version::V5)).await;
    assert!(known.session_present);
    back.vanish().await;
    assert!(house.deliver.retained("t/will").is_none());
}

#[tokio::test]
async fn a_session_is_taken_over_with_all_it_has() {
    let house = House::open().await;
    for version in BOTH {
        let id = format!("dev-twin-{version:?}");
        let (mut old, _) = Raw::open(&house, connect(&id, version)).await;
        old.subscribe(None, vec![subscription("t/twin", QoS::AtLeastOnce)]).await;
        publish(&house, "t/twin", "first", QoS::AtLeastOnce).await;
        let first = old.publish().await;
        let (mut new, known) = Raw::open(&house, connect(&id, version)).await;
        assert!(known.session_present);
        let again = new.publish().await;
        assert_eq!((again.packet_id, again.dup), (first.packet_id, true));
        match (version, old.next().await) {
            (Version::V5, Some(Packet::Disconnect(farewell))) => {
                assert_eq!(farewell.code, ReasonCode::SESSION_TAKEN_OVER);
            }
            (Version::V311, None) => {}
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn messages_expire_and_count_down() {
    let house = House::open().await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    listener.subscribe(None, vec![subscription("t/#", QoS::AtLeastOnce)]).await;
    listener.vanish().await;
    eventually("it is gone", || house.deliver.sessions().iter().all(|session| session.peer.is_none())).await;
    let (mut publisher, _) = Raw::open(&house, connect("dev-p", Version::V5)).await;
    for (id, seconds) in [(1, 1), (2, 1000)] {
        let properties = MessageProperties { expiry: Some(seconds), ..MessageProperties::default() };
        let publish = message("t/x", &seconds.to_string(), QoS::AtLeastOnce, id);
        publisher.send(Packet::Publish(Publish { properties: Some(Box::new(properties)), ..publish })).await;
        assert_eq!(publisher.next().await, Some(Packet::PubAck(ack(id))));
    }
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let (mut listener, _) = Raw::open(&house, connect("dev-kept", Version::V5)).await;
    let only = listener.publish().await;
    assert_eq!(text(&only), "1000");
    assert!(only.properties.unwrap().expiry.unwrap() < 1000);
    assert!(listener.until_quiet().await.is_empty());
}
