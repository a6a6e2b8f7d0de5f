//! Aggregated ClusterRoles: their rules are those of the ClusterRoles that their selectors match.

use cloudeck_machinery::Value;

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
        let matching =
            others.filter(|other| label_selector_matches(selector, other.at(&["metadata", "labels"])));
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
        .any(|selector| label_selector_matches(selector, other.at(&["metadata", "labels"])))
}

fn selectors(role: &Value) -> &[Value] {
    role.items_at(&["aggregationRule", "clusterRoleSelectors"])
}

fn label_selector_matches(selector: &Value, labels: Option<&Value>) -> bool {
    let label = |key: &str| labels.and_then(|labels| labels.str_at(&[key]));
    let equal = selector.at(&["matchLabels"]).and_then(Value::as_object);
    let all_equal = equal
        .into_iter()
        .flat_map(|map| map.iter())
        .all(|(key, value)| label(key).is_some() && label(key) == value.as_str());
    let mut expressions = selector.items_at(&["matchExpressions"]).iter();
    all_equal
        && expressions.all(|expression| {
            let found = label(expression.str_at(&["key"]).unwrap_or_default());
            let listed = || {
                expression
                    .items_at(&["values"])
                    .iter()
                    .any(|value| value.as_str() == found)
            };
            match expression.str_at(&["operator"]) {
                Some("In") => found.is_some() && listed(),
                Some("NotIn") => found.is_none() || !listed(),
                Some("Exists") => found.is_some(),
                Some("DoesNotExist") => found.is_none(),
                _ => false,
            }
        })
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
