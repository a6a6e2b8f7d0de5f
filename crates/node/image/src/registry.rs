//! A client of the OCI distribution API, as far as a pull needs it.
//!
//! One [`Registry`] serves one pull of one repository: it holds what was learnt on the way (plain HTTP or not, the token)
//! and nothing outlives it. Requests are retried here, redirects followed, credentials shown to the registry and its
//! token server and to nobody else.

pub(crate) mod auth;
pub(crate) mod download;
pub(crate) mod http;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use cloudeck_net::resolve::Resolver;
use cloudeck_oci::{Digest, Reference, media_type};
use cloudeck_task::Scope;
use hyper::Response;
use hyper::body::Incoming;

use crate::config::StoreConfig;
use crate::credentials::Credentials;
use crate::install::DOCUMENT_BYTES_MAX;
use auth::Challenge;
use http::{HttpClient, HttpError, Request};

const DOCKER_HUB: &str = "docker.io";
const DOCKER_HUB_HOST: &str = "registry-1.docker.io";
const REDIRECTS_MAX: usize = 5;
/// What a server says of an error is shown up to this length.
const MESSAGE_BYTES_MAX: u64 = 16 << 10;
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// One repository of one registry.
pub(crate) struct Registry {
    reference: Reference,
    authority: String,
    http: HttpClient,
    credentials: Option<Credentials>,
    /// Set once the registry turned out not to speak TLS.
    plain: AtomicBool,
    may_be_plain: bool,
    authorization: Mutex<Option<HeaderValue>>,
    retries: u32,
    retry_delay: Duration,
}

/// A manifest or index as the registry gave it.
pub(crate) struct FetchedDocument {
    pub(crate) bytes: Vec<u8>,
    pub(crate) content_type: Option<String>,
}

/// Why a registry did not give what it was asked for. Texts as a user of containerd knows them.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    #[error("{0}: not found")]
    NotFound(String),
    #[error("pull access denied, repository does not exist or may require authorization: {0}")]
    Unauthorized(String),
    #[error("registry {registry} has a limit on pulls: {message}")]
    RateLimited {
        registry: String,
        message: String,
        retry_after: Option<Duration>,
    },
    #[error("unexpected status from {method} request to {url}: {status}{message}")]
    Status {
        method: Method,
        url: String,
        status: StatusCode,
        message: String,
    },
    #[error("registry {0} asks for an authentication that is not supported")]
    Challenge(String),
    #[error("token server {0} did not give a token")]
    Token(String),
    #[error("registry {0} redirects in circles")]
    Redirects(String),
    #[error("refused to follow a redirect from {from} to {to}")]
    Downgrade { from: String, to: String },
    #[error("content ended after {received} of {expected} bytes")]
    Incomplete { received: u64, expected: u64 },
    #[error(transparent)]
    Http(#[from] HttpError),
}

impl RegistryError {
    fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Incomplete { .. } => true,
            Self::Status { status, .. } => status.is_server_error() || *status == StatusCode::REQUEST_TIMEOUT,
            Self::Http(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Registry {
    pub(crate) fn new(
        reference: &Reference,
        credentials: Option<Credentials>,
        config: &StoreConfig,
        resolver: Resolver,
        scope: &Scope,
    ) -> Self {
        let named = reference.registry();
        let authority = if named == DOCKER_HUB {
            DOCKER_HUB_HOST
        } else {
            named
        };
        let insecure = config.insecure_registries.iter().any(|other| other == named);
        Self {
            reference: reference.clone(),
            authority: authority.to_owned(),
            http: HttpClient::new(config.certificate_bundles.clone(), resolver, scope.clone()),
            credentials,
            plain: AtomicBool::new(insecure),
            may_be_plain: insecure || is_loopback(named),
            authorization: Mutex::new(None),
            retries: config.retries,
            retry_delay: config.retry_delay,
        }
    }

    /// The manifest or index under a tag or digest.
    pub(crate) async fn document(&self, key: &str) -> Result<FetchedDocument, RegistryError> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(media_type::ACCEPT_MANIFESTS));
        let path = format!("manifests/{key}");
        let mut attempt = 0;
        loop {
            match self.fetch_document(&path, &headers).await {
                Err(error) if error.is_transient() && attempt < self.retries => {
                    self.pause(attempt, &error).await;
                    attempt += 1;
                }
                outcome => return outcome,
            }
        }
    }

