//! Whether the machine can take a pod that was bound to it: demands, room and node selectors.
//!
//! The scheduler has asked the same before; this matters for pods that name their node themselves.
//!
//! Source: `pkg/kubelet/lifecycle/predicate.go`. Deviation: taints with `NoExecute` are left to the controller of taints.

mod demands;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cloudeck_machinery::GroupVersionResource;
use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, PodSpec};

use crate::machine::Capacity;
use crate::node::Node;
use crate::pod::amounts;
use crate::pod::memo::Rejection;

pub(crate) use demands::normal_sysctl;

/// What the admitted pods have been promised, by uid.
#[derive(Default)]
pub struct Admitted {
    pods: Mutex<HashMap<String, Room>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Room {
    cpu_milli: i64,
    memory_bytes: i64,
}

impl Room {
    fn plus(self, other: Self) -> Self {
        Self {
            cpu_milli: self.cpu_milli.saturating_add(other.cpu_milli),
            memory_bytes: self.memory_bytes.saturating_add(other.memory_bytes),
        }
    }
}

impl Admitted {
    /// Counts a pod that runs here already.
    pub(crate) fn keep(&self, pod: &Pod) {
        self.lock().insert(uid(pod), requests(pod.spec.as_ref()));
    }

    /// A pod that has ended, or is gone, takes no room.
    pub(crate) fn forget(&self, pod: &Pod) {
        self.lock().remove(&uid(pod));
    }

    /// Gives the pod its room, or says what is missing.
    fn admit(&self, pod: &Pod, capacity: &Capacity) -> Option<Rejection> {
        let mut pods = self.lock();
        pods.remove(&uid(pod));
        let wanted = requests(pod.spec.as_ref());
        let used = pods.values().fold(Room::default(), |sum, room| sum.plus(*room));
        let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        let rows = [
            ("OutOfpods", "pods", 1, count, capacity.pods),
            (
                "OutOfcpu",
                "cpu",
                wanted.cpu_milli,
                used.cpu_milli,
                capacity.cpus.saturating_mul(1000),
            ),
            (
                "OutOfmemory",
                "memory",
                wanted.memory_bytes,
                used.memory_bytes,
                capacity.memory_bytes,
            ),
        ];
        // A pod that asks for nothing of a kind fits even where nothing is left.
        let short = rows
            .into_iter()
            .find(|(_, _, wanted, used, room)| *wanted > 0 && *wanted > room - used);
        if let Some((reason, resource, requested, used, room)) = short {
            let message = format!(
                "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {room}"
            );
            return Some(rejection(reason, &message));
        }
        pods.insert(uid(pod), wanted);
        None
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Room>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Admits a new pod or says why not.
pub(crate) async fn check(node: &Node, pod: &Pod) -> Option<Rejection> {
    let spec = pod.spec.as_ref()?;
    if let Some(refused) = demands::refused(spec) {
        return Some(refused);
    }
    if let Some(short) = node.admitted.admit(pod, &node.capacity) {
        return Some(short);
    }
    if !selects_nodes(spec) {
        return None;
    }
    let nodes = GroupVersionResource::new("", "v1", "nodes");
    let name = node.config.node_name.as_str();
    // Without an answer the scheduler's word stands.
    let object = node.client.get(&nodes, "", name).await.ok()?;
    let tree = object.tree();
    let label = |key: &str| tree.str_at(&["metadata", "labels", key]).map(str::to_owned);
    if matches(spec, name, &label) {
        return None;
    }
    node.admitted.forget(pod);
    let message = "Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
    Some(rejection("NodeAffinity", message))
}

fn rejection(reason: &'static str, message: &str) -> Rejection {
    Rejection {
        reason,
        message: message.to_owned(),
    }
}

fn uid(pod: &Pod) -> String {
    pod.metadata.uid.clone().unwrap_or_default()
}

/// What a pod asks for.
fn requests(spec: Option<&PodSpec>) -> Room {
    let wanted = spec.map(amounts::requests).unwrap_or_default();
    let amount = |name: &str| wanted.get(name).copied().unwrap_or_default();
    Room {
        cpu_milli: amount("cpu").milli_value(),
        memory_bytes: amount("memory").value(),
    }
}

fn required_terms(spec: &PodSpec) -> Option<&Vec<NodeSelectorTerm>> {
    let affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    Some(&required.node_selector_terms)
}

fn selects_nodes(spec: &PodSpec) -> bool {
    spec.node_selector
        .as_ref()
        .is_some_and(|selector| !selector.is_empty())
        || required_terms(spec).is_some()
}

/// Whether a node of this name and these labels is one that the pod may run on.
fn matches(spec: &PodSpec, name: &str, label: &dyn Fn(&str) -> Option<String>) -> bool {
    let mut pairs = spec.node_selector.iter().flatten();
    let selected = pairs.all(|(key, value)| label(key).as_deref() == Some(value.as_str()));
    let field = |key: &str| (key == "metadata.name").then(|| name.to_owned());
    let term = |term: &NodeSelectorTerm| {
        let (labels, fields) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
        let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
        // A term that says nothing selects nothing.
        (!labels.is_empty() || !fields.is_empty())
            && labels.iter().all(|r| holds(r, label(&r.key)))
            && fields.iter().all(|r| holds(r, field(&r.key)))
    };
    selected && required_terms(spec).is_none_or(|terms| terms.iter().any(term))
}

fn holds(requirement: &NodeSelectorRequirement, actual: Option<String>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = actual.as_ref().is_some_and(|actual| values.contains(actual));
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i64>().ok());
    let pair = number(actual.as_ref()).zip(number(values.first()));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => actual.is_some(),
        "DoesNotExist" => actual.is_none(),
        "Gt" => pair.is_some_and(|(actual, bound)| actual > bound),
        "Lt" => pair.is_some_and(|(actual, bound)| actual < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
