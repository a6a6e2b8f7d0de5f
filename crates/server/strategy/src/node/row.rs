//! The row of a node.

use std::collections::BTreeSet;

use cloudeck_machinery::Value;

use crate::table::{self, AGE, Column, NAME, TableRow, text, wide};

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    text("Status", "The status of the node"),
    text("Roles", "The roles of the node"),
    AGE,
    text("Version", "The version of the node agent."),
    wide("Internal-IP", "The node's address inside the cluster."),
    wide("External-IP", "The node's address from outside."),
    wide("OS-Image", "The operating system."),
    wide("Kernel-Version", "The kernel, and the processor it is for."),
    wide("Container-Runtime", "The container runtime and its version."),
];

pub(super) fn cells(node: &Value, row: TableRow<'_>) -> Vec<Value> {
    let info = |key: &str| table::string_or(node, &["status", "nodeInfo", key], "<unknown>");
    vec![
        table::name(node),
        Value::from(status(node)),
        Value::from(table::or_none(&roles(node))),
        table::age(node, row),
        table::string(node, &["status", "nodeInfo", "kubeletVersion"]),
        Value::from(address(node, "InternalIP")),
        Value::from(address(node, "ExternalIP")),
        info("osImage"),
        Value::from(kernel(node)),
        info("containerRuntimeVersion"),
    ]
}

fn status(node: &Value) -> String {
    // Of several conditions of the type the last counts.
    let ready = node
        .items_at(&["status", "conditions"])
        .iter()
        .rfind(|condition| condition.str_at(&["type"]) == Some("Ready"));
    let word = match ready.map(|condition| condition.str_at(&["status"])) {
        None => "Unknown",
        Some(Some("True")) => "Ready",
        Some(_) => "NotReady",
    };
    if node.bool_at(&["spec", "unschedulable"]) == Some(true) {
        format!("{word},SchedulingDisabled")
    } else {
        word.to_owned()
    }
}

fn roles(node: &Value) -> String {
    let labels = node.at(&["metadata", "labels"]).and_then(Value::as_object);
    let mut roles = BTreeSet::new();
    for (key, value) in labels.into_iter().flat_map(cloudeck_machinery::Map::iter) {
        let value = value.as_str().unwrap_or_default();
        match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") => {}
            Some(role) => {
                roles.insert(role);
            }
            None if key == "kubernetes.io/role" && !value.is_empty() => {
                roles.insert(value);
            }
            None => {}
        }
    }
    roles.into_iter().collect::<Vec<_>>().join(",")
}

fn address<'a>(node: &'a Value, kind: &str) -> &'a str {
    node.items_at(&["status", "addresses"])
        .iter()
        .find(|address| address.str_at(&["type"]) == Some(kind))
        .map_or("<none>", |address| {
            address.str_at(&["address"]).unwrap_or_default()
        })
}

fn kernel(node: &Value) -> String {
    let info = |key| {
        let text = node.str_at(&["status", "nodeInfo", key]);
        text.filter(|text| !text.is_empty())
    };
    let kernel = info("kernelVersion").unwrap_or("<unknown>");
    match info("architecture") {
        Some(architecture) => format!("{kernel} ({architecture})"),
        None => kernel.to_owned(),
    }
}
