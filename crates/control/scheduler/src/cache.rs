//! What runs where, kept incrementally: nodes from their objects, pods from theirs, and pods that were placed a moment
//! ago and whose binding is not seen yet (assumed).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use cloudeck_machinery::Object;
use compact_str::CompactString;

use crate::model::{NodeId, NodeInfo, PodInfo, ReadModelError};
use crate::surroundings::Surroundings;
use crate::tally::{DomainCounts, HeldTerms, Namespaces, NodeCounts, PodQuery, Tallies};

const ZONE: &str = "topology.kubernetes.io/zone";

/// The nodes by one of their labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topology {
    pub domains: usize,
    /// Whether every known node has the label.
    pub is_everywhere: bool,
}

/// The scheduler's picture of the cluster.
#[derive(Debug, Default)]
pub struct Cache {
    /// By their place; `None` is free.
    nodes: Vec<Option<NodeInfo>>,
    free: Vec<NodeId>,
    by_name: HashMap<CompactString, NodeId>,
    /// Known nodes in the order in which they are looked at: zones in turns. Made when it is asked for.
    order: OnceLock<Vec<NodeId>>,
    /// By topology key, as far as it was asked for.
    topologies: Mutex<HashMap<CompactString, Arc<Topology>>>,
    /// Pods that count on a node, by uid.
    placed: HashMap<CompactString, Arc<PodInfo>>,
    by_namespace: HashMap<CompactString, HashSet<CompactString>>,
    /// How many placed pods have a priority.
    priorities: BTreeMap<i32, usize>,
    /// Uids of pods counted before their binding was seen.
    assumed: HashSet<CompactString>,
    /// Pods for which room is being made, by node.
    nominated: BTreeMap<CompactString, Vec<Arc<PodInfo>>>,
    /// How many nodes have an image.
    images: HashMap<CompactString, usize>,
    tallies: Tallies,
    held: HeldTerms,
    pub surroundings: Surroundings,
}

