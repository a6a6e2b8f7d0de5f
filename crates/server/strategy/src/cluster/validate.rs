//! Validation of namespaces, leases and priority classes.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, flag, number, present, text};

pub(super) fn namespace(namespace: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let spec = At::root("spec");
    let at = spec.field("finalizers");
    let finalizers = namespace.items_at(&["spec", "finalizers"]);
    for name in finalizers.iter().filter_map(Value::as_str) {
        faults.all_invalid(&at, name, names::finalizer_name(name));
        if !name.contains('/') && !names::standard_finalizer(name) {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            faults.invalid(&at, name, why);
        }
    }
    faults.into_causes()
}

pub(super) fn namespace_status(new: &Value, _old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let status = At::root("status");
    let at = status.field("Phase");
    let phase = new.str_at(&["status", "phase"]).unwrap_or_default();
    let deleting = new
        .at(&["metadata", "deletionTimestamp"])
        .is_some_and(|time| !time.is_null());
    if !deleting && phase != "Active" {
        let why = "may only be 'Active' if `deletionTimestamp` is empty";
        faults.invalid(&at, phase, why);
    }
    if deleting && phase != "Terminating" {
        let why = "may only be 'Terminating' if `deletionTimestamp` is not empty";
        faults.invalid(&at, phase, why);
    }
    faults.into_causes()
}

pub(super) fn lease(lease: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let at = At::root("spec");
    let none = Value::Null;
    let spec = lease.get("spec").unwrap_or(&none);
    if let Some(seconds) = spec
        .int_at(&["leaseDurationSeconds"])
        .filter(|seconds| *seconds <= 0)
    {
        let why = "must be greater than 0";
        faults.invalid(&at.field("leaseDurationSeconds"), &seconds, why);
    }
    if let Some(count) = spec.int_at(&["leaseTransitions"]).filter(|count| *count < 0) {
        let why = "must be greater than or equal to 0";
        faults.invalid(&at.field("leaseTransitions"), &count, why);
    }
    let strategy = text(spec, "strategy");
    let path = at.field("strategy");
    // Upstream names the field twice.
    let path = path.field("strategy");
    if present(spec, "strategy").is_some() {
        if strategy.contains('/') {
            faults.all_invalid(&path, strategy, names::qualified_name(strategy));
        } else if strategy != "OldestEmulationVersion" {
            faults.not_supported(&path, strategy, &["OldestEmulationVersion"]);
        }
    }
    if !text(spec, "preferredHolder").is_empty() && strategy.is_empty() {
        let why = "may only be specified if `strategy` is defined";
        faults.forbidden(&at.field("preferredHolder"), why);
    }
    faults.into_causes()
}

pub(super) fn priority_class(class: &Value) -> Vec<Cause> {
    /// Above it are the system's own.
    const HIGHEST: i64 = 1_000_000_000;
    let mut faults = Faults::default();
    let name = class.str_at(&["metadata", "name"]).unwrap_or_default();
    let value = number(class, "value");
    if name.starts_with("system-") {
        if let Err(why) = known_system_class(name, value, flag(class, "globalDefault")) {
            let metadata = At::root("metadata");
            let why = format!(
                "priority class names with 'system-' prefix are reserved for system use only. error: {why}"
            );
            faults.forbidden(&metadata.field("name"), &why);
        }
    } else if value > HIGHEST {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST}");
        faults.forbidden(&At::root("value"), &why);
    }
    if let Some(policy) = present(class, "preemptionPolicy").and_then(Value::as_str) {
        let supported = ["PreemptLowerPriority", "Never"];
        faults.one_of(&At::root("preemptionPolicy"), policy, &supported);
    }
    faults.into_causes()
}

fn known_system_class(name: &str, value: i64, is_default: bool) -> Result<(), String> {
    let expected = match name {
        "system-node-critical" => 2_000_001_000,
        "system-cluster-critical" => 2_000_000_000,
        _ => return Err(format!("{name} is not a known system priority class")),
    };
    if value != expected {
        return Err(format!("value of {name} PriorityClass must be {expected}"));
    }
    if is_default {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

pub(super) fn priority_class_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    if number(new, "value") != number(old, "value") {
        faults.forbidden(&At::root("value"), "may not be changed in an update.");
    }
    let [now, before] = [new, old].map(|class| class.get("preemptionPolicy"));
    faults.immutable(&At::root("preemptionPolicy"), now, before);
    faults.into_causes()
}

/// Events as core/v1 judges them. What events.k8s.io demands besides stands in `strict_event`.
pub(super) fn event(event: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let own = event.str_at(&["metadata", "namespace"]).unwrap_or_default();
    let about = event.str_at(&["involvedObject", "namespace"]).unwrap_or_default();
    let involved = At::root("involvedObject");
    let at = involved.field("namespace");
    let elsewhere = "does not match event.namespace";
    if present(event, "eventTime").is_none() {
        let fits = if about.is_empty() {
            matches!(own, "" | "default")
        } else {
            own == about
        };
        if !fits {
            faults.invalid(&at, about, elsewhere);
        }
        return faults.into_causes();
    }
    if about.is_empty() && !matches!(own, "default" | "kube-system") {
        faults.invalid(&at, about, elsewhere);
    }
    new_event(event, &mut faults);
    faults.into_causes()
}

fn new_event(event: &Value, faults: &mut Faults) {
    let reporter = text(event, "reportingComponent");
    let at = At::root("reportingComponent");
    if reporter.is_empty() {
        faults.required(&at, "");
    }
    faults.all_invalid(&at, reporter, names::qualified_name(reporter));
    for (field, limit, required) in [
        ("reportingInstance", 128, true),
        ("action", 128, true),
        ("reason", 128, true),
        ("message", 1024, false),
    ] {
        let own = text(event, field);
        if required && own.is_empty() {
            faults.required(&At::root(field), "");
        }
        if own.len() > limit {
            let why = format!("can have at most {limit} characters");
            faults.invalid(&At::root(field), "", &why);
        }
    }
}

#[cfg(test)]
mod tests;
