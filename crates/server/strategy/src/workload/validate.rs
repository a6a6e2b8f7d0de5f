//! Validation of Deployments and ReplicaSets.
//!
//! Source: `pkg/apis/apps/validation/validation.go`.

use cloudeck_machinery::{Cause, LabelSelector, Value, names};

use crate::check::{At, Faults, number, present, text};
use crate::fill;
use crate::pod::validate as pod;

pub(super) const SPEC: At<'static> = At::root("spec");
const STATUS: At<'static> = At::root("status");

pub(super) fn deployment(deployment: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    deployment_spec(deployment, &mut faults);
    faults.into_causes()
}

pub(super) fn deployment_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    deployment_spec(new, &mut faults);
    same_selector(new, old, &mut faults);
    faults.into_causes()
}

pub(super) fn replica_set(set: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    replica_set_spec(set, &mut faults);
    faults.into_causes()
}

pub(super) fn replica_set_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    replica_set_spec(new, &mut faults);
    same_selector(new, old, &mut faults);
    faults.into_causes()
}

pub(super) fn same_selector(new: &Value, old: &Value, faults: &mut Faults) {
    let [new, old] = [new, old].map(|object| object.at(&["spec", "selector"]));
    faults.immutable(&SPEC.field("selector"), new, old);
}

pub(super) fn not_negative(spec: &Value, field: &str, faults: &mut Faults) {
    faults.not_negative(&SPEC.field(field), number(spec, field));
}

fn deployment_spec(deployment: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = deployment.get("spec").unwrap_or(&none);
    not_negative(spec, "replicas", faults);
    selector_and_template(spec, faults);
    strategy(spec, faults);
    not_negative(spec, "minReadySeconds", faults);
    not_negative(spec, "revisionHistoryLimit", faults);
    if let Some(deadline) = spec.int_at(&["progressDeadlineSeconds"]) {
        let at = SPEC.field("progressDeadlineSeconds");
        faults.not_negative(&at, deadline);
        if deadline <= number(spec, "minReadySeconds") {
            faults.invalid(&at, &deadline, "must be greater than minReadySeconds");
        }
    }
}

fn replica_set_spec(set: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = set.get("spec").unwrap_or(&none);
    not_negative(spec, "replicas", faults);
    not_negative(spec, "minReadySeconds", faults);
    selector_and_template(spec, faults);
}

fn selector_and_template(spec: &Value, faults: &mut Faults) {
    let at = SPEC.field("selector");
    let selector = present(spec, "selector");
    match selector {
        None => faults.required(&at, ""),
        Some(own) => {
            faults.label_selector(&at, Some(own));
            let empty = fill::is_empty(own.get("matchLabels")) && fill::is_empty(own.get("matchExpressions"));
            if empty {
                faults.invalid(&at, own, "empty selector is invalid for deployment");
            }
        }
    }
    let Ok(parsed) = LabelSelector::from_value(selector) else {
        let shown = selector.unwrap_or(&Value::Null);
        return faults.invalid(&at, shown, "invalid label selector");
    };
    template(spec, &parsed, faults);
}

fn template(spec: &Value, selector: &LabelSelector, faults: &mut Faults) {
    let none = Value::Null;
    let template = spec.get("template").unwrap_or(&none);
    let at = SPEC.field("template");
    if !selector.is_everything() && !selector.matches_tree(template) {
        let metadata = at.field("metadata");
        let labels = template.at(&["metadata", "labels"]).unwrap_or(&Value::Null);
        let why = "`selector` does not match template `labels`";
        faults.invalid(&metadata.field("labels"), labels, why);
    }
    pod::template(template, &at, faults);
    let own = template.get("spec").unwrap_or(&none);
    let at = at.field("spec");
    let policy = text(own, "restartPolicy");
    if policy != "Always" {
        faults.not_supported(&at.field("restartPolicy"), policy, &["Always"]);
    }
    if present(own, "activeDeadlineSeconds").is_some() {
        let why = "activeDeadlineSeconds in ReplicaSet is not Supported";
        faults.forbidden(&at.field("activeDeadlineSeconds"), why);
    }
}

fn strategy(spec: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let own = spec.get("strategy").unwrap_or(&none);
    let at = SPEC.field("strategy");
    let update = present(own, "rollingUpdate");
    let path = at.field("rollingUpdate");
    match (text(own, "type"), update) {
        ("Recreate", None) => {}
        ("Recreate", Some(_)) => {
            faults.forbidden(&path, "may not be specified when strategy `type` is 'Recreate'");
        }
        ("RollingUpdate", None) => faults.required(&path, "this should be defaulted and never be nil"),
        ("RollingUpdate", Some(update)) => rolling_update(update, &path, faults),
        _ => faults.not_supported(&at, own, &["Recreate", "RollingUpdate"]),
    }
}

