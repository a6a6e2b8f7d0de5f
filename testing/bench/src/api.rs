//! Connections to the API: keep-alive HTTP/1.1 over TLS. For load, [`Wire`] is cheaper.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use bytes::Bytes;
use cloudeck_machinery::yaml;
use cloudeck_pki::KeyPairPem;
use cloudeck_task::Scope;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::wire::Wire;

/// Far longer than anything measured takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// Where the API is, and who we are there.
#[derive(Clone)]
pub(crate) struct Api {
    address: SocketAddr,
    tls: Arc<rustls::ClientConfig>,
    scope: Scope,
}

impl Api {
    /// As the administrator of a kubeconfig.
    pub(crate) fn of(kubeconfig: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(kubeconfig).context("read the kubeconfig")?;
        let tree = yaml::parse(text.as_bytes()).context("understand the kubeconfig")?;
        let (clusters, users) = (tree.items_at(&["clusters"]), tree.items_at(&["users"]));
        let (Some(cluster), Some(user)) = (clusters.first(), users.first()) else {
            bail!("the kubeconfig is empty");
        };
        let server = cluster.str_at(&["cluster", "server"]).unwrap_or_default();
        let decode = |text: Option<&str>| -> Result<String> {
            let bytes =
                base64::engine::general_purpose::STANDARD.decode(text.context("a field is missing")?)?;
            Ok(String::from_utf8(bytes)?)
        };
        let pair = KeyPairPem {
            certificate: decode(user.str_at(&["user", "client-certificate-data"]))?,
            key: decode(user.str_at(&["user", "client-key-data"]))?,
        };
        let authority = decode(cluster.str_at(&["cluster", "certificate-authority-data"]))?;
        Ok(Self {
            address: server
                .trim_start_matches("https://")
                .parse()
                .context("understand the server")?,
            tls: cloudeck_pki::client_config(&authority, Some(&pair), &[b"http/1.1"])?,
            scope: Scope::root("bench"),
        })
    }

    async fn stream(&self) -> Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let tls = tokio_rustls::TlsConnector::from(Arc::clone(&self.tls));
        Ok(tls.connect(name, stream).await?)
    }

    /// So many connections for load.
    pub(crate) async fn wires(&self, count: usize) -> Result<Vec<Wire>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(Wire::new(self.stream().await?));
        }
        Ok(all)
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Result<Connection> {
        let stream = self.stream().await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.scope.spawn("connection", async move {
            // Its requests tell of its end.
            let _ = connection.await;
        });
        Ok(Connection { sender })
    }

    /// So many connections.
    pub(crate) async fn connections(&self, count: usize) -> Result<Vec<Connection>> {
        let mut all = Vec::with_capacity(count);
        for _ in 0..count {
            all.push(self.connect().await?);
        }
        Ok(all)
    }

    /// Makes a namespace and waits until pods can be made in it.
    pub(crate) async fn namespace(&self, name: &str) -> Result<()> {
        let mut api = self.connect().await?;
        let namespace =
            serde_json::json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
        if name != "default" {
            api.post("/api/v1/namespaces", &namespace).await?;
        }
        let path = format!("/api/v1/namespaces/{name}/serviceaccounts");
        let mut accounts = self.connect().await?.watch(&path).await?;
        accounts
            .until("the default service account", |event| {
                (event["object"]["metadata"]["name"] == "default").then_some(())
            })
            .await
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
}

/// The content type of a merge patch.
pub(crate) const MERGE: &str = "application/merge-patch+json";
/// The content type of objects.
pub(crate) const JSON: &str = "application/json";

impl Connection {
    /// Sends a request; the answer's head is here, its body is still coming. Any status.
    pub(crate) async fn send(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Response<Incoming>> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "bench")
            .header("user-agent", "bench/1")
            .header("content-type", content_type)
            .body(Full::new(body))?;
        self.sender.ready().await?;
        Ok(self.sender.send_request(request).await?)
    }

    /// Sends a request and reads the answer to its end without looking at it. Its length.
    ///
    /// # Errors
    /// With what the server said, unless it is content.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<usize> {
        let response = self.send(method, path, content_type, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let mut body = response.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }

    /// Makes an object; how it came to be.
    pub(crate) async fn post(&mut self, path: &str, object: &Value) -> Result<Value> {
        self.json(Method::POST, path, JSON, object.to_string().into())
            .await
    }

    /// A request whose answer is wanted.
    pub(crate) async fn json(
        &mut self,
        method: Method,
        path: &str,
        content_type: &'static str,
        body: Bytes,
    ) -> Result<Value> {
        let response = self.send(method, path, content_type, body).await?;
        if !response.status().is_success() {
            return Err(refusal(response).await);
        }
        let bytes = response.into_body().collect().await?.to_bytes();
        serde_json::from_slice(&bytes).context("understand an answer")
    }

    /// Watches, beginning with what there is. The query may not begin with `?`.
    pub(crate) async fn watch(mut self, path: &str) -> Result<Watch> {
        let separator = if path.contains('?') { '&' } else { '?' };
        let path = format!("{path}{separator}watch=1");
        let response = self.send(Method::GET, &path, JSON, Bytes::new()).await?;
        if response.status() != StatusCode::OK {
            return Err(refusal(response).await);
        }
        Ok(Watch {
            body: response.into_body(),
            rest: Vec::new(),
            _connection: self,
        })
    }
}

async fn refusal(response: Response<Incoming>) -> anyhow::Error {
    let status = response.status();
    let text = response
        .into_body()
        .collect()
        .await
        .map(http_body_util::Collected::to_bytes)
        .unwrap_or_default();
    anyhow::anyhow!("{status}: {}", String::from_utf8_lossy(&text))
}

/// An open watch.
pub(crate) struct Watch {
    body: Incoming,
    rest: Vec<u8>,
    _connection: Connection,
}

impl Watch {
    /// The next event.
    pub(crate) async fn next(&mut self) -> Result<Value> {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.rest) {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return serde_json::from_slice(&line).context("understand an event");
            }
            let data = self.frame().await?;
            self.rest.extend_from_slice(&data);
        }
    }

    /// The bytes that came next.
    pub(crate) async fn frame(&mut self) -> Result<Bytes> {
        let frame = self.body.frame().await.context("the watch ended")??;
        Ok(frame.into_data().unwrap_or_default())
    }

    /// Waits for an event in which `find` finds something.
    pub(crate) async fn until<T>(
        &mut self,
        what: &str,
        mut find: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        let mut last = Value::Null;
        let search = async {
            loop {
                last = self.next().await?;
                ensure!(last["type"] != "ERROR", "the watch failed: {last}");
                if let Some(found) = find(&last) {
                    return Ok(found);
                }
            }
        };
        match tokio::time::timeout(PATIENCE, search).await {
            Ok(found) => found,
            Err(_) => bail!("waited in vain for {what}; last: {}", last["object"]["status"]),
        }
    }
}
