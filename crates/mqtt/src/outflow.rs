//! Messages on their way to one client, across its connections (MQTT 5 §4.1, §4.3, §4.4, §4.9): what waits, what is in
//! flight, what is half done. Pure: durability is a number that the owner counts up, time a parameter.

use crate::{PacketId, QoS, ReasonCode};
use bytes::Bytes;
use kilter_core::{MessageProperties, Timestamp};
use std::{collections::VecDeque, sync::Arc};

/// QoS 1 and 2 messages in flight to one client (AWS IoT's 100), or fewer where the client says so.
pub const OUTBOUND_INFLIGHT_MAX: u16 = 100;

/// QoS 0 messages that wait for one subscriber. More would hide a slow subscriber instead of showing it.
pub const BEST_EFFORT_MAX: usize = 100;

/// Packet identifiers are given out when a message is queued: fewer messages than there are identifiers may wait.
pub const QUEUE_MESSAGES_HARD_MAX: usize = 60_000;

/// What a queued message is counted with beside its payload and topic, in bytes.
pub const MESSAGE_OVERHEAD_BYTES: usize = 128;

/// A message for subscribers; shared by all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outbound {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub properties: Option<Arc<MessageProperties>>,
    /// Not delivered from then on.
    pub expires: Option<Timestamp>,
}

impl Outbound {
    /// What it counts against a queue's bytes.
    pub fn weight(&self) -> usize {
        self.payload.len() + self.topic.len() + MESSAGE_OVERHEAD_BYTES
    }

    pub fn expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|at| at <= now)
    }
}

/// A message that waits for this client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// Its place in the row, for ever.
    pub seq: u64,
    /// There for QoS 1 and 2.
    pub packet_id: Option<PacketId>,
    pub message: Arc<Outbound>,
    pub qos: QoS,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    /// Not sent before durability has got this far; 0 is at once.
    pub hold: u64,
    /// It may have reached the client on an earlier connection.
    pub sent_before: bool,
}

/// What [`crate::session::Session::deliver`] sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    pub seq: u64,
    pub packet_id: Option<PacketId>,
    pub message: Arc<Outbound>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub subscription_ids: Vec<u32>,
    /// Seconds that are left of the message's expiry.
    pub expires_in: Option<u32>,
}

/// How much may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueLimits {
    /// QoS 1 and 2 messages, in flight or not.
    pub messages_max: usize,
    /// Of their payloads, topics and [`MESSAGE_OVERHEAD_BYTES`] each.
    pub bytes_max: usize,
}

/// More waits than may; the message was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What a PUBREC means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipted {
    /// Remember, durably, that the client has it; then ask it to let go (PUBREL).
    Release(u64),
    /// The client did not want it: it is done.
    Done(u64),
    /// PUBREL was asked for before: ask again.
    Again,
    Unknown,
}

#[derive(Debug)]
pub struct Outflow {
    queue: VecDeque<Queued>,
    best_effort: VecDeque<Queued>,
    /// Sent on this connection, in order.
    inflight: VecDeque<Queued>,
    /// PUBREC has come, PUBCOMP has not.
    released: Vec<(PacketId, u64)>,
    next_seq: u64,
    last_id: u16,
    bytes: usize,
    /// Of `best_effort`.
    best_effort_bytes: usize,
    window: u16,
}

impl Default for Outflow {
    fn default() -> Self {
        Self {
            queue: VecDeque::new(),
            best_effort: VecDeque::new(),
            inflight: VecDeque::new(),
            released: Vec::new(),
            next_seq: 1,
            last_id: 0,
            bytes: 0,
            best_effort_bytes: 0,
            window: OUTBOUND_INFLIGHT_MAX,
        }
    }
}

/// In.
impl Outflow {
    /// Whether one more QoS 1 or 2 message of this weight may wait.
    pub fn has_room(&self, weight: usize, limits: QueueLimits) -> bool {
        self.unacknowledged() < limits.messages_max.min(QUEUE_MESSAGES_HARD_MAX)
            && self.bytes + weight <= limits.bytes_max
    }

