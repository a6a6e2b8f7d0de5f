//! Resources: whether they suffice, and how evenly they would be used.

use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo, Resources};

/// Requests fit into what is left; the emptier the node, the better (`LeastAllocated`).
#[derive(Debug)]
pub(super) struct NodeResourcesFit;

struct Room<'a>(&'a PodInfo);

impl NodeFilter for Room<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        let (asked, total, used) = (&self.0.requests, &node.allocatable, &node.requested);
        if node.pods.len() < node.pod_capacity
            && is_within(asked.milli_cpu, total.milli_cpu, used.milli_cpu)
            && is_within(asked.memory, total.memory, used.memory)
            && is_within(
                asked.ephemeral_storage,
                total.ephemeral_storage,
                used.ephemeral_storage,
            )
            && asked
                .others
                .iter()
                .all(|(name, asked)| is_within(*asked, total.other(name), used.other(name)))
        {
            return Ok(());
        }
        Err(missing(asked, node))
    }
}

fn is_within(asked: i64, total: i64, used: i64) -> bool {
    asked <= 0 || asked <= total - used
}

fn missing(asked: &Resources, node: &NodeInfo) -> Unfit {
    let mut unfit = Unfit {
        reasons: Vec::new(),
        unresolvable: false,
    };
    if node.pods.len() >= node.pod_capacity {
        unfit.reasons.push("Too many pods".into());
    }
    let (total, used) = (&node.allocatable, &node.requested);
    let named = [
        ("cpu", asked.milli_cpu, total.milli_cpu, used.milli_cpu),
        ("memory", asked.memory, total.memory, used.memory),
        (
            "ephemeral-storage",
            asked.ephemeral_storage,
            total.ephemeral_storage,
            used.ephemeral_storage,
        ),
    ];
    let others = asked
        .others
        .iter()
        .map(|(name, asked)| (name.as_str(), *asked, total.other(name), used.other(name)));
    for (name, asked, total, used) in named.into_iter().chain(others) {
        if !is_within(asked, total, used) {
            unfit.reasons.push(format!("Insufficient {name}").into());
            unfit.unresolvable |= asked > total;
        }
    }
    unfit
}

struct LeastAllocated {
    cpu: i64,
    memory: i64,
}

impl NodeScore for LeastAllocated {
    fn score(&self, node: &NodeInfo) -> i64 {
        let free = |used: i64, total: i64| match total {
            0 => None,
            total if used > total => Some(0),
            total => Some((total - used) * 100 / total),
        };
        let cpu = free(node.scored_cpu + self.cpu, node.allocatable.milli_cpu);
        let memory = free(node.scored_memory + self.memory, node.allocatable.memory);
        match (cpu, memory) {
            (Some(cpu), Some(memory)) => i64::midpoint(cpu, memory),
            (one, other) => one.or(other).unwrap_or(0),
        }
    }
}

impl Plugin for NodeResourcesFit {
    fn name(&self) -> &'static str {
        "NodeResourcesFit"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        Some(Box::new(Room(pod)))
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        _: &'a Cache,
        _: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        Some(Box::new(LeastAllocated {
            cpu: pod.scored_cpu(),
            memory: pod.scored_memory(),
        }))
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Node {
                before,
                now: Some(now),
            } => {
                let raised = before.is_none_or(|before| {
                    now.allocatable.exceeds_anywhere(&before.allocatable)
                        || now.pod_capacity > before.pod_capacity
                });
                raised && Room(pod).check(now).is_ok()
            }
            ClusterEvent::Pod {
                before: Some(before),
                now,
            } => now.is_none_or(|now| before.requests.exceeds_anywhere(&now.requests)),
            _ => false,
        }
    }
}

/// The nearer the pod brings the shares of CPU and memory to each other, the better. Pods that ask for neither are left
/// out, or they would all go to one node.
#[derive(Debug)]
pub(super) struct BalancedAllocation;

struct Balance<'a>(&'a Resources);

impl NodeScore for Balance<'_> {
    fn score(&self, node: &NodeInfo) -> i64 {
        let (asked, total, used) = (self.0, &node.allocatable, &node.requested);
        let score = |cpu: i64, memory: i64| {
            let deviation = if total.milli_cpu == 0 || total.memory == 0 {
                0.0
            } else {
                let share = |used: i64, total: i64| (used as f64 / total as f64).min(1.0);
                (share(cpu, total.milli_cpu) - share(memory, total.memory)).abs() / 2.0
            };
            ((1.0 - deviation) * 100.0) as i64
        };
        let with = score(used.milli_cpu + asked.milli_cpu, used.memory + asked.memory);
        let without = score(used.milli_cpu, used.memory);
        50 + (50 + with - without) / 2
    }
}

impl Plugin for BalancedAllocation {
    fn name(&self) -> &'static str {
        "NodeResourcesBalancedAllocation"
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        _: &'a Cache,
        _: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let asks = pod.requests.milli_cpu > 0 || pod.requests.memory > 0;
        asks.then(|| Box::new(Balance(&pod.requests)) as _)
    }
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
        full.add_pod(&asking("1500m").into());
        let unfit = Room(&asking("600m")).check(&full).unwrap_err();
        assert_eq!(unfit, Unfit::resolvable("Insufficient cpu"));
        assert!(Room(&asking("500m")).check(&full).is_ok());
        assert!(Room(&asking("3")).check(&full).unwrap_err().unresolvable);
        full.pod_capacity = 1;
        assert_eq!(
            Room(&asking("0")).check(&full).unwrap_err().reasons,
            ["Too many pods"]
        );
    }

    #[test]
    fn the_emptier_node_scores_higher() {
        let (empty, mut busy) = (node("a", "{}"), node("b", "{}"));
        busy.add_pod(&asking("1").into());
        let (pod, cache) = (asking("1"), Cache::default());
        let scores = NodeResourcesFit.score(&pod, &cache, &[]).unwrap();
        // Half of the CPU and nearly all of the memory; none and nearly all.
        assert_eq!((scores.score(&empty), scores.score(&busy)), (72, 45));
    }

    #[test]
    fn a_pod_that_evens_the_shares_out_scores_higher() {
        let even = pod(
            r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1","memory":"2Gi"}}}]}}"#,
        );
        let (uneven, cache, node) = (asking("1"), Cache::default(), node("a", "{}"));
        let score = |pod: &PodInfo| {
            let scores = BalancedAllocation.score(pod, &cache, &[]);
            scores.map(|scores| scores.score(&node))
        };
        assert_eq!(score(&even), Some(75));
        assert_eq!(score(&uneven), Some(62));
        assert_eq!(score(&asking("0")), None);
    }

    #[test]
    fn only_what_makes_room_turns_a_refusal() {
        let (waiting, small, large) = (
            asking("3"),
            node("n", "{}"),
            node("n", r#"{"status":{"allocatable":{"cpu":"4","pods":"1"}}}"#),
        );
        let turns = |before, now| NodeResourcesFit.is_turned_by(&waiting, ClusterEvent::Node { before, now });
        assert!(turns(Some(&small), Some(&large)) && turns(None, Some(&large)));
        assert!(
            !turns(Some(&large), Some(&large)) && !turns(None, Some(&small)) && !turns(Some(&large), None)
        );
        let other = asking("1");
        let gone = ClusterEvent::Pod {
            before: Some(&other),
            now: None,
        };
        let came = ClusterEvent::Pod {
            before: None,
            now: Some(&other),
        };
        assert!(NodeResourcesFit.is_turned_by(&waiting, gone));
        assert!(!NodeResourcesFit.is_turned_by(&waiting, came));
    }
}
