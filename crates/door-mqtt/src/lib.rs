#![doc = include_str!("../README.md")]

mod batch;
pub mod client;
mod config;
mod connection;
mod deliver;
mod door;
mod fan_out;
mod hub;
mod kept;
mod meters;
mod records;
mod recover;
mod refusals;
mod retained;
mod socket;
mod store;
mod tls;
mod totals;
mod verifier;
mod websocket;
mod wills;

pub use client::{MqttClient, Options};
pub use config::MqttConfig;
pub use door::{DoorError, MqttDoor, TlsReload, bind};
pub use kilter_mqtt::{QoS, Version};
pub use tls::TlsIdentity;
