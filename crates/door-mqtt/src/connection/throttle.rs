//! How fast a connection, and a tenant's connections together, may publish: who is faster is read more slowly.

use crate::config::MqttConfig;
use kilter_core::TenantId;
use kilter_mqtt::rate::Rate;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The tenants' rates, one each; made when a tenant's first device connects.
#[derive(Default)]
pub struct TenantRates(Mutex<HashMap<TenantId, Arc<Mutex<Rate>>>>);

impl TenantRates {
    fn of(&self, tenant: &TenantId, messages: u32) -> Option<Arc<Mutex<Rate>>> {
        let rate = Rate::per_second(messages)?;
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(all.entry(tenant.clone()).or_insert_with(|| Arc::new(Mutex::new(rate)))))
    }
}

pub struct Throttle {
    own: Option<Rate>,
    tenant: Option<Arc<Mutex<Rate>>>,
}

impl Throttle {
    pub fn new(config: &MqttConfig) -> Self {
        Self { own: Rate::per_second(config.connection_rate_max), tenant: None }
    }

    /// The client's tenant is known.
    pub fn belongs_to(&mut self, tenant: Option<&TenantId>, rates: &TenantRates, config: &MqttConfig) {
        self.tenant = tenant.and_then(|tenant| rates.of(tenant, config.tenant_rate_max));
    }

    pub fn took_one(&mut self, now: Duration) {
        if let Some(own) = &mut self.own {
            own.take(1, now);
        }
        if let Some(tenant) = &self.tenant {
            tenant.lock().unwrap_or_else(PoisonError::into_inner).take(1, now);
        }
    }

    /// When the next message may be taken, where that is not yet.
    pub fn until(&self, now: Duration) -> Option<Duration> {
        let own = self.own.as_ref().map(Rate::free_at);
        let tenant = self.tenant.as_ref().map(|rate| rate.lock().unwrap_or_else(PoisonError::into_inner).free_at());
        own.max(tenant).filter(|at| *at > now)
    }
}
