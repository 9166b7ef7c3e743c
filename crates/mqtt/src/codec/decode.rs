//! Bytes to packets: MQTT 3.1.1 §2 and §3, MQTT 5 §2 and §3.

use super::{
    DecodeError, FILTERS_PER_PACKET_MAX,
    property::{self, Allowed, Property, Value},
    wire::{Reader, check_text, variable},
};
use crate::{
    ReasonCode,
    packet::{
        Ack, Codes, ConnAck, Connect, Disconnect, MessageProperties, Packet, PacketId, Publish, QoS, Subscribe,
        Subscription, Unsubscribe, Version, Will,
    },
};
use bytes::{Buf, BytesMut};
use std::{num::NonZeroU16, sync::Arc};

/// A fixed header is at most one byte and a length of four.
const FIXED_HEADER_BYTES_MAX: usize = 5;

/// Cuts packets out of a stream of bytes. Payloads share the buffer's memory; topics are interned one deep,
/// because a device mostly publishes on one topic.
#[derive(Debug)]
pub struct Decoder {
    version: Option<Version>,
    packet_bytes_max: usize,
    last_topic: Arc<str>,
}

impl Decoder {
    /// The server's end: takes nothing but CONNECT first, which says the version.
    pub fn server(packet_bytes_max: usize) -> Self {
        Self { version: None, packet_bytes_max, last_topic: "".into() }
    }

    pub fn with_version(version: Version, packet_bytes_max: usize) -> Self {
        Self { version: Some(version), packet_bytes_max, last_topic: "".into() }
    }

    /// Takes the first packet out of `buffer`; `None` while it is incomplete. A packet that announces more
    /// than the limit is refused from its header, before its bytes arrive. Nothing is allocated ahead.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Option<Packet>, DecodeError> {
        let Some(&first) = buffer.first() else { return Ok(None) };
        if self.version.is_none() && first != 0x10 {
            return Err(DecodeError::Protocol("the first packet is not CONNECT"));
        }
        let length_end = buffer.len().min(FIXED_HEADER_BYTES_MAX);
        let Some((remaining, length_len)) = variable(&buffer[1..length_end])? else { return Ok(None) };
        let header = 1 + length_len;
        let total = header + remaining as usize;
        if total > self.packet_bytes_max {
            return Err(DecodeError::TooLarge { bytes: total, bytes_max: self.packet_bytes_max });
        }
        if buffer.len() < total {
            return Ok(None);
        }
        let mut packet = buffer.split_to(total).freeze();
        packet.advance(header);
        self.packet(first, Reader(packet)).map(Some)
    }

    fn packet(&mut self, first: u8, body: Reader) -> Result<Packet, DecodeError> {
        let (kind, flags) = (first >> 4, first & 0x0f);
        let flags_expected = if matches!(kind, 6 | 8 | 10) { 2 } else { 0 };
        if kind != 3 && flags != flags_expected {
            return Err(DecodeError::Malformed("reserved bits of the fixed header are set"));
        }
        if kind == 1 {
            let connect = connect(body)?;
            self.version = Some(connect.version);
            return Ok(Packet::Connect(Box::new(connect)));
        }
        let v5 = self.version == Some(Version::V5);
        match kind {
            2 => Ok(Packet::ConnAck(Box::new(conn_ack(body, v5)?))),
            3 => self.publish(flags, body, v5).map(Packet::Publish),
            4 => ack(body, v5).map(Packet::PubAck),
            5 => ack(body, v5).map(Packet::PubRec),
            6 => ack(body, v5).map(Packet::PubRel),
            7 => ack(body, v5).map(Packet::PubComp),
            8 => subscribe(body, v5).map(Packet::Subscribe),
            9 => sub_ack(body, v5).map(Packet::SubAck),
            10 => unsubscribe(body, v5).map(Packet::Unsubscribe),
            11 => codes(body, v5, v5).map(Packet::UnsubAck),
            12 => body.end().map(|()| Packet::PingReq),
            13 => body.end().map(|()| Packet::PingResp),
            14 => disconnect(body, v5).map(Packet::Disconnect),
            15 if v5 => auth(body).map(Packet::Auth),
            _ => Err(DecodeError::Malformed("the packet type is reserved")),
        }
    }

    fn publish(&mut self, flags: u8, mut body: Reader, v5: bool) -> Result<Publish, DecodeError> {
        let qos = QoS::from_level(flags >> 1 & 3).ok_or(DecodeError::Malformed("QoS 3 does not exist"))?;
        let dup = flags & 8 != 0;
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::Malformed("DUP is set on a message of QoS 0"));
        }
        let topic = self.topic(&body.binary()?)?;
        let packet_id = if qos == QoS::AtMostOnce { None } else { Some(packet_id(&mut body)?) };
        let (mut topic_alias, mut properties, mut subscription_ids) = (None, None, Vec::new());
        if v5 {
            property::read(&mut body, property::PUBLISH, |id, value| match id {
                Property::TopicAlias => topic_alias = NonZeroU16::new(value.number() as u16),
                Property::SubscriptionId => subscription_ids.push(value.number()),
                _ => take_message(&mut properties, id, value),
            })?;
        }
        if topic.is_empty() && topic_alias.is_none() {
            return Err(DecodeError::Protocol("a message has no topic"));
        }
        let payload = body.rest();
        let retain = flags & 1 != 0;
        Ok(Publish { topic, payload, qos, packet_id, dup, retain, topic_alias, subscription_ids, properties })
    }

    fn topic(&mut self, bytes: &[u8]) -> Result<Arc<str>, DecodeError> {
        if bytes != self.last_topic.as_bytes() {
            self.last_topic = check_text(bytes)?.into();
        }
        Ok(Arc::clone(&self.last_topic))
    }
}

