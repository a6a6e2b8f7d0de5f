//! Requests that a node agent answers: logs, exec, the node proxy.
//!
//! The API server authenticates, authorises and admits, then passes the bytes through under its own client
//! certificate. A WebSocket is passed through as it is.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_admission::Operation;
use cloudeck_auth::{Attributes, Authorizer as _, UserInfo, forbidden};
use cloudeck_client::transport::BoxFuture;
use cloudeck_client::{Request as ApiRequest, Verb};
use cloudeck_machinery::{Object, Reason, Status, Value};
use http::request::Parts;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::answer;
use super::body::EdgeBody;
use super::connection::Edge;
use super::log_socket;
use super::node_target::{self, NodeTarget};
use super::path::ResourceTarget;
use super::{proxy, relay};
use crate::registry::warnings::Warnings;
use crate::registry::{Call, admit};
use crate::subresource::unserved;

/// How long a node may take to accept a connection.
pub(super) const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a node agent.
pub trait NodeStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> NodeStream for T {}

/// Opens connections to node agents. Implementations: [`TlsNodes`], and whatever a test puts in a node's place.
pub trait NodeDialer: Send + Sync {
    /// Connects to `address` (an IP address or a name that is one) at `port`.
    fn dial<'a>(
        &'a self,
        address: &'a str,
        port: u16,
    ) -> BoxFuture<'a, std::io::Result<Pin<Box<dyn NodeStream>>>>;

    /// Connects to what a pod serves, without TLS.
    fn dial_plain(
        &self,
        address: IpAddr,
        port: u16,
    ) -> BoxFuture<'_, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        Box::pin(async move {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            Ok(Box::pin(stream) as Pin<Box<dyn NodeStream>>)
        })
    }

    /// Connects to what a pod serves over TLS, whatever its certificate.
    fn dial_unverified(
        &self,
        address: IpAddr,
        port: u16,
    ) -> BoxFuture<'_, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        Box::pin(async move {
            let stream = self.dial_plain(address, port).await?;
            let config = cloudeck_pki::unverified_client_config().map_err(std::io::Error::other)?;
            let stream = tokio_rustls::TlsConnector::from(config)
                .connect(ServerName::IpAddress(address.into()), stream)
                .await?;
            Ok(Box::pin(stream) as Pin<Box<dyn NodeStream>>)
        })
    }
}

/// Reaches nodes over TLS.
pub struct TlsNodes {
    connector: tokio_rustls::TlsConnector,
}

impl TlsNodes {
    /// `config` trusts the authority of serving certificates and shows the API server's client certificate.
    pub fn new(config: Arc<rustls::ClientConfig>) -> Self {
        Self {
            connector: config.into(),
        }
    }
}

impl NodeDialer for TlsNodes {
    fn dial<'a>(
        &'a self,
        address: &'a str,
        port: u16,
    ) -> BoxFuture<'a, std::io::Result<Pin<Box<dyn NodeStream>>>> {
        Box::pin(async move {
            let invalid =
                |_| std::io::Error::new(std::io::ErrorKind::InvalidInput, "the node has no IP address");
            let ip: IpAddr = address.parse().map_err(invalid)?;
            let stream = TcpStream::connect((ip, port)).await?;
            stream.set_nodelay(true)?;
            let stream = self
                .connector
                .connect(ServerName::IpAddress(ip.into()), stream)
                .await?;
            Ok(Box::pin(stream) as Pin<Box<dyn NodeStream>>)
        })
    }
}

/// Whether a node agent answers this request.
pub(crate) fn concerns(request: &ApiRequest) -> bool {
    let resource = &request.resource;
    resource.group.is_empty()
        && match resource.resource.as_str() {
            "pods" => matches!(
                request.subresource.as_str(),
                "log" | "exec" | "attach" | "portforward" | "proxy"
            ),
            "nodes" | "services" => request.subresource == "proxy",
            _ => false,
        }
}

