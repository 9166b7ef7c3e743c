//! The ports: what one part may ask of another. Read the doc comment before the signature.

pub mod action;
pub mod clock;
pub mod control;
pub mod deliver;
pub mod fleet;
pub mod function;
pub mod ingest;
pub mod logs;
pub mod notify;
pub mod objects;
pub mod post;
pub mod put;
pub mod query;
pub mod resources;
pub mod rules;
pub mod stream;
pub mod table;
