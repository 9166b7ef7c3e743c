//! Shared subscriptions, topic aliases, request and response, the server's own messages.

use crate::{
    fixtures::{House, eventually},
    raw::{Raw, connect, message, subscription},
};
use bytes::Bytes;
use kilter_core::ports::deliver::Outgoing;
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::{
    Packet, ReasonCode,
    packet::{Connect, MessageProperties, Publish},
};
use std::num::NonZeroU16;

#[tokio::test]
async fn a_group_shares_its_messages_among_those_who_are_there() {
    let house = House::open().await;
    let mut members = Vec::new();
    for (id, version) in [("dev-a", Version::V5), ("dev-b", Version::V311)] {
        let (mut member, _) = Raw::open(&house, connect(id, version)).await;
        let codes = member.subscribe(None, vec![subscription("$share/g/t/s", QoS::AtLeastOnce)]).await;
        assert_eq!(codes, [ReasonCode::GRANTED_QOS_1]);
        members.push(member);
    }
    let (mut whole, _) = Raw::open(&house, connect("dev-whole", Version::V5)).await;
    whole.subscribe(None, vec![subscription("t/s", QoS::AtMostOnce)]).await;
    let (mut publisher, _) = Raw::open(&house, connect("dev-p", Version::V5)).await;
    for i in 0..10 {
        publisher.send(Packet::Publish(message("t/s", &i.to_string(), QoS::AtMostOnce, 0))).await;
    }
    for _ in 0..10 {
        whole.publish().await;
    }
    let (a, b) = (members[0].until_quiet().await.len(), members[1].until_quiet().await.len());
    assert_eq!((a, b), (5, 5));
    // Those who are away get only what nobody else takes.
    members.remove(0).vanish().await;
    eventually("it is gone", || house.deliver.sessions()[0].peer.is_none()).await;
    for i in 0..4 {
        publisher.send(Packet::Publish(message("t/s", &i.to_string(), QoS::AtMostOnce, 0))).await;
    }
    for _ in 0..4 {
        members[0].publish().await;
    }
    members.remove(0).vanish().await;
    eventually("both are gone", || house.deliver.sessions()[1].peer.is_none()).await;
    publisher.send(Packet::Publish(message("t/s", "kept", QoS::AtLeastOnce, 1))).await;
    publisher.next().await;
    let queued: u64 = house.deliver.sessions().iter().map(|session| session.queued).sum();
    assert_eq!(queued, 1);
}

#[tokio::test]
async fn aliases_and_properties_travel() {
    let house = House::open().await;
    let (mut listener, _) =
        Raw::open(&house, Connect { topic_alias_max: Some(2), ..connect("dev-l", Version::V5) }).await;
    listener.subscribe(None, vec![subscription("t/#", QoS::AtMostOnce)]).await;
    let (mut publisher, granted) = Raw::open(&house, connect("dev-p", Version::V5)).await;
    assert_eq!(granted.topic_alias_max, Some(8));
    let properties = MessageProperties {
        payload_format: Some(1),
        content_type: Some("text/plain".into()),
        response_topic: Some("t/answers".into()),
        correlation_data: Some(Bytes::from_static(b"42")),
        user: vec![("a".into(), "1".into()), ("a".into(), "2".into())],
        expiry: None,
    };
    for topic in ["t/request", ""] {
        let publish = Publish {
            topic_alias: NonZeroU16::new(1),
            properties: Some(Box::new(properties.clone())),
            ..message(topic, "x", QoS::AtMostOnce, 0)
        };
        publisher.send(Packet::Publish(publish)).await;
    }
    let (first, second) = (listener.publish().await, listener.publish().await);
    assert_eq!((&*first.topic, first.topic_alias), ("t/request", NonZeroU16::new(1)));
    assert_eq!((&*second.topic, second.topic_alias), ("", NonZeroU16::new(1)));
    assert_eq!(second.properties.as_deref(), Some(&properties));
}

#[tokio::test]
async fn a_client_without_an_identifier_gets_one_that_policies_allow() {
    let house = House::open().await;
    house.ingest.allow("auto-");
    for version in [Version::V311, Version::V5] {
        let nameless = Connect { clean: true, session_expiry: None, ..connect("", version) };
        let (_client, answer) = Raw::open(&house, nameless).await;
        assert_eq!(answer.code, ReasonCode::SUCCESS);
        assert_eq!(answer.assigned_client_id.is_some(), version == Version::V5);
        assert!(house.deliver.sessions()[0].client_id.starts_with("auto-"));
    }
}

#[tokio::test]
async fn the_servers_own_messages_reach_who_may_receive_them() {
    let house = House::open().await;
    let (mut listener, _) = Raw::open(&house, connect("dev-l", Version::V5)).await;
    listener.subscribe(None, vec![subscription("t/#", QoS::ExactlyOnce)]).await;
    let outgoing = |topic: &str| Outgoing {
        topic: topic.into(),
        payload: Bytes::from_static(b"hello"),
        qos: 2,
        retain: false,
        properties: None,
    };
    house.deliver.deliver(outgoing("t/secret/x")).await.unwrap();
    house.deliver.deliver(outgoing("t/x")).await.unwrap();
    let only = listener.publish().await;
    assert_eq!((&*only.topic, only.qos), ("t/x", QoS::ExactlyOnce));
    assert!(house.deliver.refusals().iter().any(|line| line.kind == "receive" && line.client_id == "dev-l"));
}
