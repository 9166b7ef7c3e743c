//! GetItem, PutItem, UpdateItem, DeleteItem.

use super::{
    capacity::{Wanted, answer, read_units},
    change::{Spent, current},
    expression::{Condition, Kind, Placeholders, Projection, Update},
    fault::{invalid, missing},
    key::Position,
    request::{choice, object, read, table_name},
    rows::Source,
    schema::TableDescriptor,
    store::Store,
    value::{ITEM_BYTES_MAX, Item, item_from_json, item_size, item_to_json},
    writer::Batch,
};
use crate::{AwsError, Call};
use serde::Deserialize;
use serde_json::{Map, Value as Json};
use std::sync::Arc;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ItemRequest {
    pub table_name: Option<String>,
    pub item: Option<Map<String, Json>>,
    pub key: Option<Map<String, Json>>,
    pub condition_expression: Option<String>,
    pub update_expression: Option<String>,
    pub projection_expression: Option<String>,
    pub expression_attribute_names: Option<Map<String, Json>>,
    pub expression_attribute_values: Option<Map<String, Json>>,
    pub return_values: Option<String>,
    pub return_values_on_condition_check_failure: Option<String>,
    pub return_consumed_capacity: Option<String>,
    pub return_item_collection_metrics: Option<String>,
    pub consistent_read: Option<bool>,
}

/// What is to be done with an item, parsed.
#[derive(Debug, Clone)]
pub enum Deed {
    Put(Item),
    Update(Item, Update),
    Delete(Item),
    /// Of a transaction.
    Check(Item),
}

#[derive(Debug, Clone)]
pub struct Written {
    pub table: String,
    pub deed: Deed,
    pub condition: Option<Condition>,
    pub old_on_failure: bool,
}

/// What a write has done.
pub struct Outcome {
    pub old: Option<Item>,
    pub new: Option<Item>,
    /// Of an update: the parts that it touched.
    pub touched: Option<Projection>,
    pub spent: Spent,
}

/// A write that its condition refuses.
pub fn condition_failed(old: Option<&Item>, shown: bool) -> AwsError {
    let error = AwsError::new("ConditionalCheckFailedException", "The conditional request failed");
    match old.filter(|_| shown) {
        Some(old) => error.with("Item", item_to_json(old)),
        None => error,
    }
}

fn items_of(members: Option<&Map<String, Json>>, member: &str) -> Result<Item, AwsError> {
    item_from_json(members.ok_or_else(|| missing(member))?)
}

impl ItemRequest {
    /// The write that this request asks for. `kind`: `Put`, `Update`, `Delete` or `ConditionCheck`.
    pub fn written(&self, call: &Call, kind: &str) -> Result<Written, AwsError> {
        let table = table_name(call, self.table_name.as_deref(), "tableName")?;
        let mut expressions = vec![(Kind::Condition, self.condition_expression.as_deref())];
        if kind == "Update" {
            expressions.insert(0, (Kind::Update, self.update_expression.as_deref()));
        }
        let mut placeholders = Placeholders::read(
            self.expression_attribute_names.as_ref(),
            self.expression_attribute_values.as_ref(),
            &expressions,
        )?;
        let deed = match kind {
            "Put" => Deed::Put(items_of(self.item.as_ref(), "item")?),
            "Update" => {
                let update = match &self.update_expression {
                    Some(text) => Update::parse(text, &mut placeholders)?,
                    None => Update::default(),
                };
                Deed::Update(items_of(self.key.as_ref(), "key")?, update)
            }
            "Delete" => Deed::Delete(items_of(self.key.as_ref(), "key")?),
            _ => Deed::Check(items_of(self.key.as_ref(), "key")?),
        };
        let condition = self.condition_expression.as_deref();
        if kind == "ConditionCheck" && condition.is_none() {
            return Err(missing("conditionExpression"));
        }
        let condition = condition.map(|text| Condition::parse(Kind::Condition, text, &mut placeholders)).transpose()?;
        placeholders.all_used()?;
        let on_failure = self.return_values_on_condition_check_failure.as_deref();
        let on_failure = choice(on_failure, "NONE", "returnValuesOnConditionCheckFailure", &["ALL_OLD", "NONE"])?;
        choice(
            self.return_item_collection_metrics.as_deref(),
            "NONE",
            "returnItemCollectionMetrics",
            &["SIZE", "NONE"],
        )?;
        Ok(Written { table, deed, condition, old_on_failure: on_failure == "ALL_OLD" })
    }
}

impl Written {
    pub fn position(&self, table: &TableDescriptor) -> Result<Position, AwsError> {
        match &self.deed {
            Deed::Put(item) => table.key.of_item(item),
            Deed::Update(key, update) => {
                if let Some(path) = update.paths().iter().find(|path| table.key.has(path.attribute())) {
                    return Err(invalid(format!(
                        "One or more parameter values were invalid: Cannot update attribute {}. This attribute is part of the key",
                        path.attribute()
                    )));
                }
                table.key.of_key(key)
            }
            Deed::Delete(key) | Deed::Check(key) => table.key.of_key(key),
        }
    }

