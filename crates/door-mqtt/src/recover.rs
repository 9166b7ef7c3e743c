//! The start: sessions, their messages and retained messages as they were on disk. What a crash left half done is
//! brought to its end before the first client is let in.

use crate::{
    connection::Shared,
    hub::until,
    kept::{Kept, KeptState},
    records::{
        self, Intent, QUEUES, QueueRecord, RECEIVED, RETAINED, ReceivedRecord, RetainedRecord, SESSIONS, SessionRecord,
    },
    totals::Share,
};
use kilter_core::{
    Timestamp,
    ports::{
        ingest::{Client, ClientIdentity, InboundMessage, PublishAgainError},
        table::{Item, SkRange, Table, TableError, Write},
    },
};
use kilter_mqtt::{PacketId, QoS, Version, outflow::Outflow, session::Inbound};
use std::sync::Arc;
use tracing::{info, warn};

/// Items read at a time.
const PAGE: usize = 1000;

/// A client that was connected when the server ended gets this long, in seconds, to come back before its will is
/// sent: a device is not dead because the server was away.
const WILL_GRACE_SECONDS: u32 = 30;

#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    #[error("the sessions that were kept cannot be read: {0}")]
    Table(#[from] TableError),
    #[error("a message that was on its way when the server ended cannot be brought to its end: {0}")]
    Publish(#[from] PublishAgainError),
}

/// Blocking.
pub fn recover(shared: &Shared, table: &dyn Table) -> Result<(), RecoverError> {
    let now = shared.hub.clock.now();
    for_each(table, &RETAINED, |item| {
        if let Some(record) = records::read::<RetainedRecord>(&item.value) {
            shared.hub.retained.restore(record);
        }
        Ok(())
    })?;
    let mut intents = Vec::new();
    let mut sessions = 0;
    for_each(table, &SESSIONS, |item| {
        let Some(record) = records::read::<SessionRecord>(&item.value) else {
            warn!(client_id = %item.pk, "MQTT: a kept session is not readable and is dropped");
            shared.hub.store.submit([Write::delete(&SESSIONS, item.pk.as_str(), "")], None);
            return Ok(());
        };
        let client = Client(Arc::new(ClientIdentity {
            certificate: record.certificate.clone(),
            client_id: item.pk.clone(),
            thing: record.thing.clone(),
            source: record.source.clone(),
        }));
        let sent_upto = record.sent_upto;
        let mut state = restored(record, client, now, shared.hub.totals.share());
        queue(table, &item.pk, &mut state, sent_upto)?;
        let open = received(table, &item.pk, &mut state)?;
        let kept = shared.hub.restore(&item.pk, state);
        kept.save(&kept.lock(), &shared.hub.store);
        intents.extend(open.into_iter().map(|(id, intent)| (Arc::clone(&kept), id, intent)));
        sessions += 1;
        Ok(())
    })?;
    // In the order in which they came: identifiers go round.
    intents.sort_by_key(|(_, _, intent)| intent.arrival);
    for (kept, id, intent) in intents {
        finish(shared, &kept, id, intent)?;
    }
    if sessions > 0 {
        info!(sessions, "MQTT: kept sessions were taken up");
    }
    Ok(())
}

fn for_each(
    table: &dyn Table,
    name: &str,
    mut each: impl FnMut(&Item) -> Result<(), RecoverError>,
) -> Result<(), RecoverError> {
    let mut after: Option<(String, String)> = None;
    loop {
        let from = after.as_ref().map(|(pk, sk)| (pk.as_str(), sk.as_str()));
        let page = table.scan(name, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        after = Some((last.pk.clone(), last.sk.clone()));
        page.iter().try_for_each(&mut each)?;
    }
}

/// The session as it was; its end and its will count from now where it was connected.
fn restored(record: SessionRecord, client: Client, now: Timestamp, share: Share) -> KeptState {
    let expires = record.expires.or_else(|| until(now, record.expiry));
    let will = record.will.map(|will| {
        let grace = until(now, will.delay.max(WILL_GRACE_SECONDS));
        let at_the_latest = expires.unwrap_or(Timestamp::from_nanos(i64::MAX));
        (will.due.or(grace).map(|due| due.min(at_the_latest)), will.will())
    });
    KeptState {
        client,
        version: if record.v5 { Version::V5 } else { Version::V311 },
        since: now,
        link: None,
        outflow: Outflow::default(),
        received: Default::default(),
        subscriptions: record.subscriptions.iter().map(|known| (known.filter.clone(), known.grant())).collect(),
        expiry: record.expiry,
        expires,
        will,
        stored: true,
        epoch: record.epoch,
        share,
    }
}

fn rows(table: &dyn Table, name: &str, client_id: &str) -> Result<Vec<Item>, TableError> {
    let mut all: Vec<Item> = Vec::new();
    loop {
        let from = all.last().map_or_else(String::new, |last| format!("{}\0", last.sk));
        let page = table.range(name, client_id, SkRange { from: &from, to: None, descending: false }, PAGE)?;
        let done = page.len() < PAGE;
        all.extend(page);
        if done {
            return Ok(all);
        }
    }
}

fn queue(table: &dyn Table, client_id: &str, state: &mut KeptState, sent_upto: Option<u64>) -> Result<(), TableError> {
    for item in rows(table, &QUEUES, client_id)? {
        let Ok(seq) = u64::from_str_radix(&item.sk, 16) else { continue };
        let record = records::read::<QueueRecord>(&item.value).filter(|record| record.epoch == state.epoch);
        if let Some(record) = record {
            let (queued, released) = record.queued(seq, sent_upto);
            state.outflow.restore(queued, released);
        }
    }
    Ok(())
}

/// Takes up the client's QoS 2 messages; answers those that were not handed on.
fn received(table: &dyn Table, client_id: &str, state: &mut KeptState) -> Result<Vec<(PacketId, Intent)>, TableError> {
    let mut open = Vec::new();
    for item in rows(table, &RECEIVED, client_id)? {
        let Some(id) = u16::from_str_radix(&item.sk, 16).ok().and_then(PacketId::new) else { continue };
        let record = records::read::<ReceivedRecord>(&item.value).filter(|record| record.epoch == state.epoch);
        let Some(record) = record else { continue };
        state.received.insert(id);
        open.extend(record.intent.map(|intent| (id, intent)));
    }
    Ok(open)
}

/// Hands a message on of which it is not known how far it had come: to the streams that do not have it, and to
/// subscribers, of which none had it (their queues and the mark that it is done are one commit).
fn finish(shared: &Shared, kept: &Kept, id: PacketId, intent: Intent) -> Result<(), RecoverError> {
    let (client, epoch) = {
        let state = kept.lock();
        (state.client.clone(), state.epoch)
    };
    let (client_id, store) = (&*kept.client_id, &shared.hub.store);
    let Intent { message, retain, arrival, since } = intent;
    let message = message.outbound();
    let inbound = InboundMessage {
        topic: Arc::clone(&message.topic),
        payload: message.payload.clone(),
        retain,
        properties: message.properties.clone(),
        arrival: Some(arrival),
    };
    match shared.ingest.publish_again(&client, inbound, &since) {
        Ok(()) => {}
        Err(PublishAgainError::Refused(refusal)) => {
            // Not acknowledged yet: the client hears so when it sends the message again.
            warn!(client_id, %refusal, "MQTT: a message of QoS 2 is not allowed any more");
            kept.lock().received.remove(&id);
            store.submit([Write::delete(&RECEIVED, client_id, records::id_key(id))], None);
            return Ok(());
        }
        Err(failed) => return Err(failed.into()),
    }
    let inbound = Inbound {
        topic: Arc::clone(&message.topic),
        payload: message.payload.clone(),
        qos: QoS::ExactlyOnce,
        retain,
        properties: message.properties.clone(),
        packet_id: None,
        receipt: None,
    };
    let _one_commit = store.group();
    shared.hub.fan_out(None, &inbound, &shared.context());
    let done = ReceivedRecord { epoch, intent: None };
    store.submit([records::put(&RECEIVED, client_id, records::id_key(id), &done)], None);
    Ok(())
}
