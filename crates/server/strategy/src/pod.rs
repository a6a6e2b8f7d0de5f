//! Pods, and the pod specifications inside the templates of other kinds.

pub(crate) mod defaults;
mod prepare;
mod qos;
pub(crate) mod row;

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::Strategy;

pub(crate) const POD: Strategy = Strategy {
    default: defaults::pod,
    prepare_create: prepare::create,
    prepare_update: prepare::update,
    field_names: &[
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    ],
    fields,
    columns: row::COLUMNS,
    row: row::cells,
    ..Strategy::GENERIC
};

/// The template kind.
pub(crate) const POD_TEMPLATE: Strategy = Strategy {
    default: |template| defaults::template(template, "template"),
    columns: row::TEMPLATE_COLUMNS,
    row: row::template_cells,
    ..Strategy::GENERIC
};

fn fields(pod: &Value) -> Box<[(&'static str, CompactString)]> {
    let spec = |key: &str| CompactString::from(pod.str_at(&["spec", key]).unwrap_or_default());
    let status = |key: &str| CompactString::from(pod.str_at(&["status", key]).unwrap_or_default());
    let address = pod
        .items_at(&["status", "podIPs"])
        .first()
        .and_then(|entry| entry.str_at(&["ip"]));
    let host_network = pod.bool_at(&["spec", "hostNetwork"]) == Some(true);
    Box::new([
        ("spec.nodeName", spec("nodeName")),
        ("spec.restartPolicy", spec("restartPolicy")),
        ("spec.schedulerName", spec("schedulerName")),
        ("spec.serviceAccountName", spec("serviceAccountName")),
        (
            "spec.hostNetwork",
            CompactString::const_new(if host_network { "true" } else { "false" }),
        ),
        ("status.phase", status("phase")),
        ("status.podIP", CompactString::from(address.unwrap_or_default())),
        ("status.nominatedNodeName", status("nominatedNodeName")),
    ])
}

#[cfg(test)]
mod tests;
