//! Labels of nodes that have been replaced by others.
//!
//! Source: `pkg/api/node/util.go`.

use cloudeck_machinery::{Value, names};

use crate::check::{At, list, text};

/// Why a label should not be used any more.
pub(crate) fn deprecated(key: &str) -> Option<&'static str> {
    Some(match key {
        "beta.kubernetes.io/arch" => r#"deprecated since v1.14; use "kubernetes.io/arch" instead"#,
        "beta.kubernetes.io/os" => r#"deprecated since v1.14; use "kubernetes.io/os" instead"#,
        "failure-domain.beta.kubernetes.io/region" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/region" instead"#
        }
        "failure-domain.beta.kubernetes.io/zone" => {
            r#"deprecated since v1.17; use "topology.kubernetes.io/zone" instead"#
        }
        "beta.kubernetes.io/instance-type" => {
            r#"deprecated since v1.17; use "node.kubernetes.io/instance-type" instead"#
        }
        "app.kubernetes.io/created-by" => "deprecated since v1.9",
        "scheduler.alpha.kubernetes.io/preferAvoidPods" => {
            "deprecated since v1.22; use Taints and Tolerations instead"
        }
        "node-role.kubernetes.io/master" => r#"use "node-role.kubernetes.io/control-plane" instead"#,
        _ => return None,
    })
}

/// Warns of deprecated keys in `matchExpressions`.
pub(crate) fn warn_of_keys(selector: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let all = at.field("matchExpressions");
    for (i, expression) in list(selector, "matchExpressions").iter().enumerate() {
        let key = text(expression, "key");
        if let Some(why) = deprecated(key) {
            found.push(format!("{}: {key} is {why}", all.index(i).field("key")));
        }
    }
}

/// Warns of values in `matchExpressions` that no label can have.
pub(crate) fn warn_of_values(term: &Value, at: &At<'_>, found: &mut Vec<String>) {
    let all = at.field("matchExpressions");
    for (i, expression) in list(term, "matchExpressions").iter().enumerate() {
        let (at, values) = (all.index(i), list(expression, "values").iter());
        let values_at = at.field("values");
        for (j, value) in values.filter_map(Value::as_str).enumerate() {
            for why in names::label_value(value) {
                found.push(format!("{}: {value} is invalid, {why}", values_at.index(j)));
            }
        }
    }
}
