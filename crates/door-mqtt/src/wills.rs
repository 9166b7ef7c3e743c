//! Wills (MQTT 5 §3.1.2.5): published like any message of the client, asked of the policies as they are then.

use crate::{
    connection::Shared,
    fan_out::Context,
    refusals::{Kind, Subject},
};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::{
    Action,
    ports::{
        ingest::{Client, InboundMessage},
        stream::StreamError,
    },
};
use kilter_mqtt::{packet::Will, session::Inbound};
use std::{net::SocketAddr, sync::Arc};

/// Publishes it; the future resolves once it is durable, `None` where it was refused.
pub fn send(
    shared: &Shared,
    client: &Client,
    will: Will,
    peer: SocketAddr,
) -> Option<BoxFuture<'static, Result<(), StreamError>>> {
    let subject = Subject { peer, client_id: &client.0.client_id, certificate: Some(&client.0.certificate) };
    let refused = |action: Action, why: &dyn std::fmt::Display| {
        let reason = format!("will, {} on {:?}: {why}", action.name(), will.topic);
        shared.refusals.report(Kind::Will, subject, &reason);
    };
    if will.retain
        && let Err(refusal) = shared.ingest.authorize(client, Action::RetainPublish, &will.topic)
    {
        refused(Action::RetainPublish, &refusal);
        return None;
    }
    let properties = will.properties.map(Arc::from);
    let message = InboundMessage {
        topic: Arc::clone(&will.topic),
        payload: will.payload.clone(),
        retain: will.retain,
        properties: Option::clone(&properties),
        arrival: None,
    };
    let accepted = shared.ingest.publish(client, vec![message]);
    if let Some(refusal) = accepted.refusal {
        refused(Action::Publish, &refusal);
        return None;
    }
    shared.meters.received.increment(1);
    let retain = will.retain && shared.hub.retained.has_room(&will.topic, will.payload.len());
    let inbound = Inbound {
        topic: will.topic,
        payload: will.payload,
        qos: will.qos,
        retain,
        properties,
        packet_id: None,
        receipt: None,
    };
    let context = Context { ingest: &*shared.ingest, meters: &shared.meters, refusals: &shared.refusals };
    let ticket = shared.hub.fan_out(None, &inbound, &context);
    let kept = shared.hub.store.wait(ticket);
    Some(async move { futures::try_join!(accepted.durable, kept).map(drop) }.boxed())
}
