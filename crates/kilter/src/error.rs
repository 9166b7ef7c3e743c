//! What an operator is told when something fails: a code with a page in `docs/errors`, what happened, why, what to do.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    DirectoryLocked,
    StreamDamaged,
    DiskRefused,
    ListenerRefused,
    ConfigurationInvalid,
    NoServer,
    CertificateRefused,
    InputUnreadable,
}

impl Code {
    pub const fn id(self) -> &'static str {
        match self {
            Self::DirectoryLocked => "KLT001",
            Self::StreamDamaged => "KLT002",
            Self::DiskRefused => "KLT003",
            Self::ListenerRefused => "KLT004",
            Self::ConfigurationInvalid => "KLT005",
            Self::NoServer => "KLT006",
            Self::CertificateRefused => "KLT007",
            Self::InputUnreadable => "KLT008",
        }
    }
}

/// An error with a code. Put into an `anyhow` chain with `.context(…)` or returned as it is.
#[derive(Debug)]
pub struct Coded {
    pub code: Code,
    pub message: String,
}

impl Coded {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]", self.message, self.code.id())
    }
}

impl std::error::Error for Coded {}