pub(crate) async fn answer(
    edge: &Arc<Edge>,
    user: &Arc<UserInfo>,
    target: &ResourceTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let core = &edge.server.core;
    let api = &target.request;
    core.authorize(user, api)?;
    if request.method() == Method::OPTIONS {
        // No verb stands for it: only who may do everything may do this, as upstream.
        authorize_as(edge, user, api, "")?;
    }
    match (api.resource.resource.as_str(), api.subresource.as_str()) {
        ("pods", "log") => log(edge, target, request).await,
        ("pods", "exec") => {
            // A WebSocket begins with GET, but running a command is no reading: who execs needs `create`, as upstream.
            authorize_as(edge, user, api, "create")?;
            let pod = find(edge, api)?;
            admit_connect(edge, user, api).await?;
            let node = node_target::exec(core, &pod, &target.query)?;
            let websocket = is_websocket(request.headers());
            let answer = pass(edge, &node, request).await?;
            // Clients try again in the old way after a refusal; then they are to hear the refusal, not ours.
            if !websocket && !answer.status().is_client_error() && !answer.status().is_server_error() {
                return Err(Status::bad_request(
                    "exec is served over WebSocket only (v5.channel.k8s.io, v4.channel.k8s.io)",
                ));
            }
            Ok(answer)
        }
        ("pods" | "services", "proxy") => {
            admit_connect(edge, user, api).await?;
            proxy::answer(edge, target, request).await
        }
        ("nodes", "proxy") => proxy::to_node(edge, target, request).await,
        (resource, other) => Err(unserved(&format!("{resource}/{other}"))),
    }
}

async fn log(
    edge: &Arc<Edge>,
    target: &ResourceTarget,
    mut request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let pod = find(edge, &target.request)?;
    let node = node_target::log(&edge.server.core, &pod, &target.query)?;
    let socket = is_websocket(request.headers()).then(|| log_socket::Handshake::take(&mut request));
    let socket = socket.transpose()?;
    let log = match node {
        None => answer::text(Bytes::new()),
        Some(node) => log_or_reason(pass(edge, &node, request).await?).await?,
    };
    Ok(match socket {
        Some(socket) => socket.answer(edge, log),
        None => log,
    })
}

fn find(edge: &Edge, api: &ApiRequest) -> Result<Arc<Object>, Status> {
    let kind = edge.server.core.stored("", &api.resource.resource);
    kind.cache
        .get(&api.namespace, &api.name)
        .ok_or_else(|| Status::not_found("", &api.resource.resource, &api.name))
}

fn authorize_as(edge: &Edge, user: &UserInfo, api: &ApiRequest, verb: &str) -> Result<(), Status> {
    let attributes = Attributes::resource(user, verb, "", &api.resource.resource)
        .under(&api.subresource)
        .in_namespace(&api.namespace)
        .of(&api.name);
    let decision = edge.server.core.authorizer.authorize(&attributes);
    if decision.is_allowed() {
        Ok(())
    } else {
        Err(forbidden(&attributes, &decision.reason))
    }
}

async fn admit_connect(edge: &Edge, user: &Arc<UserInfo>, api: &ApiRequest) -> Result<(), Status> {
    let mut connect = api.clone();
    connect.verb = Verb::Create;
    let view = edge.server.core.view(&connect)?;
    let mut call = Call {
        core: &edge.server.core,
        user,
        agent: "",
        request: &connect,
        view,
        warnings: Warnings::default(),
    };
    admit::mutate(&mut call, Operation::Connect, &mut Value::Null, None).await?;
    admit::validate(&mut call, Operation::Connect, &mut Value::Null, None)
}

pub(super) fn is_websocket(headers: &HeaderMap) -> bool {
    let text = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
    };
    text(header::UPGRADE).eq_ignore_ascii_case("websocket")
        && text(header::CONNECTION).to_ascii_lowercase().contains("upgrade")
}

