//! Names of resources: which are standard, counted, native, extended.
//!
//! Source: `pkg/apis/core/helper/helpers.go`.

pub(crate) use cloudeck_kinds::amounts::is_huge_page;
use cloudeck_kinds::amounts::is_native;
use cloudeck_machinery::names;

use crate::check::{At, Faults};

const STANDARD: [&str; 20] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "storage",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && names::qualified_name(&format!("requests.{name}")).is_empty()
}

pub(crate) fn may_overcommit(name: &str) -> bool {
    is_native(name) && !is_huge_page(name)
}

/// Whether amounts must be whole.
pub(crate) fn is_counted(name: &str) -> bool {
    matches!(
        name,
        "pods"
            | "resourcequotas"
            | "services"
            | "replicationcontrollers"
            | "secrets"
            | "configmaps"
            | "persistentvolumeclaims"
            | "services.nodeports"
            | "services.loadbalancers"
    ) || is_extended(name)
}

/// Whether quotas know the resource by themselves.
pub(crate) fn is_standard_of_quotas(name: &str) -> bool {
    name != "storage" && STANDARD.contains(&name) || name.starts_with("requests.hugepages-")
}

/// A resource of any kind.
pub(crate) fn check(name: &str, at: &At<'_>, faults: &mut Faults) {
    if STANDARD.contains(&name) {
        return;
    }
    let problems = names::qualified_name(name);
    let sound = problems.is_empty();
    faults.all_invalid(at, name, problems);
    let quota = name.starts_with("requests.hugepages-");
    if sound && !name.contains('/') && !is_huge_page(name) && !quota {
        let why = "must be a standard resource type or fully qualified";
        faults.invalid(at, name, why);
    }
}

/// A resource that a container may ask for.
pub(crate) fn check_container(name: &str, at: &At<'_>, faults: &mut Faults) {
    if matches!(name, "cpu" | "memory" | "ephemeral-storage") {
        return;
    }
    check(name, at, faults);
    if !name.contains('/') {
        if !is_huge_page(name) {
            faults.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !is_native(name) && !is_extended(name) {
        faults.invalid(at, name, "doesn't follow extended resource name standard");
    }
}
