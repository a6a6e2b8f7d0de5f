//! HTTP checks: the answer's code is from 200 to 399. Certificates are not verified, as upstream does not.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Empty;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{Container, HTTPGetAction};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::{Verdict, port_number};

/// A request to make.
#[derive(Debug, Clone)]
pub(crate) struct HttpCheck {
    address: SocketAddr,
    tls: bool,
    path: String,
    host: String,
    headers: Vec<(String, String)>,
    limit: Duration,
}

/// The action does not make a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpActionError {
    #[error("the pod has no address yet")]
    NoAddress,
    #[error("the host {0:?} is not an address")]
    Host(String),
    #[error("the action names no port of the container")]
    Port,
}

impl HttpCheck {
    pub(crate) fn from_action(
        action: &HTTPGetAction,
        container: &Container,
        host: Option<String>,
        limit: Duration,
    ) -> Result<Self, HttpActionError> {
        let host = host.ok_or(HttpActionError::NoAddress)?;
        let literal = if host == "localhost" { "127.0.0.1" } else { &host };
        let ip: IpAddr = literal.parse().map_err(|_| HttpActionError::Host(host.clone()))?;
        let port = port_number(&action.port, container).ok_or(HttpActionError::Port)?;
        let path = action.path.as_deref().unwrap_or("/");
        let path = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        };
        let headers = action
            .http_headers
            .iter()
            .flatten()
            .map(|h| (h.name.clone(), h.value.clone()))
            .collect();
        let tls = action.scheme.as_deref() == Some("HTTPS");
        let address = SocketAddr::new(ip, port);
        Ok(Self {
            address,
            tls,
            path,
            host: address.to_string(),
            headers,
            limit,
        })
    }

    pub(crate) async fn run(&self) -> Verdict {
        match tokio::time::timeout(self.limit, self.answer()).await {
            Ok(Ok(code)) if (200..400).contains(&code) => Verdict::Passed,
            Ok(Ok(code)) => Verdict::Failed(format!("HTTP probe failed with statuscode: {code}")),
            Ok(Err(error)) => Verdict::Failed(format!("Get \"{}\": {error}", self.url())),
            Err(_) => {
                let url = self.url();
                Verdict::Failed(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                ))
            }
        }
    }

    fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.address, self.path)
    }

    async fn answer(&self) -> Result<u16, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect(self.address).await?;
        if self.tls {
            let name = ServerName::IpAddress(self.address.ip().into());
            let stream = TlsConnector::from(cloudeck_pki::unverified_client_config()?)
                .connect(name, stream)
                .await?;
            self.exchange(TokioIo::new(stream)).await
        } else {
            self.exchange(TokioIo::new(stream)).await
        }
    }

    async fn exchange<S>(&self, stream: S) -> Result<u16, Box<dyn std::error::Error + Send + Sync>>
    where
        S: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
    {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await?;
        let mut request = http::Request::builder()
            .uri(&self.path)
            .header("User-Agent", "kube-probe/1.37")
            .header("Accept", "*/*");
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("host"))
        {
            request = request.header("Host", &self.host);
        }
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        let request = request.body(Empty::<Bytes>::new())?;
        let exchange = async {
            sender
                .send_request(request)
                .await
                .map(|answer| answer.status().as_u16())
        };
        // The connection lives as long as the exchange, on the same task; it may end first, with the answer in hand.
        let (mut exchange, mut connection) = (std::pin::pin!(exchange), std::pin::pin!(connection));
        tokio::select! {
            biased;
            code = &mut exchange => Ok(code?),
            ended = &mut connection => {
                ended?;
                Ok(exchange.await?)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn answered_with(response: &'static str) -> Verdict {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let read = stream.read(&mut buffer).await.unwrap();
            assert!(buffer[..read].starts_with(b"GET /healthz HTTP/1.1"));
            stream.write_all(response.as_bytes()).await.unwrap();
        };
        let action = HTTPGetAction {
            path: Some("healthz".into()),
            port: IntOrString::Int(port.into()),
            ..HTTPGetAction::default()
        };
        let check = HttpCheck::from_action(
            &action,
            &Container::default(),
            Some("127.0.0.1".into()),
            Duration::from_secs(5),
        )
        .unwrap();
        tokio::join!(check.run(), server).0
    }

    #[tokio::test]
    async fn codes_decide() {
        assert_eq!(
            answered_with("HTTP/1.1 204 No Content\r\n\r\n").await,
            Verdict::Passed
        );
        let verdict = answered_with("HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(
            verdict,
            Verdict::Failed("HTTP probe failed with statuscode: 500".into())
        );
    }
}
