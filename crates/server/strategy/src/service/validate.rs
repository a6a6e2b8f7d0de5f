//! Validation of services.
//!
//! Source: `validateService` and its parts in `pkg/apis/core/validation/validation.go`.

mod addresses;

use cloudeck_machinery::{Cause, Value, names};

use super::{externally_accessible, kind_of};
use crate::check::{At, Faults, list, number, present, text};
use crate::pod::validate::port_number_or_name;

const SPEC: At<'static> = At::root("spec");
const ANNOTATIONS: At<'static> = METADATA.field("annotations");
const METADATA: At<'static> = At::root("metadata");
const ONLY_BALANCERS: &str = "may only be used when `type` is 'LoadBalancer'";

pub(super) fn create(service: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    whole(service, None, &mut faults);
    faults.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let [new_spec, old_spec] = [new, old].map(|service| service.get("spec").unwrap_or(&none));
    addresses::changes(new, old, &mut faults);
    if kind_of(new) == "LoadBalancer" && kind_of(old) == "LoadBalancer" {
        let [class, before] = [new_spec, old_spec].map(|spec| present(spec, "loadBalancerClass"));
        if class != before {
            let shown = class.unwrap_or(&Value::Null);
            faults.invalid(&SPEC.field("loadBalancerClass"), shown, "may not change once set");
        }
    }
    let port = |spec: &Value| number(spec, "healthCheckNodePort");
    if needs_health_port(new) && needs_health_port(old) && port(new_spec) != port(old_spec) {
        faults.forbidden(&SPEC.field("healthCheckNodePort"), "field is immutable");
    }
    whole(new, Some(old), &mut faults);
    faults.into_causes()
}

fn needs_health_port(service: &Value) -> bool {
    kind_of(service) == "LoadBalancer" && service.str_at(&["spec", "externalTrafficPolicy"]) == Some("Local")
}

pub(super) fn is_headless(service: &Value) -> bool {
    matches!(service.items_at(&["spec", "clusterIPs"]), [Value::String(only)] if only == "None")
}

fn whole(service: &Value, old: Option<&Value>, faults: &mut Faults) {
    let none = Value::Null;
    let spec = service.get("spec").unwrap_or(&none);
    let (kind, headless) = (kind_of(service), is_headless(service));
    topology_annotations(service, faults);
    let all = list(spec, "ports");
    if all.is_empty() && !headless && kind != "ExternalName" {
        faults.required(&SPEC.field("ports"), "");
    }
    by_type(spec, kind, headless, faults);
    for (i, port) in all.iter().enumerate() {
        one_port(
            port,
            &all[..i],
            all.len() > 1,
            &SPEC.field("ports").index(i),
            faults,
        );
    }
    faults.labels(&SPEC.field("selector"), spec.get("selector"));
    affinity(spec, faults);
    if kind != "ExternalName" {
        addresses::check(service, old, faults);
    }
    addresses::external(spec, old, faults);
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    faults.one_of(&SPEC.field("type"), text(spec, "type"), &kinds);
    node_ports(all, kind, faults);
    repeated_ports(all, faults);
    balancer(service, spec, kind, old, faults);
    traffic(service, spec, kind, faults);
}

fn topology_annotations(service: &Value, faults: &mut Faults) {
    const MODE: &str = "service.kubernetes.io/topology-mode";
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let of = |key: &str| service.str_at(&["metadata", "annotations", key]);
    if let (Some(mode), Some(hints)) = (of(MODE), of(HINTS))
        && mode != hints
    {
        let why = format!("must match annotations[{HINTS}] when both are specified");
        faults.invalid(&ANNOTATIONS.key(MODE), mode, &why);
    }
}

fn by_type(spec: &Value, kind: &str, headless: bool, faults: &mut Faults) {
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            let why = format!("may not be set to 'None' for {kind} services");
            faults.invalid(&SPEC.field("clusterIPs").index(0), "None", &why);
        }
        "ExternalName" => {
            for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                if !crate::fill::is_empty(spec.get(field)) {
                    let why = "may not be set for ExternalName services";
                    faults.forbidden(&SPEC.field(field), why);
                }
            }
            let name = text(spec, "externalName");
            match name.strip_suffix('.').unwrap_or(name) {
                "" => faults.required(&SPEC.field("externalName"), ""),
                name => {
                    let problems = names::dns1123_subdomain(name);
                    faults.all_invalid(&SPEC.field("externalName"), name, problems);
                }
            }
        }
        _ => {}
    }
}

