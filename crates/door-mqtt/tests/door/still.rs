//! Time that stands still while sockets work.

use std::time::{Duration, Instant};
use tokio::task::yield_now;

/// Until something has certainly not come.
const PATIENCE: Duration = Duration::from_secs(20);

/// From now on time moves only by `tokio::time::advance`: a runtime that always has something to do does not move paused
/// time by itself.
pub fn stop_time() {
    tokio::time::pause();
    tokio::spawn(async {
        loop {
            yield_now().await;
        }
    });
}

/// Waits until it holds, while time stands still.
pub async fn until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "did not happen: {what}");
        yield_now().await;
    }
}
