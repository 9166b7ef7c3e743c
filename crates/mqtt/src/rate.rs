//! A bound on messages per second that slows down instead of refusing: one second's worth may come at once.

use std::time::Duration;

/// Time is a span since any fixed moment.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Between two messages at full rate.
    pause: Duration,
    /// When the last message that was let through is paid for.
    paid: Duration,
}

impl Rate {
    /// `None` for 0: no bound.
    pub fn per_second(messages: u32) -> Option<Self> {
        (messages > 0).then(|| Self { pause: Duration::from_secs(1) / messages, paid: Duration::ZERO })
    }

    /// Lets `messages` through; whoever sent them must wait until [`Rate::free_at`] before the next.
    pub fn take(&mut self, messages: u32, now: Duration) {
        self.paid = self.paid.max(now) + self.pause * messages;
    }

    /// When the next message may come.
    pub fn free_at(&self) -> Duration {
        (self.paid + self.pause).saturating_sub(Duration::from_secs(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seconds_worth_may_come_at_once_and_the_next_one_waits() {
        assert!(Rate::per_second(0).is_none());
        let mut rate = Rate::per_second(10).unwrap();
        let start = Duration::from_secs(100);
        for _ in 0..10 {
            assert!(rate.free_at() <= start);
            rate.take(1, start);
        }
        assert_eq!(rate.free_at(), start + Duration::from_millis(100), "one past the edge");
        rate.take(1, start + Duration::from_millis(100));
        assert_eq!(rate.free_at(), start + Duration::from_millis(200));
        // A pause gives back no more than a second's worth.
        rate.take(10, start + Duration::from_secs(50));
        assert!(rate.free_at() > start + Duration::from_secs(50));
    }
}
