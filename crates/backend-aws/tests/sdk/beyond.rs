//! What the suites do not ask of a backend, and a service needs all the same.

use crate::service::Service;
use futures::executor::block_on;
use kilter_backend_aws::{AwsObjects, AwsStream, AwsTable};
use kilter_core::{
    Offset, ShardId,
    ports::{
        objects::{Buckets, Meta, Objects, PutCondition},
        stream::{ReadLimit, Stream, StreamAdmin, StreamErrorKind},
        table::{SkRange, Table, Write},
    },
};
use kilter_testkit::{
    objects::{pattern, read, stage},
    stream::{record, stream_name},
};

#[test]
fn an_object_of_several_parts_has_its_headers_and_tags() {
    let mut service = Service::start();
    let spool = service.spool();
    let objects = AwsObjects::open(service.s3(), service.runtime(), &spool).unwrap();
    objects.create_bucket("a-bucket", "us-east-1").unwrap();
    let bytes = pattern(9 << 20, 5);
    let (first, second) = bytes.split_at(1_000_000);
    let headers = [("content-type", "text/plain"), ("cache-control", "no-store"), ("x-amz-meta-of", "pump-1")];
    let meta = Meta {
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        tags: vec![("a key".to_owned(), "of & more = +".to_owned())],
        ..Meta::default()
    };
    for (key, condition) in [("large", PutCondition::Absent), ("small", PutCondition::Always)] {
        let bytes = if key == "large" { &bytes[..] } else { first };
        let mut contents = vec![stage(&objects, first, false)];
        if key == "large" {
            contents.push(stage(&objects, second, false));
        }
        let made = objects.publish("a-bucket", key, contents, meta.clone(), condition).unwrap();
        let found = objects.version("a-bucket", key, None).unwrap().unwrap();
        assert_eq!(found, made);
        assert_eq!((&found.meta.headers, &found.meta.tags), (&meta.headers, &meta.tags));
        assert!(read(&objects, &found, 0, found.bytes()) == bytes, "{key}");
    }
    assert_eq!(std::fs::read_dir(&spool).unwrap().count(), 0, "what is published is not kept twice");
    let refused = Meta { headers: [("x-other".to_owned(), String::new())].into(), ..Meta::default() };
    let content = stage(&objects, b"x", false);
    let refused = objects.publish("a-bucket", "k", vec![content], refused, PutCondition::Always).unwrap_err();
    assert!(refused.to_string().contains("x-other"), "{refused}");
}

#[test]
fn a_table_of_several_pages_is_read_and_dropped_whole() {
    let service = Service::start();
    let table = AwsTable::open(service.dynamodb(), service.runtime(), "kilter").unwrap();
    let name = "t".into();
    for chunk in 0..6 {
        let puts = (0..5).map(|n| Write::put(&name, "p", format!("{:03}", chunk * 5 + n), vec![7; 100_000]));
        table.commit(puts.collect()).unwrap();
    }
    // A page of the service ends at 1 MiB.
    for descending in [false, true] {
        let found = table.range("t", "p", SkRange { descending, ..SkRange::ALL }, usize::MAX).unwrap();
        let mut keys: Vec<&str> = found.iter().map(|item| &*item.sk).collect();
        if descending {
            keys.reverse();
        }
        assert!(keys.len() == 30 && keys.is_sorted() && found.iter().all(|item| item.value.len() == 100_000));
    }
    assert_eq!(table.scan("t", Some(("p", "004")), 20).unwrap().last().unwrap().sk, "024");
    assert_eq!(table.drop_table("t").unwrap(), 30);
}

#[test]
fn a_record_of_somebody_else_is_named_and_not_passed_over() {
    let service = Service::start();
    let (client, name) = (service.kinesis(), stream_name("shared"));
    let stream = AwsStream::new(client.clone(), service.runtime());
    stream.create(&name, 1).unwrap();
    block_on(stream.append(&name, vec![record("k", "ours")])).unwrap();
    let foreign = client.put_record().stream_name("shared").partition_key("k").data(b"theirs".to_vec().into());
    let put = service.runtime().block_on(foreign.send()).unwrap();
    let limit = ReadLimit { records: 10, bytes: usize::MAX };
    assert_eq!(stream.read(&name, ShardId(0), Offset(0), limit).unwrap().len(), 1);
    let later = AwsStream::new(client, service.runtime());
    let refused = later.read(&name, ShardId(0), Offset(0), limit).unwrap_err();
    assert_eq!(refused.kind, StreamErrorKind::Damaged);
    assert!(refused.to_string().contains(put.sequence_number()), "{refused}");
}
