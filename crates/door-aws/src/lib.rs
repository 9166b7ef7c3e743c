#![doc = include_str!("../README.md")]

pub mod call;
pub mod error;

pub use call::{Answer, Call, Service};
pub use error::AwsError;
