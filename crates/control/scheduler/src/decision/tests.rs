mod speed;

use proptest::prelude::*;

use super::*;
use crate::cache::tests::cache_of;
use crate::model::tests::pod;
use crate::plugins::default_plugins;

fn asking(cpu: i64) -> PodInfo {
    pod(&format!(
        r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}m"}}}}}}]}}}}"#
    ))
}

fn decide(pod: &PodInfo, cache: &Cache) -> Decision {
    schedule(pod, cache, &default_plugins(), &mut Search::default())
}

fn refused(pod: &PodInfo, cache: &Cache) -> Refusal {
    match decide(pod, cache) {
        Decision::Nowhere(refusal) => refusal,
        Decision::Node(node) => panic!("placed on {node}"),
    }
}

fn placed(cache: &mut Cache, uid: &str, node: &str, mut pod: PodInfo) {
    pod.uid = uid.into();
    cache.assume(pod, node);
}

#[test]
fn the_refusal_counts_nodes_by_reason() {
    let cache = cache_of(&[
        ("a", r#"{"spec":{"unschedulable":true}}"#),
        (
            "b",
            r#"{"spec":{"taints":[{"key":"k","value":"v","effect":"NoSchedule"}]}}"#,
        ),
        ("c", r#"{"status":{"allocatable":{"cpu":"1","pods":"10"}}}"#),
    ]);
    let waiting = asking(1500);
    let refusal = refused(&waiting, &cache);
    assert_eq!(
        refusal.message(),
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) had untolerated taint(s), 1 node(s) were unschedulable."
    );
    // More than any node has: fewer pods would not help.
    assert!(refusal.crowded.is_empty());
    let gone = asking(1);
    let event = ClusterEvent::Pod {
        before: Some(&gone),
        now: None,
    };
    assert!(refusal.is_turned_by(&waiting, event, &default_plugins()));
    let node = cache.node("a").unwrap();
    let relabelled = ClusterEvent::Node {
        before: Some(node),
        now: Some(node),
    };
    assert!(!refusal.is_turned_by(&waiting, relabelled, &default_plugins()));
}

#[test]
fn without_nodes_only_a_node_helps() {
    let waiting = asking(1);
    let refusal = refused(&waiting, &Cache::default());
    assert_eq!(refusal.message(), "no nodes available to schedule pods");
    let cache = cache_of(&[("n", "{}")]);
    let came = ClusterEvent::Node {
        before: None,
        now: cache.node("n"),
    };
    let gone = ClusterEvent::Pod {
        before: Some(&waiting),
        now: None,
    };
    let turns = |event| refusal.is_turned_by(&waiting, event, &default_plugins());
    assert!(turns(came) && !turns(gone));
}

#[test]
fn the_emptiest_node_wins_and_ties_take_turns() {
    let mut cache = cache_of(&[("a", "{}"), ("b", "{}")]);
    let mut search = Search::default();
    let mut next = |cache: &Cache| schedule(&asking(1), cache, &default_plugins(), &mut search);
    let (first, second) = (next(&cache), next(&cache));
    assert_ne!(first, second);
    placed(&mut cache, "u", "a", asking(1000));
    assert_eq!(next(&cache), Decision::Node("b".into()));
    assert_eq!(next(&cache), Decision::Node("b".into()));
}

#[test]
fn a_pod_that_names_its_node_is_told_of_that_one() {
    let cache = cache_of(&[
        ("a", r#"{"spec":{"unschedulable":true}}"#),
        ("b", "{}"),
        ("c", "{}"),
    ]);
    let naming = |terms: &str| {
        pod(&format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[],"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{terms}]}}}}}}}}}}"#
        ))
    };
    let term = |names: &str| {
        format!(r#"{{"matchFields":[{{"key":"metadata.name","operator":"In","values":[{names}]}}]}}"#)
    };
    assert_eq!(
        decide(&naming(&term(r#""b""#)), &cache),
        Decision::Node("b".into())
    );
    assert_eq!(
        refused(&naming(&term(r#""a""#)), &cache).message(),
        "0/3 nodes are available: 1 node(s) were unschedulable, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    let gone = naming(&term(r#""gone""#));
    let refusal = refused(&gone, &cache);
    assert_eq!(
        refusal.message(),
        "0/3 nodes are available: 3 node(s) didn't satisfy plugin(s) [NodeAffinity]."
    );
    let back = cache_of(&[("gone", "{}")]);
    let came = ClusterEvent::Node {
        before: None,
        now: back.node("gone"),
    };
    assert!(refusal.is_turned_by(&gone, came, &default_plugins()));
    let torn = r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["a"]},{"key":"metadata.name","operator":"In","values":["b"]}]}"#;
    assert_eq!(
        refused(&naming(torn), &cache).message(),
        "0/3 nodes are available: pod affinity terms conflict."
    );
    // An alternative that names none leaves all open.
    let open = format!(
        r#"{},{{"matchExpressions":[{{"key":"x","operator":"DoesNotExist"}}]}}"#,
        term(r#""a""#)
    );
    assert_ne!(decide(&naming(&open), &cache), Decision::Node("a".into()));
}

#[test]
fn of_many_nodes_a_share_is_scored() {
    for (nodes, scored) in [(99, 99), (100, 100), (1000, 420), (5000, 500), (6000, 300)] {
        assert_eq!(scored_of(nodes), scored);
    }
}

#[test]
fn the_node_that_is_kept_for_a_pod_is_tried_first_and_others_leave_it_room() {
    let mut cache = cache_of(&[
        ("a", "{}"),
        ("b", r#"{"status":{"allocatable":{"cpu":"8","pods":"10"}}}"#),
    ]);
    let mut waiting = asking(2000);
    waiting.uid = "waiting".into();
    waiting.priority = 10;
    waiting.nominated_node = "a".into();
    cache.nominate(&waiting, "a");
    assert_eq!(decide(&waiting, &cache), Decision::Node("a".into()));
    // Less important ones see the node as full, more important ones do not.
    cache.remove_node("b");
    assert_eq!(refused(&asking(1), &cache).nodes, 1);
    let mut important = asking(1);
    important.priority = 11;
    assert_eq!(decide(&important, &cache), Decision::Node("a".into()));
}

proptest! {
    /// Whatever the load, no node is ever given more than it has, and a pod is refused only when no node could take it.
    #[test]
    fn nodes_are_never_overcommitted_and_room_is_never_refused(
        sizes in prop::collection::vec(1_i64..4, 1..5),
        pods in prop::collection::vec(1_i64..2500, 1..40),
    ) {
        let texts: Vec<(String, String)> = sizes
            .iter()
            .enumerate()
            .map(|(n, cpu)| (format!("n{n}"), format!(r#"{{"status":{{"allocatable":{{"cpu":"{cpu}","memory":"64Gi","pods":"100"}}}}}}"#)))
            .collect();
        let nodes: Vec<(&str, &str)> = texts.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        let mut cache = cache_of(&nodes);
        let mut search = Search::default();
        for (turn, cpu) in pods.into_iter().enumerate() {
            match schedule(&asking(cpu), &cache, &default_plugins(), &mut search) {
                Decision::Node(name) => placed(&mut cache, &turn.to_string(), &name, asking(cpu)),
                Decision::Nowhere(_) => {
                    for node in cache.nodes() {
                        prop_assert!(node.allocatable.milli_cpu - node.requested.milli_cpu < cpu);
                    }
                }
            }
            for node in cache.nodes() {
                prop_assert!(node.requested.milli_cpu <= node.allocatable.milli_cpu);
            }
        }
    }
}
