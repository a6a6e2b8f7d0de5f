//! Validation of endpoints and endpoint slices.
//!
//! Source: `pkg/apis/core/validation` and `pkg/apis/discovery/validation`.

use std::net::IpAddr;

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, list, number, present, text};

const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

/// An address that traffic may be sent to: not of the machine itself, not of one link.
pub(crate) fn endpoint_ip(ip: &str, at: &At<'_>, faults: &mut Faults) {
    let Some(parsed) = names::parse_ip(ip) else {
        return faults.invalid(at, ip, "must be a valid IP address");
    };
    if parsed.is_unspecified() {
        faults.invalid(at, ip, &format!("may not be unspecified ({ip})"));
    }
    if parsed.is_loopback() {
        let why = "may not be in the loopback range (127.0.0.0/8, ::1/128)";
        faults.invalid(at, ip, why);
    }
    let (local, multicast) = match parsed {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (v6.is_unicast_link_local(), v6.segments()[0] == 0xff02),
    };
    if local {
        let why = "may not be in the link-local range (169.254.0.0/16, fe80::/10)";
        faults.invalid(at, ip, why);
    }
    if multicast {
        let why = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        faults.invalid(at, ip, why);
    }
}

pub(super) fn endpoints(endpoints: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = At::root("subsets");
    for (i, subset) in list(endpoints, "subsets").iter().enumerate() {
        one_subset(subset, &at.index(i), &mut faults);
    }
    faults.into_causes()
}

/// Subsets that did not change are not judged again.
pub(super) fn endpoints_update(new: &Value, old: &Value) -> Vec<Cause> {
    if new.get("subsets") == old.get("subsets") {
        return Vec::new();
    }
    endpoints(new)
}

fn one_subset(subset: &Value, at: &At<'_>, faults: &mut Faults) {
    let kinds = ["addresses", "notReadyAddresses"];
    if kinds.iter().all(|kind| list(subset, kind).is_empty()) {
        let why = "must specify `addresses` or `notReadyAddresses`";
        faults.required(at, why);
    }
    for kind in kinds {
        for (i, address) in list(subset, kind).iter().enumerate() {
            one_address(address, &at.field(kind).index(i), faults);
        }
    }
    let ports = list(subset, "ports");
    for (i, port) in ports.iter().enumerate() {
        one_port(port, ports.len() > 1, &at.field("ports").index(i), faults);
    }
}

fn one_address(address: &Value, at: &At<'_>, faults: &mut Faults) {
    let (ip, host) = (text(address, "ip"), text(address, "hostname"));
    faults.all_invalid(&at.field("ip"), ip, names::ip_legacy(ip));
    if !host.is_empty() {
        faults.all_invalid(&at.field("hostname"), host, names::dns1123_label(host));
    }
    node_name(address, at, faults);
    endpoint_ip(ip, &at.field("ip"), faults);
}

fn node_name(endpoint: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(node) = present(endpoint, "nodeName").and_then(Value::as_str) {
        faults.all_invalid(&at.field("nodeName"), node, names::dns1123_subdomain(node));
    }
}

fn one_port(port: &Value, needs_name: bool, at: &At<'_>, faults: &mut Faults) {
    let name = text(port, "name");
    if !name.is_empty() {
        faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
    } else if needs_name {
        faults.required(&at.field("name"), "");
    }
    let own = number(port, "port");
    faults.all_invalid(&at.field("port"), &own, names::port_number(own));
    faults.one_of(&at.field("protocol"), text(port, "protocol"), &PROTOCOLS);
    application(port, at, faults);
}

fn application(port: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(protocol) = present(port, "appProtocol").and_then(Value::as_str) {
        let problems = names::qualified_name(protocol);
        faults.all_invalid(&at.field("appProtocol"), protocol, problems);
    }
}

pub(super) fn slice(slice: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    slice_head(slice, &mut faults);
    slice_endpoints(slice, &mut faults);
    faults.into_causes()
}

