//! What a namespace says of its own deletion. Pure.
//!
//! Source: `pkg/controller/namespace/deletion/status_condition_utils.go`.

use std::collections::BTreeMap;

use cloudeck_machinery::{GroupVersionResource, Value, value};

/// Type, reason and message of a condition that has nothing to complain of, in upstream's order.
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

/// What a pass over a namespace's content found.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Objects left, by resource.
    pub(super) remaining: BTreeMap<GroupVersionResource, usize>,
    /// How many of them wait for each finalizer.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// What refused to be deleted.
    pub(super) failures: Vec<String>,
}

impl Findings {
    pub(super) fn note(&mut self, resource: &GroupVersionResource, left: &[Value]) {
        if left.is_empty() {
            return;
        }
        self.remaining.insert(resource.clone(), left.len());
        for finalizer in left
            .iter()
            .flat_map(|it| it.items_at(&["metadata", "finalizers"]))
        {
            *self
                .finalizers
                .entry(finalizer.as_str().unwrap_or_default().to_owned())
                .or_default() += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }

    /// Reason and message of a condition that has something to complain of.
    fn complaint(&self, kind: &str) -> Option<(&'static str, String)> {
        match kind {
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let mut failures = self.failures.clone();
                failures.sort();
                let (count, all) = (failures.len(), failures.join(", "));
                let message = format!("Failed to delete all resource types, {count} remaining: {all}");
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.remaining.is_empty() => {
                let one = |(resource, count): (&GroupVersionResource, &usize)| {
                    format!(
                        "{}.{} has {count} resource instances",
                        resource.resource, resource.group
                    )
                };
                let all = sorted(self.remaining.iter().map(one));
                Some((
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {all}"),
                ))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let one = |(name, count): (&String, &usize)| format!("{name} in {count} resource instances");
                let all = sorted(self.finalizers.iter().map(one));
                let message = format!("Some content in the namespace has finalizers remaining: {all}");
                Some(("SomeFinalizersRemain", message))
            }
            _ => None,
        }
    }
}

fn sorted(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<_> = items.collect();
    items.sort();
    items.join(", ")
}

/// The namespace's conditions after the findings; `None` when they say so already.
pub(super) fn updated(present: &[Value], findings: &Findings, now: &str) -> Option<Vec<Value>> {
    let mut conditions = present.to_vec();
    for (kind, fine_reason, fine_message) in FINE {
        let (status, reason, message) = match findings.complaint(kind) {
            Some((reason, message)) => ("True", reason, message),
            None => ("False", fine_reason, fine_message.to_owned()),
        };
        let Some(condition) = conditions
            .iter_mut()
            .find(|it| it.str_at(&["type"]) == Some(kind))
        else {
            conditions.push(value!({
                "type": (kind), "status": (status), "lastTransitionTime": (now), "reason": (reason), "message": (message)
            }));
            continue;
        };
        if condition.str_at(&["status"]) != Some(status) {
            condition.set_at(&["lastTransitionTime"], now);
        }
        condition.set_at(&["status"], status);
        condition.set_at(&["reason"], reason);
        condition.set_at(&["message"], message);
    }
    (conditions != present).then_some(conditions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told<'a>(conditions: &'a [Value], kind: &str) -> (&'a str, &'a str, &'a str) {
        let condition = conditions
            .iter()
            .find(|it| it.str_at(&["type"]) == Some(kind))
            .unwrap();
        let text = |member| condition.str_at(&[member]).unwrap();
        (text("status"), text("message"), text("lastTransitionTime"))
    }

    #[test]
    fn what_remains_is_told_and_unsaid_once_it_is_gone() {
        let mut findings = Findings::default();
        let held = value!({"metadata": {"finalizers": ["example.com/hold"]}});
        findings.note(
            &GroupVersionResource::new("", "v1", "pods"),
            &[held.clone(), held],
        );
        let some = updated(&[], &findings, "then").unwrap();
        assert_eq!(some.len(), 5);
        let remaining = "Some resources are remaining: pods. has 2 resource instances";
        assert_eq!(
            told(&some, "NamespaceContentRemaining"),
            ("True", remaining, "then")
        );
        let finalizers = "Some content in the namespace has finalizers remaining: \
                          example.com/hold in 2 resource instances";
        assert_eq!(
            told(&some, "NamespaceFinalizersRemaining"),
            ("True", finalizers, "then")
        );
        assert_eq!(told(&some, "NamespaceDeletionContentFailure").0, "False");
        assert_eq!(updated(&some, &findings, "later"), None);
        let none = updated(&some, &Findings::default(), "later").unwrap();
        assert_eq!(
            told(&none, "NamespaceContentRemaining"),
            ("False", "All content successfully removed", "later")
        );
        assert_eq!(told(&none, "NamespaceDeletionDiscoveryFailure").2, "then");
    }
}
