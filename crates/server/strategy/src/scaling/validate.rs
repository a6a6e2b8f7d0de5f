//! Validation of autoscalers and disruption budgets.
//!
//! Source: `pkg/apis/autoscaling/validation/validation.go`, `pkg/apis/policy/validation/validation.go`.

use cloudeck_machinery::{Cause, Quantity, Value, names};

use crate::check::{At, Faults, given, list, number, present, text};
use crate::resource_name;
use crate::workload::{amount, plain};

const SPEC: At<'static> = At::root("spec");
const STATUS: At<'static> = At::root("status");
const LONGEST_WINDOW: i64 = 3600;
const LONGEST_PERIOD: i64 = 1800;
const KINDS: [&str; 5] = ["ContainerResource", "External", "Object", "Pods", "Resource"];

/// The sources of a metric, in the order in which they are looked for, and their types.
const SOURCES: [(&str, &str); 5] = [
    ("object", "Object"),
    ("external", "External"),
    ("pods", "Pods"),
    ("resource", "Resource"),
    ("containerResource", "ContainerResource"),
];

pub(super) fn autoscaler(scaler: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    scaler_spec(scaler, false, &mut faults);
    faults.into_causes()
}

pub(super) fn autoscaler_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let target = |scaler: &Value, field| {
        scaler
            .str_at(&["spec", "scaleTargetRef", field])
            .map(str::to_owned)
    };
    let same = ["apiVersion", "kind"]
        .iter()
        .all(|field| target(new, field) == target(old, field));
    scaler_spec(new, same, &mut faults);
    faults.into_causes()
}

fn scaler_spec(scaler: &Value, known_target: bool, faults: &mut Faults) {
    let none = Value::Null;
    let spec = scaler.get("spec").unwrap_or(&none);
    let (fewest, most) = (given(spec, "minReplicas"), number(spec, "maxReplicas"));
    if let Some(fewest) = fewest {
        faults.not_negative(&SPEC.field("minReplicas"), fewest);
    }
    let at = SPEC.field("maxReplicas");
    if most == 0 {
        faults.required(&at, "must be set and greater than 0");
    } else if most < 0 {
        faults.invalid(&at, &most, "must be greater than or equal to 1");
    }
    if fewest.is_some_and(|fewest| most < fewest) {
        faults.invalid(&at, &most, "must be greater than or equal to `minReplicas`");
    }
    let target = spec.get("scaleTargetRef").unwrap_or(&none);
    let groupless = text(target, "kind") == "ReplicationController";
    reference(
        target,
        known_target,
        groupless,
        &SPEC.field("scaleTargetRef"),
        faults,
    );
    metrics(spec, fewest, faults);
    if let Some(behavior) = present(spec, "behavior") {
        let at = SPEC.field("behavior");
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = present(behavior, direction) {
                scaling_rules(rules, &at.field(direction), faults);
            }
        }
    }
}

fn reference(target: &Value, known: bool, groupless: bool, at: &At<'_>, faults: &mut Faults) {
    for field in ["kind", "name"] {
        let (own, at) = (text(target, field), at.field(field));
        if own.is_empty() {
            faults.required(&at, "");
        } else {
            faults.all_invalid(&at, own, names::path_segment(own));
        }
    }
    let version = text(target, "apiVersion");
    let why = match version.matches('/').count() {
        _ if known => return,
        0 if !groupless => "apiVersion must specify API group".to_owned(),
        0 | 1 => return,
        _ => format!("unexpected GroupVersion string: {version}"),
    };
    faults.invalid(&at.field("apiVersion"), version, &why);
}

fn metrics(spec: &Value, fewest: Option<i64>, faults: &mut Faults) {
    let (metrics, at) = (list(spec, "metrics"), SPEC.field("metrics"));
    for (i, own) in metrics.iter().enumerate() {
        metric(own, &at.index(i), faults);
    }
    let outside = metrics
        .iter()
        .any(|metric| matches!(text(metric, "type"), "Object" | "External"));
    if fewest == Some(0) && !outside {
        let why = "must specify at least one Object or External metric to support scaling to zero replicas";
        faults.forbidden(&at, why);
    }
}