fn one_port(port: &Value, before: &[Value], needs_name: bool, at: &At<'_>, faults: &mut Faults) {
    let name = text(port, "name");
    if name.is_empty() {
        if needs_name {
            faults.required(&at.field("name"), "");
        }
    } else {
        faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
        if before.iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
    }
    let own = number(port, "port");
    faults.all_invalid(&at.field("port"), &own, names::port_number(own));
    let protocols = ["SCTP", "TCP", "UDP"];
    faults.one_of(&at.field("protocol"), text(port, "protocol"), &protocols);
    port_number_or_name(port.get("targetPort"), &at.field("targetPort"), faults);
    if let Some(protocol) = present(port, "appProtocol").and_then(Value::as_str) {
        let problems = names::qualified_name(protocol);
        faults.all_invalid(&at.field("appProtocol"), protocol, problems);
    }
}

fn affinity(spec: &Value, faults: &mut Faults) {
    const MOST: i64 = 86_400;
    let own = text(spec, "sessionAffinity");
    faults.one_of(&SPEC.field("sessionAffinity"), own, &["ClientIP", "None"]);
    let at = SPEC.field("sessionAffinityConfig");
    let config = present(spec, "sessionAffinityConfig");
    match (own, config) {
        ("ClientIP", config) => {
            let why = "when session affinity type is ClientIP";
            let Some(config) = config else {
                return faults.required(&at, why);
            };
            let at = at.field("clientIP");
            if present(config, "clientIP").is_none() {
                return faults.required(&at, why);
            }
            let at = at.field("timeoutSeconds");
            match config.int_at(&["clientIP", "timeoutSeconds"]) {
                None => faults.required(&at, why),
                Some(seconds) if !(1..=MOST).contains(&seconds) => {
                    let why = format!("must be greater than 0 and less than {MOST}");
                    faults.invalid(&at, &seconds, &why);
                }
                Some(_) => {}
            }
        }
        ("None", Some(_)) => faults.forbidden(&at, "must not be set when session affinity is None"),
        _ => {}
    }
}

fn node_ports(all: &[Value], kind: &str, faults: &mut Faults) {
    let at = SPEC.field("ports");
    if kind == "ClusterIP" {
        for (i, _) in all
            .iter()
            .enumerate()
            .filter(|(_, port)| number(port, "nodePort") != 0)
        {
            let why = "may not be used when `type` is 'ClusterIP'";
            faults.forbidden(&at.index(i).field("nodePort"), why);
        }
    }
    for (i, port) in all.iter().enumerate() {
        let own = number(port, "nodePort");
        let same = |other: &Value| {
            number(other, "nodePort") == own && text(other, "protocol") == text(port, "protocol")
        };
        if own != 0 && all[..i].iter().any(same) {
            faults.duplicate(&at.index(i).field("nodePort"), &own);
        }
    }
}

fn repeated_ports(all: &[Value], faults: &mut Faults) {
    let at = SPEC.field("ports");
    for (i, port) in all.iter().enumerate() {
        let (own, protocol) = (number(port, "port"), text(port, "protocol"));
        let same = |other: &Value| number(other, "port") == own && text(other, "protocol") == protocol;
        if all[..i].iter().any(same) {
            let shown = Printed(format!(
                r#"{{"Name":"","Protocol":"{protocol}","AppProtocol":null,"Port":{own},"TargetPort":0,"NodePort":0}}"#
            ));
            faults.duplicate(&at.index(i), &shown);
        }
    }
}

/// A value that prints as upstream's internal type does.
struct Printed(String);

impl crate::check::Shown for Printed {
    fn show(&self) -> String {
        self.0.clone()
    }
}

