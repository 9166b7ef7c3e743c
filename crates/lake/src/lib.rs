#![doc = include_str!("../README.md")]

mod columns;
mod error;
mod lake;
mod lane;
mod layout;
mod manifest;
mod part;
mod rows;
mod store;
mod verify;

pub use error::{LakeError, LakeErrorKind};
pub use lake::{Lake, Written};
pub use layout::Dataset;
pub use part::PART_BYTES_MAX;
pub use verify::{Damage, Verification};
