//! Annotations that mean something on pods.

use cloudeck_machinery::{Value, names};

use crate::check::{At, Faults, entries, text};

const MIRROR: &str = "kubernetes.io/config.mirror";
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const APPARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

/// Checks the annotations of a pod or template whose specification is `spec`.
pub(super) fn check(object: &Value, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let Some(annotations) = object.at(&["metadata", "annotations"]) else {
        return;
    };
    if let Some(value) = annotations.str_at(&[MIRROR])
        && text(spec, "nodeName").is_empty()
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        faults.invalid(&at.key(MIRROR), value, why);
    }
    if let Some(cost) = annotations.str_at(&[DELETION_COST])
        && !is_deletion_cost(cost)
    {
        faults.invalid(&at.key(DELETION_COST), cost, "must be a 32bit integer");
    }
}

/// A 32-bit number in its plain form: no plus sign, no leading zeros.
fn is_deletion_cost(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    text.parse::<i32>().is_ok() && !text.starts_with('+') && (digits == "0" || !digits.starts_with('0'))
}

/// Keys and size of a template's annotations; those of whole objects are the server's affair.
pub(super) fn keys(metadata: &Value, at: &At<'_>, faults: &mut Faults) {
    for (key, _) in entries(metadata, "annotations") {
        faults.all_invalid(at, key, names::annotation_key(key));
    }
    let all = entries(metadata, "annotations").map(|(key, value)| (key, value.as_str().unwrap_or_default()));
    if names::annotations_too_long(all) {
        faults.too_long(at, names::MAX_ANNOTATIONS_BYTES);
    }
}

/// Annotations that an update may not touch.
pub(super) fn update(new: &Value, old: &Value, at: &At<'_>, faults: &mut Faults) {
    let empty = Value::Null;
    let [new, old] = [new, old].map(|pod| pod.get("metadata").unwrap_or(&empty));
    let of = |metadata: &Value, key: &str| metadata.at(&["annotations", key]).cloned();
    for (key, value) in entries(old, "annotations") {
        if of(new, key).as_ref() == Some(value) {
            continue;
        }
        if key.starts_with(APPARMOR) {
            faults.forbidden(&at.key(key), "may not remove or update AppArmor annotations");
        }
        if key == MIRROR {
            faults.forbidden(&at.key(key), "may not remove or update mirror pod annotation");
        }
    }
    for (key, _) in entries(new, "annotations") {
        if of(old, key).is_some() {
            continue;
        }
        if key.starts_with(APPARMOR) {
            faults.forbidden(&at.key(key), "may not add AppArmor annotations");
        }
        if key == MIRROR {
            faults.forbidden(&at.key(key), "may not add mirror pod annotation");
        }
    }
}
