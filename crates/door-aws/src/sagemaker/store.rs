//! What is kept: models, endpoint configurations, endpoints, and the archives that endpoints serve.

use super::{Result, input::Tags};
use crate::AwsError;
use kilter_core::{
    Timestamp,
    ports::table::{SkRange, Table, TableError, TableErrorKind, Write},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::VecDeque,
    io::{self, Read},
    sync::Arc,
};

const TABLE: &str = "sagemaker";
/// Archives in pieces: a partition each.
const ARCHIVES: &str = "sagemaker/archives";
/// Of one piece; a table's item may have 16 MiB.
const PIECE_BYTES: usize = 1 << 20;
/// Behind every piece's number.
const BEHIND: &str = "~";

/// What is kept under a name.
pub trait Kept: Serialize + DeserializeOwned {
    const KIND: &'static str;
    /// As messages call it.
    const WORDS: &'static str;
    const MOST: usize;
    fn name(&self) -> &str;
    fn created(&self) -> Timestamp;
    fn tags(&mut self) -> &mut Tags;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Model {
    pub name: String,
    pub role: String,
    /// As it was given.
    pub container: Map<String, Value>,
    pub network_isolation: bool,
    pub created: Timestamp,
    pub tags: Tags,
}

impl Model {
    /// Where the archive is.
    pub fn data_url(&self) -> Option<&str> {
        self.container.get("ModelDataUrl").and_then(Value::as_str)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Config {
    pub name: String,
    pub variant: Variant,
    pub created: Timestamp,
    pub tags: Tags,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Variant {
    pub name: String,
    pub model: String,
    pub instances: u32,
    pub instance_type: String,
    pub weight: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    Creating,
    Updating,
    InService,
    Failed,
}

impl Status {
    pub fn word(self) -> &'static str {
        match self {
            Self::Creating => "Creating",
            Self::Updating => "Updating",
            Self::InService => "InService",
            Self::Failed => "Failed",
        }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Endpoint {
    pub name: String,
    pub status: Status,
    pub failure: Option<String>,
    pub created: Timestamp,
    pub modified: Timestamp,
    pub tags: Tags,
    /// What it serves, once it does.
    pub served: Option<Deployed>,
    /// What it is to serve, while it is made or updated.
    pub wanted: Option<Deployed>,
}

/// A configuration as it was when it was deployed, with its model.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Deployed {
    pub config: String,
    pub variant: Variant,
    pub model: Model,
    pub since: Timestamp,
    /// Names the archive's partition; each deployment has its own.
    pub archive: String,
}

impl Endpoint {
    /// What describes it: what it serves, or what it was to serve.
    pub fn deployed(&self) -> Option<&Deployed> {
        self.served.as_ref().or(self.wanted.as_ref())
    }
}

macro_rules! kept {
    ($what:ty, $kind:literal, $words:literal, $most:expr) => {
        impl Kept for $what {
            const KIND: &'static str = $kind;
            const WORDS: &'static str = $words;
            const MOST: usize = $most;
            fn name(&self) -> &str {
                &self.name
            }
            fn created(&self) -> Timestamp {
                self.created
            }
            fn tags(&mut self) -> &mut Tags {
                &mut self.tags
            }
        }
    };
}

kept!(Model, "model", "model", 1_000);
kept!(Config, "endpoint-config", "endpoint configuration", 1_000);
// Each may hold a model of 64 MiB in memory.
kept!(Endpoint, "endpoint", "endpoint", 16);

pub struct Store {
    table: Arc<dyn Table>,
}

fn damaged(error: serde_json::Error) -> TableError {
    TableError::new(TableErrorKind::Damaged, "read", format!("an item of the table {TABLE} cannot be read: {error}"))
}

impl Store {
    pub fn new(table: Arc<dyn Table>) -> Self {
        Self { table }
    }

    pub fn get<T: Kept>(&self, name: &str) -> Result<Option<T>> {
        let kept = self.table.get(TABLE, T::KIND, name).map_err(AwsError::internal)?;
        kept.map(|bytes| serde_json::from_slice(&bytes).map_err(AwsError::internal)).transpose()
    }

    /// In order of their names.
    pub fn all<T: Kept>(&self) -> std::result::Result<Vec<T>, TableError> {
        let items = self.table.range(TABLE, T::KIND, SkRange::ALL, T::MOST)?;
        items.iter().map(|item| serde_json::from_slice(&item.value).map_err(damaged)).collect()
    }

    pub fn save<T: Kept>(&self, kept: &T) -> Result<()> {
        let value = serde_json::to_vec(kept).map_err(AwsError::internal)?;
        self.table.commit(vec![Write::put(&TABLE.into(), T::KIND, kept.name(), value)]).map_err(AwsError::internal)
    }

    pub fn remove<T: Kept>(&self, name: &str) -> Result<()> {
        self.table.commit(vec![Write::delete(&TABLE.into(), T::KIND, name)]).map_err(AwsError::internal)
    }

    /// Copies an archive; says how many bytes it has. With more than `most` the rest is not read.
    pub fn keep_archive(&self, id: &str, from: &mut dyn Read, most: u64) -> io::Result<u64> {
        let (name, mut all): (Arc<str>, _) = (ARCHIVES.into(), 0);
        for number in 0u32.. {
            let mut piece = Vec::new();
            from.take(PIECE_BYTES as u64).read_to_end(&mut piece)?;
            all += piece.len() as u64;
            if piece.is_empty() || all > most {
                break;
            }
            let write = Write::put(&name, id, format!("{number:08}"), piece);
            self.table.commit(vec![write]).map_err(io::Error::other)?;
        }
        Ok(all)
    }

    /// Reads an archive piece by piece.
    pub fn archive(&self, id: &str) -> impl Read + use<> {
        Pieces { table: self.table.clone(), id: id.to_owned(), next: 0, piece: VecDeque::new() }
    }

    pub fn drop_archive(&self, id: &str) -> std::result::Result<(), TableError> {
        let name: Arc<str> = ARCHIVES.into();
        loop {
            let page = self.table.range(ARCHIVES, id, SkRange::ALL, 4)?;
            if page.is_empty() {
                return Ok(());
            }
            self.table.commit(page.into_iter().map(|item| Write::delete(&name, item.pk, item.sk)).collect())?;
        }
    }

    /// Every archive that is there.
    pub fn archives(&self) -> std::result::Result<Vec<String>, TableError> {
        let mut all: Vec<String> = Vec::new();
        loop {
            let after = all.last().map(|last| (last.as_str(), BEHIND));
            let Some(item) = self.table.scan(ARCHIVES, after, 1)?.pop() else { return Ok(all) };
            all.push(item.pk);
        }
    }
}

struct Pieces {
    table: Arc<dyn Table>,
    id: String,
    next: u32,
    piece: VecDeque<u8>,
}

impl Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let piece = self.table.get(ARCHIVES, &self.id, &format!("{:08}", self.next)).map_err(io::Error::other)?;
            self.piece = piece.unwrap_or_default().into();
            self.next += 1;
        }
        self.piece.read(into)
    }
}
