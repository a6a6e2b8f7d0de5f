//! Everything that is not a resource: version, health, discovery, OpenAPI, keys, metrics.

use bytes::Bytes;
use cloudeck_machinery::{Status, json, value};
use cloudeck_schema::discovery;
use cloudeck_schema::openapi::{self, Documents};
use http::{HeaderValue, Method, Request, Response, header};

use super::answer::{self, text};
use super::body::EdgeBody;
use super::connection::Edge;
use super::negotiate;
use crate::server::no_such_resource;

/// How long a document under its hash is kept.
const A_YEAR: std::time::Duration = std::time::Duration::from_hours(365 * 24);

const DISCOVERY_V2: HeaderValue = HeaderValue::from_static(discovery::AGGREGATED_CONTENT_TYPE);

pub(crate) fn answer<B>(edge: &Edge, request: &Request<B>) -> Result<Response<EdgeBody>, Status> {
    let path = request.uri().path().trim_end_matches('/');
    let query = request.uri().query().unwrap_or_default();
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Err(no_such_resource());
    }
    let aggregated = negotiate::wants_aggregated_discovery(request.headers());
    match path {
        "" => Ok(json_document(roots())),
        "/version" => Ok(json_document(version())),
        "/healthz" | "/livez" | "/readyz" => Ok(health(edge, path, query)),
        "/metrics" => Ok(text(edge.config.metrics.render())),
        "/.well-known/openid-configuration" => Ok(json_document(openid(edge))),
        "/openid/v1/jwks" => Ok(keys(edge)),
        "/api" | "/apis" if aggregated => Ok(aggregated_discovery(path)),
        _ if path.starts_with("/api") => plain_discovery(path, edge),
        _ if path.starts_with("/openapi/v3") => openapi(edge, request),
        _ => match path.strip_prefix('/').and_then(|path| path.split_once('/')) {
            Some(("healthz" | "livez" | "readyz", check)) => one_check(edge, check),
            _ => Err(no_such_resource()),
        },
    }
}

/// One of the checks that make up health.
fn one_check(edge: &Edge, check: &str) -> Result<Response<EdgeBody>, Status> {
    if !CHECKS.contains(&check) {
        return Err(no_such_resource());
    }
    if check == "etcd" && edge.server.core.store.status().poisoned.is_some() {
        return Err(Status::internal("reason withheld"));
    }
    Ok(text("ok"))
}

fn json_document(bytes: impl Into<Bytes>) -> Response<EdgeBody> {
    answer::whole(200, bytes.into(), false)
}

/// The release that the API is level with.
fn version() -> Vec<u8> {
    json::to_vec(&value!({
        "major": "1", "minor": "37", "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": (concat!("v1.37.2+cloudeck-", env!("CARGO_PKG_VERSION"))), "gitCommit": "",
        "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z", "goVersion": "none", "compiler": "rustc",
        "platform": "linux/amd64"
    }))
}

/// The checks that `?verbose` lists.
const CHECKS: [&str; 6] = [
    "ping",
    "log",
    "etcd",
    "informer-sync",
    "poststarthook/start-apiserver-admission-initializer",
    "poststarthook/rbac/bootstrap-roles",
];

fn health(edge: &Edge, path: &str, query: &str) -> Response<EdgeBody> {
    let name = path.trim_start_matches('/');
    let poisoned = edge.server.core.store.status().poisoned;
    let query = super::path::Query::parse(query);
    let left_out = |check: &str| query.all("exclude").any(|other| other == check);
    let broken = |check: &str| check == "etcd" && poisoned.is_some() && !left_out(check);
    let failed = CHECKS.iter().any(|check| broken(check));
    if !failed && query.get("verbose").is_none() {
        return text("ok");
    }
    let mut report = String::new();
    for check in CHECKS {
        let line = if broken(check) {
            format!("[-]{check} failed: reason withheld\n")
        } else if left_out(check) {
            format!("[+]{check} excluded: ok\n")
        } else {
            format!("[+]{check} ok\n")
        };
        report.push_str(&line);
    }
    report.push_str(name);
    report.push_str(if failed {
        " check failed
"
    } else {
        " check passed
"
    });
    let mut response = text(report);
    if failed {
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
    }
    response
}

fn openid(edge: &Edge) -> Vec<u8> {
    let issuer = edge.server.core.config.issuer.as_str();
    let config = &edge.server.core.config;
    let keys = format!(
        "https://{}:{}/openid/v1/jwks",
        config.advertise_address, config.advertise_port
    );
    json::to_vec(&value!({
        "issuer": (issuer), "jwks_uri": (keys), "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["ES256"]
    }))
}

