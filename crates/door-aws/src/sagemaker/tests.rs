//! What boto3 cannot show: a stop in the middle of a deployment, and archives beyond their bounds.

use super::{store::Endpoint, *};
use axum::http::{HeaderMap, HeaderValue};
use kilter_core::{
    Timestamp,
    ports::{
        function::Model,
        objects::{Buckets, Contents, Meta, PutCondition},
    },
};
use kilter_testkit::{FakeClock, MemoryObjects, MemoryTable};
use serde_json::json;
use std::io::{Read, Write};

/// "sum N": a model of so many features whose score is their sum.
struct Sums;
struct Sum(usize);

impl Models for Sums {
    fn open(&self, archive: &mut dyn Read) -> std::result::Result<Arc<dyn Model>, String> {
        let mut text = String::new();
        archive.read_to_string(&mut text).map_err(|error| error.to_string())?;
        let features = text.trim_start_matches('\0').strip_prefix("sum ").and_then(|features| features.parse().ok());
        features.map(|features| Arc::new(Sum(features)) as Arc<dyn Model>).ok_or_else(|| format!("found {text:.20}"))
    }
}

impl Model for Sum {
    fn features(&self) -> usize {
        self.0
    }
    fn score(&self, point: &[f64]) -> f64 {
        point.iter().sum()
    }
}

struct Site {
    table: Arc<MemoryTable>,
    objects: Arc<MemoryObjects>,
}

impl Site {
    fn new() -> Self {
        let site = Self { table: Arc::new(MemoryTable::new()), objects: Arc::default() };
        site.objects.create_bucket("models", "us-east-1").unwrap();
        site
    }

    fn open(&self) -> Sagemaker {
        Sagemaker::open(SagemakerPorts {
            table: self.table.clone(),
            objects: self.objects.clone(),
            models: Arc::new(Sums),
            clock: Arc::new(FakeClock::default()),
        })
        .unwrap()
    }

    fn upload(&self, bytes: &[u8]) {
        let mut staged = self.objects.stage(false).unwrap();
        staged.write_all(bytes).unwrap();
        let content = staged.finish().unwrap();
        self.objects.publish("models", "m", vec![content], Meta::default(), PutCondition::Always).unwrap();
    }
}

fn call(target: &'static str, path: &str, body: impl Into<bytes::Bytes>) -> Call {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-target", HeaderValue::from_static(target));
    headers.insert("content-type", HeaderValue::from_static("text/csv"));
    let unsigned = Call::new("us-east-1", "123456789012", Timestamp::from_seconds(0));
    Call { path: path.into(), headers, body: body.into(), ..unsigned }
}

fn ask(service: &Sagemaker, target: &'static str, body: Value) -> Result<Value> {
    let answer = service.answer(&call(target, "/", body.to_string()))?;
    Ok(serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// A model, its configuration, and an endpoint that was being made when the server stopped.
fn stopped(site: &Site) {
    let service = site.open();
    ask(
        &service,
        "SageMaker.CreateModel",
        json!({
            "ModelName": "m",
            "ExecutionRoleArn": "arn:aws:iam::123456789012:role/r",
            "PrimaryContainer": {"ModelDataUrl": "s3://models/m"},
        }),
    )
    .unwrap();
    ask(
        &service,
        "SageMaker.CreateEndpointConfig",
        json!({
            "EndpointConfigName": "c",
            "ProductionVariants": [{"VariantName": "v", "ModelName": "m"}],
        }),
    )
    .unwrap();
    // Outside of a runtime nothing is deployed in the background: as if the server had stopped just then.
    let create = json!({"EndpointName": "e", "EndpointConfigName": "c"});
    let made =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(&service, "SageMaker.CreateEndpoint", create)));
    assert!(made.is_err(), "the deployment needs a runtime");
    let described = ask(&service, "SageMaker.DescribeEndpoint", json!({"EndpointName": "e"})).unwrap();
    assert_eq!((&described["EndpointStatus"], &described["ProductionVariants"]), (&json!("Creating"), &Value::Null));
    let refused = ask(&service, "SageMaker.DeleteEndpoint", json!({"EndpointName": "e"})).unwrap_err();
    assert!(refused.message.contains("in-progress"), "{refused}");
}

