//! Readers that are not ours judge the files: DuckDB and pyarrow, in a Python environment below the target
//! folder. Made on demand where `KILTER_REQUIRE_TOOLS` is set; without it and without the environment the
//! test says that it was skipped.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod samples;

use kilter_core::Offset;
use kilter_testkit::MemoryObjects;
use samples::*;
use serde_json::{Value, json};
use std::{
    io::Write,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

/// The releases that the expectations below were written against.
const PACKAGES: [&str; 2] = ["duckdb==2.0.0", "pyarrow==26.0.1"];

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{command:?}: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }
}

/// Python with the packages; the reason where there is none.
fn python() -> Result<PathBuf, String> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("lake-readers.venv");
    let python = environment.join("bin/python3");
    // Written last, so that an interrupted installation is repeated.
    let complete = environment.join(PACKAGES.join("+"));
    if complete.exists() {
        return Ok(python);
    }
    if std::env::var_os("KILTER_REQUIRE_TOOLS").is_none() {
        return Err(format!("no {}; set KILTER_REQUIRE_TOOLS=1 to have it made", environment.display()));
    }
    run(Command::new("python3").args(["-m", "venv"]).arg(&environment))?;
    run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(PACKAGES))?;
    std::fs::write(&complete, "").map_err(|error| error.to_string())?;
    Ok(python)
}

