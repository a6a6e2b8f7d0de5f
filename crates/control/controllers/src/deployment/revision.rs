//! The annotations that tie ReplicaSets to a Deployment: revisions, their history, and the sizes wanted.
//!
//! Source: `pkg/controller/deployment/util/deployment_util.go`.

use cloudeck_machinery::{Map, Value};

use super::facts::Deployment;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub(super) const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub(super) const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Not copied from the Deployment to its sets.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
    "deprecated.deployment.rollback.to",
];
/// About 100 revisions.
const HISTORY_LIMIT_CHARACTERS: usize = 2000;

pub(super) fn annotation<'a>(tree: &'a Value, key: &str) -> Option<&'a str> {
    tree.str_at(&["metadata", "annotations", key])
}

fn set(tree: &mut Value, key: &str, text: &str) -> bool {
    if annotation(tree, key) == Some(text) {
        return false;
    }
    tree.set_at(&["metadata", "annotations", key], text)
}

/// The set's revision; zero without one, `None` for one that is no number.
pub(super) fn revision(set: &Value) -> Option<i64> {
    annotation(set, REVISION).map_or(Some(0), |text| text.parse().ok())
}

/// A size in an annotation.
pub(super) fn size(set: &Value, key: &str) -> Option<i64> {
    let size: u32 = annotation(set, key)?.parse().ok()?;
    i32::try_from(size).ok().map(i64::from)
}

/// Marks the set as holding the Deployment's newest template; answers whether anything changed.
pub(super) fn mark_newest(deployment: &Deployment, set_tree: &mut Value, wanted: i64) -> bool {
    let mut changed = copy_annotations(&deployment.tree, set_tree);
    let old = annotation(set_tree, REVISION).map(str::to_owned);
    let present = match old.as_deref() {
        None | Some("") => 0,
        Some(text) => match text.parse::<i64>() {
            Ok(number) => number,
            Err(_) => return false,
        },
    };
    if present < wanted {
        changed |= set(set_tree, REVISION, &wanted.to_string());
        // It has been the newest before: this is a rollback, and the history tells of it.
        if let Some(old) = old {
            remember(set_tree, &old);
        }
    }
    changed
}

fn copy_annotations(deployment: &Value, set_tree: &mut Value) -> bool {
    let annotations = deployment
        .at(&["metadata", "annotations"])
        .and_then(Value::as_object);
    let mut changed = false;
    for (key, value) in annotations.into_iter().flat_map(Map::iter) {
        let text = value.as_str().unwrap_or_default();
        if !NOT_COPIED.contains(&key.as_str()) {
            changed |= set(set_tree, key, text);
        }
    }
    changed
}

fn remember(set_tree: &mut Value, old: &str) {
    let history = annotation(set_tree, REVISION_HISTORY)
        .unwrap_or_default()
        .to_owned();
    if history.is_empty() {
        set(set_tree, REVISION_HISTORY, old);
        return;
    }
    let mut length = history.len() + old.len() + 1;
    let mut kept = history.split(',').peekable();
    while length > HISTORY_LIMIT_CHARACTERS {
        let Some(dropped) = kept.next() else { return };
        length -= dropped.len() + 1;
    }
    let mut revisions: Vec<&str> = kept.collect();
    revisions.push(old);
    set(set_tree, REVISION_HISTORY, &revisions.join(","));
}

/// Records the sizes that the Deployment wants; answers whether that changed anything.
pub(super) fn set_sizes(deployment: &Deployment, set_tree: &mut Value) -> bool {
    let desired = set(set_tree, DESIRED_REPLICAS, &deployment.replicas.to_string());
    let most = set(set_tree, MAX_REPLICAS, &deployment.max_replicas().to_string());
    desired || most
}
