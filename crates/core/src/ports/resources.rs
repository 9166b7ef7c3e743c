//! Which of a tenant's resources there are. What is absent is not written to, and is written to again from the moment
//! it is made anew.

use crate::{StreamName, TenantId, Timestamp, ports::control::ControlError};

/// What results and records go to, each where it exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// `anomaly-results-<tenant>`. While it is absent, rows are not kept; episodes and alerts are.
    Table,
    /// `iot-data-lake-<tenant>-<region>`. While it is absent, what passes is not archived.
    Bucket,
    /// `alerts-<tenant>`.
    Topic,
}

impl Resource {
    /// The tenant whose resource of this kind bears the name, whether it exists or not.
    pub fn tenant(self, name: &str, region: &str) -> Option<TenantId> {
        let tenant = match self {
            Self::Table => name.strip_prefix("anomaly-results-"),
            Self::Bucket => name.strip_prefix("iot-data-lake-")?.strip_suffix(region)?.strip_suffix('-'),
            Self::Topic => name.strip_prefix("alerts-"),
        };
        tenant.and_then(|name| TenantId::new(name).ok())
    }
}

/// Durable and in force on return. Blocking, but for `exists`, which is quick.
pub trait Resources: Send + Sync {
    fn exists(&self, tenant: &TenantId, resource: Resource) -> bool;
    /// Those of a kind that exist, with the time since when, sorted by tenant.
    fn list(&self, resource: Resource) -> Result<Vec<(TenantId, Timestamp)>, ControlError>;
    /// From now on it is written to. Making what is there is not an error.
    fn make(&self, tenant: &TenantId, resource: Resource) -> Result<(), ControlError>;
    /// From now on it is not, and what it held is gone. Removing what is not there is not an error.
    fn remove(&self, tenant: &TenantId, resource: Resource) -> Result<(), ControlError>;
    /// A stream; with `anomaly-stream-<tenant>` the tenant comes into being, if it is not there, with the default
    /// budget and without a table and a topic. A name that is taken is a conflict.
    fn make_stream(&self, stream: &StreamName, shards: u32) -> Result<(), ControlError>;
    /// A stream with its records, and what scoring keeps of it. Unknown: not found.
    fn remove_stream(&self, stream: &StreamName) -> Result<(), ControlError>;
}