fn take_message(properties: &mut Option<Box<MessageProperties>>, id: Property, value: Value) {
    let taken = property::take_message_property(properties, id, value);
    debug_assert!(taken.is_ok(), "{id:?} is in no message");
}

fn packet_id(body: &mut Reader) -> Result<PacketId, DecodeError> {
    PacketId::new(body.u16()?).ok_or(DecodeError::Malformed("a packet identifier is 0"))
}

fn connect(mut body: Reader) -> Result<Connect, DecodeError> {
    if body.binary()? != b"MQTT"[..] {
        return Err(DecodeError::Malformed("CONNECT does not say MQTT"));
    }
    let version = match body.u8()? {
        4 => Version::V311,
        5 => Version::V5,
        other => return Err(DecodeError::UnsupportedVersion(other)),
    };
    let flags = body.u8()?;
    let (will_flag, will_qos, will_retain) = (flags & 4 != 0, flags >> 3 & 3, flags & 0x20 != 0);
    if flags & 1 != 0 {
        return Err(DecodeError::Malformed("the reserved CONNECT flag is set"));
    }
    if !will_flag && (will_qos != 0 || will_retain) {
        return Err(DecodeError::Malformed("CONNECT has flags of a will but no will"));
    }
    let (has_user, has_password) = (flags & 0x80 != 0, flags & 0x40 != 0);
    if version == Version::V311 && has_password && !has_user {
        return Err(DecodeError::Malformed("CONNECT has a password but no user name"));
    }
    let mut connect = Connect { clean: flags & 2 != 0, ..Connect::new(version, "", body.u16()?) };
    if version == Version::V5 {
        connect_properties(&mut body, &mut connect)?;
    }
    connect.client_id = body.text()?;
    if will_flag {
        let qos = QoS::from_level(will_qos).ok_or(DecodeError::Malformed("QoS 3 does not exist"))?;
        connect.will = Some(will(&mut body, version, qos, will_retain)?);
    }
    connect.user_name = has_user.then(|| body.text()).transpose()?;
    connect.password = has_password.then(|| body.binary()).transpose()?;
    body.end()?;
    Ok(connect)
}

