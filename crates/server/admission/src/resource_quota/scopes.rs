//! Which objects a quota is about.

use cloudeck_machinery::Value;

/// Whether the object has every scope of the quota. Only pods and claims have any.
pub(super) fn all_match(quota: &Value, plural: &str, object: &Value) -> bool {
    let plain = quota.items_at(&["spec", "scopes"]).iter();
    let mut plain = plain.filter_map(Value::as_str);
    let selected = quota.items_at(&["spec", "scopeSelector", "matchExpressions"]);
    plain.all(|scope| has(object, plural, scope, "Exists", &[]))
        && selected.iter().all(|rule| {
            let text = |field| rule.str_at(&[field]).unwrap_or_default();
            let values: Vec<&str> = rule
                .items_at(&["values"])
                .iter()
                .filter_map(Value::as_str)
                .collect();
            has(object, plural, text("scopeName"), text("operator"), &values)
        })
}

fn has(object: &Value, plural: &str, scope: &str, operator: &str, values: &[&str]) -> bool {
    match (plural, scope) {
        ("pods", "Terminating") => ends(object),
        ("pods", "NotTerminating") => !ends(object),
        ("pods", "BestEffort") => is_best_effort(object),
        ("pods", "NotBestEffort") => !is_best_effort(object),
        ("pods", "PriorityClass") => selects(object.str_at(&["spec", "priorityClassName"]), operator, values),
        ("pods", "CrossNamespacePodAffinity") => looks_elsewhere(object),
        ("persistentvolumeclaims", "VolumeAttributesClass") => {
            let class = object.str_at(&["spec", "volumeAttributesClassName"]);
            selects(class, operator, values)
        }
        _ => false,
    }
}

fn selects(value: Option<&str>, operator: &str, values: &[&str]) -> bool {
    let value = value.filter(|value| !value.is_empty());
    let among = value.is_some_and(|value| values.contains(&value));
    match operator {
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "In" => among,
        "NotIn" => !among,
        _ => false,
    }
}

fn ends(pod: &Value) -> bool {
    pod.int_at(&["spec", "activeDeadlineSeconds"])
        .is_some_and(|seconds| seconds >= 0)
}

fn is_best_effort(pod: &Value) -> bool {
    pod.str_at(&["status", "qosClass"]) == Some("BestEffort")
}

/// Whether its affinity is to pods of other namespaces.
fn looks_elsewhere(pod: &Value) -> bool {
    let across =
        |term: &Value| !term.items_at(&["namespaces"]).is_empty() || term.get("namespaceSelector").is_some();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let of = |strength| pod.items_at(&["spec", "affinity", kind, strength]).iter();
        let mut required = of("requiredDuringSchedulingIgnoredDuringExecution");
        let mut preferred = of("preferredDuringSchedulingIgnoredDuringExecution");
        required.any(across) || preferred.any(|term| term.get("podAffinityTerm").is_some_and(across))
    })
}
