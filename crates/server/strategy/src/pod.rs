//! Pods, and the pod specifications inside the templates of other kinds.

pub(crate) mod defaults;
mod pod_level;
mod prepare;
pub(crate) mod row;
pub(crate) mod validate;
pub(crate) mod warnings;

use cloudeck_machinery::{Cause, Value};
use compact_str::CompactString;

use crate::Strategy;
use crate::check::{At, Faults};

pub(crate) const POD: Strategy = Strategy {
    default: defaults::pod,
    prepare_create: prepare::create,
    prepare_update: prepare::update,
    validate_create: validate::create,
    validate_update: validate::update,
    validate_status_update: validate::status_update,
    warnings: warnings::pod,
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
};

/// The template kind.
pub(crate) const POD_TEMPLATE: Strategy = Strategy {
    default: |template| defaults::template(template, "template"),
    warnings: warnings::template_kind,
    validate_create: |object| template_errors(object),
    validate_update: |new, _| template_errors(new),
    columns: row::TEMPLATE_COLUMNS,
    row: row::template_cells,
    ..Strategy::GENERIC
};

fn template_errors(object: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let template = object.get("template").unwrap_or(&none);
    validate::template(template, &At::root("template"), &mut faults);
    faults.into_causes()
}

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
