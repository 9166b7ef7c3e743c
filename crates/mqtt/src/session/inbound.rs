//! Messages in: what is refused by rule, topic aliases, the acknowledgements of QoS 1 and 2 (MQTT 5 §4.3, §4.6, §4.9).

use super::{Closing, Inbound, OwedAcks, Receipt, Session, State, Todo};
use crate::{
    Packet, PacketId, QoS, ReasonCode, Version,
    packet::Publish,
    topics::{self, InvalidTopic},
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// Where a QoS 2 message of the client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Exactly {
    /// PUBREC has not left yet.
    Owed,
    /// PUBREC has left; the identifier is the client's again once it has released it.
    Received,
    /// PUBREL has come; PUBCOMP leaves when the identifier is forgotten.
    Released,
}

#[derive(Debug, Default)]
pub(super) struct Inflow {
    pub owed: OwedAcks,
    exactly: BTreeMap<PacketId, Exactly>,
    /// By alias, from 1 on.
    aliases: Vec<Option<Arc<str>>>,
    /// Topics are interned by the decoder: a topic checked once is known by its address.
    checked_topic: Option<Arc<str>>,
}

impl Inflow {
    pub fn resume(&mut self, received: Vec<PacketId>) {
        self.exactly = received.into_iter().map(|id| (id, Exactly::Received)).collect();
    }

    /// Messages that count against the announced receive maximum.
    fn in_flight(&self) -> usize {
        self.owed.len() + self.exactly.values().filter(|state| **state != Exactly::Owed).count()
    }
}

impl Session {
    pub(super) fn publish(&mut self, mut message: Publish) -> Todo {
        if !message.subscription_ids.is_empty() {
            return self.violation("a message from a client has a subscription identifier".into());
        }
        if let Some(alias) = message.topic_alias
            && let Err((code, why)) = self.resolve(alias.get(), &mut message.topic)
        {
            return Todo::Close(self.end(code, why.into(), true));
        }
        if message.payload.len() > self.limits.payload_bytes_max {
            let why = format!("a payload has {} bytes, over the limit", message.payload.len());
            return Todo::Close(self.end(ReasonCode::PACKET_TOO_LARGE, why.into(), true));
        }
        let answer_to = message.properties.as_ref().and_then(|properties| properties.response_topic.as_deref());
        if answer_to.is_some_and(|topic| topic.contains(['+', '#'])) {
            return self.violation("a response topic has wildcards".into());
        }
        if let Some(id) = message.packet_id.filter(|_| message.qos == QoS::ExactlyOnce)
            && let Some(state) = self.inflow.exactly.get(&id)
        {
            return self.again(id, *state);
        }
        if self.version == Version::V5 && message.packet_id.is_some() && !self.has_window() {
            let why = "more messages are in flight than the announced receive maximum";
            return Todo::Close(self.end(ReasonCode::RECEIVE_MAXIMUM_EXCEEDED, why.into(), true));
        }
        let checked = self.check_topic(&message.topic);
        let receipt = message.packet_id.map(|id| self.inflow.owed.owe(id, message.qos));
        if let Some(id) = message.packet_id.filter(|_| message.qos == QoS::ExactlyOnce) {
            self.inflow.exactly.insert(id, Exactly::Owed);
        }
        if let Err(why) = checked {
            return self.invalid_topic(message.topic, receipt, why);
        }
        Todo::Publish(Inbound {
            topic: message.topic,
            payload: message.payload,
            qos: message.qos,
            retain: message.retain,
            properties: message.properties.map(Arc::from),
            packet_id: message.packet_id.filter(|_| message.qos == QoS::ExactlyOnce),
            receipt,
        })
    }

    /// A QoS 2 message that has come before: acknowledged again, not handed on again (MQTT 5 §4.3.3).
    fn again(&mut self, id: PacketId, state: Exactly) -> Todo {
        match state {
            // Its PUBREC is on its way.
            Exactly::Owed => {}
            Exactly::Received => {
                let receipt = self.inflow.owed.owe(id, QoS::ExactlyOnce);
                self.settle(receipt, receipt);
            }
            Exactly::Released => return self.violation("a message has the identifier of one that was released".into()),
        }
        Todo::Nothing
    }

    /// Puts the topic that the alias stands for into `topic`, or remembers it (MQTT 5 §3.3.2.3.4).
    fn resolve(&mut self, alias: u16, topic: &mut Arc<str>) -> Result<(), (ReasonCode, &'static str)> {
        if alias > self.limits.topic_aliases_max || self.version != Version::V5 {
            return Err((ReasonCode::TOPIC_ALIAS_INVALID, "a topic alias is over the announced maximum"));
        }
        let index = usize::from(alias) - 1;
        let aliases = &mut self.inflow.aliases;
        if !topic.is_empty() {
            if aliases.len() <= index {
                aliases.resize(index + 1, None);
            }
            aliases[index] = Some(Arc::clone(topic));
            return Ok(());
        }
        match aliases.get(index) {
            Some(Some(known)) => {
                *topic = Arc::clone(known);
                Ok(())
            }
            _ => Err((ReasonCode::PROTOCOL_ERROR, "a topic alias stands for no topic yet")),
        }
    }

