//! The fleet's registry: things, their types and groups, certificates, the authorities that issue them, policies.
//! Names, bounds and relations are those of AWS IoT Core's registry.

use crate::{CertificateId, CertificateStatus, Rotation, TenantId, ThingName, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Words that an operator attaches to a resource.
pub type Tags = BTreeMap<String, String>;

/// A device or machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Thing {
    pub thing: ThingName,
    /// Whose it is; `None`: nobody's, until its tenant is known.
    #[serde(default)]
    pub tenant: Option<TenantId>,
    pub created: Timestamp,
    /// Attached, in the order of attachment.
    pub certificates: Vec<CertificateId>,
    /// A UUID; empty in entries older than it, and filled in when they are read.
    #[serde(default)]
    pub id: String,
    #[serde(default)]
    pub thing_type: Option<String>,
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// Grows by one with every change of type or attributes.
    #[serde(default = "one")]
    pub version: u64,
    /// The latest of its certificates.
    #[serde(default)]
    pub rotation: Option<Rotation>,
}

fn one() -> u64 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThingType {
    pub name: String,
    pub id: String,
    pub created: Timestamp,
    pub description: Option<String>,
    /// Names of attributes that are searched for.
    pub searchable: Vec<String>,
    /// Since when no thing may get it.
    pub deprecated: Option<Timestamp>,
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ThingGroup {
    pub name: String,
    pub id: String,
    pub created: Timestamp,
    pub parent: Option<String>,
    pub description: Option<String>,
    pub attributes: BTreeMap<String, String>,
    /// Names; they hold for the group's things and for those of the groups below it.
    pub policies: Vec<String>,
    pub version: u64,
    pub tags: Tags,
}

/// A device's certificate: never its private key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Certificate {
    pub id: CertificateId,
    pub status: CertificateStatus,
    pub created: Timestamp,
    pub not_after: Timestamp,
    pub things: Vec<ThingName>,
    pub policies: Vec<String>,
    /// Since when it may be used; `None` in entries older than the field.
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    /// `None` in entries older than the field.
    #[serde(default)]
    pub pem: Option<String>,
    /// The registered authority that issued it; `None`: the installation's own, or registered without one.
    #[serde(default)]
    pub authority: Option<CertificateId>,
    #[serde(default)]
    pub modified: Option<Timestamp>,
}

/// A customer's certificate authority, registered so that what it issues can connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaCertificate {
    pub id: CertificateId,
    pub pem: String,
    pub active: bool,
    /// An unknown certificate that it issued registers itself at its first connection.
    pub auto_registration: bool,
    /// A provisioning template (JSON) that is carried out for every certificate that registers itself.
    pub template: Option<String>,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    pub version: u64,
    pub tags: Tags,
}

/// A policy with its versions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyRecord {
    pub name: String,
    pub created: Timestamp,
    /// By number, oldest first; never empty.
    pub versions: BTreeMap<u32, PolicyVersion>,
    /// The one in force.
    pub default: u32,
    /// The number that the next version gets: numbers are not used twice.
    pub next: u32,
    pub tags: Tags,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyVersion {
    pub created: Timestamp,
    /// As it was given, byte for byte.
    pub document: String,
}

impl PolicyRecord {
    /// The document in force; empty, which allows nothing, where there is none.
    pub fn document(&self) -> &str {
        self.versions.get(&self.default).map_or("", |version| version.document.as_str())
    }
}

/// The fleet as it is at one moment. Cheap to copy; never changes under its holder.
#[derive(Debug, Clone, Default)]
pub struct FleetView {
    pub things: Arc<BTreeMap<ThingName, Arc<Thing>>>,
    pub types: Arc<BTreeMap<String, Arc<ThingType>>>,
    pub groups: Arc<BTreeMap<String, Arc<ThingGroup>>>,
    pub certificates: Arc<BTreeMap<CertificateId, Arc<Certificate>>>,
    pub authorities: Arc<BTreeMap<CertificateId, Arc<CaCertificate>>>,
    pub policies: Arc<BTreeMap<String, Arc<PolicyRecord>>>,
    /// What a verification certificate's common name must be; `None` until it is asked for.
    pub registration_code: Option<Arc<str>>,
}

/// Levels of groups, as AWS has them: also what ends a walk up the parents.
pub const GROUP_DEPTH_MAX: usize = 7;

impl FleetView {
    /// A group and those above it, innermost first.
    pub fn lineage<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a Arc<ThingGroup>> {
        let mut next = self.groups.get(group);
        std::iter::from_fn(move || {
            let found = next?;
            next = found.parent.as_ref().and_then(|parent| self.groups.get(parent));
            Some(found)
        })
        .take(GROUP_DEPTH_MAX)
    }
}
