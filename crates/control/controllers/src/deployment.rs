//! Rolls out Deployments through ReplicaSets.
//!
//! State: Deployments and the ReplicaSets they own; pods only to know, for the strategy Recreate, when the last old one
//! is gone. It makes, resizes and deletes sets and writes the Deployment's status; it never touches a pod. Everything
//! is written at the revision it was decided on, so a stale cache gives a conflict and not a wrong size. What to do is
//! decided in [`decide`].
//!
//! Source: `pkg/controller/deployment`. Deviations: the hash of a template is another one (`hash`); a Recreate waits until its
//! old sets are known to be empty and asks the server before it goes on, where upstream's trusts its caches.

mod conditions;
mod decide;
pub(crate) mod facts;
mod hash;
mod proportion;
mod revision;
mod rollout;
mod status;

use std::sync::Arc;

use cloudeck_client::{Client, Params};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::claim::{Claimant, Claims, claim};
use crate::clock::Clock;
use crate::kinds;
use crate::pod::Pod;
use crate::replicaset::facts::ReplicaSet;
use crate::view::{Facts as _, Update, View};
use crate::write;
use decide::{Observed, Plan};
use facts::Deployment;

const API_VERSION: &str = "apps/v1";
const KIND: &str = "Deployment";
const WORKERS: usize = 4;

/// Reconciles Deployments.
#[derive(Clone)]
pub(crate) struct Deployments {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    deployments: View<Deployment>,
    sets: View<ReplicaSet>,
    pods: View<Pod>,
    queue: WorkQueue<ObjectKey>,
    clock: Clock,
}

impl Deployments {
    /// Registers with the views; [`Deployments::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        (deployments, sets, pods): (&View<Deployment>, &View<ReplicaSet>, &View<Pod>),
        clock: Clock,
    ) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "deployment-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            deployments: deployments.clone(),
            sets: sets.clone(),
            pods: pods.clone(),
            queue: WorkQueue::new(),
            clock,
        });
        let queue = inner.queue.clone();
        deployments.on_change(move |update| queue.add(update.key.clone()));
        let (queue, known) = (inner.queue.clone(), deployments.clone());
        sets.on_change(move |update| wake(&queue, &known, update));
        let (queue, known, known_sets) = (inner.queue.clone(), deployments.clone(), sets.clone());
        pods.on_change(move |update| wake_by_pod(&queue, &known, &known_sets, update));
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "deployment-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

/// Puts the Deployments that a set's change concerns into the queue.
fn wake(queue: &WorkQueue<ObjectKey>, deployments: &View<Deployment>, update: &Update<'_, ReplicaSet>) {
    let namespace = &update.key.namespace;
    for set in update.sides() {
        match &set.owner {
            Some(owner) if owner.kind == KIND => queue.add(ObjectKey::new(namespace, &owner.name)),
            Some(_) => {}
            None => {
                let all = deployments.list_namespace(namespace);
                let matching = all.iter().filter(|it| it.selector.matches(&*set.object));
                for deployment in matching {
                    queue.add(deployment.object.key.clone());
                }
            }
        }
    }
}

