//! One request and its answer.

use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cloudeck_auth::{Peer, UserInfo, impersonate};
use cloudeck_client::{Body, ContentType, Verb};
use cloudeck_machinery::{Reason, Status};
use futures_util::FutureExt as _;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::answer;
use super::body::EdgeBody;
use super::connection::Edge;
use super::metrics::Counted;
use super::negotiate;
use super::path::{self, ResourceTarget, Target};
use super::{documents, node, watch};

/// The largest request body, as upstream.
const MAX_BODY: usize = 3 * 1024 * 1024;

pub(crate) async fn answer(
    edge: Arc<Edge>,
    peer: Arc<Peer>,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Infallible> {
    let audit_id = edge.server.core.ids.uuid();
    // A client that goes away takes the rest of this function with it.
    let in_flight = Counted::in_gauge(&edge.metrics.inflight);
    let (begun, method) = (Instant::now(), request.method().clone());
    let for_eyes = is_for_eyes(&request);
    let outcome = AssertUnwindSafe(respond(&edge, &peer, request))
        .catch_unwind()
        .await;
    let mut response = match outcome {
        Ok(Ok(response)) => response,
        Ok(Err(status)) => answer::status(&status),
        Err(_) => {
            tracing::error!(audit_id, "a request handler panicked");
            answer::status(&Status::internal("the request handler failed"))
        }
    };
    if for_eyes {
        response = answer::indented(response);
    }
    drop(in_flight);
    edge.metrics
        .answered(method.as_str(), response.status().as_str(), begun.elapsed());
    let headers = response.headers_mut();
    if let Ok(value) = audit_id.parse() {
        headers.insert("audit-id", value);
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(header::HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

/// Whether JSON is to be indented. Schemas are for programs, whoever fetches them.
fn is_for_eyes<B>(request: &Request<B>) -> bool {
    let uri = request.uri();
    negotiate::wants_indentation(uri.query().unwrap_or_default(), request.headers())
        && !uri.path().starts_with("/openapi")
}

async fn respond(
    edge: &Arc<Edge>,
    peer: &Peer,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let user = authenticate(edge, peer, &request)?;
    let uri = request.uri();
    match path::parse(request.method(), uri.path(), uri.query().unwrap_or_default())? {
        Target::Resource(target) => {
            let deprecation = deprecation(&target);
            let mut response = resource(edge, user, *target, request).await?;
            if let Some(warning) = deprecation {
                response.headers_mut().append(header::WARNING, warning);
            }
            Ok(response)
        }
        Target::Other => {
            edge.server
                .core
                .authorize_path(&user, request.method(), uri.path())?;
            documents::answer(edge, &request)
        }
    }
}

/// What upstream says to every request for a kind that is on its way out.
fn deprecation(target: &ResourceTarget) -> Option<header::HeaderValue> {
    let resource = &target.request.resource;
    let text = match (resource.group.as_str(), resource.resource.as_str()) {
        ("", "endpoints") => {
            "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""
        }
        ("", "componentstatuses") => "299 - \"v1 ComponentStatus is deprecated in v1.19+\"",
        _ => return None,
    };
    Some(header::HeaderValue::from_static(text))
}

/// Who asks. Without credentials only what tells of health and version answers, and only as far as RBAC lets
/// `system:unauthenticated` see it. (Upstream lets the anonymous in everywhere, to be refused by RBAC with 403.)
fn authenticate(edge: &Edge, peer: &Peer, request: &Request<Incoming>) -> Result<Arc<UserInfo>, Status> {
    const PUBLIC: [&str; 4] = ["livez", "readyz", "healthz", "version"];
    let headers = request.headers();
    let core = &edge.server.core;
    let now = core.clock.system_time();
    let user = edge
        .config
        .authenticator
        .authenticate(peer, headers, &**core, now)
        .map_err(|error| {
            tracing::debug!(error = &error as &dyn std::error::Error, "authentication failed");
            Status::unauthorized()
        })?;
    let first = request.uri().path().split('/').nth(1).unwrap_or_default();
    if user.is_unauthenticated() && !PUBLIC.contains(&first) {
        return Err(Status::unauthorized());
    }
    Ok(match impersonate(&user, headers, &*core.authorizer)? {
        Some(other) => Arc::new(other),
        None => user,
    })
}

async fn resource(
    edge: &Arc<Edge>,
    user: Arc<UserInfo>,
    mut target: ResourceTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    if node::concerns(&target.request) {
        return node::answer(edge, &user, &target, request).await;
    }
    let (parts, incoming) = request.into_parts();
    let agent = parts
        .headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    if !matches!(parts.method, Method::GET | Method::HEAD) {
        target.request.body = read_body(&parts.headers, incoming, target.request.verb).await?;
    }
    let form = match negotiate::form(&parts.headers, has_columns(edge, &target.request)) {
        Ok(form) => form,
        Err(refusal) => {
            edge.server.core.authorize(&user, &target.request)?;
            return Err(refusal);
        }
    };
    if target.request.verb == Verb::Watch {
        let (view, watcher) = edge.server.watch(&user, agent, &target.request).await?;
        return Ok(watch::respond(edge, view, watcher, form, target));
    }
    let answer = edge.server.handle(&user, agent, &target.request).await?;
    let view = edge.server.core.view(&target.request).ok();
    answer::respond(edge, view.map(|view| &**view), answer, form, &target)
}

/// Whether there are Tables of what is asked for: of what is stored, but not of a review, a token or an eviction.
fn has_columns(edge: &Edge, request: &cloudeck_client::Request) -> bool {
    let made = request.verb == Verb::Create && !request.subresource.is_empty();
    !made && edge.server.core.kinds.view(&request.resource).is_some()
}

async fn read_body(headers: &HeaderMap, incoming: Incoming, verb: Verb) -> Result<Body, Status> {
    let limited = Limited::new(incoming, MAX_BODY);
    let bytes: Bytes = match limited.collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("Request entity too large: limit is {MAX_BODY}");
            return Err(Status::new(Reason::RequestEntityTooLarge, message));
        }
        Err(error) => {
            return Err(Status::bad_request(format!(
                "reading the request's body: {error}"
            )));
        }
    };
    if bytes.is_empty() && verb != Verb::Patch {
        return Ok(Body {
            content_type: ContentType::Json,
            bytes,
        });
    }
    let content_type = negotiate::content_type(headers, verb == Verb::Patch)?;
    Ok(Body { content_type, bytes })
}

/// The code of an answer.
pub(crate) fn code(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
