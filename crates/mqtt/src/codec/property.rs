//! Properties of MQTT 5 (§2.2.2.2): which there are, how each is written, and where each may appear.

use super::{
    DecodeError, USER_PROPERTIES_MAX,
    wire::{Reader, put_binary, put_text, put_variable},
};
use crate::packet::MessageProperties;
use bytes::{BufMut, Bytes, BytesMut};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Property {
    PayloadFormat = 0x01,
    MessageExpiry = 0x02,
    ContentType = 0x03,
    ResponseTopic = 0x08,
    CorrelationData = 0x09,
    SubscriptionId = 0x0b,
    SessionExpiry = 0x11,
    AssignedClientId = 0x12,
    ServerKeepAlive = 0x13,
    AuthMethod = 0x15,
    AuthData = 0x16,
    RequestProblemInformation = 0x17,
    WillDelay = 0x18,
    RequestResponseInformation = 0x19,
    ResponseInformation = 0x1a,
    ServerReference = 0x1c,
    ReasonString = 0x1f,
    ReceiveMax = 0x21,
    TopicAliasMax = 0x22,
    TopicAlias = 0x23,
    QosMax = 0x24,
    RetainAvailable = 0x25,
    User = 0x26,
    PacketBytesMax = 0x27,
    WildcardsAvailable = 0x28,
    SubscriptionIdsAvailable = 0x29,
    SharedAvailable = 0x2a,
}

const ALL: [Property; 27] = [
    Property::PayloadFormat,
    Property::MessageExpiry,
    Property::ContentType,
    Property::ResponseTopic,
    Property::CorrelationData,
    Property::SubscriptionId,
    Property::SessionExpiry,
    Property::AssignedClientId,
    Property::ServerKeepAlive,
    Property::AuthMethod,
    Property::AuthData,
    Property::RequestProblemInformation,
    Property::WillDelay,
    Property::RequestResponseInformation,
    Property::ResponseInformation,
    Property::ServerReference,
    Property::ReasonString,
    Property::ReceiveMax,
    Property::TopicAliasMax,
    Property::TopicAlias,
    Property::QosMax,
    Property::RetainAvailable,
    Property::User,
    Property::PacketBytesMax,
    Property::WildcardsAvailable,
    Property::SubscriptionIdsAvailable,
    Property::SharedAvailable,
];

/// A set of ids, one bit each (the highest id is 0x2a).
#[derive(Clone, Copy)]
pub struct Allowed(u64);

impl Allowed {
    pub const fn these(ids: &[Property]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < ids.len() {
            bits |= 1 << ids[i] as u8;
            i += 1;
        }
        Self(bits)
    }

    const fn has(self, id: Property) -> bool {
        self.0 & (1 << id as u8) != 0
    }
}

/// Of PUBLISH. [`WILL`] has these but alias and subscription id, and the delay besides.
pub const PUBLISH: Allowed = Allowed::these(&[
    Property::PayloadFormat,
    Property::MessageExpiry,
    Property::ContentType,
    Property::ResponseTopic,
    Property::CorrelationData,
    Property::User,
    Property::TopicAlias,
    Property::SubscriptionId,
]);
pub const WILL: Allowed = Allowed::these(&[
    Property::PayloadFormat,
    Property::MessageExpiry,
    Property::ContentType,
    Property::ResponseTopic,
    Property::CorrelationData,
    Property::User,
    Property::WillDelay,
]);

/// A property's value, as its id says it is written.
#[derive(Debug)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Variable(u32),
    Text(String),
    Binary(Bytes),
    Pair(String, String),
}

impl Value {
    fn read(id: Property, reader: &mut Reader) -> Result<Self, DecodeError> {
        Ok(match id {
            Property::PayloadFormat
            | Property::RequestProblemInformation
            | Property::RequestResponseInformation
            | Property::QosMax
            | Property::RetainAvailable
            | Property::WildcardsAvailable
            | Property::SubscriptionIdsAvailable
            | Property::SharedAvailable => match reader.u8()? {
                value @ (0 | 1) => Self::Byte(value),
                _ => return Err(DecodeError::Protocol("a yes-or-no property is neither 0 nor 1")),
            },
            Property::ServerKeepAlive | Property::TopicAliasMax => Self::Two(reader.u16()?),
            Property::ReceiveMax | Property::TopicAlias => match reader.u16()? {
                0 => return Err(DecodeError::Protocol("a receive maximum or topic alias is 0")),
                value => Self::Two(value),
            },
            Property::MessageExpiry | Property::SessionExpiry | Property::WillDelay => Self::Four(reader.u32()?),
            Property::PacketBytesMax => match reader.u32()? {
                0 => return Err(DecodeError::Protocol("the maximum packet size is 0")),
                value => Self::Four(value),
            },
            Property::SubscriptionId => match reader.variable()? {
                0 => return Err(DecodeError::Protocol("a subscription identifier is 0")),
                value => Self::Variable(value),
            },
            Property::ContentType
            | Property::ResponseTopic
            | Property::AssignedClientId
            | Property::AuthMethod
            | Property::ResponseInformation
            | Property::ServerReference
            | Property::ReasonString => Self::Text(reader.text()?),
            Property::CorrelationData | Property::AuthData => Self::Binary(reader.binary()?),
            Property::User => Self::Pair(reader.text()?, reader.text()?),
        })
    }

