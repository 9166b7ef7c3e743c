//! The ports' conformance suites, judged by the vendor's SDKs: this crate → HTTP → `kilter serve`, which answers from its
//! local disk. `KILTER` names the binary.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod beyond;
mod service;
mod suites;
