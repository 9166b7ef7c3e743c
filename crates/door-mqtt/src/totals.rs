//! What waits for all clients together: bounded over the whole server, however many sessions there are.

use kilter_mqtt::outflow::QueueLimits;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tenths of the bound that may wait for those who are away: they must not take the room of those who are here.
const AWAY_TENTHS: usize = 9;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waiting {
    messages: usize,
    bytes: usize,
}

#[derive(Debug)]
pub struct Totals {
    limits: QueueLimits,
    waiting: Mutex<Waiting>,
}

impl Totals {
    pub fn new(limits: QueueLimits) -> Arc<Self> {
        Arc::new(Self { limits, waiting: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The share of a session, of which nothing waits yet.
    pub fn share(self: &Arc<Self>) -> Share {
        Share { totals: Arc::clone(self), own: Waiting::default() }
    }
}

/// One session's part of the totals; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    totals: Arc<Totals>,
    own: Waiting,
}

impl Share {
    /// Counts one more message of this weight, if there is room for it.
    pub fn take(&mut self, weight: usize, away: bool) -> bool {
        let QueueLimits { messages_max, bytes_max } = self.totals.limits;
        let bound = |max: usize| if away { max / 10 * AWAY_TENTHS + max % 10 * AWAY_TENTHS / 10 } else { max };
        let mut all = self.totals.lock();
        let room = all.messages < bound(messages_max) && all.bytes.saturating_add(weight) <= bound(bytes_max);
        if room {
            all.messages += 1;
            all.bytes += weight;
            self.own.messages += 1;
            self.own.bytes += weight;
        }
        room
    }

    /// This much waits for the session now.
    pub fn set(&mut self, messages: usize, bytes: usize) {
        let now = Waiting { messages, bytes };
        if now == self.own {
            return;
        }
        let mut all = self.totals.lock();
        all.messages = all.messages - self.own.messages + messages;
        all.bytes = all.bytes - self.own.bytes + bytes;
        self.own = now;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_sessions_together_have_a_bound_and_who_is_away_has_nine_tenths_of_it() {
        let totals = Totals::new(QueueLimits { messages_max: 10, bytes_max: 1_000 });
        let (mut one, mut other) = (totals.share(), totals.share());
        assert!((0..5).all(|_| one.take(1, true)) && (0..4).all(|_| other.take(1, true)));
        assert!(!other.take(1, true), "the tenth is for who is here");
        assert!(other.take(1, false));
        assert!(!one.take(1, false), "one past");
        one.set(0, 0);
        assert!(!one.take(995 - 94, true), "900 bytes for who is away, 5 of them taken");
        assert!(one.take(900 - 5, true));
        assert!(!other.take(101, false));
        assert!(other.take(100, false));
        drop(one);
        drop(other);
        assert_eq!(*totals.lock(), Waiting::default());
    }
}
