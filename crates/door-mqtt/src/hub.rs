//! Sessions by client id, connected or kept, and who listens to what.

use crate::{
    config::MqttConfig,
    fan_out::Context,
    kept::{Given, Kept, KeptState, Kick, KickReason, Link},
    retained::Retained,
    store::{Store, Ticket},
    totals::Totals,
};
use kilter_core::{
    Action, Timestamp,
    ports::{clock::Clock, ingest::Client},
};
use kilter_mqtt::{
    PacketId, Version,
    outflow::{Outflow, QueueLimits},
    packet::{Subscription, Will},
    subscriptions::{Grant, SubscriberId, Subscriptions},
    topics::{self, SharedFilter},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

#[derive(Default)]
pub struct Routes {
    pub trie: Subscriptions,
    pub listeners: HashMap<SubscriberId, Arc<Kept>>,
}

/// Locks are taken in this order: sessions, routes, one session's state, the store.
pub struct Hub {
    sessions: Mutex<HashMap<Arc<str>, Arc<Kept>>>,
    pub(crate) routes: RwLock<Routes>,
    /// Kept beside the lock: a broker without subscribers pays nothing for fan-out.
    pub(crate) subscriptions: AtomicUsize,
    next: AtomicU64,
    /// Whose turn it is in groups that share a subscription.
    pub(crate) turn: AtomicUsize,
    pub store: Store,
    pub retained: Retained,
    pub clock: Arc<dyn Clock>,
    pub(crate) queue_limits: QueueLimits,
    pub(crate) totals: Arc<Totals>,
    sessions_max: usize,
}

/// A client that is let in.
pub struct Arrival<'a> {
    pub client_id: &'a str,
    pub client: &'a Client,
    pub version: Version,
    pub peer: SocketAddr,
    pub kick: &'a Arc<Kick>,
    pub clean: bool,
    pub expiry: u32,
    pub receive_max: u16,
    pub will: Option<&'a Will>,
}

/// What a client finds.
pub struct Attachment {
    pub kept: Arc<Kept>,
    pub present: bool,
    pub filters: Vec<String>,
    pub received: Vec<PacketId>,
    /// PUBREL must be sent again for these.
    pub releases: Vec<PacketId>,
    /// CONNACK must not leave before.
    pub ticket: Ticket,
    /// Of the session that was discarded.
    pub will: Option<(Client, Will)>,
}

pub enum Attached {
    In(Box<Attachment>),
    /// Its connection was told to end; try again once it has let go.
    Wait(Arc<Kept>),
    /// As many sessions are kept as may be.
    Full,
}

/// How a connection lets go of its session.
pub struct Departure {
    pub expiry: u32,
    pub will: Option<Will>,
    /// The server stops: the will waits for its next start.
    pub stopping: bool,
}

