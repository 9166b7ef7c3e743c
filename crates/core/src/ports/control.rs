//! What operators may change: tenants, things, certificates. Blocking, durable on return, audited in the log.

use crate::{
    AlertBudget, CertificateId, CertificateStatus, CertificateView, IssuedIdentity, Removed, TenantId, TenantView,
    ThingName,
};
use serde::{Deserialize, Serialize};

pub trait Control: Send + Sync {
    /// Makes the tenant's policy, stream, table, lake prefix, alert topic and rule, then its things.
    /// A tenant that exists keeps what it has and gains the missing things (a second run changes nothing).
    fn onboard(&self, request: OnboardRequest) -> Result<Onboarded, ControlError>;
    /// Removes everything of the tenant. Cannot be undone.
    fn offboard(&self, tenant: &TenantId) -> Result<Removed, ControlError>;
    /// Makes a thing with its first certificate (ACTIVE, with the tenant's policy attached).
    fn create_thing(&self, tenant: &TenantId, thing: &ThingName) -> Result<IssuedIdentity, ControlError>;
    /// One more ACTIVE certificate for a thing; the others stay as they are.
    fn issue_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        valid_hours: u32,
    ) -> Result<IssuedIdentity, ControlError>;
    /// Begins a rotation: one more ACTIVE certificate with what those that the thing has are attached to. Once a
    /// connection with it is let in they become INACTIVE; where none is within `within_seconds`, it does.
    fn rotate_certificate(
        &self,
        tenant: &TenantId,
        thing: &ThingName,
        within_seconds: u32,
    ) -> Result<IssuedIdentity, ControlError>;
    /// REVOKED is final.
    fn set_certificate_status(
        &self,
        certificate: &CertificateId,
        status: CertificateStatus,
    ) -> Result<CertificateView, ControlError>;
}

/// Certificates of `create_thing` are valid this long: ten years.
pub const VALID_HOURS_DEFAULT: u32 = 10 * 365 * 24;

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnboardRequest {
    pub tenant: TenantId,
    #[serde(default)]
    pub things: Vec<ThingName>,
    /// `None`: the default budget, or for a known tenant the one it has.
    #[serde(default)]
    pub budget: Option<AlertBudget>,
    /// `None`: one.
    #[serde(default)]
    pub shards: Option<u32>,
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Onboarded {
    pub tenant: TenantView,
    /// Of the things that were new.
    pub identities: Vec<IssuedIdentity>,
    /// What was made just now, in words; empty when everything was there.
    pub created: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlErrorKind {
    NotFound,
    Conflict,
    Invalid,
    /// Something below failed; the log says more.
    Internal,
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct ControlError {
    pub kind: ControlErrorKind,
    pub message: String,
    #[source]
    pub source: Option<std::sync::Arc<dyn std::error::Error + Send + Sync>>,
}

impl ControlError {
    pub fn new(kind: ControlErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), source: None }
    }
    pub fn internal(message: impl Into<String>, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self { kind: ControlErrorKind::Internal, message: message.into(), source: Some(std::sync::Arc::new(source)) }
    }
}
