//! Says in the status of each PodDisruptionBudget how many of its pods may be disrupted, which evictions and preemption
//! go by.
//!
//! State: budgets, the pods they select, and the workloads of those pods, whose replicas are what a share is a share of.
//! What follows is decided in [`decide`].
//!
//! Source: `pkg/controller/disruption`. Pods of workloads without replicas (Jobs, DaemonSets) make a share of them unknown,
//! as upstream. Not here: taking back the condition of pods that were to be disrupted and were not.

mod decide;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{LabelSelector, Object, ObjectKey, Status, Value, object};
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::clock::Clock;
use crate::deployment::facts::Deployment;
use crate::everything::Everything;
use crate::kinds;
use crate::pod::{Owner, Pod};
use crate::replicaset::facts::ReplicaSet;
use crate::view::{Facts, View};
use crate::write;
use decide::{Member, Standing};

const WORKERS: usize = 1;
/// The workloads whose replicas count, by group and plural.
const WORKLOADS: [(&str, &str); 4] = [
    ("", "replicationcontrollers"),
    ("apps", "deployments"),
    ("apps", "replicasets"),
    ("apps", "statefulsets"),
];

/// A budget, read once per revision.
pub(crate) struct Budget {
    object: Arc<Object>,
    selector: LabelSelector,
}

impl Facts for Budget {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        let selector = LabelSelector::from_value(object.tree().at(&["spec", "selector"]));
        Ok(Self {
            selector: selector.map_err(|error| error.to_string())?,
            object,
        })
    }

    fn object(&self) -> &Arc<Object> {
        &self.object
    }
}

impl Budget {
    fn covers(&self, pod: &Pod) -> bool {
        self.selector.matches(&*pod.object.labels)
    }
}

#[derive(Clone)]
pub(crate) struct Disruptions {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    budgets: View<Budget>,
    pods: View<Pod>,
    replica_sets: View<ReplicaSet>,
    deployments: View<Deployment>,
    everything: Everything,
    queue: WorkQueue<ObjectKey>,
    clock: Clock,
}

/// The views that the controller follows.
type Followed<'a> = (
    &'a View<Budget>,
    &'a View<Pod>,
    &'a View<ReplicaSet>,
    &'a View<Deployment>,
);

