//! What must hold at every single revision, whatever fails.

mod recreations;
mod rollouts;
mod surplus;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cloudeck_machinery::{Quantity, Value, int_or_percent, json};

use crate::book::Entry;
use crate::host;
use crate::trace::Trace;
use rollouts::Rollouts;

pub(crate) type Current = BTreeMap<Arc<str>, (u64, Bytes)>;

/// How old what a decision is based on may be when the network misbehaves: caches lag behind by no more.
const STALE: Duration = Duration::from_mins(1);
/// Nothing in a cluster of this size is written so often within a minute, except by somebody who runs in circles.
const CHURN: usize = 100;
/// What counts pods may change with each of them, and there may be many.
const CHURN_OF_COUNTS: usize = 500;

pub(crate) struct Laws {
    trace: Trace,
    /// Cpu requests in thousandths, by node and pod.
    placed: HashMap<String, HashMap<Arc<str>, i64>>,
    /// By uid: when there could be how many pods at most.
    ceilings: HashMap<String, Vec<(Duration, i64)>>,
    /// By key: how many pods each set wanted from when on.
    sizes: HashMap<Arc<str>, Vec<(Duration, i64)>>,
    /// Nodes that take no pods, and since when.
    closed: HashMap<String, Duration>,
    /// While nothing but Deployments themselves takes pods away.
    rollouts: Option<Rollouts>,
    /// Until then a node may be promised too much.
    binding_in_doubt: Duration,
    /// The latest changes of each key, as far as they matter for [`CHURN`].
    changes: HashMap<Arc<str>, VecDeque<Duration>>,
}

impl Laws {
    pub(crate) fn new(trace: &Trace) -> Self {
        Self {
            trace: trace.clone(),
            placed: HashMap::new(),
            ceilings: HashMap::new(),
            sizes: HashMap::new(),
            closed: HashMap::new(),
            changes: HashMap::new(),
            rollouts: None,
            binding_in_doubt: Duration::ZERO,
        }
    }

    /// From now on nobody takes a pod away but Deployments, so that they must keep what they promise.
    pub(crate) fn expect_no_disturbance(&mut self) {
        self.rollouts = Some(Rollouts::new(&self.trace));
    }

    /// The scheduler ends: its successor may not know of a binding that is still on its way. The kubelet then refuses
    /// the pod.
    pub(crate) fn binding_in_doubt(&mut self) {
        self.binding_in_doubt = host::elapsed() + STALE;
    }

    /// Looks at one change; `current` already has it.
    pub(crate) fn committed(&mut self, entry: &Entry, current: &Current) {
        let new = entry.value.as_deref().and_then(|bytes| json::parse(bytes).ok());
        let old = entry.prev.as_deref().and_then(|bytes| json::parse(bytes).ok());
        if is_object(entry) && entry.value.is_some() && new.is_none() {
            self.broken(entry, "is not JSON");
        }
        self.churn(entry);
        if let (Some(new), Some(old)) = (&new, &old) {
            self.same_object(entry, old, new);
        }
        if entry.key.starts_with("core/pods/") {
            self.pod(entry, old.as_ref(), new.as_ref(), current);
            if let (None, Some(pod)) = (&old, &new) {
                recreations::created(&self.trace, entry, pod, current);
                self.surplus(entry, pod, current);
            }
            if let Some(rollouts) = &mut self.rollouts {
                rollouts.pod(entry, old.as_ref(), new.as_ref(), current);
            }
        } else if let Some(node) = entry.key.strip_prefix("core/nodes/") {
            self.node(node, new.as_ref());
        } else if entry.key.starts_with("apps/deployments/") {
            self.deployment(new.as_ref());
            if let Some(rollouts) = &mut self.rollouts {
                rollouts.deployment(new.as_ref().or(old.as_ref()), new.is_some());
            }
        } else if entry.key.starts_with("apps/replicasets/") {
            self.replica_set(entry, old.as_ref(), new.as_ref(), current);
        }
    }

    fn churn(&mut self, entry: &Entry) {
        let now = host::elapsed();
        let changes = self.changes.entry(Arc::clone(&entry.key)).or_default();
        changes.push_back(now);
        let counts = ["apps/", "discovery.k8s.io/endpointslices/", "core/endpoints/"];
        let counts_pods = counts.iter().any(|kind| entry.key.starts_with(kind));
        let most = if counts_pods { CHURN_OF_COUNTS } else { CHURN };
        if changes.len() <= most {
            return;
        }
        let first = changes.pop_front().unwrap_or_default();
        if now.saturating_sub(first) < Duration::from_mins(1) && is_object(entry) {
            changes.clear();
            self.broken(entry, "is written over and over again");
        }
    }

