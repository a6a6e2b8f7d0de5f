//! The node's HTTPS server (port 10250): logs and exec, for those whom the API server vouches for.
//!
//! Every request is authenticated (client certificate of the cluster, or a bearer token by TokenReview) and authorised
//! (SubjectAccessReview on the node), as upstream's kubelet does with webhook modes; there is no anonymous access.

mod access;
mod exec;
mod exec_channel;
mod log_endpoint;
mod query;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_pki::ServingCertificate;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

use crate::node::Node;
use access::Access;
use query::Query;

pub use access::NodeAttributes;

/// Bodies of answers.
pub(crate) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// How long a client may take for its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// What the server needs beside the node.
pub struct ServerConfig {
    pub certificate: Arc<ServingCertificate>,
    /// Vouches for client certificates.
    pub client_authority: CertificateDer<'static>,
}

/// Why the node's server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartServerError {
    #[error("listen on {address}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("set up TLS for the node's server")]
    Tls(#[from] cloudeck_pki::TlsSetupError),
    #[error("set up client certificates for the node's server")]
    Clients(#[from] cloudeck_pki::ClientCertificateError),
}

/// Binds; serving begins with [`Listening::serve`].
pub(crate) async fn bind(address: SocketAddr, config: ServerConfig) -> Result<Listening, StartServerError> {
    let authorities = [config.client_authority.clone()];
    let tls = cloudeck_pki::server_config(config.certificate, &authorities, &[b"http/1.1"])?;
    let verifier = cloudeck_pki::ClientVerifier::new(&config.client_authority)?;
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| StartServerError::Listen { address, source })?;
    Ok(Listening {
        listener,
        tls,
        verifier,
    })
}

/// A bound server.
pub(crate) struct Listening {
    listener: TcpListener,
    tls: Arc<rustls::ServerConfig>,
    verifier: cloudeck_pki::ClientVerifier,
}

impl Listening {
    pub(crate) fn address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves in the node's scope until it shuts down.
    pub(crate) fn serve(self, node: &Arc<Node>) {
        let access = Arc::new(Access::new(self.verifier));
        let acceptor = TlsAcceptor::from(self.tls);
        let (listener, node) = (self.listener, Arc::clone(node));
        let scope = node.scope.clone();
        scope.spawn_until_shutdown("node server", async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let connection = connection(
                            Arc::clone(&node),
                            Arc::clone(&access),
                            acceptor.clone(),
                            stream,
                            peer,
                        );
                        node.scope
                            .spawn_until_shutdown("node server connection", connection);
                    }
                    Err(error) => {
                        // Out of descriptors, mostly: give others time to close theirs.
                        tracing::warn!(%error, "connection not accepted");
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
        });
    }
}

async fn connection(
    node: Arc<Node>,
    access: Arc<Access>,
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let handshake = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = match handshake {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%peer, %error, "TLS handshake failed"),
        Err(_) => return tracing::debug!(%peer, "TLS handshake timed out"),
    };
    let chain: Arc<[CertificateDer<'static>]> = stream
        .get_ref()
        .1
        .peer_certificates()
        .unwrap_or_default()
        .to_vec()
        .into();
    let service = hyper::service::service_fn(move |request| {
        let (node, access, chain) = (Arc::clone(&node), Arc::clone(&access), Arc::clone(&chain));
        async move { Ok::<_, std::convert::Infallible>(answer(&node, &access, &chain, request).await) }
    });
    let server = auto::Builder::new(TokioExecutor::new());
    if let Err(error) = server
        .serve_connection_with_upgrades(TokioIo::new(stream), service)
        .await
    {
        tracing::debug!(%peer, %error, "connection ended badly");
    }
}

async fn answer(
    node: &Arc<Node>,
    access: &Access,
    chain: &[CertificateDer<'static>],
    request: Request<Incoming>,
) -> Response<Body> {
    let user = match access.authenticate(node, chain, request.headers()).await {
        Ok(user) => user,
        Err(why) => {
            tracing::debug!(error = why, "node request not authenticated");
            return text(StatusCode::UNAUTHORIZED, "Unauthorized");
        }
    };
    let attributes = access::attributes(request.method(), request.uri().path());
    match access.authorize(node, &user, &attributes).await {
        Ok(true) => {}
        Ok(false) => {
            let NodeAttributes { verb, subresources } = &attributes;
            let resources: Vec<String> = subresources.iter().map(|s| format!("nodes/{s}")).collect();
            let message = format!(
                "Forbidden (user={}, verb={verb}, resource=nodes, subresource(s)=[{}])",
                user.name,
                subresources.join(" ")
            );
            tracing::debug!(?resources, "node request refused");
            return text(StatusCode::FORBIDDEN, &message);
        }
        Err(error) => {
            return text(
                StatusCode::INTERNAL_SERVER_ERROR,
                &format!("Authorization error: {error}"),
            );
        }
    }
    route(node, request).await
}

async fn route(node: &Arc<Node>, request: Request<Incoming>) -> Response<Body> {
    let path = request.uri().path().to_owned();
    let query = match Query::parse(request.uri().query().unwrap_or_default()) {
        Ok(query) => query,
        Err(why) => return text(StatusCode::BAD_REQUEST, &why),
    };
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (request.method(), segments.as_slice()) {
        (&Method::GET, ["healthz"]) => text(StatusCode::OK, "ok"),
        (&Method::GET, ["pods"]) => pods(node),
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            log_endpoint::serve(node, namespace, pod, container, &query).await
        }
        (&(Method::GET | Method::POST), ["exec", namespace, pod, container]) => {
            let target = (*namespace, *pod, *container);
            exec::serve(node, target, &query, request)
        }
        (_, ["attach" | "portForward", ..]) => text(
            StatusCode::NOT_IMPLEMENTED,
            "attach and port-forward are not supported",
        ),
        _ => text(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

/// The pods that run here, as the API has them.
fn pods(node: &Node) -> Response<Body> {
    let mut json = br#"{"kind":"PodList","apiVersion":"v1","metadata":{},"items":["#.to_vec();
    for (index, pod) in node.pods.list().iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.extend_from_slice(&pod.json);
    }
    json.extend_from_slice(b"]}");
    let mut response = Response::new(full(json));
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    response
}

pub(crate) fn text(code: StatusCode, message: &str) -> Response<Body> {
    let mut response = Response::new(full(message.as_bytes().to_vec()));
    *response.status_mut() = code;
    response.headers_mut().insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes))
        .map_err(|never| match never {})
        .boxed_unsync()
}
