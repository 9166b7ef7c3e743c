#![doc = include_str!("../README.md")]

mod blend;
mod budget;
pub mod catalog;
mod change;
mod context;
pub mod cusum;
pub mod detector;
pub mod forest;
pub mod gap;
mod level;
pub mod limits;
mod novelty;
mod onset;
mod pareto;
pub mod rate;
pub mod reference;
mod sample;
mod scorer;
mod signals;
mod state;
pub mod stuck;
mod tail;
pub mod vibration;
pub mod windows;
pub mod yardstick;

pub use context::{Maintenance, OffState, Side, Tolerance};
pub use sample::{
    CAUSES_MAX, COMMISSIONING_READINGS, Learn, Limits, Outcome, Sample, ScorerConfig, Settled, StateError,
};
pub use scorer::{GAP_SIGNAL, ThingScorer, WARM_UP_READINGS};
pub use signals::{NAME_BYTES_MAX, SIGNALS_MAX, UNSEEN_READINGS};
