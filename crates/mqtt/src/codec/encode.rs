//! Packets to bytes.

use super::{
    property::{Block, Property},
    wire::{put_binary, put_text, put_variable, variable_len},
};
use crate::{
    ReasonCode,
    packet::{Ack, Codes, ConnAck, Connect, Disconnect, Packet, Publish, Subscribe, Unsubscribe, Version},
};
use bytes::{BufMut, BytesMut};

/// Appends the packet to `out`. The packet must be below [`super::VARIABLE_MAX`] bytes and its strings below
/// [`super::TEXT_BYTES_MAX`]: sessions see to that by far lower limits.
pub fn encode(packet: &Packet, version: Version, out: &mut BytesMut) {
    let v5 = version == Version::V5;
    match packet {
        Packet::Connect(connect) => framed(0x10, out, |body| connect_body(connect, body)),
        Packet::ConnAck(ack) => framed(0x20, out, |body| conn_ack_body(ack, v5, body)),
        Packet::Publish(message) => publish(message, version, out),
        Packet::PubAck(ack) => acknowledge(0x40, ack, v5, out),
        Packet::PubRec(ack) => acknowledge(0x50, ack, v5, out),
        Packet::PubRel(ack) => acknowledge(0x62, ack, v5, out),
        Packet::PubComp(ack) => acknowledge(0x70, ack, v5, out),
        Packet::Subscribe(request) => framed(0x82, out, |body| subscribe_body(request, v5, body)),
        Packet::SubAck(answer) => framed(0x90, out, |body| codes_body(answer, v5, true, body)),
        Packet::Unsubscribe(request) => framed(0xa2, out, |body| unsubscribe_body(request, v5, body)),
        Packet::UnsubAck(answer) => framed(0xb0, out, |body| codes_body(answer, v5, false, body)),
        Packet::PingReq => out.put_slice(&[0xc0, 0]),
        Packet::PingResp => out.put_slice(&[0xd0, 0]),
        Packet::Disconnect(farewell) => disconnect(farewell, v5, out),
        Packet::Auth(code) => out.put_slice(&[0xf0, 2, code.0, 0]),
    }
}

/// Bytes of the PUBLISH packet: what a receiver's maximum packet size is compared with.
pub fn publish_len(message: &Publish, version: Version) -> usize {
    let body = publish_body_len(message, publish_block(message, version).as_ref());
    1 + variable_len(body) + body
}

/// `None` in 3.1.1, which has no property block at all.
fn publish_block(message: &Publish, version: Version) -> Option<Block> {
    (version == Version::V5).then(|| {
        let mut block = Block::default();
        block.two(Property::TopicAlias, message.topic_alias.map(u16::from));
        for id in &message.subscription_ids {
            block.variable(Property::SubscriptionId, Some(*id));
        }
        if let Some(properties) = &message.properties {
            block.message(properties);
        }
        block
    })
}

fn publish_body_len(message: &Publish, block: Option<&Block>) -> usize {
    let id = if message.packet_id.is_some() { 2 } else { 0 };
    let properties = block.map_or(0, |block| variable_len(block.len()) + block.len());
    2 + message.topic.len() + id + properties + message.payload.len()
}

/// The hot path: written straight into `out`, since all its lengths are known.
fn publish(message: &Publish, version: Version, out: &mut BytesMut) {
    let block = publish_block(message, version);
    let body = publish_body_len(message, block.as_ref());
    out.reserve(5 + body);
    out.put_u8(0x30 | u8::from(message.dup) << 3 | message.qos.level() << 1 | u8::from(message.retain));
    put_variable(out, body as u32);
    put_text(out, &message.topic);
    if let Some(id) = message.packet_id {
        out.put_u16(id.get());
    }
    if let Some(block) = block {
        block.write(out);
    }
    out.put_slice(&message.payload);
}

fn acknowledge(first: u8, ack: &Ack, v5: bool, out: &mut BytesMut) {
    if let Some(reason) = ack.reason_string.as_deref().filter(|_| v5) {
        return framed(first, out, |body| {
            body.put_u16(ack.packet_id.get());
            body.put_u8(ack.code.0);
            let mut block = Block::default();
            block.text(Property::ReasonString, Some(reason));
            block.write(body);
        });
    }
    let with_code = v5 && ack.code != ReasonCode::SUCCESS;
    out.put_u8(first);
    out.put_u8(if with_code { 3 } else { 2 });
    out.put_u16(ack.packet_id.get());
    if with_code {
        out.put_u8(ack.code.0);
    }
}

fn framed(first: u8, out: &mut BytesMut, fill: impl FnOnce(&mut BytesMut)) {
    let mut body = BytesMut::new();
    fill(&mut body);
    out.reserve(5 + body.len());
    out.put_u8(first);
    put_variable(out, body.len() as u32);
    out.put_slice(&body);
}

