//! Validation of NetworkPolicies.
//!
//! Source: `pkg/apis/networking/validation/validation.go`.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, given, list, present, text};

const SPEC: At<'static> = At::root("spec");
const PROTOCOLS: [&str; 3] = ["TCP", "UDP", "SCTP"];
const TYPES: [&str; 2] = ["Ingress", "Egress"];

pub(super) fn create(policy: &Value) -> Vec<Cause> {
    check(policy, &[])
}

/// Ranges that were there before are not judged again.
pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut known = Vec::new();
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for rule in old.items_at(&["spec", direction]) {
            for block in list(rule, peers)
                .iter()
                .filter_map(|peer| present(peer, "ipBlock"))
            {
                known.push(text(block, "cidr"));
                known.extend(list(block, "except").iter().filter_map(Value::as_str));
            }
        }
    }
    check(new, &known)
}

fn check(policy: &Value, known: &[&str]) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let spec = policy.get("spec").unwrap_or(&none);
    faults.label_selector(&SPEC.field("podSelector"), spec.get("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in list(spec, direction).iter().enumerate() {
            let at = SPEC.field(direction);
            let at = at.index(i);
            for (i, own) in list(rule, "ports").iter().enumerate() {
                port(own, &at.field("ports").index(i), &mut faults);
            }
            for (i, own) in list(rule, peers).iter().enumerate() {
                peer(own, known, &at.field(peers).index(i), &mut faults);
            }
        }
    }
    let (types, at) = (list(spec, "policyTypes"), SPEC.field("policyTypes"));
    if types.len() > TYPES.len() {
        let shown = spec.get("policyTypes").unwrap_or(&none);
        faults.invalid(&at, shown, "may not specify more than two policyTypes");
        return faults.into_causes();
    }
    for (i, own) in types.iter().enumerate() {
        let own = own.as_str().unwrap_or_default();
        if !TYPES.contains(&own) {
            faults.not_supported(&at.index(i), own, &TYPES);
        }
    }
    faults.into_causes()
}

fn port(port: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(protocol) = port
        .str_at(&["protocol"])
        .filter(|protocol| !PROTOCOLS.contains(protocol))
    {
        faults.not_supported(&at.field("protocol"), protocol, &PROTOCOLS);
    }
    let (end, end_at, at) = (given(port, "endPort"), at.field("endPort"), at.field("port"));
    match present(port, "port") {
        Some(Value::String(name)) => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is non-numeric";
                faults.invalid(&end_at, &end, why);
            }
            faults.all_invalid(&at, name.as_str(), names::port_name(name));
        }
        Some(own) => {
            let own = own.as_int().unwrap_or(0);
            faults.all_invalid(&at, &own, names::port_number(own));
            if let Some(end) = end {
                if end < own {
                    faults.invalid(&end_at, &end, "must be greater than or equal to `port`");
                }
                faults.all_invalid(&end_at, &end, names::port_number(end));
            }
        }
        None => {
            if let Some(end) = end {
                let why = "may not be specified when `port` is not specified";
                faults.invalid(&end_at, &end, why);
            }
        }
    }
}