    /// Queues a message; answers its sequence number and packet identifier. `limits` is `None` for what must not be
    /// left out (retained messages, whose number is bounded elsewhere).
    pub fn push(
        &mut self,
        message: Arc<Outbound>,
        (qos, retain): (QoS, bool),
        subscription_ids: Vec<u32>,
        hold: u64,
        limits: Option<QueueLimits>,
    ) -> Result<(u64, Option<PacketId>), Full> {
        let weight = message.weight();
        let mut queued =
            Queued { seq: 0, packet_id: None, message, qos, retain, subscription_ids, hold, sent_before: false };
        if qos == QoS::AtMostOnce {
            if limits.is_some() && self.best_effort.len() >= BEST_EFFORT_MAX {
                return Err(Full);
            }
            queued.seq = self.seq();
            let seq = queued.seq;
            self.best_effort_bytes += weight;
            self.best_effort.push_back(queued);
            return Ok((seq, None));
        }
        let hard = QueueLimits { messages_max: QUEUE_MESSAGES_HARD_MAX, bytes_max: usize::MAX };
        if !self.has_room(weight, limits.unwrap_or(hard)) {
            return Err(Full);
        }
        let (seq, packet_id) = (self.seq(), self.packet_id());
        queued.seq = seq;
        queued.packet_id = Some(packet_id);
        self.bytes += weight;
        self.queue.push_back(queued);
        Ok((seq, Some(packet_id)))
    }

    /// The message just queued must wait for durability to get this far.
    pub fn hold(&mut self, seq: u64, hold: u64) {
        if let Some(queued) = self.queue.back_mut().filter(|queued| queued.seq == seq) {
            queued.hold = hold;
        }
    }

    /// The highest sequence number that may have reached the client.
    pub fn sent_upto(&self) -> u64 {
        let unsent = self.queue.iter().find(|queued| !queued.sent_before);
        unsent.map_or(self.next_seq, |queued| queued.seq) - 1
    }

    fn seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The next identifier that is not in use. Those of waiting messages follow each other, so only what is out of
    /// that row must be looked at; [`QUEUE_MESSAGES_HARD_MAX`] keeps the row from biting its tail.
    fn packet_id(&mut self) -> PacketId {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last_id).expect("counting starts again at 1, never at 0");
            let inflight = self.inflight.iter().any(|queued| queued.packet_id == Some(id));
            let again = self.queue.iter().take_while(|queued| queued.sent_before);
            let waiting = again.clone().any(|queued| queued.packet_id == Some(id));
            if !inflight && !waiting && !self.released.iter().any(|(known, _)| *known == id) {
                return id;
            }
        }
    }

    /// Takes up what was kept, in the order of the sequence numbers. `released`: PUBREC has come for it.
    pub fn restore(&mut self, queued: Queued, released: bool) {
        self.next_seq = self.next_seq.max(queued.seq + 1);
        let Some(id) = queued.packet_id else { return };
        self.last_id = id.get();
        if released {
            self.released.push((id, queued.seq));
        } else {
            self.bytes += queued.message.weight();
            self.queue.push_back(queued);
        }
    }
}

/// Out.
impl Outflow {
    /// A connection begins; `receive_max` is the client's. Answers whom PUBREL must be sent to again.
    pub fn resume(&mut self, receive_max: u16) -> Vec<PacketId> {
        self.window = receive_max.min(OUTBOUND_INFLIGHT_MAX);
        self.released.iter().map(|(id, _)| *id).collect()
    }

    /// The connection has ended: what is in flight will be sent again, in its order; QoS 0 is forgotten.
    pub fn suspend(&mut self) {
        self.best_effort = VecDeque::new();
        self.best_effort_bytes = 0;
        while let Some(mut queued) = self.inflight.pop_back() {
            queued.sent_before = true;
            self.queue.push_front(queued);
        }
    }

    fn in_flight(&self) -> usize {
        self.inflight.len() + self.released.len()
    }

