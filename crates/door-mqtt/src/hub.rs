//! Who is connected and who listens to what: fan-out, and one connection per client id.

use crate::{
    meters::Meters,
    refusals::{Kind, Refusals, Subject},
};
use bytes::Bytes;
use kilter_core::{
    Action,
    ports::ingest::{Client, Ingest},
    topics,
};
use kilter_mqtt::{
    QoS,
    session::{Inbound, Outbound},
    subscriptions::{Grant, SubscriberId, Subscriptions},
};
use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::sync::{Notify, mpsc};

/// Messages that wait for one subscriber, beside the 100 that may be in flight to it. More would hide a slow
/// subscriber instead of showing it; at the largest payload this is 12.5 MB.
pub const MAILBOX_MESSAGES_MAX: usize = 100;

/// A message for one subscriber, at the QoS it gets.
#[derive(Debug, Clone)]
pub struct Delivery {
    pub message: Arc<Outbound>,
    pub qos: QoS,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KickReason {
    /// Another connection came with this client id.
    TakenOver,
    /// The mailbox was full when a QoS 1 message came.
    Slow,
}

/// How others end a connection: said once, heard even if nobody listens yet.
#[derive(Debug, Default)]
pub struct Kick {
    reason: OnceLock<KickReason>,
    heard: Notify,
}

impl Kick {
    fn kick(&self, reason: KickReason) {
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

struct Outlet {
    mailbox: mpsc::Sender<Delivery>,
    client: Client,
    peer: SocketAddr,
    kick: Arc<Kick>,
}

#[derive(Default)]
struct Routes {
    trie: Subscriptions,
    outlets: HashMap<SubscriberId, Outlet>,
}

#[derive(Default)]
pub struct Hub {
    clients: Mutex<HashMap<String, (SubscriberId, Arc<Kick>)>>,
    routes: RwLock<Routes>,
    /// Kept beside the lock: a broker without subscribers pays nothing for fan-out.
    subscriptions: AtomicUsize,
    next: AtomicU64,
}

impl Hub {
    /// A client is in; another connection of its client id is out.
    pub fn enter(&self, client_id: &str, kick: &Arc<Kick>) -> SubscriberId {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let old = self.clients().insert(client_id.to_owned(), (id, Arc::clone(kick)));
        if let Some((_, old)) = old {
            old.kick(KickReason::TakenOver);
        }
        id
    }

    pub fn leave(&self, id: SubscriberId, client_id: &str, filters: &[String]) {
        let mut clients = self.clients();
        if clients.get(client_id).is_some_and(|(known, _)| *known == id) {
            clients.remove(client_id);
        }
        drop(clients);
        if !filters.is_empty() {
            self.unsubscribe(id, filters);
        }
        self.change(|routes| routes.outlets.remove(&id));
    }

    /// Where the subscriber's messages go; they come out of the receiver.
    pub fn open_mailbox(
        &self,
        id: SubscriberId,
        client: Client,
        peer: SocketAddr,
        kick: &Arc<Kick>,
    ) -> mpsc::Receiver<Delivery> {
        let (mailbox, receiver) = mpsc::channel(MAILBOX_MESSAGES_MAX);
        let outlet = Outlet { mailbox, client, peer, kick: Arc::clone(kick) };
        self.change(|routes| routes.outlets.insert(id, outlet));
        receiver
    }

    /// The client's identity was looked up anew.
    pub fn renew(&self, id: SubscriberId, client: &Client) {
        self.change(|routes| {
            if let Some(outlet) = routes.outlets.get_mut(&id) {
                outlet.client = client.clone();
            }
        });
    }

    pub fn subscribe(&self, id: SubscriberId, filter: &str, grant: Grant) {
        self.change(|routes| routes.trie.add(filter, id, grant));
    }

    pub fn unsubscribe(&self, id: SubscriberId, filters: &[String]) {
        self.change(|routes| {
            for filter in filters {
                routes.trie.remove(filter, id);
            }
        });
    }

    /// Gives an accepted message to everyone who listens and may. Never waits. `from` is `None` for the server's own.
    pub fn fan_out(
        &self,
        from: Option<SubscriberId>,
        inbound: &Inbound,
        ingest: &dyn Ingest,
        meters: &Meters,
        refusals: &Refusals,
    ) {
        // What goes straight to a rule is not for subscribers.
        if self.subscriptions.load(Ordering::Acquire) == 0 || topics::basic_ingest(&inbound.topic).is_some() {
            return;
        }
        let routes = self.routes.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = Vec::new();
        routes.trie.matching(&inbound.topic, &mut found);
        let mut message = None;
        for (id, grant) in found {
            let Some(outlet) = routes.outlets.get(&id).filter(|_| Some(id) != from || !grant.no_local) else {
                continue;
            };
            if let Err(refusal) = ingest.authorize(&outlet.client, Action::Receive, &inbound.topic) {
                meters.dropped_not_authorized.increment(1);
                let identity = &outlet.client.0;
                let subject = Subject {
                    peer: outlet.peer,
                    client_id: &identity.client_id,
                    certificate: Some(&identity.certificate),
                };
                let reason = format!("{} on {:?}: {refusal}", Action::Receive.name(), inbound.topic);
                refusals.report(Kind::Receive, subject, &reason);
                continue;
            }
            let message = message.get_or_insert_with(|| outbound(inbound));
            outlet.send(Delivery { message: Arc::clone(message), qos: inbound.qos.min(grant.qos) }, meters);
        }
    }

    fn clients(&self) -> MutexGuard<'_, HashMap<String, (SubscriberId, Arc<Kick>)>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Routes) -> T) -> T {
        let mut routes = self.routes.write().unwrap_or_else(PoisonError::into_inner);
        let outcome = change(&mut routes);
        self.subscriptions.store(routes.trie.len(), Ordering::Release);
        outcome
    }
}

impl Outlet {
    fn send(&self, delivery: Delivery, meters: &Meters) {
        let qos = delivery.qos;
        match self.mailbox.try_send(delivery) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(_)) => {
                meters.dropped_queue_full.increment(1);
                // A QoS 1 message may not be left out silently: the subscriber must come again.
                if qos == QoS::AtLeastOnce {
                    self.kick.kick(KickReason::Slow);
                }
            }
        }
    }
}

/// The payload is copied once, so that a waiting message does not hold the publisher's whole read buffer.
fn outbound(inbound: &Inbound) -> Arc<Outbound> {
    Arc::new(Outbound {
        topic: Arc::clone(&inbound.topic),
        payload: Bytes::copy_from_slice(&inbound.payload),
        properties: inbound.properties.clone(),
    })
}
