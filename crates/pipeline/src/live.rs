//! What has just been committed, for those who watch.

use futures::{StreamExt, stream::BoxStream};
use kilter_core::ports::query::LiveEvent;
use tokio::sync::broadcast;
use tokio_stream::wrappers::{BroadcastStream, errors::BroadcastStreamRecvError};

/// Events kept for a slow watcher: some seconds of a busy installation. Then it is told that it missed some.
const EVENTS_MAX: usize = 4_096;

#[derive(Debug, Clone)]
pub struct Live(broadcast::Sender<LiveEvent>);

impl Default for Live {
    fn default() -> Self {
        Self(broadcast::channel(EVENTS_MAX).0)
    }
}

impl Live {
    /// Whether anybody watches; making events for nobody is not worth it.
    pub fn watched(&self) -> bool {
        self.0.receiver_count() > 0
    }

    pub fn send(&self, event: LiveEvent) {
        // An error says that nobody watches, which is fine.
        let _ = self.0.send(event);
    }

    pub fn subscribe(&self) -> BoxStream<'static, LiveEvent> {
        BroadcastStream::new(self.0.subscribe())
            .map(|event| match event {
                Ok(event) => event,
                Err(BroadcastStreamRecvError::Lagged(events)) => LiveEvent::Missed { events },
            })
            .boxed()
    }
}
