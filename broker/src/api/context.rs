//! Who sent a request.

use super::listener::ListenerName;
use chronik_core::groups::Client;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who sent a request: the connection it came on, and what the client calls itself. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct RequestContext {
    client: Client,
    listener: ListenerName,
}

impl RequestContext {
    /// That of a connection from there.
    pub(crate) fn new(from: SocketAddr, listener: ListenerName) -> Self {
        // As Java writes an address that it has no name for.
        let host = Arc::from(format!("/{}", from.ip().to_canonical()));
        Self { client: Client { id: Arc::from(""), host }, listener }
    }

    /// Notes the `client.id` of the next request. Most connections have the same one always.
    pub(crate) fn client_is(&mut self, id: &str) {
        if *self.client.id != *id {
            self.client.id = Arc::from(id);
        }
    }

    /// The listener that the connection came through.
    pub(super) fn listener(&self) -> &ListenerName {
        &self.listener
    }

    /// As a coordinator knows it.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }
}
