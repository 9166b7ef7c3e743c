//! The only wiring: what is opened, what runs, how it drains. Read from top to bottom.

mod recurring;
mod services;

use crate::{
    aws,
    config::Config,
    error::{Code, Coded},
    identity::{Identity, write_secret},
    notify::destinations,
    open_files,
};
use anyhow::Context;
use axum::Router;
use kilter_backend_embedded::{DirectoryLock, EmbeddedObjects, EmbeddedStream, EmbeddedTable};
use kilter_core::ports::{
    clock::{Clock, SystemClock},
    objects::ObjectError,
    resources::{Resource, Resources},
    stream::{Stream, StreamErrorKind},
    table::Table,
};
use kilter_door_aws::{
    AwsListener, Door,
    dynamodb::DynamoDb,
    iam::Iam,
    s3::{action::S3Action, replication::Replicating},
};
use kilter_door_console::{ConsoleState, ReadyItem};
use kilter_door_mqtt::{DoorError, MqttDoor, TlsIdentity};
use kilter_lake::Lake;
use kilter_pipeline::{
    alert::Notifier,
    archive::Archive,
    consumer::{Health, Scorer, ScorerPorts},
    control::PipelineControl,
    ingest::PipelineIngest,
    live::Live,
    logs::{FunctionLog, LogWriter, TableLogs},
    query::PipelineQuery,
    registry::Registry,
    resources::{PipelineResources, ResourcePorts},
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde::{Deserialize, Serialize};
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};
use tokio_util::sync::CancellationToken;

/// Everything opened, nothing running yet. Holds the data directory's lock.
pub struct Node {
    _lock: DirectoryLock,
    tls: TlsIdentity,
    token: String,
    clock: Arc<dyn Clock>,
    stream: Arc<EmbeddedStream>,
    table: Arc<dyn Table>,
    /// The objects' files and index; everybody else takes `objects`, which follow replication rules.
    disk: Arc<EmbeddedObjects>,
    objects: Arc<Replicating>,
    /// The MQTT door's own: it commits for acknowledgements, and must not wait for the scorer.
    sessions: Arc<dyn Table>,
    lake: Arc<Lake>,
    ingest: Arc<PipelineIngest>,
    control: Arc<PipelineControl>,
    iam: Iam,
    query: Arc<PipelineQuery>,
    live: Live,
    logs: LogWriter,
    log_groups: Arc<TableLogs>,
    gate: Arc<RwLock<()>>,
    health: Arc<Health>,
}

/// Where a running server is, for the commands that speak to it: `run/server.json`, mode 0600.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServerFile {
    pub url: String,
    pub mqtt: String,
    /// The AWS endpoint, with its scheme.
    pub aws: String,
    pub process: u32,
}

impl ServerFile {
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("run/server.json")
    }
}

impl Node {
    /// Opens the data directory, making what is missing. Blocking.
    pub fn open(config: &Config) -> anyhow::Result<Self> {
        let dir = &config.data_dir;
        let lock = take_lock(dir)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let Identity { authority, tls, token } = Identity::open(dir, &config.server_names, &*clock)?;
        let stream =
            EmbeddedStream::open(&dir.join("streams"), config.stream.clone(), clock.clone()).map_err(coded_stream)?;
        let registry = Arc::new(Registry::open(open_table(dir, "registry")?)?);
        let (table, sessions) = (open_table(dir, "results")?, open_table(dir, "sessions")?);
        let disk = Arc::new(open_objects(dir, &config.site.region, clock.clone())?);
        let objects = Arc::new(Replicating::new(disk.clone()));
        let lake = Arc::new(Lake::open(objects.clone(), &config.site.region)?);
        let (port, site): (Arc<dyn Stream>, _) = (stream.clone(), config.site.clone());
        let ingest = PipelineIngest::open(registry.clone(), port.clone(), &*table, clock.clone(), site.clone());
        let ingest = Arc::new(ingest.context("the streams' ends cannot be read")?);
        let (log_groups, logs, iam) = around_rules(&ingest, &table, &objects, &clock, config)?;
        let (gate, live) = (Arc::new(RwLock::new(())), Live::default());
        let resources = PipelineResources::open(ResourcePorts {
            registry: registry.clone(),
            ingest: ingest.clone(),
            stream: port.clone(),
            table: table.clone(),
            lake: lake.clone(),
            clock: clock.clone(),
            gate: gate.clone(),
        });
        let control = Arc::new(PipelineControl {
            resources: Arc::new(resources?),
            roles: Arc::new(iam.clone()),
            registry: registry.clone(),
            ingest: ingest.clone(),
            stream: port.clone(),
            table: table.clone(),
            lake: lake.clone(),
            authority: Arc::new(authority),
            clock: clock.clone(),
            site: site.clone(),
            gate: gate.clone(),
        });
        let query = Arc::new(PipelineQuery {
            registry,
            stream: port,
            table: table.clone(),
            lake: lake.clone(),
            site,
            live: live.clone(),
            gate: gate.clone(),
        });
        Ok(Self {
            _lock: lock,
            tls,
            token,
            clock,
            stream,
            table,
            disk,
            objects,
            sessions,
            lake,
            ingest,
            control,
            iam,
            query,
            live,
            logs,
            log_groups,
            gate,
            health: Arc::default(),
        })
    }

