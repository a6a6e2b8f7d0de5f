use proptest::prelude::*;

use super::*;
use crate::model::tests::{node, pod};
use crate::plugins::default_plugins;

fn asking(cpu: i64) -> PodInfo {
    pod(&format!(
        r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}m"}}}}}}]}}}}"#
    ))
}

fn decide(pod: &PodInfo, nodes: &[NodeInfo]) -> Decision {
    schedule(pod, nodes.iter(), &default_plugins(), 0)
}

#[test]
fn the_refusal_counts_nodes_by_reason() {
    let cordoned = node("a", r#"{"spec":{"unschedulable":true}}"#);
    let tainted = node(
        "b",
        r#"{"spec":{"taints":[{"key":"k","value":"v","effect":"NoSchedule"}]}}"#,
    );
    let small = node("c", r#"{"status":{"allocatable":{"cpu":"1","pods":"10"}}}"#);
    let Decision::Nowhere(refusal) = decide(&asking(1500), &[cordoned, tainted, small]) else {
        panic!("placed")
    };
    assert_eq!(
        refusal.message(),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint {k: v}, 1 node(s) were unschedulable."
    );
    assert!(refusal.may_be_turned_by(ClusterEvent::AssignedPodGone));
    assert!(!refusal.may_be_turned_by(ClusterEvent::NodeLabelsChanged));
}

#[test]
fn without_nodes_only_a_node_helps() {
    let Decision::Nowhere(refusal) = decide(&asking(1), &[]) else {
        panic!("placed")
    };
    assert_eq!(
        refusal.message(),
        "0/0 nodes are available: no nodes are registered."
    );
    assert!(
        refusal.may_be_turned_by(ClusterEvent::NodeAdded)
            && !refusal.may_be_turned_by(ClusterEvent::AssignedPodGone)
    );
}

#[test]
fn the_emptiest_node_wins_and_ties_rotate() {
    let (mut a, b) = (node("a", "{}"), node("b", "{}"));
    assert_eq!(
        schedule(&asking(1), [&a, &b].into_iter(), &default_plugins(), 0),
        Decision::Node("a".into())
    );
    assert_eq!(
        schedule(&asking(1), [&a, &b].into_iter(), &default_plugins(), 1),
        Decision::Node("b".into())
    );
    a.add_pod(&asking(1000));
    assert_eq!(decide(&asking(1), &[a, b]), Decision::Node("b".into()));
}

proptest! {
    /// Whatever the load, no node is ever given more than it has, and a pod is refused only when no node could take it.
    #[test]
    fn nodes_are_never_overcommitted_and_room_is_never_refused(
        sizes in prop::collection::vec(1_i64..4, 1..5),
        pods in prop::collection::vec(1_i64..2500, 1..40),
    ) {
        let mut nodes: Vec<NodeInfo> = sizes
            .iter()
            .enumerate()
            .map(|(n, cpu)| node(&format!("n{n}"), &format!(r#"{{"status":{{"allocatable":{{"cpu":"{cpu}","memory":"64Gi","pods":"100"}}}}}}"#)))
            .collect();
        for (turn, cpu) in pods.into_iter().enumerate() {
            let pod = asking(cpu);
            match schedule(&pod, nodes.iter(), &default_plugins(), turn) {
                Decision::Node(name) => nodes.iter_mut().find(|n| n.name == name).unwrap().add_pod(&pod),
                Decision::Nowhere(_) => {
                    for node in &nodes {
                        prop_assert!(node.allocatable["cpu"] - node.requested.get("cpu").copied().unwrap_or(0) < cpu);
                    }
                }
            }
            for node in &nodes {
                prop_assert!(node.requested.get("cpu").copied().unwrap_or(0) <= node.allocatable["cpu"]);
            }
        }
    }
}
