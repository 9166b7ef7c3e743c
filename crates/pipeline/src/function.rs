//! The scoring function, asked by hand: scores a payload against a thing's latest stored state, and changes nothing.

use crate::{
    checkpoint::{CheckpointError, Progress, Snapshot},
    consumer::ConfigFor,
    decode,
    logs::function_name,
    registry::Registry,
    thing::{Horizon, ThingState},
};
use kilter_core::{
    NewRecord, Offset, Record, RecordKind, ScoredReading, ShardId, TenantId, ThingName,
    ports::{
        clock::Clock,
        function::{FunctionError, FunctionView, Functions},
        stream::Stream,
        table::Table,
    },
};
use serde_json::Value;
use std::sync::Arc;

pub struct ScoringFunctions {
    pub registry: Arc<Registry>,
    pub stream: Arc<dyn Stream>,
    pub table: Arc<dyn Table>,
    pub clock: Arc<dyn Clock>,
    pub config_for: Arc<ConfigFor>,
    pub horizon: Horizon,
}

fn internal(error: impl std::fmt::Display) -> FunctionError {
    FunctionError::Internal(error.to_string())
}

/// The thing that a payload names.
fn thing_of(payload: &[u8]) -> Result<ThingName, FunctionError> {
    let refuse = |why: String| Err(FunctionError::Payload(why));
    let parsed: Value = match serde_json::from_slice(payload) {
        Ok(parsed) => parsed,
        Err(error) => return refuse(format!("the payload is not JSON: {error}")),
    };
    let first = if let Value::Array(items) = &parsed { items.first().unwrap_or(&Value::Null) } else { &parsed };
    let by_topic = || first["topic"].as_str().and_then(|topic| topic.split('/').nth(3));
    match first["thing"].as_str().or_else(by_topic).map(ThingName::new) {
        Some(Ok(thing)) => Ok(thing),
        Some(Err(error)) => refuse(error.to_string()),
        None => refuse("the payload names no thing: add \"thing\", or the \"topic\" of a telemetry message".to_owned()),
    }
}

impl ScoringFunctions {
    /// The thing's state, with where its marks are.
    fn state(&self, tenant: &TenantId, thing: &ThingName) -> Result<(ThingState, Progress), FunctionError> {
        let config = (self.config_for)(tenant, thing);
        let name = tenant.stream();
        let shards = self.stream.list().map_err(internal)?.into_iter().find(|(known, _)| *known == name);
        // A thing's state is kept with the shard of its records: a child's is newer than its parents'.
        for shard in (0..shards.map_or(0, |(_, shards)| shards)).rev().map(ShardId) {
            let progress = Progress::of(&name, shard);
            let stored: Result<_, CheckpointError> = progress.snapshot(&*self.table, thing);
            if let Some(Snapshot { state, .. }) = stored.map_err(internal)? {
                let state = ThingState::restore(tenant.clone(), thing.clone(), config, self.horizon, &state);
                return Ok((state.map_err(internal)?, progress));
            }
        }
        let state = ThingState::new(tenant.clone(), thing.clone(), config, self.horizon);
        Ok((state, Progress::of(&name, ShardId(0))))
    }
}

impl Functions for ScoringFunctions {
    fn list(&self) -> Vec<FunctionView> {
        let state = self.registry.state();
        let view = |tenant: &crate::registry::Tenant| FunctionView {
            name: function_name(&tenant.tenant),
            tenant: tenant.tenant.clone(),
            created: tenant.created,
        };
        state.tenants.values().map(view).collect()
    }

    fn invoke(&self, tenant: &TenantId, payload: &[u8]) -> Result<Vec<ScoredReading>, FunctionError> {
        if !self.registry.state().tenants.contains_key(tenant) {
            return Err(FunctionError::NotFound(tenant.clone()));
        }
        let thing = thing_of(payload)?;
        let arrival = self.clock.now();
        decode::decode(payload, arrival).map_err(|why| FunctionError::Payload(why.into()))?;
        let (mut state, progress) = self.state(tenant, &thing)?;
        let name = thing.clone();
        let record = NewRecord {
            kind: RecordKind::Telemetry,
            partition_key: thing.as_str().into(),
            hash_key: None,
            topic: tenant.telemetry_topic(&thing).into(),
            thing,
            thing_sequence: 0,
            arrival,
            data: payload.to_vec().into(),
        };
        let read = |number| progress.mark(&*self.table, &name, number);
        let done = state.process(ShardId(0), &Record { offset: Offset(u64::MAX), record }, &read).map_err(internal)?;
        if done.rows.is_empty() && done.late_readings > 0 {
            let why = "its time is that of a reading that was scored, or too far behind the thing's last one: nothing can be said of it";
            return Err(FunctionError::Payload(why.to_owned()));
        }
        Ok(done.rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::{Change, RegistryError, Tenant};
    use kilter_core::{AlertBudget, ports::stream::StreamAdmin};
    use kilter_detect::ScorerConfig;
    use kilter_testkit::{FakeClock, MemoryStream, MemoryTable};

    #[test]
    fn a_payload_is_scored_against_the_thing_and_nothing_is_kept() {
        let (table, stream, clock) =
            (Arc::new(MemoryTable::new()), Arc::new(MemoryStream::new()), FakeClock::default());
        let tenant = TenantId::new("t1").unwrap();
        let registry = Arc::new(Registry::open(table.clone()).unwrap());
        let known = Tenant { tenant: tenant.clone(), created: clock.now(), budget: AlertBudget::default(), shards: 2 };
        registry.change::<(), RegistryError>(|_| Ok((vec![Change::Tenant(known)], ()))).unwrap();
        stream.create(&tenant.stream(), 2).unwrap();
        let functions = ScoringFunctions {
            registry,
            stream,
            table: table.clone(),
            clock: Arc::new(clock),
            config_for: Arc::new(|_, _| ScorerConfig::default()),
            horizon: Horizon::default(),
        };
        assert_eq!(functions.list()[0].name, "score-telemetry-t1");
        let before = table.scan("scoring", None, 10).unwrap();
        let payload = br#"{"topic":"tenants/t1/devices/pump-1/telemetry","flow":5.5}"#;
        let rows = functions.invoke(&tenant, payload).unwrap();
        assert_eq!((rows.len(), rows[0].thing.as_str(), rows[0].values["flow"]), (1, "pump-1", 5.5));
        assert_eq!(functions.invoke(&tenant, br#"{"thing":"pump-1","flow":5.5}"#).unwrap().len(), 1);
        assert_eq!(table.scan("scoring", None, 10).unwrap(), before);
        for (payload, why) in [
            (&b"x"[..], "not JSON"),
            (b"{\"flow\":1}", "names no thing"),
            (b"{\"thing\":\"a b\",\"flow\":1}", "not valid"),
            (b"{\"thing\":\"a\"}", "no numeric field"),
        ] {
            assert!(functions.invoke(&tenant, payload).unwrap_err().to_string().contains(why));
        }
        let stranger = TenantId::new("t2").unwrap();
        assert_eq!(functions.invoke(&stranger, payload).unwrap_err(), FunctionError::NotFound(stranger));
    }
}
