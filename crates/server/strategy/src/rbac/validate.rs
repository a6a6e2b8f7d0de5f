//! Validation of roles and bindings.
//!
//! Source: `pkg/apis/rbac/validation/validation.go`.

use cloudeck_machinery::{Cause, Value, names};

use super::GROUP;
use crate::check::{At, Faults, list, present, text};

pub(super) fn role(role: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    rules(role, true, &mut faults);
    faults.into_causes()
}

pub(super) fn cluster_role(role: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    rules(role, false, &mut faults);
    if let Some(aggregation) = present(role, "aggregationRule") {
        let at = At::root("aggregationRule");
        let at = at.field("clusterRoleSelectors");
        let selectors = list(aggregation, "clusterRoleSelectors");
        if selectors.is_empty() {
            let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
            faults.required(&at, why);
        }
        for (i, selector) in selectors.iter().enumerate() {
            faults.label_selector(&at.index(i), Some(selector));
        }
    }
    faults.into_causes()
}

fn rules(role: &Value, namespaced: bool, faults: &mut Faults) {
    let at = At::root("rules");
    for (i, rule) in list(role, "rules").iter().enumerate() {
        one_rule(rule, namespaced, &at.index(i), faults);
    }
}

fn one_rule(rule: &Value, namespaced: bool, at: &At<'_>, faults: &mut Faults) {
    let has = |field: &str| !list(rule, field).is_empty();
    if !has("verbs") {
        faults.required(&at.field("verbs"), "verbs must contain at least one value");
    }
    if has("nonResourceURLs") {
        let path = at.field("nonResourceURLs");
        let shown = rule.get("nonResourceURLs").unwrap_or(&Value::Null);
        if namespaced {
            let why = "namespaced rules cannot apply to non-resource URLs";
            faults.invalid(&path, shown, why);
        }
        if has("apiGroups") || has("resources") || has("resourceNames") {
            let why = "rules cannot apply to both regular resources and non-resource URLs";
            faults.invalid(&path, shown, why);
        }
        return;
    }
    if !has("apiGroups") {
        let why = "resource rules must supply at least one api group";
        faults.required(&at.field("apiGroups"), why);
    }
    if !has("resources") {
        let why = "resource rules must supply at least one resource";
        faults.required(&at.field("resources"), why);
    }
}

pub(super) fn role_binding(binding: &Value) -> Vec<Cause> {
    binding_rules(binding, true).into_causes()
}

pub(super) fn role_binding_update(new: &Value, old: &Value) -> Vec<Cause> {
    with_same_role(binding_rules(new, true), new, old)
}

pub(super) fn cluster_role_binding(binding: &Value) -> Vec<Cause> {
    binding_rules(binding, false).into_causes()
}

pub(super) fn cluster_role_binding_update(new: &Value, old: &Value) -> Vec<Cause> {
    with_same_role(binding_rules(new, false), new, old)
}

fn with_same_role(mut faults: Faults, new: &Value, old: &Value) -> Vec<Cause> {
    let (at, role) = (At::root("roleRef"), new.get("roleRef"));
    faults.immutable(&at, role, old.get("roleRef"));
    faults.into_causes()
}

fn binding_rules(binding: &Value, namespaced: bool) -> Faults {
    let mut faults = Faults::default();
    let none = Value::Null;
    let role = binding.get("roleRef").unwrap_or(&none);
    let at = At::root("roleRef");
    let group = text(role, "apiGroup");
    if group != GROUP {
        faults.not_supported(&at.field("apiGroup"), group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced {
        &["Role", "ClusterRole"]
    } else {
        &["ClusterRole"]
    };
    let kind = text(role, "kind");
    if !kinds.contains(&kind) {
        faults.not_supported(&at.field("kind"), kind, kinds);
    }
    match text(role, "name") {
        "" => faults.required(&at.field("name"), ""),
        name => faults.all_invalid(&at.field("name"), name, names::path_segment(name)),
    }
    let at = At::root("subjects");
    for (i, subject) in list(binding, "subjects").iter().enumerate() {
        one_subject(subject, namespaced, &at.index(i), &mut faults);
    }
    faults
}

fn one_subject(subject: &Value, namespaced: bool, at: &At<'_>, faults: &mut Faults) {
    let (name, group) = (text(subject, "name"), text(subject, "apiGroup"));
    if name.is_empty() {
        faults.required(&at.field("name"), "");
    }
    match text(subject, "kind") {
        "ServiceAccount" => {
            if !name.is_empty() {
                faults.all_invalid(&at.field("name"), name, names::dns1123_subdomain(name));
            }
            if !group.is_empty() {
                faults.not_supported(&at.field("apiGroup"), group, &[""]);
            }
            if !namespaced && text(subject, "namespace").is_empty() {
                faults.required(&at.field("namespace"), "");
            }
        }
        "User" | "Group" => {
            if group != GROUP {
                faults.not_supported(&at.field("apiGroup"), group, &[GROUP]);
            }
        }
        other => {
            let supported = ["ServiceAccount", "User", "Group"];
            faults.not_supported(&at.field("kind"), other, &supported);
        }
    }
}

#[cfg(test)]
mod tests;