    /// The next message that may be sent now; it is in flight from here on. What has expired is put into `gone` by its
    /// sequence number. `durable`: how far durability has got.
    pub fn next(&mut self, now: Timestamp, durable: u64, gone: &mut Vec<u64>) -> Option<Delivery> {
        loop {
            let open = self.in_flight() < usize::from(self.window);
            let waiting = self.queue.front().filter(|queued| open && queued.hold <= durable);
            let best = self.best_effort.front();
            let from_queue = match (waiting, best) {
                (Some(waiting), Some(best)) => waiting.seq < best.seq,
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => return None,
            };
            let queued = if from_queue { self.queue.pop_front() } else { self.best_effort.pop_front() }?;
            if !from_queue {
                self.best_effort_bytes -= queued.message.weight();
            }
            // What may have arrived must be brought to its end, whatever its age.
            if queued.message.expired(now) && !queued.sent_before {
                if from_queue {
                    self.bytes -= queued.message.weight();
                    gone.push(queued.seq);
                }
                continue;
            }
            let delivery = deliver(&queued, now);
            if from_queue {
                self.inflight.push_back(queued);
            }
            return Some(delivery);
        }
    }

    /// PUBACK came: the sequence number of what is done.
    pub fn acknowledge(&mut self, id: PacketId) -> Option<u64> {
        self.take(id, QoS::AtLeastOnce)
    }

    /// PUBREC came.
    pub fn received(&mut self, id: PacketId, code: ReasonCode) -> Receipted {
        if self.released.iter().any(|(known, _)| *known == id) {
            return Receipted::Again;
        }
        match self.take(id, QoS::ExactlyOnce) {
            None => Receipted::Unknown,
            Some(seq) if code.is_error() => Receipted::Done(seq),
            Some(seq) => {
                self.released.push((id, seq));
                Receipted::Release(seq)
            }
        }
    }

    /// PUBCOMP came: the sequence number of what is done.
    pub fn complete(&mut self, id: PacketId) -> Option<u64> {
        let index = self.released.iter().position(|(known, _)| *known == id)?;
        Some(self.released.remove(index).1)
    }

    /// Takes a message out of flight that could not be sent.
    pub fn discard(&mut self, id: PacketId) -> Option<u64> {
        self.take(id, QoS::AtLeastOnce).or_else(|| self.take(id, QoS::ExactlyOnce))
    }

    fn take(&mut self, id: PacketId, qos: QoS) -> Option<u64> {
        let same = |queued: &Queued| queued.packet_id == Some(id) && queued.qos == qos;
        // Mostly the first. A client may also answer what an earlier connection brought before it is sent again.
        let queued = match self.inflight.iter().position(same) {
            Some(index) => self.inflight.remove(index)?,
            None => {
                let index = self.queue.iter().take_while(|queued| queued.sent_before).position(same)?;
                self.queue.remove(index)?
            }
        };
        self.bytes -= queued.message.weight();
        Some(queued.seq)
    }

    /// Takes out what waits and is not `wanted` any more; answers the sequence numbers.
    pub fn retain(&mut self, wanted: impl Fn(&Queued) -> bool) -> Vec<u64> {
        let mut gone = Vec::new();
        let bytes = &mut self.bytes;
        self.queue.retain(|queued| {
            let stays = wanted(queued);
            if !stays {
                *bytes -= queued.message.weight();
                gone.push(queued.seq);
            }
            stays
        });
        gone
    }

    /// QoS 1 and 2 messages that the client has not acknowledged for good, sent or not.
    pub fn unacknowledged(&self) -> usize {
        self.queue.len() + self.inflight.len() + self.released.len()
    }

    /// Messages of every QoS that wait or are in flight, and their bytes.
    pub fn held(&self) -> (usize, usize) {
        (self.unacknowledged() + self.best_effort.len(), self.bytes + self.best_effort_bytes)
    }

    /// Nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.best_effort.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Of QoS 1 and 2.
    pub fn seqs(&self) -> impl Iterator<Item = u64> {
        let queued = self.queue.iter().chain(&self.inflight).map(|queued| queued.seq);
        queued.chain(self.released.iter().map(|(_, seq)| *seq))
    }
}

fn deliver(queued: &Queued, now: Timestamp) -> Delivery {
    let expires_in = queued.message.expires.map(|at| at.seconds_since(now).max(0.0).ceil() as u32);
    Delivery {
        seq: queued.seq,
        packet_id: queued.packet_id,
        message: Arc::clone(&queued.message),
        qos: queued.qos,
        retain: queued.retain,
        dup: queued.sent_before,
        subscription_ids: queued.subscription_ids.clone(),
        expires_in,
    }
}

#[cfg(test)]
#[path = "outflow_tests.rs"]
mod tests;
