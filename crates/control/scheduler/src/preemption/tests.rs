use cloudeck_machinery::{ObjectKey, json};
use proptest::prelude::*;

use super::*;
use crate::cache::tests::cache_of;
use crate::decision::{Decision, Search, schedule};
use crate::model::tests::{object, pod};
use crate::plugins::default_plugins;

fn asking(uid: &str, cpu: i64, priority: i32) -> PodInfo {
    let mut info = pod(&format!(
        r#"{{"metadata":{{"name":"{uid}","namespace":"n","labels":{{"app":"{uid}"}}}},"spec":{{"containers":[{{"name":"c","resources":{{"requests":{{"cpu":"{cpu}m"}}}}}}]}}}}"#
    ));
    info.uid = uid.into();
    info.priority = priority;
    info
}

fn try_to(pod: &PodInfo, cache: &Cache) -> Preemption {
    match schedule(pod, cache, &default_plugins(), &mut Search::default()) {
        Decision::Nowhere(refusal) => preempt(pod, cache, &default_plugins(), &refusal, 0),
        Decision::Node(node) => panic!("placed on {node}"),
    }
}

#[track_caller]
fn check(pod: &PodInfo, cache: &Cache, node: &str, wanted: &[&str]) {
    match try_to(pod, cache) {
        Preemption::Room { node: found, victims } => {
            let names: Vec<&str> = victims.iter().map(|victim| victim.uid.as_str()).collect();
            assert_eq!((found.as_str(), names.as_slice()), (node, wanted));
        }
        other => panic!("{other:?}"),
    }
}

fn budget(cache: &mut Cache, name: &str, app: &str, allowed: i64) {
    let text = format!(
        r#"{{"metadata":{{"name":"{name}","namespace":"n"}},"spec":{{"selector":{{"matchLabels":{{"app":"{app}"}}}}}},"status":{{"disruptionsAllowed":{allowed}}}}}"#
    );
    let object = object(&json::parse(text.as_bytes()).unwrap());
    cache
        .surroundings
        .set_budget(&ObjectKey::new("n", name), Some(&object));
}

#[test]
fn the_fewest_and_least_important_go() {
    let mut cache = cache_of(&[("a", "{}")]);
    cache.assume(asking("low", 800, 1), "a");
    cache.assume(asking("lower", 800, 0), "a");
    check(&asking("new", 1000, 10), &cache, "a", &["lower"]);
    check(&asking("new", 2000, 10), &cache, "a", &["low", "lower"]);
    check(&asking("new", 1000, 1), &cache, "a", &["lower"]);
}

#[test]
fn of_equals_the_younger_goes() {
    let mut cache = cache_of(&[("a", "{}")]);
    for (uid, started) in [("old", Some(100)), ("young", Some(200))] {
        let mut other = asking(uid, 1000, 0);
        other.started = started;
        cache.assume(other, "a");
    }
    check(&asking("new", 1000, 10), &cache, "a", &["young"]);
}

#[test]
fn the_node_with_the_least_loss_is_chosen() {
    let mut cache = cache_of(&[("a", "{}"), ("b", "{}"), ("c", "{}")]);
    cache.assume(asking("a1", 2000, 5), "a");
    cache.assume(asking("b1", 1000, 4), "b");
    cache.assume(asking("b2", 1000, 4), "b");
    cache.assume(asking("c1", 2000, 4), "c");
    check(&asking("new", 2000, 10), &cache, "c", &["c1"]);
    budget(&mut cache, "keep", "c1", 0);
    check(&asking("new", 2000, 10), &cache, "b", &["b1", "b2"]);
    budget(&mut cache, "keep", "c1", 1);
    check(&asking("new", 2000, 10), &cache, "c", &["c1"]);
}

#[test]
fn pods_with_a_budget_are_spared_first() {
    let mut cache = cache_of(&[("a", "{}")]);
    cache.assume(asking("kept", 1000, 0), "a");
    cache.assume(asking("free", 1000, 5), "a");
    check(&asking("new", 1000, 10), &cache, "a", &["kept"]);
    budget(&mut cache, "keep", "kept", 0);
    check(&asking("new", 1000, 10), &cache, "a", &["free"]);
    // Where nothing else helps, the budget is violated.
    check(&asking("new", 2000, 10), &cache, "a", &["free", "kept"]);
}

