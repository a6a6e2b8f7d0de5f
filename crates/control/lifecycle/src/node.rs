//! The life cycle of nodes: signs of life, the taints that follow from conditions, and the pods of a node that falls
//! silent.
//!
//! State: nodes and their leases; the time of each node's last sign of life is kept here and begins anew with the
//! process. It writes conditions that a silent agent cannot write, taints of its own keys, and the Ready condition of
//! pods on a node that is no longer ready. It does not delete pods (`taint_eviction`, `pod_gc`).
//!
//! Source: `pkg/controller/nodelifecycle`. Deviation: a node becomes schedulable with the event that says it is ready,
//! and timers stand only at the end of a grace; upstream looks every five seconds.

mod health;
mod pace;
pub(crate) mod taints;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cloudeck_client::{Change, Client, Informer};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::{Object, ObjectKey, Status, Value, value};
use cloudeck_task::Scope;

use crate::caches::{self, Caches};
use crate::clock::{Clock, Now};
use crate::kinds;
use crate::pod;
use crate::write;
pub(crate) use health::Grace;
use health::Health;
pub(crate) use health::condition_status;
use pace::Pacer;

const LEASE_NAMESPACE: &str = "kube-node-lease";
const WORKERS: usize = 2;

#[derive(Clone)]
pub(crate) struct Nodes {
    client: Client,
    nodes: Informer,
    pods: Informer,
    leases: Informer,
    recorder: EventRecorder,
    grace: Grace,
    clock: Clock,
    known: Arc<Mutex<Known>>,
    queue: WorkQueue<ObjectKey>,
}

/// What is remembered of the nodes.
#[derive(Default)]
struct Known {
    nodes: HashMap<String, Seen>,
    pacer: Pacer,
}

struct Seen {
    uid: String,
    /// The last sign of life.
    at: Now,
    heartbeat: String,
    /// The Ready condition's status when it was last looked at; empty when there was none.
    ready: String,
}

