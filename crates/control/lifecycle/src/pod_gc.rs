//! Deletes pods that nobody else will: on nodes that are gone, on nodes declared out of service, terminating without
//! a node, and the oldest finished ones beyond a threshold.
//!
//! State: pods and nodes. A pod that has not finished is marked Failed before it is deleted by force.
//!
//! Source: `pkg/controller/podgc`. Deviation: driven by changes, upstream looks every twenty seconds.

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloudeck_client::{Change, Client, Informer};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{Object, ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;

use crate::caches::{self, Caches};
use crate::clock::Clock;
use crate::kinds;
use crate::node::condition_status;
use crate::pod;
use crate::write;

const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";
const WORKERS: usize = 1;

/// What to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Job {
    /// A node that pods name: is it gone, or out of service?
    Node(String),
    /// A pod that ends without ever having had a node.
    Unscheduled(ObjectKey),
    /// There may be too many finished pods.
    Finished,
}

impl fmt::Display for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(name) => write!(f, "node {name}"),
            Self::Unscheduled(key) => write!(f, "pod {key}"),
            Self::Finished => f.write_str("finished pods"),
        }
    }
}

#[derive(Clone)]
pub(crate) struct PodGc {
    client: Client,
    pods: Informer,
    nodes: Informer,
    clock: Clock,
    limits: PodGcLimits,
    known: Arc<Mutex<Known>>,
    queue: WorkQueue<Job>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct PodGcLimits {
    /// How many finished pods are kept.
    pub(crate) finished: usize,
    /// How long a node must have been gone.
    pub(crate) quarantine: Duration,
}

#[derive(Default)]
struct Known {
    finished: HashSet<ObjectKey>,
    /// Nodes that pods name and that are not there; each has a timer.
    quarantined: HashSet<String>,
    out_of_service: HashSet<String>,
}

impl PodGc {
    pub(crate) fn new(client: Client, caches: &Caches, limits: PodGcLimits, clock: Clock) -> Self {
        Self {
            client,
            pods: caches.informer(&kinds::pods()),
            nodes: caches.informer(&kinds::nodes()),
            clock,
            limits,
            known: Arc::default(),
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let this = self.clone();
        caches::follow(scope, "nodes of pods", &self.nodes, move |change| {
            this.node_changed(&change);
        });
        let this = self.clone();
        caches::follow(scope, "pods to collect", &self.pods, move |change| {
            this.pod_changed(&change);
        });
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "pod-garbage-collector", WORKERS, queue, move |job| {
            let this = Arc::clone(&this);
            async move { this.reconcile(job).await }
        });
    }

    fn node_changed(&self, change: &Change) {
        let name = change.key.name.as_str();
        let out = change
            .new
            .as_deref()
            .is_some_and(|node| is_out_of_service(&node.tree()));
        let mut known = self.known();
        let before = if out {
            !known.out_of_service.insert(name.to_owned())
        } else {
            known.out_of_service.remove(name)
        };
        drop(known);
        if out && !before {
            self.queue.add(Job::Node(name.to_owned()));
        }
        if change.new.is_none() {
            self.quarantine(name);
        }
    }

    fn pod_changed(&self, change: &Change) {
        let Some(pod) = &change.new else {
            self.known().finished.remove(&change.key);
            return;
        };
        self.count_finished(pod);
        let node = &*pod::node_name(pod);
        if node.is_empty() {
            // A pod that ends without a node and is still there waits for finalizers.
            if has_deletion_timestamp(pod) {
                self.queue.add(Job::Unscheduled(change.key.clone()));
            }
        } else if self.nodes.get(&ObjectKey::new("", node)).is_none() {
            self.quarantine(node);
        } else if self.known().out_of_service.contains(node) && has_deletion_timestamp(pod) {
            self.queue.add(Job::Node(node.to_owned()));
        }
    }

    fn count_finished(&self, pod: &Object) {
        let finished = pod::is_finished(pod);
        let mut known = self.known();
        if finished && known.finished.insert(pod.key.clone()) && known.finished.len() > self.limits.finished {
            self.queue.add(Job::Finished);
        }
    }

    fn quarantine(&self, node: &str) {
        if self.known().quarantined.insert(node.to_owned()) {
            self.queue
                .add_after(Job::Node(node.to_owned()), self.limits.quarantine);
        }
    }

    async fn reconcile(&self, job: Job) -> Result<Requeue, Status> {
        match job {
            Job::Node(name) => self.look_at_node(&name).await?,
            Job::Finished => {
                for pod in surplus(&self.pods.list(), self.limits.finished) {
                    self.remove(&pod, None).await?;
                }
            }
            Job::Unscheduled(key) => {
                if let Some(pod) = self.pods.get(&key)
                    && has_deletion_timestamp(&pod)
                {
                    self.remove(&pod, None).await?;
                }
            }
        }
        Ok(Requeue::OnChange)
    }

