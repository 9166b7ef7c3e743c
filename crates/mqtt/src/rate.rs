//! A bound on messages per second that slows down instead of refusing: one second's worth may come at once.

use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

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
        (messages > 0).then(|| Self { pause: SECOND / messages, paid: Duration::ZERO })
    }

    /// Lets `messages` through; whoever sent them must wait until [`Rate::free_at`] before the next.
    pub fn take(&mut self, messages: u32, now: Duration) {
        self.paid = self.paid.max(now) + self.pause * messages;
    }

    /// When the next message may come.
    pub fn free_at(&self) -> Duration {
        (self.paid + self.pause).saturating_sub(SECOND)
    }

    /// A place in the queue of those who must wait: as many messages as the answer's first number says may come from
    /// the moment on that is its second. They are paid for. A millisecond's worth, because a timer rings no finer, and
    /// so that everybody has their turn soon.
    pub fn queue(&mut self, now: Duration) -> (u32, Duration) {
        let messages = (Duration::from_millis(1).as_nanos() / self.pause.as_nanos().max(1)).max(1);
        let messages = u32::try_from(messages).unwrap_or(u32::MAX);
        self.take(messages, now);
        (messages, self.paid.saturating_sub(SECOND))
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

    #[test]
    fn who_must_wait_waits_in_line_for_a_millisecond_of_messages() {
        let start = Duration::from_secs(100);
        let ms = Duration::from_millis;
        let mut slow = Rate::per_second(10).unwrap();
        slow.take(10, start);
        assert_eq!(slow.queue(start), (1, start + ms(100)));
        assert_eq!(slow.queue(start), (1, start + ms(200)));
        assert_eq!(slow.free_at(), start + ms(300), "behind those who wait already");
        let mut fast = Rate::per_second(20_000).unwrap();
        fast.take(20_000, start);
        assert_eq!(fast.queue(start), (20, start + ms(1)));
        assert_eq!(fast.queue(start), (20, start + ms(2)));
    }
}
