//! Keeps as many pods as a ReplicaSet asks for.
//!
//! State: ReplicaSets and the pods they own. It creates and deletes pods, adopts and releases them by the selector, and
//! writes the set's status. It never touches a pod's spec, and it makes or deletes nothing for a set while earlier
//! writes for it are unseen ([`Pending`]). What to do is decided in [`decide`].
//!
//! Source: `pkg/controller/replicaset`.

mod decide;
pub(crate) mod facts;
mod rank;

use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{Object, ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;
use futures_util::future::join_all;

use crate::clock::Clock;
use crate::kinds;
use crate::pending::{self, Pending};
use crate::pod::Pod;
use crate::view::{Update, View};
use crate::write;
use decide::{Failure, Observed};
use facts::ReplicaSet;

const API_VERSION: &str = "apps/v1";
const KIND: &str = "ReplicaSet";
const WORKERS: usize = 4;

/// Reconciles ReplicaSets.
#[derive(Clone)]
pub(crate) struct ReplicaSets {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    sets: View<ReplicaSet>,
    pods: View<Pod>,
    queue: WorkQueue<ObjectKey>,
    pending: Pending,
    clock: Clock,
}

impl ReplicaSets {
    /// Registers with the views; [`ReplicaSets::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        sets: &View<ReplicaSet>,
        pods: &View<Pod>,
        clock: Clock,
    ) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "replicaset-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            sets: sets.clone(),
            pods: pods.clone(),
            queue: WorkQueue::new(),
            pending: Pending::default(),
            clock,
        });
        let queue = inner.queue.clone();
        sets.on_change(move |update| queue.add(update.key.clone()));
        let (queue, known) = (inner.queue.clone(), sets.clone());
        pods.on_change(move |update| wake(&queue, &known, update));
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "replicaset-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

