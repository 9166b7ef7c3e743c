//! Query and Scan: one walk along rows, page by page.

use super::{
    capacity::{Wanted, answer, read_units},
    change::{Spent, index_place},
    expression::{Comparison, Condition, KeyCondition, Kind, Placeholders, Projection, RangeCondition},
    fault::invalid,
    key::{KeyPart, KeySchema, Position, index_prefix, index_text, sortable},
    request::{bounded, check_name, choice, object, read, table_name},
    rows::{Row, Source},
    schema::{Index, Projected, TableDescriptor},
    store::Store,
    value::{AttributeValue, Item, item_from_json, item_to_json},
};
use crate::{AwsError, Call};
use kilter_core::ports::{objects::behind_prefix, table::SkRange};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};
use std::sync::Arc;

/// Bytes that a page looks at, the item that crosses it included.
const PAGE_BYTES_MAX: usize = 1 << 20;
/// Rows read from the port at a time: of the largest items this many are held in memory.
const ROWS_AT_A_TIME: usize = 64;
const SEGMENTS_MAX: i64 = 1_000_000;
/// Behind every hexadecimal digit.
const BEHIND_HEX: &str = "g";

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Request {
    table_name: Option<String>,
    index_name: Option<String>,
    key_condition_expression: Option<String>,
    filter_expression: Option<String>,
    projection_expression: Option<String>,
    expression_attribute_names: Option<Map<String, Json>>,
    expression_attribute_values: Option<Map<String, Json>>,
    exclusive_start_key: Option<Map<String, Json>>,
    scan_index_forward: Option<bool>,
    limit: Option<i64>,
    select: Option<String>,
    consistent_read: Option<bool>,
    return_consumed_capacity: Option<String>,
    segment: Option<i64>,
    total_segments: Option<i64>,
}

/// What is walked along.
struct Walk<'a> {
    table: &'a TableDescriptor,
    index: Option<&'a Index>,
    source: Source<'a>,
}

struct Wishes {
    filter: Option<Condition>,
    projection: Option<Projection>,
    count_only: bool,
    limit: Option<usize>,
}

#[derive(Default)]
struct Page {
    items: Vec<Item>,
    count: usize,
    scanned: usize,
    bytes: usize,
    /// The last row that was looked at, where there may be more.
    last: Option<Item>,
}

impl<'a> Walk<'a> {
    fn open(store: &'a Store, table: &'a TableDescriptor, index: Option<&str>) -> Result<Self, AwsError> {
        let Some(name) = index else {
            return Ok(Self { table, index: None, source: Source::of_table(&*store.table, table) });
        };
        check_name(name, "indexName")?;
        let index = table.index(name).filter(|index| index.filled);
        let index = index.ok_or_else(|| invalid(format!("The table does not have the specified index: {name}")))?;
        Ok(Self { table, index: Some(index), source: Source::of_index(&*store.table, table, name) })
    }

    fn key(&self) -> &KeySchema {
        self.index.map_or(&self.table.key, |index| &index.key)
    }

    /// The attributes that say where a walk has stopped.
    fn key_of(&self, item: &Item) -> Item {
        let mut key = self.table.key.key_of(item);
        key.extend(self.key().key_of(item));
        key
    }

    fn place(&self, start: &Map<String, Json>) -> Result<Position, AwsError> {
        let start = item_from_json(start)?;
        let fits = |part: &KeyPart| start.get(&part.name).is_some_and(|value| part.matches(value));
        let wrong = || invalid("The provided starting key is invalid");
        if !self.table.key.parts().chain(self.key().parts()).all(fits) || self.key_of(&start).len() != start.len() {
            return Err(match self.index {
                None => {
                    invalid("The provided starting key is invalid: The provided key element does not match the schema")
                }
                Some(_) => wrong(),
            });
        }
        let own = self.table.key.of_key(&self.table.key.key_of(&start))?;
        match self.index {
            None => Ok(own),
            Some(index) => index_place(self.table, index, &own, &start).map(|(place, _)| place).ok_or_else(wrong),
        }
    }

