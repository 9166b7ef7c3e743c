//! Which packet identifiers are in flight to a client, and whether one more may be.

use crate::PacketId;
use std::num::NonZeroU16;

/// QoS 1 messages in flight to one client (AWS IoT's 100), or fewer where the client says so. With the bounded
/// queue in front of it this is what a slow subscriber can hold.
pub const OUTBOUND_INFLIGHT_MAX: u16 = 100;

#[derive(Debug)]
pub struct Window {
    inflight_max: u16,
    last: u16,
    /// Few, and mostly released from the front: a scan is cheaper than a hash.
    inflight: Vec<PacketId>,
}

impl Default for Window {
    fn default() -> Self {
        Self { inflight_max: OUTBOUND_INFLIGHT_MAX, last: 0, inflight: Vec::new() }
    }
}

impl Window {
    /// The client's receive maximum.
    pub fn limit(&mut self, receive_max: NonZeroU16) {
        self.inflight_max = receive_max.get().min(OUTBOUND_INFLIGHT_MAX);
    }

    pub fn len(&self) -> usize {
        self.inflight.len()
    }

    pub fn has_room(&self) -> bool {
        self.inflight.len() < usize::from(self.inflight_max)
    }

    /// A free identifier, now in flight.
    pub fn take(&mut self) -> PacketId {
        loop {
            self.last = self.last.checked_add(1).unwrap_or(1);
            let id = PacketId::new(self.last).expect("counting starts again at 1, never at 0");
            if !self.inflight.contains(&id) {
                self.inflight.push(id);
                return id;
            }
        }
    }

    /// An acknowledgement came; one that nobody waits for is of no account.
    pub fn release(&mut self, id: PacketId) {
        if let Some(index) = self.inflight.iter().position(|known| *known == id) {
            self.inflight.remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_in_flight_are_not_given_twice() {
        let mut window = Window::default();
        let stuck = window.take();
        for _ in 0..70_000 {
            let id = window.take();
            assert_ne!(id, stuck);
            window.release(id);
        }
        assert_eq!(window.len(), 1);
        window.limit(NonZeroU16::MIN);
        assert!(!window.has_room());
    }
}