fn rolling_update(update: &Value, at: &At<'_>, faults: &mut Faults) {
    let zero = Value::Int(0);
    let [unavailable, surge] =
        ["maxUnavailable", "maxSurge"].map(|key| present(update, key).unwrap_or(&zero));
    amount(unavailable, &at.field("maxUnavailable"), faults);
    amount(surge, &at.field("maxSurge"), faults);
    if plain(unavailable) == 0 && plain(surge) == 0 {
        let why = "may not be 0 when `maxSurge` is 0";
        faults.invalid(&at.field("maxUnavailable"), unavailable, why);
    }
    if matches!(unavailable, Value::String(_)) && plain(unavailable) > 100 {
        let why = "must not be greater than 100%";
        faults.invalid(&at.field("maxUnavailable"), unavailable, why);
    }
}

pub(crate) fn amount(value: &Value, at: &At<'_>, faults: &mut Faults) {
    match value {
        Value::String(text) => faults.all_invalid(at, text.as_str(), names::percent(text)),
        other => faults.not_negative(at, other.as_int().unwrap_or(0)),
    }
}

/// The number of pods or of percent.
pub(crate) fn plain(value: &Value) -> i64 {
    match value {
        Value::String(text) => text
            .strip_suffix('%')
            .and_then(|digits| digits.parse().ok())
            .unwrap_or(0),
        other => other.as_int().unwrap_or(0),
    }
}

pub(super) fn deployment_status(new: &Value, old: &Value) -> Vec<Cause> {
    let fields = [
        "observedGeneration",
        "replicas",
        "updatedReplicas",
        "readyReplicas",
        "availableReplicas",
        "unavailableReplicas",
        "terminatingReplicas",
        "collisionCount",
    ];
    let bounded = ["updatedReplicas", "readyReplicas", "availableReplicas"];
    let mut faults = Faults::default();
    counts(new, &fields, &bounded, "readyReplicas", &mut faults);
    not_decremented(new, old, &mut faults);
    faults.into_causes()
}

/// A count of collisions never falls.
pub(super) fn not_decremented(new: &Value, old: &Value, faults: &mut Faults) {
    let count = |object: &Value| object.int_at(&["status", "collisionCount"]);
    if let Some(before) = count(old)
        && count(new).unwrap_or(0) < before
    {
        let value = count(new).unwrap_or(0);
        faults.invalid(&STATUS.field("collisionCount"), &value, "cannot be decremented");
    }
}

pub(super) fn replica_set_status(new: &Value, _old: &Value) -> Vec<Cause> {
    let fields = [
        "replicas",
        "fullyLabeledReplicas",
        "readyReplicas",
        "availableReplicas",
        "observedGeneration",
        "terminatingReplicas",
    ];
    let bounded = ["fullyLabeledReplicas", "readyReplicas", "availableReplicas"];
    let mut faults = Faults::default();
    counts(new, &fields, &bounded, "readyReplicas", &mut faults);
    faults.into_causes()
}

/// Counts are not negative; those of `bounded` are not above the replicas, nor those available above the ready ones, whom
/// upstream calls `ready`.
pub(super) fn counts(object: &Value, fields: &[&str], bounded: &[&str], ready: &str, faults: &mut Faults) {
    let none = Value::Null;
    let status = object.get("status").unwrap_or(&none);
    for field in fields {
        faults.not_negative(&STATUS.field(field), number(status, field));
    }
    let all = number(status, "replicas");
    for field in bounded {
        let own = number(status, field);
        if own > all {
            faults.invalid(
                &STATUS.field(field),
                &own,
                "cannot be greater than status.replicas",
            );
        }
    }
    let available = number(status, "availableReplicas");
    if available > number(status, "readyReplicas") {
        let why = format!("cannot be greater than {ready}");
        faults.invalid(&STATUS.field("availableReplicas"), &available, &why);
    }
}

/// A replication controller: a map for a selector, and a template that it must match.
pub(super) fn replication_controller(controller: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let spec = controller.get("spec").unwrap_or(&none);
    not_negative(spec, "minReadySeconds", &mut faults);
    if fill::is_empty(spec.get("selector")) {
        faults.required(&SPEC.field("selector"), "");
    }
    not_negative(spec, "replicas", &mut faults);
    if present(spec, "template").is_none() {
        faults.required(&SPEC.field("template"), "");
    } else {
        let labels = spec.get("selector").and_then(Value::as_object);
        template(spec, &LabelSelector::from_map(labels), &mut faults);
    }
    faults.into_causes()
}

#[cfg(test)]
mod tests;
