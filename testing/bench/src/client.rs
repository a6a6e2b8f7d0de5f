//! A lean HTTPS client: one keep-alive HTTP/1.1 connection, JSON in and out.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use bytes::Bytes;
use cloudeck_e2e::Cluster;
use cloudeck_net::NetNamespace;
use cloudeck_pki::KeyPairPem;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio_rustls::TlsConnector;

/// Where the API is, and with which credentials.
#[derive(Clone)]
pub(crate) struct Endpoint {
    address: SocketAddr,
    network: Arc<NetNamespace>,
    tls: TlsConnector,
}

impl Endpoint {
    /// As the administrator of the cluster.
    pub(crate) fn of(cluster: &Cluster) -> Result<Self> {
        let text = std::fs::read_to_string(cluster.kubeconfig())?;
        let field = |name: &str| {
            let line = text
                .lines()
                .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix(name));
            line.map(|value| value.trim().trim_matches('"').to_owned())
                .with_context(|| format!("no {name} in the kubeconfig"))
        };
        let pem = |name: &str| -> Result<String> {
            let bytes = base64::engine::general_purpose::STANDARD.decode(field(name)?)?;
            Ok(String::from_utf8(bytes)?)
        };
        let pair = KeyPairPem {
            certificate: pem("client-certificate-data:")?,
            key: pem("client-key-data:")?,
        };
        let config = cloudeck_pki::client_config(&pem("certificate-authority-data:")?, Some(&pair), &[])?;
        Ok(Self {
            address: field("server:")?.trim_start_matches("https://").parse()?,
            network: Arc::new(cluster.machine().network()),
            tls: TlsConnector::from(config),
        })
    }

    /// A new connection.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let (network, address) = (Arc::clone(&self.network), self.address);
        let stream =
            tokio::task::spawn_blocking(move || network.run(|| TcpStream::connect(address))).await???;
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        let stream = tokio::net::TcpStream::from_std(stream)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.tls.connect(name, stream).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tokio::runtime::Handle::current().spawn(connection);
        Ok(Connection {
            sender,
            host: self.address.to_string(),
        })
    }
}

/// One connection, one request at a time.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    host: String,
}

impl Connection {
    async fn request(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> Result<http::Response<Incoming>> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.host);
        if !kind.is_empty() {
            request = request.header("content-type", kind);
        }
        self.sender.ready().await?;
        Ok(self.sender.send_request(request.body(Full::new(body))?).await?)
    }

    /// Sends a request and drains its answer; returns the answer's size.
    pub(crate) async fn send(
        &mut self,
        method: &str,
        path: &str,
        kind: &str,
        body: impl Into<Bytes>,
    ) -> Result<usize> {
        let mut answer = self.request(method, path, kind, body.into()).await?;
        let status = answer.status();
        let (mut size, mut text) = (0, Vec::new());
        while let Some(frame) = answer.body_mut().frame().await {
            if let Some(data) = frame?.data_ref() {
                size += data.len();
                if !status.is_success() {
                    text.extend_from_slice(data);
                }
            }
        }
        ensure!(
            status.is_success(),
            "{method} {path}: {status} {}",
            String::from_utf8_lossy(&text)
        );
        Ok(size)
    }

    /// Creates an object.
    pub(crate) async fn create(&mut self, path: &str, object: &Value) -> Result<()> {
        self.send("POST", path, "application/json", object.to_string())
            .await
            .map(drop)
    }

    /// Opens a watch; the connection is its.
    pub(crate) async fn watch(mut self, path: &str) -> Result<Watch> {
        let answer = self.request("GET", path, "", Bytes::new()).await?;
        ensure!(answer.status().is_success(), "watch {path}: {}", answer.status());
        Ok(Watch {
            body: answer.into_body(),
            buffer: Vec::new(),
            _connection: self,
        })
    }
}

/// An open watch.
pub(crate) struct Watch {
    body: Incoming,
    buffer: Vec<u8>,
    _connection: Connection,
}

impl Watch {
    /// The next line, as it was sent.
    pub(crate) async fn next_line(&mut self) -> Result<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(at + 1);
                return Ok(std::mem::replace(&mut self.buffer, rest));
            }
            let frame = self.body.frame().await.context("the watch ended")??;
            self.buffer
                .extend_from_slice(frame.data_ref().map(Bytes::as_ref).unwrap_or_default());
        }
    }

    /// Waits for an event whose object satisfies `done`.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&str, &Value) -> bool) -> Result<()> {
        loop {
            let event: Value = serde_json::from_slice(&self.next_line().await?)?;
            if done(event["type"].as_str().unwrap_or_default(), &event["object"]) {
                return Ok(());
            }
        }
    }
}
