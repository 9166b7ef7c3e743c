//! The tenants' results tables, as the AWS endpoint sees them.

use kilter_core::{
    TenantId, Timestamp,
    ports::resources::{Resource, Resources},
};
use kilter_door_aws::dynamodb::ResultTables;
use std::sync::Arc;

pub struct TenantTables(pub Arc<dyn Resources>);

impl TenantTables {
    fn tenant(name: &str) -> Result<TenantId, String> {
        Resource::Table.tenant(name, "").ok_or_else(|| format!("{name} is not the name of a tenant's results table"))
    }
}

impl ResultTables for TenantTables {
    fn is_result_table(&self, name: &str) -> bool {
        Self::tenant(name).is_ok()
    }

    fn tables(&self) -> Vec<(String, Timestamp)> {
        let tables = self.0.list(Resource::Table);
        let tables = tables.inspect_err(|error| tracing::error!(%error, "results tables could not be listed"));
        tables.unwrap_or_default().into_iter().map(|(tenant, since)| (tenant.table(), since)).collect()
    }

    fn create(&self, name: &str) -> Result<(), String> {
        self.0.make(&Self::tenant(name)?, Resource::Table).map_err(|error| error.to_string())
    }

    fn delete(&self, name: &str) -> Result<(), String> {
        self.0.remove(&Self::tenant(name)?, Resource::Table).map_err(|error| error.to_string())
    }
}
