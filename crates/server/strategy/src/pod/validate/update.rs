//! What an update may change of a pod: little.

use std::fmt::Write as _;

use cloudeck_machinery::{Cause, Map, Value, json, names};

use super::{ANNOTATIONS, SPEC, annotations, containers, scheduling, whole};
use crate::check::{At, Faults, list, text};

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

pub(in crate::pod) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let [new_spec, old_spec] = [new, old].map(|pod| pod.get("spec").unwrap_or(&none));
    // A pod that was valid and whose specification stays is valid; most updates are of metadata.
    if new_spec == old_spec {
        annotations::check(new, new_spec, &ANNOTATIONS, &mut faults);
    } else {
        whole(new, &mut faults);
    }
    annotations::update(new, old, &ANNOTATIONS, &mut faults);
    if new_spec != old_spec {
        changes(new_spec, old_spec, &mut faults);
    }
    faults.into_causes()
}

fn changes(new: &Value, old: &Value, faults: &mut Faults) {
    for key in ["containers", "initContainers"] {
        if !same_containers(list(new, key), list(old, key), &SPEC.field(key), faults) {
            return;
        }
    }
    if !deadline(new, old, faults) {
        return;
    }
    tolerations(new, old, faults);
    scheduling_gates(new, old, faults);
    let mut munged = new.clone();
    take_over(&mut munged, old);
    if !list(old, "schedulingGates").is_empty() {
        gated(&mut munged, old, faults);
    }
    if munged != *old {
        let diff = unified_diff(&pretty(old), &pretty(&munged));
        let why = format!("pod updates may not change fields other than {UPDATABLE}\n{diff}");
        faults.forbidden(&SPEC, &why);
    }
}

fn same_containers(new: &[Value], old: &[Value], at: &At<'_>, faults: &mut Faults) -> bool {
    if new.len() != old.len() {
        faults.forbidden(at, "pod updates may not add or remove containers");
        return false;
    }
    for (i, container) in new.iter().enumerate() {
        let at = at.index(i);
        if text(container, "image").is_empty() {
            faults.required(&at.field("image"), "");
        }
        containers::only_pods(container, &at, faults);
    }
    true
}

/// Whether to go on.
fn deadline(new: &Value, old: &Value, faults: &mut Faults) -> bool {
    let at = SPEC.field("activeDeadlineSeconds");
    let [new, old] = [new, old].map(|spec| spec.int_at(&["activeDeadlineSeconds"]));
    let before = faults.len();
    match (new, old) {
        (Some(new), _) if !(0..=i64::from(i32::MAX)).contains(&new) => {
            faults.all_invalid(&at, &new, names::in_range(new, 0, i32::MAX.into()));
        }
        (Some(new), Some(old)) if old < new => {
            faults.invalid(&at, &new, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            faults.invalid(
                &at,
                &Value::Null,
                "must not update from a positive integer to nil value",
            );
            return true;
        }
        _ => {}
    }
    faults.len() == before
}

fn tolerations(new: &Value, old: &Value, faults: &mut Faults) {
    let at = SPEC.field("tolerations");
    let alike = |a: &Value, b: &Value| {
        let rest = |toleration: &Value| {
            let mut rest = toleration.clone();
            rest.remove_at(&["tolerationSeconds"]);
            rest
        };
        rest(a) == rest(b)
    };
    let all = list(new, "tolerations");
    for old in list(old, "tolerations") {
        if !all.iter().any(|new| alike(new, old)) {
            let why = "existing toleration can not be modified except its tolerationSeconds";
            return faults.forbidden(&at, why);
        }
    }
    scheduling::tolerations(all, &at, faults);
}

fn scheduling_gates(new: &Value, old: &Value, faults: &mut Faults) {
    let at = SPEC.field("schedulingGates");
    let before = list(old, "schedulingGates");
    for (i, gate) in list(new, "schedulingGates").iter().enumerate() {
        let name = text(gate, "name");
        if !before.iter().any(|old| text(old, "name") == name) {
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            faults.forbidden(&at.index(i).field("name"), &why);
        }
    }
}

/// Puts the old values where changes are allowed, so that only forbidden differences remain.
fn take_over(munged: &mut Value, old: &Value) {
    for key in ["containers", "initContainers"] {
        let images: Vec<Option<Value>> = list(old, key).iter().map(|c| c.get("image").cloned()).collect();
        for (container, image) in crate::fill::each(munged, key).zip(images) {
            restore(container, "image", image);
        }
    }
    for key in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        restore(munged, key, old.get(key).cloned());
    }
    let grace = |spec: &Value| spec.int_at(&["terminationGracePeriodSeconds"]);
    if grace(old).is_some_and(|seconds| seconds < 0) && grace(munged) == Some(1) {
        let key = "terminationGracePeriodSeconds";
        restore(munged, key, old.get(key).cloned());
    }
}

fn restore(parent: &mut Value, key: &str, value: Option<Value>) {
    if let Some(map) = parent.as_object_mut() {
        match value {
            Some(value) => map.insert(key, value),
            None => map.remove(key),
        };
    }
}

