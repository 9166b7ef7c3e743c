//! Roles as they are kept.

use crate::{AwsError, policy::Policy};
use kilter_core::{
    Timestamp,
    ports::table::{SkRange, Table, Write},
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

const TABLE: &str = "iam";
const ROLES: &str = "roles";

pub type Roles = BTreeMap<String, Role>;

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Role {
    pub name: String,
    pub id: String,
    pub path: String,
    pub created: Timestamp,
    pub description: String,
    pub session_seconds_max: u32,
    /// Who may take it on, as it was given.
    pub trust: String,
    /// Inline policies by name, as they were given.
    pub policies: BTreeMap<String, String>,
    pub tags: BTreeMap<String, String>,
}

impl Role {
    /// Whether a statement of the trust policy allows the service to assume the role.
    pub fn trusts(&self, service: &str) -> bool {
        self.trusts_principal(|principal| one_or_many(&principal["Service"]).any(|known| known == service))
    }

    /// Whether a statement allows a caller of this account, whom these ARNs name, to assume the role.
    pub fn trusts_caller(&self, account: &str, names: &[String]) -> bool {
        let root = format!("arn:aws:iam::{account}:root");
        let is_caller =
            |known: &str| known == "*" || known == account || known == root || names.iter().any(|name| name == known);
        self.trusts_principal(|principal| one_or_many(&principal["AWS"]).any(is_caller))
    }

    fn trusts_principal(&self, is_one: impl Fn(&Value) -> bool) -> bool {
        let trust: Value = serde_json::from_str(&self.trust).unwrap_or_default();
        let statements = match &trust["Statement"] {
            Value::Array(all) => all.as_slice(),
            one => std::slice::from_ref(one),
        };
        statements.iter().any(|statement| {
            statement["Effect"] == "Allow"
                && one_or_many(&statement["Action"]).any(|action| action == "sts:AssumeRole")
                && (statement["Principal"] == "*" || is_one(&statement["Principal"]))
        })
    }

    pub fn allows(&self, action: &str, resource: &str) -> bool {
        let policies: Vec<Policy> = self.policies.values().filter_map(|text| Policy::parse(text).ok()).collect();
        // One that cannot be read any more might hold a Deny: then nothing is allowed.
        let whole = policies.len() == self.policies.len();
        whole && crate::policy::allowed(&policies.iter().collect::<Vec<_>>(), action, resource)
    }
}

fn one_or_many(value: &Value) -> impl Iterator<Item = &str> {
    let all = match value {
        Value::Array(all) => all.as_slice(),
        one => std::slice::from_ref(one),
    };
    all.iter().filter_map(Value::as_str)
}

pub fn load(table: &dyn Table) -> Result<Roles, AwsError> {
    let items = table.range(TABLE, ROLES, SkRange::ALL, usize::MAX).map_err(AwsError::internal)?;
    let role = |value: &[u8]| serde_json::from_slice::<Role>(value).map_err(AwsError::internal);
    items.iter().map(|item| Ok((item.sk.clone(), role(&item.value)?))).collect()
}

pub fn save(table: &dyn Table, role: &Role) -> Result<(), AwsError> {
    let value = serde_json::to_vec(role).map_err(AwsError::internal)?;
    table.commit(vec![Write::put(&TABLE.into(), ROLES, &role.name, value)]).map_err(AwsError::internal)
}

pub fn remove(table: &dyn Table, name: &str) -> Result<(), AwsError> {
    table.commit(vec![Write::delete(&TABLE.into(), ROLES, name)]).map_err(AwsError::internal)
}
