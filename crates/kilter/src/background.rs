//! Threads whose work can wait: what comes in is acknowledged at once, what is in the stream is scored a little later.

use std::{io, thread};

/// The lowest priority that still gets a share, where processors are scarce.
const NICENESS: i32 = 19;

pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(|| {
        // On Linux this is the calling thread's alone.
        if let Err(error) = rustix::process::nice(NICENESS) {
            tracing::warn!(%error, "a background thread runs at the usual priority");
        }
        work();
    })
}
