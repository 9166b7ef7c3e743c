//! The port `Table` over one table of DynamoDB.
//!
//! | attribute | type | holds |
//! |---|---|---|
//! | `table` | S, partition key | the port's table |
//! | `key` | B, sort key | pk and sk, as bytes that sort as `(pk, sk)` does |
//! | `value` | B | the value |
//!
//! All items of a port's table are under one partition key: only so does the service have an order for `scan`.

use crate::{READY_LOOKS, READY_PAUSE, RETRIES, RETRY_PAUSE, words};
use aws_sdk_dynamodb::{
    Client,
    error::{BuildError, ProvideErrorMetadata, SdkError},
    operation::transact_write_items::TransactWriteItemsError,
    primitives::Blob,
    types::{
        AttributeDefinition, AttributeValue, BillingMode, Delete, DeleteRequest, KeySchemaElement, KeyType, Put,
        ScalarAttributeType, TableStatus, TransactWriteItem, WriteRequest,
    },
};
use kilter_core::ports::table::{Condition, Item, SkRange, Table, TableError, TableErrorKind, Write};
use std::{
    collections::{BTreeMap, HashMap},
    error::Error,
    sync::Arc,
};
use tokio::runtime::Handle;

/// Of a table's name, of a pk, of an sk: in a sort key of at most 1,024 bytes a pk may take twice its length.
pub const KEY_BYTES_MAX: usize = 340;
/// An item has at most 409,600 bytes, with its keys and names.
pub const VALUE_BYTES_MAX: usize = 408_000;
/// Writes of one commit, those to the same key counted once.
pub const COMMIT_WRITES_MAX: usize = 100;
/// Of all items that one commit writes.
pub const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Deletes in one request.
const BATCH_MAX: usize = 25;

const TABLE: &str = "table";
const KEY: &str = "key";
const VALUE: &str = "value";

pub struct AwsTable {
    client: Client,
    runtime: Handle,
    name: String,
}

/// What a commit does to one item.
struct Change {
    value: Option<Vec<u8>>,
    absent: bool,
    present: bool,
}

/// By the port's table and the sort key.
type Changes = BTreeMap<(Arc<str>, Vec<u8>), Change>;

/// Sort keys `from..=to`; `to` is left out of what is found.
struct Span {
    from: Vec<u8>,
    to: Option<Vec<u8>>,
}

impl AwsTable {
    /// Makes DynamoDB's table `name` where it is missing, and waits until it can be used. Blocking.
    pub fn open(client: Client, runtime: Handle, name: &str) -> Result<Self, TableError> {
        let table = Self { client, runtime, name: name.to_owned() };
        table.runtime.block_on(table.make())?;
        Ok(table)
    }

    async fn make(&self) -> Result<(), TableError> {
        let key = |name, role| KeySchemaElement::builder().attribute_name(name).key_type(role).build();
        let of = |name, kind| AttributeDefinition::builder().attribute_name(name).attribute_type(kind).build();
        let build = |error| failed("open", "the table's definition", error);
        let made = self.client.create_table().table_name(&self.name).billing_mode(BillingMode::PayPerRequest);
        let made = made
            .key_schema(key(TABLE, KeyType::Hash).map_err(build)?)
            .key_schema(key(KEY, KeyType::Range).map_err(build)?)
            .attribute_definitions(of(TABLE, ScalarAttributeType::S).map_err(build)?)
            .attribute_definitions(of(KEY, ScalarAttributeType::B).map_err(build)?);
        if let Err(error) = made.send().await
            && error.code() != Some("ResourceInUseException")
        {
            return Err(self.refused("open", error));
        }
        for _ in 0..READY_LOOKS {
            let seen = self.client.describe_table().table_name(&self.name).send().await;
            let seen = seen.map_err(|error| self.refused("open", error))?;
            if seen.table.and_then(|table| table.table_status) == Some(TableStatus::Active) {
                return Ok(());
            }
            tokio::time::sleep(READY_PAUSE).await;
        }
        let message = format!("DynamoDB's table {} did not become ACTIVE: look at it, then try again", self.name);
        Err(TableError::new(TableErrorKind::Io, "open", message))
    }

