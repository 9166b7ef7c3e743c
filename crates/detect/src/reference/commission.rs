//! The readings of commissioning, kept until the models are made from them.

use crate::SIGNALS_MAX;
use crate::detector::{Slot, THING};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;

/// Numbers kept at most; of a thing with many signals the last readings of a long commissioning.
const NUMBERS_MAX: usize = 65_536;
/// Readings kept at least.
const READINGS_MIN: usize = 256;

/// One signal's values, one for each reading; where a reading did not carry it, the value before.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub(super) slot: Slot,
    /// The first value; the others are kept relative to it, so that large counters keep their small changes.
    pub(super) origin: f64,
    pub(super) last: f64,
    values: VecDeque<f32>,
}

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Commissioning {
    pub(super) columns: Vec<Column>,
    readings: usize,
}

impl Commissioning {
    pub(super) fn readings(&self) -> usize {
        self.readings
    }

    pub(super) fn keep(&mut self, values: &[(Slot, f64)]) {
        let full = self.columns.len() >= SIGNALS_MAX;
        for &(slot, value) in values {
            match self.columns.iter_mut().find(|column| column.slot == slot) {
                Some(column) => column.last = value,
                None if full => {}
                None => self.columns.push(Column {
                    slot,
                    origin: value,
                    last: value,
                    values: std::iter::repeat_n(0.0, self.readings).collect(),
                }),
            }
        }
        let room = (NUMBERS_MAX / self.columns.len().max(1)).max(READINGS_MIN);
        for column in &mut self.columns {
            let value = (column.last - column.origin).clamp(-super::RELATIVE_MAX, super::RELATIVE_MAX);
            column.values.push_back(value as f32);
            while column.values.len() > room {
                column.values.pop_front();
            }
        }
        self.readings = (self.readings + 1).min(room);
    }

    /// Every signal's values relative to its origin.
    pub(super) fn table(&self) -> Vec<Vec<f64>> {
        self.columns.iter().map(|column| column.values.iter().map(|&x| f64::from(x)).collect()).collect()
    }

    /// The place stays, so that the models' places do; no signal has it any more.
    pub(super) fn forget(&mut self, slot: Slot) {
        self.columns.iter_mut().filter(|column| column.slot == slot).for_each(|column| column.slot = THING);
    }

    /// The models are made: of each signal only slot, origin and last value are needed.
    pub(super) fn drop_values(&mut self) {
        self.readings = 0;
        self.columns.iter_mut().for_each(|column| column.values = VecDeque::new());
    }

    pub(super) fn is_sound(&self) -> bool {
        self.columns.len() <= SIGNALS_MAX
            && self.columns.iter().all(|column| {
                column.values.len() == self.readings
                    && column.origin.is_finite()
                    && column.last.is_finite()
                    && column.values.iter().all(|x| x.is_finite())
            })
    }

    pub(super) fn memory_bytes(&self) -> usize {
        self.columns.iter().map(|column| size_of::<Column>() + column.values.capacity() * size_of::<f32>()).sum()
    }
}
