//! How fast a connection, and a tenant's connections together, may publish. Time stands still unless a test moves it, so
//! that what was taken in is counted exactly.

use crate::{
    fixtures::{Disk, House},
    raw::{Raw, ack, connect, message},
    still::{stop_time, until},
};
use kilter_door_mqtt::{QoS, Version};
use kilter_mqtt::Packet;
use metrics_exporter_prometheus::PrometheusBuilder;
use std::time::Duration;

async fn open(house: &House, client_id: &str) -> Raw {
    Raw::open(house, connect(client_id, Version::V5)).await.0
}

async fn send(client: &mut Raw, ids: std::ops::RangeInclusive<u16>) {
    for id in ids {
        client.send(Packet::Publish(message("t/x", &id.to_string(), QoS::AtLeastOnce, id))).await;
    }
}

async fn acknowledged(client: &mut Raw, ids: std::ops::RangeInclusive<u16>) {
    for id in ids {
        assert_eq!(client.next().await, Some(Packet::PubAck(ack(id))));
    }
}

fn taken(house: &House, client_ids: &[&str]) -> usize {
    client_ids.iter().map(|id| house.ingest.received(id).len()).sum()
}

/// Waits until so many messages are taken in.
async fn taken_in(house: &House, client_ids: &[&str], messages: usize) {
    until(&format!("{messages} messages are taken in"), || {
        let taken = taken(house, client_ids);
        assert!(taken <= messages, "{taken} messages are taken in instead of {messages}");
        taken == messages
    })
    .await;
}

#[tokio::test]
async fn a_greedy_connection_is_read_more_slowly() {
    let house = House::open_with(|config| config.connection_rate_max = 10).await;
    let (mut greedy, mut other) = (open(&house, "dev-greedy").await, open(&house, "dev-other").await);
    stop_time();
    send(&mut greedy, 1..=13).await;
    for taken_by_now in [10, 11, 12, 13] {
        taken_in(&house, &["dev-greedy"], taken_by_now).await;
        assert!(other.until_quiet().await.is_empty());
        assert_eq!(taken(&house, &["dev-greedy"]), taken_by_now, "and not one more");
        tokio::time::advance(Duration::from_millis(101)).await;
    }
    // Slowed down, not refused.
    acknowledged(&mut greedy, 1..=13).await;
}

#[tokio::test]
async fn a_tenant_that_floods_slows_itself_alone_and_loses_nothing() {
    const NOISY: [&str; 2] = ["dev-of-noisy-1", "dev-of-noisy-2"];
    let recorder = PrometheusBuilder::new().build_recorder();
    let metrics = recorder.handle();
    let _recorded = ::metrics::set_default_local_recorder(&recorder);
    let house = House::open_with(|config| config.tenant_rate_max = 100).await;
    let mut noisy = [open(&house, NOISY[0]).await, open(&house, NOISY[1]).await];
    let (mut quiet, mut other) = (open(&house, "dev-of-quiet-1").await, open(&house, "dev-other").await);
    stop_time();
    for client in &mut noisy {
        send(client, 1..=200).await;
    }
    taken_in(&house, &NOISY, 100).await;
    // All that the other tenant may send is acknowledged in no time at all.
    send(&mut quiet, 1..=100).await;
    acknowledged(&mut quiet, 1..=100).await;
    for seconds in 1..=4 {
        assert!(other.until_quiet().await.is_empty());
        assert_eq!(taken(&house, &NOISY), 100 * seconds, "the rate, and not one more");
        tokio::time::advance(Duration::from_secs(1)).await;
        taken_in(&house, &NOISY, 400.min(100 * (seconds + 1))).await;
    }
    for (client, id) in noisy.iter_mut().zip(NOISY) {
        acknowledged(client, 1..=200).await;
        let expected: Vec<_> = (1..=200).map(|n: u16| ("t/x".to_owned(), n.to_string().into())).collect();
        assert_eq!(house.ingest.received(id), expected, "nothing is lost, nothing out of order");
    }
    let text = metrics.render();
    let slowed = |tenant: &str| {
        let name = format!("kilter_mqtt_slowed_total{{bound=\"tenant_rate_max\",tenant=\"{tenant}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0, |value| value.parse::<u64>().unwrap())
    };
    assert!(slowed("noisy") > 0);
    assert_eq!(slowed("quiet"), 0);
}

/// Whoever must wait waits in line.
#[tokio::test]
async fn a_device_that_floods_does_not_starve_its_tenants_others() {
    let house = House::open_with(|config| config.tenant_rate_max = 100).await;
    let mut flood = open(&house, "dev-of-one-flood").await;
    let mut seldom = open(&house, "dev-of-one-seldom").await;
    stop_time();
    send(&mut flood, 1..=900).await;
    taken_in(&house, &["dev-of-one-flood"], 100).await;
    send(&mut seldom, 1..=1).await;
    // One place in line each: the flood's next message, then this one.
    assert!(open(&house, "dev-other").await.until_quiet().await.is_empty());
    tokio::time::advance(Duration::from_millis(25)).await;
    acknowledged(&mut seldom, 1..=1).await;
    assert_eq!(taken(&house, &["dev-of-one-flood"]), 101);
}

#[tokio::test]
async fn a_tenant_may_have_so_much_waiting_for_the_disk() {
    const NOISY: [&str; 2] = ["dev-of-noisy-1", "dev-of-noisy-2"];
    let house = House::open_with(|config| config.tenant_waiting_bytes_max = 4).await;
    let mut noisy = [open(&house, NOISY[0]).await, open(&house, NOISY[1]).await];
    let mut quiet = open(&house, "dev-of-quiet-1").await;
    stop_time();
    house.ingest.set_disk(Disk::Held);
    // One byte each. The edge: four wait, and the fifth is not taken.
    for id in 1..=4 {
        let (client, before) = (&mut noisy[usize::from(id) % 2], taken(&house, &NOISY));
        send(client, id..=id).await;
        taken_in(&house, &NOISY, before + 1).await;
    }
    send(&mut noisy[1], 5..=5).await;
    send(&mut quiet, 1..=1).await;
    taken_in(&house, &["dev-of-quiet-1"], 1).await;
    assert!(open(&house, "dev-other").await.until_quiet().await.is_empty());
    assert_eq!(taken(&house, &NOISY), 4);
    house.ingest.set_disk(Disk::Good);
    acknowledged(&mut quiet, 1..=1).await;
    tokio::time::advance(Duration::from_millis(10)).await;
    taken_in(&house, &NOISY, 5).await;
}
