//! The door over real sockets with mutual TLS: what devices get, what they are refused, and that it is said why.

mod clients;
mod fixtures;
mod identity;
mod limits;
mod messages;