impl Nodes {
    pub(crate) fn new(client: Client, caches: &Caches, grace: Grace, clock: Clock, scope: &Scope) -> Self {
        Self {
            nodes: caches.informer(&kinds::nodes()),
            pods: caches.informer(&kinds::pods()),
            leases: caches.informer(&kinds::leases()),
            recorder: EventRecorder::start(scope, client.clone(), "node-controller", ""),
            client,
            grace,
            clock,
            known: Arc::default(),
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let queue = self.queue.clone();
        caches::follow(scope, "node changes", &self.nodes, move |change| {
            queue.add(change.key);
        });
        let this = self.clone();
        caches::follow(scope, "node leases", &self.leases, move |change| {
            this.lease_changed(&change);
        });
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "node-lifecycle-controller", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    /// A renewed lease only moves the end of the grace; the timer that stands there finds out.
    fn lease_changed(&self, change: &Change) {
        if change.key.namespace != LEASE_NAMESPACE || change.new.is_none() {
            return;
        }
        let now = (self.clock)();
        if let Some(seen) = self.known().nodes.get_mut(change.key.name.as_str()) {
            seen.at = now;
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let Some(object) = self.nodes.get(key) else {
            self.forget(key);
            return Ok(Requeue::OnChange);
        };
        let now = (self.clock)();
        let mut node = object.tree();
        let previous = self.observe(&object, &node, now);
        let seen = self
            .known()
            .nodes
            .get(key.name.as_str())
            .map_or(now, |seen| seen.at);
        let again = match health::judge(&node, seen, self.grace, now) {
            Health::Alive(left) => Some(left),
            Health::KnownSilent => None,
            Health::Silent(conditions) => {
                node = self.write_conditions(&node, conditions).await?;
                None
            }
        };
        self.mark_pods(&object, &node, previous.as_deref()).await?;
        self.note_ready(&object, &node);
        let withheld = self.write_taints(&node, now).await?;
        Ok(match again.into_iter().chain(withheld).min() {
            Some(delay) => Requeue::After(delay.max(Duration::from_millis(1))),
            None => Requeue::OnChange,
        })
    }

    /// Takes in what the node says of itself. Answers with the Ready status it had when last looked at, `None` when
    /// that is not known.
    fn observe(&self, object: &Object, node: &Value, now: Now) -> Option<String> {
        let ready = health::condition(node, "Ready");
        let text = |member| ready.and_then(|it| it.str_at(&[member])).unwrap_or_default();
        let mut known = self.known();
        let name = object.key.name.as_str();
        if let Some(seen) = known
            .nodes
            .get_mut(name)
            .filter(|seen| seen.uid == object.uid.as_str())
        {
            if seen.heartbeat != text("lastHeartbeatTime") || seen.ready.is_empty() && ready.is_some() {
                text("lastHeartbeatTime").clone_into(&mut seen.heartbeat);
                seen.at = now;
            }
            return Some(seen.ready.clone());
        }
        let seen = Seen {
            uid: object.uid.to_string(),
            at: first_seen(node, ready.is_some(), now),
            heartbeat: text("lastHeartbeatTime").to_owned(),
            ready: text("status").to_owned(),
        };
        known.nodes.insert(name.to_owned(), seen);
        drop(known);
        let message = format!("Node {name} event: Registered Node {name} in Controller");
        self.tell(name, &object.uid, "RegisteredNode", message);
        None
    }

    fn forget(&self, key: &ObjectKey) {
        let name = key.name.as_str();
        let mut known = self.known();
        let seen = known.nodes.remove(name);
        let changed = known.pacer.note(name, None);
        drop(known);
        if let Some(seen) = seen {
            let message = format!("Node {name} event: Removing Node {name} from Controller");
            self.tell(name, &seen.uid, "RemovingNode", message);
        }
        if changed {
            self.look_at_all();
        }
    }

    /// Remembers the status that has been acted upon.
    fn note_ready(&self, object: &Object, node: &Value) {
        let status = condition_status(node, "Ready").unwrap_or_default();
        let name = object.key.name.as_str();
        let mut known = self.known();
        if let Some(seen) = known.nodes.get_mut(name) {
            status.clone_into(&mut seen.ready);
        }
        let changed = known.pacer.note(name, Some(status == "True"));
        drop(known);
        if changed {
            self.look_at_all();
        }
    }

    fn look_at_all(&self) {
        for node in self.nodes.list() {
            self.queue.add(node.key.clone());
        }
    }

    async fn write_conditions(&self, node: &Value, conditions: Vec<Value>) -> Result<Value, Status> {
        let patch = value!({
            "metadata": {"resourceVersion": (text(node, "resourceVersion"))}, "status": {"conditions": (conditions)}
        });
        let written = self
            .client
            .merge_patch(&kinds::nodes(), "", text(node, "name"), "status", &patch)
            .await?;
        Ok(written.tree())
    }

    /// Writes the taints; answers with when to ask again for leave to drive pods away.
    async fn write_taints(&self, node: &Value, now: Now) -> Result<Option<Duration>, Status> {
        let outcome = {
            let mut known = self.known();
            let outcome = taints::decide(node, known.pacer.leave(now), now);
            if outcome.evicts {
                known.pacer.used(now);
            }
            outcome
        };
        if let Some(taints) = outcome.write {
            let taints = if taints.is_empty() {
                Value::Null
            } else {
                Value::from(taints)
            };
            let patch = value!({
                "metadata": {"resourceVersion": (text(node, "resourceVersion"))}, "spec": {"taints": (taints)}
            });
            self.client
                .merge_patch(&kinds::nodes(), "", text(node, "name"), "", &patch)
                .await?;
        }
        Ok(if outcome.withheld {
            self.known().pacer.wait(now)
        } else {
            None
        })
    }

    /// A ready node that falls silent takes the readiness of its pods with it; so does one that is found silent at the
    /// start. A node that says itself that it is not ready tells of its pods as well.
    async fn mark_pods(&self, object: &Object, node: &Value, previous: Option<&str>) -> Result<(), Status> {
        let status = condition_status(node, "Ready").unwrap_or_default();
        let fell = previous == Some("True") && status == "Unknown";
        let found = previous.is_none() && status == "Unknown";
        if !fell && !found {
            return Ok(());
        }
        let name = object.key.name.as_str();
        if fell {
            let message = format!("Node {name} status is now: NodeNotReady");
            self.tell(name, &object.uid, "NodeNotReady", message);
        }
        for pod in self.pods.list() {
            if pod::node_name(&pod) == name {
                self.mark_pod(&pod).await?;
            }
        }
        Ok(())
    }

    async fn mark_pod(&self, pod: &Object) -> Result<(), Status> {
        let tree = pod.tree();
        if condition_status(&tree, "Ready") != Some("True") {
            return Ok(());
        }
        let condition = value!({
            "type": "Ready", "status": "False", "lastTransitionTime": ((self.clock)().timestamp())
        });
        let patch = value!({"metadata": {"uid": (pod.uid.clone())}, "status": {"conditions": [(condition)]}});
        let key = &pod.key;
        let outcome = self
            .client
            .strategic_patch(&kinds::pods(), &key.namespace, &key.name, "status", &patch)
            .await;
        write::absent_is_fine(outcome.map(drop))?;
        let about = ObjectReference::to_object("v1", "Pod", pod);
        self.recorder
            .event(about, EventType::Warning, "NodeNotReady", "Node is not ready");
        Ok(())
    }

    fn tell(&self, name: &str, uid: &str, reason: &'static str, message: String) {
        let about = ObjectReference {
            api_version: "v1".into(),
            kind: "Node".into(),
            name: name.into(),
            uid: uid.into(),
            ..ObjectReference::default()
        };
        self.recorder.event(about, EventType::Normal, reason, message);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A node that has told its status is given its grace from now on; one that never has, from its creation.
fn first_seen(node: &Value, has_told: bool, now: Now) -> Now {
    if has_told {
        return now;
    }
    Now::parse(text(node, "creationTimestamp")).unwrap_or(now)
}

fn text<'a>(tree: &'a Value, member: &str) -> &'a str {
    tree.str_at(&["metadata", member]).unwrap_or_default()
}
