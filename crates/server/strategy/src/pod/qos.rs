//! The quality-of-service class of a pod.
//!
//! Source: `pkg/apis/core/helper/qos`.

use cloudeck_machinery::{Quantity, Value};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the resources of the containers or of the pod as a whole.
pub(crate) fn class(pod: &Value) -> &'static str {
    let class = match pod.at(&["spec", "resources"]) {
        Some(resources) if names_pod_level(resources) => of_requirements(resources),
        _ => of_containers(pod),
    };
    match class {
        Class::Guaranteed => "Guaranteed",
        Class::Burstable => "Burstable",
        Class::BestEffort => "BestEffort",
    }
}

/// Whether resources that pods as a whole may have are named.
fn names_pod_level(resources: &Value) -> bool {
    ["requests", "limits"].iter().any(|list| {
        let list = resources.get(list).and_then(Value::as_object);
        list.is_some_and(|list| {
            list.keys()
                .any(|name| matches!(name.as_str(), "cpu" | "memory") || name.starts_with("hugepages-"))
        })
    })
}

fn of_containers(pod: &Value) -> Class {
    let mut seen = None;
    for list in ["initContainers", "containers"] {
        for container in pod.items_at(&["spec", list]) {
            let class = container
                .get("resources")
                .map_or(Class::BestEffort, of_requirements);
            if class == Class::Burstable || seen.is_some_and(|seen| seen != class) {
                return Class::Burstable;
            }
            seen = Some(class);
        }
    }
    seen.unwrap_or(Class::BestEffort)
}

fn of_requirements(resources: &Value) -> Class {
    let [cpu, memory] = ["cpu", "memory"].map(|name| of_resource(resources, name));
    if cpu == memory { cpu } else { Class::Burstable }
}

fn of_resource(resources: &Value, name: &str) -> Class {
    let amount = |list: &str| {
        resources
            .str_at(&[list, name])
            .and_then(|text| text.parse::<Quantity>().ok())
            .filter(|amount| !amount.is_zero())
    };
    match (amount("requests"), amount("limits")) {
        (None, None) => Class::BestEffort,
        (Some(request), Some(limit)) if request == limit => Class::Guaranteed,
        _ => Class::Burstable,
    }
}
