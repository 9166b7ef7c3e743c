//! What can go wrong, told to an operator: what happened, why, what to do.

use std::{error::Error, sync::Arc};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LakeErrorKind {
    /// The tenant has no bucket: nothing was written.
    NoBucket,
    /// Offsets that are archived already were presented with other rows.
    Conflict,
    /// The caller broke a rule that this crate states: rows out of order, a region that is no name.
    Invalid,
    /// The store refused; the same call may be tried again.
    Io,
    /// An object or a manifest is not what was once written.
    Damaged,
}

/// `Display` says what happened and what to do, without the source.
#[derive(Debug, Clone, thiserror::Error)]
#[error("lake {operation} failed: {message}")]
pub struct LakeError {
    pub kind: LakeErrorKind,
    pub operation: &'static str,
    pub message: String,
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl LakeError {
    pub(crate) fn new(kind: LakeErrorKind, operation: &'static str, message: impl Into<String>) -> Self {
        Self { kind, operation, message: message.into(), source: None }
    }

    pub(crate) fn with_source(mut self, source: impl Error + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    /// Whether the same call may succeed later, unchanged.
    pub fn retryable(&self) -> bool {
        self.kind == LakeErrorKind::Io
    }
}
