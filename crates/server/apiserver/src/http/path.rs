//! Paths and queries to requests.

use cloudeck_client::request::Params;
use cloudeck_client::{Body, Request, Verb};
use cloudeck_machinery::{GroupVersionResource, Status};
use http::Method;

/// What a path names.
#[derive(Debug)]
pub(crate) enum Target {
    Resource(Box<ResourceTarget>),
    /// Anything else: discovery, health, documents.
    Other,
}

/// A request for a resource, and the query parameters that only matter at the edge.
#[derive(Debug)]
pub(crate) struct ResourceTarget {
    pub(crate) request: Request,
    pub(crate) query: Query,
}

/// Decoded query parameters, in order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(name, true), decode(value, true))
        });
        Self(pairs.collect())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0
            .iter()
            .filter(move |(other, _)| other == name)
            .map(|(_, value)| value.as_str())
    }

    /// The query again, with these parameters only.
    pub(crate) fn only(&self, names: &[&str]) -> String {
        let kept = self.0.iter().filter(|(name, _)| names.contains(&name.as_str()));
        let pairs: Vec<(&str, &str)> = kept
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        super::node_target::encode(&pairs)
    }

    /// Whether a parameter is there and says neither `false` nor `0`, as upstream reads it.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.get(name).is_some_and(is_true)
    }

    fn text(&self, name: &str) -> String {
        self.get(name).unwrap_or_default().to_owned()
    }

    fn number<T: std::str::FromStr>(&self, name: &str) -> Result<Option<T>, Status> {
        match self.get(name) {
            None | Some("") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                Status::bad_request(format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))
            }),
        }
    }

    fn params(&self) -> Result<Params, Status> {
        let dry_run = self
            .0
            .iter()
            .filter(|(name, _)| name == "dryRun")
            .map(|(_, value)| value.clone());
        Ok(Params {
            label_selector: self.text("labelSelector"),
            field_selector: self.text("fieldSelector"),
            resource_version: self.text("resourceVersion"),
            resource_version_match: self.text("resourceVersionMatch"),
            limit: self.number("limit")?,
            continue_token: self.text("continue"),
            timeout_seconds: self.number("timeoutSeconds")?,
            allow_watch_bookmarks: self.flag("allowWatchBookmarks"),
            send_initial_events: self.get("sendInitialEvents").map(is_true),
            dry_run: dry_run.collect(),
            field_manager: self.text("fieldManager"),
            field_validation: self.text("fieldValidation"),
            force: self.get("force").map(is_true),
            grace_period_seconds: self.number("gracePeriodSeconds")?,
            propagation_policy: self.text("propagationPolicy"),
        })
    }
}

fn is_true(value: &str) -> bool {
    value != "0" && !value.eq_ignore_ascii_case("false")
}

/// Percent-decoding; undecodable sequences stay as they are.
fn decode(text: &str, plus_is_space: bool) -> String {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| *byte == b'%' || *byte == b'+') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |offset: usize| {
            bytes
                .get(at + offset)
                .and_then(|byte| char::from(*byte).to_digit(16))
        };
        match bytes[at] {
            b'%' if hex(1).is_some() && hex(2).is_some() => {
                out.push((hex(1).unwrap_or(0) * 16 + hex(2).unwrap_or(0)) as u8);
                at += 3;
            }
            b'+' if plus_is_space => {
                out.push(b' ');
                at += 1;
            }
            byte => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Reads a path. `/api/v1` and the like, which name no resource, are [`Target::Other`].
pub(crate) fn parse(method: &Method, path: &str, query: &str) -> Result<Target, Status> {
    let segments: Vec<String> = path
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(|segment| decode(segment, false))
        .collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, mut rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] => (*group, *version, rest),
        _ => return Ok(Target::Other),
    };
    let query = Query::parse(query);
    let mut old_watch = false;
    // The old form of a watch.
    if let ["watch", after @ ..] = rest
        && !after.is_empty()
    {
        old_watch = true;
        rest = after;
    }
    let Some(place) = Place::read(rest) else {
        return Ok(Target::Other);
    };
    check_segment(place.namespace)?;
    check_segment(place.name)?;
    // What stands behind a proxy's question mark is not for us.
    let proxied = place.subresource == "proxy";
    let mut params = if proxied {
        Params::default()
    } else {
        query.params()?
    };
    // Of one object there is the old form only.
    let watch = old_watch || place.name.is_empty() && query.flag("watch");
    let verb = match *method {
        Method::OPTIONS if proxied => Verb::Get,
        _ => verb(method, place.name, watch)?,
    };
    let mut name = place.name.to_owned();
    if name.is_empty()
        && matches!(verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
        && let Some(selected) = selected_name(&params.field_selector)
    {
        name = selected;
    }
    if verb == Verb::Watch && params.field_selector.is_empty() && !place.name.is_empty() {
        params.field_selector = format!("metadata.name={}", place.name);
    }
    let request = Request {
        verb,
        resource: GroupVersionResource::new(group, version, place.resource),
        namespace: place.namespace.to_owned(),
        name,
        subresource: place.subresource.to_owned(),
        params,
        body: Body::empty(),
    };
    Ok(Target::Resource(Box::new(ResourceTarget { request, query })))
}

/// What can be no name because it would be another place in a path.
fn check_segment(name: &str) -> Result<(), Status> {
    let why = match name {
        "." => "may not be '.'",
        ".." => "may not be '..'",
        _ if name.contains('/') => "may not contain '/'",
        _ if name.contains('%') => "may not contain '%'",
        _ => return Ok(()),
    };
    Err(Status::bad_request(format!(
        "Name parameter invalid: {name:?}: {why}"
    )))
}

