//! Black box: the real binary over real sockets, judged by real clients. One test binary, so that it is linked once.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aws;
mod certificates;
mod detect;
mod device;
#[path = "../../../door-mqtt/tests/door/exact.rs"]
mod exact;
mod harness;
mod hostile;
mod http;
mod input;
mod kill;
mod lake;
mod late;
mod mosquitto;
mod paho;
mod replay;
mod reshard;
mod rules;
mod session_kills;
mod sessions;
mod tenant;
mod tools;
mod vibration;
mod webhook;
