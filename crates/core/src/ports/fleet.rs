//! What operators may ask of and change in the fleet's registry, with the rules and refusals of AWS IoT Core.

use crate::{
    Action, CaCertificate, Certificate, CertificateId, CertificateStatus, FleetView, PolicyRecord, Tags, Thing,
    ThingGroup, ThingName, ThingType,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// A change is durable and visible to the next question when `change` returns. Blocking: never call it from an
/// async thread; `view` is quick.
pub trait Fleet: Send + Sync {
    /// The fleet as it is now.
    fn view(&self) -> Arc<FleetView>;

    /// Makes one change, whole or not at all.
    fn change(&self, change: FleetChange) -> Result<FleetAnswer, FleetError>;

    /// What the policies say, as they are now; changes nothing. Whether the certificate is ACTIVE is not asked.
    fn simulate(&self, question: &PolicyQuestion) -> Result<PolicyVerdict, FleetError>;
}

/// "May this certificate do that?"
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyQuestion {
    pub certificate: CertificateId,
    pub action: Action,
    /// A client id for `iot:Connect`, a topic filter for `iot:Subscribe`, a topic otherwise.
    pub subject: String,
    pub client_id: String,
    #[serde(default)]
    pub source: Option<IpAddr>,
}

/// The answer, and which statement says so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyVerdict {
    pub allowed: bool,
    /// `allowed`, `denied by a statement` or `not allowed`.
    pub decision: String,
    /// The ARN that the subject stands for.
    pub resource: String,
    /// The policy that decided, its version in force, and the statement's number from 1 and name: where one did.
    pub policy: Option<String>,
    pub version: Option<u32>,
    pub statement: Option<usize>,
    pub sid: Option<String>,
    pub reason: String,
    /// All that were asked: the certificate's own, then those of its thing's groups.
    pub policies: Vec<String>,
}

/// What is to be changed. Making what is there already answers it where it is the same (things, types, groups) and
/// is refused where it differs; attaching twice changes nothing.
#[derive(Debug, Clone)]
pub enum FleetChange {
    /// Answers `Thing`. Its tenant is the attribute `tenant`, or what stands before the first `-` of its name.
    CreateThing {
        thing: ThingName,
        thing_type: Option<String>,
        attributes: BTreeMap<String, String>,
    },
    UpdateThing(ThingUpdate),
    /// Refused while a certificate is attached.
    DeleteThing {
        thing: ThingName,
        expected_version: Option<u64>,
    },

    /// Answers `Type`.
    CreateType {
        name: String,
        description: Option<String>,
        searchable: Vec<String>,
        tags: Tags,
    },
    /// `None` leaves as it is.
    UpdateType {
        name: String,
        description: Option<String>,
        searchable: Option<Vec<String>>,
    },
    /// `false`: no longer deprecated.
    DeprecateType {
        name: String,
        deprecate: bool,
    },
    /// Refused unless it is deprecated and no thing has it.
    DeleteType(String),

    /// Answers `Group`.
    CreateGroup {
        name: String,
        parent: Option<String>,
        description: Option<String>,
        attributes: BTreeMap<String, String>,
        tags: Tags,
    },
    /// Answers `Group`. `None` leaves as it is.
    UpdateGroup {
        name: String,
        description: Option<String>,
        attributes: Option<BTreeMap<String, String>>,
        /// Adds to the attributes; an empty value removes one.
        merge: bool,
        expected_version: Option<u64>,
    },
    /// Refused while groups are below it; its things stay.
    DeleteGroup {
        name: String,
        expected_version: Option<u64>,
    },
    AddToGroup {
        group: String,
        thing: ThingName,
    },
    RemoveFromGroup {
        group: String,
        thing: ThingName,
    },

    /// A key pair and a certificate of the installation's authority. Answers `Issued`.
    IssueCertificate {
        active: bool,
    },
    /// A certificate of the installation's authority for the request's key. Answers `Certificate`.
    CertificateFromCsr {
        csr_pem: String,
        active: bool,
    },
    /// A certificate that a registered authority issued. Answers `Certificate`.
    RegisterCertificate {
        pem: String,
        ca_pem: Option<String>,
        status: CertificateStatus,
    },
    /// A certificate of whatever origin. Answers `Certificate`.
    RegisterCertificateWithoutCa {
        pem: String,
        status: CertificateStatus,
    },
    /// REVOKED is final. Answers `Certificate`.
    SetCertificateStatus {
        certificate: CertificateId,
        status: CertificateStatus,
    },
    /// Refused while it is ACTIVE or attached to a thing, and while policies are attached unless `force`.
    DeleteCertificate {
        certificate: CertificateId,
        force: bool,
    },

