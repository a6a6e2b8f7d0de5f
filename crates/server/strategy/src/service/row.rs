//! The row of a service.

use std::collections::BTreeSet;

use cloudeck_machinery::Value;

use super::kind_of;
use crate::table::{self, AGE, Column, NAME, TableRow, text, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Type", "How the service is exposed."),
    text("Cluster-IP", "The address inside the cluster."),
    text("External-IP", "Addresses from outside the cluster."),
    text("Port(s)", "Ports of the service, with their node ports."),
    AGE,
    wide("Selector", "Labels of the pods that traffic goes to."),
];

pub(super) fn cells(service: &Value, row: TableRow<'_>) -> Vec<Value> {
    let cluster = service
        .items_at(&["spec", "clusterIPs"])
        .first()
        .and_then(Value::as_str)
        .unwrap_or("<none>");
    vec![
        table::name(service),
        table::string(service, &["spec", "type"]),
        Value::from(cluster),
        Value::from(external(service)),
        Value::from(table::or_none(&ports(service))),
        table::age(service, row),
        table::labels(service.at(&["spec", "selector"])),
    ]
}

fn external(service: &Value) -> String {
    let own: Vec<&str> = service
        .items_at(&["spec", "externalIPs"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    match kind_of(service) {
        "ClusterIP" | "NodePort" => table::or_none(&own.join(",")).to_owned(),
        "LoadBalancer" => {
            let given = ingress_points(service);
            let all: Vec<&str> = given.iter().copied().chain(own).collect();
            if all.is_empty() {
                "<pending>".to_owned()
            } else {
                all.join(",")
            }
        }
        "ExternalName" => service
            .str_at(&["spec", "externalName"])
            .unwrap_or_default()
            .to_owned(),
        _ => "<unknown>".to_owned(),
    }
}

/// The addresses or host names that a load balancer has given to a service or an ingress, sorted.
pub(crate) fn ingress_points(object: &Value) -> BTreeSet<&str> {
    let points = object.items_at(&["status", "loadBalancer", "ingress"]).iter();
    points
        .filter_map(|point| {
            ["ip", "hostname"]
                .iter()
                .find_map(|key| point.str_at(&[key]).filter(|text| !text.is_empty()))
        })
        .collect()
}

fn ports(service: &Value) -> String {
    let pieces: Vec<String> = service
        .items_at(&["spec", "ports"])
        .iter()
        .map(|port| {
            let number = port.int_at(&["port"]).unwrap_or(0);
            let protocol = port.str_at(&["protocol"]).unwrap_or_default();
            match port.int_at(&["nodePort"]) {
                Some(node) if node > 0 => format!("{number}:{node}/{protocol}"),
                _ => format!("{number}/{protocol}"),
            }
        })
        .collect();
    pieces.join(",")
}