    fn same_object(&self, entry: &Entry, old: &Value, new: &Value) {
        for field in ["uid", "creationTimestamp"] {
            if old.str_at(&["metadata", field]) != new.str_at(&["metadata", field]) {
                self.broken(entry, &format!("changed its {field} without being deleted"));
            }
        }
        let generation = |tree: &Value| tree.int_at(&["metadata", "generation"]).unwrap_or_default();
        if generation(new) < generation(old) {
            self.broken(entry, "went back a generation");
        }
        let is_deleting = |tree: &Value| tree.at(&["metadata", "deletionTimestamp"]).is_some();
        if is_deleting(old) && !is_deleting(new) {
            self.broken(entry, "is no longer being deleted");
        }
    }

    fn pod(&mut self, entry: &Entry, old: Option<&Value>, new: Option<&Value>, current: &Current) {
        let node = |tree: Option<&Value>| {
            let name = tree.and_then(|tree| tree.str_at(&["spec", "nodeName"]));
            name.unwrap_or_default().to_owned()
        };
        let (before, after) = (node(old), node(new));
        if !before.is_empty() && new.is_some() && before != after {
            self.broken(entry, &format!("moved from node {before} to {after:?}"));
        }
        if let (Some(old), Some(new)) = (old, new)
            && is_over(old)
            && old.str_at(&["status", "phase"]) != new.str_at(&["status", "phase"])
        {
            self.broken(entry, "came back from a final phase");
        }
        let live = new.filter(|new| !is_over(new));
        if let Some(pods) = self.placed.get_mut(&before) {
            pods.remove(&entry.key);
        }
        let Some(live) = live.filter(|_| !after.is_empty()) else {
            return;
        };
        if before.is_empty()
            && let Some(since) = self.closed.get(&after)
            && host::elapsed().saturating_sub(*since) > self.staleness()
        {
            self.broken(entry, &format!("was bound to {after}, which takes no pods"));
        }
        let pods = self.placed.entry(after.clone()).or_default();
        pods.insert(Arc::clone(&entry.key), cpu(live));
        let wanted: i64 = pods.values().sum();
        if before.is_empty()
            && let Some(room) = allocatable(&after, current)
            && wanted > room
            && host::elapsed() > self.binding_in_doubt
        {
            let text = format!("was bound to {after}, which then has {wanted}m of {room}m cpu promised");
            self.broken(entry, &text);
        }
    }

    /// Only while nothing is disturbed: an answer that is lost may be of a pod that was made.
    fn surplus(&self, entry: &Entry, pod: &Value, current: &Current) {
        let Some(sizes) = surplus::set_of(pod).and_then(|set| self.sizes.get(set.as_str())) else {
            return;
        };
        let since = host::elapsed().saturating_sub(self.staleness());
        let most = lately(sizes, since).iter().map(|(_, size)| *size).max();
        if let Some(most) = most.filter(|_| self.rollouts.is_some()) {
            surplus::created(&self.trace, entry, pod, most, current);
        }
    }

    fn node(&mut self, name: &str, new: Option<&Value>) {
        if new.is_some_and(is_closed) {
            self.closed.entry(name.to_owned()).or_insert_with(host::elapsed);
        } else {
            self.closed.remove(name);
        }
    }

    fn deployment(&mut self, new: Option<&Value>) {
        let Some(new) = new else { return };
        let uid = new.str_at(&["metadata", "uid"]).unwrap_or_default();
        let ceilings = self.ceilings.entry(uid.to_owned()).or_default();
        ceilings.push((host::elapsed(), ceiling(new)));
    }

