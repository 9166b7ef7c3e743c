//! Reading rows: a user's items, and among them, in a tenant's results table, what the pipeline has written.

use super::{
    key::Position,
    schema::TableDescriptor,
    value::{AttributeValue, Item, from_plain_json, load},
};
use crate::{AwsError, dynamodb::fault::internal};
use kilter_core::ports::table::{Item as Kept, SkRange, Table};
use std::{cmp::Ordering, sync::Arc};

/// An item as it is kept; decoded only when somebody looks into it.
#[derive(Debug, Clone)]
pub struct Row {
    pub position: Position,
    value: Vec<u8>,
    /// Written by the pipeline, as JSON.
    result: bool,
}

impl Row {
    pub fn item(&self) -> Result<Item, AwsError> {
        if self.result { result_item(&self.position, &self.value) } else { load(&self.value) }
    }

    /// Bytes for paging and capacity: those of the kept form, which are about those that the service counts.
    pub fn size(&self) -> usize {
        self.value.len()
    }
}

/// What the pipeline has written, as an item: its fields, under the keys that it is kept at.
pub fn result_item(position: &Position, json: &[u8]) -> Result<Item, AwsError> {
    let json = serde_json::from_slice(json)
        .map_err(|error| internal(format!("the result {} {} cannot be read ({error})", position.pk, position.sk)))?;
    let mut item = match from_plain_json(&json) {
        AttributeValue::M(item) => item,
        other => Item::from([("value".to_owned(), other)]),
    };
    item.insert("pk".to_owned(), AttributeValue::S(position.pk.clone()));
    item.insert("sk".to_owned(), AttributeValue::S(position.sk.clone()));
    Ok(item)
}

/// Where rows come from: a table or an index of one.
pub struct Source<'a> {
    table: &'a dyn Table,
    items: Arc<str>,
    results: Option<&'a str>,
}

impl<'a> Source<'a> {
    pub fn of_table(table: &'a dyn Table, descriptor: &'a TableDescriptor) -> Self {
        Self { table, items: descriptor.items(), results: descriptor.rows() }
    }

    pub fn of_index(table: &'a dyn Table, descriptor: &TableDescriptor, index: &str) -> Self {
        Self { table, items: descriptor.index_items(index), results: None }
    }

    pub fn get(&self, position: &Position) -> Result<Option<Row>, AwsError> {
        let row = |value, result| Row { position: position.clone(), value, result };
        if let Some(results) = self.results
            && let Some(value) = self.table.get(results, &position.pk, &position.sk)?
        {
            return Ok(Some(row(value, true)));
        }
        Ok(self.table.get(&self.items, &position.pk, &position.sk)?.map(|value| row(value, false)))
    }

    pub fn range(&self, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Row>, AwsError> {
        let own = self.table.range(&self.items, pk, range, limit)?;
        let Some(results) = self.results else { return Ok(rows(own, false)) };
        let theirs = self.table.range(results, pk, range, limit)?;
        let order = |a: &Position, b: &Position| if range.descending { b.cmp(a) } else { a.cmp(b) };
        Ok(merged(rows(own, false), rows(theirs, true), order, limit))
    }

    pub fn scan(&self, after: Option<&Position>, limit: usize) -> Result<Vec<Row>, AwsError> {
        let after = after.map(|position| (position.pk.as_str(), position.sk.as_str()));
        let own = self.table.scan(&self.items, after, limit)?;
        let Some(results) = self.results else { return Ok(rows(own, false)) };
        let theirs = self.table.scan(results, after, limit)?;
        Ok(merged(rows(own, false), rows(theirs, true), Position::cmp, limit))
    }
}

fn rows(kept: Vec<Kept>, result: bool) -> Vec<Row> {
    let row = |Kept { pk, sk, value }| Row { position: Position { pk, sk }, value, result };
    kept.into_iter().map(row).collect()
}

/// Both in order, each once; of two in the same place the pipeline's.
fn merged(own: Vec<Row>, theirs: Vec<Row>, order: impl Fn(&Position, &Position) -> Ordering, limit: usize) -> Vec<Row> {
    let (mut own, mut theirs) = (own.into_iter().peekable(), theirs.into_iter().peekable());
    let mut all = Vec::new();
    while all.len() < limit {
        let first = match (own.peek(), theirs.peek()) {
            (Some(a), Some(b)) => order(&a.position, &b.position),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (None, None) => break,
        };
        if first != Ordering::Greater {
            let mine = own.next();
            if first == Ordering::Less {
                all.extend(mine);
                continue;
            }
        }
        all.extend(theirs.next());
    }
    all
}

/// Reads what the port has answered at once, page by page, without a limit of its own.
pub fn each_page(
    mut page: impl FnMut(Option<&Position>) -> Result<Vec<Row>, AwsError>,
    mut use_page: impl FnMut(&[Row]) -> Result<(), AwsError>,
) -> Result<(), AwsError> {
    let mut after: Option<Position> = None;
    loop {
        let rows = page(after.as_ref())?;
        let Some(last) = rows.last() else { return Ok(()) };
        use_page(&rows)?;
        after = Some(last.position.clone());
    }
}
