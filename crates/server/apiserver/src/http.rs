//! The network edge: TLS, HTTP/1.1 and HTTP/2, media types, streaming.
//!
//! A connection's client certificate is judged once; every request is authenticated, may impersonate, is authorised and
//! then answered by [`Server`] like any in-process call. Start reading at [`serve`].

mod answer;
mod body;
mod connection;
mod documents;
mod exchange;
mod links;
mod log_socket;
mod metrics;
mod negotiate;
mod node;
mod node_target;
mod partial;
mod path;
mod proxy;
mod relay;
mod table;
mod watch;

use std::net::SocketAddr;
use std::sync::Arc;

use cloudeck_auth::Authenticator;
use cloudeck_task::Scope;
use tokio::net::TcpListener;

use crate::server::Server;

pub use node::{NodeDialer, NodeStream, TlsNodes};

/// What the edge needs besides the server.
pub struct EdgeConfig {
    /// From `cloudeck_pki::server_config`; asks for client certificates.
    pub tls: Arc<rustls::ServerConfig>,
    pub authenticator: Arc<Authenticator>,
    /// How node agents are reached.
    pub nodes: Arc<dyn NodeDialer>,
    /// What `/metrics` shows.
    pub metrics: cloudeck_telemetry::Registry,
}

/// A running edge. Cheap to clone.
#[derive(Clone)]
pub struct EdgeHandle {
    address: SocketAddr,
    scope: Scope,
}

impl EdgeHandle {
    /// The address really bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops accepting, lets requests finish until the deadline, then cuts.
    pub async fn shutdown(&self, deadline: std::time::Duration) {
        self.scope.shutdown(deadline).await;
    }
}

/// Serves `server` on `listener` from now on.
///
/// # Errors
/// The listener has no address.
pub fn serve(
    server: &Server,
    listener: TcpListener,
    config: EdgeConfig,
    scope: &Scope,
) -> std::io::Result<EdgeHandle> {
    let address = listener.local_addr()?;
    let scope = scope.child("https");
    let edge = Arc::new(connection::Edge::new(server.clone(), config, scope.clone()));
    scope.spawn("accept", connection::accept(edge, listener));
    Ok(EdgeHandle { address, scope })
}
