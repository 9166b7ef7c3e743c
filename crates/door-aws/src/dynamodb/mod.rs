//! DynamoDB. Items are kept through the port `Table`; a tenant's results table shows what the pipeline keeps there.

mod access;
mod action;
mod batch;
mod capacity;
mod change;
mod definition;
mod export;
pub mod expression;
mod fault;
mod import;
mod items;
mod key;
pub mod number;
mod query;
mod recovery;
mod request;
mod rows;
mod schema;
mod settings;
mod store;
mod tables;
mod transact;
mod upkeep;
pub mod value;
mod writer;

#[cfg(test)]
mod tests;

pub use store::ResultTables;
pub(crate) use store::new_id;

use crate::{Access, Answer, AwsError, Call, Service};
use change::Stamps;
use futures::{FutureExt, future::BoxFuture};
use kilter_core::ports::{clock::Clock, objects::Objects, table::Table};
use serde_json::Value as Json;
use std::sync::{Arc, atomic::AtomicBool};
use store::{Store, Wake};
use writer::Writer;

type Operation = fn(&Arc<Store>, &Call) -> Result<Json, AwsError>;

const OPERATIONS: [(&str, Operation); 31] = [
    ("BatchGetItem", batch::batch_get_item),
    ("BatchWriteItem", batch::batch_write_item),
    ("CreateTable", tables::create_table),
    ("DeleteItem", items::delete_item),
    ("DeleteTable", tables::delete_table),
    ("DescribeContinuousBackups", settings::describe_continuous_backups),
    ("DescribeEndpoints", tables::describe_endpoints),
    ("DescribeExport", export::describe_export),
    ("DescribeImport", import::describe_import),
    ("DescribeLimits", tables::describe_limits),
    ("DescribeTable", tables::describe_table),
    ("DescribeTimeToLive", settings::describe_time_to_live),
    ("ExportTableToPointInTime", export::export_table_to_point_in_time),
    ("GetItem", items::get_item),
    ("ImportTable", import::import_table),
    ("ListExports", export::list_exports),
    ("ListImports", import::list_imports),
    ("ListTables", tables::list_tables),
    ("ListTagsOfResource", settings::list_tags_of_resource),
    ("PutItem", items::put_item),
    ("Query", query::query),
    ("RestoreTableToPointInTime", recovery::restore_table_to_point_in_time),
    ("Scan", query::scan),
    ("TagResource", settings::tag_resource),
    ("TransactGetItems", transact::transact_get_items),
    ("TransactWriteItems", transact::transact_write_items),
    ("UntagResource", settings::untag_resource),
    ("UpdateContinuousBackups", settings::update_continuous_backups),
    ("UpdateItem", items::update_item),
    ("UpdateTable", tables::update_table),
    ("UpdateTimeToLive", settings::update_time_to_live),
];

/// What the service is made of.
pub struct DynamoDbPorts {
    pub table: Arc<dyn Table>,
    pub objects: Arc<dyn Objects>,
    pub clock: Arc<dyn Clock>,
    pub results: Arc<dyn ResultTables>,
}

#[derive(Clone)]
pub struct DynamoDb(Arc<Store>);

impl DynamoDb {
    pub fn new(ports: DynamoDbPorts) -> Self {
        let DynamoDbPorts { table, objects, clock, results } = ports;
        let writer = Writer::new(table.clone());
        let stamps = Stamps::default();
        Self(Arc::new(Store { table, writer, clock, stamps, results, objects, wake: Wake::default() }))
    }

    /// The long work, on a thread of its own: blocks until `stop` is set and [`Self::wake`] called.
    pub fn run(&self, stop: &AtomicBool) {
        upkeep::run(&self.0, stop);
    }

    pub fn wake(&self) {
        self.0.wake.wake();
    }

    /// Answers one request. Blocking.
    pub fn answer(&self, call: &Call) -> Result<Json, AwsError> {
        let target = call.header("x-amz-target").unwrap_or_default();
        let name = target.strip_prefix("DynamoDB_20120810.").unwrap_or_default();
        match OPERATIONS.iter().find(|(known, _)| *known == name) {
            Some((_, operation)) => operation(&self.0, call),
            None => Err(AwsError::new(
                "UnknownOperationException",
                format!("The operation {target:.200} is not known here; the guide lists those that are"),
            )),
        }
    }
}

impl Service for DynamoDb {
    fn name(&self) -> &'static str {
        "dynamodb"
    }

    fn call<'a>(&'a self, call: &'a Call) -> BoxFuture<'a, Result<Answer, AwsError>> {
        let (service, call) = (self.clone(), call.clone());
        async move {
            let answered = tokio::task::spawn_blocking(move || service.answer(&call)).await;
            let answer = answered.map_err(|_| fault::internal("the operation has failed; the log says why"))??;
            Ok(Answer::json(&answer))
        }
        .boxed()
    }

    fn access(&self, call: &Call) -> Access {
        access::of(call)
    }
}
