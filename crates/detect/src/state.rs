//! Stored state: a version, a checksum, and the scorer's state in postcard form.

use crate::scorer::State;
use crate::{ScorerConfig, StateError, ThingScorer};

/// Of the layout below; another layout gets another number.
const VERSION: u8 = 3;
const CHECKSUM_BYTES: usize = 4;

impl ThingScorer {
    /// Everything learned, random generators included. The configuration is not part of it.
    pub fn snapshot(&self) -> Vec<u8> {
        let payload = postcard::to_stdvec(&self.state).expect("state consists of numbers, texts and lists of them");
        let mut bytes = Vec::with_capacity(1 + CHECKSUM_BYTES + payload.len());
        bytes.push(VERSION);
        bytes.extend_from_slice(&crc32fast::hash(&payload).to_le_bytes());
        bytes.extend_from_slice(&payload);
        bytes
    }

    /// A scorer that goes on, bit for bit, where the one that made the snapshot was.
    ///
    /// # Errors
    /// Bytes that are no snapshot, or one of another version.
    pub fn restore(config: ScorerConfig, bytes: &[u8]) -> Result<Self, StateError> {
        let (&version, rest) = bytes.split_first().ok_or(StateError::Empty)?;
        if version != VERSION {
            return Err(StateError::Version { found: version, known: VERSION });
        }
        let damaged = |what: &str| StateError::Damaged { what: what.to_owned() };
        let (checksum, payload) =
            rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or_else(|| damaged("it is cut short"))?;
        if crc32fast::hash(payload).to_le_bytes() != *checksum {
            return Err(damaged("its checksum does not match"));
        }
        let state: State =
            postcard::from_bytes(payload).map_err(|error| StateError::Damaged { what: error.to_string() })?;
        if !state.is_sound() {
            return Err(damaged("its parts contradict one another"));
        }
        Ok(Self::with_state(config, state))
    }
}
