use cloudeck_machinery::{ObjectKey, json};

use super::*;
use crate::cache::tests::cache_of;
use crate::model::tests::{object, pod};

/// Two zones of two nodes each, and a node without labels of its own.
fn cluster() -> Cache {
    let node = |zone: &str, host: &str| {
        format!(r#"{{"metadata":{{"labels":{{"zone":"{zone}","{HOSTNAME}":"{host}"}}}}}}"#)
    };
    cache_of(&[
        ("a", &node("1", "a")),
        ("b", &node("1", "b")),
        ("x", &node("2", "x")),
        ("y", &node("2", "y")),
        ("bare", "{}"),
    ])
}

fn run(cache: &mut Cache, on: &[&str]) {
    for (at, node) in on.iter().enumerate() {
        let mut other = with("");
        other.uid = format!("{node}{at}").into();
        cache.assume(other, node);
    }
}

fn with(constraints: &str) -> PodInfo {
    pod(&format!(
        r#"{{"metadata":{{"name":"p","namespace":"n","labels":{{"app":"foo"}}}},"spec":{{"containers":[],"topologySpreadConstraints":[{constraints}]}}}}"#
    ))
}

fn constraint(key: &str, skew: i64, when: &str, more: &str) -> String {
    format!(
        r#"{{"maxSkew":{skew},"topologyKey":"{key}","whenUnsatisfiable":"{when}","labelSelector":{{"matchLabels":{{"app":"foo"}}}}{more}}}"#
    )
}

/// Which of `a b x y bare` fit.
#[track_caller]
fn check(on: &[&str], waiting: &PodInfo, wanted: &str) {
    let mut cache = cluster();
    run(&mut cache, on);
    check_in(&cache, waiting, wanted);
}

#[track_caller]
fn check_in(cache: &Cache, waiting: &PodInfo, wanted: &str) {
    let filter = PodTopologySpread.filter(waiting, cache).unwrap();
    let fits = ["a", "b", "x", "y", "bare"]
        .into_iter()
        .filter(|name| cache.node(name).is_some_and(|node| filter.check(node).is_ok()));
    assert_eq!(fits.collect::<Vec<_>>().join(" "), wanted);
}

fn hard(key: &str, skew: i64, more: &str) -> PodInfo {
    with(&constraint(key, skew, "DoNotSchedule", more))
}

#[test]
fn the_skew_is_kept_by_domain() {
    check(&[], &hard("zone", 1, ""), "a b x y");
    check(&["a"], &hard("zone", 1, ""), "x y");
    check(&["a", "b", "x"], &hard("zone", 1, ""), "x y");
    check(&["a", "b", "x"], &hard("zone", 2, ""), "a b x y");
    check(&["a", "x"], &hard(HOSTNAME, 1, ""), "b y");
    check(&["a", "b", "x", "y"], &hard(HOSTNAME, 1, ""), "a b x y");
}

#[test]
fn all_constraints_hold_together() {
    let both = format!(
        "{},{}",
        constraint("zone", 1, "DoNotSchedule", ""),
        constraint(HOSTNAME, 1, "DoNotSchedule", "")
    );
    check(&["a", "x", "y"], &with(&both), "b");
}

#[test]
fn fewer_domains_than_demanded_count_as_an_empty_one() {
    check(&["a", "x"], &hard("zone", 1, r#","minDomains":2"#), "a b x y");
    check(&["a", "x"], &hard("zone", 1, r#","minDomains":3"#), "");
    check(&[], &hard("zone", 1, r#","minDomains":3"#), "a b x y");
}

#[test]
fn nodes_that_the_pod_excludes_do_not_count_unless_it_says_so() {
    let excluding = |more: &str| {
        let mut waiting = hard("zone", 1, more);
        waiting.node_selector = [("zone".to_owned(), "1".to_owned())].into();
        waiting
    };
    // The empty zone 2 is out of reach.
    check(&["a"], &excluding(""), "a b x y");
    check(&["a"], &excluding(r#","nodeAffinityPolicy":"Ignore""#), "x y");
}

#[test]
fn tainted_nodes_count_unless_the_pod_says_not() {
    let mut cache = cluster();
    let tainted = r#"{"metadata":{"name":"NAME","labels":{"zone":"2","kubernetes.io/hostname":"NAME"}},
        "spec":{"taints":[{"key":"k","effect":"NoSchedule"}]},"status":{"allocatable":{"cpu":"2","pods":"9"}}}"#;
    for name in ["x", "y"] {
        let tree = json::parse(tainted.replace("NAME", name).as_bytes()).unwrap();
        cache.set_node(&object(&tree)).unwrap();
    }
    run(&mut cache, &["a"]);
    check_in(&cache, &hard("zone", 1, ""), "x y");
    check_in(
        &cache,
        &hard("zone", 1, r#","nodeTaintsPolicy":"Honor""#),
        "a b x y",
    );
}

#[test]
fn pods_that_are_going_or_of_other_namespaces_do_not_count() {
    let mut cache = cluster();
    let mut going = with("");
    going.deleting = true;
    cache.assume(going, "a");
    let mut foreign = with("");
    (foreign.uid, foreign.key) = ("f".into(), ObjectKey::new("other", "p"));
    cache.assume(foreign, "a");
    check_in(&cache, &hard("zone", 1, ""), "a b x y");
}

#[test]
fn the_reasons_are_upstreams() {
    let mut cache = cluster();
    run(&mut cache, &["a"]);
    let waiting = hard("zone", 1, "");
    let filter = PodTopologySpread.filter(&waiting, &cache).unwrap();
    let reason = |name: &str| filter.check(cache.node(name).unwrap()).unwrap_err();
    assert_eq!(
        reason("a"),
        Unfit::resolvable("node(s) didn't match pod topology spread constraints")
    );
    assert_eq!(
        reason("bare"),
        Unfit::unresolvable("node(s) didn't match pod topology spread constraints (missing required label)")
    );
}

#[test]
fn a_supposed_pod_changes_the_skew_and_back() {
    let mut cache = cluster();
    run(&mut cache, &["a"]);
    let waiting = hard("zone", 1, "");
    let mut filter = PodTopologySpread.filter(&waiting, &cache).unwrap();
    let (a, other) = (cache.node("a").unwrap(), with(""));
    assert!(filter.check(a).is_err());
    filter.suppose(&other, a, -1);
    assert!(filter.check(a).is_ok());
    filter.suppose(&other, a, 1);
    assert!(filter.check(a).is_err());
}

fn scores(cache: &Cache, waiting: &PodInfo) -> Option<Vec<i64>> {
    let nodes: Vec<&NodeInfo> = ["a", "b", "x", "y", "bare"]
        .iter()
        .filter_map(|name| cache.node(name))
        .collect();
    let scorer = PodTopologySpread.score(waiting, cache, &nodes)?;
    let mut scores: Vec<i64> = nodes.iter().map(|node| scorer.score(node)).collect();
    scorer.normalise(&mut scores, &nodes);
    Some(scores)
}

#[test]
fn soft_constraints_prefer_what_is_emptier() {
    let mut cache = cluster();
    run(&mut cache, &["a", "b", "x"]);
    let soft = with(&constraint("zone", 1, "ScheduleAnyway", ""));
    // Pods weigh ln(4) each: 3 and 1 after rounding.
    assert_eq!(scores(&cache, &soft).unwrap(), [33, 33, 100, 100, 0]);
    let hosts = with(&constraint(HOSTNAME, 1, "ScheduleAnyway", ""));
    assert_eq!(scores(&cache, &hosts).unwrap(), [0, 0, 0, 100, 0]);
    assert_eq!(scores(&cache, &hard("zone", 1, "")), None);
}

#[test]
fn replicas_without_constraints_are_spread_over_nodes() {
    let mut cache = cluster();
    run(&mut cache, &["a", "b", "x"]);
    let mut waiting = with("");
    assert_eq!(scores(&cache, &waiting), None);
    waiting.owner = Some(("ReplicaSet".into(), "web".into()));
    let set =
        json::parse(br#"{"metadata":{"name":"web"},"spec":{"selector":{"matchLabels":{"app":"foo"}}}}"#);
    cache.surroundings.set_workload(
        "ReplicaSet",
        &ObjectKey::new("n", "web"),
        Some(&object(&set.unwrap())),
    );
    // A pod weighs ln(7), and two is the skew's part; the bare node has neither label and no pods.
    assert_eq!(scores(&cache, &waiting).unwrap(), [0, 0, 0, 50, 100]);
}

#[test]
fn only_what_changes_the_counts_turns_a_refusal() {
    let cache = cluster();
    let waiting = hard("zone", 1, "");
    let turns = |event| PodTopologySpread.is_turned_by(&waiting, event);
    let (other, mut stranger) = (with(""), with(""));
    stranger.labels = Box::default();
    let came = |now| ClusterEvent::Pod {
        before: None,
        now: Some(now),
    };
    assert!(turns(came(&other)) && !turns(came(&stranger)));
    let change = ClusterEvent::Pod {
        before: Some(&other),
        now: Some(&other),
    };
    assert!(!turns(change));
    let node = |before, now| ClusterEvent::Node { before, now };
    assert!(turns(node(None, cache.node("a"))) && turns(node(cache.node("a"), None)));
    assert!(!turns(node(None, cache.node("bare"))) && !turns(node(cache.node("a"), cache.node("a"))));
}
