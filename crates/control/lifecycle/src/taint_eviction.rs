//! Deletes pods that do not tolerate their node's NoExecute taints, when their time is up.
//!
//! State: the NoExecute taints of each node, and for each pod that tolerates them for a while, since when. A pod is
//! given the condition DisruptionTarget before it is deleted.
//!
//! Source: `pkg/controller/tainteviction`. Deviation: where the taint tells when it was added, the time that a pod
//! tolerates counts from then (or from the pod's own start), so a restart of this process does not begin it anew.

mod decide;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_client::{Change, Client, Informer};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{Object, ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use crate::caches::{self, Caches};
use crate::clock::{Clock, Now};
use crate::kinds;
use crate::pod;
use crate::write;
use decide::Fate;

const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct TaintEviction {
    client: Client,
    nodes: Informer,
    pods: Informer,
    recorder: EventRecorder,
    clock: Clock,
    known: Arc<Mutex<Known>>,
    queue: WorkQueue<ObjectKey>,
}

#[derive(Default)]
struct Known {
    /// NoExecute taints by node; nodes without any are absent.
    taints: HashMap<String, Arc<Vec<Value>>>,
    /// Pods that tolerate for a while, and since when.
    waiting: HashMap<ObjectKey, Now>,
}

impl TaintEviction {
    pub(crate) fn new(client: Client, caches: &Caches, clock: Clock, scope: &Scope) -> Self {
        Self {
            nodes: caches.informer(&kinds::nodes()),
            pods: caches.informer(&kinds::pods()),
            recorder: EventRecorder::start(scope, client.clone(), "taint-eviction-controller", ""),
            client,
            clock,
            known: Arc::default(),
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let this = self.clone();
        caches::follow(scope, "tainted nodes", &self.nodes, move |change| {
            this.node_changed(&change);
        });
        let this = self.clone();
        caches::follow(scope, "pods of tainted nodes", &self.pods, move |change| {
            this.pod_changed(&change);
        });
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "taint-eviction-controller", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    fn node_changed(&self, change: &Change) {
        let name = change.key.name.as_str();
        let taints = change.new.as_deref().map(no_execute_taints).unwrap_or_default();
        let mut known = self.known();
        let before = known.taints.get(name).map_or(&[][..], |taints| taints.as_slice());
        if before == taints {
            return;
        }
        if taints.is_empty() {
            known.taints.remove(name);
        } else {
            known.taints.insert(name.to_owned(), Arc::new(taints));
        }
        drop(known);
        for pod in self.pods.list() {
            if pod::node_name(&pod) == name {
                self.queue.add(pod.key.clone());
            }
        }
    }

    fn pod_changed(&self, change: &Change) {
        let known = self.known();
        let is_tainted = |pod: &Arc<Object>| known.taints.contains_key(&*pod::node_name(pod));
        let tainted = !known.taints.is_empty() && change.new.as_ref().is_some_and(is_tainted);
        if tainted || known.waiting.contains_key(&change.key) {
            self.queue.add(change.key.clone());
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(pod) = self.pods.get(key) else {
            self.known().waiting.remove(key);
            return Ok(Requeue::OnChange);
        };
        let tree = pod.tree();
        let now = (self.clock)();
        match self.fate(&pod, &tree, now) {
            Fate::Stay => {
                if self.known().waiting.remove(key).is_some() {
                    let message = format!("Cancelling deletion of Pod {key}");
                    self.tell(&pod, message);
                }
                Ok(Requeue::OnChange)
            }
            Fate::GoAt { since, at } if now < at => {
                self.known().waiting.insert(key.clone(), since);
                Ok(Requeue::After(now.until(at)))
            }
            Fate::GoAt { .. } | Fate::Go => {
                self.evict(&pod, &tree, now).await?;
                self.known().waiting.remove(key);
                Ok(Requeue::OnChange)
            }
        }
    }

    fn fate(&self, pod: &Object, tree: &Value, now: Now) -> Fate {
        let known = self.known();
        let node = pod::node_name(pod);
        let taints = known
            .taints
            .get(&*node)
            .map_or(&[][..], |taints| taints.as_slice());
        decide::decide(tree, taints, known.waiting.get(&pod.key).copied(), now)
    }

    async fn evict(&self, pod: &Object, tree: &Value, now: Now) -> Result<(), Status> {
        if tree.at(&["metadata", "deletionTimestamp"]).is_some() {
            return Ok(());
        }
        self.tell(pod, format!("Marking for deletion Pod {}", pod.key));
        let condition = value!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint", "lastTransitionTime": (now.timestamp())
        });
        let patch = value!({"metadata": {"uid": (pod.uid.clone())}, "status": {"conditions": [(condition)]}});
        let key = &pod.key;
        let outcome = self
            .client
            .strategic_patch(&kinds::pods(), &key.namespace, &key.name, "status", &patch)
            .await;
        write::absent_is_fine(outcome.map(drop))?;
        let options = value!({"preconditions": {"uid": (pod.uid.clone())}});
        write::delete(&self.client, &kinds::pods(), key, &options).await
    }

    fn tell(&self, pod: &Object, message: String) {
        let about = ObjectReference::to_object("v1", "Pod", pod);
        self.recorder
            .event(about, EventType::Normal, "TaintManagerEviction", message);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_execute_taints(node: &Object) -> Vec<Value> {
    let tree = node.tree();
    let taints = tree.items_at(&["spec", "taints"]);
    taints
        .iter()
        .filter(|it| it.str_at(&["effect"]) == Some("NoExecute"))
        .cloned()
        .collect()
}
