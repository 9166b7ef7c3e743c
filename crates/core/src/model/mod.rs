//! The words: plain data with their units and bounds, shared by every crate.

mod alert;
mod episode;
mod fleet;
mod identity;
mod ids;
mod ledger;
mod message;
mod record;
mod score;
mod shards;
mod tenant;
mod time;
pub mod topics;

pub use alert::*;
pub use episode::*;
pub use fleet::*;
pub use identity::*;
pub use ids::*;
pub use ledger::*;
pub use message::*;
pub use record::*;
pub use score::*;
pub use shards::*;
pub use tenant::*;
pub use time::*;
