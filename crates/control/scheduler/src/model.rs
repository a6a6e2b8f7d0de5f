//! Pods and nodes as the scheduler sees them: decoded once, small.

mod node;
mod resources;
mod terms;

pub use node::{NodeId, NodeInfo};
pub use resources::Resources;
pub use terms::{PodTerms, Spread, Term, Wish};

use std::collections::BTreeMap;

use cloudeck_machinery::{Object, ObjectKey};
use compact_str::{CompactString, format_compact};
use k8s_openapi::api::core::v1::{NodeAffinity, Pod, PodSpec, PodStatus, Toleration};

/// Labels, sorted by key.
pub type Labels = Box<[(CompactString, CompactString)]>;

/// `(protocol, host address, port)`.
pub type HostPort = (CompactString, CompactString, i32);

/// Upstream's stand-ins for pods that ask for nothing, used in scores only.
const DEFAULT_MILLI_CPU: i64 = 100;
const DEFAULT_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// A pod to place, or placed.
#[derive(Debug, Clone, PartialEq)]
pub struct PodInfo {
    pub key: ObjectKey,
    pub uid: CompactString,
    pub revision: u64,
    pub labels: Labels,
    pub priority: i32,
    /// `preemptionPolicy: Never`.
    pub never_preempts: bool,
    pub requests: Resources,
    pub node_name: CompactString,
    /// The node whose pods make room for this one.
    pub nominated_node: CompactString,
    pub scheduler_name: CompactString,
    pub node_selector: BTreeMap<String, String>,
    pub node_affinity: Option<Box<NodeAffinity>>,
    pub tolerations: Vec<Toleration>,
    pub terms: Option<Box<PodTerms>>,
    pub spread: Box<[Spread]>,
    pub gates: Vec<String>,
    pub host_ports: Vec<HostPort>,
    /// The images of its containers and volumes, with tag.
    pub images: Box<[CompactString]>,
    /// Kind and name of the controlling owner.
    pub owner: Option<(CompactString, CompactString)>,
    /// Constraints that this scheduler does not know, by name.
    pub unsupported: Option<&'static str>,
    /// Seconds since the epoch; `None` before the agent has taken it.
    pub started: Option<i64>,
    pub terminal: bool,
    pub deleting: bool,
    /// Makes room for a pod of higher priority.
    pub preempted: bool,
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
        let status = pod.status.unwrap_or_default();
        let spec = pod.spec.unwrap_or_default();
        let own = object.key.namespace.as_str();
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let owner = owners.into_iter().find(|owner| owner.controller == Some(true));
        Self {
            key: object.key.clone(),
            uid: object.uid.clone(),
            revision: object.revision,
            labels: object.labels.clone(),
            priority: spec.priority.unwrap_or(0),
            never_preempts: spec.preemption_policy.as_deref() == Some("Never"),
            requests: resources::requests(&spec),
            host_ports: host_ports(&spec),
            images: images(&spec),
            unsupported: unsupported(&spec),
            terms: spec
                .affinity
                .as_ref()
                .and_then(|affinity| PodTerms::read(affinity, own)),
            spread: Spread::read_all(&spec, &object.labels),
            owner: owner.map(|owner| (owner.kind.into(), owner.name.into())),
            terminal: matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")),
            deleting: pod.metadata.deletion_timestamp.is_some(),
            preempted: is_preempted(&status),
            started: status.start_time.map(|at| at.0.as_second()),
            nominated_node: status.nominated_node_name.unwrap_or_default().into(),
            node_name: spec.node_name.unwrap_or_default().into(),
            scheduler_name: spec.scheduler_name.map_or("default-scheduler".into(), Into::into),
            node_selector: spec.node_selector.unwrap_or_default(),
            node_affinity: spec
                .affinity
                .and_then(|affinity| affinity.node_affinity)
                .map(Box::new),
            tolerations: spec.tolerations.unwrap_or_default(),
            gates: spec
                .scheduling_gates
                .unwrap_or_default()
                .into_iter()
                .map(|gate| gate.name)
                .collect(),
        }
    }

    /// What the pod counts for in scores: at least a little.
    pub fn scored_cpu(&self) -> i64 {
        match self.requests.milli_cpu {
            0 => DEFAULT_MILLI_CPU,
            asked => asked,
        }
    }

    pub fn scored_memory(&self) -> i64 {
        match self.requests.memory {
            0 => DEFAULT_MEMORY_BYTES,
            asked => asked,
        }
    }

    /// Whether what decides on its place is as in the other.
    pub fn asks_the_same_as(&self, other: &Self) -> bool {
        self.gates == other.gates
            && self.requests == other.requests
            && self.tolerations == other.tolerations
            && self.node_selector == other.node_selector
            && self.node_affinity == other.node_affinity
            && self.labels == other.labels
            && self.unsupported == other.unsupported
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let sidecars = spec.init_containers.iter().flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let containers = spec.containers.iter().chain(sidecars);
    containers
        .flat_map(|container| container.ports.iter().flatten())
        .filter_map(|port| {
            let host_port = port.host_port.filter(|port| *port > 0)?;
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let address = port.host_ip.as_deref().filter(|address| !address.is_empty());
            Some((protocol.into(), address.unwrap_or("0.0.0.0").into(), host_port))
        })
        .collect()
}

fn images(spec: &PodSpec) -> Box<[CompactString]> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    let of_containers = containers.map(|container| container.image.as_deref().unwrap_or_default());
    let volumes = spec
        .volumes
        .iter()
        .flatten()
        .filter_map(|volume| volume.image.as_ref());
    let of_volumes = volumes.map(|image| image.reference.as_deref().unwrap_or_default());
    of_containers.chain(of_volumes).map(with_tag).collect()
}

/// As nodes name images: never without a tag.
fn with_tag(image: &str) -> CompactString {
    if image.rfind(':') <= image.rfind('/') {
        format_compact!("{image}:latest")
    } else {
        image.into()
    }
}

fn is_preempted(status: &PodStatus) -> bool {
    status.conditions.iter().flatten().any(|condition| {
        condition.type_ == "DisruptionTarget"
            && condition.status == "True"
            && condition.reason.as_deref() == Some("PreemptionByScheduler")
    })
}

fn unsupported(spec: &PodSpec) -> Option<&'static str> {
    let mut volumes = spec.volumes.iter().flatten();
    if volumes.any(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()) {
        return Some("persistent volume claims");
    }
    spec.resource_claims
        .as_ref()
        .filter(|claims| !claims.is_empty())
        .map(|_| "resource claims")
}

#[cfg(test)]
pub(crate) mod tests;