impl Hub {
    pub fn new(config: &MqttConfig, store: Store, clock: Arc<dyn Clock>) -> Self {
        Self {
            sessions: Mutex::default(),
            routes: RwLock::default(),
            subscriptions: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            turn: AtomicUsize::new(0),
            store,
            retained: Retained::new(config.retained_max, config.retained_bytes_max),
            clock,
            queue_limits: QueueLimits { messages_max: config.queue_messages_max, bytes_max: config.queue_bytes_max },
            totals: Totals::new(QueueLimits {
                messages_max: config.all_queues_messages_max,
                bytes_max: config.all_queues_bytes_max,
            }),
            sessions_max: config.sessions_max,
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Kept>>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Routes) -> T) -> T {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut routes);
        self.subscriptions.store(routes.trie.len(), Ordering::Release);
        outcome
    }

    /// Every session, in the order of the client ids.
    pub fn all(&self) -> Vec<Arc<Kept>> {
        let mut all: Vec<_> = self.sessions().values().cloned().collect();
        all.sort_by(|left, right| left.client_id.cmp(&right.client_id));
        all
    }

    pub fn attach(&self, arrival: &Arrival<'_>) -> Attached {
        let now = self.clock.now();
        let mut sessions = self.sessions();
        let known = sessions.get(arrival.client_id).cloned();
        let (mut ticket, mut will) = (0, None);
        if let Some(kept) = known {
            let state = kept.lock();
            if let Some(link) = &state.link {
                link.kick.kick(KickReason::TakenOver);
                drop(state);
                return Attached::Wait(kept);
            }
            let ended = arrival.clean || state.expires.is_some_and(|at| at <= now) || crosses(&state, arrival.client);
            drop(state);
            if !ended {
                return Attached::In(Box::new(self.resume(kept, arrival, now)));
            }
            (ticket, will) = self.end(&mut sessions, &kept);
        }
        if sessions.len() >= self.sessions_max {
            return Attached::Full;
        }
        let state = KeptState {
            client: arrival.client.clone(),
            version: arrival.version,
            since: now,
            link: Some(Link { peer: arrival.peer, kick: Arc::clone(arrival.kick) }),
            outflow: Outflow::default(),
            received: Default::default(),
            subscriptions: Vec::new(),
            expiry: arrival.expiry,
            expires: None,
            will: arrival.will.filter(|_| arrival.expiry > 0).map(|will| (None, will.clone())),
            stored: arrival.expiry > 0,
            epoch: now.as_nanos(),
            share: self.totals.share(),
        };
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let kept = Arc::new(Kept::new(id, arrival.client_id, state));
        sessions.insert(Arc::clone(&kept.client_id), Arc::clone(&kept));
        let mut state = kept.lock();
        state.outflow.resume(arrival.receive_max);
        ticket = kept.save(&state, &self.store).max(ticket);
        drop(state);
        Attached::In(Box::new(Attachment {
            kept,
            present: false,
            filters: Vec::new(),
            received: Vec::new(),
            releases: Vec::new(),
            ticket,
            will,
        }))
    }

    fn resume(&self, kept: Arc<Kept>, arrival: &Arrival<'_>, now: Timestamp) -> Attachment {
        let mut state = kept.lock();
        state.client = arrival.client.clone();
        state.version = arrival.version;
        state.since = now;
        state.link = Some(Link { peer: arrival.peer, kick: Arc::clone(arrival.kick) });
        state.expiry = arrival.expiry;
        state.expires = None;
        // A will that waited for its delay is not sent: the client is back (MQTT 5 §3.1.3.2.2).
        state.will = arrival.will.map(|will| (None, will.clone()));
        let releases = state.outflow.resume(arrival.receive_max);
        let ticket = kept.save(&state, &self.store);
        let filters = state.subscriptions.iter().map(|(filter, _)| filter.clone()).collect();
        let received = state.received.iter().copied().collect();
        drop(state);
        kept.wake.notify_one();
        Attachment { kept, present: true, filters, received, releases, ticket, will: None }
    }

    /// Takes up a session that was kept on disk.
    pub fn restore(&self, client_id: &str, state: KeptState) -> Arc<Kept> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let subscriptions = state.subscriptions.clone();
        let kept = Arc::new(Kept::new(id, client_id, state));
        self.sessions().insert(Arc::clone(&kept.client_id), Arc::clone(&kept));
        self.change(|routes| {
            for (filter, grant) in &subscriptions {
                routes.trie.add(shared(filter), id, *grant);
            }
            routes.listeners.insert(id, Arc::clone(&kept));
        });
        kept
    }

    /// The connection lets go. Answers the will that is to be sent now.
    pub fn detach(&self, kept: &Arc<Kept>, departure: Departure) -> Option<(Client, Will)> {
        let now = self.clock.now();
        let mut sessions = self.sessions();
        let mut state = kept.lock();
        let client = state.client.clone();
        state.link = None;
        state.expiry = departure.expiry;
        state.outflow.suspend();
        if departure.expiry == 0 {
            state.will = None;
            drop(state);
            self.end(&mut sessions, kept);
            kept.freed.notify_waiters();
            return departure.will.filter(|_| !departure.stopping).map(|will| (client, will));
        }
        state.expires = until(now, departure.expiry);
        let delay = departure.will.as_ref().and_then(|will| will.delay).unwrap_or(0);
        let (later, at_once) = match departure.will {
            Some(will) if departure.stopping => (Some((None, will)), None),
            Some(will) if delay > 0 => (Some((until(now, delay.min(departure.expiry)), will)), None),
            other => (None, other),
        };
        state.will = later;
        kept.save(&state, &self.store);
        drop(state);
        kept.freed.notify_waiters();
        at_once.map(|will| (client, will))
    }

    /// The end of a session. Answers when its rows are gone, and its will where that was not sent yet.
    fn end(&self, sessions: &mut HashMap<Arc<str>, Arc<Kept>>, kept: &Arc<Kept>) -> (Ticket, Option<(Client, Will)>) {
        if sessions.get(&kept.client_id).is_some_and(|known| known.id == kept.id) {
            sessions.remove(&kept.client_id);
        }
        let filters: Vec<String> = kept.lock().subscriptions.iter().map(|(filter, _)| filter.clone()).collect();
        if !filters.is_empty() {
            self.change(|routes| {
                for filter in &filters {
                    routes.trie.remove(shared(filter), kept.id);
                }
                routes.listeners.remove(&kept.id);
            });
        }
        let mut state = kept.lock();
        let will = state.will.take().map(|(_, will)| (state.client.clone(), will));
        state.subscriptions.clear();
        (kept.erase(&mut state, &self.store), will)
    }

    /// Ends what has expired; answers the wills that are due.
    pub fn upkeep(&self) -> Vec<(Client, Will)> {
        let now = self.clock.now();
        let mut due = Vec::new();
        for kept in self.all() {
            let mut state = kept.lock();
            if state.link.is_some() {
                continue;
            }
            if state.expires.is_some_and(|at| at <= now) {
                drop(state);
                let mut sessions = self.sessions();
                // It may have come back meanwhile.
                if kept.lock().link.is_none() {
                    due.extend(self.end(&mut sessions, &kept).1);
                }
                continue;
            }
            if let Some((_, will)) = state.will.take_if(|(at, _)| at.is_some_and(|at| at <= now)) {
                due.push((state.client.clone(), will));
                kept.save(&state, &self.store);
            }
        }
        self.retained.expire(&self.store, now);
        due
    }

    /// Grants a subscription and queues the retained messages that it asks for. Answers when it is durable.
    pub fn subscribe(&self, kept: &Arc<Kept>, asked: &Subscription, grant: Grant, context: &Context<'_>) -> Ticket {
        let shared = shared(&asked.filter);
        let new = self.change(|routes| {
            routes.listeners.entry(kept.id).or_insert_with(|| Arc::clone(kept));
            routes.trie.add(shared, kept.id, grant)
        });
        let mut state = kept.lock();
        match state.subscriptions.iter_mut().find(|(filter, _)| *filter == asked.filter) {
            Some((_, known)) => *known = grant,
            None => state.subscriptions.push((asked.filter.clone(), grant)),
        }
        let mut ticket = kept.save(&state, &self.store);
        let client = state.client.clone();
        drop(state);
        let wants = match asked.retain_handling {
            0 => true,
            1 => new,
            _ => false,
        };
        if !wants || shared.group.is_some() {
            return ticket;
        }
        for found in self.retained.matching(shared.filter, self.clock.now()) {
            let topic = &found.message.topic;
            if context.ingest.authorize(&client, Action::Receive, topic).is_err() {
                context.meters.dropped_not_authorized.increment(1);
                continue;
            }
            let ids = grant.subscription_id.into_iter().collect();
            let qos = found.qos.min(grant.qos);
            if let Given::Queued(queued) = kept.give(&self.store, &found.message, (qos, true), ids, None) {
                ticket = ticket.max(queued);
            }
        }
        ticket
    }

    /// Answers when it is durable.
    pub fn unsubscribe(&self, kept: &Kept, filters: &[String]) -> Ticket {
        self.change(|routes| {
            for filter in filters {
                routes.trie.remove(shared(filter), kept.id);
            }
        });
        let mut state = kept.lock();
        state.subscriptions.retain(|(filter, _)| !filters.contains(filter));
        kept.save(&state, &self.store)
    }
}

/// Granted filters were checked when they were granted.
fn shared(filter: &str) -> SharedFilter<'_> {
    topics::split_share(filter).unwrap_or(SharedFilter { group: None, filter })
}

/// `None`: never.
pub fn until(now: Timestamp, seconds: u32) -> Option<Timestamp> {
    (seconds != u32::MAX).then(|| now.plus_seconds(i64::from(seconds)))
}

/// What one tenant's client has left behind is not for another tenant's of the same name.
fn crosses(state: &KeptState, client: &Client) -> bool {
    let tenant = |client: &Client| client.0.thing.as_ref().map(|(tenant, _)| tenant.clone());
    tenant(&state.client) != tenant(client)
}
