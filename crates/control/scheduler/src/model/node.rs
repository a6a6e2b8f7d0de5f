//! A node and what runs on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_machinery::Object;
use cloudeck_machinery::quantity::Quantity;
use cloudeck_machinery::selector::Labels as _;
use compact_str::CompactString;
use k8s_openapi::api::core::v1::{ContainerImage, Node, Taint};

use super::{HostPort, Labels, PodInfo, ReadModelError, Resources};

/// A node's place in the cache. Places are used again when a node is gone for good.
pub type NodeId = u32;

#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeInfo {
    pub id: NodeId,
    pub name: CompactString,
    /// Whether the node's object is known; pods may be told before it.
    pub known: bool,
    pub labels: Labels,
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub allocatable: Resources,
    /// How many pods the node takes.
    pub pod_capacity: usize,
    pub requested: Resources,
    /// Requests with stand-ins for pods without any.
    pub scored_cpu: i64,
    pub scored_memory: i64,
    pub pods: Vec<Arc<PodInfo>>,
    /// With the number of pods that hold each.
    pub host_ports: BTreeMap<HostPort, usize>,
    /// Sizes in bytes of the images that the node has, by name, sorted.
    pub images: Vec<(CompactString, i64)>,
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
        let status = node.status.unwrap_or_default();
        let allocatable = status.allocatable.unwrap_or_default();
        self.name.clone_from(&object.key.name);
        self.known = true;
        self.labels.clone_from(&object.labels);
        self.taints = spec.taints.unwrap_or_default();
        self.unschedulable = spec.unschedulable == Some(true);
        self.allocatable = Resources::read(&allocatable);
        self.pod_capacity = allocatable
            .get("pods")
            .and_then(|quantity| quantity.0.parse::<Quantity>().ok())
            .and_then(|quantity| usize::try_from(quantity.value()).ok())
            .unwrap_or(0);
        self.images = images(status.images.unwrap_or_default());
        Ok(())
    }

    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels.as_ref().label(key)
    }

    pub fn add_pod(&mut self, pod: &Arc<PodInfo>) {
        self.requested.add(&pod.requests);
        self.scored_cpu += pod.scored_cpu();
        self.scored_memory += pod.scored_memory();
        self.pods.push(Arc::clone(pod));
        for port in &pod.host_ports {
            *self.host_ports.entry(port.clone()).or_insert(0) += 1;
        }
    }

    pub fn remove_pod(&mut self, uid: &str) {
        let Some(at) = self.pods.iter().position(|pod| pod.uid == uid) else {
            return;
        };
        let pod = self.pods.swap_remove(at);
        self.requested.subtract(&pod.requests);
        self.requested.others.retain(|_, amount| *amount != 0);
        self.scored_cpu -= pod.scored_cpu();
        self.scored_memory -= pod.scored_memory();
        for port in &pod.host_ports {
            if let Some(count) = self.host_ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.host_ports.remove(port);
                }
            }
        }
    }

    /// The size of the image if the node has it.
    pub fn image(&self, name: &str) -> Option<i64> {
        let at = self
            .images
            .binary_search_by(|(other, _)| other.as_str().cmp(name))
            .ok()?;
        Some(self.images[at].1)
    }
}

fn images(list: Vec<ContainerImage>) -> Vec<(CompactString, i64)> {
    let named = |image: ContainerImage| {
        let size = image.size_bytes.unwrap_or(0);
        let names = image.names.unwrap_or_default();
        names.into_iter().map(move |name| (name.into(), size))
    };
    let mut found: Vec<(CompactString, i64)> = list.into_iter().flat_map(named).collect();
    found.sort_unstable();
    found.dedup_by(|a, b| a.0 == b.0);
    found
}
