//! Delivers alerts: takes them from the outbox, where the scorer's commit put them, to every destination that wants
//! them, again and again until each has them. A destination that fails is left alone for a while, so that it holds
//! up nothing but itself.

use crate::record::{ALERTS, OUTBOX, alert_key, json};
use kilter_core::{
    Alert, Delivery, Timestamp,
    ports::{
        clock::Clock,
        notify::{Notify, NotifyError},
        table::{SkRange, Table, TableError, Write},
    },
};
use std::{collections::HashMap, sync::Arc, time::Duration};

/// Alerts looked at in one round.
const ROUND_ALERTS: usize = 100;
/// Waits between attempts double from the first to the last.
const BACKOFF_SECONDS: (i64, i64) = (1, 300);
/// After this long a destination that never answered is given up, and the alert says so.
const GIVE_UP_SECONDS: f64 = 7.0 * 86_400.0;
const POLL: Duration = Duration::from_secs(1);

pub struct Notifier {
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    pub destinations: Vec<Arc<dyn Notify>>,
    /// Rung by the scorer.
    pub wake: Arc<tokio::sync::Notify>,
}

/// When a destination that failed may be tried again, and how often it failed in a row.
struct Attempts {
    count: u32,
    next: Timestamp,
}

impl Notifier {
    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut attempts = HashMap::new();
        loop {
            if let Err(error) = self.round(&mut attempts).await {
                tracing::error!(%error, "the outbox could not be read or written");
            }
            let _ = tokio::time::timeout(POLL, self.wake.notified()).await;
        }
    }

    async fn round(&self, attempts: &mut HashMap<String, Attempts>) -> Result<(), TableError> {
        let table = self.table.clone();
        let waiting = blocking(move || table.range(OUTBOX, "alert", SkRange::ALL, ROUND_ALERTS)).await?;
        for item in waiting {
            let Ok(mut alert) = serde_json::from_slice::<Alert>(&item.value) else {
                tracing::error!(key = %item.sk, "an alert in the outbox cannot be read and is dropped");
                self.settle(None, item.sk).await?;
                continue;
            };
            let before = alert.deliveries.clone();
            let mut waits = false;
            for destination in self.destinations.iter().filter(|d| d.wants(&alert)).cloned().collect::<Vec<_>>() {
                waits |= !self.deliver(&*destination, &mut alert, attempts).await;
            }
            if !waits {
                self.settle(Some(&alert), item.sk).await?;
            } else if alert.deliveries != before {
                self.keep(&alert).await?;
            }
        }
        Ok(())
    }

    /// Answers whether the destination has the alert, or never will.
    async fn deliver(
        &self,
        destination: &dyn Notify,
        alert: &mut Alert,
        attempts: &mut HashMap<String, Attempts>,
    ) -> bool {
        let name = destination.name().to_owned();
        if alert.deliveries.iter().any(|d| d.to == name) {
            return true;
        }
        let now = self.clock.now();
        let tried = attempts.entry(name.clone()).or_insert(Attempts { count: 0, next: now });
        if now < tried.next {
            return false;
        }
        tried.count += 1;
        let error = destination.publish(alert).await.err();
        let result = if error.is_none() { "ok" } else { "error" };
        metrics::counter!("kilter_alert_deliveries_total", "destination" => name.clone(), "result" => result)
            .increment(1);
        if let Some(NotifyError { retryable: true, message }) = &error {
            let wait = BACKOFF_SECONDS.0.saturating_mul(1 << tried.count.min(16)).min(BACKOFF_SECONDS.1);
            if now.seconds_since(alert.raised) < GIVE_UP_SECONDS {
                tracing::warn!(alert = %alert.key, to = %name, attempt = tried.count, retry_seconds = wait, %message, "alert not delivered");
                tried.next = now.plus_seconds(wait);
                return false;
            }
        }
        if let Some(error) = &error {
            tracing::error!(alert = %alert.key, to = %name, %error, "alert given up");
        }
        let tries = tried.count;
        attempts.remove(&name);
        alert.deliveries.push(Delivery { to: name, at: now, attempts: tries, error: error.map(|e| e.message) });
        true
    }

    /// Writes what has been delivered so far.
    async fn keep(&self, alert: &Alert) -> Result<(), TableError> {
        let (sk, value) = (alert_key(alert), json(alert));
        self.commit(vec![
            Write::put(&OUTBOX.into(), "alert", sk.clone(), value.clone()),
            Write::put(&alert.episode.tenant.table().into(), ALERTS, sk, value),
        ])
        .await
    }

    /// Takes the alert out of the outbox.
    async fn settle(&self, alert: Option<&Alert>, sk: String) -> Result<(), TableError> {
        let mut writes = vec![Write::delete(&OUTBOX.into(), "alert", sk.clone())];
        if let Some(alert) = alert {
            writes.push(Write::put(&alert.episode.tenant.table().into(), ALERTS, sk, json(alert)));
        }
        self.commit(writes).await
    }

    async fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let table = self.table.clone();
        blocking(move || table.commit(writes)).await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(panicked) => std::panic::resume_unwind(panicked.into_panic()),
    }
}
