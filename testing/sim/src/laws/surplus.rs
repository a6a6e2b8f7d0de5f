//! Nobody makes a pod for a set that has as many as it wants: what it has made itself, it knows of.

use std::sync::Arc;

use cloudeck_machinery::{Value, json};

use super::{Current, controller_uid, is_over};
use crate::book::Entry;
use crate::trace::Trace;

/// The key of the ReplicaSet that the pod was made for.
pub(super) fn set_of(pod: &Value) -> Option<String> {
    let namespace = pod.str_at(&["metadata", "namespace"])?;
    let mut owners = pod.items_at(&["metadata", "ownerReferences"]).iter();
    let owner = owners.find(|owner| owner.bool_at(&["controller"]) == Some(true))?;
    let name = owner
        .str_at(&["name"])
        .filter(|_| owner.str_at(&["kind"]) == Some("ReplicaSet"))?;
    Some(format!("apps/replicasets/{namespace}/{name}"))
}

/// A pod came into being for a set that lately wanted `most` at most. `current` has the pod already.
pub(super) fn created(trace: &Trace, entry: &Entry, pod: &Value, most: i64, current: &Current) {
    let namespace = pod.str_at(&["metadata", "namespace"]).unwrap_or_default();
    let prefix = format!("core/pods/{namespace}/");
    let pods = current.range(Arc::from(prefix.as_str())..);
    let pods = pods.take_while(|(key, _)| key.starts_with(&prefix));
    let counts = |other: &Value| {
        controller_uid(other) == controller_uid(pod)
            && !is_over(other)
            && other.at(&["metadata", "deletionTimestamp"]).is_none()
    };
    let alike = pods.filter(|(_, (_, bytes))| json::parse(bytes).is_ok_and(|other| counts(&other)));
    let alike = alike.count() as i64;
    if alike > most {
        let Entry { key, revision, .. } = entry;
        trace.violation(format!(
            "{key} came at revision {revision} as pod {alike} of a set that wants {most}"
        ));
    }
}