    pub fn token(&self) -> &str {
        &self.token
    }

    /// The operators' door without a socket.
    pub fn router(&self, metrics: PrometheusHandle, ready: Arc<dyn Fn() -> Vec<ReadyItem> + Send + Sync>) -> Router {
        kilter_door_console::router(ConsoleState {
            control: self.control.clone(),
            fleet: self.fleet(),
            inventory: self.query.clone(),
            results: self.query.clone(),
            clock: self.clock.clone(),
            token: self.token.clone(),
            ca_pem: {
                let authority = self.control.authority.clone();
                Arc::new(move || authority.ca_pem())
            },
            metrics,
            ready,
            refusals: {
                let ingest = self.ingest.clone();
                Arc::new(move || ingest.deliver().map_or_else(Vec::new, |door| door.refusals()))
            },
            version: env!("CARGO_PKG_VERSION"),
        })
    }

    /// Binds every listener, then serves until `shutdown`, then drains: doors first, then the pipeline, then the
    /// backends. `started` is called once everything serves.
    pub async fn serve(
        self,
        config: Config,
        metrics: PrometheusHandle,
        shutdown: CancellationToken,
        started: impl FnOnce(&ServerFile),
    ) -> anyhow::Result<()> {
        let devices = config.mqtt_limits.door(config.mqtt, config.mqtt_ws);
        open_files::prepare_for(devices.connections_max);
        let (aws, targets) = self.aws_listener(&config).await?;
        let mqtt = kilter_door_mqtt::bind(
            devices,
            self.tls.clone(),
            self.ingest.clone(),
            self.clock.clone(),
            self.sessions.clone(),
        );
        let mqtt = mqtt.await.map_err(coded_door)?;
        // The pipeline holds the way back weakly: this keeps it until the doors have closed.
        let deliver = mqtt.deliver();
        self.ingest.deliver_through(&deliver);
        let http = bind_console(&config).await?;
        let door = self.aws(&config, targets.clone(), &deliver)?;
        let file = ServerFile {
            aws: aws::url(aws.local_addr()?, config.aws_tls),
            url: format!("http://{}", http.local_addr()?),
            mqtt: mqtt.local_addr().to_string(),
            process: std::process::id(),
        };
        let alerts = Arc::new(tokio::sync::Notify::new());
        let (scorer, archive, aside) = (Stoppable::default(), Stoppable::default(), Stoppable::default());
        let scorer_thread = self.start_scorer(&config, &alerts, scorer.clone())?;
        let archive_thread = self.start_archive(&config, archive.clone())?;
        let tables = start_tables(targets.dynamodb.clone(), aside.clone())?;
        let aside_threads = [tables, start_replication(self.objects.clone(), aside.clone())?];
        clear_away(self.disk.clone())?;
        let notifier = Notifier {
            table: self.table.clone(),
            clock: self.clock.clone(),
            destinations: destinations(&config, Arc::new(targets.sns.clone()))?,
            wake: alerts,
        };
        let notifier = tokio::spawn(notifier.run());
        let reload = self.reload(&config, &mqtt, &aws);
        let recurring = self.start_recurring(reload, metrics.clone(), targets.sns);
        let router = self.router(metrics, readiness(&file, self.health.clone()));
        write_secret_file(&config.data_dir, &file)?;
        let doors = tokio::spawn(run_doors(mqtt, http, router, (aws, door), shutdown));
        started(&file);

        doors.await?;
        drop(deliver);
        let _ = std::fs::remove_file(ServerFile::path(&config.data_dir));
        recurring.iter().for_each(|task| task.abort());
        let registry = self.control.registry.clone();
        tokio::task::spawn_blocking(move || {
            registry.close();
            scorer.stop();
            join(scorer_thread);
            archive.stop();
            join(archive_thread);
            aside.stop();
            targets.dynamodb.wake();
            aside_threads.into_iter().for_each(join);
        })
        .await?;
        notifier.abort();
        self.stream.close();
        Ok(())
    }

