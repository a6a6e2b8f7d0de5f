//! What containers must ask for where a quota bounds it.
//!
//! Source: `podEvaluator.Constraints` in `pkg/quota/v1/evaluator/core/pods.go`.

use std::collections::{BTreeMap, BTreeSet};

use cloudeck_kinds::{amounts, quota};
use cloudeck_machinery::Value;

const REQUIRED: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];

/// What containers do not ask for although a quota bounds it: `cpu for: a,b; memory for: b`.
pub(super) fn missing(pod: &Value, bounded: &[&str]) -> Option<String> {
    if amounts::has_own(pod) {
        return None;
    }
    let required: Vec<&str> = REQUIRED
        .into_iter()
        .filter(|resource| bounded.contains(resource))
        .collect();
    let mut lacking: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let containers = ["containers", "initContainers"].map(|list| pod.items_at(&["spec", list]));
    for container in containers.into_iter().flatten() {
        let used = quota::used_by_container(container);
        let name = container.str_at(&["name"]).unwrap_or_default();
        for resource in required.iter().filter(|resource| !used.contains_key(**resource)) {
            lacking.entry(resource).or_default().insert(name);
        }
    }
    if lacking.is_empty() {
        return None;
    }
    let parts: Vec<String> = lacking
        .into_iter()
        .map(|(resource, names)| {
            let names: Vec<&str> = names.into_iter().collect();
            format!("{resource} for: {}", names.join(","))
        })
        .collect();
    Some(parts.join("; "))
}