fn peer(peer: &Value, known: &[&str], at: &At<'_>, faults: &mut Faults) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        let selector = present(peer, field);
        count += usize::from(selector.is_some());
        faults.label_selector(&at.field(field), selector);
    }
    let block = present(peer, "ipBlock");
    if let Some(own) = block {
        count += 1;
        ip_block(own, known, &at.field("ipBlock"), faults);
    }
    if count == 0 {
        faults.required(at, "must specify a peer");
    } else if count > 1 && block.is_some() {
        faults.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

fn ip_block(block: &Value, known: &[&str], at: &At<'_>, faults: &mut Faults) {
    let cidr = text(block, "cidr");
    if cidr.is_empty() {
        return faults.required(&at.field("cidr"), "");
    }
    let problems = |range: &str| {
        if known.contains(&range) {
            Vec::new()
        } else {
            names::cidr_legacy(range)
        }
    };
    faults.all_invalid(&at.field("cidr"), cidr, problems(cidr));
    let Some(outer) = range(cidr) else { return };
    for (i, except) in list(block, "except").iter().enumerate() {
        let (except, at) = (except.as_str().unwrap_or_default(), at.field("except"));
        let at = at.index(i);
        faults.all_invalid(&at, except, problems(except));
        let Some(inner) = range(except) else { continue };
        if !is_within(inner, outer) {
            faults.invalid(&at, except, "must be a strict subset of `cidr`");
        }
    }
}

/// Address bits, moved to the top, prefix length, and whether it is of IPv4.
fn range(cidr: &str) -> Option<(u128, u32, bool)> {
    let (address, length) = cidr.split_once('/')?;
    let length: u32 = length.parse().ok()?;
    match names::parse_ip(address)? {
        std::net::IpAddr::V4(v4) => (length <= 32).then(|| (u128::from(u32::from(v4)) << 96, length, true)),
        std::net::IpAddr::V6(v6) => (length <= 128).then(|| (u128::from(v6), length, false)),
    }
}

fn is_within(inner: (u128, u32, bool), outer: (u128, u32, bool)) -> bool {
    let mask = u128::MAX.checked_shl(128 - outer.1).unwrap_or(0);
    inner.2 == outer.2 && inner.1 > outer.1 && inner.0 & mask == outer.0 & mask
}

/// Ranges that are written in a way that is not theirs.
pub(super) fn warnings(policy: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in policy.items_at(&["spec", rules]).iter().enumerate() {
            for (j, peer) in rule.items_at(&[peers]).iter().enumerate() {
                let Some(block) = peer.get("ipBlock") else {
                    continue;
                };
                let at = format!("spec.{rules}[{i}].{peers}[{j}].ipBlock");
                let range = block.str_at(&["cidr"]).unwrap_or_default();
                found.extend(names::cidr_warnings(&format!("{at}.cidr"), range));
                let except = block.items_at(&["except"]).iter().filter_map(Value::as_str);
                for (k, range) in except.enumerate() {
                    found.extend(names::cidr_warnings(&format!("{at}.except[{k}]"), range));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use crate::expect::{check_create, check_update};

    fn policy(rule: &str) -> String {
        format!(r#"{{"spec":{{"podSelector":{{}},"ingress":[{rule}]}}}}"#)
    }

    fn check(rule: &str, expected: &[&str]) {
        check_create("networking.k8s.io", "NetworkPolicy", &policy(rule), expected);
    }

    #[test]
    fn peers_are_selected_or_named_by_range() {
        check(
            r#"{"from":[{"podSelector":{},"namespaceSelector":{}},{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}"#,
            &[],
        );
        check(
            r#"{"from":[{},{"podSelector":{},"ipBlock":{"cidr":"10.0.0.0/8","except":["11.0.0.0/16"]}}]}"#,
            &[
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                "spec.ingress[0].from[1].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
                "spec.ingress[0].from[1]: Forbidden: may not specify both ipBlock and another peer",
            ],
        );
    }

    #[test]
    fn ports_are_numbers_names_or_spans() {
        check(r#"{"ports":[{"port":80,"endPort":90},{"port":"http"},{}]}"#, &[]);
        check(
            r#"{"ports":[{"port":80,"endPort":70},{"port":"http","endPort":1},{"endPort":1,"protocol":"ICMP"}]}"#,
            &[
                "spec.ingress[0].ports[0].endPort: Invalid value: 70: must be greater than or equal to `port`",
                "spec.ingress[0].ports[1].endPort: Invalid value: 1: may not be specified when `port` is non-numeric",
                "spec.ingress[0].ports[2].protocol: Unsupported value: \"ICMP\": supported values: \"TCP\", \"UDP\", \"SCTP\"",
                "spec.ingress[0].ports[2].endPort: Invalid value: 1: may not be specified when `port` is not specified",
            ],
        );
    }

    #[test]
    fn ranges_that_were_there_may_stay() {
        let sloppy = policy(r#"{"from":[{"ipBlock":{"cidr":"10.0.0.1/8"}}]}"#);
        check_update("networking.k8s.io", "NetworkPolicy", &sloppy, &sloppy, &[]);
        let why = "spec.ingress[0].from[0].ipBlock.cidr: Invalid value: \"10.0.0.1/8\": must not have bits set beyond the prefix length";
        check_create("networking.k8s.io", "NetworkPolicy", &sloppy, &[why]);
    }
}
