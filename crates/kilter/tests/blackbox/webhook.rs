//! A webhook's receiver: signed alerts, sent again under the same key until they are taken.

use crate::{
    device,
    harness::{Installation, PATIENCE},
    http::{self, header},
};
use aws_lc_rs::hmac;
use serde_json::Value;
use std::{
    io::{BufReader, Write},
    net::TcpListener,
    sync::mpsc::{Receiver, channel},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

const SECRET: &str = "0123456789abcdef0123456789abcdef";

struct Received {
    answered: u16,
    headers: http::Headers,
    body: Vec<u8>,
}

/// Answers 500 to the first request and 200 from then on; tells what came.
fn receiver() -> (String, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    // Ends with the process: nobody connects once the server is gone.
    thread::spawn(move || {
        let mut answers = [500].into_iter().chain(std::iter::repeat(200));
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let Ok((first, headers)) = http::read_head(&mut reader) else { continue };
            assert_eq!(first, "POST /hook HTTP/1.1");
            let body = http::read_body(&mut reader, &headers).unwrap();
            let answered = answers.next().unwrap();
            let head = format!("HTTP/1.1 {answered} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(head.as_bytes()).unwrap();
            if sender.send(Received { answered, headers, body }).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

fn check_signature(received: &Received) {
    let signature = header(&received.headers, "kilter-signature").unwrap();
    let (time, tag) = signature.strip_prefix("t=").and_then(|rest| rest.split_once(",v1=")).unwrap();
    let seconds: u64 = time.parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(seconds) < PATIENCE.as_secs(), "signed at {seconds}, received at {now}");
    let tag: Vec<u8> = (0..tag.len()).step_by(2).map(|i| u8::from_str_radix(&tag[i..i + 2], 16).unwrap()).collect();
    let signed = [time.as_bytes(), b".", &received.body].concat();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes()), &signed, &tag).expect("the signature holds");
}

#[test]
fn an_alert_is_signed_and_sent_again_until_it_is_taken() {
    let (url, received) = receiver();
    let installation = Installation::new("");
    let secret = installation.root().join("hook.secret");
    std::fs::write(&secret, format!("{SECRET}\n")).unwrap();
    installation.configure(&format!(
        "[[webhook]]\nname = \"pager\"\nurl = \"{url}\"\nsecret_file = \"{}\"\ntenant = \"hooked\"\nallow_private = true\n\n\
         [[limit]]\ntenant = \"hooked\"\nsignal = \"bearing_c\"\nhigh = 95.0\n",
        secret.display()
    ));
    for tenant in ["hooked", "quiet"] {
        installation.onboard(tenant, &[&format!("{tenant}-1")]);
    }
    let server = installation.start();
    let hot =
        |i: u64| format!("{{\"ts\":{},\"bearing_c\":{}}}", 1_700_000_000 + i, if i == 40 { 140 } else { 60 + i % 5 });
    let runtime = device::runtime();
    for tenant in ["quiet", "hooked"] {
        let thing = format!("{tenant}-1");
        let sent = device::publish(&installation, &server, (tenant, &thing), (0..80).map(hot));
        runtime.block_on(sent).unwrap();
    }
    let next = || received.recv_timeout(PATIENCE).expect("the webhook is called");
    let (first, again, closed) = (next(), next(), next());
    assert_eq!((first.answered, again.answered, closed.answered), (500, 200, 200));
    [&first, &again, &closed].into_iter().for_each(check_signature);
    let key = |r: &Received| header(&r.headers, "idempotency-key").unwrap().to_owned();
    assert_eq!(key(&first), key(&again));
    assert_ne!(key(&first), key(&closed));
    let alert: Value = serde_json::from_slice(&again.body).unwrap();
    assert_eq!((&alert["event"], &alert["key"]), (&Value::from("opened"), &Value::from(key(&again))));
    let episode = &alert["episode"];
    assert_eq!((&episode["tenant"], &episode["thing"]), (&Value::from("hooked"), &Value::from("hooked-1")));
    assert_eq!(episode["severity"], "critical");
    let cause = &episode["causes"][0];
    assert_eq!((&cause["signal"], &cause["value"]), (&Value::from("bearing_c"), &Value::from(140.0)));
    let closed: Value = serde_json::from_slice(&closed.body).unwrap();
    assert_eq!((&closed["event"], &closed["episode"]["id"]), (&Value::from("closed"), &episode["id"]));

    // No other tenant's alerts, and none twice.
    let delivered = crate::harness::eventually("both deliveries are on record", || {
        let alerts = server.list("/api/v1/alerts?tenant=hooked");
        let to_pager =
            |alert: &Value| alert["deliveries"].as_array().unwrap().iter().find(|d| d["to"] == "pager").cloned();
        let deliveries: Vec<Value> = alerts.iter().filter_map(to_pager).collect();
        (deliveries.len() == 2 && alerts.len() == 2).then_some(deliveries)
    });
    assert_eq!((&delivered[1]["attempts"], &delivered[0]["attempts"]), (&Value::from(2), &Value::from(1)));
    assert!(delivered.iter().all(|d| d["error"].is_null()), "{delivered:?}");
    assert_eq!(server.list("/api/v1/alerts?tenant=quiet").len(), 0);
    assert!(received.try_recv().is_err(), "nothing is sent twice");
}
