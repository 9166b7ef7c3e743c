//! Stored state: a version, a checksum, and the scorer's state in postcard form.

use crate::scorer::State;
use crate::{ScorerConfig, StateError, ThingScorer};
use serde::{Serialize, de::DeserializeOwned};

/// Of the layout below; another layout gets another number, and states of its own in `tests/states.rs`.
const VERSION: u8 = 3;
const CHECKSUM_BYTES: usize = 4;

/// A version, a checksum, and the state.
pub(crate) fn seal(version: u8, state: &impl Serialize) -> Vec<u8> {
    let payload = postcard::to_stdvec(state).expect("state consists of numbers, texts and lists of them");
    let mut bytes = Vec::with_capacity(1 + CHECKSUM_BYTES + payload.len());
    bytes.push(version);
    bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
    bytes.extend_from_slice(&payload);
    bytes
}

pub(crate) fn damaged(what: &str) -> StateError {
    StateError::Damaged { what: what.to_owned() }
}

/// What [`seal`] made. Whether its parts go together is the caller's to ask.
pub(crate) fn unseal<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, StateError> {
    let (&found, rest) = bytes.split_first().ok_or(StateError::Empty)?;
    if found != known {
        return Err(StateError::Version { found, known });
    }
    let (checksum, payload) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
    if crc32fast::hash(payload).to_le_bytes() != *checksum {
        return Err(damaged("its checksum does not match"));
    }
    postcard::from_bytes(payload).map_err(|error| damaged(&error.to_string()))
}

impl ThingScorer {
    /// Everything learned, random generators included. The configuration is not part of it.
    pub fn snapshot(&self) -> Vec<u8> {
        seal(VERSION, &self.state)
    }

    /// A scorer that goes on, bit for bit, where the one that made the snapshot was.
    ///
    /// # Errors
    /// Bytes that are no snapshot, or one of another version.
    pub fn restore(config: ScorerConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let state: State = unseal(VERSION, bytes)?;
        if !state.is_sound() {
            return Err(damaged("its parts contradict one another"));
        }
        Ok(Self::with_state(config, state))
    }
}
