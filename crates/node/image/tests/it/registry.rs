//! A registry that the tests run: it serves what it is given, and misbehaves as told.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine;
use bytes::Bytes;
use cloudeck_task::Scope;
use futures_util::StreamExt;
use http::{Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::archive::{config_file, digest, gzip, manifest};

type Body = UnsyncBoxBody<Bytes, std::io::Error>;
type Request = hyper::Request<Incoming>;

/// Who is let in.
#[derive(Clone)]
pub(crate) enum Guard {
    Open,
    Basic(&'static str, &'static str),
    /// Tokens from `/token`, for everybody (`None`) or for one user.
    Token(Option<(&'static str, &'static str)>),
    /// A refresh token exchanged at `/token`.
    Identity(&'static str),
}

pub(crate) struct State {
    pub(crate) guard: Guard,
    /// By path below `/v2/`, with content type.
    pub(crate) content: HashMap<String, (String, Vec<u8>)>,
    /// Requests to be answered with these first.
    pub(crate) failures: Vec<StatusCode>,
    /// Blobs break off after so many bytes.
    pub(crate) break_after: Option<usize>,
    pub(crate) ranges: bool,
    pub(crate) redirect_blobs_to: Option<String>,
    /// Tokens given so far; only the last is valid.
    pub(crate) tokens: usize,
    /// Path, range and authorization of each request.
    pub(crate) log: Vec<(String, Option<String>, Option<String>)>,
}

pub(crate) struct TestRegistry {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<Mutex<State>>,
    /// Blob requests wait for a permit each.
    pub(crate) gate: Arc<Semaphore>,
    scope: Scope,
}

/// A certificate for `localhost` that signs itself.
pub(crate) fn certificate() -> (String, tokio_rustls::TlsAcceptor) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (made.cert.pem(), Arc::new(config).into())
}

impl TestRegistry {
    pub(crate) async fn start(guard: Guard) -> Self {
        Self::start_with(guard, None).await
    }

    pub(crate) async fn start_with(guard: Guard, tls: Option<tokio_rustls::TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State {
            guard,
            content: HashMap::new(),
            failures: Vec::new(),
            break_after: None,
            ranges: true,
            redirect_blobs_to: None,
            tokens: 0,
            log: Vec::new(),
        }));
        let gate = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
        let scope = Scope::root("registry");
        let (accept_scope, accept_state, accept_gate) =
            (scope.clone(), Arc::clone(&state), Arc::clone(&gate));
        scope.spawn_until_shutdown("accept", async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (state, gate, tls) = (Arc::clone(&accept_state), Arc::clone(&accept_gate), tls.clone());
                accept_scope.spawn_until_shutdown("connection", async move {
                    let service = service_fn(move |request| {
                        let (state, gate) = (Arc::clone(&state), Arc::clone(&gate));
                        async move { Ok::<_, Infallible>(serve(&state, &gate, address, request).await) }
                    });
                    let server = hyper::server::conn::http1::Builder::new();
                    // A client that hangs up, or says something that is no HTTP, is part of the tests.
                    let _ = match tls {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => return,
                        },
                    };
                });
            }
        });
        Self {
            address,
            state,
            gate,
            scope,
        }
    }

    pub(crate) fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    pub(crate) fn put(&self, path: &str, content_type: &str, bytes: &[u8]) {
        let entry = (content_type.to_owned(), bytes.to_vec());
        self.state.lock().unwrap().content.insert(path.to_owned(), entry);
    }

    /// Publishes an image of compressed layers; returns its manifest.
    pub(crate) fn publish(&self, repository: &str, tag: &str, layers: &[Vec<u8>], config: &Value) -> Vec<u8> {
        let config = config_file(layers, config);
        let compressed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
        let manifest = manifest(&config, &compressed);
        for blob in compressed.iter().chain([&config]) {
            self.put(
                &format!("{repository}/blobs/{}", digest(blob)),
                "application/octet-stream",
                blob,
            );
        }
        let kind = "application/vnd.oci.image.manifest.v1+json";
        self.put(&format!("{repository}/manifests/{tag}"), kind, &manifest);
        self.put(
            &format!("{repository}/manifests/{}", digest(&manifest)),
            kind,
            &manifest,
        );
        manifest
    }

    /// How many requests had this in their path.
    pub(crate) fn requests(&self, part: &str) -> usize {
        self.state
            .lock()
            .unwrap()
            .log
            .iter()
            .filter(|(path, ..)| path.contains(part))
            .count()
    }
}

impl Drop for TestRegistry {
    fn drop(&mut self) {
        self.scope.request_shutdown();
    }
}

fn respond(status: StatusCode, kind: &str, bytes: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, kind)
        .body(body)
        .unwrap()
}

fn error(status: StatusCode, code: &str, message: &str) -> Response<Body> {
    let body = json!({ "errors": [{ "code": code, "message": message }] }).to_string();
    respond(status, "application/json", body)
}