pub(super) fn slice_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    slice_head(new, &mut faults);
    if new.get("endpoints") != old.get("endpoints") {
        slice_endpoints(new, &mut faults);
    }
    let [now, before] = [new, old].map(|slice| slice.get("addressType"));
    faults.immutable(&At::root("addressType"), now, before);
    faults.into_causes()
}

fn slice_head(slice: &Value, faults: &mut Faults) {
    const MOST_PORTS: usize = 20_000;
    let kinds = ["FQDN", "IPv4", "IPv6"];
    faults.one_of(&At::root("addressType"), text(slice, "addressType"), &kinds);
    let (at, ports) = (At::root("ports"), list(slice, "ports"));
    if ports.len() > MOST_PORTS {
        return faults.too_many(&at, ports.len(), MOST_PORTS);
    }
    for (i, port) in ports.iter().enumerate() {
        let at = at.index(i);
        let name = text(port, "name");
        if !name.is_empty() {
            faults.all_invalid(&at.field("name"), name, names::dns1123_label(name));
        }
        if ports[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        faults.one_of(&at.field("protocol"), text(port, "protocol"), &PROTOCOLS);
        application(port, &at, faults);
    }
}

fn slice_endpoints(slice: &Value, faults: &mut Faults) {
    const MOST: usize = 1000;
    let (at, all) = (At::root("endpoints"), list(slice, "endpoints"));
    if all.len() > MOST {
        return faults.too_many(&at, all.len(), MOST);
    }
    for (i, endpoint) in all.iter().enumerate() {
        let at = at.index(i);
        addresses(
            endpoint,
            text(slice, "addressType"),
            &at.field("addresses"),
            faults,
        );
        node_name(endpoint, &at, faults);
        if let Some(host) = present(endpoint, "hostname").and_then(Value::as_str) {
            faults.all_invalid(&at.field("hostname"), host, names::dns1123_label(host));
        }
        if let Some(hints) = present(endpoint, "hints") {
            hint_list(hints, "forZones", names::label_value, &at.field("hints"), faults);
            hint_list(
                hints,
                "forNodes",
                names::dns1123_subdomain,
                &at.field("hints"),
                faults,
            );
        }
    }
}

fn addresses(endpoint: &Value, kind: &str, at: &At<'_>, faults: &mut Faults) {
    const MOST: usize = 100;
    let all = list(endpoint, "addresses");
    if all.is_empty() {
        faults.required(at, "must contain at least 1 address");
    } else if all.len() > MOST {
        faults.too_many(at, all.len(), MOST);
    }
    for (i, address) in all.iter().filter_map(Value::as_str).enumerate() {
        let own = at.index(i);
        let problems = match kind {
            "IPv4" => names::ip_legacy(address),
            "IPv6" => names::ip(address),
            "FQDN" => {
                faults.all_invalid(&own, address, full_name(address));
                continue;
            }
            _ => continue,
        };
        if !problems.is_empty() {
            faults.all_invalid(&own, address, problems);
            continue;
        }
        if address.contains(':') != (kind == "IPv6") {
            faults.invalid(at, address, &format!("must be an {kind} address"));
        }
        endpoint_ip(address, &own, faults);
    }
}

/// A name of at least two labels.
fn full_name(name: &str) -> Vec<String> {
    let bare = name.strip_suffix('.').unwrap_or(name);
    let problems = names::dns1123_subdomain(bare);
    if problems.is_empty() && !bare.contains('.') {
        return vec!["should be a domain with at least two segments separated by dots".into()];
    }
    problems
}

type NameRule = fn(&str) -> Vec<String>;

fn hint_list(hints: &Value, field: &str, rule: NameRule, at: &At<'_>, faults: &mut Faults) {
    const MOST: usize = 8;
    let (at, all) = (at.field(field), list(hints, field));
    if all.len() > MOST {
        return faults.too_many(&at, all.len(), MOST);
    }
    for (i, hint) in all.iter().enumerate() {
        let at = at.index(i);
        let name = text(hint, "name");
        if all[..i].iter().any(|other| text(other, "name") == name) {
            faults.duplicate(&at.field("name"), name);
        }
        faults.all_invalid(&at.field("name"), name, rule(name));
    }
}

#[cfg(test)]
mod tests;
