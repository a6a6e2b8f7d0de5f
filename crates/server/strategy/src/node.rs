//! Nodes.

mod row;
mod validate;

use cloudeck_machinery::{Value, names};
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
    warnings,
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

fn warnings(node: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if node.at(&["spec", "configSource"]).is_some() {
        found.push("spec.configSource: the feature is removed".into());
    }
    let old_id = node.str_at(&["spec", "externalID"]).unwrap_or_default();
    if !old_id.is_empty() {
        found.push("spec.externalID: this field is deprecated, and is unused by Kubernetes".into());
    }
    let ranges = node.items_at(&["spec", "podCIDRs"]).iter();
    for (i, range) in ranges.filter_map(Value::as_str).enumerate() {
        found.extend(names::cidr_warnings(&format!("spec.podCIDRs[{i}]"), range));
    }
    found
}
