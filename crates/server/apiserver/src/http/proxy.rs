//! `…/pods/NAME/proxy/…`, `…/services/NAME/proxy/…` and `…/nodes/NAME/proxy/…`: HTTP to a pod or a machine, through
//! the API server and its authorisation.
//!
//! Absence: protocol upgrades.
//!
//! Source: `ResourceLocation` of `pkg/registry/core/{node,pod,service}`.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cloudeck_client::Request as ApiRequest;
use cloudeck_machinery::{Reason, Status, Value};
use futures_util::StreamExt as _;
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use hyper::body::Incoming;

use super::body::EdgeBody;
use super::connection::Edge;
use super::links::{self, Origin};
use super::path::ResourceTarget;
use super::{node, node_target, relay};
use crate::server::Core;

/// Longer pages are passed on with their links as they are.
const LONGEST_PAGE: usize = 4 << 20;

/// Where a pod listens.
#[derive(Debug, PartialEq, Eq)]
struct Place {
    ip: IpAddr,
    port: u16,
    tls: bool,
}

/// `scheme:name:port`, of which only the name must be there.
#[derive(Debug, PartialEq, Eq)]
struct Named<'a> {
    scheme: &'a str,
    name: &'a str,
    port: &'a str,
}

impl<'a> Named<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let sound = !name.is_empty() && matches!(scheme, "" | "http" | "https");
        sound.then_some(Self { scheme, name, port })
    }
}

pub(crate) async fn answer(
    edge: &Arc<Edge>,
    target: &ResourceTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let (api, core) = (&target.request, &edge.server.core);
    let of_service = api.resource.resource == "services";
    let kind = if of_service { "service" } else { "pod" };
    let named = Named::read(&api.name)
        .ok_or_else(|| Status::bad_request(format!("invalid {kind} request {:?}", api.name)))?;
    let mut place = if of_service {
        service_place(core, &api.namespace, &named)?
    } else {
        let pod = core.stored("", "pods").cache.get(&api.namespace, named.name);
        let pod = pod.ok_or_else(|| Status::not_found("", "pods", named.name))?;
        pod_place(&pod.tree(), named.port)?
    };
    place.tls = named.scheme == "https";
    forward(edge, &place, target, request).await
}

/// The path through which something is reached, and the path there, which is empty or begins with a slash.
fn split_path<'a>(path: &'a str, api: &ApiRequest) -> (&'a str, &'a str) {
    let before = if api.namespace.is_empty() { 5 } else { 7 };
    let ends = path
        .match_indices('/')
        .map(|(at, _)| at)
        .filter(|at| *at > 0 && !path[..*at].ends_with('/'));
    let mut ends = ends.skip(before - 1);
    path.split_at(ends.next().unwrap_or(path.len()))
}

/// Relative links of a page work only if the path of its top ends with a slash.
fn to_slash(request: &Request<Incoming>, rest: &str) -> Option<Response<EdgeBody>> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads || !rest.is_empty() || node::is_websocket(request.headers()) {
        return None;
    }
    let query = question(request.uri());
    let location = HeaderValue::from_str(&format!("{}/{query}", request.uri().path())).ok()?;
    let mut response = Response::new(EdgeBody::Full(Bytes::new()));
    *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
    response.headers_mut().insert(header::LOCATION, location);
    Some(response)
}

fn question(uri: &Uri) -> String {
    uri.query().map_or_else(String::new, |query| format!("?{query}"))
}

/// The node's own server, or another port of the machine if the name has one.
///
/// Source: `ResourceLocation` of `pkg/registry/core/node`.
pub(super) async fn to_node(
    edge: &Arc<Edge>,
    target: &ResourceTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let name = &target.request.name;
    let named =
        Named::read(name).ok_or_else(|| Status::bad_request(format!("invalid node request {name:?}")))?;
    let nodes = edge.server.core.stored("", "nodes");
    let node = nodes.cache.get("", named.name);
    let node = node.ok_or_else(|| Status::not_found("", "nodes", named.name))?;
    let (_, rest) = split_path(request.uri().path(), &target.request);
    let path = format!("/{}{}", rest.trim_start_matches('/'), question(request.uri()));
    let own = node_target::proxy(&node.tree(), named.name, path)?;
    let port = match named.port {
        "" => own.port,
        text => text
            .parse()
            .map_err(|_| Status::bad_request(format!("invalid node request {name:?}")))?,
    };
    if port == own.port {
        return match to_slash(&request, rest) {
            Some(answer) => Ok(answer),
            None => node::pass(edge, &own, request).await,
        };
    }
    let tls = named.scheme == "https";
    match own.address.parse() {
        Ok(ip) if is_of_the_network(ip) => forward(edge, &Place { ip, port, tls }, target, request).await,
        _ => Err(Status::bad_request("address not allowed")),
    }
}

