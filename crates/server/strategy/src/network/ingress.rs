//! Validation of Ingresses and their classes.
//!
//! Source: `pkg/apis/networking/validation/validation.go`.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, list, number, present, text};

const SPEC: At<'static> = At::root("spec");
const CLASS: &str = "kubernetes.io/ingress.class";
const LONGEST_CONTROLLER: usize = 250;

const BAD_SEQUENCES: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];
const PATH_TYPES: [&str; 3] = ["Exact", "ImplementationSpecific", "Prefix"];

pub(super) fn create(ingress: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    spec(ingress, false, &mut faults);
    let noted = ingress.str_at(&["metadata", "annotations", CLASS]);
    let class = ingress.str_at(&["spec", "ingressClassName"]);
    if let (Some(noted), Some(class)) = (noted, class)
        && noted != class
    {
        let at = At::root("annotations");
        let why = "must match `ingressClassName` when both are specified";
        faults.invalid(&at.field(CLASS), noted, why);
    }
    faults.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let was_bad = old
        .items_at(&["spec", "tls"])
        .iter()
        .any(|tls| !secret_problems(tls).is_empty());
    spec(new, was_bad, &mut faults);
    faults.into_causes()
}

/// The annotation that the field replaced.
pub(super) fn warnings(ingress: &Value, old: Option<&Value>) -> Vec<String> {
    let noted = ingress.at(&["metadata", "annotations", CLASS]).is_some();
    if old.is_some() || !noted || ingress.at(&["spec", "ingressClassName"]).is_some() {
        return Vec::new();
    }
    vec![format!(
        "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
    )]
}

fn spec(ingress: &Value, any_secret: bool, faults: &mut Faults) {
    let none = Value::Null;
    let spec = ingress.get("spec").unwrap_or(&none);
    let default = present(spec, "defaultBackend");
    let rules = list(spec, "rules");
    if rules.is_empty() && default.is_none() {
        let shown = spec.get("rules").unwrap_or(&none);
        let why = "either `defaultBackend` or `rules` must be specified";
        faults.invalid(&SPEC, shown, why);
    }
    if let Some(default) = default {
        backend(default, &SPEC.field("defaultBackend"), faults);
    }
    for (i, own) in rules.iter().enumerate() {
        rule(own, &SPEC.field("rules").index(i), faults);
    }
    for (i, own) in list(spec, "tls").iter().enumerate() {
        let at = SPEC.field("tls");
        tls(own, any_secret, &at.index(i), faults);
    }
    if let Some(class) = spec.str_at(&["ingressClassName"]) {
        let problems = names::dns1123_subdomain(class);
        faults.all_invalid(&SPEC.field("ingressClassName"), class, problems);
    }
}

fn host_problems(host: &str) -> Vec<String> {
    if host.contains('*') {
        names::wildcard_subdomain(host)
    } else {
        names::dns1123_subdomain(host)
    }
}

fn secret_problems(tls: &Value) -> Vec<String> {
    match text(tls, "secretName") {
        "" => Vec::new(),
        name => names::dns1123_subdomain(name),
    }
}

fn tls(tls: &Value, any_secret: bool, at: &At<'_>, faults: &mut Faults) {
    for (i, host) in list(tls, "hosts").iter().enumerate() {
        let host = host.as_str().unwrap_or_default();
        faults.all_invalid(&at.field("hosts").index(i), host, host_problems(host));
    }
    if !any_secret {
        let problems = secret_problems(tls);
        faults.all_invalid(&at.field("secretName"), text(tls, "secretName"), problems);
    }
}

fn rule(rule: &Value, at: &At<'_>, faults: &mut Faults) {
    let host = text(rule, "host");
    if !host.is_empty() {
        let at = at.field("host");
        if names::parse_ip(host).is_some() {
            faults.invalid(&at, host, "must be a DNS name, not an IP address");
        }
        faults.all_invalid(&at, host, host_problems(host));
    }
    let Some(http) = present(rule, "http") else {
        return;
    };
    let at = at.field("http");
    let at = at.field("paths");
    let paths = list(http, "paths");
    if paths.is_empty() {
        faults.required(&at, "");
    }
    for (i, own) in paths.iter().enumerate() {
        path(own, &at.index(i), faults);
    }
}

fn path(path: &Value, at: &At<'_>, faults: &mut Faults) {
    let (own, place) = (text(path, "path"), at.field("path"));
    let Some(kind) = path.str_at(&["pathType"]) else {
        return faults.required(&at.field("pathType"), "pathType must be specified");
    };
    let absolute = own.starts_with('/');
    match kind {
        "Exact" | "Prefix" => {
            if !absolute {
                faults.invalid(&place, own, "must be an absolute path");
            }
            for bad in BAD_SEQUENCES.iter().filter(|bad| own.contains(**bad)) {
                faults.invalid(&place, own, &format!("must not contain '{bad}'"));
            }
            for bad in BAD_ENDS.iter().filter(|bad| own.ends_with(**bad)) {
                faults.invalid(&place, own, &format!("cannot end with '{bad}'"));
            }
        }
        "ImplementationSpecific" => {
            if !own.is_empty() && !absolute {
                faults.invalid(&place, own, "must be an absolute path");
            }
        }
        other => faults.not_supported(&at.field("pathType"), other, &PATH_TYPES),
    }
    let none = Value::Null;
    let own = path.get("backend").unwrap_or(&none);
    backend(own, &at.field("backend"), faults);
}

