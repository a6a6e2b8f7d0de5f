//! Resources: whether they suffice, and how evenly they would be used.

use super::{ClusterEvent, Plugin, Unfit};
use crate::model::{NodeInfo, PodInfo};

/// Requests fit into what is left; the emptier the node, the better (`LeastAllocated`).
#[derive(Debug)]
pub(super) struct NodeResourcesFit;

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        let mut reasons = Vec::new();
        let mut unresolvable = false;
        let capacity = node.allocatable.get("pods").copied().unwrap_or(0);
        if node.pods + 1 > capacity {
            reasons.push("Too many pods".to_owned());
        }
        for (name, asked) in pod.requests.iter().filter(|(_, asked)| **asked > 0) {
            let total = node.allocatable.get(name).copied().unwrap_or(0);
            let used = node.requested.get(name).copied().unwrap_or(0);
            if *asked > total - used {
                reasons.push(format!("Insufficient {name}"));
                unresolvable |= *asked > total;
            }
        }
        if reasons.is_empty() {
            Ok(())
        } else {
            Err(Unfit {
                reasons,
                unresolvable,
            })
        }
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let shares = shares(pod, node);
        let free: i64 = shares
            .iter()
            .map(|share| ((1.0 - share).max(0.0) * 100.0) as i64)
            .sum();
        Some(free / 2)
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[
            ClusterEvent::NodeAdded,
            ClusterEvent::NodeAllocatableRaised,
            ClusterEvent::AssignedPodGone,
        ]
    }
}

/// The nearer the shares of CPU and memory are to each other, the better.
#[derive(Debug)]
pub(super) struct BalancedAllocation;

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let [cpu, memory] = shares(pod, node);
        let deviation = (cpu.min(1.0) - memory.min(1.0)).abs() / 2.0;
        Some(((1.0 - deviation) * 100.0) as i64)
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[]
    }
}

/// The shares of CPU and memory that would be used with the pod on the node.
fn shares(pod: &PodInfo, node: &NodeInfo) -> [f64; 2] {
    let share = |name: &str, used: i64| {
        let total = node.allocatable.get(name).copied().unwrap_or(0);
        if total <= 0 {
            1.0
        } else {
            (used + pod.scored(name)) as f64 / total as f64
        }
    };
    [share("cpu", node.scored_cpu), share("memory", node.scored_memory)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{node, pod};

    fn asking(cpu: &str) -> PodInfo {
        pod(&format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]}}}}"#
        ))
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let mut full = node("n", "{}");
        full.add_pod(&asking("1500m"));
        let unfit = NodeResourcesFit.filter(&asking("600m"), &full).unwrap_err();
        assert_eq!(
            (unfit.reasons, unfit.unresolvable),
            (vec!["Insufficient cpu".to_owned()], false)
        );
        assert!(NodeResourcesFit.filter(&asking("500m"), &full).is_ok());
        assert!(
            NodeResourcesFit
                .filter(&asking("3"), &full)
                .unwrap_err()
                .unresolvable
        );
        full.pods = 10;
        assert_eq!(
            NodeResourcesFit.filter(&asking("0"), &full).unwrap_err().reasons,
            ["Too many pods"]
        );
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let (empty, mut busy) = (node("a", "{}"), node("b", "{}"));
        busy.add_pod(&asking("1"));
        assert!(NodeResourcesFit.score(&asking("1"), &empty) > NodeResourcesFit.score(&asking("1"), &busy));
    }
}
