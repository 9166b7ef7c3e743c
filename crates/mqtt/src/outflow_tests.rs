//! The outflow, step by step: bounds, order, identifiers, what is sent again.

use super::*;

const LIMITS: QueueLimits = QueueLimits { messages_max: 5, bytes_max: 10_000 };
const NOW: Timestamp = Timestamp::from_seconds(1000);

fn message(payload: &str) -> Arc<Outbound> {
    Arc::new(Outbound {
        topic: "t".into(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        properties: None,
        expires: None,
    })
}

fn push(flow: &mut Outflow, payload: &str, qos: QoS) -> Result<(u64, Option<PacketId>), Full> {
    flow.push(message(payload), (qos, false), Vec::new(), 0, Some(LIMITS))
}

fn next(flow: &mut Outflow) -> Option<(String, Option<PacketId>, bool)> {
    let sent = flow.next(NOW, 0, &mut Vec::new())?;
    Some((String::from_utf8(sent.message.payload.to_vec()).unwrap(), sent.packet_id, sent.dup))
}

#[test]
fn the_queue_is_bounded_in_messages_and_bytes() {
    let mut flow = Outflow::default();
    for i in 0..5 {
        assert!(push(&mut flow, &i.to_string(), QoS::AtLeastOnce).is_ok());
    }
    assert_eq!(push(&mut flow, "6", QoS::AtLeastOnce), Err(Full));
    // What is in flight counts until it is acknowledged.
    let (_, id, _) = next(&mut flow).unwrap();
    assert_eq!(push(&mut flow, "6", QoS::AtLeastOnce), Err(Full));
    flow.acknowledge(id.unwrap());
    assert!(push(&mut flow, "6", QoS::AtLeastOnce).is_ok());

    let mut flow = Outflow::default();
    let exactly = "x".repeat(10_000 - MESSAGE_OVERHEAD_BYTES - 1);
    assert_eq!(push(&mut flow, &format!("{exactly}y"), QoS::ExactlyOnce), Err(Full), "one byte over");
    assert!(push(&mut flow, &exactly, QoS::ExactlyOnce).is_ok());
    assert_eq!(flow.bytes(), 10_000);
    for _ in 0..BEST_EFFORT_MAX {
        assert!(push(&mut flow, "", QoS::AtMostOnce).is_ok());
    }
    assert_eq!(push(&mut flow, "", QoS::AtMostOnce), Err(Full));
}

#[test]
fn what_was_in_flight_is_sent_again_in_order_with_its_identifier() {
    let mut flow = Outflow::default();
    flow.resume(2);
    for (payload, qos) in [("a", QoS::AtLeastOnce), ("b", QoS::ExactlyOnce), ("c", QoS::AtLeastOnce)] {
        push(&mut flow, payload, qos).unwrap();
    }
    let (a, b) = (next(&mut flow).unwrap(), next(&mut flow).unwrap());
    assert_eq!(next(&mut flow), None, "the client takes two at a time");
    flow.suspend();
    flow.resume(2);
    assert_eq!(next(&mut flow), Some(("a".into(), a.1, true)));
    assert_eq!(next(&mut flow), Some(("b".into(), b.1, true)));
    // QoS 2: received is not done, and its place stays taken.
    assert_eq!(flow.received(b.1.unwrap(), ReasonCode::SUCCESS), Receipted::Release(2));
    assert_eq!(next(&mut flow), None);
    flow.suspend();
    assert_eq!(flow.resume(2), [b.1.unwrap()], "PUBREL is sent again, not PUBLISH");
    assert_eq!(flow.received(b.1.unwrap(), ReasonCode::SUCCESS), Receipted::Again);
    assert_eq!(flow.complete(b.1.unwrap()), Some(2));
    assert_eq!(flow.complete(b.1.unwrap()), None);
    assert_eq!(next(&mut flow).unwrap().0, "a");
    assert_eq!(next(&mut flow).unwrap().0, "c");
    assert_eq!(flow.received(b.1.unwrap(), ReasonCode::SUCCESS), Receipted::Unknown);
}

#[test]
fn what_an_earlier_connection_brought_may_be_answered_before_it_is_sent_again() {
    let mut flow = Outflow::default();
    push(&mut flow, "a", QoS::ExactlyOnce).unwrap();
    push(&mut flow, "b", QoS::ExactlyOnce).unwrap();
    let (_, id, _) = next(&mut flow).unwrap();
    flow.suspend();
    flow.resume(10);
    assert_eq!(flow.received(id.unwrap(), ReasonCode::SUCCESS), Receipted::Release(1));
    assert_eq!(next(&mut flow).unwrap().0, "b", "the client has the first: it is not sent again");
}

#[test]
fn a_refused_message_is_done() {
    let mut flow = Outflow::default();
    push(&mut flow, "a", QoS::ExactlyOnce).unwrap();
    let (_, id, _) = next(&mut flow).unwrap();
    assert_eq!(flow.received(id.unwrap(), ReasonCode::QUOTA_EXCEEDED), Receipted::Done(1));
    assert_eq!((flow.unacknowledged(), flow.bytes()), (0, 0));
}

#[test]
fn qos_0_does_not_wait_for_the_window_and_keeps_its_order() {
    let mut flow = Outflow::default();
    flow.resume(1);
    for (payload, qos) in
        [("a", QoS::AtLeastOnce), ("0", QoS::AtMostOnce), ("b", QoS::AtLeastOnce), ("1", QoS::AtMostOnce)]
    {
        push(&mut flow, payload, qos).unwrap();
    }
    let order: Vec<String> = std::iter::from_fn(|| next(&mut flow).map(|sent| sent.0)).collect();
    assert_eq!(order, ["a", "0", "1"]);
}

#[test]
fn what_has_expired_is_not_sent_and_the_rest_counts_down() {
    let mut flow = Outflow::default();
    for seconds in [1000, 1001, 1060] {
        let message = Arc::new(Outbound { expires: Some(Timestamp::from_seconds(seconds)), ..(*message("x")).clone() });
        flow.push(message, (QoS::AtLeastOnce, false), Vec::new(), 0, Some(LIMITS)).unwrap();
    }
    let mut gone = Vec::new();
    assert_eq!(flow.next(NOW, 0, &mut gone).unwrap().expires_in, Some(1));
    assert_eq!(gone, [1]);
    assert_eq!(flow.next(NOW, 0, &mut gone).unwrap().expires_in, Some(60));
}

#[test]
fn what_is_not_durable_yet_is_held_back() {
    let mut flow = Outflow::default();
    flow.push(message("a"), (QoS::ExactlyOnce, false), Vec::new(), 7, Some(LIMITS)).unwrap();
    assert_eq!(flow.next(NOW, 6, &mut Vec::new()), None);
    assert!(flow.next(NOW, 7, &mut Vec::new()).is_some());
}

#[test]
fn identifiers_in_use_are_not_given_twice() {
    let mut flow = Outflow::default();
    push(&mut flow, "stuck", QoS::AtLeastOnce).unwrap();
    push(&mut flow, "half", QoS::ExactlyOnce).unwrap();
    let stuck = next(&mut flow).unwrap().1.unwrap();
    let half = next(&mut flow).unwrap().1.unwrap();
    flow.received(half, ReasonCode::SUCCESS);
    for round in 0..140_000 {
        let (_, id) = push(&mut flow, "x", QoS::AtLeastOnce).unwrap();
        assert!(id != Some(stuck) && id != Some(half));
        if round == 70_000 {
            flow.suspend();
            flow.resume(100);
            assert_eq!(next(&mut flow).unwrap().1, Some(stuck));
        }
        while let Some((_, id, _)) = next(&mut flow) {
            flow.acknowledge(id.unwrap());
        }
    }
}

#[test]
fn what_was_kept_is_taken_up() {
    let mut flow = Outflow::default();
    for (seq, qos, released) in [(4, QoS::ExactlyOnce, true), (5, QoS::AtLeastOnce, false)] {
        let packet_id = PacketId::new(seq as u16);
        let queued = Queued {
            seq,
            packet_id,
            message: message("kept"),
            qos,
            retain: false,
            subscription_ids: vec![3],
            hold: 0,
            sent_before: true,
        };
        flow.restore(queued, released);
    }
    assert_eq!(flow.resume(10), [PacketId::new(4).unwrap()]);
    let sent = flow.next(NOW, 0, &mut Vec::new()).unwrap();
    assert_eq!((sent.seq, sent.packet_id, sent.dup, sent.subscription_ids), (5, PacketId::new(5), true, vec![3]));
    assert_eq!(push(&mut flow, "new", QoS::AtLeastOnce), Ok((6, PacketId::new(6))));
    assert_eq!(flow.seqs().collect::<Vec<_>>(), [6, 5, 4]);
    assert_eq!(flow.retain(|queued| queued.seq != 6), [6]);
}