/// The pod's address and the port that is asked for, or the first that it tells of.
fn pod_place(pod: &Value, port: &str) -> Result<Place, Status> {
    let told = pod
        .items_at(&["spec", "containers"])
        .iter()
        .find_map(|container| container.items_at(&["ports"]).first()?.int_at(&["containerPort"]));
    let port = match port {
        "" => u16::try_from(told.unwrap_or(80)).ok(),
        text => text.parse().ok(),
    };
    let port = port.ok_or_else(|| Status::bad_request("the port of a pod is a number"))?;
    let address = pod.str_at(&["status", "podIP"]).unwrap_or_default();
    match address.parse() {
        Ok(ip) if is_of_the_network(ip) => Ok(Place { ip, port, tls: false }),
        _ => Err(Status::bad_request("address not allowed")),
    }
}

/// Not of the machine itself, nor of one link: a pod's status must not open the server's own surroundings.
fn is_of_the_network(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || local)
}

/// A ready pod of the service, by lot.
fn service_place(core: &Core, namespace: &str, named: &Named<'_>) -> Result<Place, Status> {
    let unavailable = |why: String| Status::new(Reason::ServiceUnavailable, why);
    let mut port_name = named.port.to_owned();
    if let Ok(number) = named.port.parse::<i64>() {
        let service = core.stored("", "services").cache.get(namespace, named.name);
        let service = service.ok_or_else(|| Status::not_found("", "services", named.name))?;
        let tree = service.tree();
        let mut ports = tree.items_at(&["spec", "ports"]).iter();
        let port = ports.find(|port| port.int_at(&["port"]) == Some(number));
        let port = port.ok_or_else(|| {
            unavailable(format!(
                "no service port {number} found for service {:?}",
                named.name
            ))
        })?;
        port.str_at(&["name"])
            .unwrap_or_default()
            .clone_into(&mut port_name);
    }
    let slices = core.stored("discovery.k8s.io", "endpointslices");
    let owner = "kubernetes.io/service-name";
    let (snapshot, _) = slices
        .cache
        .snapshot(namespace, &core.frontier, None, usize::MAX, |slice| {
            slice.tree().str_at(&["metadata", "labels", owner]) == Some(named.name)
        });
    let mut places = Vec::new();
    for slice in &snapshot.objects {
        slice_places(core, namespace, &slice.tree(), &port_name, &mut places);
    }
    if places.is_empty() {
        return Err(unavailable(format!(
            "no endpoints available for service {:?}",
            named.name
        )));
    }
    let drawn = u32::from_le_bytes(core.ids.bytes()) as usize % places.len();
    Ok(places.swap_remove(drawn))
}

/// The ready endpoints of a slice that are really pods of the namespace.
fn slice_places(core: &Core, namespace: &str, slice: &Value, port_name: &str, places: &mut Vec<Place>) {
    let mut ports = slice.items_at(&["ports"]).iter();
    let port = ports.find(|port| port.str_at(&["name"]).unwrap_or_default() == port_name);
    let Some(port) = port.and_then(|port| u16::try_from(port.int_at(&["port"])?).ok()) else {
        return;
    };
    for endpoint in slice.items_at(&["endpoints"]) {
        let ready = endpoint.bool_at(&["conditions", "ready"]) != Some(false);
        let pod = endpoint.str_at(&["targetRef", "name"]).unwrap_or_default();
        let pod = core.stored("", "pods").cache.get(namespace, pod);
        let Some(pod) = pod.filter(|_| ready) else {
            continue;
        };
        let tree = pod.tree();
        let own = tree.str_at(&["status", "podIP"]);
        for address in endpoint.items_at(&["addresses"]).iter().filter_map(Value::as_str) {
            if let Ok(ip) = address.parse()
                && Some(address) == own
                && is_of_the_network(ip)
            {
                places.push(Place { ip, port, tls: false });
            }
        }
    }
}

