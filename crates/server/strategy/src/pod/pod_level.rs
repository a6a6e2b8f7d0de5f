//! Resources of a pod as a whole, completed from those of its containers.
//!
//! Source: `DefaultPodLevelResources` in `pkg/api/pod/util.go`. Runs when a pod is made, after its containers have
//! their own defaults; pods that name no resources of their own are left alone.

use cloudeck_kinds::amounts::{self, Amounts};
use cloudeck_machinery::{Quantity, Value};
use compact_str::CompactString;

use crate::check::list;
use crate::fill;

pub(super) fn complete(pod: &mut Value) {
    let Some(own) = pod.at(&["spec", "resources"]) else {
        return;
    };
    if fill::is_empty(own.get("requests")) && fill::is_empty(own.get("limits")) {
        return;
    }
    let [requests, limits] = ["requests", "limits"].map(|list| amounts::of_containers(pod, list));
    let limited_everywhere = limited_by_all(pod);
    let own = pod.at_mut(&["spec", "resources"]).expect("it was there above");
    huge_page_limits(own, &limits);
    complete_requests(own, &requests);
    complete_limits(own, &limits, &limited_everywhere);
}

/// Resources that every container limits.
fn limited_by_all(pod: &Value) -> Vec<CompactString> {
    let mut all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|key| pod.at(&["spec"]).map(|spec| list(spec, key)).unwrap_or_default())
        .map(|container| amounts::of_container(container, "limits"));
    let Some(first) = all.next() else {
        return Vec::new();
    };
    let rest: Vec<Amounts> = all.collect();
    first
        .into_keys()
        .filter(|name| rest.iter().all(|limits| limits.contains_key(name)))
        .collect()
}

fn has(resources: &Value, list: &str, name: &str) -> bool {
    resources.at(&[list, name]).is_some()
}

fn set(resources: &mut Value, list: &str, name: &str, amount: Quantity) {
    resources.set_at(&[list, name], amount.to_string());
}

fn huge_page_limits(own: &mut Value, limits: &Amounts) {
    for (name, amount) in limits.iter().filter(|(name, _)| amounts::is_huge_page(name)) {
        if !has(own, "requests", name) && !has(own, "limits", name) {
            set(own, "limits", name, *amount);
        }
    }
}

fn complete_requests(own: &mut Value, requests: &Amounts) {
    for (name, amount) in requests
        .iter()
        .filter(|(name, _)| matches!(name.as_str(), "cpu" | "memory"))
    {
        if !has(own, "requests", name) {
            set(own, "requests", name, *amount);
        }
    }
    let limits = own
        .get("limits")
        .and_then(Value::as_object)
        .cloned()
        .unwrap_or_default();
    for (name, amount) in limits.iter().filter(|(name, _)| amounts::is_for_whole_pods(name)) {
        if !has(own, "requests", name) {
            own.set_at(&["requests", name], amount.clone());
        }
    }
}

fn complete_limits(own: &mut Value, limits: &Amounts, limited_everywhere: &[CompactString]) {
    for (name, request) in amounts::read(own.get("requests")) {
        let Some(limit) = limits.get(&name).filter(|_| limited_everywhere.contains(&name)) else {
            continue;
        };
        if amounts::is_for_whole_pods(&name) && !has(own, "limits", &name) {
            set(own, "limits", &name, (*limit).max(request));
        }
    }
}