/// A pod behind scheduling gates may still be told to run on fewer nodes.
fn gated(munged: &mut Value, old: &Value, faults: &mut Faults) {
    let labels = |spec: &Value| spec.get("nodeSelector").and_then(Value::as_object).cloned();
    let (new_labels, old_labels): (Map, Map) = (
        labels(munged).unwrap_or_default(),
        labels(old).unwrap_or_default(),
    );
    if new_labels != old_labels {
        if old_labels
            .iter()
            .any(|(key, value)| new_labels.get(key) != Some(value))
        {
            let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
            faults.invalid(&SPEC.field("nodeSelector"), &Value::from(new_labels), why);
        }
        restore(munged, "nodeSelector", old.get("nodeSelector").cloned());
    }
    let path = ["affinity", "nodeAffinity"];
    let (new_affinity, old_affinity) = (munged.at(&path).cloned(), old.at(&path));
    if new_affinity.as_ref() != old_affinity {
        node_affinity(new_affinity.as_ref(), old_affinity, faults);
        match old_affinity {
            Some(affinity) => {
                munged.set_at(&path, affinity.clone());
            }
            None => {
                munged.remove_at(&path);
            }
        }
        let empty = munged
            .get("affinity")
            .is_some_and(|affinity| crate::fill::is_empty(Some(affinity)));
        if empty && old.get("affinity").is_none() {
            munged.remove_at(&["affinity"]);
        }
    }
}

fn node_affinity(new: Option<&Value>, old: Option<&Value>, faults: &mut Faults) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let terms = |affinity: Option<&Value>| {
        affinity
            .and_then(|it| it.at(&[REQUIRED, "nodeSelectorTerms"]))
            .and_then(Value::as_array)
            .map(<[Value]>::to_vec)
    };
    let Some(before) = terms(old) else { return };
    let after = terms(new).unwrap_or_default();
    let affinity = SPEC.field("affinity");
    let affinity = affinity.field("nodeAffinity");
    let required = affinity.field(REQUIRED);
    let at = required.field("nodeSelectorTerms");
    if !before.is_empty() && after.len() != before.len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        return faults.invalid(&at, &Value::from(after), why);
    }
    for (i, (old, new)) in before.iter().zip(&after).enumerate() {
        let empty = list(old, "matchExpressions").is_empty() && list(old, "matchFields").is_empty();
        let kept = ["matchExpressions", "matchFields"]
            .iter()
            .all(|key| list(new, key).starts_with(list(old, key)));
        if !kept || (empty && new != old) {
            let why = "only additions are allowed (no mutations or deletions)";
            faults.invalid(&at.index(i), new, why);
        }
    }
}

/// JSON with one blank per level, as upstream prints what it compares.
pub(crate) fn pretty(value: &Value) -> Vec<String> {
    let mut text = String::new();
    write_pretty(value, 0, &mut text);
    text.lines().map(str::to_owned).collect()
}

fn write_pretty(value: &Value, depth: usize, out: &mut String) {
    let indent = " ".repeat(depth + 1);
    match value {
        Value::Object(map) if !map.is_empty() => {
            out.push_str("{\n");
            for (i, (key, member)) in map.iter().enumerate() {
                let comma = if i == 0 { "" } else { ",\n" };
                let mut quoted = Vec::new();
                json::write_string(key, &mut quoted);
                let _ = write!(out, "{comma}{indent}{}: ", String::from_utf8_lossy(&quoted));
                write_pretty(member, depth + 1, out);
            }
            let _ = write!(out, "\n{}}}", " ".repeat(depth));
        }
        Value::Array(items) if !items.is_empty() => {
            out.push_str("[\n");
            for (i, item) in items.iter().enumerate() {
                let comma = if i == 0 { "" } else { ",\n" };
                let _ = write!(out, "{comma}{indent}");
                write_pretty(item, depth + 1, out);
            }
            let _ = write!(out, "\n{}]", " ".repeat(depth));
        }
        other => {
            let _ = write!(out, "{other}");
        }
    }
}

/// One hunk from the first to the last difference with three lines around it. Upstream splits distant differences
/// into hunks and prints its internal names.
pub(crate) fn unified_diff(old: &[String], new: &[String]) -> String {
    const CONTEXT: usize = 3;
    let head = old.iter().zip(new).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[head..], &new[head..]);
    let tail = old_rest
        .iter()
        .rev()
        .zip(new_rest.iter().rev())
        .take_while(|(a, b)| a == b)
        .count();
    let start = head.saturating_sub(CONTEXT);
    let after = tail.min(CONTEXT);
    let (removed, added) = (
        &old_rest[..old_rest.len() - tail],
        &new_rest[..new_rest.len() - tail],
    );
    let around = (head - start) + after;
    let mut out = format!(
        "@@ -{},{} +{},{} @@\n",
        start + 1,
        removed.len() + around,
        start + 1,
        added.len() + around
    );
    let mut lines = |mark: char, lines: &[String]| {
        for line in lines {
            let _ = writeln!(out, "{mark}{line}");
        }
    };
    lines(' ', &old[start..head]);
    lines('-', removed);
    lines('+', added);
    lines(
        ' ',
        &old_rest[old_rest.len() - tail..old_rest.len() - tail + after],
    );
    out
}
