//! The TLS transport: requests as HTTP to a server somewhere.

mod decode;
mod path;

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use cloudeck_machinery::{Reason, Status};
use futures_util::{StreamExt, stream};
use http::{HeaderValue, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::request::Request;
use crate::transport::{BoxFuture, Response, Transport, WatchStream};

/// How to reach a server and who to be there.
#[derive(Clone)]
pub struct TlsConfig {
    pub address: SocketAddr,
    /// Trust and client certificate.
    pub rustls: Arc<rustls::ClientConfig>,
    /// A bearer token, sent when present.
    pub bearer_token: Option<Secret>,
    pub user_agent: String,
}

/// A text that cannot be formatted.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A [`Transport`] over HTTPS, HTTP/2 where the server offers it.
pub struct TlsTransport {
    client: legacy::Client<Connector, Full<Bytes>>,
    config: TlsConfig,
}

impl TlsTransport {
    /// Makes the transport; connections are opened on use.
    pub fn new(config: TlsConfig) -> Self {
        let mut rustls = (*config.rustls).clone();
        rustls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = Connector {
            address: config.address,
            tls: TlsConnector::from(Arc::new(rustls)),
        };
        let client = legacy::Client::builder(TokioExecutor::new()).build(connector);
        Self { client, config }
    }

    /// Sends a bare GET, for endpoints outside resources (`/readyz`, `/version`).
    pub async fn get_raw(&self, path: &str) -> Result<(u16, Bytes), Status> {
        let request = self
            .builder("GET", path)
            .body(Full::default())
            .map_err(Status::internal)?;
        let response = self
            .client
            .request(request)
            .await
            .map_err(|e| unreachable_server(&self.config, &e))?;
        let code = response.status().as_u16();
        Ok((code, collect(response.into_body()).await?))
    }

    fn builder(&self, method: &str, path: &str) -> http::request::Builder {
        let mut builder = http::Request::builder()
            .method(method)
            .uri(format!("https://{}{path}", self.config.address))
            .header(header::USER_AGENT, &self.config.user_agent)
            .header(header::ACCEPT, "application/json");
        if let Some(token) = &self.config.bearer_token {
            builder = builder.header(header::AUTHORIZATION, format!("Bearer {}", token.0));
        }
        builder
    }

    async fn exchange(&self, request: Request) -> Result<http::Response<Incoming>, Status> {
        let (method, path) = (path::method(&request), path::path_and_query(&request));
        let mut builder = self.builder(method, &path);
        if !request.body.bytes.is_empty() {
            let content_type = HeaderValue::from_static(request.body.content_type.as_str());
            builder = builder.header(header::CONTENT_TYPE, content_type);
        }
        let http_request = builder
            .body(Full::new(request.body.bytes))
            .map_err(Status::internal)?;
        let response = self
            .client
            .request(http_request)
            .await
            .map_err(|e| unreachable_server(&self.config, &e))?;
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        Err(decode::failure(code, &collect(response.into_body()).await?))
    }
}

impl Transport for TlsTransport {
    fn call(&self, request: Request) -> BoxFuture<'_, Result<Response, Status>> {
        Box::pin(async move {
            let response = self.exchange(request).await?;
            let code = response.status().as_u16();
            decode::response(code, collect(response.into_body()).await?)
        })
    }

    fn watch(&self, request: Request) -> BoxFuture<'_, Result<WatchStream, Status>> {
        Box::pin(async move {
            let response = self.exchange(request).await?;
            let lines = Lines {
                body: response.into_body(),
                buffer: BytesMut::new(),
            };
            let events = stream::unfold(lines, |mut lines| async move {
                let line = lines.next().await?;
                Some((decode::event(&line), lines))
            });
            Ok(events.boxed())
        })
    }
}

/// Splits a body into its lines.
struct Lines {
    body: Incoming,
    buffer: BytesMut,
}

impl Lines {
    async fn next(&mut self) -> Option<Bytes> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(searched + at + 1).freeze();
                return Some(line);
            }
            searched = self.buffer.len();
            let frame = self.body.frame().await?.ok()?;
            if let Ok(data) = frame.into_data() {
                self.buffer.extend_from_slice(&data);
            }
        }
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Status> {
    let broken = |e| {
        Status::new(
            Reason::ServerTimeout,
            format!("the connection broke while reading the answer: {e}"),
        )
    };
    Ok(body.collect().await.map_err(broken)?.to_bytes())
}

fn unreachable_server(config: &TlsConfig, error: &legacy::Error) -> Status {
    let why = cloudeck_telemetry::chain(error);
    Status::new(
        Reason::ServiceUnavailable,
        format!("cannot reach the API server at {}: {why}", config.address),
    )
}

#[derive(Clone)]
struct Connector {
    address: SocketAddr,
    tls: TlsConnector,
}

impl tower_service::Service<http::Uri> for Connector {
    type Response = Connection;
    type Error = std::io::Error;
    type Future = BoxFuture<'static, Result<Connection, std::io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { address, tls } = self.clone();
        Box::pin(async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::IpAddress(address.ip().into());
            let stream = tls.connect(name, tcp).await?;
            Ok(Connection(TokioIo::new(stream)))
        })
    }
}

/// A connection that tells hyper whether HTTP/2 was negotiated.
struct Connection(TokioIo<tokio_rustls::client::TlsStream<TcpStream>>);

impl legacy::connect::Connection for Connection {
    fn connected(&self) -> legacy::connect::Connected {
        let connected = legacy::connect::Connected::new();
        match self.0.inner().get_ref().1.alpn_protocol() {
            Some(b"h2") => connected.negotiated_h2(),
            _ => connected,
        }
    }
}

impl hyper::rt::Read for Connection {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl hyper::rt::Write for Connection {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
