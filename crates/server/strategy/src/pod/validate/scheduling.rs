//! Where a pod may run: affinity, tolerations, spreading.

use cloudeck_machinery::{Value, names};

use crate::check::{At, Faults, list, number, present, text};

pub(crate) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

pub(super) fn affinity(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let Some(affinity) = present(spec, "affinity") else {
        return;
    };
    if let Some(own) = present(affinity, "nodeAffinity") {
        node_affinity(own, &at.field("nodeAffinity"), faults);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        if let Some(own) = present(affinity, kind) {
            pod_affinity(own, &at.field(kind), faults);
        }
    }
}

fn node_affinity(own: &Value, at: &At<'_>, faults: &mut Faults) {
    if let Some(selector) = present(own, REQUIRED) {
        node_selector(selector, &at.field(REQUIRED), faults);
    }
    let at = at.field(PREFERRED);
    for (i, weighted) in list(own, PREFERRED).iter().enumerate() {
        let at = at.index(i);
        weight(weighted, &at, faults);
        if let Some(term) = present(weighted, "preference") {
            node_term(term, false, &at.field("preference"), faults);
        }
    }
}

/// A node selector, of pods and of volumes.
pub(crate) fn node_selector(selector: &Value, at: &At<'_>, faults: &mut Faults) {
    let at = at.field("nodeSelectorTerms");
    let terms = list(selector, "nodeSelectorTerms");
    if terms.is_empty() {
        faults.required(&at, "must have at least one node selector term");
    }
    for (i, term) in terms.iter().enumerate() {
        node_term(term, true, &at.index(i), faults);
    }
}

fn weight(weighted: &Value, at: &At<'_>, faults: &mut Faults) {
    let own = number(weighted, "weight");
    if !(1..=100).contains(&own) {
        faults.invalid(&at.field("weight"), &own, "must be in the range 1-100");
    }
}

fn node_term(term: &Value, strict: bool, at: &At<'_>, faults: &mut Faults) {
    for (i, rule) in list(term, "matchExpressions").iter().enumerate() {
        node_rule(rule, strict, &at.field("matchExpressions").index(i), faults);
    }
    for (i, rule) in list(term, "matchFields").iter().enumerate() {
        node_field_rule(rule, &at.field("matchFields").index(i), faults);
    }
}

