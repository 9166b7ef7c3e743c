#![doc = include_str!("../README.md")]

mod clock;
pub mod detector;
mod memory_objects;
mod memory_stream;
mod memory_table;
pub mod notify;
pub mod objects;
pub mod stream;
pub mod table;

pub use clock::FakeClock;
pub use memory_objects::MemoryObjects;
pub use memory_stream::MemoryStream;
pub use memory_table::MemoryTable;
