//! Eclipse Paho's Python client, the one that most devices' prototypes speak with.

use crate::{device, harness::Installation, tools};
use serde_json::Value;

const COUNT: usize = 1_000;

#[test]
fn paho_publishes_many_in_flight_and_receives_its_own() {
    let Some(python) = tools::python("paho") else { return };
    let installation = Installation::new("");
    let versions = [("311", "paho-311"), ("5", "paho-5")];
    installation.onboard("paho1", &versions.map(|(_, thing)| thing));
    let server = installation.start();
    let (count, certificates) = (COUNT.to_string(), installation.certificates());
    for (version, thing) in versions {
        let arguments = [version, server.port(), certificates.to_str().unwrap(), "paho1", thing, &count];
        let seen: Value = serde_json::from_str(&tools::script(&python, "device.py", &arguments)).unwrap();
        assert_eq!(seen["acknowledged"], COUNT, "{seen}");
        assert_eq!(seen["received"], COUNT, "{seen}");
        assert_eq!(seen["in_order"], true, "{seen}");
        assert_eq!(seen["foreign_publish_refused"], true, "{seen}");
        assert_eq!(seen["foreign_subscribe_refused"], true, "{seen}");
        server.log_says("publish", thing, &["iot:Publish"]);
        server.log_says("subscribe", thing, &["iot:Subscribe"]);
    }
    let ledger = server.settled_ledger("paho1", 2 * COUNT as u64);
    for line in &ledger {
        assert_eq!((line["received"].as_u64(), line["scored"].as_u64()), (Some(COUNT as u64), Some(COUNT as u64)));
    }
    let records = server.list("/api/v1/tenants/paho1/records?limit=10000");
    let numbers = |thing: &str| -> Vec<u64> {
        let own = records.iter().filter(|record| record["thing"] == thing);
        own.map(|record| {
            assert_eq!(record["topic"], &*device::topic("paho1", thing));
            serde_json::from_str::<Value>(record["data"].as_str().unwrap()).unwrap()["n"].as_u64().unwrap()
        })
        .collect()
    };
    for (_, thing) in versions {
        assert_eq!(numbers(thing), (0..COUNT as u64).collect::<Vec<_>>(), "{thing}");
    }
}