    async fn look_at_node(&self, name: &str) -> Result<(), Status> {
        let present = self.nodes.get(&ObjectKey::new("", name));
        let quarantined = self.known().quarantined.contains(name);
        if present.is_none() && quarantined {
            match self.client.get(&kinds::nodes(), "", name).await {
                Err(status) if status.reason == Reason::NotFound => {
                    self.remove_all(name, Some(&gone_condition(&(self.clock)().timestamp())))
                        .await?;
                }
                outcome => drop(outcome?),
            }
        }
        self.known().quarantined.remove(name);
        if present.is_some_and(|node| is_out_of_service(&node.tree())) {
            self.remove_all(name, None).await?;
        }
        Ok(())
    }

    /// Removes the pods of a node that is gone, or those that end on one that is out of service.
    async fn remove_all(&self, node: &str, condition: Option<&Value>) -> Result<(), Status> {
        for pod in self.pods.list() {
            let ours = pod::node_name(&pod) == node;
            if ours && (condition.is_some() || has_deletion_timestamp(&pod)) {
                self.remove(&pod, condition).await?;
            }
        }
        Ok(())
    }

    async fn remove(&self, pod: &Object, condition: Option<&Value>) -> Result<(), Status> {
        let key = &pod.key;
        if !pod::is_finished(pod) {
            let mut patch = value!({"metadata": {"uid": (pod.uid.clone())}, "status": {"phase": "Failed"}});
            if let Some(condition) = condition {
                patch.set_at(&["status", "conditions"], value!([(condition.clone())]));
            }
            let outcome = self
                .client
                .strategic_patch(&kinds::pods(), &key.namespace, &key.name, "status", &patch)
                .await;
            write::absent_is_fine(outcome.map(drop))?;
        }
        let options = value!({"gracePeriodSeconds": 0, "preconditions": {"uid": (pod.uid.clone())}});
        write::delete(&self.client, &kinds::pods(), key, &options).await
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gone_condition(now: &str) -> Value {
    value!({
        "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
        "message": "PodGC: node no longer exists", "lastTransitionTime": (now)
    })
}

fn is_out_of_service(node: &Value) -> bool {
    let mut taints = node.items_at(&["spec", "taints"]).iter();
    taints.any(|it| it.str_at(&["key"]) == Some(OUT_OF_SERVICE))
        && condition_status(node, "Ready") != Some("True")
}

fn has_deletion_timestamp(pod: &Object) -> bool {
    pod.tree().at(&["metadata", "deletionTimestamp"]).is_some()
}

/// The finished pods beyond the threshold: evicted ones first, then the oldest.
fn surplus(pods: &[Arc<Object>], threshold: usize) -> Vec<Arc<Object>> {
    let is_finished = |pod: &&Arc<Object>| pod::is_finished(pod);
    let finished: Vec<_> = pods.iter().filter(is_finished).collect();
    let surplus = finished.len().saturating_sub(threshold);
    if surplus == 0 {
        return Vec::new();
    }
    let mut ranked: Vec<_> = finished.into_iter().map(|pod| (rank(pod), pod)).collect();
    ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
    ranked
        .into_iter()
        .take(surplus)
        .map(|(_, pod)| Arc::clone(pod))
        .collect()
}

fn rank(pod: &Object) -> (bool, String, String) {
    let tree = pod.tree();
    let evicted = tree.str_at(&["status", "reason"]) == Some("Evicted");
    let created = tree
        .str_at(&["metadata", "creationTimestamp"])
        .unwrap_or_default();
    (!evicted, created.to_owned(), pod.key.name.to_string())
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    fn pod(name: &str, created: &str, reason: &str) -> Arc<Object> {
        let tree = value!({
            "metadata": {"name": (name), "creationTimestamp": (created)},
            "status": {"phase": "Failed", "reason": (reason)}
        });
        let fields = Box::new([("status.phase", "Failed".into())]);
        Arc::new(Object::from_parts(json::to_vec(&tree).into(), &tree, fields))
    }

    #[test]
    fn evicted_pods_go_before_the_oldest() {
        let pods = [
            pod("old", "2020-01-01T00:00:00Z", ""),
            pod("evicted", "2024-01-01T00:00:00Z", "Evicted"),
            pod("new", "2023-01-01T00:00:00Z", ""),
        ];
        let names = |keep| {
            surplus(&pods, keep)
                .iter()
                .map(|pod| pod.key.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(names(1), ["evicted", "old"]);
        assert!(names(3).is_empty());
    }

    #[test]
    fn a_node_is_out_of_service_only_while_it_is_not_ready() {
        let node = |ready: &str| {
            value!({
                "spec": {"taints": [{"key": (OUT_OF_SERVICE), "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": (ready)}]}
            })
        };
        assert!(is_out_of_service(&node("Unknown")));
        assert!(!is_out_of_service(&node("True")));
    }
}
