//! The quality-of-service class of a pod.
//!
//! Source: `pkg/apis/core/helper/qos`.

use cloudeck_machinery::{Quantity, Value};

use crate::amounts;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Guaranteed,
    Burstable,
    BestEffort,
}

/// `Guaranteed`, `Burstable` or `BestEffort`, from the resources of the containers or of the pod as a whole.
pub fn class(pod: &Value) -> &'static str {
    let class = match pod.at(&["spec", "resources"]) {
        Some(resources) if amounts::has_own(pod) => of_requirements(resources),
        _ => of_containers(pod),
    };
    match class {
        Class::Guaranteed => "Guaranteed",
        Class::Burstable => "Burstable",
        Class::BestEffort => "BestEffort",
    }
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
