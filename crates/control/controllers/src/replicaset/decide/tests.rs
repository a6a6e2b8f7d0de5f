use super::*;
use crate::pod::tests::{object, pod};
use crate::view::Facts;

const NOW: Now = Now(1_000_000);

fn set(text: &str) -> ReplicaSet {
    let mut tree = cloudeck_machinery::json::parse(text.as_bytes()).unwrap();
    tree.set_at(&["spec", "selector", "matchLabels", "app"], "a");
    tree.set_at(&["spec", "template", "metadata", "labels", "app"], "a");
    ReplicaSet::read(object("set", &tree.to_string())).unwrap()
}

fn member(name: &str, more: &str) -> Arc<Pod> {
    pod(
        name,
        &format!(
            r#"{{"metadata":{{"labels":{{"app":"a"}},"ownerReferences":[{{"kind":"ReplicaSet","name":"set","uid":"set","controller":true}}]{more}}}}}"#
        ),
    )
}

fn running(name: &str) -> Arc<Pod> {
    member(name, r#"},"spec":{"nodeName":"n"},"status":{"phase":"Running""#)
}

fn ready_at(name: &str, time: &str) -> Arc<Pod> {
    let status = format!(
        r#"}},"spec":{{"nodeName":"n"}},"status":{{"phase":"Running","conditions":[{{"type":"Ready","status":"True","lastTransitionTime":"{time}"}}]"#
    );
    member(name, &status)
}

fn look(set: &ReplicaSet, pods: Vec<Arc<Pod>>, settled: bool) -> Decision {
    decide(Observed {
        set,
        related: &pods.clone(),
        pods,
        settled,
        now: NOW,
    })
}

fn names(pods: &[Arc<Pod>]) -> Vec<&str> {
    pods.iter().map(|pod| pod.name()).collect()
}

#[test]
fn missing_pods_are_created_up_to_the_burst() {
    assert_eq!(
        look(&set(r#"{"spec":{"replicas":3}}"#), vec![running("a")], true).create,
        2
    );
    assert_eq!(
        look(&set(r#"{"spec":{"replicas":9000}}"#), vec![], true).create,
        500
    );
}

#[test]
fn nothing_is_created_or_deleted_while_earlier_writes_are_unseen() {
    let decision = look(&set(r#"{"spec":{"replicas":3}}"#), vec![running("a")], false);
    assert_eq!((decision.create, decision.delete.len()), (0, 0));
    let decision = look(&set(r#"{"spec":{"replicas":0}}"#), vec![running("a")], false);
    assert_eq!((decision.create, decision.delete.len()), (0, 0));
}

#[test]
fn surplus_pods_are_deleted_and_unready_ones_first() {
    let pods = vec![ready_at("a", "1970-01-01T00:00:00Z"), running("b")];
    let decision = look(&set(r#"{"spec":{"replicas":1}}"#), pods, true);
    assert_eq!(names(&decision.delete), ["b"]);
}

#[test]
fn finished_and_deleting_pods_are_replaced() {
    let failed = member("f", r#"},"status":{"phase":"Failed""#);
    let deleting = member(
        "d",
        r#","deletionTimestamp":"1970-01-01T00:00:00Z"},"status":{"phase":"Running""#,
    );
    let decision = look(&set(r#"{"spec":{"replicas":1}}"#), vec![failed, deleting], true);
    assert_eq!(decision.create, 1);
    assert_eq!(decision.tally.terminating, 1);
}

#[test]
fn a_matching_orphan_is_adopted_and_counts() {
    let orphan = pod(
        "o",
        r#"{"metadata":{"labels":{"app":"a"}},"status":{"phase":"Running"}}"#,
    );
    let decision = look(&set(r#"{"spec":{"replicas":1}}"#), vec![orphan], true);
    assert_eq!(names(&decision.adopt), ["o"]);
    assert_eq!(decision.create, 0);
}

#[test]
fn a_pod_that_no_longer_matches_is_released_and_replaced() {
    let stray = pod(
        "s",
        r#"{"metadata":{"labels":{"app":"b"},"ownerReferences":[{"kind":"ReplicaSet","name":"set","uid":"set","controller":true}]}}"#,
    );
    let decision = look(&set(r#"{"spec":{"replicas":1}}"#), vec![stray], true);
    assert_eq!(names(&decision.release), ["s"]);
    assert_eq!(decision.create, 1);
}

#[test]
fn a_deleted_set_adopts_releases_and_creates_nothing() {
    let set = set(r#"{"metadata":{"deletionTimestamp":"1970-01-01T00:00:00Z"},"spec":{"replicas":2}}"#);
    let orphan = pod("o", r#"{"metadata":{"labels":{"app":"a"}}}"#);
    let decision = look(&set, vec![orphan, running("a")], true);
    assert!(decision.adopt.is_empty() && decision.release.is_empty());
    assert_eq!((decision.create, decision.tally.active), (0, 1));
}

#[test]
fn a_ready_pod_is_available_after_min_ready_seconds() {
    let set = set(r#"{"spec":{"replicas":2,"minReadySeconds":10}}"#);
    let pods = vec![
        ready_at("a", "1970-01-01T00:16:30Z"),
        ready_at("b", "1970-01-01T00:16:35Z"),
    ];
    let tally = look(&set, pods, true).tally;
    assert_eq!((tally.ready, tally.available), (2, 1));
    assert_eq!(tally.next_available, Some(Duration::from_secs(5)));
}

#[test]
fn the_status_is_written_only_when_it_says_something_new() {
    let mut tree = set(r#"{"metadata":{"generation":2},"spec":{"replicas":1}}"#).tree;
    let tally = Tally {
        active: 1,
        fully_labeled: 1,
        ..Tally::default()
    };
    let read = |tree: &Value| ReplicaSet::read(object("set", &tree.to_string())).unwrap();
    let told = status(&read(&tree), &tally, true, None, NOW).unwrap();
    assert_eq!(
        told.to_string(),
        r#"{"fullyLabeledReplicas":1,"observedGeneration":2,"replicas":1,"terminatingReplicas":0}"#
    );
    tree.set_at(&["status"], told);
    assert_eq!(status(&read(&tree), &tally, true, None, NOW), None);
}

#[test]
fn counts_that_lack_unseen_pods_do_not_answer_for_the_generation() {
    let set = set(r#"{"metadata":{"generation":3},"spec":{"replicas":0},"status":{"observedGeneration":2}}"#);
    let observed = |settled| {
        let told = status(&set, &Tally::default(), settled, None, NOW).unwrap();
        told.int_at(&["observedGeneration"])
    };
    assert_eq!((observed(false), observed(true)), (Some(2), Some(3)));
}

#[test]
fn a_failure_is_told_once_and_removed_when_it_is_over() {
    let mut tree = set(r#"{"spec":{"replicas":1}}"#).tree;
    let read = |tree: &Value| ReplicaSet::read(object("set", &tree.to_string())).unwrap();
    let failure = |message: &str| Failure {
        reason: "FailedCreate",
        message: message.into(),
    };
    let tally = Tally::default();
    let told = status(&read(&tree), &tally, true, Some(&failure("quota")), NOW).unwrap();
    assert_eq!(
        told.items_at(&["conditions"])[0].str_at(&["message"]),
        Some("quota")
    );
    tree.set_at(&["status"], told);
    assert_eq!(
        status(&read(&tree), &tally, true, Some(&failure("other")), NOW),
        None
    );
    let healed = status(&read(&tree), &tally, true, None, NOW).unwrap();
    assert!(healed.at(&["conditions"]).is_none());
}
