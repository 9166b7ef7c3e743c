//! What a device's door may ask of the pipeline.

use crate::{
    Action, CertificateId, MessageProperties, Offset, ShardId, StreamName, TenantId, ThingName, Timestamp,
    ports::stream::StreamError,
};
use bytes::Bytes;
use futures::future::BoxFuture;
use std::sync::Arc;

/// Identity, authorisation and the way in. All methods but the futures are quick and may be called from
/// an async thread.
pub trait Ingest: Send + Sync {
    /// Looks the certificate up in the registry as it is now: known and ACTIVE, or refused.
    fn identify(&self, certificate_der: &[u8]) -> Result<Principal, Refusal>;

    /// What to do about a certificate that `identify` does not know but that a trusted authority has issued:
    /// just-in-time registration. Blocking, durable on return. `Ok` is a certificate that is ACTIVE now; otherwise
    /// it says what it is waiting for.
    fn register(&self, certificate_der: &[u8]) -> Result<Principal, Refusal>;

    /// Authorities beside the installation's own whose certificates a TLS handshake lets through, as DER.
    fn authorities(&self) -> Vec<Vec<u8>>;

    /// Whether an operator registered this very certificate, so that no authority need vouch for it.
    fn vouches_for(&self, _certificate_der: &[u8]) -> bool {
        false
    }

    /// Authorises `iot:Connect`. The thing is the one that the certificate is attached to and that is named like
    /// the client id.
    fn connect(&self, principal: &Principal, attributes: &ConnectAttributes<'_>) -> Result<Client, Refusal>;

    /// The client's connection is open from now on.
    fn connected(&self, _client: &Client) {}

    /// Whether the client may do `action` on a topic (or topic filter, for `Subscribe`) under the
    /// policies attached now. `publish` asks this itself; wills, subscriptions and deliveries do it here.
    fn authorize(&self, client: &Client, action: Action, topic: &str) -> Result<(), Refusal>;

    /// Takes messages in, in order, up to the first that is refused.
    fn publish(&self, client: &Client, messages: Vec<InboundMessage>) -> Accepted;

    /// Where the next records of a message on this topic would be: kept with a QoS 2 message until it is handed on,
    /// so that a crash in between can be mended by [`Ingest::publish_again`].
    fn positions(&self, topic: &str) -> Vec<(StreamName, ShardId, Offset)>;

    /// Hands on a message of which it is not known whether a crash came before or after: to the streams that have no
    /// record of its thing, topic and arrival from `since` on. Blocking; durable on return.
    fn publish_again(
        &self,
        client: &Client,
        message: InboundMessage,
        since: &[(StreamName, ShardId, Offset)],
    ) -> Result<(), PublishAgainError>;

    /// Grows with every change of the registry: when it does, open sessions must ask `identify` again.
    fn revision(&self) -> u64;
}

/// The way in for messages of operators, who need no device's policy: the rules see them as they see devices'.
pub trait Inject: Send + Sync {
    /// Resolves once the message is durable in every stream that its rules route it to. Subscribers do not see it:
    /// `Deliver` does that.
    fn inject(&self, message: InboundMessage) -> BoxFuture<'static, Result<(), PublishAgainError>>;
}

/// A certificate that may speak.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    pub certificate: CertificateId,
}

/// What policies may ask of a CONNECT.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectAttributes<'a> {
    pub client_id: &'a str,
    /// The session is to outlive the connection.
    pub persistent: bool,
    pub will_topic: Option<&'a str>,
    /// The peer's IP address.
    pub source: &'a str,
}

/// A connected client. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client(pub Arc<ClientIdentity>);

#[derive(Debug)]
pub struct ClientIdentity {
    pub certificate: CertificateId,
    pub client_id: String,
    /// With its tenant, where the certificate is attached to a thing of the client id's name.
    pub thing: Option<(TenantId, ThingName)>,
    /// The peer's IP address.
    pub source: String,
}

#[derive(Debug, Clone)]
pub struct InboundMessage {
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub retain: bool,
    pub properties: Option<Arc<MessageProperties>>,
    /// `None`: now. Otherwise a moment that no other message of the client has.
    pub arrival: Option<Timestamp>,
}

#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishAgainError {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error(transparent)]
    Stream(#[from] StreamError),
}

pub struct Accepted {
    /// How many of the messages, from the first on, were taken in.
    pub count: usize,
    /// Why the one after them was not.
    pub refusal: Option<Refusal>,
    /// Resolves once every accepted message is durable in every stream that its rules route it to. Only
    /// then may they be acknowledged. A message that cannot be decoded is accepted: it is kept as rejected.
    pub durable: BoxFuture<'static, Result<(), StreamError>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    UnknownCertificate,
    CertificateNotActive,
    ClientIdNotAllowed,
    NotAllowed,
    InvalidTopic,
}

/// A "no", with a reason for the operator's log. Tell the device only the kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    pub kind: RefusalKind,
    pub reason: String,
}
