//! What the AWS endpoint is made of: one line per service.

use super::Node;
use crate::{
    aws,
    config::{Config, Whose},
    error::{Code, Coded},
    post::HttpPost,
    reload::Reload,
    results_tables::TenantTables,
};
use anyhow::Context;
use kilter_core::ports::deliver::Deliver;
use kilter_door_aws::{
    AwsListener, Door, S3, ServerTls, Services,
    cloudformation::{CloudFormation, CloudFormationPorts},
    dynamodb::{DynamoDb, DynamoDbPorts},
    kinesis::{Kinesis, KinesisPorts},
    lambda::LambdaService,
    logs::LogsService,
    sagemaker::{Sagemaker, SagemakerPorts, SagemakerRuntime},
    session::Sessions,
    sitewise::Sitewise,
    sns::{Sns, SnsParts, SnsService},
    sts::Sts,
    tagging::Tagging,
};
use kilter_door_mqtt::MqttDoor;
use kilter_pipeline::{
    consumer::ConfigFor, fleet::PipelineFleet, function::ScoringFunctions, model::ModelArchives, put::PipelinePut,
};
use std::sync::Arc;

/// Services that carry out rules' actions. They are there before the devices' door, which at its start hands on again
/// what a crash interrupted.
#[derive(Clone)]
pub(super) struct Targets {
    pub dynamodb: DynamoDb,
    sitewise: Sitewise,
    pub sns: SnsService,
}

impl Node {
    /// The AWS endpoint's socket, and the services that rules need.
    pub(super) async fn aws_listener(&self, config: &Config) -> anyhow::Result<(AwsListener, Targets)> {
        let tls = ServerTls { certificate_pem: &self.tls.server_cert_pem, key_pem: &self.tls.server_key_pem };
        let listener = kilter_door_aws::bind(config.aws, config.aws_tls.then_some(tls)).await;
        let listener = listener.map_err(|error| Coded::new(Code::ListenerRefused, error.to_string()))?;
        let targets = Targets {
            dynamodb: self.dynamodb(),
            sitewise: Sitewise::new(self.table.clone(), self.clock.clone()),
            sns: self.sns(config, &listener)?,
        };
        self.ingest.rules.add_target(Arc::new(targets.dynamodb.clone()));
        self.ingest.rules.add_target(Arc::new(targets.sitewise.clone()));
        Ok((listener, targets))
    }

    /// What answers on the AWS endpoint.
    pub(super) fn aws(
        &self,
        config: &Config,
        targets: Targets,
        deliver: &Arc<dyn Deliver>,
    ) -> anyhow::Result<Arc<Door>> {
        let sessions = aws::sessions(&config.data_dir, self.iam.clone())?;
        let services = self.aws_services(config, targets, deliver, sessions.clone())?;
        Ok(Arc::new(Door::new(aws::state(config, services, sessions, self.clock.clone())?)))
    }

    /// One line per service.
    fn aws_services(
        &self,
        config: &Config,
        targets: Targets,
        deliver: &Arc<dyn Deliver>,
        sessions: Sessions,
    ) -> anyhow::Result<Services> {
        let (iot, iot_data) = aws::iot(&self.control, self.fleet(), deliver.clone(), config);
        let kinesis = KinesisPorts {
            stream: self.stream.clone(),
            put: Arc::new(self.put()),
            resources: self.control.resources.clone(),
            table: self.table.clone(),
        };
        let (kinesis, sagemaker) = (Kinesis::new(kinesis), self.sagemaker()?);
        let tagging = Tagging(Arc::new(vec![
            Arc::new(kinesis.clone()),
            Arc::new(targets.dynamodb.clone()),
            Arc::new(targets.sitewise.clone()),
            Arc::new(targets.sns.clone()),
            Arc::new(iot.clone()),
            Arc::new(sagemaker.clone()),
            Arc::new(S3::new(self.objects.clone())),
        ]));
        let stacks = CloudFormationPorts {
            table: self.table.clone(),
            clock: self.clock.clone(),
            iot: iot.clone(),
            sagemaker: sagemaker.clone(),
            region: config.site.region.clone(),
            account: config.site.account.clone(),
        };
        let cloudformation = CloudFormation::open(stacks).context("the stacks cannot be read")?;
        Ok(Services::default()
            .with(Sts { sessions })
            .with(tagging)
            .with(cloudformation)
            .with(targets.dynamodb)
            .with(targets.sitewise)
            .with(iot)
            .with(iot_data)
            .with(kinesis)
            .with(self.iam.clone())
            .with(targets.sns)
            .with(LogsService { logs: self.log_groups.clone() })
            .with(self.functions(config))
            .with(SagemakerRuntime::new(sagemaker.clone()))
            .with(sagemaker)
            .with_streaming(S3::new(self.objects.clone())))
    }