impl Cache {
    /// Nodes whose objects are known, in the order in which they are looked at.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &NodeInfo> + Clone {
        self.order().iter().map(|id| self.at(*id))
    }

    /// The known node at this place of the order, counted on from the start again after the last.
    ///
    /// # Panics
    /// When there is no node.
    pub fn nth(&self, at: usize) -> &NodeInfo {
        let order = self.order();
        self.at(order[at % order.len()])
    }

    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        let id = self.by_name.get(name)?;
        Some(self.at(*id)).filter(|node| node.known)
    }

    pub fn at(&self, id: NodeId) -> &NodeInfo {
        self.nodes[id as usize]
            .as_ref()
            .expect("places are given up after every mention of them")
    }

    /// How many pods that the query means count on each node.
    pub fn count(&self, query: PodQuery) -> Arc<NodeCounts> {
        self.tallies.on_nodes(query, |query| self.count_anew(query))
    }

    /// How many pods that the query means count in each domain of the topology key.
    pub fn count_by(&self, query: PodQuery, key: &str) -> Arc<DomainCounts> {
        let count = |query: &PodQuery| self.count_anew(query);
        self.tallies.in_domains(query, key, count, |id| self.at(id))
    }

    fn count_anew(&self, query: &PodQuery) -> NodeCounts {
        let mut counts = NodeCounts::new();
        let mut take = |pod: &PodInfo| {
            if query.matches(pod) {
                *counts.entry(self.by_name[&pod.node_name]).or_insert(0) += 1;
            }
        };
        match query.all_of.first().map(|matcher| &matcher.namespaces) {
            Some(Namespaces::Listed(listed)) => {
                let uids = listed.iter().filter_map(|name| self.by_namespace.get(name));
                for uid in uids.flatten() {
                    take(&self.placed[uid]);
                }
            }
            _ => {
                for pod in self.placed.values() {
                    take(pod);
                }
            }
        }
        counts
    }

    /// The domains of a topology key.
    pub fn topology(&self, key: &str) -> Arc<Topology> {
        let mut known = self.topologies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(topology) = known.get(key) {
            return Arc::clone(topology);
        }
        let values: Vec<&str> = self.nodes().filter_map(|node| node.label(key)).collect();
        let topology = Arc::new(Topology {
            is_everywhere: values.len() == self.nodes().len(),
            domains: values.into_iter().collect::<HashSet<_>>().len(),
        });
        known.insert(key.into(), Arc::clone(&topology));
        topology
    }

    pub fn held_terms(&self) -> &HeldTerms {
        &self.held
    }

    /// How many nodes have the image.
    pub fn nodes_with_image(&self, name: &str) -> usize {
        self.images.get(name).copied().unwrap_or(0)
    }

    /// Pods for which room is being made on the node.
    pub fn nominated(&self, node: &str) -> &[Arc<PodInfo>] {
        self.nominated.get(node).map(Vec::as_slice).unwrap_or_default()
    }

    /// Whether any pod that runs is less important than this.
    pub fn has_pods_below(&self, priority: i32) -> bool {
        self.priorities
            .keys()
            .next()
            .is_some_and(|lowest| *lowest < priority)
    }

    /// Takes over a node's object; gives what was known of the node before.
    pub fn set_node(&mut self, object: &Object) -> Result<Option<NodeInfo>, ReadModelError> {
        let id = self.place_of(&object.key.name);
        let before = self.at(id).clone();
        let mut next = before.clone();
        if let Err(error) = next.update(object) {
            self.give_up_if_empty(id);
            return Err(error);
        }
        self.count_images(&before, false);
        self.count_images(&next, true);
        if !before.known || before.labels != next.labels {
            self.relabelled(&before, &next);
        }
        self.nodes[id as usize] = Some(next);
        Ok(Some(before).filter(|node| node.known))
    }

    /// Forgets a node's object, and gives what was known of it; pods that still count there keep their place in case
    /// it comes back.
    pub fn remove_node(&mut self, name: &str) -> Option<NodeInfo> {
        let id = *self.by_name.get(name)?;
        let before = self.at(id).clone();
        self.count_images(&before, false);
        let mut rest = NodeInfo {
            id,
            name: name.into(),
            ..NodeInfo::default()
        };
        for pod in &before.pods {
            rest.add_pod(pod);
        }
        self.relabelled(&before, &rest);
        self.nodes[id as usize] = Some(rest);
        self.give_up_if_empty(id);
        Some(before).filter(|node| node.known)
    }

    /// Counts a pod that the API shows on a node; gives it as it was counted before. Ends an assumption.
    pub fn set_pod(&mut self, pod: PodInfo) -> Option<Arc<PodInfo>> {
        let was_assumed = self.assumed.remove(&pod.uid);
        let before = self.take_out(&pod.uid);
        self.put_in(pod);
        before.filter(|_| !was_assumed)
    }

    /// Counts a pod on a node before the API shows it there.
    pub fn assume(&mut self, mut pod: PodInfo, node: &str) {
        pod.node_name = node.into();
        self.assumed.insert(pod.uid.clone());
        self.take_out(&pod.uid);
        self.put_in(pod);
    }

    /// The binding failed: the pod does not count any more, unless the API has shown it since. Gives the pod if it had
    /// counted.
    pub fn forget(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        if !self.assumed.remove(uid) {
            return None;
        }
        self.take_out(uid)
    }

    /// The pod is gone or has ended. Gives it if it had counted.
    pub fn remove_pod(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        self.assumed.remove(uid);
        self.take_out(uid)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.assumed.contains(uid)
    }

    /// Notes for which node room is made for the pod; none when the name is empty.
    pub fn nominate(&mut self, pod: &PodInfo, node: &str) {
        self.forget_nomination(&pod.uid);
        if node.is_empty() {
            return;
        }
        let mut pod = pod.clone();
        pod.nominated_node = node.into();
        self.nominated.entry(node.into()).or_default().push(Arc::new(pod));
    }

    pub fn forget_nomination(&mut self, uid: &str) {
        for pods in self.nominated.values_mut() {
            pods.retain(|pod| pod.uid != uid);
        }
        self.nominated.retain(|_, pods| !pods.is_empty());
    }

    fn put_in(&mut self, pod: PodInfo) {
        let id = self.place_of(&pod.node_name);
        let pod = Arc::new(pod);
        if let Some(node) = &mut self.nodes[id as usize] {
            node.add_pod(&pod);
            self.tallies.change(&pod, node, 1);
            self.held.change(&pod, node, 1);
        }
        *self.priorities.entry(pod.priority).or_insert(0) += 1;
        let there = self.by_namespace.entry(pod.key.namespace.clone()).or_default();
        there.insert(pod.uid.clone());
        self.placed.insert(pod.uid.clone(), pod);
    }

    fn take_out(&mut self, uid: &str) -> Option<Arc<PodInfo>> {
        let pod = self.placed.remove(uid)?;
        if let Some(there) = self.by_namespace.get_mut(&pod.key.namespace) {
            there.remove(uid);
            if there.is_empty() {
                self.by_namespace.remove(&pod.key.namespace);
            }
        }
        let id = self.by_name[&pod.node_name];
        if let Some(node) = &mut self.nodes[id as usize] {
            node.remove_pod(uid);
            self.tallies.change(&pod, node, -1);
            self.held.change(&pod, node, -1);
        }
        if let Some(count) = self.priorities.get_mut(&pod.priority) {
            *count -= 1;
            if *count == 0 {
                self.priorities.remove(&pod.priority);
            }
        }
        self.give_up_if_empty(id);
        Some(pod)
    }

    /// A node, and its pods with it, moves to other domains.
    fn relabelled(&mut self, before: &NodeInfo, now: &NodeInfo) {
        for pod in &before.pods {
            self.tallies.change(pod, before, -1);
            self.held.change(pod, before, -1);
            self.tallies.change(pod, now, 1);
            self.held.change(pod, now, 1);
        }
        self.order = OnceLock::new();
        self.topologies
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// The place of the node, a new one if it has none.
    fn place_of(&mut self, name: &str) -> NodeId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(None);
            NodeId::try_from(self.nodes.len() - 1).expect("fewer nodes than numbers")
        });
        self.nodes[id as usize] = Some(NodeInfo {
            id,
            name: name.into(),
            ..NodeInfo::default()
        });
        self.by_name.insert(name.into(), id);
        id
    }

    fn give_up_if_empty(&mut self, id: NodeId) {
        let place = &mut self.nodes[id as usize];
        if let Some(node) = place.take_if(|node| !node.known && node.pods.is_empty()) {
            self.by_name.remove(&node.name);
            self.free.push(id);
        }
    }

    fn count_images(&mut self, node: &NodeInfo, there: bool) {
        for (name, _) in &node.images {
            let count = self.images.entry(name.clone()).or_insert(0);
            if there {
                *count += 1;
            } else {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.images.remove(name);
                }
            }
        }
    }

    /// By name within a zone, one of each zone in turns.
    fn order(&self) -> &[NodeId] {
        self.order.get_or_init(|| {
            let mut zones: BTreeMap<&str, Vec<(&str, NodeId)>> = BTreeMap::new();
            for node in self.nodes.iter().flatten().filter(|node| node.known) {
                let zone = zones.entry(node.label(ZONE).unwrap_or_default()).or_default();
                zone.push((&node.name, node.id));
            }
            let mut turns: Vec<(usize, usize, NodeId)> = Vec::new();
            for (zone, nodes) in zones.values_mut().enumerate() {
                nodes.sort_unstable();
                let nodes = nodes.iter().enumerate();
                turns.extend(nodes.map(|(turn, (_, id))| (turn, zone, *id)));
            }
            turns.sort_unstable();
            turns.into_iter().map(|(_, _, id)| id).collect()
        })
    }
}

#[cfg(test)]
pub(crate) mod tests;