/// Passes the request to the node and its answer back.
pub(super) async fn pass(
    edge: &Arc<Edge>,
    node: &NodeTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let dialled = tokio::time::timeout(DIAL_TIMEOUT, edge.config.nodes.dial(&node.address, node.port)).await;
    let stream = match dialled {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(unreachable(node, &error)),
        Err(elapsed) => return Err(unreachable(node, &elapsed)),
    };
    let sender = relay::speak(edge, "node-connection", stream).await;
    let mut sender = sender.map_err(|error| unreachable(node, &error))?;
    let (parts, body) = request.into_parts();
    let websocket = is_websocket(&parts.headers);
    let outgoing = outgoing(node, &parts, body, websocket).await?;
    let answer = sender
        .send_request(outgoing)
        .await
        .map_err(|error| unreachable(node, &error))?;
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS && websocket {
        return Ok(splice(edge, parts, answer));
    }
    let is_content_type = |name: &HeaderName| *name == header::CONTENT_TYPE;
    Ok(relay::back(answer, sender, is_content_type))
}

/// A log, or the node's plain words about why there is none as an error of the API.
///
/// Source: `apiserver/pkg/registry/generic/rest/response_checker.go`.
async fn log_or_reason(answer: Response<EdgeBody>) -> Result<Response<EdgeBody>, Status> {
    const LONGEST_REASON: usize = 50_000;
    let code = answer.status();
    if code.is_success() {
        return Ok(answer);
    }
    let body = Limited::new(answer.into_body(), LONGEST_REASON).collect().await;
    let bytes = body.map_err(Status::internal)?.to_bytes();
    let reason = match code {
        StatusCode::BAD_REQUEST => return Err(Status::bad_request(String::from_utf8_lossy(&bytes))),
        StatusCode::NOT_FOUND => Reason::NotFound,
        StatusCode::FORBIDDEN => Reason::Forbidden,
        StatusCode::UNAUTHORIZED => Reason::Unauthorized,
        _ => return Err(Status::internal(String::from_utf8_lossy(&bytes))),
    };
    Err(Status::new(reason, String::from_utf8_lossy(&bytes)))
}

fn unreachable(node: &NodeTarget, error: &dyn std::fmt::Display) -> Status {
    let NodeTarget {
        address, port, path, ..
    } = node;
    Status::new(
        Reason::InternalError,
        format!("Internal error occurred: error dialing backend: https://{address}:{port}{path}: {error}"),
    )
}

async fn outgoing(
    node: &NodeTarget,
    parts: &Parts,
    body: Incoming,
    websocket: bool,
) -> Result<Request<Full<Bytes>>, Status> {
    let bytes = if parts.method == Method::GET {
        Bytes::new()
    } else {
        body.collect()
            .await
            .map_err(|error| Status::bad_request(error.to_string()))?
            .to_bytes()
    };
    let mut request = Request::builder().method(parts.method.clone()).uri(&node.path);
    if let Some(headers) = request.headers_mut() {
        for (name, value) in &parts.headers {
            if passes(name, websocket) {
                headers.append(name.clone(), value.clone());
            }
        }
    }
    request
        .header(header::HOST, format!("{}:{}", node.address, node.port))
        .body(Full::new(bytes))
        .map_err(Status::internal)
}

/// Credentials stay here; the connection is ours, unless it is to become a WebSocket.
fn passes(name: &HeaderName, websocket: bool) -> bool {
    match *name {
        header::CONTENT_LENGTH | header::TRANSFER_ENCODING => false,
        header::CONNECTION | header::UPGRADE => websocket,
        _ => !relay::is_credential(name),
    }
}

/// Joins the client's connection with the node's.
fn splice(edge: &Edge, parts: Parts, mut answer: Response<Incoming>) -> Response<EdgeBody> {
    let node = hyper::upgrade::on(&mut answer);
    let client = parts.extensions.get::<hyper::upgrade::OnUpgrade>().cloned();
    let mut response = Response::new(EdgeBody::Full(Bytes::new()));
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = answer.headers().clone();
    edge.scope().spawn_until_shutdown("exec", async move {
        let Some(client) = client else {
            return;
        };
        if let (Ok(client), Ok(node)) = (client.await, node.await) {
            let (mut client, mut node) = (TokioIo::new(client), TokioIo::new(node));
            // Either side may simply go away.
            let _ = tokio::io::copy_bidirectional(&mut client, &mut node).await;
        }
    });
    response
}