    fn refused<E, R>(&self, operation: &'static str, error: SdkError<E, R>) -> TableError
    where
        E: ProvideErrorMetadata + Error + Send + Sync + 'static,
        R: std::fmt::Debug + Send + Sync + 'static,
    {
        let message = format!("DynamoDB's table {}: {}", self.name, words(&error));
        TableError { source: Some(Arc::new(error)), ..TableError::new(TableErrorKind::Io, operation, message) }
    }

    async fn write(&self, items: Vec<TransactWriteItem>) -> Result<(), TableError> {
        let mut pause = RETRY_PAUSE;
        for retry in 0.. {
            let sent = self.client.transact_write_items().set_transact_items(Some(items.clone())).send().await;
            let Err(error) = sent else { break };
            match cancelled(&error) {
                Some(Cancelled::Condition) => {
                    let message = "a condition does not hold; nothing was written";
                    return Err(TableError::new(TableErrorKind::ConditionFailed, "commit", message));
                }
                // Somebody else writes one of these items just now.
                Some(Cancelled::Conflict) if retry < RETRIES => tokio::time::sleep(pause).await,
                _ => return Err(self.refused("commit", error)),
            }
            pause *= 2;
        }
        Ok(())
    }

    /// Items under the sort keys of a span, at most `limit`.
    async fn query(
        &self,
        operation: &'static str,
        table: &str,
        span: Span,
        descending: bool,
        limit: usize,
        attributes: &str,
    ) -> Result<Vec<(Vec<u8>, Vec<u8>)>, TableError> {
        let mut found = Vec::new();
        let mut start = None;
        if limit == 0 || span.to.as_ref().is_some_and(|to| span.from >= *to) {
            return Ok(found);
        }
        loop {
            // One more than is missing: the end of the span may be an item, which is not part of it.
            let page = i32::try_from(limit - found.len()).unwrap_or(i32::MAX).saturating_add(1);
            let mut query = self.client.query().table_name(&self.name).consistent_read(true).limit(page);
            query = query.scan_index_forward(!descending).set_exclusive_start_key(start);
            query = query.expression_attribute_names("#t", TABLE).expression_attribute_names("#k", KEY);
            query = query.expression_attribute_values(":t", AttributeValue::S(table.to_owned()));
            query = query.expression_attribute_values(":from", binary(&span.from)).projection_expression(attributes);
            if attributes.contains("#v") {
                query = query.expression_attribute_names("#v", VALUE);
            }
            query = match &span.to {
                None => query.key_condition_expression("#t = :t AND #k >= :from"),
                Some(to) => query
                    .key_condition_expression("#t = :t AND #k BETWEEN :from AND :to")
                    .expression_attribute_values(":to", binary(to)),
            };
            let answer = query.send().await.map_err(|error| self.refused(operation, error))?;
            for mut item in answer.items.unwrap_or_default() {
                let key = bytes(item.remove(KEY)).ok_or_else(|| damaged(operation, &self.name))?;
                if span.to.as_ref() != Some(&key) {
                    found.push((key, bytes(item.remove(VALUE)).unwrap_or_default()));
                }
            }
            found.truncate(limit);
            start = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if found.len() == limit || start.is_none() {
                return Ok(found);
            }
        }
    }

    async fn items(
        &self,
        operation: &'static str,
        table: &str,
        span: Span,
        descending: bool,
        limit: usize,
    ) -> Result<Vec<Item>, TableError> {
        let found = self.query(operation, table, span, descending, limit, "#k, #v").await?;
        let item = |(key, value): (Vec<u8>, Vec<u8>)| {
            let (pk, sk) = split(&key).ok_or_else(|| damaged(operation, &self.name))?;
            Ok(Item { pk, sk, value })
        };
        found.into_iter().map(item).collect()
    }

    async fn delete(&self, table: &str, keys: &[(Vec<u8>, Vec<u8>)]) -> Result<(), TableError> {
        let one = |(key, _): &(Vec<u8>, Vec<u8>)| {
            let request = DeleteRequest::builder().set_key(Some(keyed(table, key))).build();
            let request = request.map_err(|error| failed("drop", "a delete", error))?;
            Ok(WriteRequest::builder().delete_request(request).build())
        };
        let mut left: Vec<WriteRequest> = keys.iter().map(one).collect::<Result<_, TableError>>()?;
        let mut pause = RETRY_PAUSE;
        for _ in 0..=RETRIES {
            let sent = self.client.batch_write_item().request_items(&self.name, left).send().await;
            let answer = sent.map_err(|error| self.refused("drop", error))?;
            left = answer.unprocessed_items.unwrap_or_default().remove(&self.name).unwrap_or_default();
            if left.is_empty() {
                return Ok(());
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        let message = format!("DynamoDB left {} deletes of {} undone: try again", left.len(), self.name);
        Err(TableError::new(TableErrorKind::Io, "drop", message))
    }
}

impl Table for AwsTable {
    fn get(&self, table: &str, pk: &str, sk: &str) -> Result<Option<Vec<u8>>, TableError> {
        let key = keyed(table, &join("get", table, pk, sk)?);
        let get = self.client.get_item().table_name(&self.name).consistent_read(true).set_key(Some(key));
        let answer = self.runtime.block_on(get.send()).map_err(|error| self.refused("get", error))?;
        let Some(mut item) = answer.item else { return Ok(None) };
        bytes(item.remove(VALUE)).map(Some).ok_or_else(|| damaged("get", &self.name))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), TableError> {
        let Some(changes) = changes(writes)? else {
            let message = "one item was to be absent and present; nothing was written";
            return Err(TableError::new(TableErrorKind::ConditionFailed, "commit", message));
        };
        if changes.is_empty() {
            return Ok(());
        }
        let item = |((table, key), change): ((Arc<str>, Vec<u8>), Change)| self.item(&table, &key, change);
        let items = changes.into_iter().map(item).collect::<Result<Vec<_>, _>>()?;
        self.runtime.block_on(self.write(items))
    }

    fn range(&self, table: &str, pk: &str, range: SkRange<'_>, limit: usize) -> Result<Vec<Item>, TableError> {
        let from = join("range", table, pk, range.from)?;
        let to = match range.to {
            Some(to) => join("range", table, pk, to)?,
            None => behind(pk),
        };
        let span = Span { from, to: Some(to) };
        self.runtime.block_on(self.items("range", table, span, range.descending, limit))
    }

    fn scan(&self, table: &str, after: Option<(&str, &str)>, limit: usize) -> Result<Vec<Item>, TableError> {
        let from = match after {
            // The next one that there can be.
            Some((pk, sk)) => [join("scan", table, pk, sk)?, vec![0]].concat(),
            None => vec![0],
        };
        self.runtime.block_on(self.items("scan", table, Span { from, to: None }, false, limit))
    }

    fn drop_table(&self, table: &str) -> Result<u64, TableError> {
        self.runtime.block_on(async {
            let mut count = 0;
            loop {
                let all = Span { from: vec![0], to: None };
                let keys = self.query("drop", table, all, false, BATCH_MAX, "#k").await?;
                if keys.is_empty() {
                    return Ok(count);
                }
                self.delete(table, &keys).await?;
                count += keys.len() as u64;
            }
        })
    }
}

impl AwsTable {
    fn item(&self, table: &str, key: &[u8], change: Change) -> Result<TransactWriteItem, TableError> {
        let condition = match (change.absent, change.present) {
            (true, _) => Some("attribute_not_exists(#k)"),
            (false, true) => Some("attribute_exists(#k)"),
            (false, false) => None,
        };
        let names = condition.map(|_| HashMap::from([("#k".to_owned(), KEY.to_owned())]));
        let condition = condition.map(str::to_owned);
        let (mut item, write) = (keyed(table, key), TransactWriteItem::builder());
        let build = |error| failed("commit", "a write", error);
        let Some(value) = change.value else {
            let delete = Delete::builder().table_name(&self.name).set_key(Some(item));
            let delete = delete.set_condition_expression(condition).set_expression_attribute_names(names);
            return Ok(write.delete(delete.build().map_err(build)?).build());
        };
        item.insert(VALUE.to_owned(), AttributeValue::B(Blob::new(value)));
        let put = Put::builder().table_name(&self.name).set_item(Some(item));
        let put = put.set_condition_expression(condition).set_expression_attribute_names(names);
        Ok(write.put(put.build().map_err(build)?).build())
    }
}

/// One change per item: the last write's value under all conditions, which all ask about the time before the commit.
/// `None`: an item would have to be there and not.
fn changes(writes: Vec<Write>) -> Result<Option<Changes>, TableError> {
    let mut changes = Changes::new();
    let mut size = 0;
    for write in writes {
        let key = join("commit", &write.table, &write.pk, &write.sk)?;
        let value_bytes = write.value.as_ref().map_or(0, Vec::len);
        if value_bytes > VALUE_BYTES_MAX {
            return Err(too_large(
                "commit",
                &format!("a value has {value_bytes} bytes, at most {VALUE_BYTES_MAX} fit"),
            ));
        }
        size += write.table.len() + key.len() + value_bytes;
        let change = changes.entry((write.table, key)).or_insert(Change { value: None, absent: false, present: false });
        change.value = write.value;
        change.absent |= write.condition == Condition::Absent;
        change.present |= write.condition == Condition::Present;
    }
    if changes.len() > COMMIT_WRITES_MAX || size > COMMIT_BYTES_MAX {
        let (count, max) = (changes.len(), COMMIT_WRITES_MAX);
        return Err(too_large(
            "commit",
            &format!("{count} writes of {size} bytes; DynamoDB takes {max} and {COMMIT_BYTES_MAX} at a time"),
        ));
    }
    let possible = changes.values().all(|change| !(change.absent && change.present));
    Ok(possible.then_some(changes))
}

enum Cancelled {
    Condition,
    Conflict,
}

fn cancelled<R>(error: &SdkError<TransactWriteItemsError, R>) -> Option<Cancelled> {
    let TransactWriteItemsError::TransactionCanceledException(error) = error.as_service_error()? else { return None };
    let has = |code| error.cancellation_reasons().iter().any(|reason| reason.code() == Some(code));
    if has("ConditionalCheckFailed") {
        return Some(Cancelled::Condition);
    }
    has("TransactionConflict").then_some(Cancelled::Conflict)
}

/// Ends a pk: no pk holds it, as every 0 in one is followed by 255.
const END: [u8; 2] = [0, 0];

fn escape(pk: &str) -> Vec<u8> {
    pk.bytes().flat_map(|byte| if byte == 0 { vec![0, 255] } else { vec![byte] }).collect()
}

fn join(operation: &'static str, table: &str, pk: &str, sk: &str) -> Result<Vec<u8>, TableError> {
    let longest = table.len().max(pk.len()).max(sk.len());
    if longest > KEY_BYTES_MAX {
        return Err(too_large(operation, &format!("a key has {longest} bytes, at most {KEY_BYTES_MAX} fit")));
    }
    Ok([&escape(pk)[..], &END, sk.as_bytes()].concat())
}

/// Greater than every key of this pk, smaller than those of the next; no key itself.
fn behind(pk: &str) -> Vec<u8> {
    [&escape(pk)[..], &[0, 1]].concat()
}

fn split(key: &[u8]) -> Option<(String, String)> {
    let mut pk = Vec::new();
    let mut rest = key.iter();
    while let Some(byte) = rest.next() {
        match (byte, if *byte == 0 { rest.next()? } else { byte }) {
            (0, 0) => {
                let sk = String::from_utf8(rest.copied().collect()).ok()?;
                return Some((String::from_utf8(pk).ok()?, sk));
            }
            (0, 255) => pk.push(0),
            (0, _) => return None,
            (byte, _) => pk.push(*byte),
        }
    }
    None
}

fn keyed(table: &str, key: &[u8]) -> HashMap<String, AttributeValue> {
    HashMap::from([(TABLE.to_owned(), AttributeValue::S(table.to_owned())), (KEY.to_owned(), binary(key))])
}

fn binary(bytes: &[u8]) -> AttributeValue {
    AttributeValue::B(Blob::new(bytes))
}

fn bytes(value: Option<AttributeValue>) -> Option<Vec<u8>> {
    match value? {
        AttributeValue::B(blob) => Some(blob.into_inner()),
        _ => None,
    }
}

fn too_large(operation: &'static str, message: &str) -> TableError {
    TableError::new(TableErrorKind::TooLarge, operation, message)
}

fn damaged(operation: &'static str, table: &str) -> TableError {
    let message = format!("DynamoDB's table {table} has an item that was not written by this backend");
    TableError::new(TableErrorKind::Damaged, operation, message)
}

fn failed(operation: &'static str, what: &str, error: BuildError) -> TableError {
    let message = format!("{what} is not such as the SDK takes: {error}");
    TableError { source: Some(Arc::new(error)), ..TableError::new(TableErrorKind::Io, operation, message) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_parts_do_and_come_back() {
        let texts = ["", "\0", "\0\0", "\u{1}", "a", "a\0", "a\0b", "a\u{1}", "ab", "ä", "\u{10ffff}"];
        let pairs: Vec<_> = texts.iter().flat_map(|pk| texts.map(|sk| (*pk, sk))).collect();
        let keys: Vec<_> = pairs.iter().map(|(pk, sk)| join("test", "t", pk, sk).unwrap()).collect();
        assert!(keys.is_sorted() && pairs.is_sorted());
        for ((pk, sk), key) in pairs.iter().zip(&keys) {
            assert_eq!(split(key), Some(((*pk).to_owned(), (*sk).to_owned())));
            assert!(*key < behind(pk) && !keys.contains(&behind(pk)));
        }
        assert!(behind("a") < join("test", "t", "a\0", "").unwrap());
        assert_eq!(split(b"no end"), None);
    }

    #[test]
    fn a_commit_beyond_what_the_service_takes_is_refused() {
        let put = |n: usize| Write::put(&"t".into(), "p", n.to_string(), vec![]);
        assert!(changes((0..COMMIT_WRITES_MAX).map(put).collect()).is_ok());
        let refused = changes((0..=COMMIT_WRITES_MAX).map(put).collect()).err().unwrap();
        assert_eq!(refused.kind, TableErrorKind::TooLarge);
        let large = |n: usize| Write::put(&"t".into(), "p", n.to_string(), vec![0; VALUE_BYTES_MAX]);
        assert_eq!(changes((0..11).map(large).collect()).err().unwrap().kind, TableErrorKind::TooLarge);
    }
}
