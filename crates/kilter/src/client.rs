//! How a command reaches the platform: over REST to the server that runs on the data directory, or, where none runs,
//! through the very same routes in this process.

use crate::{
    app::{Node, ServerFile},
    config::{Config, ServeOptions, Shared},
    error::{Code, Coded},
};
use anyhow::{Context, bail};
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Method, Request, header},
};
use clap::Parser;
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use tower::ServiceExt;

/// No answer of the API is larger.
const ANSWER_BYTES_MAX: usize = 256 << 20;

pub struct Client {
    token: String,
    way: Way,
}

enum Way {
    Server {
        http: reqwest::Client,
        url: String,
        file: Option<ServerFile>,
    },
    /// The node holds the directory's lock for as long as the router is used.
    InProcess {
        router: Router,
        _node: Box<Node>,
    },
}

/// Whether a data directory that does not exist may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    Make,
    Refuse,
}

/// The server's flags as far as the environment gives them.
#[derive(Parser)]
struct FromEnvironment {
    #[command(flatten)]
    options: ServeOptions,
}

impl Client {
    pub async fn open(shared: &Shared, missing: Missing) -> anyhow::Result<Self> {
        if let Ok(url) = std::env::var("KILTER_URL") {
            let token = std::env::var("KILTER_TOKEN").unwrap_or_default();
            // It may name the very server that runs on this data directory, as after `eval "$(kilter env)"`.
            let text = std::fs::read_to_string(ServerFile::path(&shared.data_dir)).ok();
            let file = text.and_then(|text| serde_json::from_str::<ServerFile>(&text).ok());
            let file = file.filter(|file| file.url == url);
            return Ok(Self { token, way: Way::Server { http: http()?, url, file } });
        }
        if missing == Missing::Refuse && !shared.data_dir.exists() {
            bail!(
                "there is no data directory {}: name it with --data-dir, or start with `kilter serve`",
                shared.data_dir.display()
            );
        }
        let config = Config::load(shared, &FromEnvironment::parse_from(["kilter"]).options)?;
        match tokio::task::spawn_blocking(move || Node::open(&config)).await? {
            Ok(node) => Self::in_process(node),
            Err(error) if locked(&error) => Self::server(shared).map_err(|why| error.context(why)),
            Err(error) => Err(error),
        }
    }

    /// Only a running server will do: something has to listen.
    pub async fn running(shared: &Shared) -> anyhow::Result<Self> {
        let no_server = || {
            let message = format!(
                "no server runs on {}: this command speaks to it over MQTT; start it with `kilter serve --data-dir {}`",
                shared.data_dir.display(),
                shared.data_dir.display()
            );
            anyhow::Error::new(Coded::new(Code::NoServer, message))
        };
        if !ServerFile::path(&shared.data_dir).exists() {
            return Err(no_server());
        }
        let client = Self::server(shared)?;
        // A server that was killed leaves its file behind.
        match client.get::<serde_json::Value>("/api/v1/tenants").await {
            Ok(_) => Ok(client),
            Err(error) => Err(error.context(no_server())),
        }
    }

    fn server(shared: &Shared) -> anyhow::Result<Self> {
        let path = ServerFile::path(&shared.data_dir);
        let text = std::fs::read_to_string(&path)
            .context("the server on this data directory is starting or stopping: try again in a moment")?;
        let file: ServerFile =
            serde_json::from_str(&text).with_context(|| format!("{} cannot be read", path.display()))?;
        let token = shared.data_dir.join("identity/token");
        let token = std::fs::read_to_string(&token).with_context(|| format!("{} cannot be read", token.display()))?;
        let url = file.url.clone();
        Ok(Self { token: token.trim().to_owned(), way: Way::Server { http: http()?, url, file: Some(file) } })
    }

    fn in_process(node: Node) -> anyhow::Result<Self> {
        let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder().handle();
        let router = node.router(metrics, Arc::new(Vec::new));
        Ok(Self { token: node.token().to_owned(), way: Way::InProcess { router, _node: Box::new(node) } })
    }

    /// Whether a server answers, rather than this process itself.
    pub fn is_server(&self) -> bool {
        matches!(self.way, Way::Server { .. })
    }

    /// Where devices connect to the running server.
    pub fn mqtt_address(&self) -> anyhow::Result<&str> {
        match &self.way {
            Way::Server { file: Some(file), .. } => Ok(&file.mqtt),
            _ => bail!(
                "where the server's MQTT listens is not known: run this command on the server's own data directory"
            ),
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.call(Method::GET, path, None::<&()>).await
    }

    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> anyhow::Result<T> {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        let body = body.map(serde_json::to_vec).transpose()?;
        let (ok, answer) = match &self.way {
            Way::Server { http, url, .. } => {
                let mut request = http.request(method, format!("{url}{path}")).bearer_auth(&self.token);
                if let Some(body) = body {
                    request = request.header(header::CONTENT_TYPE, "application/json").body(body);
                }
                let answer = request.send().await.with_context(|| format!("the server at {url} does not answer"))?;
                (answer.status().is_success(), answer.bytes().await?)
            }
            Way::InProcess { router, .. } => {
                let mut request = Request::builder()
                    .method(method)
                    .uri(path)
                    .header(header::HOST, "localhost")
                    .header(header::AUTHORIZATION, format!("Bearer {}", self.token));
                if body.is_some() {
                    request = request.header(header::CONTENT_TYPE, "application/json");
                }
                let answer = router.clone().oneshot(request.body(Body::from(body.unwrap_or_default()))?).await?;
                (answer.status().is_success(), to_bytes(answer.into_body(), ANSWER_BYTES_MAX).await?)
            }
        };
        if ok {
            return serde_json::from_slice(&answer)
                .with_context(|| format!("the answer to {path} is not what was expected"));
        }
        let said: Option<kilter_door_console::ErrorBody> = serde_json::from_slice(&answer).ok();
        match said {
            Some(error) => bail!("{}", error.message),
            None => bail!("the server refused {path} without a reason"),
        }
    }
}

fn http() -> anyhow::Result<reqwest::Client> {
    Ok(reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build()?)
}

fn locked(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Coded>().is_some_and(|coded| coded.code == Code::DirectoryLocked)
}
