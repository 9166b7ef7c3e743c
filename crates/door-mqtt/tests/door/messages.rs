//! Messages in and out: acknowledgements, batches, fan-out, wills.

use crate::fixtures::{Disk, House, eventually, logged};
use bytes::Bytes;
use kilter_core::ports::stream::StreamErrorKind;
use kilter_door_mqtt::{MqttClient, QoS, Version, client::ClientError};
use kilter_mqtt::{ReasonCode, packet::Will};
use std::{sync::Arc, time::Duration};

const BOTH: [Version; 2] = [Version::V311, Version::V5];

fn topic(topic: &str) -> Arc<str> {
    topic.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_make_the_round_in_both_versions() {
    let house = House::open().await;
    for (version, id) in BOTH.into_iter().zip(["dev-a", "dev-b"]) {
        let mut listener = house.client(&format!("{id}-listener"), version).await;
        listener.subscribe("t/+/x", QoS::AtLeastOnce).await.unwrap();
        let publisher = house.client(id, version).await;
        let topic = topic(&format!("t/{id}/x"));
        for i in 0..1000u32 {
            let qos = if i % 3 == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
            publisher.publish(&topic, Bytes::from(i.to_string()), qos).await.unwrap();
            let message = listener.next_message().await.unwrap();
            assert_eq!(message.payload, i.to_string());
            assert_eq!(message.qos, qos);
            assert_eq!(message.topic, topic);
        }
        publisher.flush().await.unwrap();
        assert_eq!(house.ingest.received(id).len(), 1000);
        publisher.disconnect().await.unwrap();
        listener.unsubscribe("t/+/x").await.unwrap();
        listener.disconnect().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_acknowledged_before_it_is_durable_and_all_is_pipelined() {
    let house = House::open().await;
    for (version, id) in BOTH.into_iter().zip(["dev-a", "dev-b"]) {
        house.ingest.set_disk(Disk::Held);
        let client = house.client(id, version).await;
        let topic = topic("t/x");
        for i in 0..100u32 {
            client.publish(&topic, Bytes::from(i.to_string()), QoS::AtLeastOnce).await.unwrap();
        }
        // All are in while not one is acknowledged.
        eventually("100 messages in flight", || house.ingest.received(id).len() == 100).await;
        assert_eq!(client.acked(), 0);
        house.ingest.set_disk(Disk::Good);
        client.flush().await.unwrap();
        assert_eq!(client.acked(), 100);
        let received = house.ingest.received(id);
        assert!(received.iter().enumerate().all(|(i, (_, payload))| *payload == i.to_string()), "the order was lost");
    }
    assert!(house.ingest.batches().iter().any(|count| *count > 1), "messages were not handed over in batches");
}

#[tokio::test]
async fn what_cannot_be_kept_is_not_acknowledged() {
    let house = House::open().await;
    for (id, kind, code) in [
        ("dev-busy", StreamErrorKind::Busy, ReasonCode::QUOTA_EXCEEDED),
        ("dev-io", StreamErrorKind::Io, ReasonCode::IMPLEMENTATION_SPECIFIC_ERROR),
    ] {
        house.ingest.set_disk(Disk::Broken(kind));
        let client = house.client(id, Version::V5).await;
        let ack = client.publish(&topic("t/x"), Bytes::from_static(b"1"), QoS::AtLeastOnce).await.unwrap();
        let error = ack.acked().await.unwrap_err();
        assert!(matches!(error, ClientError::Closed(closed) if closed == code), "{error}");
        assert_eq!(client.acked(), 0);
        logged(&[id, "the disk is full"]).await;
    }
}

#[tokio::test]
async fn a_refused_message_is_named_in_5_and_ends_the_connection_in_3() {
    let house = House::open().await;
    let client = house.client("dev-five", Version::V5).await;
    let mut handles = Vec::new();
    for name in ["t/1", "other/2", "t/3", "$SYS/4", "t/5"] {
        handles.push(client.publish(&topic(name), Bytes::new(), QoS::AtLeastOnce).await.unwrap());
    }
    let mut refused = Vec::new();
    for handle in handles {
        refused.push(match handle.acked().await {
            Ok(()) => None,
            Err(ClientError::PublishRefused { first, .. }) => Some(first),
            Err(other) => panic!("{other}"),
        });
    }
    let no = Some(ReasonCode::NOT_AUTHORIZED);
    assert_eq!(refused, [None, no, None, no, None]);
    let error = client.flush().await.unwrap_err();
    assert!(matches!(error, ClientError::PublishRefused { count: 2, .. }), "{error}");
    let topics: Vec<_> = house.ingest.received("dev-five").into_iter().map(|(topic, _)| topic).collect();
    assert_eq!(topics, ["t/1", "t/3", "t/5"]);
    logged(&["dev-five", "iot:Publish", "other/2", "no policy allows it"]).await;

    let client = house.client("dev-three", Version::V311).await;
    client.publish(&topic("other/x"), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
    assert!(matches!(client.ended().await, ClientError::Lost(_)));
    logged(&["dev-three", "iot:Publish", "other/x"]).await;
}

#[tokio::test]
async fn subscriptions_and_deliveries_are_authorised() {
    let house = House::open().await;
    let mut client = house.client("dev-sub", Version::V5).await;
    for (filter, code) in [
        ("other/#", ReasonCode::NOT_AUTHORIZED),
        ("t/#/x", ReasonCode::TOPIC_FILTER_INVALID),
        ("$share/g/other/x", ReasonCode::NOT_AUTHORIZED),
        ("$share/g", ReasonCode::TOPIC_FILTER_INVALID),
    ] {
        let error = client.subscribe(filter, QoS::AtLeastOnce).await.unwrap_err();
        assert!(matches!(error, ClientError::SubscribeRefused(refused) if refused == code), "{filter}: {error}");
        logged(&["dev-sub", "iot:Subscribe", filter]).await;
    }
    client.subscribe("t/#", QoS::ExactlyOnce).await.unwrap();
    for name in ["t/secret/x", "t/open"] {
        client.publish(&topic(name), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
    }
    assert_eq!(client.next_message().await.unwrap().topic, topic("t/open"));
    logged(&["dev-sub", "iot:Receive", "t/secret/x"]).await;
}

async fn will_of(house: &House, id: &str, version: Version, name: &str) -> Result<MqttClient, ClientError> {
    let mut options = house.options(id, version);
    options.will = Some(Will {
        topic: name.into(),
        payload: Bytes::from_static(b"gone"),
        qos: QoS::AtLeastOnce,
        retain: false,
        delay: None,
        properties: None,
    });
    MqttClient::connect(options).await
}

#[tokio::test]
async fn a_will_is_sent_when_the_client_vanishes_and_only_then() {
    let house = House::open().await;
    let mut listener = house.client("dev-listener", Version::V5).await;
    listener.subscribe("t/will/#", QoS::AtLeastOnce).await.unwrap();
    for version in BOTH {
        let polite = will_of(&house, "dev-polite", version, "t/will/polite").await.unwrap();
        polite.disconnect().await.unwrap();
        let crashed = will_of(&house, "dev-crashed", version, "t/will/crashed").await.unwrap();
        drop(crashed);
        let message = listener.next_message().await.unwrap();
        assert_eq!((&*message.topic, &message.payload[..]), ("t/will/crashed", &b"gone"[..]));
    }
    assert_eq!(house.ingest.received("dev-crashed").len(), 2);
    assert!(house.ingest.received("dev-polite").is_empty());
    for (version, id) in BOTH.into_iter().zip(["dev-will3", "dev-will5"]) {
        let Err(error) = will_of(&house, id, version, "other/will").await else { panic!("the will was taken") };
        assert!(matches!(error, ClientError::Refused(ReasonCode::NOT_AUTHORIZED)), "{error}");
        logged(&[id, "will", "other/will", "no policy allows it"]).await;
    }
}

#[tokio::test]
async fn the_same_client_id_takes_over() {
    let house = House::open().await;
    for version in BOTH {
        let old = house.client("dev-twin", version).await;
        let new = house.client("dev-twin", version).await;
        let error = old.ended().await;
        match version {
            Version::V5 => assert!(matches!(error, ClientError::Closed(ReasonCode::SESSION_TAKEN_OVER)), "{error}"),
            Version::V311 => assert!(matches!(error, ClientError::Lost(_)), "{error}"),
        }
        // The old one's end must not take the new one's place away.
        let newest = house.client("dev-twin", version).await;
        new.ended().await;
        newest.publish(&topic("t/x"), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
        newest.flush().await.unwrap();
        newest.disconnect().await.unwrap();
    }
    logged(&["dev-twin", "same client id"]).await;
}

#[tokio::test]
async fn a_stop_lets_owed_acknowledgements_leave() {
    let house = House::open().await;
    house.ingest.set_disk(Disk::Held);
    let client = house.client("dev-drain", Version::V5).await;
    for _ in 0..10 {
        client.publish(&topic("t/x"), Bytes::new(), QoS::AtLeastOnce).await.unwrap();
    }
    eventually("10 messages in flight", || house.ingest.received("dev-drain").len() == 10).await;
    house.shutdown.cancel();
    tokio::task::yield_now().await;
    house.ingest.set_disk(Disk::Good);
    assert!(matches!(client.ended().await, ClientError::Closed(ReasonCode::SERVER_SHUTTING_DOWN)));
    assert_eq!(client.acked(), 10);
    tokio::time::timeout(Duration::from_secs(5), house.server).await.expect("the door stops").unwrap();
}
