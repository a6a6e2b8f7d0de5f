//! Nodes.

mod row;
mod validate;

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::{Strategy, fill};

pub(crate) const NODE: Strategy = Strategy {
    default: defaults,
    prepare_create: |node| {
        node.remove_at(&["spec", "configSource"]);
    },
    prepare_update: |new, old| {
        if old.at(&["spec", "configSource"]).is_none() {
            new.remove_at(&["spec", "configSource"]);
        }
    },
    field_names: &["spec.unschedulable"],
    fields: |node| {
        let flag = node.bool_at(&["spec", "unschedulable"]) == Some(true);
        let flag = if flag { "true" } else { "false" };
        Box::new([("spec.unschedulable", CompactString::const_new(flag))])
    },
    validate_create: validate::create,
    validate_update: validate::update,
    validate_status_update: validate::status_update,
    columns: row::COLUMNS,
    row: row::cells,
    ..Strategy::GENERIC
};

fn defaults(node: &mut Value) {
    pair_ranges(node);
    let Some(status) = fill::member(node, "status") else {
        return;
    };
    if let Some(capacity) = status.get("capacity").cloned()
        && fill::is_empty(status.get("allocatable"))
        && !capacity.is_null()
    {
        status.set_at(&["allocatable"], capacity);
    }
    fill::round_resources(status, "capacity");
    fill::round_resources(status, "allocatable");
}

/// Keeps the single pod range and the list of ranges in step, as upstream's conversion does.
fn pair_ranges(node: &mut Value) {
    let Some(spec) = fill::member(node, "spec") else {
        return;
    };
    let single = spec.str_at(&["podCIDR"]).unwrap_or_default();
    let first = spec.items_at(&["podCIDRs"]).first().and_then(Value::as_str);
    match (single, first) {
        ("", Some(first)) => {
            let first = Value::from(first);
            spec.set_at(&["podCIDR"], first);
        }
        ("", None) => {}
        (single, first) if first != Some(single) => {
            let list = vec![Value::from(single)];
            spec.set_at(&["podCIDRs"], list);
        }
        _ => {}
    }
}