fn connect_body(connect: &Connect, body: &mut BytesMut) {
    let v5 = connect.version == Version::V5;
    put_text(body, "MQTT");
    body.put_u8(if v5 { 5 } else { 4 });
    let mut flags = u8::from(connect.clean) << 1;
    if let Some(will) = &connect.will {
        flags |= 4 | will.qos.level() << 3 | u8::from(will.retain) << 5;
    }
    flags |= u8::from(connect.password.is_some()) << 6 | u8::from(connect.user_name.is_some()) << 7;
    body.put_u8(flags);
    body.put_u16(connect.keep_alive);
    if v5 {
        let mut block = Block::default();
        block.four(Property::SessionExpiry, connect.session_expiry);
        block.two(Property::ReceiveMax, connect.receive_max.map(u16::from));
        block.four(Property::PacketBytesMax, connect.packet_bytes_max);
        block.two(Property::TopicAliasMax, connect.topic_alias_max);
        block.text(Property::AuthMethod, connect.auth_method.as_deref());
        if connect.response_information {
            block.byte(Property::RequestResponseInformation, Some(1));
        }
        if !connect.problem_information {
            block.byte(Property::RequestProblemInformation, Some(0));
        }
        block.write(body);
    }
    put_text(body, &connect.client_id);
    if let Some(will) = &connect.will {
        if v5 {
            let mut block = Block::default();
            block.four(Property::WillDelay, will.delay);
            if let Some(properties) = &will.properties {
                block.message(properties);
            }
            block.write(body);
        }
        put_text(body, &will.topic);
        put_binary(body, &will.payload);
    }
    if let Some(user_name) = &connect.user_name {
        put_text(body, user_name);
    }
    if let Some(password) = &connect.password {
        put_binary(body, password);
    }
}

fn conn_ack_body(ack: &ConnAck, v5: bool, body: &mut BytesMut) {
    body.put_u8(u8::from(ack.session_present));
    if !v5 {
        body.put_u8(return_code(ack.code));
        return;
    }
    body.put_u8(ack.code.0);
    let mut block = Block::default();
    block.four(Property::SessionExpiry, ack.session_expiry);
    block.two(Property::ReceiveMax, ack.receive_max.map(u16::from));
    block.byte(Property::QosMax, ack.qos_max);
    block.flag(Property::RetainAvailable, ack.retain_available);
    block.four(Property::PacketBytesMax, ack.packet_bytes_max);
    block.text(Property::AssignedClientId, ack.assigned_client_id.as_deref());
    block.two(Property::TopicAliasMax, ack.topic_alias_max);
    block.text(Property::ReasonString, ack.reason_string.as_deref());
    block.flag(Property::WildcardsAvailable, ack.wildcards_available);
    block.flag(Property::SubscriptionIdsAvailable, ack.subscription_ids_available);
    block.flag(Property::SharedAvailable, ack.shared_available);
    block.two(Property::ServerKeepAlive, ack.server_keep_alive);
    block.text(Property::ResponseInformation, ack.response_information.as_deref());
    block.write(body);
}

/// CONNACK of 3.1.1 knows six codes (§3.2.2.3).
fn return_code(code: ReasonCode) -> u8 {
    match code {
        ReasonCode::SUCCESS => 0,
        ReasonCode::UNSUPPORTED_PROTOCOL_VERSION => 1,
        ReasonCode::CLIENT_IDENTIFIER_NOT_VALID => 2,
        ReasonCode::BAD_USER_NAME_OR_PASSWORD => 4,
        ReasonCode::NOT_AUTHORIZED | ReasonCode::BANNED => 5,
        _ => 3,
    }
}

fn subscribe_body(request: &Subscribe, v5: bool, body: &mut BytesMut) {
    body.put_u16(request.packet_id.get());
    if v5 {
        let mut block = Block::default();
        block.variable(Property::SubscriptionId, request.subscription_id);
        block.write(body);
    }
    for subscription in &request.filters {
        put_text(body, &subscription.filter);
        let mut options = subscription.qos.level();
        if v5 {
            options |= u8::from(subscription.no_local) << 2
                | u8::from(subscription.retain_as_published) << 3
                | subscription.retain_handling << 4;
        }
        body.put_u8(options);
    }
}

fn codes_body(answer: &Codes, v5: bool, subscribed: bool, body: &mut BytesMut) {
    body.put_u16(answer.packet_id.get());
    if v5 {
        let mut block = Block::default();
        block.text(Property::ReasonString, answer.reason_string.as_deref());
        block.write(body);
    }
    if v5 || subscribed {
        body.extend(answer.codes.iter().map(|code| if v5 || !code.is_error() { code.0 } else { 0x80 }));
    }
}

fn unsubscribe_body(request: &Unsubscribe, v5: bool, body: &mut BytesMut) {
    body.put_u16(request.packet_id.get());
    if v5 {
        Block::default().write(body);
    }
    for filter in &request.filters {
        put_text(body, filter);
    }
}

fn disconnect(farewell: &Disconnect, v5: bool, out: &mut BytesMut) {
    let mut block = Block::default();
    block.four(Property::SessionExpiry, farewell.session_expiry);
    block.text(Property::ReasonString, farewell.reason_string.as_deref());
    if !v5 || (block.is_empty() && farewell.code == ReasonCode::SUCCESS) {
        out.put_slice(&[0xe0, 0]);
        return;
    }
    framed(0xe0, out, |body| {
        body.put_u8(farewell.code.0);
        block.write(body);
    });
}
