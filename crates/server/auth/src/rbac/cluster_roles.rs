//! ClusterRoles with aggregation carried out: a role labelled for `view` counts for whoever has `view` at once.
//!
//! Upstream leaves aggregation to a controller that writes the gathered rules into the object. Here the authoriser gathers
//! by itself, so rights do not depend on a controller's pace; what the object shows may lag behind what counts. The stored
//! rules of an aggregated role are ignored, as the controller would overwrite them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cloudeck_machinery::{LabelSelector, Value};

use super::rule::PolicyRule;

/// By name, which is the order in which rules are gathered.
#[derive(Default)]
pub(crate) struct ClusterRoles {
    roles: BTreeMap<String, ClusterRole>,
}

struct ClusterRole {
    stored: Arc<[PolicyRule]>,
    /// An object with nothing but the role's labels.
    labels: Value,
    /// `Some` for an aggregated role.
    selectors: Option<Vec<LabelSelector>>,
    /// What counts.
    effective: Arc<[PolicyRule]>,
}

impl ClusterRoles {
    /// What the role allows.
    pub(crate) fn rules(&self, name: &str) -> Option<&Arc<[PolicyRule]>> {
        self.roles.get(name).map(|role| &role.effective)
    }

    /// Takes over the state of a role; `None` after its deletion.
    pub(crate) fn set(&mut self, name: &str, role: Option<&Value>) {
        let new = role.map(ClusterRole::read);
        let old = self.roles.remove(name);
        let changed: Vec<&ClusterRole> = old.iter().chain(&new).collect();
        let concerns_others = changed
            .iter()
            .any(|changed| changed.selectors.is_some() || self.is_gathered(changed));
        if let Some(new) = new {
            self.roles.insert(name.to_owned(), new);
        }
        if concerns_others {
            self.gather_all();
        }
    }

    fn is_gathered(&self, changed: &ClusterRole) -> bool {
        self.roles.values().any(|role| role.gathers(changed))
    }

    fn gather_all(&mut self) {
        let aggregated = self.roles.iter().filter(|(_, role)| role.selectors.is_some());
        let gathered: Vec<(String, Arc<[PolicyRule]>)> = aggregated
            .map(|(name, _)| {
                let mut rules = Vec::new();
                self.gather(name, &mut BTreeSet::new(), &mut rules);
                (name.clone(), rules.into())
            })
            .collect();
        for (name, rules) in gathered {
            if let Some(role) = self.roles.get_mut(&name) {
                role.effective = rules;
            }
        }
    }

    /// `seen` ends circles of roles that gather each other.
    fn gather(&self, name: &str, seen: &mut BTreeSet<String>, rules: &mut Vec<PolicyRule>) {
        let Some(role) = self.roles.get(name) else { return };
        if !seen.insert(name.to_owned()) {
            return;
        }
        if role.selectors.is_none() {
            for rule in role.stored.iter() {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
            return;
        }
        for (other_name, other) in &self.roles {
            if role.gathers(other) {
                self.gather(other_name, seen, rules);
            }
        }
    }
}

impl ClusterRole {
    fn read(tree: &Value) -> Self {
        let mut labels = Value::object();
        if let Some(found) = tree.at(&["metadata", "labels"]) {
            labels.set_at(&["metadata", "labels"], found.clone());
        }
        let aggregation = tree.at(&["aggregationRule"]).filter(|rule| !rule.is_null());
        // A selector that does not parse selects nothing.
        let selectors = aggregation.map(|rule| {
            let selectors = rule.items_at(&["clusterRoleSelectors"]).iter();
            selectors
                .filter_map(|selector| LabelSelector::from_value(Some(selector)).ok())
                .collect()
        });
        let stored: Arc<[PolicyRule]> = PolicyRule::all_of(tree).into();
        Self {
            effective: stored.clone(),
            stored,
            labels,
            selectors,
        }
    }

    fn gathers(&self, other: &Self) -> bool {
        self.selectors
            .iter()
            .flatten()
            .any(|selector| selector.matches_tree(&other.labels))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloudeck_machinery::value;

    fn plain(label: &str, verb: &str) -> Value {
        value!({
            "metadata": {"labels": {"to": (label)}},
            "rules": [{"verbs": [(verb)], "apiGroups": [""], "resources": ["pods"]}]
        })
    }

    /// Gathers roles labelled `from`, and is itself labelled `to`.
    fn aggregated(from: &str, to: &str) -> Value {
        value!({
            "metadata": {"labels": {"to": (to)}},
            "rules": [{"verbs": ["stale"], "apiGroups": [""], "resources": ["pods"]}],
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": (from)}}]}
        })
    }

    fn verbs(roles: &ClusterRoles, name: &str) -> Vec<String> {
        roles
            .rules(name)
            .unwrap()
            .iter()
            .flat_map(|rule| rule.verbs.clone())
            .collect()
    }

    #[test]
    fn rules_come_and_go_with_the_labelled_roles() {
        let mut roles = ClusterRoles::default();
        roles.set("a", Some(&plain("view", "get")));
        roles.set("view", Some(&aggregated("view", "edit")));
        roles.set("edit", Some(&aggregated("edit", "admin")));
        assert_eq!(verbs(&roles, "view"), ["get"]);
        roles.set("b", Some(&plain("edit", "create")));
        roles.set("c", Some(&plain("view", "list")));
        assert_eq!(verbs(&roles, "view"), ["get", "list"]);
        assert_eq!(verbs(&roles, "edit"), ["create", "get", "list"]);
        roles.set("a", Some(&plain("none", "get")));
        roles.set("c", None);
        assert_eq!(verbs(&roles, "edit"), ["create"]);
        assert!(roles.rules("c").is_none());
    }

    #[test]
    fn roles_that_gather_each_other_end() {
        let mut roles = ClusterRoles::default();
        roles.set("x", Some(&aggregated("x", "y")));
        roles.set("y", Some(&aggregated("y", "x")));
        roles.set("a", Some(&plain("x", "get")));
        assert_eq!(verbs(&roles, "x"), ["get"]);
        assert_eq!(verbs(&roles, "y"), ["get"]);
    }
}
