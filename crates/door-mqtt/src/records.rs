//! How sessions, their messages and retained messages are written: four tables, each value a version byte and postcard.

use kilter_core::{
    CertificateId, MessageProperties, Offset, ShardId, StreamName, TenantId, ThingName, Timestamp, ports::table::Write,
};
use kilter_mqtt::{
    PacketId, QoS,
    outflow::{Outbound, Queued},
    packet::Will,
    subscriptions::Grant,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::sync::{Arc, LazyLock};

/// By client id, `sk` empty.
pub static SESSIONS: LazyLock<Arc<str>> = LazyLock::new(|| "mqtt_sessions".into());
/// By client id and sequence number.
pub static QUEUES: LazyLock<Arc<str>> = LazyLock::new(|| "mqtt_queues".into());
/// By client id and packet identifier.
pub static RECEIVED: LazyLock<Arc<str>> = LazyLock::new(|| "mqtt_received".into());
/// By topic, `sk` empty.
pub static RETAINED: LazyLock<Arc<str>> = LazyLock::new(|| "mqtt_retained".into());

/// First byte of every value.
const FORMAT: u8 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SessionRecord {
    /// Tells this session's rows from those of an earlier one of the same client id.
    pub epoch: i64,
    pub certificate: CertificateId,
    pub thing: Option<(TenantId, ThingName)>,
    pub source: String,
    pub v5: bool,
    /// Seconds; `u32::MAX` is for ever.
    pub expiry: u32,
    /// `None` while it is connected, and for a session without an end.
    pub expires: Option<Timestamp>,
    /// What may have reached the client; `None` while it is connected.
    pub sent_upto: Option<u64>,
    pub will: Option<WillRecord>,
    pub subscriptions: Vec<SubscriptionRecord>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SubscriptionRecord {
    pub filter: String,
    pub qos: u8,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub subscription_id: Option<u32>,
}

impl SubscriptionRecord {
    pub fn of(filter: &str, grant: &Grant) -> Self {
        Self {
            filter: filter.to_owned(),
            qos: grant.qos.level(),
            no_local: grant.no_local,
            retain_as_published: grant.retain_as_published,
            subscription_id: grant.subscription_id,
        }
    }

    pub fn grant(&self) -> Grant {
        Grant {
            qos: qos(self.qos),
            no_local: self.no_local,
            retain_as_published: self.retain_as_published,
            subscription_id: self.subscription_id,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WillRecord {
    /// `None`: the connection it belongs to had not ended.
    pub due: Option<Timestamp>,
    pub delay: u32,
    pub qos: u8,
    pub retain: bool,
    pub message: MessageRecord,
}

impl WillRecord {
    pub fn of(due: Option<Timestamp>, will: &Will) -> Self {
        let message = MessageRecord {
            topic: will.topic.to_string(),
            payload: will.payload.to_vec(),
            properties: will.properties.as_deref().cloned(),
            expires: None,
        };
        Self { due, delay: will.delay.unwrap_or(0), qos: will.qos.level(), retain: will.retain, message }
    }

    pub fn will(self) -> Will {
        Will {
            topic: self.message.topic.into(),
            payload: self.message.payload.into(),
            qos: qos(self.qos),
            retain: self.retain,
            delay: Some(self.delay),
            properties: self.message.properties.map(Box::new),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MessageRecord {
    pub topic: String,
    pub payload: Vec<u8>,
    pub properties: Option<MessageProperties>,
    pub expires: Option<Timestamp>,
}

impl MessageRecord {
    pub fn of(message: &Outbound) -> Self {
        Self {
            topic: message.topic.to_string(),
            payload: message.payload.to_vec(),
            properties: message.properties.as_deref().cloned(),
            expires: message.expires,
        }
    }

    pub fn outbound(self) -> Arc<Outbound> {
        Arc::new(Outbound {
            topic: self.topic.into(),
            payload: self.payload.into(),
            properties: self.properties.map(Arc::new),
            expires: self.expires,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QueueRecord {
    pub epoch: i64,
    pub packet_id: PacketId,
    pub qos: u8,
    pub retain: bool,
    pub subscription_ids: Vec<u32>,
    /// `None` once the client has the message (PUBREC) and only its identifier is to be let go.
    pub message: Option<MessageRecord>,
}

impl QueueRecord {
    pub fn queued(self, seq: u64, sent_upto: Option<u64>) -> (Queued, bool) {
        let released = self.message.is_none();
        let empty =
            || Arc::new(Outbound { topic: "".into(), payload: Default::default(), properties: None, expires: None });
        let queued = Queued {
            seq,
            packet_id: Some(self.packet_id),
            message: self.message.map_or_else(empty, MessageRecord::outbound),
            qos: qos(self.qos),
            retain: self.retain,
            subscription_ids: self.subscription_ids,
            hold: 0,
            sent_before: sent_upto.is_none_or(|upto| seq <= upto),
        };
        (queued, released)
    }
}

/// A QoS 2 message of the client that it has not released.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceivedRecord {
    pub epoch: i64,
    /// `None` once the message has been handed on to streams and subscribers.
    pub intent: Option<Intent>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    pub message: MessageRecord,
    pub retain: bool,
    pub arrival: Timestamp,
    /// Where its records would be, at the earliest.
    pub since: Vec<(StreamName, ShardId, Offset)>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RetainedRecord {
    pub qos: u8,
    pub message: MessageRecord,
}

fn qos(level: u8) -> QoS {
    QoS::from_level(level).unwrap_or(QoS::AtLeastOnce)
}

/// Sorts as text as it sorts as a number.
pub fn seq_key(seq: u64) -> String {
    format!("{seq:016x}")
}

pub fn id_key(id: PacketId) -> String {
    format!("{id:04x}")
}

pub fn put(table: &Arc<str>, pk: &str, sk: impl Into<String>, value: &impl Serialize) -> Write {
    let bytes = postcard::to_extend(value, vec![FORMAT]).expect("records hold nothing that postcard cannot write");
    Write::put(table, pk, sk, bytes)
}

pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (format, rest) = bytes.split_first()?;
    (*format == FORMAT).then(|| postcard::from_bytes(rest).ok()).flatten()
}
