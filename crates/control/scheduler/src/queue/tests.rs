use super::*;
use crate::model::NodeInfo;
use crate::model::tests::{node, pod};
use crate::plugins::default_plugins;

fn waiting(uid: &str, priority: i32) -> PodInfo {
    let mut info = pod(r#"{"metadata":{"name":"p"},"spec":{"containers":[]}}"#);
    info.uid = uid.into();
    info.priority = priority;
    info
}

fn refused_by(name: &str) -> Refusal {
    let at = default_plugins().iter().position(|plugin| plugin.name() == name);
    Refusal {
        nodes: 1,
        plugins: 1 << at.unwrap(),
        ..Refusal::default()
    }
}

fn pop(queue: &mut Queue, now: u64) -> Option<String> {
    queue.pop(now).map(|pod| pod.uid.to_string())
}

fn happened(queue: &mut Queue, before: &NodeInfo, after: &NodeInfo, now: u64) {
    let event = ClusterEvent::Node {
        before: Some(before),
        now: Some(after),
    };
    queue.happened(event, &default_plugins(), now);
}

#[test]
fn higher_priorities_come_first_then_first_come() {
    let mut queue = Queue::default();
    for (uid, priority) in [("a", 0), ("b", 10), ("c", 0)] {
        queue.add(waiting(uid, priority));
    }
    let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 0)).collect();
    assert_eq!(order, ["b", "a", "c"]);
}

#[test]
fn a_refused_pod_sleeps_until_an_event_that_may_help() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    pop(&mut queue, 0);
    queue.refuse("a", refused_by("NodeUnschedulable"), None, 0);
    let cordoned = node("n", r#"{"spec":{"unschedulable":true}}"#);
    let labelled = node(
        "n",
        r#"{"metadata":{"labels":{"a":"b"}},"spec":{"unschedulable":true}}"#,
    );
    happened(&mut queue, &cordoned, &labelled, 1);
    assert_eq!(pop(&mut queue, 1), None);
    happened(&mut queue, &labelled, &node("n", "{}"), 2);
    assert_eq!(pop(&mut queue, 2).as_deref(), Some("a"));
}

#[test]
fn a_helped_pod_waits_out_only_what_is_left_of_its_back_off() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    let (cordoned, free) = (node("n", r#"{"spec":{"unschedulable":true}}"#), node("n", "{}"));
    let fail = |queue: &mut Queue, now: u64| {
        assert_eq!(pop(queue, now).as_deref(), Some("a"));
        queue.refuse("a", refused_by("NodeUnschedulable"), None, now);
    };
    fail(&mut queue, 0);
    happened(&mut queue, &cordoned, &free, 0);
    fail(&mut queue, 0);
    // The second back-off is two seconds.
    happened(&mut queue, &cordoned, &free, 500);
    assert_eq!(pop(&mut queue, 1999), None);
    fail(&mut queue, 2000);
    happened(&mut queue, &cordoned, &free, 60_000);
    assert_eq!(pop(&mut queue, 60_000).as_deref(), Some("a"));
}

#[test]
fn back_offs_double_and_are_told_as_due() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    let mut now = 0;
    let mut waits = Vec::new();
    for _ in 0..6 {
        assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
        queue.back_off("a", now);
        let due = queue.next_due().unwrap();
        waits.push(due - now);
        now = due;
    }
    assert_eq!(waits, [1000, 2000, 4000, 8000, 10_000, 10_000]);
}

#[test]
fn every_refused_pod_is_looked_at_again_some_day() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    pop(&mut queue, 0);
    queue.refuse("a", refused_by("NodeUnschedulable"), None, 0);
    assert_eq!(pop(&mut queue, LONGEST_REFUSAL_MS - 1), None);
    assert_eq!(pop(&mut queue, LONGEST_REFUSAL_MS).as_deref(), Some("a"));
}

#[test]
fn a_gated_pod_waits_for_its_gates() {
    let mut queue = Queue::default();
    let mut gated = waiting("a", 0);
    gated.gates = vec!["g".into()];
    queue.add(gated.clone());
    assert_eq!(pop(&mut queue, 0), None);
    gated.gates.clear();
    queue.add(gated);
    assert_eq!(pop(&mut queue, 0).as_deref(), Some("a"));
}

#[test]
fn a_refused_pod_that_changes_is_tried_again() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    pop(&mut queue, 0);
    queue.refuse("a", refused_by("InterPodAffinity"), None, 0);
    queue.add(waiting("a", 0));
    assert_eq!(pop(&mut queue, 0), None);
    let mut relabelled = waiting("a", 0);
    relabelled.labels = [("app".into(), "b".into())].into();
    queue.add(relabelled);
    assert_eq!(pop(&mut queue, 0).as_deref(), Some("a"));
}

#[test]
fn a_kept_node_holds_until_the_api_tells_another() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    pop(&mut queue, 0);
    queue.refuse("a", refused_by("NodeResourcesFit"), Some("n"), 0);
    // Some other change that does not know of it yet.
    assert_eq!(queue.add(waiting("a", 0)).nominated_node, "n");
    let mut told = waiting("a", 0);
    told.nominated_node = "n".into();
    assert_eq!(queue.add(told).nominated_node, "n");
    assert_eq!(queue.add(waiting("a", 0)).nominated_node, "");
}

#[test]
fn a_removed_pod_is_never_tried() {
    let mut queue = Queue::default();
    queue.add(waiting("a", 0));
    queue.remove("a");
    assert_eq!(pop(&mut queue, 0), None);
    assert!(queue.is_empty());
}
