//! Acknowledgements that the server owes: each exactly once, in the order of the messages (MQTT 5 §4.6).

use crate::{PacketId, QoS, ReasonCode};
use std::collections::VecDeque;

/// A place in the row of messages that wait for their PUBACK or PUBREC. Consecutive messages have consecutive receipts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Receipt(u64);

#[derive(Debug, Default)]
pub struct OwedAcks {
    /// The receipt of the first in the row.
    first: u64,
    row: VecDeque<Owed>,
}

#[derive(Debug, Clone, Copy)]
struct Owed {
    packet_id: PacketId,
    qos: QoS,
    outcome: Option<ReasonCode>,
}

impl OwedAcks {
    pub fn len(&self) -> usize {
        self.row.len()
    }

    /// `qos` is 1 (PUBACK) or 2 (PUBREC).
    pub fn owe(&mut self, packet_id: PacketId, qos: QoS) -> Receipt {
        self.row.push_back(Owed { packet_id, qos, outcome: None });
        Receipt(self.first + self.row.len() as u64 - 1)
    }

    /// Settles all from `first` to `last` that are not settled yet. Receipts never given out change nothing.
    pub fn settle(&mut self, first: Receipt, last: Receipt, code: ReasonCode) {
        let from = first.0.saturating_sub(self.first);
        let Some(to) = last.0.checked_sub(self.first) else { return };
        for owed in self.row.iter_mut().take(to as usize + 1).skip(from as usize) {
            owed.outcome.get_or_insert(code);
        }
    }

    /// The next acknowledgement that may leave: `None` while the first message of the row is not settled.
    pub fn release(&mut self) -> Option<(PacketId, QoS, ReasonCode)> {
        let owed = *self.row.front()?;
        let code = owed.outcome?;
        self.row.pop_front();
        self.first += 1;
        Some((owed.packet_id, owed.qos, code))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_leave_in_order_and_once() {
        let (one, two) = (QoS::AtLeastOnce, QoS::ExactlyOnce);
        let mut owed = OwedAcks::default();
        let id = |n| PacketId::new(n).unwrap();
        let a = owed.owe(id(7), one);
        let b = owed.owe(id(3), two);
        let c = owed.owe(id(9), one);
        owed.settle(b, c, ReasonCode::SUCCESS);
        assert_eq!(owed.release(), None);
        owed.settle(a, a, ReasonCode::NOT_AUTHORIZED);
        owed.settle(a, c, ReasonCode::SUCCESS);
        assert_eq!(owed.release(), Some((id(7), one, ReasonCode::NOT_AUTHORIZED)));
        assert_eq!(owed.release(), Some((id(3), two, ReasonCode::SUCCESS)));
        assert_eq!(owed.release(), Some((id(9), one, ReasonCode::SUCCESS)));
        assert_eq!(owed.release(), None);
        owed.settle(c, c, ReasonCode::SUCCESS);
        assert_eq!(owed.len(), 0);
    }
}
