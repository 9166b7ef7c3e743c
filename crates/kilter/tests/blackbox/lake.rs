//! The lake of a running installation, read by DuckDB and pyarrow, against the ledger.

use crate::{
    aws, device,
    harness::{Installation, Server, eventually},
    tools,
};
use serde_json::Value;
use std::{fs, path::Path, process::Command};

/// Where a tenant's objects are.
pub fn prefix(data: &Path, tenant: &str) -> std::path::PathBuf {
    data.join("objects").join(format!("iot-data-lake-{tenant}-us-east-1")).join(tenant)
}

/// Rows of a dataset, as the manifests say.
pub fn archived_rows(data: &Path, tenant: &str, dataset: &str) -> u64 {
    let Ok(entries) = fs::read_dir(prefix(data, tenant).join("_manifest").join(dataset)) else { return 0 };
    entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| serde_json::from_slice::<Value>(&fs::read(path).unwrap()).unwrap()["rows"].as_u64().unwrap())
        .sum()
}

#[test]
fn duckdb_and_pyarrow_count_what_the_ledger_counts() {
    let Some(python) = tools::python("lake") else { return };
    let installation = Installation::new("[lake]\nflush_seconds = 1\n");
    installation.onboard("lake1", &["well-1", "well-2"]);
    let server = installation.start();
    let reading = |i: u64| format!("{{\"ts\":{},\"level_m\":{}.5,\"site\":\"north\"}}", 1_700_000_000 + i, i % 9);
    let runtime = device::runtime();
    for thing in ["well-1", "well-2"] {
        let mut payloads: Vec<Vec<u8>> = (0..400).map(|i| reading(i).into_bytes()).collect();
        payloads.push(reading(7).into_bytes());
        payloads.push(b"\xff\xfe not text".to_vec());
        payloads.push(b"not json".to_vec());
        payloads.push(b"[{\"ts\":1700900000,\"level_m\":1},{\"ts\":1700900001,\"level_m\":2}]".to_vec());
        runtime.block_on(device::publish(&installation, &server, ("lake1", thing), payloads)).unwrap();
    }
    let ledger = server.settled_ledger("lake1", 2 * 404);
    let sum = |of: &str| ledger.iter().map(|line| line[of].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("stored"), sum("rejected"), sum("scored"), sum("late")), (804, 4, 802, 2));
    // A batch of two readings is one message and two rows.
    let rows = sum("scored") + 2;
    for (dataset, count) in [("raw", 804), ("rejected", 4), ("scored", rows)] {
        eventually("everything is in the lake", || {
            (archived_rows(&installation.data(), "lake1", dataset) == count).then_some(())
        });
    }
    let prefix = prefix(&installation.data(), "lake1");
    let seen: Value = serde_json::from_str(&tools::script(&python, "lake.py", &[prefix.to_str().unwrap()])).unwrap();
    for reader in ["duckdb", "pyarrow"] {
        let of = &seen[reader];
        assert_eq!(of["raw"], 804, "{seen:#}");
        assert_eq!(of["rejected"], 4, "{seen:#}");
        assert_eq!(of["scored"], rows, "{seen:#}");
        let things = serde_json::json!({"well-1": 402, "well-2": 402});
        assert_eq!(of["raw_of"], things, "{seen:#}");
        assert_eq!(of["payloads"], serde_json::json!(["6e6f74206a736f6e", "fffe206e6f742074657874"]), "{seen:#}");
        let reasons = of["reasons"].as_array().unwrap();
        assert!(reasons.len() == 2 && reasons.iter().all(|r| !r.as_str().unwrap().is_empty()), "{seen:#}");
        let level_sum = 2.0 * ((0..400).map(|i| f64::from(i % 9) + 0.5).sum::<f64>() + 3.0);
        assert_eq!(of["level_sum"], level_sum, "{seen:#}");
    }
    as_a_bucket(&python, &installation, &server, rows);
}

/// The same through the S3 endpoint: boto3, the AWS CLI and pyarrow see and delete what the lake writes.
fn as_a_bucket(python: &Path, installation: &Installation, server: &Server, rows: u64) {
    let objects: Vec<String> = server
        .list("/api/v1/tenants/lake1/objects")
        .iter()
        .map(|object| object["key"].as_str().unwrap().to_owned())
        .collect();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/blackbox/python/lake_bucket.py");
    let run = |step: &str| {
        let output = Command::new(python)
            .arg(&script)
            .args([step, "iot-data-lake-lake1-us-east-1", "lake1"])
            .envs(aws::environment(installation))
            .output()
            .unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{step}: {out}{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let seen = run("look");
    assert_eq!(seen["keys"], serde_json::json!(objects), "one list, whoever asks");
    assert_eq!((&seen["raw"], &seen["scored"]), (&804.into(), &rows.into()));
    run("delete");
}
