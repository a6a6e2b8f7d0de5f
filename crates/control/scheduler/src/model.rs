//! Pods and nodes as the scheduler sees them: decoded once, small.

use std::collections::BTreeMap;

use cloudeck_machinery::quantity::Quantity;
use cloudeck_machinery::{Object, ObjectKey};
use k8s_openapi::api::core::v1::{Container, Node, NodeAffinity, Pod, PodSpec, Taint, Toleration};

/// Amounts by resource name: CPU in millicores, everything else in units (bytes, pieces).
pub type Amounts = BTreeMap<String, i64>;

/// Upstream's stand-ins for pods that ask for nothing, used in scores only.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// A pod to place, or placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub uid: String,
    pub revision: u64,
    pub priority: i32,
    pub requests: Amounts,
    pub node_name: String,
    pub scheduler_name: String,
    pub node_selector: BTreeMap<String, String>,
    pub node_affinity: Option<NodeAffinity>,
    pub tolerations: Vec<Toleration>,
    pub gates: Vec<String>,
    /// `(protocol, host address, port)`.
    pub host_ports: Vec<(String, String, i32)>,
    /// Constraints that this scheduler does not know, by name.
    pub unsupported: Option<&'static str>,
    pub terminal: bool,
    pub deleting: bool,
}

/// The object is not a pod or node that can be read.
#[derive(Debug, thiserror::Error)]
#[error("read {key}")]
pub struct ReadModelError {
    key: String,
    source: cloudeck_objects::DecodeObjectError,
}

impl PodInfo {
    pub fn read(object: &Object) -> Result<Self, ReadModelError> {
        let failed = |source| ReadModelError {
            key: object.key.to_string(),
            source,
        };
        Ok(Self::from_pod(
            object,
            cloudeck_objects::pod(&object.json).map_err(failed)?,
        ))
    }

    fn from_pod(object: &Object, pod: Pod) -> Self {
        let phase = pod
            .status
            .as_ref()
            .and_then(|s| s.phase.clone())
            .unwrap_or_default();
        let deleting = pod.metadata.deletion_timestamp.is_some();
        let spec = pod.spec.unwrap_or_default();
        Self {
            key: object.key.clone(),
            uid: object.uid.to_string(),
            revision: object.revision,
            priority: spec.priority.unwrap_or(0),
            requests: requests(&spec),
            host_ports: host_ports(&spec),
            unsupported: unsupported(&spec),
            node_name: spec.node_name.unwrap_or_default(),
            scheduler_name: spec
                .scheduler_name
                .unwrap_or_else(|| "default-scheduler".to_owned()),
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: spec.affinity.and_then(|affinity| affinity.node_affinity),
            tolerations: spec.tolerations.unwrap_or_default(),
            gates: spec
                .scheduling_gates
                .unwrap_or_default()
                .into_iter()
                .map(|gate| gate.name)
                .collect(),
            terminal: matches!(phase.as_str(), "Succeeded" | "Failed"),
            deleting,
        }
    }

    /// What the pod counts for in scores: at least a little.
    pub fn scored(&self, resource: &str) -> i64 {
        let asked = self.requests.get(resource).copied().unwrap_or(0);
        match resource {
            "cpu" if asked == 0 => DEFAULT_MILLI_CPU,
            "memory" if asked == 0 => DEFAULT_MEMORY_BYTES,
            _ => asked,
        }
    }
}

/// The sum of the containers, or the largest init container where that is more; restartable init containers count with
/// everything that starts after them; overhead on top. Source: `component-helpers/resource`.
fn requests(spec: &PodSpec) -> Amounts {
    let mut total = Amounts::new();
    for container in &spec.containers {
        add(&mut total, &of_container(container));
    }
    let mut restartable = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.init_containers.iter().flatten() {
        let own = of_container(container);
        let mut moment = restartable.clone();
        add(&mut moment, &own);
        raise(&mut peak, &moment);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut total, &own);
            add(&mut restartable, &own);
        }
    }
    raise(&mut total, &peak);
    if let Some(overhead) = &spec.overhead {
        add(&mut total, &amounts(overhead));
    }
    total
}

fn of_container(container: &Container) -> Amounts {
    let resources = container.resources.as_ref();
    let mut found = resources
        .and_then(|r| r.limits.as_ref())
        .map(amounts)
        .unwrap_or_default();
    // A limit is the request where there is none.
    found.extend(
        resources
            .and_then(|r| r.requests.as_ref())
            .map(amounts)
            .unwrap_or_default(),
    );
    found
}