    /// 0 where the id's value is not a number; [`read`] pairs ids and values.
    pub fn number(&self) -> u32 {
        match self {
            Self::Byte(value) => u32::from(*value),
            Self::Two(value) => u32::from(*value),
            Self::Four(value) | Self::Variable(value) => *value,
            Self::Text(_) | Self::Binary(_) | Self::Pair(..) => 0,
        }
    }

    pub fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// Reads a property block and gives each property to `each`, in order.
pub fn read(reader: &mut Reader, allowed: Allowed, mut each: impl FnMut(Property, Value)) -> Result<(), DecodeError> {
    let length = reader.variable()? as usize;
    if length == 0 {
        return Ok(());
    }
    let mut block = Reader(reader.take(length)?);
    let mut seen = 0u64;
    let mut users = 0;
    while !block.is_empty() {
        let number = block.u8()?;
        let id = ALL
            .into_iter()
            .find(|id| *id as u8 == number)
            .ok_or(DecodeError::Malformed("a property has an unknown identifier"))?;
        if !allowed.has(id) {
            return Err(DecodeError::Protocol("a property does not belong into this packet"));
        }
        match id {
            Property::User => users += 1,
            // A message to a subscriber has one per matching subscription.
            Property::SubscriptionId => {}
            _ if seen & (1 << number) != 0 => return Err(DecodeError::Protocol("a property appears twice")),
            _ => seen |= 1 << number,
        }
        if users > USER_PROPERTIES_MAX {
            return Err(DecodeError::TooMany { what: "user properties", count_max: USER_PROPERTIES_MAX });
        }
        let value = Value::read(id, &mut block)?;
        each(id, value);
    }
    Ok(())
}

/// Takes one property of a message in; `false` when it is not of that kind.
pub fn take_message_property(
    properties: &mut Option<Box<MessageProperties>>,
    id: Property,
    value: Value,
) -> Result<(), Value> {
    let message = properties.get_or_insert_with(Box::default);
    match (id, value) {
        (Property::PayloadFormat, Value::Byte(value)) => message.payload_format = Some(value),
        (Property::MessageExpiry, Value::Four(value)) => message.expiry = Some(value),
        (Property::ContentType, Value::Text(value)) => message.content_type = Some(value),
        (Property::ResponseTopic, Value::Text(value)) => message.response_topic = Some(value),
        (Property::CorrelationData, Value::Binary(value)) => message.correlation_data = Some(value),
        (Property::User, Value::Pair(name, value)) => message.user.push((name, value)),
        (_, value) => return Err(value),
    }
    Ok(())
}

/// Collects a property block; its length goes in front when it is complete.
#[derive(Default)]
pub struct Block(BytesMut);

impl Block {
    pub fn byte(&mut self, id: Property, value: Option<u8>) {
        if let Some(value) = value {
            self.0.put_u8(id as u8);
            self.0.put_u8(value);
        }
    }

    pub fn flag(&mut self, id: Property, value: Option<bool>) {
        self.byte(id, value.map(u8::from));
    }

    pub fn two(&mut self, id: Property, value: Option<u16>) {
        if let Some(value) = value {
            self.0.put_u8(id as u8);
            self.0.put_u16(value);
        }
    }

    pub fn four(&mut self, id: Property, value: Option<u32>) {
        if let Some(value) = value {
            self.0.put_u8(id as u8);
            self.0.put_u32(value);
        }
    }

    pub fn variable(&mut self, id: Property, value: Option<u32>) {
        if let Some(value) = value {
            self.0.put_u8(id as u8);
            put_variable(&mut self.0, value);
        }
    }

    pub fn text(&mut self, id: Property, value: Option<&str>) {
        if let Some(value) = value {
            self.0.put_u8(id as u8);
            put_text(&mut self.0, value);
        }
    }

    pub fn message(&mut self, properties: &MessageProperties) {
        self.byte(Property::PayloadFormat, properties.payload_format);
        self.four(Property::MessageExpiry, properties.expiry);
        self.text(Property::ContentType, properties.content_type.as_deref());
        self.text(Property::ResponseTopic, properties.response_topic.as_deref());
        if let Some(data) = &properties.correlation_data {
            self.0.put_u8(Property::CorrelationData as u8);
            put_binary(&mut self.0, data);
        }
        for (name, value) in &properties.user {
            self.0.put_u8(Property::User as u8);
            put_text(&mut self.0, name);
            put_text(&mut self.0, value);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn write(&self, out: &mut BytesMut) {
        put_variable(out, self.0.len() as u32);
        out.put_slice(&self.0);
    }
}
