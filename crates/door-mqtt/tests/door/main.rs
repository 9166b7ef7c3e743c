//! The door over real sockets with mutual TLS: what devices get, what they are refused, and that it is said why.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod clients;
mod crashes;
mod edges;
mod exact;
mod fixtures;
mod identity;
mod limits;
mod messages;
mod rates;
mod raw;
mod retained;
mod sessions;
mod shared;
mod still;