    fn walk(
        &self,
        wishes: &Wishes,
        mut more: impl FnMut(Option<&Position>, usize) -> Result<Vec<Row>, AwsError>,
        mut after: Option<Position>,
        mine: impl Fn(&Row) -> bool,
    ) -> Result<Page, AwsError> {
        let mut page = Page::default();
        loop {
            let left = wishes.limit.map_or(usize::MAX, |limit| limit - page.scanned);
            let rows = more(after.as_ref(), ROWS_AT_A_TIME.min(left.max(1)))?;
            let Some(last) = rows.last() else { return Ok(page) };
            after = Some(last.position.clone());
            for row in rows.into_iter().filter(&mine) {
                page.scanned += 1;
                page.bytes += row.size();
                let full = page.bytes >= PAGE_BYTES_MAX || wishes.limit == Some(page.scanned);
                if full || !wishes.count_only || wishes.filter.is_some() {
                    let item = row.item()?;
                    if wishes.filter.as_ref().is_none_or(|filter| filter.holds(&item)) {
                        page.count += 1;
                        if !wishes.count_only {
                            let projection = wishes.projection.as_ref();
                            page.items
                                .push(projection.map_or_else(|| item.clone(), |projection| projection.cut(&item)));
                        }
                    }
                    if full {
                        page.last = Some(self.key_of(&item));
                        return Ok(page);
                    }
                } else {
                    page.count += 1;
                }
            }
        }
    }

    fn answer(&self, page: Page, request: &Request, wanted: Wanted) -> Json {
        let units = read_units(page.bytes, request.consistent_read.unwrap_or(false));
        let spent = match self.index {
            None => Spent { table: units, indexes: Vec::new() },
            Some(index) => Spent { table: 0.0, indexes: vec![(index.name.clone(), units)] },
        };
        let local = |_: &str| self.index.is_some_and(|index| index.local);
        let items = || Json::Array(page.items.iter().map(item_to_json).collect());
        let counted = request.select.as_deref() == Some("COUNT");
        answer([
            ("Items", (!counted).then(items)),
            ("Count", Some(json!(page.count))),
            ("ScannedCount", Some(json!(page.scanned))),
            ("LastEvaluatedKey", page.last.as_ref().map(item_to_json)),
            ("ConsumedCapacity", wanted.describe(&self.table.name, &spent, local)),
        ])
    }

    /// What is returned of each item, checked against what the index holds.
    fn projection(&self, request: &Request, parsed: Option<Projection>) -> Result<Option<Projection>, AwsError> {
        let select = request.select.as_deref();
        choice(
            select,
            "ALL_ATTRIBUTES",
            "select",
            &["SPECIFIC_ATTRIBUTES", "COUNT", "ALL_ATTRIBUTES", "ALL_PROJECTED_ATTRIBUTES"],
        )?;
        match (select, &parsed) {
            (Some("SPECIFIC_ATTRIBUTES"), None) => {
                return Err(invalid("SPECIFIC_ATTRIBUTES requires AttributesToGet or ProjectionExpression"));
            }
            (Some("ALL_ATTRIBUTES" | "ALL_PROJECTED_ATTRIBUTES" | "COUNT"), Some(_)) => {
                return Err(invalid(format!(
                    "Cannot specify the ProjectionExpression when choosing to get {}",
                    if select == Some("COUNT") { "only the Count" } else { select.unwrap_or_default() }
                )));
            }
            (Some("ALL_PROJECTED_ATTRIBUTES"), None) if self.index.is_none() => {
                return Err(invalid("ALL_PROJECTED_ATTRIBUTES can be used only when Querying using an IndexName"));
            }
            _ => {}
        }
        let Some(index) = self.index else { return Ok(parsed) };
        if !index.local && request.consistent_read == Some(true) {
            return Err(invalid("Consistent reads are not supported on global secondary indexes"));
        }
        if select == Some("ALL_ATTRIBUTES") && index.projected != Projected::All {
            return Err(invalid(format!(
                "One or more parameter values were invalid: Select type ALL_ATTRIBUTES is not supported for secondary index {} because its projection type is not ALL",
                index.name
            )));
        }
        if let (Some(projection), Some(held)) = (&parsed, index.attributes(&self.table.key)) {
            let lacking: Vec<&str> = projection.attributes().filter(|name| !held.contains(name)).collect();
            if !lacking.is_empty() {
                return Err(invalid(format!(
                    "One or more parameter values were invalid: Secondary index {} does not project {lacking:?}",
                    index.name
                )));
            }
        }
        Ok(parsed)
    }