fn balancer(service: &Value, spec: &Value, kind: &str, old: Option<&Value>, faults: &mut Faults) {
    const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let is_balancer = kind == "LoadBalancer";
    let ranges = list(spec, "loadBalancerSourceRanges");
    if ranges.is_empty() {
        let at = ANNOTATIONS.key(RANGES);
        let annotation = |service: &Value| {
            let text = service.str_at(&["metadata", "annotations", RANGES])?;
            Some(text.trim().to_owned())
        };
        if let Some(all) = annotation(service) {
            if !is_balancer {
                faults.forbidden(&at, ONLY_BALANCERS);
            }
            if !all.is_empty() && old.and_then(annotation).as_ref() != Some(&all) {
                for range in all.split(',').map(str::trim) {
                    faults.all_invalid(&at, range, names::cidr_legacy(range));
                }
            }
        }
    } else {
        // Upstream capitalises this path.
        let at = SPEC.field("LoadBalancerSourceRanges");
        if !is_balancer {
            faults.forbidden(&at, ONLY_BALANCERS);
        }
        let before = old.map(|old| old.items_at(&["spec", "loadBalancerSourceRanges"]));
        for (i, range) in ranges.iter().enumerate() {
            if before.unwrap_or_default().contains(range) {
                continue;
            }
            let range = range.as_str().unwrap_or_default().trim();
            faults.all_invalid(&at.index(i), range, names::cidr_legacy(range));
        }
    }
    match present(spec, "allocateLoadBalancerNodePorts") {
        Some(_) if !is_balancer => {
            faults.forbidden(&SPEC.field("allocateLoadBalancerNodePorts"), ONLY_BALANCERS);
        }
        None if is_balancer => faults.required(&At::root("allocateLoadBalancerNodePorts"), ""),
        _ => {}
    }
    if let Some(class) = present(spec, "loadBalancerClass").and_then(Value::as_str) {
        let at = SPEC.field("loadBalancerClass");
        if is_balancer {
            faults.all_invalid(&at, class, names::qualified_name(class));
        } else {
            faults.forbidden(&at, ONLY_BALANCERS);
        }
    }
}

fn traffic(service: &Value, spec: &Value, kind: &str, faults: &mut Faults) {
    let at = SPEC.field("externalTrafficPolicy");
    let policy = text(spec, "externalTrafficPolicy");
    if externally_accessible(service) {
        faults.one_of(&at, policy, &["Cluster", "Local"]);
    } else if !policy.is_empty() {
        let why = "may only be set for externally-accessible services";
        faults.invalid(&at, policy, why);
    }
    let at = SPEC.field("healthCheckNodePort");
    let port = number(spec, "healthCheckNodePort");
    match (needs_health_port(service), port) {
        (false, 0) => {}
        (false, port) => {
            let why = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            faults.invalid(&at, &port, why);
        }
        (true, 0) => faults.required(&at, ""),
        (true, port) => faults.all_invalid(&at, &port, names::port_number(port)),
    }
    let at = SPEC.field("internalTrafficPolicy");
    match present(spec, "internalTrafficPolicy").and_then(Value::as_str) {
        None if matches!(kind, "NodePort" | "LoadBalancer" | "ClusterIP") => faults.required(&at, ""),
        None | Some("Cluster" | "Local") => {}
        Some(other) => faults.not_supported(&at, other, &["Cluster", "Local"]),
    }
    if let Some(wish) = present(spec, "trafficDistribution").and_then(Value::as_str) {
        let supported = ["PreferClose", "PreferSameZone", "PreferSameNode"];
        if !supported.contains(&wish) {
            faults.not_supported(&SPEC.field("trafficDistribution"), wish, &supported);
        }
    }
}

/// What a load balancer may report.
pub(super) fn status_update(new: &Value, _old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = At::root("status");
    let at = at.field("loadBalancer");
    let at = at.field("ingress");
    let points = new.items_at(&["status", "loadBalancer", "ingress"]);
    if kind_of(new) != "LoadBalancer" && !points.is_empty() {
        faults.forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'");
        return faults.into_causes();
    }
    for (i, point) in points.iter().enumerate() {
        ingress_point(point, &at.index(i), &mut faults);
    }
    faults.into_causes()
}

fn ingress_point(point: &Value, at: &At<'_>, faults: &mut Faults) {
    let (ip, host) = (text(point, "ip"), text(point, "hostname"));
    if !ip.is_empty() {
        faults.all_invalid(&at.field("ip"), ip, names::ip_legacy(ip));
    }
    let path = at.field("ipMode");
    match present(point, "ipMode").and_then(Value::as_str) {
        None if !ip.is_empty() => faults.required(&path, "must be specified when `ip` is set"),
        Some(_) if ip.is_empty() => faults.forbidden(&path, "may not be specified when `ip` is not set"),
        None | Some("Proxy" | "VIP") => {}
        Some(other) => faults.not_supported(&path, other, &["Proxy", "VIP"]),
    }
    if !host.is_empty() {
        let path = at.field("hostname");
        faults.all_invalid(&path, host, names::dns1123_subdomain(host));
        if names::parse_ip(host).is_some() {
            faults.invalid(&path, host, "must be a DNS name, not an IP address");
        }
    }
}

#[cfg(test)]
mod tests;