    pub(super) fn fleet(&self) -> Arc<PipelineFleet> {
        Arc::new(PipelineFleet {
            registry: self.control.registry.clone(),
            authority: self.control.authority.clone(),
            clock: self.clock.clone(),
            site: self.control.site.clone(),
        })
    }

    /// What SIGHUP renews.
    pub(super) fn reload(&self, config: &Config, mqtt: &MqttDoor, aws: &AwsListener) -> Reload {
        let (mqtt, aws, authority) = (mqtt.tls(), aws.tls(), self.control.authority.clone());
        Reload { data_dir: config.data_dir.clone(), mqtt, aws, authority }
    }

    fn put(&self) -> PipelinePut {
        PipelinePut { append: self.ingest.append.clone(), stream: self.stream.clone(), clock: self.clock.clone() }
    }

    fn dynamodb(&self) -> DynamoDb {
        DynamoDb::new(DynamoDbPorts {
            table: self.table.clone(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
            results: Arc::new(TenantTables(self.control.resources.clone())),
        })
    }

    /// Notifications, and what else rules send out over HTTP.
    fn sns(&self, config: &Config, listener: &AwsListener) -> anyhow::Result<SnsService> {
        let address = listener.local_addr()?;
        let post = Arc::new(HttpPost::new(address.ip().is_loopback())?);
        let sns = Sns::open(SnsParts {
            table: self.table.clone(),
            clock: self.clock.clone(),
            post: post.clone(),
            resources: self.control.resources.clone(),
            region: config.site.region.clone(),
            account: config.site.account.clone(),
            url: aws::url(address, config.aws_tls),
        });
        let sns = SnsService(Arc::new(sns.context("the notification topics cannot be read")?));
        self.ingest.rules.add_target(Arc::new(sns.clone()));
        self.ingest.rules.add_target(post);
        Ok(sns)
    }

    fn sagemaker(&self) -> anyhow::Result<Sagemaker> {
        let ports = SagemakerPorts {
            table: self.table.clone(),
            objects: self.objects.clone(),
            models: Arc::new(ModelArchives),
            clock: self.clock.clone(),
        };
        Sagemaker::open(ports).context("the endpoints cannot be read")
    }

    fn functions(&self, config: &Config) -> LambdaService {
        let functions = ScoringFunctions {
            registry: self.control.registry.clone(),
            stream: self.stream.clone(),
            table: self.table.clone(),
            clock: self.clock.clone(),
            config_for: self.scorer_config(config),
            horizon: config.horizon,
        };
        LambdaService { functions: Arc::new(functions) }
    }

    /// What detectors are to do for a thing, as the configuration and its tenant's budget say.
    pub(super) fn scorer_config(&self, config: &Config) -> Arc<ConfigFor> {
        let (config, control) = (config.clone(), self.control.clone());
        Arc::new(move |tenant, thing| {
            let known = control.registry.state();
            let thing_type = known.fleet.things.get(thing).and_then(|thing| thing.thing_type.as_deref());
            let mut scorer = config.scorer(&Whose { tenant, thing, thing_type });
            if let Some(known) = known.tenants.get(tenant) {
                scorer.budget = known.budget;
            }
            scorer
        })
    }
}
