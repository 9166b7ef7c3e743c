//! What travels with a message beside its payload.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// The properties that travel with a message to MQTT 5 subscribers (MQTT 5 §3.3.2.3). User properties are in the
/// order in which they came; a name may come more than once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct MessageProperties {
    /// 1: the payload is UTF-8.
    pub payload_format: Option<u8>,
    /// Seconds.
    pub expiry: Option<u32>,
    pub content_type: Option<String>,
    pub response_topic: Option<String>,
    pub correlation_data: Option<Bytes>,
    pub user: Vec<(String, String)>,
}
