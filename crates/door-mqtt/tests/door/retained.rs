//! Retained messages and the options of subscriptions.

use crate::{
    fixtures::House,
    raw::{Raw, ack, connect, message, subscription},
};
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::{Packet, ReasonCode, packet::Connect, packet::Publish, packet::Subscription};

async fn retain(publisher: &mut Raw, topic: &str, payload: &str) -> ReasonCode {
    let publish = Publish { retain: true, ..message(topic, payload, QoS::AtLeastOnce, 1) };
    publisher.send(Packet::Publish(publish)).await;
    match publisher.next().await {
        Some(Packet::PubAck(ack)) => ack.code,
        other => panic!("{other:?}"),
    }
}

fn texts(packets: Vec<Packet>) -> Vec<(String, bool)> {
    let one = |packet| match packet {
        Packet::Publish(publish) => (String::from_utf8(publish.payload.to_vec()).unwrap(), publish.retain),
        other => panic!("{other:?}"),
    };
    packets.into_iter().map(one).collect()
}

#[tokio::test]
async fn the_last_message_of_a_topic_is_there_for_who_comes_later() {
    let mut house = House::open().await;
    for version in [Version::V311, Version::V5] {
        let (mut publisher, _) = Raw::open(&house, connect("dev-p", version)).await;
        for (topic, payload) in [("t/r/a", "old"), ("t/r/a", "new"), ("t/r/b", "b"), ("t/secret/r", "unseen")] {
            assert_eq!(retain(&mut publisher, topic, payload).await, ReasonCode::SUCCESS);
        }
        assert_eq!(retain(&mut publisher, "t/r/b", "").await, ReasonCode::SUCCESS);
        // Acknowledged is on disk.
        house = house.crash().await;
        let clean = Connect { clean: true, session_expiry: None, ..connect("dev-l", version) };
        let (mut listener, _) = Raw::open(&house, clean).await;
        listener
            .send(Packet::Subscribe(kilter_mqtt::packet::Subscribe {
                packet_id: kilter_mqtt::PacketId::MIN,
                subscription_id: None,
                filters: vec![subscription("t/#", QoS::AtMostOnce)],
            }))
            .await;
        let mut came = listener.until_quiet().await;
        came.retain(|packet| !matches!(packet, Packet::SubAck(_)));
        assert_eq!(texts(came), [("new".to_owned(), true)], "what may not be received is not sent");
        // Live messages do not carry the flag.
        let (mut publisher, _) = Raw::open(&house, connect("dev-p", version)).await;
        retain(&mut publisher, "t/r/c", "live").await;
        assert_eq!(texts(vec![Packet::Publish(listener.publish().await)]), [("live".to_owned(), false)]);
        retain(&mut publisher, "t/r/c", "").await;
        assert_eq!(house.deliver.retained_topics(None, 10), ["t/r/a", "t/secret/r"]);
        assert_eq!(house.deliver.retained_topics(Some("t/r/a"), 10), ["t/secret/r"]);
        listener.vanish().await;
    }
}

#[tokio::test]
async fn subscriptions_have_options_and_identifiers() {
    let house = House::open().await;
    let (mut client, _) = Raw::open(&house, connect("dev-p", Version::V5)).await;
    retain(&mut client, "t/r", "kept").await;
    let with = |handling, keeps, filter: &str| Subscription {
        retain_handling: handling,
        retain_as_published: keeps,
        ..subscription(filter, QoS::AtLeastOnce)
    };
    let (mut listener, _) = Raw::open(&house, connect("dev-l", Version::V5)).await;
    for (handling, comes) in [(2, false), (1, false), (0, true)] {
        let codes = listener.subscribe_and_more(Some(3), vec![with(handling, true, "t/+")]).await;
        assert_eq!(codes.len(), usize::from(comes), "retain handling {handling}");
    }
    let codes = listener.subscribe_and_more(Some(4), vec![with(1, false, "t/#")]).await;
    let [Packet::Publish(kept)] = &codes[..] else { panic!("{codes:?}") };
    assert_eq!((kept.retain, &kept.subscription_ids[..]), (true, &[4][..]));
    // Both match: once, with both identifiers; one of them wants the flag as it is.
    retain(&mut client, "t/r", "again").await;
    let both = listener.publish().await;
    assert_eq!((both.retain, &both.subscription_ids[..]), (true, &[3, 4][..]));
    assert!(listener.until_quiet().await.is_empty());

    // No local messages for the one who published them.
    let own = Subscription { no_local: true, ..subscription("t/own", QoS::AtLeastOnce) };
    client.subscribe(None, vec![own]).await;
    listener.subscribe(None, vec![subscription("t/own", QoS::AtLeastOnce)]).await;
    client.send(Packet::Publish(message("t/own", "x", QoS::AtLeastOnce, 7))).await;
    assert_eq!(client.next().await, Some(Packet::PubAck(ack(7))));
    assert!(client.until_quiet().await.is_empty());
    assert_eq!(&listener.publish().await.payload[..], b"x");
}

#[tokio::test]
async fn no_more_is_retained_than_may_be() {
    let house = House::open_with(|config| config.retained_max = 1).await;
    let (mut client, _) = Raw::open(&house, connect("dev-p", Version::V5)).await;
    assert_eq!(retain(&mut client, "t/1", "x").await, ReasonCode::SUCCESS);
    assert_eq!(retain(&mut client, "t/2", "x").await, ReasonCode::QUOTA_EXCEEDED);
    assert_eq!(retain(&mut client, "t/1", "y").await, ReasonCode::SUCCESS);
}

impl Raw {
    /// What comes beside the SUBACK.
    async fn subscribe_and_more(&mut self, id: Option<u32>, filters: Vec<Subscription>) -> Vec<Packet> {
        let packet_id = kilter_mqtt::PacketId::MIN;
        self.send(Packet::Subscribe(kilter_mqtt::packet::Subscribe { packet_id, subscription_id: id, filters })).await;
        let mut came = Vec::new();
        // SUBACK of a kept session waits for the disk.
        while !came.iter().any(|packet| matches!(packet, Packet::SubAck(_))) {
            came.push(self.next().await.unwrap());
        }
        came.extend(self.until_quiet().await);
        came.retain(|packet| !matches!(packet, Packet::SubAck(_)));
        came
    }
}