fn keys(edge: &Edge) -> Response<EdgeBody> {
    let keys = edge.server.core.tokens.key_set();
    answer::of_type(
        200,
        EdgeBody::Full(json::to_vec(&keys).into()),
        HeaderValue::from_static("application/jwk-set+json"),
    )
}

fn roots() -> Vec<u8> {
    let mut paths: Vec<String> = vec![
        "/.well-known/openid-configuration".into(),
        "/api".into(),
        "/apis".into(),
    ];
    for version in cloudeck_schema::group_versions() {
        if version.group.is_empty() {
            paths.push(format!("/api/{}", version.version));
        } else {
            paths.push(format!("/apis/{}", version.group));
            paths.push(format!("/apis/{}/{}", version.group, version.version));
        }
    }
    paths.extend(
        [
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ]
        .map(String::from),
    );
    paths.sort();
    paths.dedup();
    let list = paths
        .into_iter()
        .map(cloudeck_machinery::Value::from)
        .collect::<Vec<_>>();
    json::to_vec(&value!({"paths": (list)}))
}

fn aggregated_discovery(path: &str) -> Response<EdgeBody> {
    let bytes = if path == "/api" {
        discovery::aggregated_core()
    } else {
        discovery::aggregated_groups()
    };
    answer::of_type(200, EdgeBody::Full(bytes.into()), DISCOVERY_V2)
}

fn plain_discovery(path: &str, edge: &Edge) -> Result<Response<EdgeBody>, Status> {
    let config = &edge.server.core.config;
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    let document = match segments.as_slice() {
        ["api"] => Some(discovery::core_versions(&format!(
            "{}:{}",
            config.advertise_address, config.advertise_port
        ))),
        ["apis"] => Some(discovery::groups()),
        ["api", version] => discovery::resource_list("", version),
        ["apis", group] => discovery::group(group),
        ["apis", group, version] => discovery::resource_list(group, version),
        _ => None,
    };
    document.map(json_document).ok_or_else(no_such_resource)
}

fn openapi<B>(edge: &Edge, request: &Request<B>) -> Result<Response<EdgeBody>, Status> {
    let documents = &edge.server.core.config.openapi;
    let whole = request.uri().path().trim_end_matches('/');
    let Some(path) = whole.strip_prefix("/openapi/v3/") else {
        return Ok(json_document(openapi_index(documents)));
    };
    let segments: Vec<&str> = path.split('/').collect();
    let document = match segments.as_slice() {
        ["api", version] => documents.document("", version),
        ["apis", group, version] => documents.document(group, version),
        _ => None,
    };
    let document = document.ok_or_else(no_such_resource)?;
    Ok(kept(edge, request, document))
}

/// A document that clients keep: under the hash they asked for it never changes; under another it has moved; and who
/// has it already is told so.
fn kept<B>(edge: &Edge, request: &Request<B>, document: Vec<u8>) -> Response<EdgeBody> {
    let hash = openapi::hash(&document);
    let tag = format!("\"{hash}\"");
    let query = super::path::Query::parse(request.uri().query().unwrap_or_default());
    let asked = query.get("hash").filter(|asked| !asked.is_empty());
    let known = request.headers().get_all(header::IF_NONE_MATCH).iter();
    let mut known = known.filter_map(|tags| tags.to_str().ok());
    let mut response = if asked.is_some_and(|asked| asked != hash) {
        let mut moved = answer::whole(301, Bytes::new(), false);
        let place = format!("{}?hash={hash}", request.uri().path());
        set(&mut moved, header::LOCATION, &place);
        return moved;
    } else if known.any(|tags| tags.contains(&tag)) {
        answer::whole(304, Bytes::new(), false)
    } else {
        json_document(document)
    };
    set(&mut response, header::ETAG, &tag);
    if asked.is_some() {
        let expires = edge.server.core.clock.now() + A_YEAR;
        let expires = expires.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        set(&mut response, header::EXPIRES, &expires);
        set(&mut response, header::VARY, "Accept");
        set(&mut response, header::CACHE_CONTROL, "public, immutable");
    }
    response
}

fn set(response: &mut Response<EdgeBody>, name: header::HeaderName, text: &str) {
    if let Ok(value) = HeaderValue::from_str(text) {
        response.headers_mut().insert(name, value);
    }
}

fn openapi_index(documents: &Documents) -> Vec<u8> {
    let mut paths = cloudeck_machinery::Map::new();
    for (path, hash) in documents.index() {
        let url = format!("/openapi/v3/{path}?hash={hash}");
        paths.insert(path, value!({"serverRelativeURL": (url)}));
    }
    json::to_vec(&value!({"paths": (paths)}))
}