    fn start_scorer(
        &self,
        config: &Config,
        alerts: &Arc<tokio::sync::Notify>,
        stop: Stoppable,
    ) -> std::io::Result<JoinHandle<()>> {
        let scorer = Scorer::new(ScorerPorts {
            stream: self.stream.clone(),
            table: self.table.clone(),
            clock: self.clock.clone(),
            config_for: self.scorer_config(config),
            horizon: config.horizon,
            keeps_rows: {
                let resources = self.control.resources.clone();
                Arc::new(move |tenant| resources.exists(tenant, Resource::Table))
            },
            live: self.live.clone(),
            gate: self.gate.clone(),
            alerts: alerts.clone(),
            health: self.health.clone(),
            log: FunctionLog::new(self.logs.clone()),
        });
        spawn("scorer", move || scorer.run(&stop.0))
    }

    fn start_archive(&self, config: &Config, stop: Stoppable) -> std::io::Result<JoinHandle<()>> {
        let archive = Archive {
            stream: self.stream.clone(),
            table: self.table.clone(),
            lake: self.lake.clone(),
            clock: self.clock.clone(),
            config: config.archive,
            gate: self.gate.clone(),
            health: self.health.clone(),
        };
        spawn("archive", move || archive.run(&stop.0))
    }
}

/// The long work of user tables: what expires, what is exported, filled or removed.
fn start_tables(dynamodb: DynamoDb, stop: Stoppable) -> std::io::Result<JoinHandle<()>> {
    spawn("tables", move || dynamodb.run(&stop.0))
}

/// Asks a plain thread to end.
#[derive(Clone, Default)]
struct Stoppable(Arc<AtomicBool>);

impl Stoppable {
    fn stop(&self) {
        self.0.store(true, Ordering::Release);
    }
}

fn join(thread: JoinHandle<()>) {
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

async fn bind_console(config: &Config) -> anyhow::Result<tokio::net::TcpListener> {
    let http = kilter_door_console::bind(config.http).await;
    Ok(http.map_err(|error| Coded::new(Code::ListenerRefused, error.to_string()))?)
}

async fn run_doors(
    mqtt: MqttDoor,
    http: tokio::net::TcpListener,
    router: Router,
    (aws, door): (AwsListener, Arc<Door>),
    shutdown: CancellationToken,
) {
    let console = kilter_door_console::run(http, router, shutdown.clone());
    let aws = kilter_door_aws::run(aws, door, shutdown.clone());
    tokio::join!(mqtt.run(shutdown), console, aws);
}

/// What `/readyz` says: all listeners serve from the moment this is called, unless the pipeline has a problem.
fn readiness(file: &ServerFile, health: Arc<Health>) -> Arc<dyn Fn() -> Vec<ReadyItem> + Send + Sync> {
    let listeners = [("mqtt", file.mqtt.clone()), ("http", file.url.clone()), ("aws", file.aws.clone())];
    Arc::new(move || {
        let serving = listeners.iter().map(|(name, at)| ReadyItem {
            name: (*name).to_owned(),
            ready: true,
            detail: format!("serves on {at}"),
        });
        let problems = health.problems();
        let detail = if problems.is_empty() { "runs".to_owned() } else { problems.join("; ") };
        let pipeline = ReadyItem { name: "pipeline".to_owned(), ready: problems.is_empty(), detail };
        serving.chain(std::iter::once(pipeline)).collect()
    })
}

/// Before anybody can see /readyz answer: who then looks for the file must find it.
fn write_secret_file(data_dir: &Path, file: &ServerFile) -> anyhow::Result<()> {
    let path = ServerFile::path(data_dir);
    std::fs::create_dir_all(data_dir.join("run"))?;
    write_secret(&path, &serde_json::to_string_pretty(file)?)
}

fn take_lock(dir: &Path) -> anyhow::Result<DirectoryLock> {
    DirectoryLock::acquire(dir).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => anyhow::Error::new(Coded::new(Code::DirectoryLocked, error.to_string())),
        _ => anyhow::Error::new(error).context(format!("the data directory {} cannot be used", dir.display())),
    })
}

