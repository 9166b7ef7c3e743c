//! What is known of a table beside its items, and how it is described.

use super::key::{KeyPart, KeySchema};
use kilter_core::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::{collections::BTreeMap, sync::Arc};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableDescriptor {
    pub name: String,
    pub id: String,
    pub created: Timestamp,
    pub key: KeySchema,
    /// As they were defined: the table's keys and its indexes'.
    pub attributes: Vec<KeyPart>,
    pub billing: Billing,
    pub indexes: Vec<Index>,
    pub state: State,
    #[serde(default)]
    pub ttl: Option<TimeToLive>,
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    #[serde(default)]
    pub recovery: Option<Recovery>,
    #[serde(default)]
    pub deletion_protected: bool,
    #[serde(default)]
    pub class: Option<String>,
    /// The table that it was restored from, and the time.
    #[serde(default)]
    pub restored: Option<(String, Timestamp)>,
    /// Where the pipeline puts a tenant's results, under this table's own name.
    #[serde(default)]
    pub results: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Billing {
    OnDemand,
    Provisioned { read: u64, write: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Being filled by a restore or an import.
    Creating,
    Active,
    /// Its items are being removed; nobody may use it any more.
    Deleting,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeToLive {
    pub attribute: String,
    /// Whether items that were there before are in the order of expiry too.
    pub filled: bool,
}

/// Point-in-time recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    pub since: Timestamp,
    pub days: u32,
}

impl Recovery {
    /// The service's longest, and its default.
    pub const DAYS_MAX: u32 = 35;

    pub fn earliest(&self, now: Timestamp) -> Timestamp {
        self.since.max(now.plus_seconds(-i64::from(self.days) * 86_400))
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Index {
    pub name: String,
    pub key: KeySchema,
    pub projected: Projected,
    pub local: bool,
    pub throughput: Option<(u64, u64)>,
    /// Whether items that were there before it are in it.
    pub filled: bool,
    /// Being removed.
    #[serde(default)]
    pub deleting: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Projected {
    All,
    KeysOnly,
    Include(Vec<String>),
}

/// Names of tables in the port. `/` cannot stand in the name of a table or index.
impl TableDescriptor {
    /// The user's items.
    pub fn items(&self) -> Arc<str> {
        format!("ddb/{}", self.name).into()
    }
    pub fn index_items(&self, index: &str) -> Arc<str> {
        format!("ddb/{}/{index}", self.name).into()
    }
    /// Items in the order in which they expire.
    pub fn expiry(&self) -> Arc<str> {
        format!("ddb/{}//ttl", self.name).into()
    }
    /// What items were before each change.
    pub fn history(&self) -> Arc<str> {
        format!("ddb/{}//history", self.name).into()
    }
    pub fn counts(&self) -> Arc<str> {
        format!("ddb/{}//counts", self.name).into()
    }
    /// Where the pipeline writes, if it does.
    pub fn rows(&self) -> Option<&str> {
        self.results.then_some(self.name.as_str())
    }

    pub fn arn(&self, region: &str, account: &str) -> String {
        table_arn(region, account, &self.name)
    }

    pub fn index(&self, name: &str) -> Option<&Index> {
        self.indexes.iter().find(|index| index.name == name && !index.deleting)
    }
}

pub fn table_arn(region: &str, account: &str, name: &str) -> String {
    format!("arn:aws:dynamodb:{region}:{account}:table/{name}")
}

/// Items and bytes of a table or index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    pub items: u64,
    pub bytes: u64,
}

impl Index {
    /// The attributes that an item's place in the index holds; `None` for all.
    pub fn attributes<'a>(&'a self, table: &'a KeySchema) -> Option<Vec<&'a str>> {
        let included: &[String] = match &self.projected {
            Projected::All => return None,
            Projected::KeysOnly => &[],
            Projected::Include(names) => names,
        };
        let keys = self.key.parts().chain(table.parts()).map(|part| part.name.as_str());
        Some(keys.chain(included.iter().map(String::as_str)).collect())
    }

    fn describe(&self, table_arn: &str, counts: Counts) -> Json {
        let mut projection = json!({ "ProjectionType": match self.projected {
            Projected::All => "ALL",
            Projected::KeysOnly => "KEYS_ONLY",
            Projected::Include(_) => "INCLUDE",
        }});
        if let Projected::Include(names) = &self.projected {
            projection["NonKeyAttributes"] = json!(names);
        }
        let mut described = json!({
            "IndexName": self.name,
            "IndexArn": format!("{table_arn}/index/{}", self.name),
            "KeySchema": describe_key(&self.key),
            "Projection": projection,
            "IndexSizeBytes": counts.bytes,
            "ItemCount": counts.items,
        });
        if !self.local {
            described["IndexStatus"] = json!(match (self.deleting, self.filled) {
                (true, _) => "DELETING",
                (false, true) => "ACTIVE",
                (false, false) => "CREATING",
            });
            if !self.filled && !self.deleting {
                described["Backfilling"] = json!(true);
            }
            let (read, write) = self.throughput.unwrap_or((0, 0));
            described["ProvisionedThroughput"] = throughput(read, write);
        }
        described
    }
}

fn throughput(read: u64, write: u64) -> Json {
    json!({ "NumberOfDecreasesToday": 0, "ReadCapacityUnits": read, "WriteCapacityUnits": write })
}

fn describe_key(key: &KeySchema) -> Json {
    let part = |part: &KeyPart, kind: &str| json!({ "AttributeName": part.name, "KeyType": kind });
    let range = key.range.as_ref().map(|range| part(range, "RANGE"));
    Json::Array(std::iter::once(part(&key.hash, "HASH")).chain(range).collect())
}

/// Seconds since the epoch, as the JSON protocols write times.
pub fn seconds(time: Timestamp) -> f64 {
    // To the millisecond: what is finer than that is no time of the service's.
    (time.as_nanos() / 1_000_000) as f64 / 1_000.0
}

impl TableDescriptor {
    pub fn status(&self) -> &'static str {
        match self.state {
            State::Creating => "CREATING",
            State::Deleting => "DELETING",
            State::Active if self.indexes.iter().any(|index| !index.filled || index.deleting) => "UPDATING",
            State::Active => "ACTIVE",
        }
    }

    /// `counts`: of the table, then of each index in order.
    pub fn describe(&self, region: &str, account: &str, counts: &[Counts]) -> Json {
        let arn = self.arn(region, account);
        let own = counts.first().copied().unwrap_or_default();
        let (read, write) = match self.billing {
            Billing::OnDemand => (0, 0),
            Billing::Provisioned { read, write } => (read, write),
        };
        let attributes = self.attributes.iter();
        let mut described = json!({
            "AttributeDefinitions": attributes
                .map(|part| json!({ "AttributeName": part.name, "AttributeType": part.kind.name() }))
                .collect::<Vec<_>>(),
            "TableName": self.name,
            "KeySchema": describe_key(&self.key),
            "TableStatus": self.status(),
            "CreationDateTime": seconds(self.created),
            "ProvisionedThroughput": throughput(read, write),
            "TableSizeBytes": own.bytes,
            "ItemCount": own.items,
            "TableArn": arn,
            "TableId": self.id,
            "DeletionProtectionEnabled": self.deletion_protected,
        });
        if self.billing == Billing::OnDemand {
            described["BillingModeSummary"] = json!({
                "BillingMode": "PAY_PER_REQUEST",
                "LastUpdateToPayPerRequestDateTime": seconds(self.created),
            });
        }
        if let Some(class) = &self.class {
            described["TableClassSummary"] = json!({ "TableClass": class });
        }
        if let Some((source, time)) = &self.restored {
            described["RestoreSummary"] = json!({
                "SourceTableArn": table_arn(region, account, source),
                "RestoreDateTime": seconds(*time),
                "RestoreInProgress": self.state == State::Creating,
            });
        }
        for (member, local) in [("LocalSecondaryIndexes", true), ("GlobalSecondaryIndexes", false)] {
            let of_kind = self.indexes.iter().zip(counts.iter().skip(1)).filter(|(index, _)| index.local == local);
            let all: Vec<Json> = of_kind.map(|(index, counts)| index.describe(&arn, *counts)).collect();
            if !all.is_empty() {
                described[member] = Json::Array(all);
            }
        }
        described
    }
}
