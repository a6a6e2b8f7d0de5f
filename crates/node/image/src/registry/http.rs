//! HTTP requests to one host at a time: name, connection, TLS, one exchange.
//!
//! One connection per request: a pull makes a handful of requests to two or three hosts, so a pool would only add
//! memory that an idle daemon keeps.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cloudeck_net::resolve::{ResolveError, Resolver};
use cloudeck_task::Scope;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderValue, Method, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Response;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// For one address of a host.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of the answer.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// Between two pieces of a body.
pub(crate) const STALL_TIMEOUT: Duration = Duration::from_mins(1);

/// A request whose parts may change on a redirect.
pub(crate) struct Request {
    pub(crate) url: Uri,
    pub(crate) method: Method,
    pub(crate) headers: HeaderMap,
    /// Content type and bytes.
    pub(crate) body: Option<(&'static str, Bytes)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("malformed URL {0:?}")]
    Url(String),
    #[error("failed to resolve {host}")]
    Resolve {
        host: String,
        #[source]
        source: ResolveError,
    },
    #[error("failed to connect to {host}")]
    Connect {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("TLS with {host} failed")]
    Tls {
        host: String,
        #[source]
        source: io::Error,
    },
    #[error("{0} does not speak TLS (an insecure registry must be configured as such)")]
    NotTls(String),
    #[error("no usable certificate authorities in any of {0:?}")]
    Roots(Vec<PathBuf>),
    #[error("exchange with {host} failed")]
    Exchange {
        host: String,
        #[source]
        source: hyper::Error,
    },
    #[error("{0} did not answer in time")]
    TimedOut(String),
    #[error("answer of {host} is larger than {limit} bytes")]
    TooLarge { host: String, limit: u64 },
}

impl HttpError {
    /// Whether the next attempt may end otherwise. A refused connection is left to the caller's own back-off.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Exchange { .. } | Self::TimedOut(_) => true,
            Self::Connect { source, .. } => source.kind() != io::ErrorKind::ConnectionRefused,
            Self::Tls { source, .. } => source.kind() != io::ErrorKind::InvalidData,
            _ => false,
        }
    }
}

pub(crate) struct HttpClient {
    bundles: Vec<PathBuf>,
    resolver: Resolver,
    scope: Scope,
    /// Read when the first TLS connection needs it: certificates of all authorities take half a megabyte.
    tls: OnceLock<Arc<ClientConfig>>,
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl HttpClient {
    pub(crate) fn new(bundles: Vec<PathBuf>, resolver: Resolver, scope: Scope) -> Self {
        Self {
            bundles,
            resolver,
            scope,
            tls: OnceLock::new(),
        }
    }

    /// Sends one request and returns the head of the answer; its body still arrives.
    pub(crate) async fn send(&self, request: &Request) -> Result<Response<Incoming>, HttpError> {
        let authority = request
            .url
            .authority()
            .map(ToString::to_string)
            .unwrap_or_default();
        let stream = self.connect(&request.url).await?;
        let failed = |source| HttpError::Exchange {
            host: authority.clone(),
            source,
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
        self.scope
            .spawn_until_shutdown("registry connection", async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "registry connection ended");
                }
            });
        let message = message(request, &authority)?;
        match timeout(ANSWER_TIMEOUT, sender.send_request(message)).await {
            Ok(answer) => answer.map_err(failed),
            Err(_) => Err(HttpError::TimedOut(authority)),
        }
    }

    async fn connect(&self, url: &Uri) -> Result<Box<dyn Stream>, HttpError> {
        let host = url.host().ok_or_else(|| HttpError::Url(url.to_string()))?;
        let secure = url.scheme_str() == Some("https");
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let tcp = self.connect_tcp(host, port).await?;
        if !secure {
            return Ok(Box::new(tcp));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(bare).map_err(|_| HttpError::Url(url.to_string()))?;
        let connector = TlsConnector::from(self.tls()?);
        match timeout(CONNECT_TIMEOUT, connector.connect(name, tcp)).await {
            Err(_) => Err(HttpError::TimedOut(host.to_owned())),
            Ok(Ok(stream)) => Ok(Box::new(stream)),
            Ok(Err(source)) if is_not_tls(&source) => Err(HttpError::NotTls(host.to_owned())),
            Ok(Err(source)) => Err(HttpError::Tls {
                host: host.to_owned(),
                source,
            }),
        }
    }

    async fn connect_tcp(&self, host: &str, port: u16) -> Result<TcpStream, HttpError> {
        let addresses = self.resolver.lookup(host).await;
        let addresses = addresses.map_err(|source| HttpError::Resolve {
            host: host.to_owned(),
            source,
        })?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in addresses {
            match timeout(CONNECT_TIMEOUT, TcpStream::connect((address, port))).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(HttpError::Connect {
            host: format!("{host}:{port}"),
            source: last,
        })
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring has the suites of TLS 1.2 and 1.3")
            .with_root_certificates(self.roots()?)
            .with_no_client_auth();
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }

    fn roots(&self) -> Result<RootCertStore, HttpError> {
        for bundle in &self.bundles {
            let Ok(certificates) = CertificateDer::pem_file_iter(bundle) else {
                continue;
            };
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates.filter_map(Result::ok));
            if !roots.is_empty() {
                return Ok(roots);
            }
        }
        Err(HttpError::Roots(self.bundles.clone()))
    }
}

