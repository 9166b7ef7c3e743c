//! `kilter detect`: a CSV is scored offline as the stream would score it, and what is wrong with a file is named.

use crate::harness::Installation;
use serde_json::Value;
use std::fmt::Write as _;

const ROWS: u32 = 1_200;
/// Rows in which the outlet is too hot.
const FAULT: std::ops::Range<u32> = 900..940;

/// A pump: load goes up and down, two temperatures follow it with a little noise.
fn recording() -> String {
    let mut text = "time,load,inlet_c,outlet_c,label\n".to_owned();
    let mut noise = 1u32;
    let mut next = || {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f64::from(noise >> 16) / 65_536.0 - 0.5
    };
    for row in 0..ROWS {
        let load = 50.0 + 10.0 * (f64::from(row) / 40.0).sin() + next();
        let (inlet, outlet) = (20.0 + 0.5 * next(), 30.0 + 0.4 * load + 0.5 * next());
        let fault = FAULT.contains(&row);
        let outlet = if fault { outlet + 15.0 } else { outlet };
        let (minute, second) = (row / 60, row % 60);
        let hour = 8 + minute / 60;
        let time = format!("2026-03-01T{hour:02}:{:02}:{second:02}Z", minute % 60);
        let _ = writeln!(text, "{time},{load:.3},{inlet:.3},{outlet:.3},{}", u8::from(fault));
    }
    text
}

/// What of an episode does not depend on who it belongs to.
fn told(episodes: &Value) -> Vec<Value> {
    let told =
        |e: &Value| ["start", "peak", "end", "peak_score", "readings", "severity", "causes"].map(|of| e[of].clone());
    episodes.as_array().unwrap().iter().map(|episode| told(episode).into()).collect()
}

#[test]
fn a_file_is_scored_as_the_stream_scores_it_and_drawn() {
    let installation = Installation::new(
        "[[asset]]\ntenant = \"hot\"\n[asset.tolerance.outlet_c]\ndifference = 40.0\n\
         [[asset]]\ntenant = \"serviced\"\n\
         maintenance = [{ from = \"2026-03-01T08:14:00Z\", until = \"2026-03-01T08:17:00Z\" }]\n",
    );
    let (file, plot) = (installation.root().join("pump.csv"), installation.root().join("pump.svg"));
    std::fs::write(&file, recording()).unwrap();
    let (file, plot) = (file.to_str().unwrap(), plot.to_str().unwrap());
    let found = installation.kilter(&["detect", file, "--plot", plot]).json();
    assert_eq!(found["readings"].as_array().unwrap().len(), ROWS as usize);
    let during = |episode: &&Value| {
        let start = episode["start"].as_str().unwrap();
        ("2026-03-01T08:15:00Z".."2026-03-01T08:15:40Z").contains(&start)
    };
    let fault = found["episodes"].as_array().unwrap().iter().find(during);
    let cause = &fault.unwrap_or_else(|| panic!("{}", found["episodes"]))["causes"][0];
    assert_eq!((&cause["signal"], &cause["direction"]), (&"outlet_c".into(), &"high".into()), "{cause}");
    let svg = std::fs::read_to_string(plot).unwrap();
    assert!(svg.contains("<svg") && svg.contains("outlet_c") && svg.contains("polyline"));

    let server = installation.start();
    let stream = |tenant: &str, thing: &str| {
        let whose = ["--tenant", tenant, "--thing", thing, "--time-column", "time"];
        installation.kilter(&[&["replay", file][..], &whose].concat()).json();
        installation.kilter(&["anomalies", "list", "--tenant", tenant]).json()
    };
    assert_eq!(told(&stream("plant", "recording")), told(&found["episodes"]), "the same code, the same answer");
    for tenant in ["hot", "serviced"] {
        let episodes = stream(tenant, &format!("{tenant}-pump"));
        assert!(!episodes.as_array().unwrap().iter().any(|episode| during(&episode)), "{tenant}: {episodes}");
    }
    assert!(server.stop().success());
}

#[test]
fn what_is_wrong_with_a_file_is_named() {
    let installation = Installation::new("");
    let file = installation.root().join("bad.csv");
    for (text, why) in [
        ("a,b\n1,2\n", "no column of ts, timestamp, time"),
        ("time,a\n2026-03-01T08:00:00Z,1\n2026-03-01T08:00:01Z,1,2\n", "line 3: 3 cells instead of the 2"),
        ("time,a\n2026-03-01T08:00:00Z,NaN\n", "line 2: a is NaN"),
        ("time,a\nyesterday,1\n", "line 2: \"yesterday\" is not a time"),
        ("time,a\n1970-01-01T00:00:00Z,1\n", "line 2: its time 1970-01-01T00:00:00Z is before"),
    ] {
        std::fs::write(&file, text).unwrap();
        let said = installation.kilter(&["detect", file.to_str().unwrap()]).refused();
        assert!(said.contains(why) && said.contains("KLT008"), "{said}");
    }
}
