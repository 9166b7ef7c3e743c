//! The tenants' results tables, as the AWS endpoint sees them: each is there as long as its tenant is.

use kilter_core::{TenantId, Timestamp};
use kilter_door_aws::dynamodb::ResultTables;
use kilter_pipeline::registry::Registry;
use std::sync::Arc;

pub struct TenantTables(pub Arc<Registry>);

impl ResultTables for TenantTables {
    fn is_result_table(&self, name: &str) -> bool {
        name.strip_prefix("anomaly-results-").is_some_and(|tenant| TenantId::new(tenant).is_ok())
    }

    fn tables(&self) -> Vec<(String, Timestamp)> {
        self.0.state().tenants.values().map(|tenant| (tenant.tenant.table(), tenant.created)).collect()
    }

    fn create(&self, name: &str) -> Result<(), String> {
        let tenant = name.trim_start_matches("anomaly-results-");
        Err(format!(
            "{name} is the results table of tenant {tenant}, which does not exist: make it with `kilter tenant onboard {tenant}`"
        ))
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        let tenant = name.trim_start_matches("anomaly-results-");
        Err(format!("{name} goes with its tenant: use `kilter tenant offboard {tenant}`"))
    }
}
