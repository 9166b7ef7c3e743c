//! What can go wrong for a client, in words for whoever runs the tool.

use crate::tls::TlsSetupError;
use kilter_mqtt::{DecodeError, ReasonCode, client::PublishError};
use std::{io, sync::Arc};

#[derive(Debug, Clone, thiserror::Error)]
pub enum ClientError {
    #[error("{0:?} is not host:port with a host that a certificate can name")]
    Address(String),
    #[error("the certificates cannot be used: {0}")]
    Tls(Arc<TlsSetupError>),
    #[error("no connection to {addr}: {source}")]
    Connect {
        addr: String,
        #[source]
        source: Arc<io::Error>,
    },
    #[error("{0} did not answer in time")]
    TimedOut(String),
    #[error("the server refused the connection: {0}")]
    Refused(ReasonCode),
    #[error("the server refused {count} messages, the first with: {first}")]
    PublishRefused { count: usize, first: ReasonCode },
    #[error("the server refused the subscription: {0}")]
    SubscribeRefused(ReasonCode),
    #[error("{0}")]
    Publish(#[from] PublishError),
    #[error("the server closed the connection: {0}")]
    Closed(ReasonCode),
    #[error("the connection was lost: {0}")]
    Lost(Arc<io::Error>),
    #[error("the server does not speak MQTT as it should: {0}")]
    Violation(&'static str),
    #[error("the server sent what cannot be decoded: {0}")]
    Undecodable(#[from] DecodeError),
    #[error("the client has disconnected")]
    Disconnected,
}
