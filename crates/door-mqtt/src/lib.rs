#![doc = include_str!("../README.md")]

mod batch;
pub mod client;
mod config;
mod connection;
mod deliver;
mod door;
mod hub;
mod meters;
mod refusals;
mod socket;
mod tls;

pub use client::{MqttClient, Options};
pub use config::MqttConfig;
pub use door::{DoorError, MqttDoor, bind};
pub use kilter_mqtt::{QoS, Version};
pub use tls::TlsIdentity;