    /// Answers `Code`, the same one every time.
    RegistrationCode,
    DeleteRegistrationCode,
    /// The verification certificate is signed with the authority's key and named like the registration code; `None`
    /// does without that proof. Answers `Authority`.
    RegisterAuthority {
        ca_pem: String,
        verification_pem: Option<String>,
        active: bool,
        auto_registration: bool,
        template: Option<String>,
        tags: Tags,
    },
    /// `None` leaves as it is. Answers `Authority`.
    UpdateAuthority {
        authority: CertificateId,
        active: Option<bool>,
        auto_registration: Option<bool>,
        template: Option<Option<String>>,
    },
    /// Refused while it is active; certificates that it issued stay.
    DeleteAuthority(CertificateId),

    /// Answers `Policy`.
    CreatePolicy {
        name: String,
        document: String,
        tags: Tags,
    },
    /// Answers `PolicyVersion`.
    CreatePolicyVersion {
        name: String,
        document: String,
        set_default: bool,
    },
    SetDefaultPolicyVersion {
        name: String,
        version: u32,
    },
    /// Refused for the version in force.
    DeletePolicyVersion {
        name: String,
        version: u32,
    },
    /// Refused while it is attached or has other versions than the one in force.
    DeletePolicy(String),

    AttachPolicy(String, PolicyTarget),
    DetachPolicy(String, PolicyTarget),
    AttachPrincipal(ThingName, CertificateId),
    DetachPrincipal(ThingName, CertificateId),

    /// Tags to set, and keys of tags to remove.
    Tag {
        resource: Taggable,
        set: Tags,
        remove: Vec<String>,
    },
}

/// Answers `Thing`. `None` leaves as it is.
#[derive(Debug, Clone)]
pub struct ThingUpdate {
    pub thing: ThingName,
    /// `Some(None)` takes the type away.
    pub thing_type: Option<Option<String>>,
    pub attributes: Option<BTreeMap<String, String>>,
    /// Adds to the attributes; an empty value removes one.
    pub merge: bool,
    pub expected_version: Option<u64>,
}

/// What a policy is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PolicyTarget {
    Certificate(CertificateId),
    Group(String),
}

/// What can have tags.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taggable {
    Type(String),
    Group(String),
    Policy(String),
    Authority(CertificateId),
}

#[derive(Clone)]
pub enum FleetAnswer {
    Done,
    Thing(Arc<Thing>),
    Type(Arc<ThingType>),
    Group(Arc<ThingGroup>),
    Certificate(Arc<Certificate>),
    /// The only moment at which the private key exists outside the device.
    Issued {
        certificate: Arc<Certificate>,
        /// PKCS#8.
        private_key_pem: String,
        public_key_pem: String,
    },
    Authority(Arc<CaCertificate>),
    Policy(Arc<PolicyRecord>),
    PolicyVersion {
        policy: Arc<PolicyRecord>,
        version: u32,
    },
    Code(Arc<str>),
}

/// Each is one of AWS IoT's exceptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FleetErrorKind {
    /// `ResourceNotFoundException`
    NotFound,
    /// `ResourceAlreadyExistsException`
    AlreadyExists,
    /// `InvalidRequestException`
    Invalid,
    /// `MalformedPolicyException`
    MalformedPolicy,
    /// `VersionConflictException`
    VersionConflict,
    /// `VersionsLimitExceededException`
    VersionsLimit,
    /// `DeleteConflictException`
    DeleteConflict,
    /// `LimitExceededException`
    Limit,
    /// `CertificateStateException`
    CertificateState,
    /// `CertificateValidationException`
    CertificateValidation,
    /// `CertificateConflictException`
    CertificateConflict,
    /// `RegistrationCodeValidationException`
    RegistrationCode,
    /// `InternalFailureException`; the log says more.
    Internal,
}

/// What happened, why, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct FleetError {
    pub kind: FleetErrorKind,
    pub message: String,
}

impl FleetError {
    pub fn new(kind: FleetErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
