//! What scores when it is asked: the functions `score-telemetry-<tenant>`, made by the platform, and trained models.

use crate::{ScoredReading, TenantId, Timestamp};
use serde::Serialize;
use std::{io::Read, sync::Arc};

/// Blocking: never call it from an async thread.
pub trait Functions: Send + Sync {
    /// Sorted by name.
    fn list(&self) -> Vec<FunctionView>;

    /// Scores a telemetry payload against what its thing has taught the detectors so far. Nothing is learned, and
    /// nothing is kept. The payload names its thing: `thing`, or `topic` as a rule's `topic()` gives it.
    fn invoke(&self, tenant: &TenantId, payload: &[u8]) -> Result<Vec<ScoredReading>, FunctionError>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionView {
    pub name: String,
    pub tenant: TenantId,
    pub created: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FunctionError {
    #[error("there is no scoring function of tenant {0}")]
    NotFound(TenantId),
    /// What is wrong with the payload.
    #[error("{0}")]
    Payload(String),
    /// Something below failed.
    #[error("{0}")]
    Internal(String),
}

/// Blocking: never call it from an async thread.
pub trait Models: Send + Sync {
    /// Reads an archive with a model file, within bounds. `Err`: what was found, and what is expected.
    fn open(&self, archive: &mut dyn Read) -> Result<Arc<dyn Model>, String>;
}

pub trait Model: Send + Sync {
    /// Numbers of a point.
    fn features(&self) -> usize;
    /// Of a point of so many finite numbers: how unusual it is.
    fn score(&self, point: &[f64]) -> f64;
}