fn backend(backend: &Value, at: &At<'_>, faults: &mut Faults) {
    match (present(backend, "resource"), present(backend, "service")) {
        (Some(_), Some(_)) => faults.invalid(at, "", "cannot set both resource and service backends"),
        (Some(resource), None) => reference(resource, &at.field("resource"), faults),
        (None, Some(own)) => service(own, at, faults),
        (None, None) => faults.invalid(at, "", "resource or service backend is required"),
    }
}

fn service(service: &Value, at: &At<'_>, faults: &mut Faults) {
    let place = at.field("service");
    let name = text(service, "name");
    if name.is_empty() {
        faults.required(&place.field("name"), "");
    } else {
        faults.all_invalid(&place.field("name"), name, names::dns1123_label(name));
    }
    let none = Value::Null;
    let port = service.get("port").unwrap_or(&none);
    let (name, place, number) = (text(port, "name"), place.field("port"), number(port, "number"));
    match (name.is_empty(), number == 0) {
        (false, false) => faults.invalid(at, "", "cannot set both port name & port number"),
        (false, true) => faults.all_invalid(&place.field("name"), name, names::port_name(name)),
        (true, false) => faults.all_invalid(&place.field("number"), &number, names::port_number(number)),
        (true, true) => faults.required(at, "port name or number is required"),
    }
}

/// A reference to an object of any kind.
fn reference(reference: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(group) = reference.str_at(&["apiGroup"]) {
        let problems = names::dns1123_subdomain(group);
        faults.all_invalid(&at.field("apiGroup"), group, problems);
    }
    for field in ["kind", "name"] {
        let (own, at) = (text(reference, field), at.field(field));
        if own.is_empty() {
            faults.required(&at, "");
        } else {
            faults.all_invalid(&at, own, names::path_segment(own));
        }
    }
}

pub(super) fn status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let path = ["status", "loadBalancer", "ingress"];
    let before: Vec<&str> = old
        .items_at(&path)
        .iter()
        .filter_map(|point| point.str_at(&["ip"]))
        .collect();
    let at = At::root("status");
    let at = at.field("loadBalancer");
    let at = at.field("ingress");
    for (i, point) in new.items_at(&path).iter().enumerate() {
        let (ip, host, at) = (text(point, "ip"), text(point, "hostname"), at.index(i));
        if !ip.is_empty() && !before.contains(&ip) {
            faults.all_invalid(&at.field("ip"), ip, names::ip_legacy(ip));
        }
        if !host.is_empty() {
            let at = at.field("hostname");
            faults.all_invalid(&at, host, names::dns1123_subdomain(host));
            if names::parse_ip(host).is_some() {
                faults.invalid(&at, host, "must be a DNS name, not an IP address");
            }
        }
    }
    faults.into_causes()
}

pub(super) fn class(class: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    class_spec(class, &mut faults);
    faults.into_causes()
}

pub(super) fn class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let controller = [new, old].map(|class| class.at(&["spec", "controller"]));
    faults.immutable(&SPEC.field("controller"), controller[0], controller[1]);
    class_spec(new, &mut faults);
    faults.into_causes()
}

fn class_spec(class: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = class.get("spec").unwrap_or(&none);
    let (at, controller) = (SPEC.field("controller"), text(spec, "controller"));
    if controller.len() > LONGEST_CONTROLLER {
        faults.too_long(&at, LONGEST_CONTROLLER);
    }
    if controller.is_empty() {
        faults.required(&at, "");
    } else {
        faults.all_invalid(&at, controller, names::domain_prefixed_path(controller));
    }
    let Some(parameters) = present(spec, "parameters") else {
        return;
    };
    let at = SPEC.field("parameters");
    reference(parameters, &at, faults);
    let namespace = parameters.str_at(&["namespace"]);
    match (text(parameters, "scope"), namespace) {
        ("", _) => faults.required(&at.field("scope"), ""),
        ("Namespace", None) => {
            faults.required(&at.field("namespace"), "`parameters.scope` is set to 'Namespace'");
        }
        ("Namespace", Some(own)) => {
            faults.all_invalid(&at.field("namespace"), own, names::dns1123_label(own));
        }
        ("Cluster", Some(_)) => {
            faults.forbidden(&at.field("namespace"), "`parameters.scope` is set to 'Cluster'");
        }
        ("Cluster", None) => {}
        (other, _) => faults.not_supported(&at.field("scope"), other, &["Cluster", "Namespace"]),
    }
}

#[cfg(test)]
mod tests;
