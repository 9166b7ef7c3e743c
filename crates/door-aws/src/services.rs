//! The services that the door knows.

use crate::{Service, StreamService};
use axum::http::request::Parts;
use std::{collections::HashMap, sync::Arc};

#[derive(Default, Clone)]
pub struct Services {
    plain: HashMap<&'static str, Arc<dyn Service>>,
    streaming: HashMap<&'static str, Arc<dyn StreamService>>,
}

/// Which of the two kinds.
#[derive(Clone)]
pub enum Found {
    Plain(Arc<dyn Service>),
    Streaming(Arc<dyn StreamService>),
}

impl Services {
    pub fn with(mut self, service: impl Service + 'static) -> Self {
        self.plain.insert(service.name(), Arc::new(service));
        self
    }

    pub fn with_streaming(mut self, service: impl StreamService + 'static) -> Self {
        self.streaming.insert(service.name(), Arc::new(service));
        self
    }

    pub fn get(&self, name: &str) -> Option<Found> {
        let plain = self.plain.get(name).cloned().map(Found::Plain);
        plain.or_else(|| self.streaming.get(name).cloned().map(Found::Streaming))
    }

    pub(crate) fn plain(&self) -> impl Iterator<Item = &Arc<dyn Service>> {
        self.plain.values()
    }
}

/// The service that a request is for: the one of its signature, but for those that share a signing name.
pub(crate) fn name_of(signing: &str, parts: &Parts) -> String {
    match signing {
        "sagemaker" if !parts.headers.contains_key("x-amz-target") => "sagemaker-runtime".to_owned(),
        "iot-data" | "iotdevicegateway" => "iotdata".to_owned(),
        other => other.to_owned(),
    }
}

/// Bytes of a request's body, by service: what the real one takes, with room for base64 where it has any.
pub(crate) fn body_bytes_max(service: &str) -> usize {
    const MIB: usize = 1 << 20;
    match service {
        "dynamodb" | "kinesis" => 16 * MIB,
        "sagemaker-runtime" | "lambda" => 8 * MIB,
        "iotsitewise" => 4 * MIB,
        _ => MIB,
    }
}

/// Whose endpoint is one for all regions, so that clients sign for whatever region they like.
pub(crate) fn global(service: &str) -> bool {
    matches!(service, "iam" | "sts")
}