impl Disruptions {
    /// Registers with views and informers; [`Disruptions::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        (budgets, pods, replica_sets, deployments): Followed<'_>,
        everything: &Everything,
        clock: Clock,
    ) -> Self {
        let inner = Arc::new(Inner {
            events: EventRecorder::start(scope, client.clone(), "controllermanager", ""),
            client,
            budgets: budgets.clone(),
            pods: pods.clone(),
            replica_sets: replica_sets.clone(),
            deployments: deployments.clone(),
            everything: everything.clone(),
            queue: WorkQueue::new(),
            clock,
        });
        let queue = inner.queue.clone();
        budgets.on_change(move |update| {
            if update.new.is_some() {
                queue.add(update.key.clone());
            }
        });
        let (queue, known) = (inner.queue.clone(), budgets.clone());
        pods.on_change(move |update| {
            if let (Some(old), Some(new)) = (update.old, update.new)
                && (old.ready, old.deleting) == (new.ready, new.deleting)
                && (old.uid(), &old.object.labels) == (new.uid(), &new.object.labels)
            {
                return;
            }
            for budget in known.list_namespace(&update.key.namespace) {
                if update.sides().any(|pod| budget.covers(pod)) {
                    queue.add(budget.object.key.clone());
                }
            }
        });
        let (queue, known) = (inner.queue.clone(), budgets.clone());
        everything.on_change(move |info, change| {
            if WORKLOADS.contains(&(info.group, info.plural)) {
                for budget in known.list_namespace(&change.key.namespace) {
                    queue.add(budget.object.key.clone());
                }
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "disruption-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(budget) = self.budgets.get(key) else {
            return Ok(Requeue::OnChange);
        };
        let (tree, now) = (budget.object.tree(), (self.clock)());
        let mut pods = self.pods.list_namespace(&key.namespace);
        pods.retain(|pod| budget.covers(pod));
        if pods.is_empty() {
            self.tell(
                &budget,
                EventType::Normal,
                "NoPods",
                "No matching pods found".into(),
            );
        }
        let scale = match self.scale(&budget, &tree, &pods) {
            Ok(scale) => scale,
            Err(why) => {
                let message = format!("Failed to calculate the number of expected pods: {why}");
                self.tell(
                    &budget,
                    EventType::Warning,
                    "CalculateExpectedPodCountFailed",
                    message,
                );
                self.write(&tree, decide::fail_safe(&tree, &why, now)).await?;
                return Ok(Requeue::OnChange);
            }
        };
        let members: Vec<Member<'_>> = pods
            .iter()
            .map(|pod| Member {
                name: &pod.object.key.name,
                ready: pod.ready,
                deleting: pod.deleting,
            })
            .collect();
        let Standing { status, again } = decide::standing(&tree, &members, scale, now);
        self.write(&tree, status).await?;
        Ok(again.map_or(Requeue::OnChange, Requeue::After))
    }

    /// How many pods there should be, where the budget is a share of that or what is left of it.
    fn scale(&self, budget: &Budget, tree: &Value, pods: &[Arc<Pod>]) -> Result<i64, String> {
        if !decide::needs_scale(tree) {
            return Ok(0);
        }
        let mut scales: BTreeMap<CompactString, i64> = BTreeMap::new();
        let mut is_told = false;
        for pod in pods {
            let Some(owner) = &pod.owner else {
                if !is_told {
                    self.tell(budget, EventType::Warning, "UnmanagedPods", unmanaged(budget));
                    is_told = true;
                }
                continue;
            };
            let namespace = &pod.object.key.namespace;
            let (uid, replicas) = self
                .workload(namespace, owner)
                .ok_or_else(|| why_unknown(pod, owner))?;
            scales.insert(uid, replicas);
        }
        Ok(scales.values().sum())
    }

    /// The workload that decides on the number of replicas: the Deployment above a ReplicaSet, where there is one.
    fn workload(&self, namespace: &str, owner: &Owner) -> Option<(CompactString, i64)> {
        let key = ObjectKey::new(namespace, &owner.name);
        if owner.kind != "ReplicaSet" {
            let group = match owner.kind.as_str() {
                "ReplicationController" => "",
                "StatefulSet" => "apps",
                _ => return None,
            };
            let (_, informer) = self.everything.by_kind(group, &owner.kind)?;
            let object = informer.get(&key).filter(|object| object.uid == owner.uid)?;
            let replicas = object.tree().int_at(&["spec", "replicas"]).unwrap_or(1);
            return Some((owner.uid.clone(), replicas));
        }
        let set = self
            .replica_sets
            .get(&key)
            .filter(|set| set.object.uid == owner.uid)?;
        let above = set.owner.as_ref().filter(|above| above.kind == "Deployment");
        let above = above.and_then(|above| {
            let deployment = self.deployments.get(&ObjectKey::new(namespace, &above.name))?;
            Some(deployment).filter(|deployment| deployment.object.uid == above.uid)
        });
        Some(above.map_or((owner.uid.clone(), set.replicas), |above| {
            (above.object.uid.clone(), above.replicas)
        }))
    }

    async fn write(&self, budget: &Value, status: Option<Value>) -> Result<(), Status> {
        let Some(status) = status else { return Ok(()) };
        let mut tree = budget.clone();
        tree.set_at(&["status"], status);
        let outcome = write::update(&self.client, &kinds::disruption_budgets(), "status", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }

    fn tell(&self, budget: &Budget, kind: EventType, reason: &'static str, message: String) {
        let about = ObjectReference::to_object("policy/v1", "PodDisruptionBudget", &budget.object);
        self.events.event(about, kind, reason, message);
    }
}

/// Why the workload above a pod tells no number: it has none to tell, or it is gone.
fn why_unknown(pod: &Pod, owner: &Owner) -> String {
    let tree = pod.object.tree();
    let mut references = tree.items_at(&["metadata", "ownerReferences"]).iter();
    let reference = references.find(|reference| reference.str_at(&["uid"]) == Some(owner.uid.as_str()));
    let version = reference
        .and_then(|reference| reference.str_at(&["apiVersion"]))
        .unwrap_or_default();
    let (group, _) = object::split_api_version(version);
    let kind = owner.kind.as_str();
    let mut served = cloudeck_schema::resources().filter(|info| info.group == group && info.kind == kind);
    match served.next() {
        None => format!("no matches for kind {kind:?} in version {version:?}"),
        Some(info) if info.subresource("scale").is_none() => {
            let dot = if group.is_empty() { "" } else { "." };
            format!(
                "{}{dot}{group} does not implement the scale subresource",
                info.plural
            )
        }
        Some(_) => format!("found no controllers for pod {:?}", pod.object.key.name.as_str()),
    }
}

fn unmanaged(budget: &Budget) -> String {
    format!(
        "Pods selected by this PodDisruptionBudget (selector: {}) were found to be unmanaged. As a result, the status of the \
         PDB cannot be calculated correctly, which may result in undefined behavior. To account for these pods please set \
         \".spec.minAvailable\" field of the PDB to an integer value.",
        budget.selector
    )
}
