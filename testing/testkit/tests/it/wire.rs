//! Requests by hand over TLS.

use bytes::Bytes;
use cloudeck_machinery::{Value, json};
use cloudeck_testkit::TestServer;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;

/// A connection of the administrator, or of somebody without credentials.
pub(crate) struct Wire {
    sender: SendRequest<Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn tree(&self) -> Value {
        json::parse(&self.body).unwrap()
    }

    pub(crate) fn message(&self) -> String {
        self.tree().str_at(&["message"]).unwrap_or_default().to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

impl Wire {
    pub(crate) async fn admin(test: &TestServer) -> Self {
        Self::open(test, Some(&test.pki.admin)).await
    }

    pub(crate) async fn anonymous(test: &TestServer) -> Self {
        Self::open(test, None).await
    }

    async fn open(test: &TestServer, identity: Option<&cloudeck_pki::KeyPairPem>) -> Self {
        let authority = test.pki.serving_authority.certificate_pem();
        let config = cloudeck_pki::client_config(authority, identity, &[b"http/1.1"]).unwrap();
        let stream = tokio::net::TcpStream::connect(test.address()).await.unwrap();
        let name = ServerName::IpAddress(test.address().ip().into());
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, stream)
            .await
            .unwrap();
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        drop(tokio::runtime::Handle::current().spawn(connection.with_upgrades()));
        Self { sender }
    }

    pub(crate) async fn send(&mut self, request: Request<Full<Bytes>>) -> Response<Incoming> {
        self.sender.ready().await.unwrap();
        self.sender.send_request(request).await.unwrap()
    }

    pub(crate) async fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "test");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self
            .send(
                request
                    .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
                    .unwrap(),
            )
            .await;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            body,
        }
    }

    pub(crate) async fn get(&mut self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn post(&mut self, path: &str, body: &str) -> Answer {
        self.ask("POST", path, &[("content-type", "application/json")], body)
            .await
    }
}