    fn check_topic(&mut self, topic: &Arc<str>) -> Result<(), InvalidTopic> {
        if self.inflow.checked_topic.as_ref().is_some_and(|known| Arc::ptr_eq(known, topic)) {
            return Ok(());
        }
        topics::check_name(topic)?;
        let depth_of = topics::basic_ingest(topic).map_or(&**topic, |(_, topic)| topic);
        if depth_of.bytes().filter(|byte| *byte == b'/').count() > self.limits.topic_slashes_max {
            return Err(InvalidTopic::TooDeep);
        }
        self.inflow.checked_topic = Some(Arc::clone(topic));
        Ok(())
    }

    fn invalid_topic(&mut self, topic: Arc<str>, receipt: Option<Receipt>, why: InvalidTopic) -> Todo {
        let code = match why {
            InvalidTopic::Reserved => ReasonCode::NOT_AUTHORIZED,
            _ => ReasonCode::TOPIC_NAME_INVALID,
        };
        match self.publish_refused(receipt, code, format!("topic {topic:?} is refused: {why}")) {
            Some(closing) => Todo::Close(closing),
            None => Todo::Refused { topic, why },
        }
    }

    fn has_window(&self) -> bool {
        self.inflow.in_flight() < usize::from(self.limits.inflight_max)
    }

    /// For 3.1.1, which cannot be told a receive maximum: while this is `false`, read no more. (Releases must be
    /// read on: only what is not acknowledged yet counts.)
    pub fn has_room(&self) -> bool {
        self.version == Version::V5 || self.inflow.owed.len() < usize::from(self.limits.inflight_max)
    }

    /// QoS 1 and 2 messages whose PUBACK or PUBREC has not left.
    pub fn acks_owed(&self) -> usize {
        self.inflow.owed.len()
    }

    /// These messages, from `first` to `last` but for those already refused, are durable. Acknowledgements leave in
    /// the order of the messages, whatever the order of the calls.
    pub fn settle(&mut self, first: Receipt, last: Receipt) {
        self.settle_with(first, last, ReasonCode::SUCCESS);
    }

    /// The message was not taken in. MQTT 5: the client is told and goes on (nothing to say for QoS 0).
    /// 3.1.1 has no such answer: the connection must end, as at AWS IoT.
    pub fn publish_refused(
        &mut self,
        receipt: Option<Receipt>,
        code: ReasonCode,
        why: impl Into<Cow<'static, str>>,
    ) -> Option<Closing> {
        if self.version == Version::V311 {
            return Some(self.close(code, why));
        }
        if let Some(receipt) = receipt {
            self.settle_with(receipt, receipt, code);
        }
        None
    }

    fn settle_with(&mut self, first: Receipt, last: Receipt, code: ReasonCode) {
        self.inflow.owed.settle(first, last, code);
        while let Some((packet_id, qos, code)) = self.inflow.owed.release() {
            if qos == QoS::ExactlyOnce {
                // An error frees the identifier at once (MQTT 5 §4.3.3).
                match code.is_error() {
                    true => self.inflow.exactly.remove(&packet_id),
                    false => self.inflow.exactly.insert(packet_id, Exactly::Received),
                };
            }
            // After DISCONNECT nothing may follow; the client sends again what it was not told of.
            if self.state == State::Open {
                let ack = self.ack(packet_id, code);
                self.send(if qos == QoS::ExactlyOnce { Packet::PubRec(ack) } else { Packet::PubAck(ack) });
            }
        }
    }

    /// PUBREL came.
    pub(super) fn released(&mut self, packet_id: PacketId) -> Todo {
        match self.inflow.exactly.get_mut(&packet_id) {
            Some(Exactly::Owed) => self.violation("PUBREL came before PUBREC was sent".into()),
            Some(Exactly::Released) => Todo::Nothing,
            Some(state) => {
                *state = Exactly::Released;
                Todo::Complete(packet_id)
            }
            None => {
                let ack = self.ack(packet_id, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND);
                self.send(Packet::PubComp(ack));
                Todo::Nothing
            }
        }
    }

    /// The identifier is forgotten: PUBCOMP leaves. Answers [`Todo::Complete`].
    pub fn completed(&mut self, packet_id: PacketId) {
        self.inflow.exactly.remove(&packet_id);
        if self.state == State::Open {
            self.send(Packet::PubComp(crate::packet::Ack::new(packet_id, ReasonCode::SUCCESS)));
        }
    }
}
