//! Log events from async threads: one plain thread writes what has gathered in one commit.

use super::TableLogs;
use kilter_core::{Timestamp, ports::logs::LogEvent};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Events that wait for the thread: whoever has more waits with them.
const QUEUE_EVENTS_MAX: usize = 1_000;
/// Events of one commit.
const BATCH_EVENTS_MAX: usize = 500;

struct Line {
    group: String,
    stream: String,
    event: LogEvent,
    done: Option<oneshot::Sender<()>>,
}

/// Cheap to clone; the thread ends with the last of them.
#[derive(Clone)]
pub struct LogWriter(mpsc::Sender<Line>);

impl LogWriter {
    pub fn start(logs: Arc<TableLogs>) -> std::io::Result<Self> {
        let (queue, lines) = mpsc::channel(QUEUE_EVENTS_MAX);
        std::thread::Builder::new().name("logs".into()).spawn(move || write(&logs, lines))?;
        Ok(Self(queue))
    }

    /// Resolves once the event is durable, or could not be made so, which the server's own log then says.
    pub async fn put(&self, group: &str, stream: &str, time: Timestamp, message: String) {
        let (done, durable) = oneshot::channel();
        let event = LogEvent { time, message };
        let line = Line { group: group.to_owned(), stream: stream.to_owned(), event, done: Some(done) };
        if self.0.send(line).await.is_ok() {
            let _ = durable.await;
        }
    }

    /// Hands an event over without waiting; where the queue is full it is dropped and counted.
    pub fn tell(&self, group: &str, stream: &str, time: Timestamp, message: String) {
        let event = LogEvent { time, message };
        let line = Line { group: group.to_owned(), stream: stream.to_owned(), event, done: None };
        if self.0.try_send(line).is_err() {
            metrics::counter!("kilter_log_events_dropped_total").increment(1);
        }
    }
}

fn write(logs: &TableLogs, mut lines: mpsc::Receiver<Line>) {
    while let Some(first) = lines.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH_EVENTS_MAX
            && let Ok(next) = lines.try_recv()
        {
            batch.push(next);
        }
        let (events, done): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|line| ((line.group, line.stream, line.event), line.done)).unzip();
        let count = events.len() as u64;
        if let Err(error) = logs.put_all(events) {
            metrics::counter!("kilter_log_events_dropped_total").increment(count);
            tracing::error!(%error, events = count, "log events could not be kept");
        }
        for done in done.into_iter().flatten() {
            let _ = done.send(());
        }
    }
}
