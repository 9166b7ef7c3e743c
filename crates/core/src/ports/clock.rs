//! The only source of time.

use crate::Timestamp;

/// Wall-clock time. Not monotonic: a caller that measures spans must bear a step in either direction.
pub trait Clock: Send + Sync {
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let now = chrono::Utc::now();
        Timestamp::from_nanos(now.timestamp_nanos_opt().unwrap_or(i64::MAX))
    }
}
