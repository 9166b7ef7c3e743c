//! HTTP to addresses that operators name: of subscribers and of rules' actions.

use bytes::Bytes;
use futures::future::BoxFuture;

/// Follows no redirect, bounds the wait, and reaches into the private network only where the installation allows it.
pub trait Post: Send + Sync {
    /// Whether the address may be used at all; `Err` says why not. Asks nobody.
    fn check(&self, url: &str) -> Result<(), String>;

    /// The answer's status. `Err`: there was none, or the address may not be used. Does not block.
    fn post(&self, request: PostRequest) -> BoxFuture<'static, Result<u16, String>>;
}

#[derive(Debug, Clone)]
pub struct PostRequest {
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Bytes,
}
