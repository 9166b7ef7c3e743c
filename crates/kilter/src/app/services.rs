//! What the AWS endpoint is made of: one line per service.

use super::Node;
use crate::{
    aws,
    config::Config,
    error::{Code, Coded},
    results_tables::TenantTables,
};
use kilter_core::ports::deliver::Deliver;
use kilter_door_aws::{
    AwsListener, Door, S3, ServerTls, Services,
    dynamodb::{DynamoDb, DynamoDbPorts},
    kinesis::{Kinesis, KinesisPorts},
    sitewise::Sitewise,
    sts::Sts,
};
use kilter_pipeline::put::PipelinePut;
use std::sync::Arc;

impl Node {
    /// The AWS endpoint: its socket, and what answers there.
    pub(super) async fn aws(
        &self,
        config: &Config,
        dynamodb: DynamoDb,
        deliver: &Arc<dyn Deliver>,
    ) -> anyhow::Result<(AwsListener, Arc<Door>)> {
        let tls = ServerTls { certificate_pem: &self.tls.server_cert_pem, key_pem: &self.tls.server_key_pem };
        let listener = kilter_door_aws::bind(config.aws, config.aws_tls.then_some(tls)).await;
        let listener = listener.map_err(|error| Coded::new(Code::ListenerRefused, error.to_string()))?;
        let state = aws::state(config, self.aws_services(config, dynamodb, deliver), self.clock.clone())?;
        Ok((listener, Arc::new(Door::new(state))))
    }

    /// One line per service.
    fn aws_services(&self, config: &Config, dynamodb: DynamoDb, deliver: &Arc<dyn Deliver>) -> Services {
        let (iot, iot_data) = aws::iot(&self.control, self.fleet.clone(), deliver.clone(), config);
        let kinesis = KinesisPorts {
            stream: self.stream.clone(),
            put: Arc::new(self.put()),
            resources: self.control.resources.clone(),
            table: self.table.clone(),
            retention_hours: config.stream.retention_age.as_secs() / 3_600,
        };
        let sitewise = Sitewise::new(self.table.clone(), self.clock.clone());
        self.ingest.rules.add_target(Arc::new(dynamodb.clone()));
        self.ingest.rules.add_target(Arc::new(sitewise.clone()));
        Services::default()
            .with(Sts)
            .with(dynamodb)
            .with(sitewise)
            .with(iot)
            .with(iot_data)
            .with(Kinesis::new(kinesis))
            .with(self.iam.clone())
            .with_streaming(S3::new(self.objects.clone()))
    }

    fn put(&self) -> PipelinePut {
        PipelinePut { append: self.ingest.append.clone(), stream: self.stream.clone(), clock: self.clock.clone() }
    }

    pub(super) fn dynamodb(&self) -> DynamoDb {
        DynamoDb::new(DynamoDbPorts {
            table: self.table.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            results: Arc::new(TenantTables(self.control.resources.clone())),
        })
    }
}