fn connect_properties(body: &mut Reader, connect: &mut Connect) -> Result<(), DecodeError> {
    const ALLOWED: Allowed = Allowed::these(&[
        Property::SessionExpiry,
        Property::ReceiveMax,
        Property::PacketBytesMax,
        Property::TopicAliasMax,
        Property::RequestResponseInformation,
        Property::RequestProblemInformation,
        Property::User,
        Property::AuthMethod,
        Property::AuthData,
    ]);
    let mut auth_data = false;
    property::read(body, ALLOWED, |id, value| match id {
        Property::SessionExpiry => connect.session_expiry = Some(value.number()),
        Property::ReceiveMax => connect.receive_max = NonZeroU16::new(value.number() as u16),
        Property::PacketBytesMax => connect.packet_bytes_max = Some(value.number()),
        Property::TopicAliasMax => connect.topic_alias_max = Some(value.number() as u16),
        Property::RequestResponseInformation => connect.response_information = value.number() == 1,
        Property::RequestProblemInformation => connect.problem_information = value.number() == 1,
        Property::AuthMethod => connect.auth_method = value.text(),
        Property::AuthData => auth_data = true,
        _ => {}
    })?;
    if auth_data && connect.auth_method.is_none() {
        return Err(DecodeError::Protocol("CONNECT has authentication data but no method"));
    }
    Ok(())
}

fn will(body: &mut Reader, version: Version, qos: QoS, retain: bool) -> Result<Will, DecodeError> {
    let (mut delay, mut properties) = (None, None);
    if version == Version::V5 {
        property::read(body, property::WILL, |id, value| match id {
            Property::WillDelay => delay = Some(value.number()),
            _ => take_message(&mut properties, id, value),
        })?;
    }
    let topic = check_text(&body.binary()?)?.into();
    Ok(Will { topic, payload: body.binary()?, qos, retain, delay, properties })
}

fn conn_ack(mut body: Reader, v5: bool) -> Result<ConnAck, DecodeError> {
    const ALLOWED: Allowed = Allowed::these(&[
        Property::SessionExpiry,
        Property::ReceiveMax,
        Property::QosMax,
        Property::RetainAvailable,
        Property::PacketBytesMax,
        Property::AssignedClientId,
        Property::TopicAliasMax,
        Property::ReasonString,
        Property::User,
        Property::WildcardsAvailable,
        Property::SubscriptionIdsAvailable,
        Property::SharedAvailable,
        Property::ServerKeepAlive,
        Property::ResponseInformation,
        Property::ServerReference,
        Property::AuthMethod,
        Property::AuthData,
    ]);
    let flags = body.u8()?;
    if flags & 0xfe != 0 {
        return Err(DecodeError::Malformed("reserved CONNACK flags are set"));
    }
    let code = body.u8()?;
    let mut ack = ConnAck { session_present: flags == 1, ..ConnAck::default() };
    if !v5 {
        ack.code = match code {
            0 => ReasonCode::SUCCESS,
            1 => ReasonCode::UNSUPPORTED_PROTOCOL_VERSION,
            2 => ReasonCode::CLIENT_IDENTIFIER_NOT_VALID,
            3 => ReasonCode::SERVER_UNAVAILABLE,
            4 => ReasonCode::BAD_USER_NAME_OR_PASSWORD,
            5 => ReasonCode::NOT_AUTHORIZED,
            _ => return Err(DecodeError::Malformed("the CONNACK return code is reserved")),
        };
        body.end()?;
        return Ok(ack);
    }
    ack.code = ReasonCode(code);
    property::read(&mut body, ALLOWED, |id, value| match id {
        Property::SessionExpiry => ack.session_expiry = Some(value.number()),
        Property::ReceiveMax => ack.receive_max = NonZeroU16::new(value.number() as u16),
        Property::QosMax => ack.qos_max = Some(value.number() as u8),
        Property::RetainAvailable => ack.retain_available = Some(value.number() == 1),
        Property::PacketBytesMax => ack.packet_bytes_max = Some(value.number()),
        Property::AssignedClientId => ack.assigned_client_id = value.text(),
        Property::TopicAliasMax => ack.topic_alias_max = Some(value.number() as u16),
        Property::ReasonString => ack.reason_string = value.text(),
        Property::WildcardsAvailable => ack.wildcards_available = Some(value.number() == 1),
        Property::SubscriptionIdsAvailable => ack.subscription_ids_available = Some(value.number() == 1),
        Property::SharedAvailable => ack.shared_available = Some(value.number() == 1),
        Property::ServerKeepAlive => ack.server_keep_alive = Some(value.number() as u16),
        Property::ResponseInformation => ack.response_information = value.text(),
        _ => {}
    })?;
    body.end()?;
    Ok(ack)
}