    async fn fetch_document(
        &self,
        path: &str,
        headers: &HeaderMap,
    ) -> Result<FetchedDocument, RegistryError> {
        let response = self.get(path, headers).await?;
        let content_type = response
            .headers()
            .get(CONTENT_TYPE)
            .and_then(|value| value.to_str().ok());
        let content_type =
            content_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_owned());
        let bytes = http::read_body(response.into_body(), DOCUMENT_BYTES_MAX, &self.authority).await?;
        Ok(FetchedDocument { bytes, content_type })
    }

    /// The body of a blob from byte `start` on, if the server can do that; and where it really starts.
    pub(super) async fn blob(&self, digest: &Digest, start: u64) -> Result<(Incoming, u64), RegistryError> {
        let mut headers = HeaderMap::new();
        if start > 0 {
            let range = HeaderValue::try_from(format!("bytes={start}-"));
            headers.insert(RANGE, range.expect("digits are a header value"));
        }
        let path = format!("blobs/{digest}");
        let response = match self.get(&path, &headers).await {
            Err(RegistryError::Status {
                status: StatusCode::RANGE_NOT_SATISFIABLE,
                ..
            }) => self.get(&path, &HeaderMap::new()).await?,
            other => other?,
        };
        let resumed = response.status() == StatusCode::PARTIAL_CONTENT;
        Ok((response.into_body(), if resumed { start } else { 0 }))
    }

    /// Waits before the next attempt: longer each time, or as long as the server asked.
    pub(super) async fn pause(&self, attempt: u32, error: &RegistryError) {
        let own = self.retry_delay.saturating_mul(1 << attempt.min(6));
        let asked = match error {
            RegistryError::RateLimited { retry_after, .. } => retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        let delay = own.max(asked);
        tracing::debug!(registry = self.authority, attempt, error = %error, "retrying a registry request");
        tokio::time::sleep(delay.min(PAUSE_MAX)).await;
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    /// Sends a request, with the authorization that the registry wants.
    async fn get(&self, path: &str, headers: &HeaderMap) -> Result<Response<Incoming>, RegistryError> {
        for first in [true, false] {
            let url = self.url(path)?;
            let mut request = Request {
                url,
                method: Method::GET,
                headers: headers.clone(),
                body: None,
            };
            let shown = self.authorization();
            request
                .headers
                .extend(shown.clone().map(|value| (AUTHORIZATION, value)));
            let response = self.follow(request).await?;
            if response.status() != StatusCode::UNAUTHORIZED || !first {
                return self.check(path, response).await;
            }
            // The first answer of most registries, and what a token that ran out gets.
            let challenges = response.headers().get_all(WWW_AUTHENTICATE).iter();
            let challenges: Vec<_> = challenges
                .filter_map(|value| Challenge::parse(value.to_str().ok()?))
                .collect();
            match self.authorize(&challenges).await? {
                Some(value) => self.set_authorization(value),
                None => return self.check(path, response).await,
            }
        }
        unreachable!("the second round returns")
    }

    /// Follows redirects. Credentials stay with the host they are for, and TLS is not given up on the way.
    async fn follow(&self, mut request: Request) -> Result<Response<Incoming>, RegistryError> {
        for _ in 0..=REDIRECTS_MAX {
            let response = self.send(&mut request).await?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = response
                .headers()
                .get(LOCATION)
                .and_then(|value| value.to_str().ok())
            else {
                return Ok(response);
            };
            let target = http::join(&request.url, location)?;
            if request.url.scheme_str() == Some("https") && target.scheme_str() != Some("https") {
                return Err(RegistryError::Downgrade {
                    from: request.url.to_string(),
                    to: target.to_string(),
                });
            }
            let same_host =
                target.authority() == request.url.authority() && target.scheme() == request.url.scheme();
            if !same_host {
                request.headers.remove(AUTHORIZATION);
            }
            request.url = target;
        }
        Err(RegistryError::Redirects(self.authority.clone()))
    }

    /// Registries on loopback may speak plain HTTP: an answer that is no TLS tells.
    async fn send(&self, request: &mut Request) -> Result<Response<Incoming>, RegistryError> {
        match self.http.send(request).await {
            Err(HttpError::NotTls(_))
                if self.may_be_plain
                    && request
                        .url
                        .authority()
                        .is_some_and(|authority| *authority == self.authority) =>
            {
                self.plain.store(true, Ordering::Relaxed);
                request.url = http::with_scheme(&request.url, "http")?;
                Ok(self.http.send(request).await?)
            }
            outcome => Ok(outcome?),
        }
    }

    async fn check(
        &self,
        path: &str,
        response: Response<Incoming>,
    ) -> Result<Response<Incoming>, RegistryError> {
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|v| v.to_str().ok()?.parse::<u64>().ok());
        let url = self.url(path)?.to_string();
        let body = http::read_body(response.into_body(), MESSAGE_BYTES_MAX, &self.authority).await;
        let message = auth::error_message(&body.unwrap_or_default());
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound(self.reference.to_string()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                RegistryError::Unauthorized(message.unwrap_or_else(|| format!("server answered {status}")))
            }
            StatusCode::TOO_MANY_REQUESTS => {
                let message = message.unwrap_or_else(|| "too many requests".to_owned());
                let retry_after = retry_after.map(Duration::from_secs);
                RegistryError::RateLimited {
                    registry: self.authority.clone(),
                    message,
                    retry_after,
                }
            }
            _ => {
                let message = message.map(|text| format!(": {text}")).unwrap_or_default();
                RegistryError::Status {
                    method: Method::GET,
                    url,
                    status,
                    message,
                }
            }
        })
    }

    fn url(&self, path: &str) -> Result<Uri, HttpError> {
        let scheme = if self.plain.load(Ordering::Relaxed) {
            "http"
        } else {
            "https"
        };
        http::parse(&format!(
            "{scheme}://{}/v2/{}/{path}",
            self.authority,
            self.reference.repository()
        ))
    }

    fn authorization(&self) -> Option<HeaderValue> {
        self.lock_authorization().clone()
    }

    fn set_authorization(&self, value: HeaderValue) {
        *self.lock_authorization() = Some(value);
    }

    fn lock_authorization(&self) -> std::sync::MutexGuard<'_, Option<HeaderValue>> {
        self.authorization
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn is_loopback(registry: &str) -> bool {
    let host = match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => registry,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
