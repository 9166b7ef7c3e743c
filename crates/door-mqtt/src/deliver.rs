//! The way back to devices: what the rest of Kilter may ask of this door.

use crate::connection::Shared;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    deliver::{Deliver, Outgoing, RefusalView, SessionView},
    stream::StreamError,
};
use kilter_mqtt::{QoS, session::Inbound};
use std::sync::Arc;

pub struct DoorDeliver(pub Arc<Shared>);

impl Deliver for DoorDeliver {
    fn deliver(&self, message: Outgoing) -> BoxFuture<'static, Result<(), StreamError>> {
        let Shared { hub, ingest, meters, refusals, .. } = &*self.0;
        let inbound = Inbound {
            topic: message.topic,
            payload: message.payload,
            qos: QoS::from_level(message.qos).unwrap_or(QoS::AtLeastOnce),
            properties: message.properties,
            receipt: None,
        };
        hub.fan_out(None, &inbound, &**ingest, meters, refusals);
        futures::future::ready(Ok(())).boxed()
    }

    fn refusals(&self) -> Vec<RefusalView> {
        self.0.refusals.latest()
    }

    fn sessions(&self) -> Vec<SessionView> {
        Vec::new()
    }

    fn retained(&self, _: &str) -> Option<Outgoing> {
        None
    }

    fn retained_topics(&self, _: Option<&str>, _: usize) -> Vec<String> {
        Vec::new()
    }
}
