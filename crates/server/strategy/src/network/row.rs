//! Rows of endpoints, slices, ingresses and network policies.

use cloudeck_machinery::Value;

use crate::service::row::ingress_points;
use crate::table::{self, AGE, Column, NAME, TableRow, text};

/// Lists longer than this are cut, with the number of what is left out.
const SHOWN: usize = 3;

pub(super) const ENDPOINTS: &[Column] = &[
    NAME,
    text("Endpoints", "Addresses and ports of the ready pods."),
    AGE,
];

pub(super) const SLICE: &[Column] = &[
    NAME,
    text("AddressType", "What the addresses are: IPv4, IPv6 or FQDN."),
    text("Ports", "Ports of every endpoint of the slice."),
    text("Endpoints", "Addresses of the endpoints."),
    AGE,
];

pub(super) const INGRESS: &[Column] = &[
    NAME,
    text(
        "Class",
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    text(
        "Hosts",
        "Hosts that incoming requests are matched against before the ingress rule",
    ),
    text(
        "Address",
        "Address is a list containing ingress points for the load-balancer",
    ),
    text("Ports", "Ports of TLS configurations that open"),
    AGE,
];

pub(super) const CLASS: &[Column] = &[
    NAME,
    text(
        "Controller",
        "Controller that is responsible for handling this class",
    ),
    text(
        "Parameters",
        "A reference to a resource with additional parameters",
    ),
    AGE,
];

pub(super) const POLICY: &[Column] = &[
    NAME,
    text("Pod-Selector", "Labels of the pods that the policy holds for."),
    AGE,
];

pub(super) fn endpoints(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let subsets = object.items_at(&["subsets"]);
    let listed = if subsets.is_empty() {
        "<none>".to_owned()
    } else {
        cut(&subsets.iter().flat_map(subset_addresses).collect::<Vec<_>>())
    };
    vec![table::name(object), Value::from(listed), table::age(object, row)]
}

fn subset_addresses(subset: &Value) -> Vec<String> {
    let addresses: Vec<&str> = subset
        .items_at(&["addresses"])
        .iter()
        .filter_map(|address| address.str_at(&["ip"]))
        .collect();
    let ports = subset.items_at(&["ports"]);
    if ports.is_empty() {
        return addresses.into_iter().map(str::to_owned).collect();
    }
    let numbers = ports.iter().filter_map(|port| port.int_at(&["port"]));
    let pairs = numbers.flat_map(|port| addresses.iter().map(move |ip| join_port(ip, port)));
    pairs.collect()
}

fn join_port(ip: &str, port: i64) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn cut(all: &[String]) -> String {
    let shown = all[..all.len().min(SHOWN)].join(",");
    if all.len() > SHOWN {
        format!("{shown} + {} more...", all.len() - SHOWN)
    } else {
        shown
    }
}

pub(super) fn slice(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let ports: Vec<String> = object
        .items_at(&["ports"])
        .iter()
        .map(|port| match (port.int_at(&["port"]), port.str_at(&["name"])) {
            (Some(number), _) => number.to_string(),
            (None, name) => name.unwrap_or("*").to_owned(),
        })
        .collect();
    let addresses: Vec<String> = object
        .items_at(&["endpoints"])
        .iter()
        .flat_map(|endpoint| endpoint.items_at(&["addresses"]))
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let or_unset = |text: String| {
        if text.is_empty() {
            "<unset>".to_owned()
        } else {
            text
        }
    };
    vec![
        table::name(object),
        table::string(object, &["addressType"]),
        Value::from(or_unset(cut(&ports))),
        Value::from(or_unset(cut(&addresses))),
        table::age(object, row),
    ]
}

pub(super) fn ingress(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let points: Vec<&str> = ingress_points(object).into_iter().collect();
    let ports = if object.items_at(&["spec", "tls"]).is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        table::name(object),
        table::string_or(object, &["spec", "ingressClassName"], "<none>"),
        Value::from(hosts(object)),
        Value::from(points.join(",")),
        Value::from(ports),
        table::age(object, row),
    ]
}

fn hosts(object: &Value) -> String {
    let rules = object.items_at(&["spec", "rules"]);
    let (mut list, mut more) = (Vec::new(), false);
    for rule in rules {
        more |= list.len() == SHOWN;
        let host = rule.str_at(&["host"]).unwrap_or_default();
        if !more && !host.is_empty() {
            list.push(host);
        }
    }
    match (list.is_empty(), more) {
        (true, _) => "*".to_owned(),
        (false, true) => format!("{} + {} more...", list.join(","), rules.len() - SHOWN),
        (false, false) => list.join(","),
    }
}

pub(super) fn class(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let mark = [
        "metadata",
        "annotations",
        "ingressclass.kubernetes.io/is-default-class",
    ];
    let default = object.str_at(&mark) == Some("true");
    let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
    let parameters = object.at(&["spec", "parameters"]).map_or_else(
        || "<none>".to_owned(),
        |parameters| {
            let text = |key| parameters.str_at(&[key]).unwrap_or_default();
            let dot = if parameters.get("apiGroup").is_some() {
                "."
            } else {
                ""
            };
            format!("{}{dot}{}/{}", text("kind"), text("apiGroup"), text("name"))
        },
    );
    vec![
        Value::from(format!("{name}{}", if default { " (default)" } else { "" })),
        table::string(object, &["spec", "controller"]),
        Value::from(parameters),
        table::age(object, row),
    ]
}

pub(super) fn policy(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    vec![
        table::name(object),
        table::selector(object.at(&["spec", "podSelector"])),
        table::age(object, row),
    ]
}