/// Puts the sets that a pod's change concerns into the queue.
fn wake(queue: &WorkQueue<ObjectKey>, sets: &View<ReplicaSet>, update: &Update<'_, Pod>) {
    let namespace = &update.key.namespace;
    if update.old.is_none() && update.new.is_none() {
        // Came and went unseen: the set that waits for it is told by its name.
        if let Some((set, _)) = update.key.name.rsplit_once('-') {
            queue.add(ObjectKey::new(namespace, set));
        }
    }
    for pod in update.sides() {
        match &pod.owner {
            Some(owner) if owner.kind == KIND => queue.add(ObjectKey::new(namespace, &owner.name)),
            Some(_) => {}
            // Anybody who selects an orphan may want it.
            None => {
                let all = sets.list_namespace(namespace);
                let matching = all.iter().filter(|set| set.selector.matches(&*pod.object));
                for set in matching {
                    queue.add(set.object.key.clone());
                }
            }
        }
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(set) = self.sets.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let settled = self.pending.is_settled(&set.object.uid, &self.pods);
        let pods = self.pods.owned_by_or_orphans(&set.object.uid, &key.namespace);
        let now = (self.clock)();
        let decision = decide::decide(Observed {
            set: &set,
            pods,
            related: &self.related(&set),
            settled,
            now,
        });
        self.claim(&set, &decision.adopt, &decision.release).await?;
        let mut outcome = Ok(());
        if decision.create > 0 {
            outcome = self.create(&set, decision.create).await;
        } else if !decision.delete.is_empty() {
            outcome = self.delete(&set, &decision.delete).await;
        }
        let failure = outcome.as_ref().err().map(|status| Failure {
            reason: if decision.create > 0 {
                "FailedCreate"
            } else {
                "FailedDelete"
            },
            message: status.message.clone(),
        });
        self.write_status(&set, &decision.tally, settled, failure.as_ref())
            .await?;
        outcome?;
        if set.deleting {
            self.pending.forget(&set.object.uid);
        }
        let patience = (!settled).then_some(pending::PATIENCE);
        let next = decision.tally.next_available.into_iter().chain(patience).min();
        Ok(next.map_or(Requeue::OnChange, Requeue::After))
    }

    /// The pods of all sets of the same owner.
    fn related(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        match &set.owner {
            None => self.pods.owned_by(&set.object.uid),
            Some(owner) => {
                let siblings = self.sets.owned_by(&owner.uid);
                siblings
                    .iter()
                    .flat_map(|sibling| self.pods.owned_by(&sibling.object.uid))
                    .collect()
            }
        }
    }

    async fn claim(&self, set: &ReplicaSet, adopt: &[Arc<Pod>], release: &[Arc<Pod>]) -> Result<(), Status> {
        if !adopt.is_empty() {
            self.check_not_deleted(set).await?;
        }
        for pod in adopt {
            let owner = write::controller_reference(API_VERSION, KIND, &set.object);
            let patch = value!({"metadata": {"uid": (pod.object.uid.clone()), "ownerReferences": [(owner)]}});
            self.patch_pod(pod, &patch).await?;
        }
        for pod in release {
            let gone = value!({"$patch": "delete", "uid": (set.object.uid.clone())});
            let patch = value!({"metadata": {"uid": (pod.object.uid.clone()), "ownerReferences": [(gone)]}});
            self.patch_pod(pod, &patch).await?;
        }
        Ok(())
    }

    /// The cache may be behind: before anything is adopted the set is read afresh.
    async fn check_not_deleted(&self, set: &ReplicaSet) -> Result<(), Status> {
        let key = &set.object.key;
        let fresh = self
            .client
            .get(&kinds::replica_sets(), &key.namespace, &key.name)
            .await?;
        let deleting = fresh.tree().at(&["metadata", "deletionTimestamp"]).is_some();
        if fresh.uid != set.object.uid || deleting {
            let why = "it is being deleted or was made anew";
            return Err(Status::conflict("apps", "replicasets", &key.name, why));
        }
        Ok(())
    }

    async fn patch_pod(&self, pod: &Pod, patch: &Value) -> Result<(), Status> {
        let key = &pod.object.key;
        let outcome = self
            .client
            .strategic_patch(&kinds::pods(), &key.namespace, &key.name, "", patch)
            .await;
        write::absent_is_fine(outcome.map(|_| ()))
    }

    /// Creates in batches that double from one, so that a refusal of all of them costs one request.
    async fn create(&self, set: &ReplicaSet, count: usize) -> Result<(), Status> {
        let pod = new_pod(set);
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let size = batch.min(left);
            let outcomes = join_all((0..size).map(|_| self.create_one(set, &pod))).await;
            outcomes.into_iter().collect::<Result<Vec<()>, Status>>()?;
            left -= size;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, set: &ReplicaSet, pod: &Value) -> Result<(), Status> {
        let namespace = &set.object.key.namespace;
        match self.client.create(&kinds::pods(), namespace, pod).await {
            Ok(created) => {
                self.pending.created(&set.object.uid, &created);
                let message = format!("Created pod: {}", created.key.name);
                self.event(set, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(status) if write::is_namespace_terminating(&status) => Ok(()),
            Err(status) => {
                self.event(
                    set,
                    EventType::Warning,
                    "FailedCreate",
                    format!("Error creating: {status}"),
                );
                Err(status)
            }
        }
    }

    async fn delete(&self, set: &ReplicaSet, pods: &[Arc<Pod>]) -> Result<(), Status> {
        let outcomes = join_all(pods.iter().map(|pod| self.delete_one(set, pod))).await;
        outcomes.into_iter().collect()
    }

    async fn delete_one(&self, set: &ReplicaSet, pod: &Pod) -> Result<(), Status> {
        let (key, uid) = (&pod.object.key, pod.uid());
        let options = value!({"preconditions": {"uid": (uid)}});
        let outcome = self
            .client
            .delete(&kinds::pods(), &key.namespace, &key.name, &options)
            .await;
        match outcome {
            Ok(_) => {
                self.pending.deleted(&set.object.uid, &pod.object);
                self.event(
                    set,
                    EventType::Normal,
                    "SuccessfulDelete",
                    format!("Deleted pod: {}", key.name),
                );
                Ok(())
            }
            Err(status) if status.reason == Reason::NotFound => {
                self.pending.deleted(&set.object.uid, &pod.object);
                Ok(())
            }
            Err(status) => {
                self.event(
                    set,
                    EventType::Warning,
                    "FailedDelete",
                    format!("Error deleting: {status}"),
                );
                Err(status)
            }
        }
    }

    async fn write_status(
        &self,
        set: &ReplicaSet,
        tally: &decide::Tally,
        settled: bool,
        failure: Option<&Failure>,
    ) -> Result<(), Status> {
        let Some(status) = decide::status(set, tally, settled, failure, (self.clock)()) else {
            return Ok(());
        };
        let mut tree = set.tree.clone();
        tree.set_at(&["status"], status);
        let outcome = write::update(&self.client, &kinds::replica_sets(), "status", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }

    fn event(&self, set: &ReplicaSet, kind: EventType, reason: &'static str, message: String) {
        self.events.event(reference(&set.object), kind, reason, message);
    }
}

fn reference(set: &Object) -> ObjectReference {
    ObjectReference::to_object(API_VERSION, KIND, set)
}

/// A pod by the set's template.
fn new_pod(set: &ReplicaSet) -> Value {
    let template = |path: &[&str]| set.tree.at(path).cloned();
    let mut pod = value!({"apiVersion": "v1", "kind": "Pod", "metadata": {
        "generateName": (format!("{}-", set.object.key.name)),
        "namespace": (set.object.key.namespace.clone()),
        "ownerReferences": [(write::controller_reference(API_VERSION, KIND, &set.object))]
    }});
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(part) = template(&["spec", "template", "metadata", field]) {
            pod.set_at(&["metadata", field], part);
        }
    }
    if let Some(spec) = template(&["spec", "template", "spec"]) {
        pod.set_at(&["spec"], spec);
    }
    pod
}