    /// The sort keys, in the port's form, that a condition lets through: from, and up to but without.
    fn bounds(&self, condition: Option<&RangeCondition>) -> (String, Option<String>) {
        let indexed = self.index.is_some();
        let first = |value: &AttributeValue| if indexed { index_prefix(Some(value)) } else { sortable(value) };
        let behind = |value: &AttributeValue| match indexed {
            true => format!("{}{BEHIND_HEX}", index_prefix(Some(value))),
            false => format!("{}\0", sortable(value)),
        };
        let Some(condition) = condition else { return (String::new(), None) };
        match condition {
            RangeCondition::Compare(Comparison::Less, value) => (String::new(), Some(first(value))),
            RangeCondition::Compare(Comparison::LessOrEqual, value) => (String::new(), Some(behind(value))),
            RangeCondition::Compare(Comparison::Greater, value) => (behind(value), None),
            RangeCondition::Compare(Comparison::GreaterOrEqual, value) => (first(value), None),
            RangeCondition::Compare(Comparison::Equal | Comparison::NotEqual, value) => {
                (first(value), Some(behind(value)))
            }
            RangeCondition::Between(low, high) => (first(low), Some(behind(high))),
            RangeCondition::BeginsWith(prefix) => {
                let text = if indexed { index_text(prefix) } else { sortable(prefix) };
                let to = behind_prefix(&text);
                (text, to)
            }
        }
    }
}

/// Types of a key condition's values against the key's.
fn check_types(key: &KeySchema, condition: &KeyCondition) -> Result<(), AwsError> {
    let check = |part: &KeyPart, value: &AttributeValue| {
        if !part.matches(value) {
            return Err(invalid(
                "One or more parameter values were invalid: Condition parameter type does not match schema type",
            ));
        }
        if value.size() == 0 {
            return Err(invalid(format!(
                "One or more parameter values are not valid. The AttributeValue for a key attribute cannot contain an empty string value. Key: {}",
                part.name
            )));
        }
        Ok(())
    };
    check(&key.hash, &condition.hash)?;
    match (&key.range, &condition.range) {
        (Some(part), Some(RangeCondition::Compare(_, value))) => check(part, value),
        (Some(part), Some(RangeCondition::BeginsWith(value))) => {
            if matches!(value, AttributeValue::N(_)) {
                return Err(invalid(
                    "Invalid KeyConditionExpression: Incorrect operand type for operator or function; operator or function: begins_with, operand type: N",
                ));
            }
            check(part, value)
        }
        (Some(part), Some(RangeCondition::Between(low, high))) => check(part, low).and_then(|()| check(part, high)),
        _ => Ok(()),
    }
}

pub fn query(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let limit = bounded(request.limit, "limit", 1, i64::from(i32::MAX))?;
    let Some(condition) = &request.key_condition_expression else {
        return Err(invalid(
            "Either the KeyConditions or KeyConditionExpression parameter must be specified in the request.",
        ));
    };
    let mut placeholders = Placeholders::read(
        request.expression_attribute_names.as_ref(),
        request.expression_attribute_values.as_ref(),
        &[
            (Kind::Filter, request.filter_expression.as_deref()),
            (Kind::Key, Some(condition)),
            (Kind::Projection, request.projection_expression.as_deref()),
        ],
    )?;
    let table = store.usable(&name)?;
    let walk = Walk::open(store, &table, request.index_name.as_deref())?;
    let key = walk.key();
    let range = key.range.as_ref().map(|range| range.name.as_str());
    let condition = KeyCondition::parse(condition, &mut placeholders, &key.hash.name, range)?;
    let (filter, projection) = filter_and_projection(&request, &mut placeholders)?;
    placeholders.all_used()?;
    check_types(key, &condition)?;
    check_filter(filter.as_ref(), key)?;
    let projection = walk.projection(&request, projection)?;
    let pk = sortable(&condition.hash);
    let (from, to) = walk.bounds(condition.range.as_ref());
    let start = request.exclusive_start_key.as_ref().map(|start| walk.place(start)).transpose()?;
    if let Some(start) = &start
        && (start.pk != pk || start.sk < from || to.as_ref().is_some_and(|to| start.sk >= *to))
    {
        return Err(invalid("The provided starting key is outside query boundaries based on provided conditions"));
    }
    let descending = request.scan_index_forward == Some(false);
    let more = |after: Option<&Position>, limit: usize| {
        let behind = after.map(|after| format!("{}\0", after.sk));
        let from = if descending { &from } else { behind.as_ref().unwrap_or(&from) };
        let to = if descending { after.map(|after| &after.sk).or(to.as_ref()) } else { to.as_ref() };
        walk.source.range(&pk, SkRange { from, to: to.map(String::as_str), descending }, limit)
    };
    let count_only = request.select.as_deref() == Some("COUNT");
    let wishes = Wishes { filter, projection, count_only, limit };
    let page = walk.walk(&wishes, more, start, |_| true)?;
    Ok(walk.answer(page, &request, wanted))
}

