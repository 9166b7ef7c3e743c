//! The catalog: every detector there is. To add one, write its file and put one line here.

use crate::Learn;
use crate::cusum::Cusum;
use crate::detector::{Detector, Input, Reaction, Slot};
use crate::forest::Forest;
use crate::gap::Gap;
use crate::limits::LimitsDetector;
use crate::rate::Rate;
use crate::reference::Reference;
use crate::stuck::Stuck;
use crate::windows::Windows;
use serde::{Deserialize, Serialize};

/// What an operator may want to know about a detector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// As in the causes of a score.
    pub name: &'static str,
    pub finds: &'static str,
}

pub const CATALOG: [Entry; 8] = [
    Entry { name: LimitsDetector::NAME, finds: "a value outside the range that an operator has set" },
    Entry { name: Rate::NAME, finds: "a signal that moves faster than it ever does" },
    Entry { name: Stuck::NAME, finds: "a signal that repeats one value for improbably long" },
    Entry { name: Cusum::NAME, finds: "spikes, steps, shifts and drifts of a signal's level" },
    Entry { name: Windows::NAME, finds: "a shape that the signal has never shown, over 8 to 192 readings" },
    Entry { name: Gap::NAME, finds: "a thing that was silent for much longer than usual" },
    Entry { name: Forest::NAME, finds: "an unusual combination of the thing's signals" },
    Entry {
        name: Reference::NAME,
        finds: "levels, combinations and shapes of signals that commissioning did not show",
    },
];

/// The detectors that every signal has, one line each.
macro_rules! signal_detectors {
    ($($field:ident: $detector:ty),+ $(,)?) => {
        #[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
        pub(crate) struct SignalDetectors {
            $($field: $detector,)+
        }

        impl SignalDetectors {
            pub(crate) fn react(&self, input: &Input<'_>, mut to: impl FnMut(&'static str, Reaction)) {
                $(to(<$detector>::NAME, self.$field.score(input));)+
            }

            pub(crate) fn learn(&mut self, input: &Input<'_>, mode: Learn) {
                // Detectors of one signal compute their statistic again: that is cheaper than keeping it.
                let seen = Reaction::warming(0, 1, 0.0);
                $(self.$field.learn(input, &seen, mode);)+
            }

            pub(crate) fn is_sound(&self) -> bool {
                true $(&& self.$field.is_sound())+
            }

            pub(crate) fn memory_bytes(&self) -> usize {
                0 $(+ self.$field.memory_bytes())+
            }
        }
    };
}

signal_detectors! {
    rate: Rate,
    stuck: Stuck,
    cusum: Cusum,
}

impl SignalDetectors {
    /// Where most values of the signal are to be expected now.
    pub(crate) fn expected(&self) -> [f64; 2] {
        self.cusum.expected()
    }
}

/// The detectors that look at the thing as a whole, one line each, with how a fresh one is made from the thing's seed.
macro_rules! thing_detectors {
    ($count:literal: $($field:ident: $detector:ty = $make:expr),+ $(,)?) => {
        /// How many there are.
        pub(crate) const THING_DETECTORS: usize = $count;

        #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
        pub(crate) struct ThingDetectors {
            $(pub(crate) $field: $detector,)+
        }

        impl ThingDetectors {
            pub(crate) fn new(seed: u64) -> Self {
                $(let $field: fn(u64) -> $detector = $make;)+
                Self { $($field: $field(seed),)+ }
            }

            pub(crate) fn react(&self, input: &Input<'_>) -> [(&'static str, Reaction); THING_DETECTORS] {
                [$((<$detector>::NAME, self.$field.score(input))),+]
            }

            /// `seen` as `react` gave it.
            pub(crate) fn learn(&mut self, input: &Input<'_>, seen: &[Reaction; THING_DETECTORS], mode: Learn) {
                let [$($field),+] = seen;
                $(self.$field.learn(input, $field, mode);)+
            }

            pub(crate) fn lags(&self) -> [u32; THING_DETECTORS] {
                [$(self.$field.lag()),+]
            }

            pub(crate) fn forget(&mut self, slot: Slot) {
                $(self.$field.forget(slot);)+
            }

            pub(crate) fn is_sound(&self) -> bool {
                true $(&& self.$field.is_sound())+
            }

            pub(crate) fn memory_bytes(&self) -> usize {
                0 $(+ self.$field.memory_bytes())+
            }
        }
    };
}

thing_detectors! { 3:
    gap: Gap = |_| Gap::default(),
    forest: Forest = Forest::new,
    reference: Reference = Reference::new,
}
