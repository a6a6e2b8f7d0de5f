//! Writes the rules of aggregated cluster roles: those of all roles that their selectors select.
//!
//! State: cluster roles. The authoriser gathers by itself; the stored rules are for readers. It changes nothing but
//! `rules`, by server-side apply.
//!
//! Source: `pkg/controller/clusterroleaggregation`.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_client::{Change, Client, Informer};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{LabelSelector, Object, ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use crate::caches::{self, Caches};
use crate::kinds;
use crate::write;

const FIELD_MANAGER: &str = "clusterrole-aggregation-controller";
const WORKERS: usize = 1;

#[derive(Clone)]
pub(crate) struct ClusterRoles {
    client: Client,
    roles: Informer,
    /// The roles that gather.
    aggregated: Arc<Mutex<HashSet<ObjectKey>>>,
    queue: WorkQueue<ObjectKey>,
}

impl ClusterRoles {
    pub(crate) fn new(client: Client, caches: &Caches) -> Self {
        Self {
            client,
            roles: caches.informer(&kinds::cluster_roles()),
            aggregated: Arc::default(),
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let this = self.clone();
        caches::follow(scope, "cluster roles", &self.roles, move |change| {
            this.role_changed(&change);
        });
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, FIELD_MANAGER, WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    /// Any role may count for any that gathers.
    fn role_changed(&self, change: &Change) {
        let gathers = |role: &Object| role.tree().get("aggregationRule").is_some_and(|it| !it.is_null());
        let mut aggregated = self.aggregated();
        if change.new.as_deref().is_some_and(gathers) {
            aggregated.insert(change.key.clone());
        } else {
            aggregated.remove(&change.key);
        }
        for key in aggregated.iter() {
            self.queue.add(key.clone());
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(role) = self.roles.get(key) else {
            return Ok(Requeue::OnChange);
        };
        // In the order of names.
        let others = self.roles.list();
        if let Some(rules) = decide(&role.tree(), &others).map_err(Status::bad_request)? {
            let wanted = value!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
                "metadata": {"name": (key.name.as_str())}, "rules": (rules)
            });
            let outcome = self
                .client
                .apply(&kinds::cluster_roles(), FIELD_MANAGER, "", &wanted)
                .await;
            write::absent_is_fine(outcome.map(drop))?;
        }
        Ok(Requeue::OnChange)
    }

    fn aggregated(&self) -> MutexGuard<'_, HashSet<ObjectKey>> {
        self.aggregated.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The rules that the role has to be given; `None` when it has them or does not gather. `roles` are all roles in the
/// order of their names.
fn decide(role: &Value, roles: &[Arc<Object>]) -> Result<Option<Vec<Value>>, String> {
    let selectors = role.items_at(&["aggregationRule", "clusterRoleSelectors"]);
    if role.get("aggregationRule").is_none_or(Value::is_null) {
        return Ok(None);
    }
    let own = role.str_at(&["metadata", "name"]).unwrap_or_default();
    let mut rules: Vec<Value> = Vec::new();
    for selector in selectors {
        let selector = LabelSelector::from_value(Some(selector)).map_err(|error| error.to_string())?;
        for other in roles
            .iter()
            .filter(|other| other.key.name != own && selector.matches(&***other))
        {
            for rule in other.tree().items_at(&["rules"]) {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    Ok((rules != role.items_at(&["rules"])).then_some(rules))
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    fn role(name: &str, label: &str, verbs: &[&str]) -> Arc<Object> {
        let rules: Vec<Value> = verbs.iter().map(|verb| value!({"verbs": [(*verb)]})).collect();
        let tree = value!({"metadata": {"name": (name), "labels": {"to": (label)}}, "rules": (rules)});
        Arc::new(Object::from_parts(
            json::to_vec(&tree).into(),
            &tree,
            Box::default(),
        ))
    }

    #[test]
    fn a_role_gathers_each_rule_once_and_not_its_own() {
        let roles = [
            role("a", "x", &["get", "list"]),
            role("b", "x", &["list", "watch"]),
            role("c", "y", &["create"]),
        ];
        let mut gathering = value!({
            "metadata": {"name": "all", "labels": {"to": "x"}},
            "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"to": "x"}}]}
        });
        let rules = decide(&gathering, &roles).unwrap().unwrap();
        let expected = value!([{"verbs": ["get"]}, {"verbs": ["list"]}, {"verbs": ["watch"]}]);
        assert_eq!(Value::from(rules.clone()), expected);
        gathering.set_at(&["rules"], rules);
        assert_eq!(decide(&gathering, &roles), Ok(None));
        assert_eq!(decide(&value!({"metadata": {"name": "plain"}}), &roles), Ok(None));
    }
}