const ACK: Allowed = Allowed::these(&[Property::ReasonString, Property::User]);

fn ack(mut body: Reader, v5: bool) -> Result<Ack, DecodeError> {
    let mut ack = Ack::new(packet_id(&mut body)?, ReasonCode::SUCCESS);
    if v5 && !body.is_empty() {
        ack.code = ReasonCode(body.u8()?);
        if !body.is_empty() {
            property::read(&mut body, ACK, reason_into(&mut ack.reason_string))?;
        }
    }
    body.end()?;
    Ok(ack)
}

/// Takes the reason string; user properties of acknowledgements are checked and dropped.
fn reason_into(reason: &mut Option<String>) -> impl FnMut(Property, Value) {
    |id, value| {
        if id == Property::ReasonString {
            *reason = value.text();
        }
    }
}

/// Checked whole, so that it can be refused by name: nobody authenticates this way here.
fn auth(mut body: Reader) -> Result<ReasonCode, DecodeError> {
    const ALLOWED: Allowed =
        Allowed::these(&[Property::AuthMethod, Property::AuthData, Property::ReasonString, Property::User]);
    let mut code = ReasonCode::SUCCESS;
    if !body.is_empty() {
        code = ReasonCode(body.u8()?);
        if !body.is_empty() {
            property::read(&mut body, ALLOWED, |_, _| {})?;
        }
    }
    body.end()?;
    Ok(code)
}

fn subscribe(mut body: Reader, v5: bool) -> Result<Subscribe, DecodeError> {
    const ALLOWED: Allowed = Allowed::these(&[Property::SubscriptionId, Property::User]);
    let mut subscribe = Subscribe { packet_id: packet_id(&mut body)?, subscription_id: None, filters: Vec::new() };
    if v5 {
        let mut ids = 0;
        property::read(&mut body, ALLOWED, |id, value| {
            if id == Property::SubscriptionId {
                ids += 1;
                subscribe.subscription_id = Some(value.number());
            }
        })?;
        if ids > 1 {
            return Err(DecodeError::Protocol("SUBSCRIBE has several subscription identifiers"));
        }
    }
    while !body.is_empty() {
        check_filter_count(subscribe.filters.len())?;
        let filter = body.text()?;
        let options = body.u8()?;
        let reserved = if v5 { 0xc0 } else { 0xfc };
        let retain_handling = options >> 4 & 3;
        if options & reserved != 0 || retain_handling == 3 {
            return Err(DecodeError::Malformed("reserved bits of subscription options are set"));
        }
        let qos = QoS::from_level(options & 3).ok_or(DecodeError::Malformed("QoS 3 does not exist"))?;
        subscribe.filters.push(Subscription {
            filter,
            qos,
            no_local: options & 4 != 0,
            retain_as_published: options & 8 != 0,
            retain_handling,
        });
    }
    if subscribe.filters.is_empty() {
        return Err(DecodeError::Protocol("SUBSCRIBE has no topic filter"));
    }
    Ok(subscribe)
}

