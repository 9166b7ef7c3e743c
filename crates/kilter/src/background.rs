//! Threads whose work can wait: what comes in is acknowledged at once, what is in the stream is scored a little later.

use std::{io, thread};

/// Where processors are scarce, such a thread gets about a tenth of what one that serves devices gets.
const NICENESS: i32 = 10;

pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(|| {
        // On Linux this is the calling thread's alone.
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "a background thread runs at the usual priority");
        }
        work();
    })
}
