//! Resources of a pod as a whole, completed from those of its containers.
//!
//! Source: `DefaultPodLevelResources` in `pkg/api/pod/util.go`. Runs when a pod is made, after its containers have
//! their own defaults; pods that name no resources of their own are left alone.

use std::collections::BTreeMap;

use cloudeck_machinery::{Map, Quantity, Value};

use crate::check::{list, text};
use crate::{fill, resource_name};

type Amounts = BTreeMap<String, Quantity>;

pub(super) fn complete(pod: &mut Value) {
    let Some(own) = pod.at(&["spec", "resources"]) else {
        return;
    };
    if fill::is_empty(own.get("requests")) && fill::is_empty(own.get("limits")) {
        return;
    }
    let requests = aggregate(pod, "requests");
    let limits = aggregate(pod, "limits");
    let limited_everywhere = limited_by_all(pod);
    let own = pod.at_mut(&["spec", "resources"]).expect("it was there above");
    huge_page_limits(own, &limits);
    complete_requests(own, &requests);
    complete_limits(own, &limits, &limited_everywhere);
}

/// What the containers take together: the running ones at once, or an init container beside its sidecars.
fn aggregate(pod: &Value, key: &str) -> Amounts {
    let mut sidecars = Amounts::new();
    let mut peak = Amounts::new();
    for container in pod.items_at(&["spec", "initContainers"]) {
        let own = amounts(container, key);
        let mut at_once = sidecars.clone();
        add(&mut at_once, &own);
        if text(container, "restartPolicy") == "Always" {
            sidecars = at_once.clone();
        }
        for (name, amount) in at_once {
            let most = peak.entry(name).or_default();
            *most = (*most).max(amount);
        }
    }
    let mut running = sidecars;
    for container in pod.items_at(&["spec", "containers"]) {
        add(&mut running, &amounts(container, key));
    }
    for (name, amount) in peak {
        let most = running.entry(name).or_default();
        *most = (*most).max(amount);
    }
    running
}

fn amounts(container: &Value, key: &str) -> Amounts {
    let list = container.at(&["resources", key]).and_then(Value::as_object);
    let parsed = list.into_iter().flat_map(Map::iter).filter_map(|(name, amount)| {
        let amount = amount.as_str()?.parse().ok()?;
        Some((name.to_string(), amount))
    });
    parsed.collect()
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        match sum.get_mut(name) {
            Some(own) => *own = *own + *amount,
            None => {
                sum.insert(name.clone(), *amount);
            }
        }
    }
}

/// Resources that every container limits.
fn limited_by_all(pod: &Value) -> Vec<String> {
    let mut all = ["initContainers", "containers"]
        .into_iter()
        .flat_map(|key| pod.at(&["spec"]).map(|spec| list(spec, key)).unwrap_or_default())
        .map(|container| amounts(container, "limits"));
    let Some(first) = all.next() else {
        return Vec::new();
    };
    let rest: Vec<Amounts> = all.collect();
    first
        .into_keys()
        .filter(|name| rest.iter().all(|limits| limits.contains_key(name)))
        .collect()
}

fn is_supported(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || resource_name::is_huge_page(name)
}

fn has(resources: &Value, list: &str, name: &str) -> bool {
    resources.at(&[list, name]).is_some()
}

fn set(resources: &mut Value, list: &str, name: &str, amount: Quantity) {
    resources.set_at(&[list, name], amount.to_string());
}

fn huge_page_limits(own: &mut Value, limits: &Amounts) {
    for (name, amount) in limits
        .iter()
        .filter(|(name, _)| resource_name::is_huge_page(name))
    {
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
    for (name, amount) in limits.iter().filter(|(name, _)| is_supported(name)) {
        if !has(own, "requests", name) {
            own.set_at(&["requests", name], amount.clone());
        }
    }
}

fn complete_limits(own: &mut Value, limits: &Amounts, limited_everywhere: &[String]) {
    let requests = amounts(
        &cloudeck_machinery::value!({"resources": (own.clone())}),
        "requests",
    );
    for (name, request) in requests {
        let Some(limit) = limits.get(&name).filter(|_| limited_everywhere.contains(&name)) else {
            continue;
        };
        if is_supported(&name) && !has(own, "limits", &name) {
            set(own, "limits", &name, (*limit).max(request));
        }
    }
}
