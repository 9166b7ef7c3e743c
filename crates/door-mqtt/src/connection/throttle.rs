//! How fast a connection, and a tenant's connections together, may publish, and how much of a tenant may wait for the
//! disk: who is faster is read more slowly.

use crate::config::MqttConfig;
use kilter_core::TenantId;
use kilter_mqtt::rate::Rate;
use metrics::{Counter, counter};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// After this long it is asked again whether the disk has caught up with a tenant.
const DISK_PAUSE: Duration = Duration::from_millis(5);

/// One for each tenant, made when its first device connects.
#[derive(Default)]
pub struct Tenants(Mutex<HashMap<TenantId, Arc<TenantShare>>>);

/// What a tenant's connections use together.
pub struct TenantShare {
    rate: Option<Mutex<Rate>>,
    waiting_bytes_max: usize,
    /// Of payloads that are not on disk yet.
    pub waiting_bytes: AtomicUsize,
    too_fast: Counter,
    too_much: Counter,
}

impl Tenants {
    pub fn share(&self, tenant: &TenantId, config: &MqttConfig) -> Arc<TenantShare> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(all.entry(tenant.clone()).or_insert_with(|| Arc::new(TenantShare::new(tenant, config))))
    }
}

impl TenantShare {
    fn new(tenant: &TenantId, config: &MqttConfig) -> Self {
        let slowed = |bound: &'static str| counter!("kilter_mqtt_slowed_total", "bound" => bound, "tenant" => tenant.to_string());
        Self {
            rate: Rate::per_second(config.tenant_rate_max).map(Mutex::new),
            waiting_bytes_max: config.tenant_waiting_bytes_max,
            waiting_bytes: AtomicUsize::new(0),
            too_fast: slowed("tenant_rate_max"),
            too_much: slowed("tenant_waiting_bytes_max"),
        }
    }
}

pub struct Throttle {
    own: Option<Rate>,
    tenant: Option<Arc<TenantShare>>,
    /// Messages that the tenant's rate was charged for already, to be taken from `turn` on.
    granted: u32,
    turn: Duration,
}

impl Throttle {
    pub fn new(config: &MqttConfig) -> Self {
        let own = Rate::per_second(config.connection_rate_max);
        Self { own, tenant: None, granted: 0, turn: Duration::ZERO }
    }

    /// The client's tenant is known.
    pub fn belongs_to(&mut self, tenant: Arc<TenantShare>) {
        self.tenant = Some(tenant);
    }

    pub fn took_one(&mut self, now: Duration, slowed: &Counter) {
        if let Some(own) = &mut self.own {
            own.take(1, now);
            if own.free_at() > now {
                slowed.increment(1);
            }
        }
        if self.granted > 0 {
            self.granted -= 1;
        } else if let Some(rate) = self.tenant.as_ref().and_then(|tenant| tenant.rate.as_ref()) {
            rate.lock().unwrap_or_else(PoisonError::into_inner).take(1, now);
        }
    }

    /// When the next message, which is there, may be taken, where that is not yet. Who has to wait for the others of
    /// the tenant waits in line: a device that floods does not starve its neighbours.
    pub fn until(&mut self, now: Duration) -> Option<Duration> {
        let mut until = self.own.as_ref().map(Rate::free_at);
        if let Some(tenant) = &self.tenant {
            if let Some(rate) = tenant.rate.as_ref().filter(|_| self.granted == 0) {
                let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
                if rate.free_at() > now {
                    (self.granted, self.turn) = rate.queue(now);
                    tenant.too_fast.increment(1);
                }
            }
            if tenant.waiting_bytes.load(Ordering::Relaxed) >= tenant.waiting_bytes_max {
                tenant.too_much.increment(1);
                until = until.max(Some(now + DISK_PAUSE));
            }
        }
        until.max((self.granted > 0).then_some(self.turn)).filter(|at| *at > now)
    }
}
