//! Subscriptions, and messages to the client (MQTT 5 §3.8 to §3.11, §3.3.2.3.4, §4.9).

use super::{Session, State, Todo};
use crate::{
    Packet, PacketId, QoS, ReasonCode, Version, codec,
    outflow::Delivery,
    packet::{Ack, Codes, Publish, Subscribe, Subscription, Unsubscribe},
    topics,
};
use std::{collections::HashMap, num::NonZeroU16, sync::Arc};

#[derive(Debug)]
pub struct SubscribeRequest {
    pub packet_id: PacketId,
    pub subscription_id: Option<u32>,
    /// `Err`: refused by the protocol's own rules; pass the code on to [`Session::subscribed`].
    pub filters: Vec<Result<Subscription, (Subscription, ReasonCode)>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivered {
    Sent,
    /// Over the client's maximum packet size: discarded as if sent (MQTT 5 §3.1.2.11.4).
    TooLarge,
}

/// Aliases that the server has given to topics, up to what the client takes: the first topics get one.
#[derive(Debug, Default)]
pub(super) struct AliasesOut(HashMap<Arc<str>, NonZeroU16>);

impl AliasesOut {
    /// The topic's alias, and whether the client knows it already.
    fn of(&mut self, topic: &Arc<str>, aliases_max: u16) -> Option<(NonZeroU16, bool)> {
        if aliases_max == 0 {
            return None;
        }
        if let Some(alias) = self.0.get(topic) {
            return Some((*alias, true));
        }
        let next = u16::try_from(self.0.len() + 1).ok().filter(|next| *next <= aliases_max)?;
        let alias = NonZeroU16::new(next)?;
        self.0.insert(Arc::clone(topic), alias);
        Some((alias, false))
    }
}

impl Session {
    pub(super) fn subscribe(&mut self, request: Subscribe) -> Todo {
        let shared_no_local = |s: &Subscription| s.no_local && s.filter.starts_with("$share/");
        if request.filters.iter().any(shared_no_local) {
            return self.violation("a shared subscription asks for no local messages".into());
        }
        let mut room = self.limits.subscriptions_max.saturating_sub(self.filters.len());
        let slashes_max = self.limits.topic_slashes_max;
        let filters = request.filters.into_iter().map(|subscription| {
            let valid = topics::split_share(&subscription.filter).and_then(|shared| {
                topics::check_filter(shared.filter)?;
                let slashes = shared.filter.bytes().filter(|byte| *byte == b'/').count();
                if slashes > slashes_max { Err(topics::InvalidTopic::TooDeep) } else { Ok(()) }
            });
            let code = match valid {
                Err(_) => ReasonCode::TOPIC_FILTER_INVALID,
                Ok(()) if self.filters.contains(&subscription.filter) => return Ok(subscription),
                Ok(()) if room == 0 => ReasonCode::QUOTA_EXCEEDED,
                Ok(()) => {
                    room -= 1;
                    return Ok(subscription);
                }
            };
            Err((subscription, code))
        });
        let filters = filters.collect();
        Todo::Subscribe(SubscribeRequest {
            packet_id: request.packet_id,
            subscription_id: request.subscription_id,
            filters,
        })
    }

    /// Answers a SUBSCRIBE: per filter, in the request's order, the filter that was granted or why it was not.
    pub fn subscribed(&mut self, packet_id: PacketId, outcomes: Vec<Result<(String, QoS), ReasonCode>>) {
        let mut codes = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            codes.push(match outcome {
                Ok((filter, qos)) => {
                    if !self.filters.contains(&filter) {
                        self.filters.push(filter);
                    }
                    ReasonCode(qos.level())
                }
                Err(code) => code,
            });
        }
        if self.state == State::Open {
            let reason_string = codes.iter().copied().find_map(|code| self.reason(code));
            self.send(Packet::SubAck(Codes { packet_id, codes, reason_string }));
        }
    }

    pub(super) fn unsubscribe(&mut self, request: Unsubscribe) -> Todo {
        let mut codes = Vec::with_capacity(request.filters.len());
        let mut filters = Vec::new();
        for filter in request.filters {
            match self.filters.iter().position(|known| *known == filter) {
                Some(index) => {
                    filters.push(self.filters.swap_remove(index));
                    codes.push(ReasonCode::SUCCESS);
                }
                None => codes.push(ReasonCode::NO_SUBSCRIPTION_EXISTED),
            }
        }
        Todo::Unsubscribe { packet_id: request.packet_id, filters, codes }
    }

    /// Answers [`Todo::Unsubscribe`].
    pub fn unsubscribed(&mut self, packet_id: PacketId, codes: Vec<ReasonCode>) {
        if self.state == State::Open {
            self.send(Packet::UnsubAck(Codes { packet_id, codes, reason_string: None }));
        }
    }

    /// Sends a message that the client's [`crate::outflow::Outflow`] has given out. What is [`Delivered::TooLarge`]
    /// must be taken out of the outflow as if it had been acknowledged.
    pub fn deliver(&mut self, delivery: &Delivery) -> Delivered {
        if self.state != State::Open {
            return Delivered::Sent;
        }
        let v5 = self.version == Version::V5;
        let message = &delivery.message;
        let mut properties = message.properties.as_deref().filter(|_| v5).map(|known| Box::new(known.clone()));
        if let Some(properties) = &mut properties
            && let Some(remaining) = delivery.expires_in
        {
            properties.expiry = Some(remaining);
        }
        let mut publish = Publish {
            topic: Arc::clone(&message.topic),
            payload: message.payload.clone(),
            qos: delivery.qos,
            packet_id: delivery.packet_id,
            dup: delivery.dup,
            retain: delivery.retain,
            topic_alias: None,
            subscription_ids: if v5 { delivery.subscription_ids.clone() } else { Vec::new() },
            properties,
        };
        let limit = self.client_packet_bytes_max as usize;
        // Three bytes for an alias that may come.
        if limit < u32::MAX as usize && codec::publish_len(&publish, self.version) + 3 > limit {
            return Delivered::TooLarge;
        }
        let aliases_max = self.client_topic_aliases_max.min(self.limits.topic_aliases_max);
        if v5 && let Some((alias, known)) = self.aliases_out.of(&publish.topic, aliases_max) {
            publish.topic_alias = Some(alias);
            if known {
                publish.topic = "".into();
            }
        }
        self.send(Packet::Publish(publish));
        Delivered::Sent
    }

    /// Asks the client to let go of a QoS 2 message; `SUCCESS`, or that its identifier is unknown here.
    pub fn release(&mut self, packet_id: PacketId, code: ReasonCode) {
        if self.state == State::Open {
            self.send(Packet::PubRel(Ack::new(packet_id, code)));
        }
    }
}