fn message(request: &Request, authority: &str) -> Result<hyper::Request<Full<Bytes>>, HttpError> {
    let malformed = || HttpError::Url(request.url.to_string());
    let path = request.url.path_and_query().ok_or_else(malformed)?.clone();
    let (content_type, body) = match &request.body {
        Some((content_type, bytes)) => (Some(*content_type), bytes.clone()),
        None => (None, Bytes::new()),
    };
    let mut message = hyper::Request::new(Full::new(body));
    *message.method_mut() = request.method.clone();
    *message.uri_mut() = Uri::from(path);
    *message.headers_mut() = request.headers.clone();
    let headers = message.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(authority).map_err(|_| malformed())?);
    headers.insert(
        USER_AGENT,
        HeaderValue::from_static(concat!("cloudeck/", env!("CARGO_PKG_VERSION"))),
    );
    if let Some(content_type) = content_type {
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    Ok(message)
}

/// Whether the other side answered the greeting with something that is no TLS record, or hung up.
fn is_not_tls(error: &io::Error) -> bool {
    let tls = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(tls, Some(rustls::Error::InvalidMessage(_)))
}

/// Reads a body whole.
pub(crate) async fn read_body(body: Incoming, limit: u64, host: &str) -> Result<Vec<u8>, HttpError> {
    let limited = Limited::new(body, usize::try_from(limit).unwrap_or(usize::MAX));
    match timeout(STALL_TIMEOUT, limited.collect()).await {
        Err(_) => Err(HttpError::TimedOut(host.to_owned())),
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(HttpError::TooLarge {
            host: host.to_owned(),
            limit,
        }),
        Ok(Err(error)) => match error.downcast::<hyper::Error>() {
            Ok(source) => Err(HttpError::Exchange {
                host: host.to_owned(),
                source: *source,
            }),
            Err(_) => Err(HttpError::TimedOut(host.to_owned())),
        },
    }
}

pub(crate) fn parse(url: &str) -> Result<Uri, HttpError> {
    let parsed: Uri = url.parse().map_err(|_| HttpError::Url(url.to_owned()))?;
    let usable =
        matches!(parsed.scheme_str(), Some("http" | "https")) && parsed.host().is_some_and(|h| !h.is_empty());
    if usable {
        Ok(parsed)
    } else {
        Err(HttpError::Url(url.to_owned()))
    }
}

/// A redirect's target, which may be relative to the host or carry no scheme.
pub(crate) fn join(base: &Uri, location: &str) -> Result<Uri, HttpError> {
    let scheme = base.scheme_str().unwrap_or("https");
    let authority = base.authority().map(ToString::to_string).unwrap_or_default();
    if location.starts_with("//") {
        return parse(&format!("{scheme}:{location}"));
    }
    if location.starts_with('/') {
        return parse(&format!("{scheme}://{authority}{location}"));
    }
    parse(location)
}

pub(crate) fn with_scheme(url: &Uri, scheme: &str) -> Result<Uri, HttpError> {
    let authority = url.authority().map(ToString::to_string).unwrap_or_default();
    let path = url.path_and_query().map(ToString::to_string).unwrap_or_default();
    parse(&format!("{scheme}://{authority}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_joined_and_only_http_is_a_target() {
        let base = parse("https://r.io:5000/v2/x/blobs/y").unwrap();
        let joined = |location| join(&base, location).map(|url| url.to_string()).ok();
        assert_eq!(joined("/blob?x=1").as_deref(), Some("https://r.io:5000/blob?x=1"));
        assert_eq!(joined("//cdn.io/blob").as_deref(), Some("https://cdn.io/blob"));
        assert_eq!(
            joined("http://cdn.io/blob").as_deref(),
            Some("http://cdn.io/blob")
        );
        assert_eq!(joined("file:///etc/passwd"), None);
        assert_eq!(joined("relative"), None);
    }
}
