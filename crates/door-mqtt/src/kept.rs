//! One client's session, connected or not: what outlives a connection, in memory and as records for the store.

use crate::{
    records::{self, QUEUES, QueueRecord, RECEIVED, SESSIONS, SessionRecord, SubscriptionRecord, WillRecord},
    store::{Store, Ticket},
    totals::Share,
};
use kilter_core::{
    Timestamp,
    ports::{deliver::SessionView, ingest::Client, table::Write},
};
use kilter_mqtt::{
    PacketId, QoS, Version,
    outflow::{Full, Outbound, Outflow, QueueLimits},
    packet::Will,
    subscriptions::{Grant, SubscriberId},
};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};
use tokio::sync::Notify;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KickReason {
    /// Another connection came with this client id.
    TakenOver,
    /// There was no room for a QoS 1 or 2 message.
    Full(Bound),
}

/// What is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// The session's own queue.
    Own,
    /// What may wait for all sessions together.
    All,
}

/// How others end a connection: said once, heard even if nobody listens yet.
#[derive(Debug, Default)]
pub struct Kick {
    reason: OnceLock<KickReason>,
    heard: Notify,
}

impl Kick {
    pub fn kick(&self, reason: KickReason) {
        // The first reason counts.
        let _ = self.reason.set(reason);
        self.heard.notify_one();
    }

    pub async fn kicked(&self) -> KickReason {
        loop {
            if let Some(reason) = self.reason.get() {
                return *reason;
            }
            self.heard.notified().await;
        }
    }
}

/// The connection that a session has.
#[derive(Debug, Clone)]
pub struct Link {
    pub peer: SocketAddr,
    pub kick: Arc<Kick>,
}

pub struct Kept {
    pub id: SubscriberId,
    pub client_id: Arc<str>,
    /// The connection has something to do: a message, or something that has become durable.
    pub wake: Arc<Notify>,
    /// The connection has let go of it.
    pub freed: Notify,
    state: Mutex<KeptState>,
}

pub struct KeptState {
    /// Whom the policies are asked about.
    pub client: Client,
    pub version: Version,
    pub since: Timestamp,
    pub link: Option<Link>,
    pub outflow: Outflow,
    /// The client's QoS 2 messages that were taken in and not released.
    pub received: BTreeSet<PacketId>,
    pub subscriptions: Vec<(String, Grant)>,
    pub expiry: u32,
    pub expires: Option<Timestamp>,
    /// With when it is due, where its connection has ended.
    pub will: Option<(Option<Timestamp>, Will)>,
    /// It is on disk.
    pub stored: bool,
    /// See [`SessionRecord::epoch`].
    pub epoch: i64,
    /// Of what waits on the whole server: kept by [`Locked`].
    pub share: Share,
}

/// A session's state, held. What waits for it is counted when it is let go.
pub struct Locked<'a>(MutexGuard<'a, KeptState>);

impl Deref for Locked<'_> {
    type Target = KeptState;

    fn deref(&self) -> &KeptState {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut KeptState {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        let (messages, bytes) = self.0.outflow.held();
        self.0.share.set(messages, bytes);
    }
}

/// What became of a message for a session.
pub enum Given {
    Queued(Ticket),
    /// QoS 0, and nobody is there.
    Skipped,
    Full(Bound),
}

impl Kept {
    pub fn new(id: SubscriberId, client_id: &str, state: KeptState) -> Self {
        let (wake, freed) = (Arc::default(), Notify::new());
        Self { id, client_id: client_id.into(), wake, freed, state: Mutex::new(state) }
    }

