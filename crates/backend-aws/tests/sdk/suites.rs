//! One suite per port.

use crate::service::Service;
use kilter_backend_aws::{
    AwsObjects, AwsStream, AwsTable,
    stream::RECORD_BYTES_MAX,
    table::{KEY_BYTES_MAX, VALUE_BYTES_MAX},
};
use kilter_core::ports::{objects::Uploads, stream::Stream, table::Table};
use kilter_testkit::{objects, stream, table};
use std::sync::Arc;

struct Tables(Service);

impl Tables {
    fn open(&self) -> Arc<dyn Table> {
        Arc::new(AwsTable::open(self.0.dynamodb(), self.0.runtime(), "kilter").unwrap())
    }
}

impl table::Subject for Tables {
    fn fresh(&mut self) -> Arc<dyn Table> {
        self.0.fresh();
        self.open()
    }
    fn reopen(&mut self, _: Arc<dyn Table>) -> Arc<dyn Table> {
        self.0.restart();
        self.open()
    }
    fn key_bytes_max(&self) -> usize {
        KEY_BYTES_MAX
    }
    fn value_bytes_max(&self) -> usize {
        VALUE_BYTES_MAX
    }
}

#[test]
fn the_table_keeps_the_contract_over_dynamodb() {
    table::check(&mut Tables(Service::start()));
}

struct Storage(Service);

impl Storage {
    fn open(&mut self) -> Arc<dyn Uploads> {
        let spool = self.0.spool();
        Arc::new(AwsObjects::open(self.0.s3(), self.0.runtime(), &spool).unwrap())
    }
}

impl objects::Subject for Storage {
    fn fresh(&mut self) -> Arc<dyn Uploads> {
        self.0.fresh();
        self.open()
    }
    fn reopen(&mut self, _: Arc<dyn Uploads>) -> Arc<dyn Uploads> {
        self.0.restart();
        self.open()
    }
    fn part_bytes_min(&self) -> usize {
        5 << 20
    }
}

#[test]
fn the_objects_keep_the_contract_over_s3() {
    use objects::Promise::{Encryption, Etags, Numbers, Regions, Replication, Settings};
    let left_out = [Regions, Settings, Etags, Numbers, Encryption, Replication];
    objects::check_but(&mut Storage(Service::start()), &left_out);
}

struct Streams {
    service: Service,
    stream: Option<Arc<AwsStream>>,
}

impl Streams {
    fn open(&mut self) -> Arc<dyn Stream> {
        let stream = Arc::new(AwsStream::new(self.service.kinesis(), self.service.runtime()));
        self.stream = Some(stream.clone());
        stream
    }
}

impl stream::Subject for Streams {
    fn fresh(&mut self) -> Arc<dyn Stream> {
        self.service.fresh();
        self.open()
    }
    fn reopen(&mut self, _: Arc<dyn Stream>) -> Arc<dyn Stream> {
        self.service.restart();
        self.open()
    }
    fn trim(&mut self) {
        unreachable!("the promise that needs it is left out");
    }
    fn close(&mut self) {
        self.stream.as_ref().unwrap().close();
    }
    fn record_bytes_max(&self) -> usize {
        RECORD_BYTES_MAX
    }
}

#[test]
fn the_stream_keeps_the_contract_over_kinesis() {
    let mut streams = Streams { service: Service::start(), stream: None };
    stream::check_but(&mut streams, &[stream::Promise::Needed]);
}
