//! What runs where, kept incrementally: nodes from their objects, pods from theirs, and pods that were placed a moment
//! ago and whose binding is not seen yet (assumed).

use std::collections::{BTreeMap, HashMap, HashSet};

use cloudeck_machinery::Object;

use crate::model::{NodeInfo, PodInfo, ReadModelError};
use crate::plugins::ClusterEvent;

/// The scheduler's picture of the cluster.
#[derive(Debug, Default)]
pub struct Cache {
    nodes: BTreeMap<String, NodeInfo>,
    /// Pods that count on a node, by uid.
    placed: HashMap<String, PodInfo>,
    /// Uids of pods counted before their binding was seen.
    assumed: HashSet<String>,
}

impl Cache {
    pub fn nodes(&self) -> impl Iterator<Item = &NodeInfo> {
        self.nodes.values()
    }

    /// Takes over a node's object; tells what that may change for waiting pods.
    pub fn set_node(&mut self, object: &Object) -> Result<Vec<ClusterEvent>, ReadModelError> {
        let name = object.key.name.to_string();
        let mut next = self.nodes.get(&name).cloned().unwrap_or_default();
        next.update(object)?;
        let before = self.nodes.insert(name.clone(), next);
        let now = &self.nodes[&name];
        let Some(before) = before.filter(|node| node.known) else {
            return Ok(vec![ClusterEvent::NodeAdded]);
        };
        let mut events = Vec::new();
        let raised = |(resource, amount): (&String, &i64)| {
            before.allocatable.get(resource).is_none_or(|old| old < amount)
        };
        if now.allocatable.iter().any(raised) {
            events.push(ClusterEvent::NodeAllocatableRaised);
        }
        if now.labels != before.labels {
            events.push(ClusterEvent::NodeLabelsChanged);
        }
        if now.taints != before.taints || now.unschedulable != before.unschedulable {
            events.push(ClusterEvent::NodeTaintsChanged);
        }
        Ok(events)
    }

    /// Forgets a node's object; pods that still count there keep their place in case it comes back.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(node) = self.nodes.get_mut(name) {
            node.known = false;
        }
        self.drop_if_empty(name);
    }

    /// Counts a pod that the API shows on a node. Ends an assumption.
    pub fn set_pod(&mut self, pod: PodInfo) {
        self.assumed.remove(&pod.uid);
        self.take_out(&pod.uid);
        self.put_in(pod);
    }

    /// Counts a pod on a node before the API shows it there.
    pub fn assume(&mut self, mut pod: PodInfo, node: &str) {
        node.clone_into(&mut pod.node_name);
        self.assumed.insert(pod.uid.clone());
        self.take_out(&pod.uid);
        self.put_in(pod);
    }

    /// The binding failed: the pod does not count any more, unless the API has shown it since.
    pub fn forget(&mut self, uid: &str) {
        if self.assumed.remove(uid) {
            self.take_out(uid);
        }
    }

    /// The pod is gone or has ended. Whether it had counted.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        self.assumed.remove(uid);
        self.take_out(uid)
    }

    pub fn is_assumed(&self, uid: &str) -> bool {
        self.assumed.contains(uid)
    }

    fn put_in(&mut self, pod: PodInfo) {
        let node = self.nodes.entry(pod.node_name.clone()).or_default();
        if node.name.is_empty() {
            node.name.clone_from(&pod.node_name);
        }
        node.add_pod(&pod);
        self.placed.insert(pod.uid.clone(), pod);
    }

    fn take_out(&mut self, uid: &str) -> bool {
        let Some(pod) = self.placed.remove(uid) else {
            return false;
        };
        if let Some(node) = self.nodes.get_mut(&pod.node_name) {
            node.remove_pod(&pod);
        }
        self.drop_if_empty(&pod.node_name);
        true
    }

    fn drop_if_empty(&mut self, name: &str) {
        if self
            .nodes
            .get(name)
            .is_some_and(|node| !node.known && node.pods == 0)
        {
            self.nodes.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;
    use crate::model::tests::{object, pod};

    fn node(text: &str) -> Object {
        object(&json::parse(text.as_bytes()).unwrap())
    }

    const NODE: &str = r#"{"metadata":{"name":"n"},"status":{"allocatable":{"cpu":"2","pods":"9"}}}"#;

    fn on(uid: &str) -> PodInfo {
        let mut info = pod(
            r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n","containers":[{"name":"c","resources":{"requests":{"cpu":"1"}}}]}}"#,
        );
        info.uid = uid.into();
        info
    }

    fn used(cache: &Cache) -> i64 {
        cache
            .nodes()
            .next()
            .map_or(0, |n| n.requested.get("cpu").copied().unwrap_or(0))
    }

    #[test]
    fn an_assumed_pod_counts_once_when_its_binding_is_seen() {
        let mut cache = Cache::default();
        cache.set_node(&node(NODE)).unwrap();
        cache.assume(on("u"), "n");
        assert_eq!(used(&cache), 1000);
        cache.set_pod(on("u"));
        assert_eq!(used(&cache), 1000);
        cache.forget("u");
        assert_eq!(used(&cache), 1000);
        assert!(cache.remove_pod("u"));
        assert_eq!(used(&cache), 0);
    }

    #[test]
    fn a_failed_binding_gives_the_room_back() {
        let mut cache = Cache::default();
        cache.set_node(&node(NODE)).unwrap();
        cache.assume(on("u"), "n");
        cache.forget("u");
        assert_eq!(used(&cache), 0);
    }

    #[test]
    fn pods_may_come_before_their_node_and_outlive_it() {
        let mut cache = Cache::default();
        cache.set_pod(on("u"));
        assert!(!cache.nodes().next().unwrap().known);
        assert_eq!(cache.set_node(&node(NODE)).unwrap(), [ClusterEvent::NodeAdded]);
        assert_eq!(used(&cache), 1000);
        cache.remove_node("n");
        assert_eq!(cache.nodes().count(), 1);
        cache.remove_pod("u");
        assert_eq!(cache.nodes().count(), 0);
    }

    #[test]
    fn changes_of_a_node_are_told_by_what_they_may_help() {
        let mut cache = Cache::default();
        cache.set_node(&node(NODE)).unwrap();
        let more = r#"{"metadata":{"name":"n","labels":{"a":"b"}},"spec":{"unschedulable":true},"status":{"allocatable":{"cpu":"4","pods":"9"}}}"#;
        let wanted = [
            ClusterEvent::NodeAllocatableRaised,
            ClusterEvent::NodeLabelsChanged,
            ClusterEvent::NodeTaintsChanged,
        ];
        assert_eq!(cache.set_node(&node(more)).unwrap(), wanted);
        assert_eq!(cache.set_node(&node(more)).unwrap(), []);
    }
}
