//! A writer that is killed at random moments: what it said to be acknowledged is there, byte for byte.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::executor::block_on;
use kilter_backend_embedded::{DirectoryLock, EmbeddedStream, StreamConfig};
use kilter_core::{
    NewRecord, Offset, ShardId,
    ports::{
        clock::SystemClock,
        stream::{Stream, StreamAdmin},
    },
};
use kilter_testkit::stream::{read_all, record, stream_name};
use std::{
    env,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tempfile::TempDir;

/// Tells the child where to write.
const DIRECTORY: &str = "KILTER_TEST_KILL_DIRECTORY";
const KILLS: u64 = 20;

fn open(directory: &Path) -> Arc<EmbeddedStream> {
    let config = StreamConfig { segment_bytes: 256 * 1024, ..StreamConfig::default() };
    let stream = EmbeddedStream::open(directory, config, Arc::new(SystemClock)).unwrap();
    stream.create(&stream_name("s"), 1).unwrap();
    stream
}

/// The record at an offset: any size up to 20 kB, unlike its neighbours.
fn nth(offset: u64) -> NewRecord {
    let size = (offset.wrapping_mul(2_654_435_761) % 97) as usize * 200;
    let data: Vec<u8> = (0..size as u64).map(|at| (offset * 131 + at * 17) as u8).collect();
    NewRecord { thing_sequence: offset, ..record("key", data) }
}

/// Not a test of its own: the process that is killed.
#[test]
fn child() {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    let directory = Path::new(&directory);
    let _lock = DirectoryLock::acquire(directory).unwrap();
    let stream = open(&directory.join("streams"));
    let name = stream_name("s");
    let mut next = stream.bounds(&name, ShardId(0)).unwrap().next.0;
    loop {
        let futures: Vec<_> =
            (0..30).map(|i| stream.append(&name, vec![nth(next + 2 * i), nth(next + 2 * i + 1)])).collect();
        for future in futures {
            next = block_on(future).unwrap()[1].1.0 + 1;
            let mut out = std::io::stdout().lock();
            writeln!(out, "acknowledged {next}").unwrap();
            out.flush().unwrap();
        }
    }
}

#[test]
fn a_killed_writer_loses_nothing_it_acknowledged() {
    let directory = TempDir::new().unwrap();
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let listening = thread::spawn(move || {
            let numbers =
                lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
            numbers.last()
        });
        // The moment is left to the scheduler: the point is that it is none in particular.
        thread::sleep(Duration::from_millis(40 + kill * 37 % 150));
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = listening.join().unwrap().unwrap_or(acknowledged);

        let stream = open(&directory.path().join("streams"));
        let name = stream_name("s");
        let read = read_all(&*stream, &name, 0);
        assert!(read.len() as u64 >= acknowledged, "{} of {acknowledged} records are there", read.len());
        for (offset, record) in (0..).zip(&read) {
            assert_eq!((record.offset, &record.record), (Offset(offset), &nth(offset)));
        }
    }
    assert!(acknowledged > 0, "nothing was written at all");
}