async fn serve(
    state: &Mutex<State>,
    gate: &Semaphore,
    address: SocketAddr,
    request: Request,
) -> Response<Body> {
    let header = |name| {
        request
            .headers()
            .get(name)
            .map(|value| value.to_str().unwrap().to_owned())
    };
    let path = request.uri().path().to_owned();
    let (range, authorization) = (header(header::RANGE), header(header::AUTHORIZATION));
    state
        .lock()
        .unwrap()
        .log
        .push((path.clone(), range.clone(), authorization.clone()));
    if path == "/token" {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        return token(
            &mut state.lock().unwrap(),
            &query,
            &body,
            authorization.as_deref(),
        );
    }
    if path.contains("/blobs/") {
        gate.acquire().await.unwrap().forget();
    }
    let mut state = state.lock().unwrap();
    if let Some(status) = (!state.failures.is_empty()).then(|| state.failures.remove(0)) {
        return error(status, "UNAVAILABLE", "try again");
    }
    if let Some(refusal) = refuse(&state, address, authorization.as_deref()) {
        return refusal;
    }
    let key = path.trim_start_matches("/v2/");
    if let Some(target) = state
        .redirect_blobs_to
        .as_ref()
        .filter(|_| path.contains("/blobs/"))
    {
        let mut response = respond(StatusCode::TEMPORARY_REDIRECT, "text/plain", "");
        response
            .headers_mut()
            .insert(header::LOCATION, format!("{target}{path}").parse().unwrap());
        return response;
    }
    match state.content.get(key) {
        None => error(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
        Some((kind, bytes)) if path.contains("/blobs/") => blob(&state, kind, bytes, range.as_deref()),
        Some((kind, bytes)) => respond(StatusCode::OK, kind, bytes.clone()),
    }
}

fn blob(state: &State, kind: &str, bytes: &[u8], range: Option<&str>) -> Response<Body> {
    let start = range.and_then(|range| {
        range
            .strip_prefix("bytes=")?
            .strip_suffix('-')?
            .parse::<usize>()
            .ok()
    });
    let start = start.filter(|_| state.ranges).unwrap_or(0);
    let rest = &bytes[start..];
    let status = if start > 0 {
        StatusCode::PARTIAL_CONTENT
    } else {
        StatusCode::OK
    };
    let Some(limit) = state.break_after.filter(|limit| *limit < rest.len()) else {
        return respond(status, kind, rest.to_vec());
    };
    let piece = Ok(Frame::data(Bytes::copy_from_slice(&rest[..limit])));
    // The server sends what it has only when the body lets it wait.
    let failure = futures_util::stream::once(async {
        tokio::task::yield_now().await;
        Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
    });
    let pieces = futures_util::stream::iter([piece]).chain(failure);
    let body = BodyExt::boxed_unsync(StreamBody::new(pieces.boxed()));
    Response::builder()
        .status(status)
        .header(header::CONTENT_LENGTH, rest.len())
        .body(body)
        .unwrap()
}

fn basic(user: &str, password: &str) -> String {
    format!(
        "Basic {}",
        base64::engine::general_purpose::STANDARD.encode(format!("{user}:{password}"))
    )
}

fn refuse(state: &State, address: SocketAddr, authorization: Option<&str>) -> Option<Response<Body>> {
    let challenge = match &state.guard {
        Guard::Open => return None,
        Guard::Basic(user, password) if authorization == Some(&basic(user, password)) => return None,
        Guard::Basic(..) => "Basic realm=\"test\"".to_owned(),
        Guard::Token(_) | Guard::Identity(_)
            if authorization == Some(&format!("Bearer t{}", state.tokens)) =>
        {
            return None;
        }
        Guard::Token(_) | Guard::Identity(_) => {
            format!(
                "Bearer realm=\"http://{address}/token\",service=\"test\",scope=\"repository:team/app:pull\""
            )
        }
    };
    let mut response = error(
        StatusCode::UNAUTHORIZED,
        "UNAUTHORIZED",
        "authentication required",
    );
    response
        .headers_mut()
        .insert(header::WWW_AUTHENTICATE, challenge.parse().unwrap());
    Some(response)
}

fn token(state: &mut State, query: &str, body: &[u8], authorization: Option<&str>) -> Response<Body> {
    let body = String::from_utf8(body.to_vec()).unwrap();
    let allowed = match &state.guard {
        Guard::Token(None) => query == "service=test&scope=repository:team/app:pull",
        Guard::Token(Some((user, password))) => authorization == Some(&basic(user, password)),
        Guard::Identity(token) => body.contains(&format!("refresh_token={token}")),
        Guard::Open | Guard::Basic(..) => false,
    };
    if !allowed {
        return respond(
            StatusCode::UNAUTHORIZED,
            "application/json",
            r#"{"details":"incorrect username or password"}"#,
        );
    }
    state.tokens += 1;
    respond(
        StatusCode::OK,
        "application/json",
        json!({ "token": format!("t{}", state.tokens) }).to_string(),
    )
}