    /// Controllers may only add pods as long as the sum of a Deployment's sets stays below replicas and surge, as far as
    /// their caches can know both.
    fn replica_set(&mut self, entry: &Entry, old: Option<&Value>, new: Option<&Value>, current: &Current) {
        let size = |tree: Option<&Value>| {
            tree.and_then(|tree| tree.int_at(&["spec", "replicas"]))
                .unwrap_or(0)
        };
        let sizes = self.sizes.entry(Arc::clone(&entry.key)).or_default();
        sizes.push((host::elapsed(), size(new)));
        let Some(owner) = new.and_then(controller_uid) else {
            return;
        };
        let Some(ceilings) = self.ceilings.get(owner).filter(|_| size(new) > size(old)) else {
            return;
        };
        let since = host::elapsed().saturating_sub(self.staleness());
        let most = lately(ceilings, since).iter().map(|(_, most)| *most).max();
        let sets = current.range(Arc::from("apps/replicasets/")..);
        let sets = sets.take_while(|(key, _)| key.starts_with("apps/replicasets/"));
        let others = sets.filter(|(key, _)| **key != entry.key);
        let of_owner = others.filter(|(_, (_, bytes))| {
            json::parse(bytes).is_ok_and(|tree| controller_uid(&tree) == Some(owner))
        });
        let least = |key: &Arc<str>| {
            let sizes = self.sizes.get(key).map_or(&[][..], |sizes| lately(sizes, since));
            // One that came lately may not have been seen at all.
            let unseen = sizes.first().is_none_or(|(at, _)| *at > since);
            let least = sizes.iter().map(|(_, size)| *size).min().unwrap_or(0);
            if unseen { 0 } else { least }
        };
        let sum: i64 = size(new) + of_owner.map(|(key, _)| least(key)).sum::<i64>();
        if most.is_some_and(|most| sum > most) {
            let text = format!("makes its Deployment want {sum} pods where {most:?} are allowed");
            self.broken(entry, &text);
        }
    }

    /// How old what a controller knows may be.
    fn staleness(&self) -> Duration {
        if self.rollouts.is_some() {
            Duration::from_secs(1)
        } else {
            STALE
        }
    }

    fn broken(&self, entry: &Entry, what: &str) {
        let Entry { key, revision, .. } = entry;
        self.trace
            .violation(format!("{key} at revision {revision} {what}"));
    }
}

/// What held at that time and since.
fn lately(values: &[(Duration, i64)], since: Duration) -> &[(Duration, i64)] {
    &values[values.partition_point(|(at, _)| *at <= since).saturating_sub(1)..]
}

/// Whether the key holds an object, and not what the server keeps for itself.
fn is_object(entry: &Entry) -> bool {
    !entry.key.starts_with("ranges/")
}

/// The uid of the controlling owner.
pub(crate) fn controller_uid(tree: &Value) -> Option<&str> {
    let owners = tree.items_at(&["metadata", "ownerReferences"]).iter();
    let mut controllers = owners.filter(|owner| owner.bool_at(&["controller"]) == Some(true));
    controllers.next()?.str_at(&["uid"])
}

/// Whether the pod has ended.
pub(crate) fn is_over(pod: &Value) -> bool {
    matches!(pod.str_at(&["status", "phase"]), Some("Succeeded" | "Failed"))
}

/// What the pod asks for, in thousandths.
pub(crate) fn cpu(pod: &Value) -> i64 {
    let containers = pod.items_at(&["spec", "containers"]).iter();
    containers
        .map(|container| millis(container.at(&["resources", "requests", "cpu"])))
        .sum()
}

fn allocatable(node: &str, current: &Current) -> Option<i64> {
    let (_, bytes) = current.get(format!("core/nodes/{node}").as_str())?;
    let node = json::parse(bytes).ok()?;
    node.at(&["status", "allocatable", "cpu"])
        .map(|cpu| millis(Some(cpu)))
}

fn millis(quantity: Option<&Value>) -> i64 {
    let text = quantity.and_then(Value::as_str).unwrap_or("0");
    text.parse::<Quantity>().map_or(0, Quantity::milli_value)
}

/// Whether the node is cordoned or has a taint that keeps pods away; those of the simulation tolerate none.
fn is_closed(node: &Value) -> bool {
    let taints = node.items_at(&["spec", "taints"]).iter();
    let mut effects = taints.filter_map(|taint| taint.str_at(&["effect"]));
    node.bool_at(&["spec", "unschedulable"]) == Some(true) || effects.any(|it| it != "PreferNoSchedule")
}

/// The most pods that a Deployment's sets may want together.
fn ceiling(deployment: &Value) -> i64 {
    let replicas = deployment.int_at(&["spec", "replicas"]).unwrap_or(1);
    if deployment.str_at(&["spec", "strategy", "type"]) == Some("Recreate") {
        return replicas;
    }
    let surge = deployment.at(&["spec", "strategy", "rollingUpdate", "maxSurge"]);
    replicas + surge.map_or(0, |surge| scaled(surge, replicas))
}

fn scaled(amount: &Value, of: i64) -> i64 {
    int_or_percent::scaled(amount, of, true).unwrap_or(0)
}
