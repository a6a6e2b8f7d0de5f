//! What the server decides about a pod before it is stored.
//!
//! Source: `pkg/registry/core/pod/strategy.go`.

use cloudeck_kinds::qos;
use cloudeck_machinery::{Map, Value, value};

use super::pod_level;
use crate::fill;

pub(super) fn create(pod: &mut Value) {
    pod.set_at(&["status"], value!({"phase": "Pending"}));
    if !pod.items_at(&["spec", "schedulingGates"]).is_empty() {
        let gated = value!([{
            "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
            "message": "Scheduling is blocked due to non-empty scheduling gates"
        }]);
        pod.set_at(&["status", "conditions"], gated);
    }
    merge_label_keys(pod);
    pod_level::complete(pod);
    let class = qos::class(pod);
    pod.set_at(&["status", "qosClass"], class);
}

/// Clients that do not know pod-level resources must not drop them.
pub(super) fn update(new: &mut Value, old: &Value) {
    if new.at(&["spec", "resources"]).is_none_or(Value::is_null)
        && let Some(resources) = old.at(&["spec", "resources"])
    {
        new.set_at(&["spec", "resources"], resources.clone());
    }
}

/// Resolves `matchLabelKeys` and `mismatchLabelKeys` into the selectors beside them.
fn merge_label_keys(pod: &mut Value) {
    let Some(labels) = pod
        .at(&["metadata", "labels"])
        .and_then(Value::as_object)
        .cloned()
    else {
        return;
    };
    let Some(spec) = fill::member(pod, "spec") else {
        return;
    };
    for constraint in fill::each(spec, "topologySpreadConstraints") {
        merge_keys(constraint, "matchLabelKeys", "In", &labels);
    }
    let Some(affinity) = fill::member(spec, "affinity") else {
        return;
    };
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = fill::member(affinity, kind) else {
            continue;
        };
        for weighted in fill::each(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = fill::member(weighted, "podAffinityTerm") {
                merge_term(term, &labels);
            }
        }
        for term in fill::each(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            merge_term(term, &labels);
        }
    }
}

fn merge_term(term: &mut Value, labels: &Map) {
    merge_keys(term, "matchLabelKeys", "In", labels);
    merge_keys(term, "mismatchLabelKeys", "NotIn", labels);
}

fn merge_keys(term: &mut Value, list: &str, operator: &str, labels: &Map) {
    let found: Vec<Value> = term
        .items_at(&[list])
        .iter()
        .filter_map(Value::as_str)
        .filter_map(|key| {
            let label = labels.get(key)?.as_str()?;
            Some(value!({"key": (key), "operator": (operator), "values": [(label)]}))
        })
        .collect();
    if found.is_empty() {
        return;
    }
    // No selector matches nothing, and stays so.
    let Some(selector) = fill::member(term, "labelSelector") else {
        return;
    };
    fill::absent(selector, "matchExpressions", || Value::Array(Vec::new()));
    if let Some(expressions) = selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        expressions.extend(found);
    }
}