#[test]
fn foes_go_and_so_do_holders_of_ports() {
    let mut cache = cache_of(&[("a", r#"{"metadata":{"labels":{"zone":"1"}}}"#)]);
    cache.assume(asking("web", 1, 0), "a");
    let mut waiting = pod(
        r#"{"metadata":{"name":"p","namespace":"n"},"spec":{"priority":10,"containers":[],"affinity":{"podAntiAffinity":{
            "requiredDuringSchedulingIgnoredDuringExecution":[{"topologyKey":"zone","labelSelector":{"matchLabels":{"app":"web"}}}]}}}}"#,
    );
    check(&waiting, &cache, "a", &["web"]);
    waiting.terms = None;
    waiting.host_ports = vec![("TCP".into(), "0.0.0.0".into(), 80)];
    let mut holder = asking("holder", 1, 0);
    holder.host_ports = waiting.host_ports.clone();
    cache.assume(holder, "a");
    check(&waiting, &cache, "a", &["holder"]);
}

#[test]
fn what_would_not_help_is_told_as_upstream_tells_it() {
    let mut cache = cache_of(&[
        ("a", "{}"),
        ("b", r#"{"spec":{"unschedulable":true}}"#),
        ("c", "{}"),
    ]);
    cache.assume(asking("high", 2000, 20), "a");
    cache.assume(asking("half", 1000, 20), "c");
    cache.assume(asking("low", 500, 0), "c");
    let told = |pod: &PodInfo| try_to(pod, &cache).message().into_owned();
    assert_eq!(
        told(&asking("new", 1500, 10)),
        "0/3 nodes are available: 1 Insufficient cpu, 1 No preemption victims found for incoming pod, 1 Preemption is not \
         helpful for scheduling."
    );
    // Nobody is less important.
    assert_eq!(
        told(&asking("new", 1500, 0)),
        "0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod."
    );
    // No node is that large.
    assert_eq!(
        told(&asking("new", 9000, 10)),
        "0/3 nodes are available: 3 Preemption is not helpful for scheduling."
    );
    let mut polite = asking("new", 1500, 10);
    polite.never_preempts = true;
    assert_eq!(told(&polite), "not eligible due to preemptionPolicy=Never.");
    cache.remove_pod("half");
    let found = try_to(&asking("new", 1800, 10), &cache);
    assert_eq!(
        found.message(),
        "found a potential placement for pod on node c, preempting 1 victims"
    );
}

#[test]
fn victims_that_are_going_are_waited_for() {
    let mut cache = cache_of(&[("a", "{}")]);
    let mut going = asking("going", 2000, 0);
    (going.deleting, going.preempted) = (true, true);
    cache.assume(going, "a");
    let mut waiting = asking("new", 1000, 10);
    waiting.nominated_node = "a".into();
    assert_eq!(
        try_to(&waiting, &cache).message(),
        "not eligible due to a terminating pod on the nominated node."
    );
    // One that goes for another reason is as good a victim as any.
    waiting.nominated_node = CompactString::default();
    check(&waiting, &cache, "a", &["going"]);
}

proptest! {
    /// The pod fits when the victims are gone, and would not if any one of them stayed; nobody as important goes.
    #[test]
    fn victims_suffice_and_none_of_them_goes_in_vain(
        running in prop::collection::vec((0_usize..3, 100_i64..1500, 0_i32..4), 1..12),
        cpu in 500_i64..2000,
        priority in 1_i32..5,
    ) {
        let mut cache = cache_of(&[("n0", "{}"), ("n1", "{}"), ("n2", "{}")]);
        for (at, (node, cpu, priority)) in running.iter().enumerate() {
            let name = format!("n{node}");
            if cache.node(&name).unwrap().requested.milli_cpu + cpu <= 2000 {
                cache.assume(asking(&format!("p{at}"), *cpu, *priority), &name);
            }
        }
        let waiting = asking("new", cpu, priority);
        let plugins = default_plugins();
        let Decision::Nowhere(refusal) = schedule(&waiting, &cache, &plugins, &mut Search::default()) else {
            return Ok(());
        };
        let free_without = |node: &NodeInfo, spared: Option<&str>, gone: &[Arc<PodInfo>]| {
            let going = gone.iter().filter(|victim| Some(victim.uid.as_str()) != spared);
            2000 - node.requested.milli_cpu + going.map(|victim| victim.requests.milli_cpu).sum::<i64>()
        };
        match preempt(&waiting, &cache, &plugins, &refusal, 0) {
            Preemption::Room { node, victims } => {
                let node = cache.node(&node).unwrap();
                prop_assert!(!victims.is_empty() && free_without(node, None, &victims) >= cpu);
                for victim in &victims {
                    prop_assert!(victim.priority < priority);
                    prop_assert!(free_without(node, Some(&victim.uid), &victims) < cpu);
                }
            }
            _ => {
                for node in cache.nodes() {
                    let lower: Vec<_> = node.pods.iter().filter(|p| p.priority < priority).cloned().collect();
                    prop_assert!(lower.is_empty() || free_without(node, None, &lower) < cpu);
                }
            }
        }
    }
}
