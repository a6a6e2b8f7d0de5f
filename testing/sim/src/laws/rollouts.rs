//! Deployments keep enough pods ready while they roll: never fewer than replicas less `maxUnavailable`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use cloudeck_machinery::{Value, int_or_percent, json};

use super::{Current, controller_uid, is_over};
use crate::book::Entry;
use crate::node::condition;
use crate::trace::Trace;

/// What is known of the Deployments that roll, by uid.
pub(super) struct Rollouts {
    trace: Trace,
    deployments: HashMap<String, Rollout>,
}

#[derive(Default)]
struct Rollout {
    replicas: i64,
    /// Pods that must be ready once there were enough.
    promise: i64,
    floor: i64,
    ready: BTreeSet<Arc<str>>,
}

impl Rollouts {
    pub(super) fn new(trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            deployments: HashMap::new(),
        }
    }

    /// The Deployment was written, or is gone.
    pub(super) fn deployment(&mut self, tree: Option<&Value>, exists: bool) {
        let Some(tree) = tree else { return };
        let uid = tree.str_at(&["metadata", "uid"]).unwrap_or_default();
        // Pods that have to be ready for a while may be taken before they count; a Recreate promises nothing.
        let promises = exists
            && tree.at(&["metadata", "deletionTimestamp"]).is_none()
            && tree.int_at(&["spec", "minReadySeconds"]).unwrap_or(0) == 0
            && tree.str_at(&["spec", "strategy", "type"]) == Some("RollingUpdate");
        if !promises {
            self.deployments.remove(uid);
            return;
        }
        let replicas = tree.int_at(&["spec", "replicas"]).unwrap_or(1);
        let rollout = self.deployments.entry(uid.to_owned()).or_default();
        rollout.replicas = replicas;
        rollout.promise = replicas - unavailable(tree, replicas);
        rollout.floor = rollout.floor.min(rollout.promise);
    }

    /// A pod was written, or is gone.
    pub(super) fn pod(&mut self, entry: &Entry, old: Option<&Value>, new: Option<&Value>, current: &Current) {
        let Some(uid) = new.or(old).and_then(|pod| deployment_of(pod, current)) else {
            return;
        };
        let Some(rollout) = self.deployments.get_mut(&uid) else {
            return;
        };
        if new.is_some_and(is_available) {
            rollout.ready.insert(Arc::clone(&entry.key));
        } else {
            rollout.ready.remove(&entry.key);
        }
        let ready = rollout.ready.len() as i64;
        if ready >= rollout.replicas {
            rollout.floor = rollout.promise;
        }
        if ready < rollout.floor {
            let Rollout { floor, replicas, .. } = rollout;
            self.trace.violation(format!(
                "at revision {} with {} a Deployment of {replicas} has {ready} pods ready and promised {floor}",
                entry.revision, entry.key
            ));
            rollout.floor = 0;
        }
    }
}

fn is_available(pod: &Value) -> bool {
    let is_ready = condition(pod, "Ready").and_then(|it| it.str_at(&["status"])) == Some("True");
    is_ready && !is_over(pod) && pod.at(&["metadata", "deletionTimestamp"]).is_none()
}

/// The uid of the Deployment above the pod's set.
fn deployment_of(pod: &Value, current: &Current) -> Option<String> {
    let set = controller_uid(pod)?;
    let namespace = pod.str_at(&["metadata", "namespace"])?;
    let prefix = format!("apps/replicasets/{namespace}/");
    let sets = current.range(Arc::from(prefix.as_str())..);
    let sets = sets.take_while(|(key, _)| key.starts_with(&prefix));
    let mut trees = sets.filter_map(|(_, (_, bytes))| json::parse(bytes).ok());
    let set = trees.find(|tree| tree.str_at(&["metadata", "uid"]) == Some(set))?;
    controller_uid(&set).map(str::to_owned)
}

/// As upstream resolves both fences: one of them is at least one.
fn unavailable(deployment: &Value, replicas: i64) -> i64 {
    let fence = |field: &str, round_up: bool| {
        let value = deployment.at(&["spec", "strategy", "rollingUpdate", field]);
        value
            .and_then(|value| int_or_percent::scaled(value, replicas, round_up))
            .unwrap_or(0)
    };
    let (surge, unavailable) = (fence("maxSurge", true), fence("maxUnavailable", false));
    if surge == 0 && unavailable == 0 {
        1
    } else {
        unavailable.min(replicas)
    }
}