/// A Deployment that recreates waits for its old pods to be gone or finished.
fn wake_by_pod(
    queue: &WorkQueue<ObjectKey>,
    deployments: &View<Deployment>,
    sets: &View<ReplicaSet>,
    update: &Update<'_, Pod>,
) {
    let Some(old) = update.old else { return };
    let Some(set) = old.owner.as_ref().filter(|owner| owner.kind == "ReplicaSet") else {
        return;
    };
    if update.new.is_some_and(|new| !new.is_finished()) {
        return;
    }
    let set = sets.get(&ObjectKey::new(&update.key.namespace, &set.name));
    let Some(owner) = set.and_then(|set| set.owner.clone()) else {
        return;
    };
    let key = ObjectKey::new(&update.key.namespace, &owner.name);
    if deployments
        .get(&key)
        .is_some_and(|deployment| deployment.recreates)
    {
        queue.add(key);
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(deployment) = self.deployments.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let claimant = Claimant {
            uid: &deployment.object.uid,
            deleting: deployment.deleting,
            selector: &deployment.selector,
        };
        let candidates = self
            .sets
            .owned_by_or_orphans(&deployment.object.uid, &key.namespace);
        let claims = claim(&claimant, candidates);
        self.claim(&deployment, &claims).await?;
        let has_pods = |uid: &str| self.pods.owned_by(uid).iter().any(|pod| !pod.is_finished());
        let plan = decide::decide(&Observed {
            deployment: &deployment,
            sets: &claims.owned,
            has_pods: &has_pods,
            now: (self.clock)(),
        });
        if let Some(old) = &plan.replaces
            && !self.is_replaced(&deployment, old, &claims.owned).await?
        {
            let why = "what is known of its sets or their pods is behind";
            return Err(Status::conflict("apps", "deployments", &key.name, why));
        }
        let again = plan.again;
        self.carry_out(&deployment, plan).await?;
        Ok(again.map_or(Requeue::OnChange, Requeue::After))
    }

    async fn claim(&self, deployment: &Deployment, claims: &Claims<ReplicaSet>) -> Result<(), Status> {
        let own = &deployment.object;
        if !claims.adopt.is_empty() {
            let fresh = self
                .client
                .get(&kinds::deployments(), &own.key.namespace, &own.key.name)
                .await?;
            if fresh.uid != own.uid || fresh.tree().at(&["metadata", "deletionTimestamp"]).is_some() {
                let why = "it is being deleted or was made anew";
                return Err(Status::conflict("apps", "deployments", &own.key.name, why));
            }
        }
        let adopt = write::controller_reference(API_VERSION, KIND, own);
        let release = value!({"$patch": "delete", "uid": (own.uid.clone())});
        let adopted = claims.adopt.iter().map(|set| (set, &adopt));
        let released = claims.release.iter().map(|set| (set, &release));
        for (set, reference) in adopted.chain(released) {
            let (key, uid) = (&set.object.key, set.object.uid.clone());
            let patch = value!({"metadata": {"uid": (uid), "ownerReferences": [(reference.clone())]}});
            let resource = kinds::replica_sets();
            let outcome = self
                .client
                .strategic_patch(&resource, &key.namespace, &key.name, "", &patch)
                .await;
            write::absent_is_fine(outcome.map(|_| ()))?;
        }
        Ok(())
    }

    /// A Recreate never lets the new pods in beside the old, and caches may lag: before it lets them in, it asks.
    async fn is_replaced(
        &self,
        deployment: &Deployment,
        old: &[CompactString],
        known: &[Arc<ReplicaSet>],
    ) -> Result<bool, Status> {
        let namespace = &deployment.object.key.namespace;
        let list = |resource| async move {
            let list = self.client.list(&resource, namespace, Params::default()).await?;
            Ok::<_, Status>(list.items)
        };
        let mut sets = list(kinds::replica_sets()).await?;
        let uid = &deployment.object.uid;
        sets.retain(|set| {
            let tree = set.tree();
            match crate::replicaset::facts::owner(&tree) {
                Some(owner) => owner.uid == *uid,
                None => {
                    deployment.selector.matches(&**set)
                        && tree.at(&["metadata", "deletionTimestamp"]).is_none()
                }
            }
        });
        let pods = list(kinds::pods()).await?.into_iter();
        let pods: Vec<Pod> = pods.filter_map(|pod| Pod::read(pod).ok()).collect();
        Ok(decide::is_replaced(old, known, &sets, &pods))
    }

    async fn carry_out(&self, deployment: &Deployment, plan: Plan) -> Result<(), Status> {
        if let Some(set) = plan.create {
            self.create(deployment, set).await?;
        }
        for (set, event) in plan.update {
            write::update(&self.client, &kinds::replica_sets(), "", &set).await?;
            if let Some(event) = event {
                self.event(deployment, EventType::Normal, "ScalingReplicaSet", event);
            }
        }
        for set in plan.delete {
            write::delete(
                &self.client,
                &kinds::replica_sets(),
                &set.object.key,
                &set.object.uid,
            )
            .await?;
        }
        if let Some(tree) = plan.deployment {
            self.write_status(&tree).await?;
        }
        Ok(())
    }

    async fn create(&self, deployment: &Deployment, set: Value) -> Result<(), Status> {
        let (resource, namespace) = (kinds::replica_sets(), &deployment.object.key.namespace);
        match self.client.create(&resource, namespace, &set).await {
            Ok(created) => {
                let size = set.int_at(&["spec", "replicas"]).unwrap_or(0);
                if size > 0 {
                    let message = format!("Scaled up replica set {} from 0 to {size}", created.key.name);
                    self.event(deployment, EventType::Normal, "ScalingReplicaSet", message);
                }
                Ok(())
            }
            Err(status) if status.reason == Reason::AlreadyExists => {
                self.meet_existing(deployment, &set, status).await
            }
            Err(status) if write::is_namespace_terminating(&status) => Err(status),
            Err(status) => {
                self.tell_failed_creation(deployment, &set, &status).await;
                Err(status)
            }
        }
    }

    /// Either the cache is behind and the set is the one that was wanted, or another template has the same hash.
    async fn meet_existing(&self, deployment: &Deployment, set: &Value, taken: Status) -> Result<(), Status> {
        let name = set.str_at(&["metadata", "name"]).unwrap_or_default();
        let namespace = &deployment.object.key.namespace;
        let present = self.client.get(&kinds::replica_sets(), namespace, name).await?;
        if rollout::is_same_creation(set, &present.tree(), &deployment.object.uid) {
            return Ok(());
        }
        let mut tree = deployment.tree.clone();
        let collisions = tree.int_at(&["status", "collisionCount"]).unwrap_or(0);
        tree.set_at(&["status", "collisionCount"], collisions + 1);
        self.write_status(&tree).await?;
        Err(taken)
    }

    async fn tell_failed_creation(&self, deployment: &Deployment, set: &Value, status: &Status) {
        const REASON: &str = "ReplicaSetCreateError";
        let name = set.str_at(&["metadata", "name"]).unwrap_or_default();
        let message = format!("Failed to create new replica set \"{name}\": {status}");
        if deployment.progress_deadline.is_some() {
            let mut tree = deployment.tree.clone();
            let mut present = tree.items_at(&["status", "conditions"]).to_vec();
            let failed = conditions::progressing("False", REASON, &message, (self.clock)());
            conditions::set(&mut present, failed);
            tree.set_at(&["status", "conditions"], present);
            if let Err(error) = self.write_status(&tree).await {
                tracing::debug!(%error, "failed creation not told in the status");
            }
        }
        self.event(deployment, EventType::Warning, REASON, message);
    }

    async fn write_status(&self, tree: &Value) -> Result<(), Status> {
        let outcome = write::update(&self.client, &kinds::deployments(), "status", tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }

    fn event(&self, deployment: &Deployment, kind: EventType, reason: &'static str, message: String) {
        let about = ObjectReference::to_object(API_VERSION, KIND, &deployment.object);
        self.events.event(about, kind, reason, message);
    }
}
