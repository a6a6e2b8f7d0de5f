//! A Deployment's conditions: when one is replaced, and which of its times change.

use cloudeck_machinery::{Value, value};

use crate::clock::Now;

pub(super) const PROGRESSING: &str = "Progressing";
pub(super) const AVAILABLE: &str = "Available";
pub(super) const REPLICA_FAILURE: &str = "ReplicaFailure";

pub(super) fn new(kind: &str, status: &str, reason: &str, message: &str, now: Now) -> Value {
    let at = now.timestamp();
    value!({
        "type": (kind), "status": (status), "reason": (reason), "message": (message),
        "lastUpdateTime": (at.as_str()), "lastTransitionTime": (at.as_str())
    })
}

pub(super) fn progressing(status: &str, reason: &str, message: &str, now: Now) -> Value {
    new(PROGRESSING, status, reason, message, now)
}

pub(super) fn find<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a Value> {
    conditions
        .iter()
        .find(|condition| condition.str_at(&["type"]) == Some(kind))
}

pub(super) fn reason_of<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a str> {
    find(conditions, kind)?.str_at(&["reason"])
}

pub(super) fn remove(conditions: &mut Vec<Value>, kind: &str) {
    conditions.retain(|condition| condition.str_at(&["type"]) != Some(kind));
}

/// Adds or replaces a condition; one with the same status and reason stays as it is.
pub(super) fn set(conditions: &mut Vec<Value>, mut condition: Value) {
    let kind = condition.str_at(&["type"]).unwrap_or_default().to_owned();
    if let Some(present) = find(conditions, &kind) {
        let same = |field| present.str_at(&[field]) == condition.str_at(&[field]);
        if same("status") && same("reason") {
            return;
        }
        if same("status")
            && let Some(time) = present.at(&["lastTransitionTime"]).cloned()
        {
            condition.set_at(&["lastTransitionTime"], time);
        }
    }
    remove(conditions, &kind);
    conditions.push(condition);
}
