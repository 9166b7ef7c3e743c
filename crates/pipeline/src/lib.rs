#![doc = include_str!("../README.md")]

pub mod alert;
mod append;
pub mod archive;
pub mod authority;
mod authorize;
pub mod checkpoint;
pub mod consumer;
pub mod control;
pub mod decode;
mod episodes;
pub mod fleet;
pub mod function;
pub mod ingest;
pub mod live;
pub mod logs;
pub mod model;
pub mod policy;
mod provisioning;
pub mod put;
pub mod query;
mod record;
mod registration;
pub mod registry;
pub mod resources;
pub mod rotation;
pub mod rules;
mod sequence;
mod thing;
mod uses;
mod words;

pub use episodes::{Change, HOLD_READINGS};
pub use thing::{Horizon, Processed, ThingState};
pub use words::{cause_in_words, rarity_in_words};
