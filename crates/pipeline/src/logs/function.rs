//! What the scoring functions say of themselves: a START, an END and a REPORT line for each second in which a tenant's
//! records were scored, in the log group `/aws/lambda/score-telemetry-<tenant>`.

use super::LogWriter;
use crate::rules::uuid;
use kilter_core::{TenantId, Timestamp};
use std::{collections::BTreeMap, fmt::Write, time::Duration};

/// The tenant's scoring function.
pub fn function_name(tenant: &TenantId) -> String {
    format!("score-telemetry-{tenant}")
}

pub fn function_group(tenant: &TenantId) -> String {
    format!("/aws/lambda/{}", function_name(tenant))
}

/// Work since the last lines.
#[derive(Default)]
struct Work {
    batches: u64,
    records: u64,
    took: Duration,
}

#[derive(Default)]
pub struct FunctionLog {
    /// `None`: nobody reads it.
    writer: Option<LogWriter>,
    /// Of this run of the server: log streams are named by it.
    run: String,
    work: BTreeMap<TenantId, Work>,
}

fn random() -> [u8; 16] {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

impl FunctionLog {
    pub fn new(writer: LogWriter) -> Self {
        let run = random().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        });
        Self { writer: Some(writer), run, work: BTreeMap::new() }
    }

    /// Takes note of a batch that is about to be committed.
    pub fn note(&mut self, tenant: &TenantId, records: u64, took: Duration) {
        if self.writer.is_some() && records > 0 {
            let work = self.work.entry(tenant.clone()).or_default();
            work.batches += 1;
            work.records += records;
            work.took += took;
        }
    }

    /// Writes what was noted.
    pub fn write(&mut self, now: Timestamp) {
        let Some(writer) = &self.writer else { return };
        for (tenant, work) in std::mem::take(&mut self.work) {
            let group = function_group(&tenant);
            let stream = format!("{}/[$LATEST]{}", now.format("%Y/%m/%d"), self.run);
            let request = uuid(random());
            let millis = work.took.as_secs_f64() * 1e3;
            for line in [
                format!("START RequestId: {request} Version: $LATEST"),
                format!("END RequestId: {request}"),
                format!(
                    "REPORT RequestId: {request}\tDuration: {millis:.2} ms\tRecords: {}\tBatches: {}",
                    work.records, work.batches
                ),
            ] {
                writer.tell(&group, &stream, now, line);
            }
        }
    }
}