#[derive(Debug, Default)]
struct Place<'a> {
    namespace: &'a str,
    resource: &'a str,
    name: &'a str,
    subresource: &'a str,
}

impl<'a> Place<'a> {
    fn read(segments: &'a [&'a str]) -> Option<Self> {
        let place = |namespace, resource, rest: &'a [&'a str]| {
            let (name, rest) = rest
                .split_first()
                .map_or(("", rest), |(name, rest)| (*name, rest));
            Self {
                namespace,
                resource,
                name,
                subresource: rest.first().copied().unwrap_or_default(),
            }
        };
        match segments {
            [] => None,
            ["namespaces", _] | ["namespaces", _, "status" | "finalize"] => {
                Some(place("", "namespaces", &segments[1..]))
            }
            ["namespaces", namespace, resource, rest @ ..] => Some(place(namespace, resource, rest)),
            [resource, rest @ ..] => Some(place("", resource, rest)),
        }
    }
}

fn verb(method: &Method, name: &str, watch: bool) -> Result<Verb, Status> {
    Ok(match *method {
        Method::GET | Method::HEAD if watch => Verb::Watch,
        Method::GET | Method::HEAD if name.is_empty() => Verb::List,
        Method::GET | Method::HEAD => Verb::Get,
        Method::POST => Verb::Create,
        Method::PUT => Verb::Update,
        Method::PATCH => Verb::Patch,
        Method::DELETE if name.is_empty() => Verb::DeleteCollection,
        Method::DELETE => Verb::Delete,
        _ => {
            return Err(Status::new(
                cloudeck_machinery::Reason::MethodNotAllowed,
                "the server does not allow this method on the requested resource",
            ));
        }
    })
}

/// The one name that a field selector allows, which authorisation may know.
fn selected_name(selector: &str) -> Option<String> {
    let parsed = cloudeck_machinery::selector::FieldSelector::parse(selector).ok()?;
    parsed.required_value("metadata.name").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &Method, path: &str, query: &str, expected: &str) {
        let text = match parse(method, path, query).unwrap() {
            Target::Other => "other".to_owned(),
            Target::Resource(target) => {
                let r = &target.request;
                let verb = r.verb.as_str();
                format!(
                    "{verb} {} ns={} name={} sub={}",
                    r.resource, r.namespace, r.name, r.subresource
                )
            }
        };
        assert_eq!(text, expected);
    }

    #[test]
    fn paths_name_resources() {
        let get = &Method::GET;
        check(get, "/api/v1/pods", "", "list v1/pods ns= name= sub=");
        check(
            get,
            "/api/v1/namespaces/n/pods/p/log",
            "",
            "get v1/pods ns=n name=p sub=log",
        );
        check(
            get,
            "/api/v1/namespaces/n",
            "",
            "get v1/namespaces ns= name=n sub=",
        );
        check(
            get,
            "/api/v1/namespaces",
            "watch=1",
            "watch v1/namespaces ns= name= sub=",
        );
        check(
            &Method::PUT,
            "/api/v1/namespaces/n/finalize",
            "",
            "update v1/namespaces ns= name=n sub=finalize",
        );
        check(
            get,
            "/api/v1/nodes/n/proxy/a/b",
            "",
            "get v1/nodes ns= name=n sub=proxy",
        );
        check(
            &Method::DELETE,
            "/apis/apps/v1/namespaces/n/deployments",
            "",
            "deletecollection apps/v1/deployments ns=n name= sub=",
        );
        check(get, "/apis/apps/v1", "", "other");
        check(get, "/version", "", "other");
    }

    #[test]
    fn what_stands_behind_a_proxys_question_mark_is_not_for_us() {
        let path = "/api/v1/namespaces/n/services/s/proxy/";
        let query = "watch=true&limit=x";
        check(&Method::GET, path, query, "get v1/services ns=n name=s sub=proxy");
        check(
            &Method::OPTIONS,
            path,
            query,
            "get v1/services ns=n name=s sub=proxy",
        );
        let path = "/api/v1/namespaces/n/services/s";
        check(
            &Method::GET,
            path,
            "watch=true",
            "get v1/services ns=n name=s sub=",
        );
        assert_eq!(parse(&Method::OPTIONS, path, "").unwrap_err().code, 405);
    }

    #[test]
    fn a_field_selector_of_one_name_is_known_to_authorisation() {
        let query = "fieldSelector=metadata.name%3Da";
        check(
            &Method::GET,
            "/api/v1/secrets",
            query,
            "list v1/secrets ns= name=a sub=",
        );
    }

    #[test]
    fn percent_and_plus_are_decoded_where_they_mean_something() {
        assert_eq!(Query::parse("a=x+y%2Bz&b").get("a"), Some("x y+z"));
        assert_eq!(decode("system%3Anode", false), "system:node");
        assert_eq!(decode("a+b%zz", false), "a+b%zz");
    }

    #[test]
    fn a_flag_is_set_unless_it_says_no() {
        let flag = |query: &str| Query::parse(query).flag("watch");
        assert!(flag("watch") && flag("watch=") && flag("watch=true") && flag("watch=yes"));
        assert!(!flag("") && !flag("watch=0") && !flag("watch=False"));
    }

    #[test]
    fn a_name_is_no_path() {
        for name in ["%2e%2e", "a%2Fb", "a%25b"] {
            let path = format!("/api/v1/namespaces/n/configmaps/{name}");
            assert_eq!(parse(&Method::GET, &path, "").unwrap_err().code, 400, "{name}");
        }
    }

    #[test]
    fn a_limit_that_is_no_number_is_refused() {
        assert_eq!(
            parse(&Method::GET, "/api/v1/pods", "limit=x").unwrap_err().code,
            400
        );
    }
}
