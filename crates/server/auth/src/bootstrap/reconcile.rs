//! From an existing object and its default to the object that should be stored.

use cloudeck_machinery::Value;

use crate::rbac::PolicyRule;
use crate::rbac::uncovered;

const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// The object to store in place of `existing`, or `None` if there is nothing to do.
///
/// Adds missing labels, annotations, rules, aggregation selectors and subjects; removes nothing. A binding whose role was
/// changed cannot be updated (the role reference is immutable) and must be deleted and made anew, as upstream does: then
/// the answer has no uid and no resourceVersion.
pub fn reconcile(existing: &Value, expected: &Value) -> Option<Value> {
    if existing.str_at(&["metadata", "annotations", AUTOUPDATE]) == Some("false") {
        return None;
    }
    let mut merged = existing.clone();
    let mut changed = merge_meta(&mut merged, expected, "annotations");
    changed |= merge_meta(&mut merged, expected, "labels");
    if expected.get("roleRef").is_some() {
        if existing.get("roleRef") != expected.get("roleRef") {
            let mut anew = expected.clone();
            anew.remove_at(&["metadata", "uid"]);
            return Some(anew);
        }
        changed |= append_missing(&mut merged, expected, &["subjects"]);
    } else {
        changed |= append_missing_rules(&mut merged, existing, expected);
        changed |= reconcile_aggregation(&mut merged, expected);
    }
    changed.then_some(merged)
}

fn merge_meta(merged: &mut Value, expected: &Value, field: &str) -> bool {
    let Some(wanted) = expected.at(&["metadata", field]).and_then(Value::as_object) else {
        return false;
    };
    let mut changed = false;
    for (key, value) in wanted.iter() {
        if merged.at(&["metadata", field, key]).is_none() {
            changed |= merged.set_at(&["metadata", field, key], value.clone());
        }
    }
    changed
}

fn append_missing_rules(merged: &mut Value, existing: &Value, expected: &Value) -> bool {
    let missing = uncovered(&PolicyRule::all_of(existing), &PolicyRule::all_of(expected));
    if missing.is_empty() {
        return false;
    }
    let mut rules = existing.items_at(&["rules"]).to_vec();
    rules.extend(missing.iter().map(PolicyRule::to_value));
    merged.set_at(&["rules"], rules)
}

fn reconcile_aggregation(merged: &mut Value, expected: &Value) -> bool {
    if expected.get("aggregationRule").is_none() {
        return merged
            .remove_at(&["aggregationRule"])
            .is_some_and(|rule| !rule.is_null());
    }
    append_missing(merged, expected, &["aggregationRule", "clusterRoleSelectors"])
}

fn append_missing(merged: &mut Value, expected: &Value, path: &[&str]) -> bool {
    let mut items = merged.items_at(path).to_vec();
    let before = items.len();
    for wanted in expected.items_at(path) {
        if !items.contains(wanted) {
            items.push(wanted.clone());
        }
    }
    items.len() > before && merged.set_at(path, items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudeck_machinery::value;

    fn role() -> Value {
        value!({
            "metadata": {"name": "r", "labels": {"a": "b"}},
            "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]}]
        })
    }

    #[test]
    fn an_equal_object_is_left_alone() {
        assert_eq!(reconcile(&role(), &role()), None);
    }

    #[test]
    fn missing_rules_and_labels_are_added_and_additions_kept() {
        let existing = value!({
            "metadata": {"name": "r", "uid": "u", "labels": {"mine": "x"}},
            "rules": [{"verbs": ["get", "delete"], "apiGroups": [""], "resources": ["pods"]}]
        });
        let merged = reconcile(&existing, &role()).unwrap();
        assert_eq!(
            merged.to_string(),
            concat!(
                r#"{"metadata":{"labels":{"a":"b","mine":"x"},"name":"r","uid":"u"},"#,
                r#""rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","delete"]},"#,
                r#"{"apiGroups":[""],"resources":["pods"],"verbs":["list"]}]}"#
            )
        );
        assert_eq!(reconcile(&merged, &role()), None, "once is enough");
    }

    #[test]
    fn an_object_that_opted_out_is_left_alone() {
        let mut existing = value!({"metadata": {"name": "r"}, "rules": []});
        existing.set_at(&["metadata", "annotations", AUTOUPDATE], "false");
        assert_eq!(reconcile(&existing, &role()), None);
    }

    #[test]
    fn a_binding_gains_its_subjects_and_is_made_anew_for_another_role() {
        let expected = value!({
            "metadata": {"name": "b"}, "roleRef": {"name": "r"},
            "subjects": [{"kind": "Group", "name": "g"}]
        });
        let mut existing = expected.clone();
        existing.set_at(&["metadata", "uid"], "u");
        existing.set_at(&["subjects"], value!([{"kind": "User", "name": "mine"}]));
        let merged = reconcile(&existing, &expected).unwrap();
        assert_eq!(merged.items_at(&["subjects"]).len(), 2);
        existing.set_at(&["roleRef", "name"], "other");
        assert_eq!(reconcile(&existing, &expected), Some(expected));
    }

    #[test]
    fn aggregation_that_is_no_longer_expected_is_removed() {
        let mut existing = role();
        existing.set_at(
            &["aggregationRule", "clusterRoleSelectors"],
            value!([{"matchLabels": {"x": "y"}}]),
        );
        assert_eq!(reconcile(&existing, &role()), Some(role()));
        let mut expected = role();
        expected.set_at(
            &["aggregationRule", "clusterRoleSelectors"],
            value!([{"matchLabels": {"z": "y"}}]),
        );
        let merged = reconcile(&existing, &expected).unwrap();
        assert_eq!(
            merged
                .items_at(&["aggregationRule", "clusterRoleSelectors"])
                .len(),
            2
        );
    }
}
