//! An accepted message to everyone who listens and may.

use crate::{
    hub::{Hub, Routes, until},
    kept::{Bound, Given, Kept, KickReason},
    meters::Meters,
    refusals::{Kind, Refusals, Subject},
    store::Ticket,
};
use bytes::Bytes;
use kilter_core::{Action, ports::ingest::Ingest};
use kilter_mqtt::{
    QoS,
    outflow::Outbound,
    session::Inbound,
    subscriptions::{Match, SubscriberId},
    topics,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, PoisonError, atomic::Ordering},
};

/// Whom fan-out asks and tells.
pub struct Context<'a> {
    pub ingest: &'a dyn Ingest,
    pub meters: &'a Meters,
    pub refusals: &'a Refusals,
}

/// Of a session that is not connected.
const NOWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

impl Hub {
    /// Keeps the message where it is to be retained, and gives it to everyone who listens and may. Never waits.
    /// Answers the ticket from which on it is durable for sessions that outlive the server. `from` is `None` for the
    /// server's own messages.
    pub fn fan_out(&self, from: Option<SubscriberId>, inbound: &Inbound, context: &Context<'_>) -> Ticket {
        let mut message = None;
        let mut ticket = 0;
        if inbound.retain {
            let message = message.get_or_insert_with(|| self.outbound(inbound));
            ticket = self.retained.set(&self.store, message, inbound.qos);
        }
        if self.subscriptions.load(Ordering::Acquire) == 0 || topics::basic_ingest(&inbound.topic).is_some() {
            return ticket;
        }
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let (mut found, mut groups) = (Vec::new(), Vec::new());
        routes.trie.matching(&inbound.topic, &mut found, &mut groups);
        let mut targets: Vec<(Arc<Kept>, Match)> = Vec::with_capacity(found.len() + groups.len());
        for one in found {
            if Some(one.subscriber) == from && one.no_local {
                continue;
            }
            if let Some(kept) = routes.listeners.get(&one.subscriber)
                && may_receive(kept, &inbound.topic, context)
            {
                targets.push((Arc::clone(kept), one));
            }
        }
        targets.extend(groups.into_iter().filter_map(|group| self.choose(&routes, group, inbound, context)));
        drop(routes);
        for (kept, one) in targets {
            let message = message.get_or_insert_with(|| self.outbound(inbound));
            let qos = inbound.qos.min(one.qos);
            let retain = inbound.retain && one.retain_as_published;
            let limits = Some(self.queue_limits);
            match kept.give(&self.store, message, (qos, retain), one.subscription_ids, limits) {
                Given::Queued(queued) => ticket = ticket.max(queued),
                Given::Skipped => {}
                Given::Full(bound) => overflow(&kept, bound, (qos, &inbound.topic), context),
            }
        }
        ticket
    }

    /// One member of a group: in turn among those who are connected and may, then among those who are not.
    fn choose(
        &self,
        routes: &Routes,
        group: Vec<Match>,
        inbound: &Inbound,
        context: &Context<'_>,
    ) -> Option<(Arc<Kept>, Match)> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let weight = inbound.payload.len() + inbound.topic.len() + kilter_mqtt::outflow::MESSAGE_OVERHEAD_BYTES;
        for connected in [true, false] {
            for place in 0..group.len() {
                let one = &group[(turn + place) % group.len()];
                let Some(kept) = routes.listeners.get(&one.subscriber) else { continue };
                let state = kept.lock();
                let fits = state.outflow.has_room(weight, self.queue_limits);
                let suits = state.link.is_some() == connected && (connected || inbound.qos > QoS::AtMostOnce) && fits;
                drop(state);
                if suits && may_receive(kept, &inbound.topic, context) {
                    return Some((Arc::clone(kept), one.clone()));
                }
            }
        }
        context.meters.dropped_queue_full.increment(1);
        None
    }

    /// The payload is copied once, so that a waiting message does not hold the publisher's whole read buffer.
    fn outbound(&self, inbound: &Inbound) -> Arc<Outbound> {
        let expiry = inbound.properties.as_ref().and_then(|properties| properties.expiry);
        Arc::new(Outbound {
            topic: Arc::clone(&inbound.topic),
            payload: Bytes::copy_from_slice(&inbound.payload),
            properties: inbound.properties.clone(),
            expires: expiry.and_then(|seconds| until(self.clock.now(), seconds)),
        })
    }
}

fn may_receive(kept: &Kept, topic: &str, context: &Context<'_>) -> bool {
    let state = kept.lock();
    let (client, peer) = (state.client.clone(), state.link.as_ref().map_or(NOWHERE, |link| link.peer));
    drop(state);
    let Err(refusal) = context.ingest.authorize(&client, Action::Receive, topic) else { return true };
    context.meters.dropped_not_authorized.increment(1);
    let subject = Subject { peer, client_id: &client.0.client_id, certificate: Some(&client.0.certificate) };
    let reason = format!("{} on {topic:?}: {refusal}", Action::Receive.name());
    context.refusals.report(Kind::Receive, subject, &reason);
    false
}

/// There is no room: QoS 0 is left out and counted. A QoS 1 or 2 message may not be left out silently: the log says
/// so, and a subscriber that is connected must come again.
fn overflow(kept: &Kept, bound: Bound, (qos, topic): (QoS, &str), context: &Context<'_>) {
    context.meters.dropped_queue_full.increment(1);
    if qos == QoS::AtMostOnce {
        return;
    }
    let state = kept.lock();
    if let Some(link) = &state.link {
        return link.kick.kick(KickReason::Full(bound));
    }
    let client = state.client.clone();
    drop(state);
    let subject = Subject { peer: NOWHERE, client_id: &client.0.client_id, certificate: Some(&client.0.certificate) };
    let why = match bound {
        Bound::Own => "its queue is full while it is away",
        Bound::All => "as much waits for all clients as may (all_queues_messages_max, all_queues_bytes_max)",
    };
    let reason = format!("{why}: messages on {topic:?} are not kept for it");
    context.refusals.report(Kind::Slow, subject, &reason);
}
