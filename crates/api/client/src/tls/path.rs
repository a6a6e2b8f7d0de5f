//! A request's method, path and query.

use crate::request::{ContentType, Params, Request, Verb};

/// The HTTP method of the verb.
pub(super) fn method(request: &Request) -> &'static str {
    match request.verb {
        Verb::Get | Verb::List | Verb::Watch => "GET",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    }
}

/// `/apis/apps/v1/namespaces/n/deployments/d/status?fieldManager=x`.
pub(super) fn path_and_query(request: &Request) -> String {
    let resource = &request.resource;
    let mut path = if resource.group.is_empty() {
        format!("/api/{}", resource.version)
    } else {
        format!("/apis/{}/{}", resource.group, resource.version)
    };
    if !request.namespace.is_empty() {
        path.push_str("/namespaces/");
        encode(&request.namespace, &mut path);
    }
    for part in [resource.resource.as_str(), &request.name, &request.subresource] {
        if !part.is_empty() {
            path.push('/');
            encode(part, &mut path);
        }
    }
    let mut separator = '?';
    for (name, value) in query(request) {
        path.push(separator);
        path.push_str(name);
        path.push('=');
        encode(&value, &mut path);
        separator = '&';
    }
    path
}

fn query(request: &Request) -> Vec<(&'static str, String)> {
    let Params {
        label_selector,
        field_selector,
        resource_version,
        resource_version_match,
        limit,
        continue_token,
        timeout_seconds,
        allow_watch_bookmarks,
        send_initial_events,
        dry_run,
        field_manager,
        field_validation,
        force,
        grace_period_seconds,
        propagation_policy,
    } = &request.params;
    let mut pairs = Vec::new();
    if request.verb == Verb::Watch {
        pairs.push(("watch", "true".to_owned()));
    }
    let texts = [
        ("labelSelector", label_selector),
        ("fieldSelector", field_selector),
        ("resourceVersion", resource_version),
        ("resourceVersionMatch", resource_version_match),
        ("continue", continue_token),
        ("fieldManager", field_manager),
        ("fieldValidation", field_validation),
        ("propagationPolicy", propagation_policy),
    ];
    pairs.extend(
        texts
            .into_iter()
            .filter(|(_, text)| !text.is_empty())
            .map(|(name, text)| (name, text.clone())),
    );
    pairs.extend(dry_run.iter().map(|value| ("dryRun", value.clone())));
    pairs.extend(limit.map(|number| ("limit", number.to_string())));
    pairs.extend(timeout_seconds.map(|number| ("timeoutSeconds", number.to_string())));
    pairs.extend(grace_period_seconds.map(|number| ("gracePeriodSeconds", number.to_string())));
    pairs.extend(send_initial_events.map(|flag| ("sendInitialEvents", flag.to_string())));
    if *allow_watch_bookmarks {
        pairs.push(("allowWatchBookmarks", "true".to_owned()));
    }
    if request.body.content_type == ContentType::ApplyPatch {
        pairs.extend(force.map(|flag| ("force", flag.to_string())));
    }
    pairs
}

/// Percent-encodes all but unreserved characters (RFC 3986 section 2.3).
fn encode(text: &str, out: &mut String) {
    use std::fmt::Write as _;
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::GroupVersionResource;

    use super::*;

    #[test]
    fn paths_follow_the_resource() {
        let pods = GroupVersionResource::new("", "v1", "pods");
        let nodes = GroupVersionResource::new("", "v1", "nodes");
        let deployments = GroupVersionResource::new("apps", "v1", "deployments");
        assert_eq!(
            path_and_query(&Request::get(&pods, "n", "p")),
            "/api/v1/namespaces/n/pods/p"
        );
        assert_eq!(path_and_query(&Request::list(&nodes, "")), "/api/v1/nodes");
        let mut request = Request::watch(&deployments, "n");
        request.params.label_selector = "a=b,c".to_owned();
        assert_eq!(
            path_and_query(&request),
            "/apis/apps/v1/namespaces/n/deployments?watch=true&labelSelector=a%3Db%2Cc"
        );
    }
}
