//! What an idle connection costs in memory: alone in its process, because resident memory is the process's.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking; its helper process talks by printing"
)]

#[path = "../door/fixtures.rs"]
mod fixtures;

use fixtures::House;
use kilter_door_mqtt::{MqttClient, Options, Version};
use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Command, Stdio},
};

const CONNECTIONS: usize = 300;
const BYTES_EACH_MAX: usize = 20 * 1024;
/// Set for the process that holds the client ends.
const ROLE: &str = "KILTER_TEST_IDLE_CLIENTS";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_cheap() {
    if std::env::var_os(ROLE).is_some() {
        return hold().await;
    }
    if !cfg!(target_os = "linux") {
        println!("SKIPPED: resident memory is read from /proc, which this system does not have");
        return;
    }
    let house = House::open().await;
    // The first connections pay for what is set up once.
    for _ in 0..20 {
        house.client("dev-first", Version::V5).await.disconnect().await.unwrap();
    }
    let options = house.options("dev", Version::V5);
    let before = resident_bytes();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--nocapture", "--exact", "an_idle_connection_is_cheap"])
        .env(ROLE, "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    for text in [&options.addr, &options.ca_pem, &options.cert_pem, &options.key_pem] {
        writeln!(input, "{text}\n.").unwrap();
    }
    let mut output = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let held = move || (output.any(|line| line.contains("all connected")), output);
    let (held, _output) = tokio::task::spawn_blocking(held).await.unwrap();
    assert!(held, "the clients did not get in");
    let each = resident_bytes().saturating_sub(before) / CONNECTIONS;
    println!("{CONNECTIONS} idle connections: {each} bytes each");
    drop(input);
    child.wait().unwrap();
    assert!(each < BYTES_EACH_MAX, "an idle connection takes {each} bytes");
}

async fn hold() {
    let mut input = BufReader::new(std::io::stdin());
    let mut texts = Vec::new();
    for _ in 0..4 {
        let lines = (&mut input).lines().map_while(Result::ok).take_while(|line| line != ".");
        texts.push(lines.collect::<Vec<_>>().join("\n"));
    }
    let mut clients = Vec::new();
    for i in 0..CONNECTIONS {
        let options = Options {
            addr: texts[0].clone(),
            ca_pem: texts[1].clone(),
            cert_pem: texts[2].clone(),
            key_pem: texts[3].clone(),
            client_id: format!("dev-{i}"),
            version: Version::V5,
            inflight_max: 1,
            keep_alive: 60,
            will: None,
        };
        clients.push(MqttClient::connect(options).await.unwrap());
    }
    println!("all connected");
    // Until the other side has looked.
    let _ = input.read_to_end(&mut Vec::new());
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
