//! A Recreate lets no new pod in while an old one lives.

use std::sync::Arc;

use cloudeck_machinery::{Value, json};

use super::{Current, controller_uid, is_over};
use crate::book::Entry;
use crate::trace::Trace;

/// A pod came into being.
pub(super) fn created(trace: &Trace, entry: &Entry, pod: &Value, current: &Current) {
    let (Some(own), Some(namespace)) = (controller_uid(pod), pod.str_at(&["metadata", "namespace"])) else {
        return;
    };
    let sets = of(current, "apps/replicasets/", namespace);
    let mut owners = sets.iter().filter(|set| uid(set) == Some(own));
    let Some(deployment) = owners.find_map(controller_uid) else {
        return;
    };
    let deployments = of(current, "apps/deployments/", namespace);
    let mut recreates = deployments
        .iter()
        .filter(|it| it.str_at(&["spec", "strategy", "type"]) == Some("Recreate"));
    if !recreates.any(|it| uid(it) == Some(deployment)) {
        return;
    }
    let siblings = sets.iter().filter(|set| controller_uid(set) == Some(deployment));
    let siblings: Vec<_> = siblings.filter_map(uid).filter(|set| *set != own).collect();
    let pods = of(current, "core/pods/", namespace);
    let mut others = pods.iter().filter(|other| !is_over(other));
    let old = others.find(|other| controller_uid(other).is_some_and(|set| siblings.contains(&set)));
    if let Some(old) = old {
        let name = old.str_at(&["metadata", "name"]).unwrap_or_default();
        let Entry { key, revision, .. } = entry;
        trace.violation(format!(
            "{key} came at revision {revision} beside {name} of another set, and its Deployment recreates"
        ));
    }
}

fn of(current: &Current, kind: &str, namespace: &str) -> Vec<Value> {
    let prefix = format!("{kind}{namespace}/");
    let range = current.range(Arc::from(prefix.as_str())..);
    let range = range.take_while(|(key, _)| key.starts_with(&prefix));
    range
        .filter_map(|(_, (_, bytes))| json::parse(bytes).ok())
        .collect()
}

fn uid(tree: &Value) -> Option<&str> {
    tree.str_at(&["metadata", "uid"])
}