    /// Decides the condition and writes.
    pub fn carry_out(
        &self,
        store: &Store,
        batch: &mut Batch<'_>,
        table: &TableDescriptor,
    ) -> Result<Outcome, AwsError> {
        let position = self.position(table)?;
        let (old, is_result) = current(batch, table, &position)?;
        if let Some(condition) = &self.condition
            && !condition.holds(old.as_ref().unwrap_or(&Item::new()))
        {
            return Err(condition_failed(old.as_ref(), self.old_on_failure));
        }
        let (new, touched) = match &self.deed {
            Deed::Put(item) => (Some(item.clone()), None),
            Deed::Update(key, update) => {
                let applied = update.apply(old.as_ref().unwrap_or(key))?;
                if item_size(&applied.item) > ITEM_BYTES_MAX {
                    return Err(invalid("Item size to update has exceeded the maximum allowed size"));
                }
                (Some(applied.item), Some(applied.touched))
            }
            Deed::Delete(_) => (None, None),
            Deed::Check(_) => {
                let size = old.as_ref().map_or(0, item_size);
                let spent = Spent { table: read_units(size, true), indexes: Vec::new() };
                return Ok(Outcome { new: old.clone(), old, touched: None, spent });
            }
        };
        let spent = store.change(table).apply(batch, &position, (old.as_ref(), is_result), new.as_ref())?;
        Ok(Outcome { old, new, touched, spent })
    }
}

fn write_item(store: &Arc<Store>, call: &Call, kind: &'static str, returns: &[&str]) -> Result<Json, AwsError> {
    let request: ItemRequest = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    let values = choice(
        request.return_values.as_deref(),
        "NONE",
        "returnValues",
        &["ALL_NEW", "UPDATED_OLD", "ALL_OLD", "NONE", "UPDATED_NEW"],
    )?;
    if !returns.contains(&values) {
        return Err(invalid("Return values set to invalid value"));
    }
    let written = request.written(call, kind)?;
    let job = store.clone();
    let (table, outcome) = store.writer.write(move |batch| {
        let table = job.usable_in(batch, &written.table)?;
        let outcome = written.carry_out(&job, batch, &table)?;
        Ok((table, outcome))
    })?;
    let Outcome { old, new, touched, spent } = outcome;
    let cut = |item: Option<Item>| Some(touched.as_ref()?.cut(&item?));
    let attributes = match values {
        "ALL_OLD" => old,
        "ALL_NEW" => new,
        "UPDATED_OLD" => cut(old),
        "UPDATED_NEW" => cut(new),
        _ => None,
    };
    let local = |index: &str| table.index(index).is_some_and(|index| index.local);
    Ok(answer([
        ("Attributes", attributes.filter(|attributes| !attributes.is_empty()).map(|item| item_to_json(&item))),
        ("ConsumedCapacity", wanted.describe(&table.name, &spent, local)),
    ]))
}

pub fn put_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    write_item(store, call, "Put", &["NONE", "ALL_OLD"])
}

pub fn delete_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    write_item(store, call, "Delete", &["NONE", "ALL_OLD"])
}

pub fn update_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    write_item(store, call, "Update", &["NONE", "ALL_OLD", "UPDATED_OLD", "ALL_NEW", "UPDATED_NEW"])
}

/// Parses a projection with its own names.
pub fn projection(text: Option<&str>, names: Option<&Map<String, Json>>) -> Result<Option<Projection>, AwsError> {
    let mut placeholders = Placeholders::read(names, None, &[(Kind::Projection, text)])?;
    let projection = text.map(|text| Projection::parse(text, &mut placeholders)).transpose()?;
    placeholders.all_used()?;
    Ok(projection)
}

pub fn get_item(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: ItemRequest = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let projection = projection(request.projection_expression.as_deref(), request.expression_attribute_names.as_ref())?;
    let key = items_of(request.key.as_ref(), "key")?;
    let table = store.usable(&name)?;
    let row = Source::of_table(&*store.table, &table).get(&table.key.of_key(&key)?)?;
    let size = row.as_ref().map_or(0, |row| row.size());
    let item = row.map(|row| row.item()).transpose()?;
    let item = item.map(|item| projection.map_or_else(|| item.clone(), |projection| projection.cut(&item)));
    let units = read_units(size, request.consistent_read.unwrap_or(false));
    let spent = Spent { table: units, indexes: Vec::new() };
    Ok(answer([
        ("Item", item.map(|item| item_to_json(&item))),
        ("ConsumedCapacity", wanted.describe(&name, &spent, |_| false)),
    ]))
}