async fn forward(
    edge: &Arc<Edge>,
    place: &Place,
    target: &ResourceTarget,
    request: Request<Incoming>,
) -> Result<Response<EdgeBody>, Status> {
    let uri = request.uri().clone();
    let (prefix, rest) = split_path(uri.path(), &target.request);
    if let Some(answer) = to_slash(&request, rest) {
        return Ok(answer);
    }
    let Place { ip, port, tls } = place;
    let failed = |error: &dyn std::fmt::Display| {
        let why = format!("error trying to reach service: dial tcp {ip}:{port}: {error}");
        Status::new(Reason::ServiceUnavailable, why)
    };
    let nodes = &edge.config.nodes;
    let stream = if *tls {
        nodes.dial_unverified(*ip, *port)
    } else {
        nodes.dial_plain(*ip, *port)
    };
    let stream = match tokio::time::timeout(node::DIAL_TIMEOUT, stream).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(failed(&error)),
        Err(elapsed) => return Err(failed(&elapsed)),
    };
    let sender = relay::speak(edge, "proxied-connection", stream).await;
    let mut sender = sender.map_err(|error| failed(&error))?;
    let (parts, body) = request.into_parts();
    let host = format!("{ip}:{port}");
    let path = format!("/{}{}", rest.trim_start_matches('/'), question(&uri));
    let mut outgoing = Request::builder().method(&parts.method).uri(path);
    if let Some(headers) = outgoing.headers_mut() {
        for (name, value) in parts.headers.iter().filter(|(name, _)| passes(name)) {
            headers.append(name.clone(), value.clone());
        }
    }
    let outgoing = outgoing
        .header(header::HOST, &host)
        .header("x-forwarded-uri", uri.path())
        .body(body)
        .map_err(Status::internal)?;
    let answer = sender
        .send_request(outgoing)
        .await
        .map_err(|error| failed(&error))?;
    let asked_host = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok());
    let asked_host = asked_host.or(uri.authority().map(Authority::as_str));
    let origin = Origin {
        host: &host,
        asked_host: asked_host.unwrap_or_default(),
        prefix,
    };
    let answer = relay::back(answer, sender, passes);
    Ok(with_links(answer, &origin, parts.method == Method::HEAD).await)
}

/// The answer with its links, in a page or to another place, leading back through the proxy.
async fn with_links(mut answer: Response<EdgeBody>, origin: &Origin<'_>, head: bool) -> Response<EdgeBody> {
    if let Some(location) = text(answer.headers(), &header::LOCATION) {
        let other = origin
            .link(location)
            .and_then(|other| HeaderValue::from_str(&other).ok());
        if let Some(other) = other {
            answer.headers_mut().insert(header::LOCATION, other);
        }
        return answer;
    }
    if head || !is_page(answer.headers()) {
        return answer;
    }
    let (mut parts, body) = answer.into_parts();
    let EdgeBody::Stream(mut stream) = body else {
        return Response::from_parts(parts, body);
    };
    let mut page = BytesMut::new();
    while let Some(chunk) = stream.next().await {
        page.extend_from_slice(&chunk);
        if page.len() > LONGEST_PAGE {
            let begun = futures_util::stream::iter([page.freeze()]);
            return Response::from_parts(parts, EdgeBody::Stream(Box::pin(begun.chain(stream))));
        }
    }
    let page = match std::str::from_utf8(&page) {
        Ok(text) => links::rewrite(text, origin).into(),
        Err(_) => page.freeze(),
    };
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, EdgeBody::Full(page))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// Whether links can be found in it.
fn is_page(headers: &HeaderMap) -> bool {
    let content_type = text(headers, &header::CONTENT_TYPE).unwrap_or_default();
    let media_type = content_type.split(';').next().unwrap_or_default();
    media_type.trim() == "text/html" && !headers.contains_key(header::CONTENT_ENCODING)
}

/// Credentials stay here, and what is about one connection concerns no other.
fn passes(name: &HeaderName) -> bool {
    match *name {
        header::CONNECTION
        | header::UPGRADE
        | header::TE
        | header::TRAILER
        | header::TRANSFER_ENCODING
        | header::PROXY_AUTHORIZATION => false,
        _ => !relay::is_credential(name),
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        let read = |text| Named::read(text).map(|named| (named.scheme, named.name, named.port));
        assert_eq!(read("web"), Some(("", "web", "")));
        assert_eq!(read("web:http"), Some(("", "web", "http")));
        assert_eq!(read("https:web:443"), Some(("https", "web", "443")));
        assert_eq!(read("ftp:web:21"), None);
        assert_eq!(read(":80"), None);
    }

    #[test]
    fn a_pod_is_reached_at_its_own_address_only() {
        let pod = |ip: &str| value!({"spec": {"containers": [{"name": "a"}, {"name": "b", "ports": [{"containerPort": 8080}]}]}, "status": {"podIP": (ip)}});
        let place = pod_place(&pod("10.1.0.2"), "").unwrap();
        assert_eq!((place.ip.to_string().as_str(), place.port), ("10.1.0.2", 8080));
        assert_eq!(pod_place(&pod("10.1.0.2"), "90").unwrap().port, 90);
        for ip in ["127.0.0.1", "169.254.0.1", "0.0.0.0", "224.0.0.1", "::1", ""] {
            assert_eq!(
                pod_place(&pod(ip), "").unwrap_err().message,
                "address not allowed",
                "{ip}"
            );
        }
    }
}
