//! A device sends waveforms: a bearing that begins to knock is told, and the cause is what the vibration shows.

use crate::{device, harness::Installation};
use kilter_core::Timestamp;
use std::fmt::Write as _;

const HEALTHY: u32 = 400;
const FAULTY: u32 = 30;
const SAMPLES: u32 = 512;
const RATE_HZ: f64 = 12_800.0;
const START: i64 = 1_700_000_000;
/// By the geometry below: 6.17 elements' passes per turn of the inner race, at 30 turns a second.
const KNOCKS_HZ: f64 = 162.5;

/// Counts of a converter: noise, and where the race is damaged, a resonance that rings at every knock.
fn payload(i: u32, knocks: f64) -> String {
    let mut noise = (i + 1).wrapping_mul(2_654_435_761);
    let mut text = format!(
        "{{\"ts\":{},\"temp_c\":{},\"vibration\":{{\"rate_hz\":{RATE_HZ},\"samples\":[",
        START + i64::from(i),
        60 + i % 3
    );
    for at in 0..SAMPLES {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let since = (f64::from(at) / RATE_HZ + f64::from(i) * 0.001).rem_euclid(1.0 / KNOCKS_HZ);
        let ring = (-since * 1_500.0).exp() * (std::f64::consts::TAU * 3_000.0 * since).sin();
        let sample = 200.0 * (f64::from(noise >> 16) / 65_536.0 - 0.5) + knocks * ring;
        let _ = write!(text, "{}{}", if at == 0 { "" } else { "," }, sample.round());
    }
    text + "]}}"
}

#[test]
fn a_knocking_bearing_is_told_by_what_its_vibration_shows() {
    let installation = Installation::new(
        "[[asset]]\ntenant = \"plant\"\ncommissioning_readings = 350\n[asset.bearing.vibration]\nrolling_elements = 9\n\
         element_diameter_mm = 7.94\npitch_diameter_mm = 39.04\nspeed_rpm = 1800.0\n",
    );
    installation.onboard("plant", &["plant-motor"]);
    let server = installation.start();
    let unusable = ["{\"vibration\":{\"rate_hz\":12800,\"samples\":[1]}}".to_owned()];
    let payloads = (0..HEALTHY).map(|i| payload(i, 0.0)).chain((HEALTHY..HEALTHY + FAULTY).map(|i| payload(i, 300.0)));
    let sent = device::publish(&installation, &server, ("plant", "plant-motor"), payloads.chain(unusable));
    device::runtime().block_on(sent).unwrap();
    let all = u64::from(HEALTHY + FAULTY);
    let ledger = server.settled_ledger("plant", all + 1);
    assert_eq!((&ledger[0]["scored"], &ledger[0]["rejected"]), (&all.into(), &1.into()), "{ledger:?}");

    let episodes = installation.kilter(&["anomalies", "list", "--tenant", "plant"]).json();
    let began = Timestamp::from_seconds(START + i64::from(HEALTHY));
    let during = |episode: &&serde_json::Value| {
        Timestamp::parse_rfc3339(episode["start"].as_str().unwrap()).is_some_and(|start| start >= began)
    };
    let found = episodes.as_array().unwrap().iter().find(during).unwrap_or_else(|| panic!("not told: {episodes:#}"));
    let signal = found["causes"][0]["signal"].as_str().unwrap();
    assert!(signal.starts_with("vibration."), "{found:#}");
    assert!(server.stop().success());
}
