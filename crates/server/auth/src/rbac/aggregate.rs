//! Aggregated ClusterRoles: their rules are those of the ClusterRoles that their selectors match.

use cloudeck_machinery::{LabelSelector, Value};

use super::rule::PolicyRule;

/// The rules that `role` should have, given all ClusterRoles in name order; `None` if it is not aggregated.
///
/// A role never aggregates itself; equal rules are taken once.
pub fn aggregate_rules(role: &Value, all: &[&Value]) -> Option<Vec<PolicyRule>> {
    role.at(&["aggregationRule"]).filter(|rule| !rule.is_null())?;
    let own_name = role.str_at(&["metadata", "name"]);
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in selectors(role) {
        let others = all
            .iter()
            .filter(|other| other.str_at(&["metadata", "name"]) != own_name);
        let matching = others.filter(|other| label_selector_matches(selector, other));
        for rule in matching.copied().flat_map(PolicyRule::all_of) {
            if !rules.contains(&rule) {
                rules.push(rule);
            }
        }
    }
    Some(rules)
}

/// Whether one of the selectors of the aggregated `role` matches the labels of `other`.
pub fn selects_role(role: &Value, other: &Value) -> bool {
    selectors(role)
        .iter()
        .any(|selector| label_selector_matches(selector, other))
}

fn selectors(role: &Value) -> &[Value] {
    role.items_at(&["aggregationRule", "clusterRoleSelectors"])
}

/// A selector that does not parse selects nothing.
fn label_selector_matches(selector: &Value, role: &Value) -> bool {
    LabelSelector::from_value(Some(selector)).is_ok_and(|selector| selector.matches_tree(role))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudeck_machinery::value;

    fn role(name: &str, label: &str, verb: &str) -> Value {
        value!({
            "metadata": {"name": (name), "labels": {"to": (label)}},
            "rules": [{"verbs": [(verb)], "apiGroups": [""], "resources": ["pods"]}]
        })
    }

    #[test]
    fn rules_are_gathered_from_matching_roles_once_each() {
        let mut admin = role("admin", "admin", "stale");
        admin.set_at(
            &["aggregationRule"],
            value!({"clusterRoleSelectors": [{"matchLabels": {"to": "admin"}}]}),
        );
        let others = [
            role("a", "admin", "get"),
            role("b", "view", "list"),
            role("c", "admin", "get"),
        ];
        let all: Vec<&Value> = others.iter().chain([&admin]).collect();
        let rules = aggregate_rules(&admin, &all).unwrap();
        assert_eq!(rules, PolicyRule::all_of(&others[0]));
        assert_eq!(aggregate_rules(&others[0], &all), None);
    }

    #[test]
    fn expressions_select_as_labels_do() {
        let check = |expression: Value, expected: bool| {
            let mut aggregated = Value::object();
            aggregated.set_at(
                &["aggregationRule", "clusterRoleSelectors"],
                value!([{"matchExpressions": [(expression)]}]),
            );
            assert_eq!(selects_role(&aggregated, &role("x", "v", "get")), expected);
        };
        check(
            value!({"key": "to", "operator": "In", "values": ["u", "v"]}),
            true,
        );
        check(
            value!({"key": "to", "operator": "NotIn", "values": ["u", "v"]}),
            false,
        );
        check(
            value!({"key": "other", "operator": "NotIn", "values": ["u"]}),
            true,
        );
        check(value!({"key": "other", "operator": "Exists"}), false);
        check(value!({"key": "other", "operator": "DoesNotExist"}), true);
    }
}
