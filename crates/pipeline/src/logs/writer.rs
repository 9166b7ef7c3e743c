//! Log events from async threads: one plain thread writes what has gathered in one commit.

use super::TableLogs;
use kilter_core::{
    Timestamp,
    ports::logs::{LogError, LogErrorKind, LogEvent},
};
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
    done: Option<oneshot::Sender<Result<(), LogError>>>,
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

    /// Resolves once the event is durable, or could not be made so.
    pub async fn put(&self, group: &str, stream: &str, time: Timestamp, message: String) -> Result<(), LogError> {
        let (done, durable) = oneshot::channel();
        let event = LogEvent { time, message };
        let line = Line { group: group.to_owned(), stream: stream.to_owned(), event, done: Some(done) };
        let stopped = || LogError::new(LogErrorKind::Internal, "the log's thread has stopped");
        self.0.send(line).await.map_err(|_| stopped())?;
        durable.await.map_err(|_| stopped())?
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
        write_all(logs, batch);
    }
}

/// In one commit; where that is refused, one by one, so that a bad event takes no other with it.
fn write_all(logs: &TableLogs, batch: Vec<Line>) {
    let events = |lines: &[Line]| -> Vec<_> {
        lines.iter().map(|line| (line.group.clone(), line.stream.clone(), line.event.clone())).collect()
    };
    let together = logs.put_all(events(&batch));
    for line in batch {
        let written = match &together {
            Ok(()) => Ok(()),
            Err(_) => logs.put_all(events(std::slice::from_ref(&line))),
        };
        if let Err(error) = &written {
            metrics::counter!("kilter_log_events_dropped_total").increment(1);
            tracing::error!(group = line.group, %error, "a log event could not be kept");
        }
        if let Some(done) = line.done {
            let _ = done.send(written);
        }
    }
}