fn node_rule(rule: &Value, strict: bool, at: &At<'_>, faults: &mut Faults) {
    let values = list(rule, "values");
    let path = at.field("values");
    match text(rule, "operator") {
        "In" | "NotIn" if values.is_empty() => {
            faults.required(&path, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => faults.forbidden(
            &path,
            "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
        ),
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            faults.required(&path, why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => faults.invalid(&at.field("operator"), other, "not a valid selector operator"),
    }
    let key = text(rule, "key");
    faults.all_invalid(&at.field("key"), key, names::qualified_name(key));
    if strict {
        for (i, value) in values.iter().enumerate() {
            let value = value.as_str().unwrap_or_default();
            faults.all_invalid(&path.index(i), value, names::label_value(value));
        }
    }
}

fn node_field_rule(rule: &Value, at: &At<'_>, faults: &mut Faults) {
    let values = list(rule, "values");
    match text(rule, "operator") {
        "In" | "NotIn" => {
            if values.len() != 1 {
                let why = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                faults.required(&at.field("values"), why);
            }
        }
        other => faults.invalid(&at.field("operator"), other, "not a valid selector operator"),
    }
    let key = text(rule, "key");
    if key != "metadata.name" {
        return faults.invalid(&at.field("key"), key, "not a valid field selector key");
    }
    for (i, value) in values.iter().enumerate() {
        let value = value.as_str().unwrap_or_default();
        let path = at.field("values");
        faults.all_invalid(&path.index(i), value, names::dns1123_subdomain(value));
    }
}

fn pod_affinity(own: &Value, at: &At<'_>, faults: &mut Faults) {
    for (i, term) in list(own, REQUIRED).iter().enumerate() {
        pod_term(term, &at.field(REQUIRED).index(i), faults);
    }
    for (i, weighted) in list(own, PREFERRED).iter().enumerate() {
        let at = at.field(PREFERRED);
        let at = at.index(i);
        weight(weighted, &at, faults);
        if let Some(term) = present(weighted, "podAffinityTerm") {
            pod_term(term, &at.field("podAffinityTerm"), faults);
        }
    }
}

fn pod_term(term: &Value, at: &At<'_>, faults: &mut Faults) {
    faults.label_selector(&at.field("labelSelector"), term.get("labelSelector"));
    faults.label_selector(&at.field("namespaceSelector"), term.get("namespaceSelector"));
    for name in list(term, "namespaces").iter().filter_map(Value::as_str) {
        faults.all_invalid(&at.field("namespace"), name, names::dns1123_label(name));
    }
    label_keys(term, at, faults);
    let key = text(term, "topologyKey");
    if key.is_empty() {
        faults.required(&at.field("topologyKey"), "can not be empty");
    }
    faults.all_invalid(&at.field("topologyKey"), key, names::qualified_name(key));
}

/// `matchLabelKeys` and `mismatchLabelKeys` beside a selector.
fn label_keys(term: &Value, at: &At<'_>, faults: &mut Faults) {
    let selector = present(term, "labelSelector");
    let keys =
        |list_name: &str| -> Vec<&str> { list(term, list_name).iter().filter_map(Value::as_str).collect() };
    let (matching, mismatching) = (keys("matchLabelKeys"), keys("mismatchLabelKeys"));
    for (name, own) in [("matchLabelKeys", &matching), ("mismatchLabelKeys", &mismatching)] {
        let at = at.field(name);
        if !own.is_empty() && selector.is_none() {
            faults.forbidden(&at, "must not be specified when labelSelector is not set");
            continue;
        }
        for (i, key) in own.iter().enumerate() {
            faults.all_invalid(&at.index(i), *key, names::qualified_name(key));
        }
    }
    if let Some(selector) = selector.filter(|_| !matching.is_empty()) {
        let rules = list(selector, "matchExpressions");
        for (i, rule) in rules.iter().enumerate() {
            let key = text(rule, "key");
            let twice = selector.at(&["matchLabels", key]).is_some()
                || rules[..i].iter().any(|other| text(other, "key") == key);
            if let Some(place) = matching.iter().position(|own| *own == key).filter(|_| twice) {
                let why = "exists in both matchLabelKeys and labelSelector";
                faults.invalid(&at.index(place), key, why);
            }
        }
    }
    for (i, key) in matching
        .iter()
        .enumerate()
        .filter(|(_, key)| mismatching.contains(key))
    {
        let why = "exists in both matchLabelKeys and mismatchLabelKeys";
        faults.invalid(&at.field("matchLabelKeys").index(i), *key, why);
    }
}

pub(super) fn tolerations(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, own) in all.iter().enumerate() {
        let at = at.index(i);
        let (key, operator) = (text(own, "key"), text(own, "operator"));
        let (value, effect) = (text(own, "value"), text(own, "effect"));
        let operator_at = at.field("operator");
        if !key.is_empty() {
            faults.all_invalid(&at.field("key"), key, names::qualified_name(key));
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.invalid(&operator_at, operator, why);
        }
        if present(own, "tolerationSeconds").is_some() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            faults.invalid(&at.field("effect"), effect, why);
        }
        match operator {
            "Equal" | "" => {
                let problems = names::label_value(value);
                if !problems.is_empty() {
                    faults.invalid(&operator_at, value, &problems.join(";"));
                }
            }
            "Exists" if !value.is_empty() => {
                let why = "value must be empty when `operator` is 'Exists'";
                faults.invalid(&operator_at, value, why);
            }
            "Exists" => {}
            "Lt" | "Gt" => faults.not_supported(&operator_at, operator, &["Equal", "Exists", "Lt", "Gt"]),
            other => faults.not_supported(&operator_at, other, &["Equal", "Exists"]),
        }
        if !effect.is_empty() && !EFFECTS.contains(&effect) {
            faults.not_supported(&at.field("effect"), effect, &EFFECTS);
        }
    }
}

pub(super) fn spreading(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, own) in all.iter().enumerate() {
        let at = at.index(i);
        positive(number(own, "maxSkew"), &at.field("maxSkew"), faults);
        let (key, action) = (text(own, "topologyKey"), text(own, "whenUnsatisfiable"));
        if key.is_empty() {
            faults.required(&at.field("topologyKey"), "can not be empty");
        }
        if !matches!(action, "DoNotSchedule" | "ScheduleAnyway") {
            let supported = ["DoNotSchedule", "ScheduleAnyway"];
            faults.not_supported(&at.field("whenUnsatisfiable"), action, &supported);
        }
        let again =
            |other: &Value| text(other, "topologyKey") == key && text(other, "whenUnsatisfiable") == action;
        if all[i + 1..].iter().any(again) {
            let pair = format!("{{{key}, {action}}}");
            faults.duplicate(&at.field("{topologyKey, whenUnsatisfiable}"), pair.as_str());
        }
        if let Some(domains) = own.int_at(&["minDomains"]) {
            let path = at.field("minDomains");
            positive(domains, &path, faults);
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                faults.invalid(&path, &domains, &why);
            }
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if let Some(policy) = present(own, field).and_then(Value::as_str)
                && !matches!(policy, "Honor" | "Ignore")
            {
                faults.not_supported(&at.field(field), policy, &["Honor", "Ignore"]);
            }
        }
        label_keys(own, &at, faults);
        faults.label_selector(&at.field("labelSelector"), own.get("labelSelector"));
    }
}

fn positive(value: i64, at: &At<'_>, faults: &mut Faults) {
    if value <= 0 {
        faults.invalid(at, &value, "must be greater than zero");
    }
}