fn seen_by_others(root: &MemoryObjects) -> Option<Value> {
    let python = match python() {
        Ok(python) => python,
        Err(reason) if std::env::var_os("KILTER_REQUIRE_TOOLS").is_none() => {
            // Not `eprintln!`: the test harness would swallow it.
            let _ = writeln!(std::io::stderr(), "SKIPPED: independent_reader: {reason}");
            return None;
        }
        Err(reason) => panic!("KILTER_REQUIRE_TOOLS is set, but {reason}"),
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/independent_reader.py");
    // As `aws s3 sync` would leave them.
    let folder = tempfile::tempdir().unwrap();
    for key in ["raw", "rejected", "scored"].iter().flat_map(|dataset| keys(root, dataset)) {
        let path = folder.path().join(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes_of(root, &key)).unwrap();
    }
    let prefix = folder.path().join(tenant().as_str());
    let output = run(Command::new(python).arg(script).arg(prefix)).unwrap();
    Some(serde_json::from_str(&output).unwrap())
}

fn write_sample(root: &Arc<MemoryObjects>) {
    let lake = lake(root);
    let mut batch = records(0..4, at("2026-11-23T23:59:58.123456789Z"));
    batch[1] = record(1, batch[1].record.arrival, b"\xff\x00{", Some("not UTF-8"));
    lake.write_raw(&tenant(), SHARD, &batch).unwrap();
    let mut warming = reading(0, 0, batch[0].record.arrival);
    warming.verdict = kilter_core::Verdict::Warming { seen: 3, needed: 50 };
    (warming.score, warming.threshold) = (None, None);
    warming.causes.clear();
    warming.values.clear();
    let (odd, known) = (reading(2, 0, batch[2].record.arrival), batch[3].record.arrival);
    let rows = [warming, odd.clone(), corrected(&odd, 1, 3, known)];
    lake.write_scored(&tenant(), SHARD, Offset(0), Offset(3), &rows).unwrap();
}

#[test]
fn duckdb_and_pyarrow_read_what_was_written() {
    let root = root();
    write_sample(&root);
    let Some(seen) = seen_by_others(&root) else { return };
    check_duckdb(&seen["duckdb"]);
    check_pyarrow(&seen["pyarrow"]);
}

fn check_duckdb(seen: &Value) {
    let topic = "tenants/tenant001/devices/pump-1/telemetry";
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02X}")).collect::<String>();
    assert_eq!(
        seen["raw"]["rows"],
        json!([
            [
                "2026-11-23",
                "pump-1",
                topic,
                "2026-11-23 23:59:58.123456789+00",
                0,
                0,
                1,
                hex(r#"{"pressure":0.5,"offset":0}"#)
            ],
            [
                "2026-11-24",
                "pump-1",
                topic,
                "2026-11-24 00:00:00.123456789+00",
                0,
                2,
                3,
                hex(r#"{"pressure":2.5,"offset":2}"#)
            ],
            [
                "2026-11-24",
                "pump-1",
                topic,
                "2026-11-24 00:00:01.123456789+00",
                0,
                3,
                4,
                hex(r#"{"pressure":3.5,"offset":3}"#)
            ],
        ])
    );
    assert_eq!(
        seen["rejected"]["rows"],
        json!([["2026-11-23", "pump-1", topic, "2026-11-23 23:59:59.123456789+00", 0, 1, 2, "FF007B", "not UTF-8"]])
    );
    assert_eq!(
        seen["scored"]["rows"],
        json!([
            [
                "2026-11-23",
                "pump-1",
                "2026-11-23 23:59:57.123456789+00",
                "2026-11-23 23:59:58.123456789+00",
                "0:0:0",
                "warming",
                3,
                50,
                null,
                null,
                null,
                0,
                0,
                null,
                null,
                null,
                null,
                null,
                null,
                null,
                "2026-11-23 23:59:58.123456789+00",
                0,
                0
            ],
            [
                "2026-11-24",
                "pump-1",
                "2026-11-23 23:59:59.123456789+00",
                "2026-11-24 00:00:00.123456789+00",
                "0:2:0",
                "anomalous",
                null,
                null,
                4.5,
                3.25,
                1.5,
                2,
                1,
                "flow",
                1.0,
                "high",
                1.5,
                0.5,
                1.0,
                "cusum",
                "2026-11-24 00:00:00.123456789+00",
                2,
                0
            ],
            [
                "2026-11-24",
                "pump-1",
                "2026-11-23 23:59:59.123456789+00",
                "2026-11-24 00:00:00.123456789+00",
                "0:2:0",
                "anomalous",
                null,
                null,
                1.5,
                3.25,
                1.5,
                2,
                1,
                "flow",
                1.0,
                "high",
                1.5,
                0.5,
                1.0,
                "cusum",
                "2026-11-24 00:00:01.123456789+00",
                3,
                1
            ],
        ])
    );
    assert_eq!(seen["one_day"], 2, "the partition prunes");
    let types = &seen["raw"]["types"];
    assert_eq!((&types["arrival"], &types["payload"]), (&json!("TIMESTAMPTZ_NS"), &json!("BLOB")));
    assert_eq!((&types["offset"], &types["date"]), (&json!("BIGINT"), &json!("DATE")));
    assert_eq!(seen["scored"]["types"]["signals"], "MAP(VARCHAR, DOUBLE)");
}

fn check_pyarrow(seen: &Value) {
    let raw = &seen["raw"];
    assert_eq!(
        raw["types"],
        json!({
            "thing": "string", "topic": "string", "arrival": "timestamp[ns, tz=UTC]", "shard": "int32",
            "offset": "int64", "thing_sequence": "int64", "payload": "binary", "date": "string"
        })
    );
    assert_eq!(raw["rows"].as_array().unwrap().len(), 3);
    assert_eq!(raw["rows"][0]["date"], "2026-11-23");
    assert_eq!(raw["rows"][0]["arrival"], at("2026-11-23T23:59:58.123456789Z").as_nanos(), "every nanosecond is kept");
    assert_eq!(seen["rejected"]["rows"][0]["reason"], "not UTF-8");
    let scored = &seen["scored"];
    assert!(scored["types"]["signals"].as_str().is_some_and(|kind| kind.starts_with("map<string, double")), "{scored}");
    let warming = &scored["rows"][0];
    assert_eq!(
        (&warming["score"], &warming["causes"], &warming["warming_needed"]),
        (&Value::Null, &json!([]), &50.into())
    );
    let odd = &scored["rows"][1];
    assert_eq!(odd["signals"], json!([["flow", 1.5], ["pressure", -0.25]]));
    assert_eq!(
        odd["causes"],
        json!([{
            "signal": "flow", "share": 1.0, "direction": "high", "value": 1.5,
            "expected_low": 0.5, "expected_high": 1.0, "detector": "cusum"
        }])
    );
}