fn metric(metric: &Value, at: &At<'_>, faults: &mut Faults) {
    let kind = text(metric, "type");
    if kind.is_empty() {
        faults.required(&at.field("type"), "must specify a metric source type");
    }
    if !KINDS.contains(&kind) {
        faults.not_supported(&at.field("type"), kind, &KINDS);
    }
    let sources: Vec<(&str, &Value)> = SOURCES
        .iter()
        .filter_map(|(field, _)| Some((*field, present(metric, field)?)))
        .collect();
    if let Some((field, first)) = sources.first() {
        source(field, first, &at.field(field), faults);
    }
    let expected = SOURCES
        .iter()
        .find(|(_, own)| *own == kind)
        .map(|(field, _)| *field);
    match expected {
        Some(field) if present(metric, field).is_none() => {
            let why = "must populate information for the given metric source";
            faults.required(&at.field(field), why);
        }
        Some(_) => {}
        None => faults.not_supported(&at.field("type"), kind, &KINDS),
    }
    if sources.len() != 1 {
        for (field, _) in sources.iter().filter(|(field, _)| Some(*field) != expected) {
            faults.forbidden(&at.field(field), "must populate the given metric source only");
        }
    }
}

fn source(kind: &str, source: &Value, at: &At<'_>, faults: &mut Faults) {
    let none = Value::Null;
    let target_at = at.field("target");
    let goal = source.get("target").unwrap_or(&none);
    match kind {
        "object" => {
            let described = source.get("describedObject").unwrap_or(&none);
            reference(described, false, true, &at.field("describedObject"), faults);
            identifier(source, at, faults);
        }
        "external" | "pods" => identifier(source, at, faults),
        _ => resource(kind, source, at, faults),
    }
    target(goal, &target_at, faults);
    let has = |field| present(goal, field).is_some();
    let (value, average) = (has("value"), has("averageValue"));
    let average_at = target_at.field("averageValue");
    match kind {
        "object" if !value && !average => {
            faults.required(&average_at, "must set either a target value or averageValue");
        }
        "external" if !value && !average => {
            let why = "must set either a target value for metric or a per-pod target";
            faults.required(&average_at, why);
        }
        "external" if value && average => {
            let why = "may not set both a target value for metric and a per-pod target";
            faults.forbidden(&target_at.field("value"), why);
        }
        "pods" if !average => faults.required(&average_at, "must specify a positive target averageValue"),
        "resource" | "containerResource" => match (has("averageUtilization"), average) {
            (false, false) => {
                let why = "must set either a target raw value or a target utilization";
                faults.required(&target_at.field("averageUtilization"), why);
            }
            (true, true) => {
                let why = "may not set both a target raw value and a target utilization";
                faults.forbidden(&average_at, why);
            }
            _ => {}
        },
        _ => {}
    }
}

fn resource(kind: &str, source: &Value, at: &At<'_>, faults: &mut Faults) {
    let name = text(source, "name");
    if name.is_empty() {
        faults.required(&at.field("name"), "must specify a resource name");
    } else if kind == "containerResource" {
        resource_name::check_container(name, &at.field("name"), faults);
    }
    if kind == "containerResource" {
        let (container, at) = (text(source, "container"), at.field("container"));
        if container.is_empty() {
            faults.required(&at, "must specify a container");
        } else {
            faults.all_invalid(&at, container, names::dns1123_label(container));
        }
    }
}

fn identifier(source: &Value, at: &At<'_>, faults: &mut Faults) {
    let at = at.field("metric");
    let at = at.field("name");
    match source.str_at(&["metric", "name"]).unwrap_or_default() {
        "" => faults.required(&at, "must specify a metric name"),
        name => faults.all_invalid(&at, name, names::path_segment(name)),
    }
}

