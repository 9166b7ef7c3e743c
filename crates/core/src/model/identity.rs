//! Who connects: certificates, things, and the verbs that policies decide.

use crate::{CertificateId, TenantId, ThingName, Timestamp};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum CertificateStatus {
    /// Registered itself; waits for an operator.
    #[serde(rename = "PENDING_ACTIVATION", alias = "PENDING")]
    Pending,
    Active,
    Inactive,
    Revoked,
}

impl std::fmt::Display for CertificateStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pending => "PENDING_ACTIVATION",
            Self::Active => "ACTIVE",
            Self::Inactive => "INACTIVE",
            Self::Revoked => "REVOKED",
        })
    }
}

/// What a device may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    #[serde(rename = "iot:Connect")]
    Connect,
    #[serde(rename = "iot:Publish")]
    Publish,
    #[serde(rename = "iot:Subscribe")]
    Subscribe,
    #[serde(rename = "iot:Receive")]
    Receive,
    /// Asked beside `Publish` for a message that is to be retained.
    #[serde(rename = "iot:RetainPublish")]
    RetainPublish,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "iot:Connect",
            Self::Publish => "iot:Publish",
            Self::Subscribe => "iot:Subscribe",
            Self::Receive => "iot:Receive",
            Self::RetainPublish => "iot:RetainPublish",
        }
    }
}

/// A certificate as its owner sees it: never the private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateView {
    pub id: CertificateId,
    pub arn: String,
    pub status: CertificateStatus,
    pub created: Timestamp,
    pub not_after: Timestamp,
    pub policies: Vec<String>,
}

/// A certificate with what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateEntry {
    #[serde(flatten)]
    pub certificate: CertificateView,
    pub things: Vec<ThingName>,
    /// `None` where it was issued before this was kept.
    pub not_before: Option<Timestamp>,
    /// When a connection with it was let in or was open, to the minute; `None`: never yet.
    pub last_used: Option<Timestamp>,
    /// The latest rotation that it is part of.
    pub rotation: Option<Rotation>,
}

/// A thing's certificate replaced in stages: both hold until the device has used the new one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub new: CertificateId,
    /// ACTIVE when it began, and retired once the new one is used.
    pub old: Vec<CertificateId>,
    pub started: Timestamp,
    /// When the new one is withdrawn if the device has not used it.
    pub deadline: Timestamp,
    pub state: RotationState,
    pub ended: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RotationState {
    /// For the device to connect with the new certificate.
    Waiting,
    Done,
    RolledBack,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThingView {
    /// `None`: made without a tenant.
    pub tenant: Option<TenantId>,
    pub thing: ThingName,
    pub arn: String,
    pub created: Timestamp,
    pub certificates: Vec<CertificateView>,
}

/// A freshly issued identity. The only moment at which the private key exists outside the device.
#[derive(Clone, Serialize, Deserialize)]
pub struct IssuedIdentity {
    pub thing: ThingName,
    pub certificate: CertificateView,
    pub certificate_pem: String,
    /// PKCS#8.
    pub private_key_pem: String,
    pub public_key_pem: String,
    pub ca_pem: String,
}
