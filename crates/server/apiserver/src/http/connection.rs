//! Accepting connections: TLS, then HTTP/1.1 or HTTP/2 as the client likes.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_auth::Peer;
use cloudeck_task::Scope;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use super::EdgeConfig;
use super::exchange;
use super::metrics::Metrics;
use crate::server::Server;

const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (out of descriptors) the listener rests, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(50);
/// As upstream's `--http2-max-streams-per-connection`.
const MAX_STREAMS: u32 = 250;

/// What every connection shares.
pub(crate) struct Edge {
    pub(crate) server: Server,
    pub(crate) config: EdgeConfig,
    scope: Scope,
    acceptor: TlsAcceptor,
    http: auto::Builder<ScopeExecutor>,
    pub(crate) metrics: Metrics,
}

impl Edge {
    pub(crate) fn new(server: Server, config: EdgeConfig, scope: Scope) -> Self {
        let mut http = auto::Builder::new(ScopeExecutor(scope.clone()));
        http.http1().timer(TokioTimer::new());
        http.http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS);
        Self {
            metrics: Metrics::new(&config.metrics),
            acceptor: TlsAcceptor::from(Arc::clone(&config.tls)),
            server,
            config,
            scope,
            http,
        }
    }
}

impl Edge {
    /// Where tasks of single requests run.
    pub(crate) fn scope(&self) -> &Scope {
        &self.scope
    }
}

/// Runs HTTP/2's tasks in the edge's scope.
#[derive(Clone)]
struct ScopeExecutor(Scope);

impl<F> hyper::rt::Executor<F> for ScopeExecutor
where
    F: Future + Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn("http2", async move {
            future.await;
        });
    }
}

pub(crate) async fn accept(edge: Arc<Edge>, listener: TcpListener) {
    let mut stop = std::pin::pin!(edge.scope.shutdown_requested());
    loop {
        let accepted = tokio::select! {
            () = &mut stop => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                edge.scope
                    .spawn("connection", connection(Arc::clone(&edge), stream));
            }
            Err(error) => {
                tracing::warn!(error = %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_REST).await;
            }
        }
    }
}

async fn connection(edge: Arc<Edge>, stream: TcpStream) {
    // Small answers must not wait for more to come.
    let _ = stream.set_nodelay(true);
    if let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) {
        // Only slower otherwise.
        let _ = cloudeck_net::tcp::prefer_local(&stream, local, peer);
    }
    let handshake = tokio::time::timeout(HANDSHAKE_TIMEOUT, edge.acceptor.accept(stream));
    let Ok(Ok(stream)) = handshake.await else {
        return;
    };
    let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let now = edge.server.core.clock.system_time();
    let peer: Arc<Peer> = Arc::new(edge.config.authenticator.peer(chain, now));
    let service = {
        let edge = Arc::clone(&edge);
        service_fn(move |request| exchange::answer(Arc::clone(&edge), Arc::clone(&peer), request))
    };
    let connection = edge
        .http
        .serve_connection_with_upgrades(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        () = edge.scope.shutdown_requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = %error, "connection ended early");
    }
}
