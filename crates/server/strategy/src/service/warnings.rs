//! What upstream warns of in services.
//!
//! Source: `pkg/api/service/warnings.go`.

use cloudeck_machinery::{Value, names};

use super::kind_of;
use crate::check::{At, list, text};

pub(super) fn service(service: &Value, _old: Option<&Value>) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    const SPEC: At<'static> = At::root("spec");
    let mut found = Vec::new();
    let none = Value::Null;
    let spec = service.get("spec").unwrap_or(&none);
    if service.at(&["metadata", "annotations", HINTS]).is_some() {
        let instead = "please use service.kubernetes.io/topology-mode instead";
        found.push(format!("annotation {HINTS} is deprecated, {instead}"));
    }
    let kind = kind_of(service);
    let headless = kind == "ClusterIP" && text(spec, "clusterIP") == "None";
    if !headless {
        addresses(spec, "clusterIPs", &mut found);
    }
    let external = !list(spec, "externalIPs").is_empty();
    if headless {
        if !text(spec, "loadBalancerIP").is_empty() {
            found.push("spec.loadBalancerIP is ignored for headless services".into());
        }
        if external {
            found.push("spec.externalIPs is ignored for headless services".into());
        }
        if text(spec, "sessionAffinity") != "None" {
            found.push("spec.SessionAffinity is ignored for headless services".into());
        }
    }
    addresses(spec, "externalIPs", &mut found);
    if external && !headless && kind != "ExternalName" {
        let why = "is deprecated and may no longer be implemented in some clusters";
        found.push(format!("spec.externalIPs {why}"));
    }
    let address = text(spec, "loadBalancerIP");
    found.extend(names::ip_warnings(
        &SPEC.field("loadBalancerIP").to_string(),
        address,
    ));
    let ranges = list(spec, "loadBalancerSourceRanges")
        .iter()
        .filter_map(Value::as_str);
    for (i, range) in ranges.enumerate() {
        let place = SPEC.field("loadBalancerSourceRanges");
        found.extend(names::cidr_warnings(&place.index(i).to_string(), range));
    }
    if kind == "ExternalName" && external {
        found.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !text(spec, "externalName").is_empty() {
        found.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if text(spec, "trafficDistribution") == "PreferClose" {
        let why = "\"PreferClose\" is deprecated; use \"PreferSameZone\"";
        found.push(format!("spec.trafficDistribution: {why}"));
    }
    found
}

fn addresses(spec: &Value, field: &str, found: &mut Vec<String>) {
    let at = At::root("spec");
    let at = at.field(field);
    for (i, address) in list(spec, field).iter().filter_map(Value::as_str).enumerate() {
        found.extend(names::ip_warnings(&at.index(i).to_string(), address));
    }
}