fn filter_and_projection(
    request: &Request,
    placeholders: &mut Placeholders,
) -> Result<(Option<Condition>, Option<Projection>), AwsError> {
    let filter = request.filter_expression.as_deref();
    let filter = filter.map(|text| Condition::parse(Kind::Filter, text, placeholders)).transpose()?;
    let projection = request.projection_expression.as_deref();
    let projection = projection.map(|text| Projection::parse(text, placeholders)).transpose()?;
    Ok((filter, projection))
}

fn check_filter(filter: Option<&Condition>, key: &KeySchema) -> Result<(), AwsError> {
    let mut names = Vec::new();
    if let Some(filter) = filter {
        filter.attributes(&mut names);
    }
    match names.into_iter().find(|name| key.has(name)) {
        Some(name) => Err(invalid(format!(
            "Filter Expression can only contain non-primary key attributes: Primary key attribute: {name}"
        ))),
        None => Ok(()),
    }
}

pub fn scan(store: &Arc<Store>, call: &Call) -> Result<Json, AwsError> {
    let request: Request = read(object(call)?)?;
    let wanted = Wanted::read(request.return_consumed_capacity.as_deref())?;
    let name = table_name(call, request.table_name.as_deref(), "tableName")?;
    let limit = bounded(request.limit, "limit", 1, i64::from(i32::MAX))?;
    let segment = segment(&request)?;
    let mut placeholders = Placeholders::read(
        request.expression_attribute_names.as_ref(),
        request.expression_attribute_values.as_ref(),
        &[
            (Kind::Filter, request.filter_expression.as_deref()),
            (Kind::Projection, request.projection_expression.as_deref()),
        ],
    )?;
    let (filter, projection) = filter_and_projection(&request, &mut placeholders)?;
    placeholders.all_used()?;
    let table = store.usable(&name)?;
    let walk = Walk::open(store, &table, request.index_name.as_deref())?;
    let projection = walk.projection(&request, projection)?;
    let start = request.exclusive_start_key.as_ref().map(|start| walk.place(start)).transpose()?;
    let more = |after: Option<&Position>, limit: usize| walk.source.scan(after, limit);
    let count_only = request.select.as_deref() == Some("COUNT");
    let wishes = Wishes { filter, projection, count_only, limit };
    let mine = |row: &Row| segment.is_none_or(|(own, all)| segment_of(&row.position.pk, all) == own);
    if let (Some(start), Some((own, all))) = (&start, segment)
        && segment_of(&start.pk, all) != own
    {
        return Err(invalid(
            "The provided starting key is invalid: Invalid ExclusiveStartKey. Please use ExclusiveStartKey with correct Segment. TotalSegments and Segment are used together",
        ));
    }
    let page = walk.walk(&wishes, more, start, mine)?;
    Ok(walk.answer(page, &request, wanted))
}

/// A partition is in one segment as a whole.
fn segment_of(pk: &str, all: u32) -> u32 {
    crc32fast::hash(pk.as_bytes()) % all
}

fn segment(request: &Request) -> Result<Option<(u32, u32)>, AwsError> {
    let own = bounded(request.segment, "segment", 0, SEGMENTS_MAX - 1)?;
    let all = bounded(request.total_segments, "totalSegments", 1, SEGMENTS_MAX)?;
    match (own, all) {
        (None, None) => Ok(None),
        (Some(own), Some(all)) if own < all => Ok(Some((own as u32, all as u32))),
        (Some(own), Some(all)) => Err(invalid(format!(
            "The Segment parameter is zero-based and must be less than parameter TotalSegments: Segment: {own} is not less than TotalSegments: {all}"
        ))),
        (None, Some(_)) => Err(missing_segment("Segment", "TotalSegments")),
        (Some(_), None) => Err(missing_segment("TotalSegments", "Segment")),
    }
}

fn missing_segment(lacking: &str, given: &str) -> AwsError {
    invalid(format!(
        "The {lacking} parameter is required but was not present in the request when parameter {given} is present"
    ))
}