    /// Never held across an await, nor while the routes are asked for.
    pub fn lock(&self) -> Locked<'_> {
        Locked(self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Queues a message for the client and wakes its connection. A QoS 2 message of a stored session does not leave
    /// before it is durable: after a crash it must be known under the identifier that the client has seen.
    pub fn give(
        &self,
        store: &Store,
        message: &Arc<Outbound>,
        (qos, retain): (QoS, bool),
        subscription_ids: Vec<u32>,
        limits: Option<QueueLimits>,
    ) -> Given {
        let mut state = self.lock();
        let away = state.link.is_none();
        if qos == QoS::AtMostOnce && away {
            return Given::Skipped;
        }
        if limits.is_some() && !state.share.take(message.weight(), away) {
            return Given::Full(Bound::All);
        }
        let stored = state.stored && qos > QoS::AtMostOnce;
        let hold = if stored && qos == QoS::ExactlyOnce { Ticket::MAX } else { 0 };
        let ids = if stored { subscription_ids.clone() } else { Vec::new() };
        let pushed = state.outflow.push(Arc::clone(message), (qos, retain), subscription_ids, hold, limits);
        let (seq, packet_id) = match pushed {
            Ok(place) => place,
            Err(Full) => return Given::Full(Bound::Own),
        };
        let mut ticket = 0;
        if let Some(packet_id) = packet_id.filter(|_| stored) {
            let record = QueueRecord {
                epoch: state.epoch,
                packet_id,
                qos: qos.level(),
                retain,
                subscription_ids: ids,
                message: Some(records::MessageRecord::of(message)),
            };
            let write = records::put(&QUEUES, &self.client_id, records::seq_key(seq), &record);
            ticket = store.submit([write], Some(&self.wake).filter(|_| hold > 0));
            if hold > 0 {
                state.outflow.hold(seq, ticket);
            }
        }
        drop(state);
        if !away && hold == 0 {
            self.wake.notify_one();
        }
        Given::Queued(ticket)
    }

    /// The client is done with a queued message.
    pub fn forget(&self, state: &KeptState, store: &Store, seq: u64) {
        if state.stored {
            store.submit([Write::delete(&QUEUES, &*self.client_id, records::seq_key(seq))], None);
        }
    }

    /// The client has a QoS 2 message: it will never be sent to it again.
    pub fn released(&self, state: &KeptState, store: &Store, (id, seq): (PacketId, u64)) -> Ticket {
        if !state.stored {
            return 0;
        }
        let record = QueueRecord {
            epoch: state.epoch,
            packet_id: id,
            qos: QoS::ExactlyOnce.level(),
            retain: false,
            subscription_ids: Vec::new(),
            message: None,
        };
        let write = records::put(&QUEUES, &self.client_id, records::seq_key(seq), &record);
        store.submit([write], Some(&self.wake))
    }

    /// Writes the session itself anew; 0 where it is not kept.
    pub fn save(&self, state: &KeptState, store: &Store) -> Ticket {
        if !state.stored {
            return 0;
        }
        let identity = &state.client.0;
        let record = SessionRecord {
            epoch: state.epoch,
            certificate: identity.certificate.clone(),
            thing: identity.thing.clone(),
            source: identity.source.clone(),
            v5: state.version == Version::V5,
            expiry: state.expiry,
            expires: state.expires,
            sent_upto: state.link.is_none().then(|| state.outflow.sent_upto()),
            will: state.will.as_ref().map(|(due, will)| WillRecord::of(*due, will)),
            subscriptions: state.subscriptions.iter().map(|(f, grant)| SubscriptionRecord::of(f, grant)).collect(),
        };
        store.submit([records::put(&SESSIONS, &self.client_id, "", &record)], Some(&self.wake))
    }

    /// Deletes all that is stored of the session; 0 where there is nothing.
    pub fn erase(&self, state: &mut KeptState, store: &Store) -> Ticket {
        if !std::mem::take(&mut state.stored) {
            return 0;
        }
        let pk = &*self.client_id;
        let mut writes = vec![Write::delete(&SESSIONS, pk, "")];
        writes.extend(state.outflow.seqs().map(|seq| Write::delete(&QUEUES, pk, records::seq_key(seq))));
        writes.extend(state.received.iter().map(|id| Write::delete(&RECEIVED, pk, records::id_key(*id))));
        store.submit(writes, None)
    }

    pub fn view(&self) -> SessionView {
        let state = self.lock();
        SessionView {
            client_id: self.client_id.to_string(),
            certificate: Some(state.client.0.certificate.clone()),
            peer: state.link.as_ref().map(|link| link.peer.to_string()),
            version: if state.version == Version::V5 { "5" } else { "3.1.1" }.to_owned(),
            since: state.since,
            expires: state.expires,
            subscriptions: state.subscriptions.iter().map(|(filter, _)| filter.clone()).collect(),
            queued: state.outflow.unacknowledged() as u64,
            queued_bytes: state.outflow.bytes() as u64,
        }
    }
}
