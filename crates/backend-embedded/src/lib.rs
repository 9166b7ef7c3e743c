#![doc = include_str!("../README.md")]

mod directory;
pub mod objects;
mod paced;
pub mod stream;
pub mod table;

pub use directory::DirectoryLock;
pub use objects::EmbeddedObjects;
pub use stream::{EmbeddedStream, RECORD_BYTES_MAX, RECORD_TEXT_BYTES_MAX, StreamConfig};
pub use table::EmbeddedTable;
