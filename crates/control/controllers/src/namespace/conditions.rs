//! What a namespace that is being emptied says of what remains.
//!
//! Source: `pkg/controller/namespace/deletion/status_condition_utils.go`.

use std::collections::BTreeMap;

use cloudeck_machinery::{Value, value};

use super::Remains;
use crate::clock::Now;

/// Type, reason and message of each condition when all is well. The first two cannot be otherwise here: kinds are not
/// discovered but known.
const FINE: [(&str, &str, &str); 5] = [
    (
        "NamespaceDeletionDiscoveryFailure",
        "ResourcesDiscovered",
        "All resources successfully discovered",
    ),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    (
        "NamespaceContentRemaining",
        "ContentRemoved",
        "All content successfully removed",
    ),
    (
        "NamespaceFinalizersRemaining",
        "ContentHasNoFinalizers",
        "All content-preserving finalizers finished",
    ),
];

/// Brings the conditions up to date; answers whether anything changed.
pub(super) fn update(namespace: &mut Value, remains: &Remains, now: Now) -> bool {
    let mut conditions = namespace.items_at(&["status", "conditions"]).to_vec();
    let before = conditions.clone();
    for (kind, reason, message) in FINE {
        let (status, reason, message) = match trouble(kind, remains) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", reason, message.to_owned()),
        };
        set(&mut conditions, kind, status, reason, &message, now);
    }
    let changed = conditions != before;
    namespace.set_at(&["status", "conditions"], conditions);
    changed
}

fn trouble(kind: &str, remains: &Remains) -> Option<(&'static str, String)> {
    match kind {
        "NamespaceDeletionContentFailure" if !remains.errors.is_empty() => {
            let mut errors = remains.errors.clone();
            errors.sort();
            let message = format!(
                "Failed to delete all resource types, {} remaining: {}",
                errors.len(),
                errors.join(", ")
            );
            Some(("ContentDeletionFailed", message))
        }
        "NamespaceContentRemaining" if !remains.objects.is_empty() => {
            let list = listed(&remains.objects, |name, count| {
                format!("{name} has {count} resource instances")
            });
            Some((
                "SomeResourcesRemain",
                format!("Some resources are remaining: {list}"),
            ))
        }
        "NamespaceFinalizersRemaining" if !remains.finalizers.is_empty() => {
            let list = listed(&remains.finalizers, |name, count| {
                format!("{name} in {count} resource instances")
            });
            let message = format!("Some content in the namespace has finalizers remaining: {list}");
            Some(("SomeFinalizersRemain", message))
        }
        _ => None,
    }
}

fn listed(counts: &BTreeMap<String, usize>, word: impl Fn(&str, usize) -> String) -> String {
    let mut words: Vec<String> = counts.iter().map(|(name, count)| word(name, *count)).collect();
    words.sort();
    words.join(", ")
}

fn set(conditions: &mut Vec<Value>, kind: &str, status: &str, reason: &str, message: &str, now: Now) {
    let mut wanted = value!({
        "type": (kind), "status": (status), "reason": (reason), "message": (message),
        "lastTransitionTime": (now.timestamp())
    });
    let present = conditions
        .iter_mut()
        .find(|condition| condition.str_at(&["type"]) == Some(kind));
    let Some(present) = present else {
        return conditions.push(wanted);
    };
    if present.str_at(&["status"]) == Some(status)
        && let Some(time) = present.at(&["lastTransitionTime"]).cloned()
    {
        wanted.set_at(&["lastTransitionTime"], time);
    }
    *present = wanted;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_told_once() {
        let mut namespace = Value::object();
        let mut remains = Remains::default();
        remains.objects.insert("pods.".into(), 2);
        remains.finalizers.insert("example.com/f".into(), 1);
        assert!(update(&mut namespace, &remains, Now(0)));
        let message = |namespace: &Value, at: usize| {
            namespace.items_at(&["status", "conditions"])[at]
                .str_at(&["message"])
                .map(str::to_owned)
        };
        let pods = "Some resources are remaining: pods. has 2 resource instances";
        assert_eq!(message(&namespace, 3).as_deref(), Some(pods));
        let finalizers =
            "Some content in the namespace has finalizers remaining: example.com/f in 1 resource instances";
        assert_eq!(message(&namespace, 4).as_deref(), Some(finalizers));
        assert!(!update(&mut namespace, &remains, Now(60_000)));
        assert!(update(&mut namespace, &Remains::default(), Now(60_000)));
        assert_eq!(
            message(&namespace, 3).as_deref(),
            Some("All content successfully removed")
        );
    }
}
