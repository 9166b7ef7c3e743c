//! Live events, and the socket under them.

use super::{door, fakes::Fake, get, json, state};
use crate::{BindError, LIVE_READERS_MAX, bind, router, run};
use axum::http::{StatusCode, header};
use futures::StreamExt;
use serde_json::Value;
use std::sync::{Arc, atomic::Ordering};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_util::sync::CancellationToken;

fn events(text: &str) -> Vec<Value> {
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[tokio::test]
async fn live_events_of_one_tenant() {
    let (_, router) = door();
    let response = get(&router, "/api/v1/live?tenant=tenant001").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    let text = String::from_utf8(body.to_vec()).unwrap();
    assert!(text.contains("retry: 2000"), "{text}");
    let events = events(&text);
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["reading", "anomaly", "alert", "missed"]);
    assert!(events.iter().all(|event| !event.to_string().contains("tenant002")));
    assert_eq!(events[0]["reading"]["position"], "0:1:0");
    assert_eq!(events[3]["events"], 5);
}

#[tokio::test]
async fn live_events_of_all() {
    let (_, router) = door();
    let body = axum::body::to_bytes(get(&router, "/api/v1/live").await.into_body(), 1 << 20).await.unwrap();
    assert_eq!(events(std::str::from_utf8(&body).unwrap()).len(), 6);
}

#[tokio::test]
async fn live_readers_are_bounded_and_give_their_seat_back() {
    let (fake, router) = door();
    fake.endless.store(true, Ordering::SeqCst);
    let mut readers = Vec::new();
    for _ in 0..LIVE_READERS_MAX {
        let mut body = get(&router, "/api/v1/live").await.into_body().into_data_stream();
        assert!(body.next().await.unwrap().is_ok());
        readers.push(body);
    }
    let refused = get(&router, "/api/v1/live").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(refused).await["error"], "busy");
    drop(readers.pop());
    assert_eq!(get(&router, "/api/v1/live").await.status(), StatusCode::OK);
}

#[tokio::test(start_paused = true)]
async fn a_quiet_stream_is_kept_alive() {
    let (fake, router) = door();
    fake.endless.store(true, Ordering::SeqCst);
    let mut body = get(&router, "/api/v1/live").await.into_body().into_data_stream();
    let mut text = String::new();
    while !text.contains(": keep-alive") {
        text.push_str(std::str::from_utf8(&body.next().await.unwrap().unwrap()).unwrap());
    }
}

#[tokio::test]
async fn only_loopback_is_bound() {
    for open in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let refused = bind(open.parse().unwrap()).await;
        assert!(matches!(refused, Err(BindError::NotLoopback(_))), "{open}");
    }
    let first = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let second = bind(first.local_addr().unwrap()).await;
    assert!(matches!(second, Err(BindError::Io { .. })));
}

#[tokio::test]
async fn the_socket_serves_and_drains() {
    let fake = Arc::new(Fake::default());
    fake.endless.store(true, Ordering::SeqCst);
    let listener = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let server = tokio::spawn(run(listener, router(state(&fake)), shutdown.clone()));

    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    plain.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("ok\n"), "{answer}");

    let mut reader = TcpStream::connect(address).await.unwrap();
    reader.write_all(b"GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("missed") {
        let n = reader.read(&mut buffer).await.unwrap();
        assert!(n > 0, "ended early: {seen}");
        seen.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
    }
    shutdown.cancel();
    while reader.read(&mut buffer).await.unwrap() > 0 {}
    server.await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
}
