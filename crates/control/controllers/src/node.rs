//! The life of nodes: whether they are heard of, and which taints follow from their conditions.
//!
//! State: nodes and their leases in `kube-node-lease`. A node that neither renews its lease nor posts its status for the
//! grace period gets Unknown conditions; its pods are told to be not ready. When no node at all is ready nothing is
//! evicted, because then it is the control plane that is cut off. What to do is decided in [`health`] and [`taints`].
//!
//! Time is measured from when this process last saw a change, never from clocks of other machines.
//!
//! Source: `pkg/controller/nodelifecycle`. Deviations: no rates of eviction by zone; silence counts at a second look.

pub(crate) mod eviction;
pub(crate) mod facts;
mod health;
pub(crate) mod orphans;
mod taints;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cloudeck_client::Client;
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::Timings;
use crate::clock::{Clock, Now};
use crate::kinds;
use crate::pod::Pod;
use crate::view::{Facts, View, Whole};
use crate::write;
use facts::Node;
use health::Health;

const LEASES: &str = "kube-node-lease";
const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct Nodes {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    nodes: View<Node>,
    leases: View<Whole>,
    pods: View<Pod>,
    queue: WorkQueue<ObjectKey>,
    health: Mutex<HashMap<CompactString, Health>>,
    timings: Timings,
    clock: Clock,
}

impl Nodes {
    /// Registers with the views; [`Nodes::run`] starts the work.
    pub(crate) fn new(
        client: Client,
        scope: &Scope,
        (nodes, leases, pods): (&View<Node>, &View<Whole>, &View<Pod>),
        timings: &Timings,
        clock: Clock,
    ) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "node-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            nodes: nodes.clone(),
            leases: leases.clone(),
            pods: pods.clone(),
            queue: WorkQueue::new(),
            health: Mutex::default(),
            timings: timings.clone(),
            clock,
        });
        let (queue, known) = (inner.queue.clone(), nodes.clone());
        nodes.on_change(move |update| {
            queue.add(update.key.clone());
            let ready = |node: &Arc<Node>| node.ready;
            if update.old.map(ready) != update.new.map(ready) {
                // Whether any node is ready decides on the taints of all.
                known
                    .list()
                    .iter()
                    .for_each(|node| queue.add(node.object().key.clone()));
            }
        });
        let queue = inner.queue.clone();
        leases.on_change(move |update| {
            if update.key.namespace == LEASES {
                queue.add(ObjectKey::new("", &update.key.name));
            }
        });
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(scope, "node-controller", WORKERS, queue, move |key| {
            let inner = Arc::clone(&inner);
            async move { inner.reconcile(&key).await }
        });
    }
}

impl Inner {
    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(node) = self.nodes.get(key) else {
            if let Some(health) = self.with_health(|all| all.remove(&key.name)) {
                let name = &key.name;
                let message = format!("Node {name} event: Removing Node {name} from Controller");
                self.tell(name, &health.uid, "RemovingNode", message);
            }
            return Ok(Requeue::OnChange);
        };
        let now = (self.clock)();
        let tree = node.object().tree();
        let lease = self.leases.get(&ObjectKey::new(LEASES, &key.name));
        let renewed = lease.and_then(|lease| {
            lease
                .object()
                .tree()
                .str_at(&["spec", "renewTime"])
                .map(str::to_owned)
        });
        let (health, lost_ready, left, is_new) = self.with_health(|all| {
            let seen = all.get(&key.name).cloned();
            let is_new = seen.is_none();
            let (mut health, lost_ready) = Health::observe(seen, &tree, renewed.as_deref(), now);
            let left = health.time_left(&tree, &self.timings, now);
            all.insert(key.name.clone(), health.clone());
            (health, lost_ready, left, is_new)
        });
        let name = &key.name;
        if is_new {
            let message = format!("Node {name} event: Registered Node {name} in Controller");
            self.tell(name, &health.uid, "RegisteredNode", message);
        }
        if lost_ready {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.tell(name, &health.uid, "NodeNotReady", message);
        }
        if health.owes_word {
            self.mark_pods_not_ready(&tree, now).await?;
            self.with_health(|all| {
                if let Some(health) = all.get_mut(&key.name) {
                    health.owes_word = false;
                }
            });
        }
        if let Some(left) = left {
            self.retaint(&tree, now).await?;
            return Ok(Requeue::After(left));
        }
        if let Some(unknown) = health::unknown(&tree, now) {
            if self.lease_is_stale(key, renewed.as_deref()).await? {
                return Ok(Requeue::OnChange);
            }
            write::update(&self.client, &kinds::nodes(), "status", &unknown).await?;
            return Ok(Requeue::OnChange);
        }
        self.retaint(&tree, now).await?;
        Ok(Requeue::OnChange)
    }

    fn with_health<R>(&self, act: impl FnOnce(&mut HashMap<CompactString, Health>) -> R) -> R {
        act(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the lease has been renewed and the cache does not show it: then its change is on its way.
    async fn lease_is_stale(&self, key: &ObjectKey, renewed: Option<&str>) -> Result<bool, Status> {
        match self.client.get(&kinds::leases(), LEASES, &key.name).await {
            Ok(lease) => Ok(lease.tree().str_at(&["spec", "renewTime"]) != renewed),
            Err(status) if status.reason == Reason::NotFound => Ok(false),
            Err(status) => Err(status),
        }
    }

    async fn retaint(&self, node: &Value, now: Now) -> Result<(), Status> {
        let any_ready = self.nodes.any(|node| node.ready);
        let Some(wanted) = taints::decide(node, any_ready, now) else {
            return Ok(());
        };
        let mut tree = node.clone();
        if wanted.is_empty() {
            tree.remove_at(&["spec", "taints"]);
        } else {
            tree.set_at(&["spec", "taints"], wanted);
        }
        let outcome = write::update(&self.client, &kinds::nodes(), "", &tree).await;
        write::absent_is_fine(outcome.map(|_| ()))
    }

    fn tell(&self, name: &str, uid: &str, reason: &'static str, message: String) {
        let about = ObjectReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.into(),
            uid: uid.into(),
            ..ObjectReference::default()
        };
        self.events.event(about, EventType::Normal, reason, message);
    }

    async fn mark_pods_not_ready(&self, node: &Value, now: Now) -> Result<(), Status> {
        let name = node.str_at(&["metadata", "name"]).unwrap_or_default();
        let pods = self.pods.list();
        for pod in pods.iter().filter(|pod| pod.node == name && pod.ready) {
            let patch = value!({
                "metadata": {"uid": (pod.object.uid.clone())},
                "status": {"conditions": [
                    {"type": "Ready", "status": "False", "lastTransitionTime": (now.timestamp())}
                ]}
            });
            let (resource, key) = (kinds::pods(), &pod.object.key);
            let outcome = self
                .client
                .strategic_patch(&resource, &key.namespace, &key.name, "status", &patch)
                .await;
            write::absent_is_fine(outcome.map(|_| ()))?;
            let about = ObjectReference::to_object("v1", "Pod", &pod.object);
            self.events
                .event(about, EventType::Warning, "NodeNotReady", "Node is not ready");
        }
        Ok(())
    }
}