type ApiAmounts = BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn amounts(list: &ApiAmounts) -> Amounts {
    list.iter()
        .filter_map(|(name, quantity)| {
            let quantity = quantity.0.parse::<Quantity>().ok()?;
            let amount = if name == "cpu" {
                quantity.milli_value()
            } else {
                quantity.value()
            };
            Some((name.clone(), amount))
        })
        .collect()
}

/// Adds `more` to `total`.
pub fn add(total: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = total.entry(name.clone()).or_insert(0);
        *entry = entry.saturating_add(*amount);
    }
}

/// Takes `less` from `total`.
pub fn subtract(total: &mut Amounts, less: &Amounts) {
    for (name, amount) in less {
        if let Some(entry) = total.get_mut(name) {
            *entry = entry.saturating_sub(*amount);
        }
    }
}

fn raise(total: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let entry = total.entry(name.clone()).or_insert(0);
        *entry = (*entry).max(*amount);
    }
}

fn host_ports(spec: &PodSpec) -> Vec<(String, String, i32)> {
    let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = port.host_port.filter(|p| *p > 0)?;
            let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let address = port
                .host_ip
                .clone()
                .filter(|a| !a.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((protocol, address, host_port))
        })
        .collect()
}

fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    let affinity = spec.affinity.as_ref();
    let required = affinity.is_some_and(|a| {
        let pods = a
            .pod_affinity
            .as_ref()
            .and_then(|p| p.required_during_scheduling_ignored_during_execution.as_ref());
        let apart = a
            .pod_anti_affinity
            .as_ref()
            .and_then(|p| p.required_during_scheduling_ignored_during_execution.as_ref());
        pods.is_some_and(|p| !p.is_empty()) || apart.is_some_and(|p| !p.is_empty())
    });
    if required {
        return Some("inter-pod affinity");
    }
    let spread = spec.topology_spread_constraints.iter().flatten();
    if spread
        .into_iter()
        .any(|c| c.when_unsatisfiable == "DoNotSchedule")
    {
        return Some("topology spread constraints");
    }
    let claims = spec
        .volumes
        .iter()
        .flatten()
        .any(|v| v.persistent_volume_claim.is_some() || v.ephemeral.is_some());
    if claims {
        return Some("persistent volume claims");
    }
    spec.resource_claims
        .as_ref()
        .filter(|c| !c.is_empty())
        .map(|_| "resource claims")
}

/// A node and what runs on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeInfo {
    pub name: String,
    /// Whether the node's object is known; pods may be told before it.
    pub known: bool,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Amounts,
    pub requested: Amounts,
    /// Requests with stand-ins for pods without any.
    pub scored_cpu: i64,
    pub scored_memory: i64,
    pub pods: i64,
    /// `(protocol, host address, port)` with the number of pods that hold it.
    pub host_ports: BTreeMap<(String, String, i32), usize>,
}

impl NodeInfo {
    /// Takes over what the node's object says; what runs on it stays.
    pub fn update(&mut self, object: &Object) -> Result<(), ReadModelError> {
        let failed = |source| ReadModelError {
            key: object.key.to_string(),
            source,
        };
        let node: Node = cloudeck_objects::node(&object.json).map_err(failed)?;
        let spec = node.spec.unwrap_or_default();
        self.name = object.key.name.to_string();
        self.known = true;
        self.labels = node.metadata.labels.unwrap_or_default();
        self.taints = spec.taints.unwrap_or_default();
        self.unschedulable = spec.unschedulable == Some(true);
        self.allocatable = node
            .status
            .and_then(|s| s.allocatable)
            .map(|list| amounts(&list))
            .unwrap_or_default();
        Ok(())
    }

    pub fn add_pod(&mut self, pod: &PodInfo) {
        add(&mut self.requested, &pod.requests);
        self.scored_cpu += pod.scored("cpu");
        self.scored_memory += pod.scored("memory");
        self.pods += 1;
        for port in &pod.host_ports {
            *self.host_ports.entry(port.clone()).or_insert(0) += 1;
        }
    }

    pub fn remove_pod(&mut self, pod: &PodInfo) {
        subtract(&mut self.requested, &pod.requests);
        self.scored_cpu -= pod.scored("cpu");
        self.scored_memory -= pod.scored("memory");
        self.pods -= 1;
        for port in &pod.host_ports {
            if let Some(count) = self.host_ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.host_ports.remove(port);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
