//! Validation of StatefulSets, DaemonSets and their revisions.
//!
//! Source: `pkg/apis/apps/validation/validation.go`.

use cloudeck_machinery::{Cause, LabelSelector, Value, names, value};

use super::validate::{SPEC, amount, counts, not_decremented, not_negative, plain, same_selector};
use crate::check::{At, Faults, list, number, present, text};
use crate::fill;
use crate::pod::validate as pod;
use crate::storage::check_claim_spec;

pub(super) fn stateful_set(set: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    stateful_spec(set, &mut faults);
    faults.into_causes()
}

pub(super) fn stateful_set_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    stateful_spec(new, &mut faults);
    for field in [
        "selector",
        "volumeClaimTemplates",
        "serviceName",
        "podManagementPolicy",
    ] {
        let [new, old] = [new, old].map(|set| set.at(&["spec", field]));
        faults.immutable(&SPEC.field(field), new, old);
    }
    faults.into_causes()
}

fn stateful_spec(set: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = set.get("spec").unwrap_or(&none);
    match text(spec, "podManagementPolicy") {
        "" => faults.required(&SPEC.field("podManagementPolicy"), ""),
        "OrderedReady" | "Parallel" => {}
        other => {
            let why = "must be 'OrderedReady' or 'Parallel'";
            faults.invalid(&SPEC.field("podManagementPolicy"), other, why);
        }
    }
    stateful_strategy(spec, faults);
    if let Some(policy) = present(spec, "persistentVolumeClaimRetentionPolicy") {
        let at = SPEC.field("persistentVolumeClaimRetentionPolicy");
        for field in ["whenDeleted", "whenScaled"] {
            let own = text(policy, field);
            if !matches!(own, "Retain" | "Delete") {
                faults.not_supported(&at.field(field), own, &["Retain", "Delete"]);
            }
        }
    }
    for (i, claim) in list(spec, "volumeClaimTemplates").iter().enumerate() {
        let at = SPEC.field("volumeClaimTemplates");
        let at = at.index(i);
        check_claim_spec(claim.get("spec").unwrap_or(&none), &at.field("spec"), faults);
    }
    not_negative(spec, "replicas", faults);
    not_negative(spec, "minReadySeconds", faults);
    if let Some(ordinals) = present(spec, "ordinals") {
        faults.not_negative(&SPEC.field("ordinals.start"), number(ordinals, "start"));
    }
    let service = text(spec, "serviceName");
    if !service.is_empty() {
        let problems = names::dns1123_label(service);
        faults.all_invalid(&SPEC.field("serviceName"), service, problems);
    }
    selector(spec, "statefulset", faults);
    stateful_template(spec, faults);
    endless(spec, "StatefulSet", faults);
}

fn stateful_strategy(spec: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let own = spec.get("updateStrategy").unwrap_or(&none);
    let at = SPEC.field("updateStrategy");
    let place = at.field("rollingUpdate");
    match (text(own, "type"), present(own, "rollingUpdate")) {
        ("", _) => faults.required(&at, ""),
        ("OnDelete", Some(update)) => {
            let why = "only allowed for updateStrategy 'RollingUpdate'";
            faults.invalid(&place, update, why);
        }
        ("OnDelete" | "RollingUpdate", None) => {}
        ("RollingUpdate", Some(update)) => {
            faults.not_negative(&place.field("partition"), number(update, "partition"));
            if let Some(most) = present(update, "maxUnavailable") {
                let at = place.field("maxUnavailable");
                amount(most, &at, faults);
                if plain(most) == 0 {
                    faults.invalid(&at, most, "cannot be 0");
                }
                at_most_all(most, &at, faults);
            }
        }
        _ => faults.invalid(&at, own, "must be 'RollingUpdate' or 'OnDelete'"),
    }
}

fn at_most_all(value: &Value, at: &At<'_>, faults: &mut Faults) {
    if matches!(value, Value::String(_)) && plain(value) > 100 {
        faults.invalid(at, value, "must not be greater than 100%");
    }
}

fn selector(spec: &Value, kind: &str, faults: &mut Faults) {
    let at = SPEC.field("selector");
    let Some(own) = present(spec, "selector") else {
        return faults.required(&at, "");
    };
    faults.label_selector(&at, Some(own));
    if fill::is_empty(own.get("matchLabels")) && fill::is_empty(own.get("matchExpressions")) {
        let why = format!("empty selector is invalid for {kind}");
        faults.invalid(&at, own, &why);
    }
}

fn labels_match(spec: &Value, template: &Value, even_empty: bool, faults: &mut Faults) {
    let Ok(selector) = LabelSelector::from_value(present(spec, "selector")) else {
        let shown = spec.get("selector").unwrap_or(&Value::Null);
        return faults.invalid(&SPEC.field("selector"), shown, "");
    };
    if (even_empty || !selector.is_everything()) && !selector.matches_tree(template) {
        let at = SPEC.field("template");
        let at = at.field("metadata");
        let labels = template.at(&["metadata", "labels"]).unwrap_or(&Value::Null);
        let why = "`selector` does not match template `labels`";
        faults.invalid(&at.field("labels"), labels, why);
    }
}