fn status(service: &Sagemaker) -> Value {
    ask(service, "SageMaker.DescribeEndpoint", json!({"EndpointName": "e"})).unwrap()
}

#[tokio::test]
async fn a_stop_in_the_middle_is_gone_on_with_and_what_is_served_is_kept() {
    let site = Site::new();
    site.upload(b"sum 2");
    std::thread::scope(|scope| scope.spawn(|| stopped(&site)).join().unwrap());
    let service = site.open();
    assert_eq!(status(&service)["EndpointStatus"], "InService");
    // The object is overwritten, and something is left of a deployment that a crash ended.
    site.upload(b"nothing");
    service.0.store.keep_archive("orphan", &mut &b"sum 9"[..], 100).unwrap();
    drop(service);
    let service = site.open();
    assert_eq!(service.0.store.archives().unwrap().len(), 1, "what nobody serves is gone");
    let runtime = SagemakerRuntime::new(service.clone());
    let answer = runtime.call(&call("", "/endpoints/e/invocations", "1,2\n3,4\n")).await.unwrap();
    assert_eq!(answer.body, r#"{"scores":[{"score":3.0},{"score":7.0}]}"#);
    let refused = runtime.call(&call("", "/endpoints/e/invocations", "1\n")).await.unwrap_err();
    assert_eq!((refused.code.as_str(), refused.status.as_u16()), ("ModelError", 424));
    let large = runtime.call(&call("", "/endpoints/e/invocations", vec![b'1'; (6 << 20) + 1])).await.unwrap_err();
    assert_eq!(large.code, "ValidationError");
    ask(&service, "SageMaker.DeleteEndpoint", json!({"EndpointName": "e"})).unwrap();
    assert_eq!(service.0.store.archives().unwrap(), [""; 0], "its archive goes with it");
    let gone = runtime.call(&call("", "/endpoints/e/invocations", "1,2\n")).await.unwrap_err();
    assert!(gone.message.contains("not found"), "{gone}");
}

#[test]
fn what_cannot_be_served_fails_and_says_why() {
    for (bytes, why) in [
        (Some(b"onnx".to_vec()), "is no model: found onnx"),
        (Some(vec![0; (64 << 20) + 1]), "at most 67108864"),
        (None, "Could not find model data at s3://models/m"),
    ] {
        let site = Site::new();
        bytes.iter().for_each(|bytes| site.upload(bytes));
        stopped(&site);
        let service = site.open();
        let said = status(&service);
        assert_eq!(said["EndpointStatus"], "Failed");
        assert!(said["FailureReason"].as_str().unwrap().contains(why), "{said}");
        assert!(service.0.store.archives().unwrap().is_empty(), "nothing is kept of it");
        // It is not tried again at the next start, and may be deleted.
        site.upload(b"sum 1");
        let service = site.open();
        assert_eq!(status(&service)["EndpointStatus"], "Failed");
        ask(&service, "SageMaker.DeleteEndpoint", json!({"EndpointName": "e"})).unwrap();
        assert!(service.0.store.get::<Endpoint>("e").unwrap().is_none());
    }
}

#[test]
fn archives_come_back_in_pieces() {
    let site = Site::new();
    let service = site.open();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let store = &service.0.store;
    assert_eq!(store.keep_archive("a", &mut &bytes[..], 4 << 20).unwrap(), 3_000_000);
    let mut back = Vec::new();
    store.archive("a").read_to_end(&mut back).unwrap();
    assert!(back == bytes);
    store.drop_archive("a").unwrap();
    assert!(store.archives().unwrap().is_empty());
}
