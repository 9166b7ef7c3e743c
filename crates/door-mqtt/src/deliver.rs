//! The way back to devices: what the rest of Kilter may ask of this door.

use crate::{
    connection::Shared,
    fan_out::Context,
    store::{Ticket, busy},
};
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{
    deliver::{Deliver, Outgoing, RefusalView, SessionView},
    stream::StreamError,
};
use kilter_mqtt::{QoS, session::Inbound};
use std::sync::Arc;

pub struct DoorDeliver(pub Arc<Shared>);

impl DoorDeliver {
    fn fan_out(&self, message: Outgoing) -> Ticket {
        let Shared { hub, ingest, meters, refusals, .. } = &*self.0;
        let inbound = Inbound {
            topic: message.topic,
            payload: message.payload,
            qos: QoS::from_level(message.qos).unwrap_or(QoS::AtLeastOnce),
            retain: message.retain,
            properties: message.properties,
            packet_id: None,
            receipt: None,
        };
        hub.fan_out(None, &inbound, &Context { ingest: &**ingest, meters, refusals })
    }
}

impl Deliver for DoorDeliver {
    fn deliver(&self, message: Outgoing) -> BoxFuture<'static, Result<(), StreamError>> {
        let hub = &self.0.hub;
        if !hub.store.has_room() || (message.retain && !hub.retained.has_room(&message.topic, message.payload.len())) {
            return futures::future::ready(Err(busy())).boxed();
        }
        match self.fan_out(message) {
            0 => futures::future::ready(Ok(())).boxed(),
            ticket => hub.store.wait(ticket),
        }
    }

    fn refusals(&self) -> Vec<RefusalView> {
        self.0.refusals.latest()
    }

    fn sessions(&self) -> Vec<SessionView> {
        self.0.hub.all().iter().map(|kept| kept.view()).collect()
    }

    fn retained(&self, topic: &str) -> Option<Outgoing> {
        let kept = self.0.hub.retained.get(topic, self.0.hub.clock.now())?;
        Some(Outgoing {
            topic: kept.message.topic.clone(),
            payload: kept.message.payload.clone(),
            qos: kept.qos.level(),
            retain: true,
            properties: kept.message.properties.clone(),
        })
    }

    fn retained_topics(&self, after: Option<&str>, limit: usize) -> Vec<String> {
        self.0.hub.retained.topics(after, limit, self.0.hub.clock.now())
    }
}