fn check_filter_count(count: usize) -> Result<(), DecodeError> {
    if count < FILTERS_PER_PACKET_MAX {
        return Ok(());
    }
    Err(DecodeError::TooMany { what: "topic filters", count_max: FILTERS_PER_PACKET_MAX })
}

fn unsubscribe(mut body: Reader, v5: bool) -> Result<Unsubscribe, DecodeError> {
    const ALLOWED: Allowed = Allowed::these(&[Property::User]);
    let mut unsubscribe = Unsubscribe { packet_id: packet_id(&mut body)?, filters: Vec::new() };
    if v5 {
        property::read(&mut body, ALLOWED, |_, _| {})?;
    }
    while !body.is_empty() {
        check_filter_count(unsubscribe.filters.len())?;
        unsubscribe.filters.push(body.text()?);
    }
    if unsubscribe.filters.is_empty() {
        return Err(DecodeError::Protocol("UNSUBSCRIBE has no topic filter"));
    }
    Ok(unsubscribe)
}

fn sub_ack(body: Reader, v5: bool) -> Result<Codes, DecodeError> {
    let answer = codes(body, v5, true)?;
    if !v5 && answer.codes.iter().any(|code| !matches!(code.0, 0..=2 | 0x80)) {
        return Err(DecodeError::Malformed("a SUBACK return code is reserved"));
    }
    Ok(answer)
}

fn codes(mut body: Reader, v5: bool, expected: bool) -> Result<Codes, DecodeError> {
    let packet_id = packet_id(&mut body)?;
    let mut reason_string = None;
    if v5 {
        property::read(&mut body, ACK, reason_into(&mut reason_string))?;
    }
    let codes: Vec<ReasonCode> = body.rest().iter().copied().map(ReasonCode).collect();
    if codes.is_empty() == expected {
        return Err(DecodeError::Malformed("the number of result codes is wrong"));
    }
    Ok(Codes { packet_id, codes, reason_string })
}