fn target(target: &Value, at: &At<'_>, faults: &mut Faults) {
    let kind = text(target, "type");
    if kind.is_empty() {
        faults.required(&at.field("type"), "must specify a metric target type");
    }
    if !matches!(kind, "Utilization" | "Value" | "AverageValue") {
        let why = "must be either Utilization, Value, or AverageValue";
        faults.invalid(&at.field("type"), kind, why);
    }
    for field in ["value", "averageValue"] {
        let Some(own) = target.str_at(&[field]) else {
            continue;
        };
        let positive = own
            .parse::<Quantity>()
            .is_ok_and(|own| !own.is_negative() && !own.is_zero());
        if !positive {
            faults.invalid(&at.field(field), own, "must be positive");
        }
    }
    if let Some(own) = given(target, "averageUtilization").filter(|own| *own < 1) {
        faults.invalid(&at.field("averageUtilization"), &own, "must be greater than 0");
    }
}

fn scaling_rules(rules: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(window) = given(rules, "stabilizationWindowSeconds") {
        let at = at.field("stabilizationWindowSeconds");
        if window < 0 {
            faults.invalid(&at, &window, "must be greater than or equal to zero");
        }
        if window > LONGEST_WINDOW {
            let why = format!("must be less than or equal to {LONGEST_WINDOW}");
            faults.invalid(&at, &window, &why);
        }
    }
    let select = ["Disabled", "Max", "Min"];
    if let Some(own) = rules
        .str_at(&["selectPolicy"])
        .filter(|own| !select.contains(own))
    {
        faults.not_supported(&at.field("selectPolicy"), own, &select);
    }
    let (policies, place) = (list(rules, "policies"), at.field("policies"));
    if policies.is_empty() {
        faults.required(&place, "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let at = place.index(i);
        let kind = text(policy, "type");
        if !matches!(kind, "Pods" | "Percent") {
            faults.not_supported(&at.field("type"), kind, &["Percent", "Pods"]);
        }
        for field in ["value", "periodSeconds"] {
            let own = number(policy, field);
            if own <= 0 {
                faults.invalid(&at.field(field), &own, "must be greater than zero");
            }
        }
        let period = number(policy, "periodSeconds");
        if period > LONGEST_PERIOD {
            let why = format!("must be less than or equal to {LONGEST_PERIOD}");
            faults.invalid(&at.field("periodSeconds"), &period, &why);
        }
    }
    let tolerance = text(rules, "tolerance");
    if tolerance.parse::<Quantity>().is_ok_and(Quantity::is_negative) {
        faults.invalid(&at.field("tolerance"), tolerance, crate::check::NEGATIVE);
    }
}

pub(super) fn autoscaler_status(new: &Value, _old: &Value) -> Vec<Cause> {
    let none = Value::Null;
    counts(
        new.get("status").unwrap_or(&none),
        &["currentReplicas", "desiredReplicas"],
    )
}

fn counts(status: &Value, fields: &[&str]) -> Vec<Cause> {
    let mut faults = Faults::default();
    for field in fields {
        faults.not_negative(&STATUS.field(field), number(status, field));
    }
    faults.into_causes()
}

pub(super) fn budget(budget: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let spec = budget.get("spec").unwrap_or(&none);
    let fields = ["minAvailable", "maxUnavailable"];
    if fields.iter().all(|field| present(spec, field).is_some()) {
        faults.invalid(&SPEC, spec, "minAvailable and maxUnavailable cannot be both set");
    }
    for field in fields {
        let Some(own) = present(spec, field) else {
            continue;
        };
        let at = SPEC.field(field);
        amount(own, &at, &mut faults);
        if matches!(own, Value::String(_)) && plain(own) > 100 {
            faults.invalid(&at, own, "must not be greater than 100%");
        }
    }
    faults.label_selector(&SPEC.field("selector"), spec.get("selector"));
    let policies = ["AlwaysAllow", "IfHealthyBudget"];
    if let Some(own) = spec
        .str_at(&["unhealthyPodEvictionPolicy"])
        .filter(|own| !policies.contains(own))
    {
        faults.not_supported(&SPEC.field("unhealthyPodEvictionPolicy"), own, &policies);
    }
    faults.into_causes()
}

pub(super) fn budget_status(new: &Value, _old: &Value) -> Vec<Cause> {
    let none = Value::Null;
    let fields = [
        "disruptionsAllowed",
        "currentHealthy",
        "desiredHealthy",
        "expectedPods",
    ];
    counts(new.get("status").unwrap_or(&none), &fields)
}

#[cfg(test)]
mod tests;