/// Where the rules' failures and objects are written, and who says what a rule's role may do.
fn around_rules(
    ingest: &PipelineIngest,
    table: &Arc<dyn Table>,
    objects: &Arc<Replicating>,
    clock: &Arc<dyn Clock>,
    config: &Config,
) -> anyhow::Result<(Arc<TableLogs>, LogWriter, Iam)> {
    let logs = TableLogs::open(table.clone(), clock.clone()).context("the log groups cannot be read")?;
    let groups = Arc::new(logs);
    let logs = LogWriter::start(groups.clone())?;
    ingest.rules.log_to(logs.clone());
    let iam = Iam::open(table.clone(), clock.clone(), &config.site.account).context("the roles cannot be read")?;
    ingest.rules.ask_roles(Arc::new(iam.clone()));
    ingest.rules.add_target(Arc::new(S3Action::new(objects.clone())));
    Ok((groups, logs, iam))
}

fn open_table(dir: &Path, name: &str) -> anyhow::Result<Arc<dyn Table>> {
    match EmbeddedTable::open(&dir.join(format!("{name}.redb"))) {
        Ok(table) => Ok(Arc::new(table)),
        Err(error) => Err(Coded::new(Code::DiskRefused, error.to_string()).into()),
    }
}

/// The objects; a lake of plain files, as earlier releases kept it, is moved into them.
fn open_objects(data_dir: &Path, region: &str, clock: Arc<dyn Clock>) -> anyhow::Result<EmbeddedObjects> {
    let coded = |error: ObjectError| Coded::new(Code::DiskRefused, error.to_string());
    let objects = EmbeddedObjects::open(&data_dir.join("objects"), clock).map_err(coded)?;
    let adopted = objects.adopt(&data_dir.join("lake"), region).map_err(coded)?;
    if adopted > 0 {
        tracing::info!(files = adopted, "the lake of an earlier release was moved into the objects");
    }
    Ok(objects)
}

fn start_replication(objects: Arc<Replicating>, stop: Stoppable) -> std::io::Result<JoinHandle<()>> {
    spawn("replication", move || objects.run(&stop.0))
}

/// Deletes what a crash left of objects, beside the work: it reads every folder. It ends by itself and is not waited
/// for; a stop in the middle leaves the rest to the next start.
fn clear_away(objects: Arc<EmbeddedObjects>) -> std::io::Result<()> {
    let scrub = move || match objects.scrub() {
        Ok(0) => {}
        Ok(files) => tracing::info!(files, "files that a crash left of objects were deleted"),
        Err(error) => tracing::warn!(%error, "what a crash left of objects could not be deleted"),
    };
    spawn("objects", scrub).map(drop)
}

fn coded_stream(error: kilter_core::ports::stream::StreamError) -> anyhow::Error {
    let code = match error.kind {
        StreamErrorKind::Damaged => Code::StreamDamaged,
        _ => Code::DiskRefused,
    };
    Coded::new(code, error.to_string()).into()
}

fn coded_door(error: DoorError) -> Coded {
    let code = match error {
        DoorError::Recover(_) => Code::DiskRefused,
        _ => Code::ListenerRefused,
    };
    Coded::new(code, error.to_string())
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work)
}