/// The template as the controller completes it: names are overwritten, claims become volumes.
fn stateful_template(spec: &Value, faults: &mut Faults) {
    let mut template = spec.get("template").cloned().unwrap_or_default();
    labels_match(spec, &template, false, faults);
    for field in ["subdomain", "hostname"] {
        template.remove_at(&["spec", field]);
    }
    let claims: Vec<&str> = list(spec, "volumeClaimTemplates")
        .iter()
        .filter_map(|claim| claim.str_at(&["metadata", "name"]))
        .collect();
    if !claims.is_empty() {
        let mut volumes: Vec<Value> = claims
            .iter()
            .map(|name| value!({"name": (*name), "persistentVolumeClaim": {"claimName": (*name)}}))
            .collect();
        let own = template.items_at(&["spec", "volumes"]).iter();
        volumes.extend(
            own.filter(|volume| !claims.contains(&text(volume, "name")))
                .cloned(),
        );
        template.set_at(&["spec", "volumes"], volumes);
    }
    pod::template(&template, &SPEC.field("template"), faults);
}

/// Pods that are kept running neither end by themselves nor have a deadline.
fn endless(spec: &Value, kind: &str, faults: &mut Faults) {
    let at = SPEC.field("template");
    let at = at.field("spec");
    let own = |field: &str| spec.at(&["template", "spec", field]);
    let policy = own("restartPolicy").and_then(Value::as_str).unwrap_or_default();
    if policy != "Always" {
        faults.not_supported(&at.field("restartPolicy"), policy, &["Always"]);
    }
    if own("activeDeadlineSeconds").is_some() {
        let why = format!("activeDeadlineSeconds in {kind} is not Supported");
        faults.forbidden(&at.field("activeDeadlineSeconds"), &why);
    }
}

pub(super) fn stateful_set_status(new: &Value, old: &Value) -> Vec<Cause> {
    let fields = [
        "replicas",
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
        "observedGeneration",
        "collisionCount",
    ];
    let bounded = [
        "readyReplicas",
        "currentReplicas",
        "updatedReplicas",
        "availableReplicas",
    ];
    let mut faults = Faults::default();
    counts(new, &fields, &bounded, "status.readyReplicas", &mut faults);
    not_decremented(new, old, &mut faults);
    faults.into_causes()
}

pub(super) fn daemon_set(set: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    daemon_spec(set, &mut faults);
    faults.into_causes()
}

pub(super) fn daemon_set_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    same_selector(new, old, &mut faults);
    daemon_spec(new, &mut faults);
    faults.into_causes()
}

fn daemon_spec(set: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = set.get("spec").unwrap_or(&none);
    let at = SPEC.field("selector");
    let own = present(spec, "selector");
    faults.label_selector(&at, own);
    let template = spec.get("template").unwrap_or(&none);
    labels_match(spec, template, true, faults);
    let empty =
        |own: &&Value| fill::is_empty(own.get("matchLabels")) && fill::is_empty(own.get("matchExpressions"));
    if let Some(own) = own.filter(empty) {
        faults.invalid(&at, own, "empty selector is invalid for daemonset");
    }
    pod::template(template, &SPEC.field("template"), faults);
    endless(spec, "DaemonSet", faults);
    not_negative(spec, "minReadySeconds", faults);
    daemon_strategy(spec, faults);
    not_negative(spec, "revisionHistoryLimit", faults);
}

fn daemon_strategy(spec: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let own = spec.get("updateStrategy").unwrap_or(&none);
    let at = SPEC.field("updateStrategy");
    let place = at.field("rollingUpdate");
    match (text(own, "type"), present(own, "rollingUpdate")) {
        ("OnDelete", _) => {}
        ("RollingUpdate", None) => faults.required(&place, ""),
        ("RollingUpdate", Some(update)) => daemon_update(update, &place, faults),
        _ => faults.not_supported(&at, own, &["RollingUpdate", "OnDelete"]),
    }
}

fn daemon_update(update: &Value, at: &At<'_>, faults: &mut Faults) {
    let zero = Value::Int(0);
    let [unavailable, surge] =
        ["maxUnavailable", "maxSurge"].map(|key| present(update, key).unwrap_or(&zero));
    let (first, second) = (at.field("maxUnavailable"), at.field("maxSurge"));
    amount(unavailable, &first, faults);
    amount(surge, &second, faults);
    at_most_all(unavailable, &first, faults);
    at_most_all(surge, &second, faults);
    match (plain(unavailable) != 0, plain(surge) != 0) {
        (true, true) => {
            let why = "may not be set when maxUnavailable is non-zero";
            faults.invalid(&second, surge, why);
        }
        (false, false) => faults.required(&first, "cannot be 0 when maxSurge is 0"),
        _ => {}
    }
}

pub(super) fn daemon_set_status(new: &Value, old: &Value) -> Vec<Cause> {
    let fields = [
        "currentNumberScheduled",
        "numberMisscheduled",
        "desiredNumberScheduled",
        "numberReady",
        "observedGeneration",
        "updatedNumberScheduled",
        "numberAvailable",
        "numberUnavailable",
        "collisionCount",
    ];
    let mut faults = Faults::default();
    counts(new, &fields, &[], "", &mut faults);
    not_decremented(new, old, &mut faults);
    faults.into_causes()
}

pub(super) fn revision(revision: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    number_of(revision, &mut faults);
    match present(revision, "data") {
        None => faults.required(&At::root("data"), "data is mandatory"),
        Some(Value::Object(_)) => {}
        Some(_) => faults.required(&At::root("data"), "data must be a valid JSON object"),
    }
    faults.into_causes()
}

pub(super) fn revision_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    number_of(new, &mut faults);
    faults.immutable(&At::root("data"), new.get("data"), old.get("data"));
    faults.into_causes()
}

fn number_of(revision: &Value, faults: &mut Faults) {
    faults.not_negative(&At::root("revision"), number(revision, "revision"));
}

#[cfg(test)]
mod tests;
