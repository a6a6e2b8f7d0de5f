//! Writes the rules of aggregated ClusterRoles into them.
//!
//! State: ClusterRoles with an `aggregationRule`, and those that their selectors match. The authoriser gathers rights
//! by itself; this is what users see.
//!
//! Source: `pkg/controller/clusterroleaggregation`.

use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{LabelSelector, Object, ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use crate::kinds;
use crate::view::{Facts, View};
use crate::write;

const MANAGER: &str = "clusterrole-aggregation-controller";
const WORKERS: usize = 1;

/// A ClusterRole.
pub(crate) struct ClusterRole {
    object: Arc<Object>,
    rules: Vec<Value>,
    /// `None` for a role that gathers nothing.
    selectors: Option<Vec<LabelSelector>>,
}

impl Facts for ClusterRole {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let tree = object.tree();
        let selectors = tree.at(&["aggregationRule"]).map(|rule| {
            let selectors = rule.items_at(&["clusterRoleSelectors"]).iter();
            selectors
                .map(|selector| LabelSelector::from_value(Some(selector)))
                .collect()
        });
        let selectors: Option<Result<Vec<_>, _>> = selectors;
        Ok(Self {
            rules: tree.items_at(&["rules"]).to_vec(),
            selectors: selectors.transpose().map_err(|error| error.to_string())?,
            object,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }
}

#[derive(Clone)]
pub(crate) struct ClusterRoles {
    client: Client,
    roles: View<ClusterRole>,
    queue: WorkQueue<ObjectKey>,
}

impl ClusterRoles {
    pub(crate) fn new(client: Client, roles: &View<ClusterRole>) -> Self {
        let queue: WorkQueue<ObjectKey> = WorkQueue::new();
        let (waker, known) = (queue.clone(), roles.clone());
        roles.on_change(move |update| {
            let changed: Vec<_> = update.sides().collect();
            for role in known.list() {
                let gathers = |other: &&Arc<ClusterRole>| gathers(&role, other);
                if role.object.key == *update.key || changed.iter().any(gathers) {
                    waker.add(role.object.key.clone());
                }
            }
        });
        Self {
            client,
            roles: roles.clone(),
            queue,
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(
            scope,
            "clusterrole-aggregation-controller",
            WORKERS,
            queue,
            move |key| {
                let this = Arc::clone(&this);
                async move { this.reconcile(&key).await }
            },
        );
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(role) = self.roles.get(key).filter(|role| role.selectors.is_some()) else {
            return Ok(Requeue::OnChange);
        };
        let rules = gather(&role, &self.roles.list());
        if rules == role.rules {
            return Ok(Requeue::OnChange);
        }
        let tree = value!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": (key.name.clone())}, "rules": (rules)
        });
        let outcome = self
            .client
            .apply(&kinds::cluster_roles(), MANAGER, "", &tree)
            .await;
        write::absent_is_fine(outcome.map(|_| ()))?;
        Ok(Requeue::OnChange)
    }
}

fn gathers(role: &ClusterRole, other: &ClusterRole) -> bool {
    let mut selectors = role.selectors.iter().flatten();
    role.object.key != other.object.key && selectors.any(|selector| selector.matches(&*other.object))
}

/// The rules of all gathered roles, in the order of selectors and names, each rule once.
fn gather(role: &ClusterRole, all: &[Arc<ClusterRole>]) -> Vec<Value> {
    let mut rules: Vec<Value> = Vec::new();
    for selector in role.selectors.iter().flatten() {
        let others = all.iter().filter(|other| other.object.key != role.object.key);
        for other in others.filter(|other| selector.matches(&*other.object)) {
            for rule in &other.rules {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::tests::object;

    #[test]
    fn rules_are_gathered_once_and_in_order() {
        let role = |name: &str, text: &str| Arc::new(ClusterRole::read(object(name, text)).unwrap());
        let sum = role(
            "sum",
            r#"{"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"to":"sum"}}]},"rules":[]}"#,
        );
        let part = |name: &str, rules: &str| {
            role(
                name,
                &format!(r#"{{"metadata":{{"labels":{{"to":"sum"}}}},"rules":{rules}}}"#),
            )
        };
        let all = [
            part("a", r#"[{"verbs":["get"]}]"#),
            part("b", r#"[{"verbs":["get"]},{"verbs":["list"]}]"#),
            role("c", r#"{"rules":[{"verbs":["watch"]}]}"#),
            Arc::clone(&sum),
        ];
        let rules: Vec<String> = gather(&sum, &all).iter().map(Value::to_string).collect();
        assert_eq!(rules, [r#"{"verbs":["get"]}"#, r#"{"verbs":["list"]}"#]);
    }
}