fn disconnect(mut body: Reader, v5: bool) -> Result<Disconnect, DecodeError> {
    const ALLOWED: Allowed =
        Allowed::these(&[Property::SessionExpiry, Property::ReasonString, Property::User, Property::ServerReference]);
    let mut disconnect = Disconnect::default();
    if v5 && !body.is_empty() {
        disconnect.code = ReasonCode(body.u8()?);
        if !body.is_empty() {
            property::read(&mut body, ALLOWED, |id, value| match id {
                Property::SessionExpiry => disconnect.session_expiry = Some(value.number()),
                Property::ReasonString => disconnect.reason_string = value.text(),
                _ => {}
            })?;
        }
    }
    body.end()?;
    Ok(disconnect)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    fn one(bytes: &'static [u8], version: Option<Version>) -> Result<Option<Packet>, DecodeError> {
        let mut decoder = Decoder { version, packet_bytes_max: 1000, last_topic: "".into() };
        decoder.decode(&mut BytesMut::from(bytes))
    }

    #[test]
    fn decodes_the_connect_of_a_real_client() {
        let bytes = b"\x10\x1a\0\x04MQTT\x04\xc2\0\x3c\0\x03abc\0\x04user\0\x03pwd";
        let Some(Packet::Connect(connect)) = one(bytes, None).unwrap() else { panic!("not CONNECT") };
        assert_eq!((connect.client_id.as_str(), connect.keep_alive, connect.clean), ("abc", 60, true));
        assert_eq!(connect.user_name.as_deref(), Some("user"));
        assert_eq!(connect.password, Some(Bytes::from_static(b"pwd")));
    }

    #[test]
    fn refuses_what_the_specification_forbids() {
        let v3 = Some(Version::V311);
        let v5 = Some(Version::V5);
        for (bytes, version, why) in [
            (&b"\xc0\0"[..], None, "anything before CONNECT"),
            (b"\x10\x0c\0\x04MQTT\x06\x02\0\x3c\0\0", None, "version 6"),
            (b"\x10\x0c\0\x04MQTX\x04\x02\0\x3c\0\0", None, "another protocol"),
            (b"\x10\x0c\0\x04MQTT\x04\x03\0\x3c\0\0", None, "the reserved flag"),
            (b"\x10\x0c\0\x04MQTT\x04\x22\0\x3c\0\0", None, "will retain without a will"),
            (b"\x10\x0d\0\x04MQTT\x04\x02\0\x3c\0\0x", None, "bytes left over"),
            (b"\x36\x05\0\x01a\0\x01", v3, "QoS 3"),
            (b"\x38\x03\0\x01a", v3, "DUP with QoS 0"),
            (b"\x30\x02\0\0", v3, "an empty topic"),
            (b"\x32\x05\0\x01a\0\0", v3, "packet id 0"),
            (b"\x30\x04\0\x02a\0", v3, "a NUL in a topic"),
            (b"\x30\x04\0\x05ab", v3, "a topic beyond the end"),
            (b"\x80\x06\0\x01\0\x01a\0", v3, "reserved flags of SUBSCRIBE"),
            (b"\x82\x02\0\x01", v3, "SUBSCRIBE without a filter"),
            (b"\x82\x06\0\x01\0\x01a\x04", v3, "options of MQTT 5 in 3.1.1"),
            (b"\x82\x07\0\x01\0\0\x01a\x30", v5, "retain handling 3"),
            (b"\xa2\x02\0\x01", v3, "UNSUBSCRIBE without a filter"),
            (b"\xc0\x01x", v3, "PINGREQ with a body"),
            (b"\xe0\x01\0", v3, "DISCONNECT of 3.1.1 with a code"),
            (b"\xf0\x00", v3, "AUTH in 3.1.1"),
            (b"\x00\x00", v3, "packet type 0"),
            (b"\x40\x80\x80\x80\x80\x01", v3, "a length of five bytes"),
            (b"\x30\x09\0\x01a\x05\x01\x01\x01\x01x", v5, "a property twice"),
            (b"\x30\x07\0\x01a\x02\x24\x01x", v5, "a property of another packet"),
            (b"\x30\x07\0\x01a\x02\x7f\x01x", v5, "an unknown property"),
            (b"\x30\x07\0\x01a\x02\x01\x02x", v5, "payload format 2"),
        ] {
            assert!(one(bytes, version).is_err(), "{why} was taken");
        }
    }

    #[test]
    fn a_large_packet_is_refused_from_its_header() {
        let error = one(b"\x30\xe8\x07", Some(Version::V311)).unwrap_err();
        assert_eq!(error, DecodeError::TooLarge { bytes: 1003, bytes_max: 1000 });
        assert_eq!(error.reason(), ReasonCode::PACKET_TOO_LARGE);
    }

    #[test]
    fn topics_are_interned_and_payloads_shared() {
        let mut decoder = Decoder::with_version(Version::V311, 100);
        let mut buffer = BytesMut::from(&b"\x30\x04\0\x01ax\x30\x04\0\x01ay"[..]);
        let address = buffer.as_ptr() as usize;
        let mut publish = || match decoder.decode(&mut buffer) {
            Ok(Some(Packet::Publish(publish))) => publish,
            other => panic!("{other:?}"),
        };
        let (a, b) = (publish(), publish());
        assert!(Arc::ptr_eq(&a.topic, &b.topic));
        assert_eq!(a.payload.as_ptr() as usize, address + 5);
        assert_eq!((&a.payload[..], &b.payload[..]), (&b"x"[..], &b"y"[..]));
    }

    #[test]
    fn filters_and_user_properties_are_counted() {
        let mut body = b"\0\x01\0".to_vec();
        body.extend(b"\0\x01a\0".repeat(FILTERS_PER_PACKET_MAX + 1));
        assert!(matches!(subscribe(Reader(Bytes::from(body)), true), Err(DecodeError::TooMany { .. })));
    }
}
