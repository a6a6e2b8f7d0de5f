use cloudeck_machinery::{Value, value};

use crate::bench::{Bench, condition};

const APART: &str = r#","affinity":{"podAntiAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":[
    {"topologyKey":"kubernetes.io/hostname","labelSelector":{"matchLabels":{"app":"web"}}}]}}"#;
const SPREAD: &str = r#","topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"kubernetes.io/hostname",
    "whenUnsatisfiable":"DoNotSchedule","labelSelector":{"matchLabels":{"app":"web"}}}]"#;
const PORT: &str = r#","hostNetwork":true"#;

#[tokio::test]
async fn pods_that_keep_apart_wait_for_another_node() {
    let bench = Bench::start().await;
    bench.node("a", "4").await;
    bench.pod("one", "1", APART).await;
    bench.until_bound("one", "a").await;
    bench.pod("two", "1", APART).await;
    assert_eq!(
        bench.until_refused("two").await,
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. preemption: 0/1 nodes are available: 1 No \
         preemption victims found for incoming pod."
    );
    let failed = |event: &Value| event.str_at(&["reason"]) == Some("FailedScheduling");
    bench.until("v1", "events", "two.", "the event", failed).await;
    bench.node("b", "4").await;
    bench.until_bound("two", "b").await;
    bench.stop().await;
}

#[tokio::test]
async fn pods_are_spread_and_a_deleted_one_makes_room() {
    let bench = Bench::start().await;
    bench.node("a", "4").await;
    bench.node("b", "1").await;
    bench.pod("one", "1", SPREAD).await;
    bench.pod("two", "1", SPREAD).await;
    let bound = |pod: &Value| pod.str_at(&["spec", "nodeName"]).is_some();
    let one = bench.until("v1", "pods", "one", "its node", bound).await;
    let two = bench.until("v1", "pods", "two", "its node", bound).await;
    assert_ne!(one.at(&["spec", "nodeName"]), two.at(&["spec", "nodeName"]));
    // One more goes to either, and then only b would do, which is full.
    bench.pod("three", "1", SPREAD).await;
    bench.until_bound("three", "a").await;
    bench.pod("four", "1", SPREAD).await;
    let refused = bench.until_refused("four").await;
    assert!(
        refused.starts_with(
            "0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints."
        ),
        "{refused}"
    );
    bench.end("three").await;
    bench.until_bound("four", "a").await;
    bench.stop().await;
}

#[tokio::test]
async fn replicas_are_spread_without_being_told() {
    let bench = Bench::start().await;
    for node in ["a", "b", "c"] {
        bench.node(node, "8").await;
    }
    let set = value!({
        "kind": "ReplicaSet", "metadata": {"name": "web"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
    });
    let set = bench.create("apps/v1", "replicasets", set).await;
    // One node is much emptier than the others, and yet it does not get all.
    for node in ["a", "b"] {
        let pin = format!(r#","nodeSelector":{{"kubernetes.io/hostname":"{node}"}}"#);
        bench.pod(&format!("filler-{node}"), "4", &pin).await;
        bench.until_bound(&format!("filler-{node}"), node).await;
    }
    let mut nodes = Vec::new();
    for name in ["r1", "r2", "r3"] {
        let pod = value!({
            "kind": "Pod", "metadata": {"name": (name), "labels": {"app": "web"}, "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": (set.uid.as_str()), "controller": true}]},
            "spec": {"containers": [{"name": "c", "image": "i"}]}
        });
        bench.create("v1", "pods", pod).await;
        let bound = |pod: &Value| pod.str_at(&["spec", "nodeName"]).is_some();
        let pod = bench.until("v1", "pods", name, "its node", bound).await;
        nodes.push(pod.str_at(&["spec", "nodeName"]).unwrap().to_owned());
    }
    nodes.sort();
    nodes.dedup();
    assert!(nodes.len() > 1, "all on {nodes:?}");
    bench.stop().await;
}

#[tokio::test]
async fn a_port_of_a_node_is_given_once() {
    let bench = Bench::start().await;
    bench.node("a", "4").await;
    let ports = format!(
        r#"{PORT},"initContainers":[{{"name":"s","image":"i","restartPolicy":"Always","ports":[{{"containerPort":80,"hostPort":80}}]}}]"#
    );
    bench.pod("one", "1", &ports).await;
    bench.until_bound("one", "a").await;
    bench.pod("two", "1", &ports).await;
    let refused = bench.until_refused("two").await;
    assert!(
        refused.starts_with(
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports. preemption: "
        ),
        "{refused}"
    );
    bench.end("one").await;
    bench.until_bound("two", "a").await;
    bench.stop().await;
}

#[tokio::test]
async fn a_gated_pod_waits_until_its_gate_is_removed() {
    let bench = Bench::start().await;
    bench.node("a", "4").await;
    bench
        .pod("gated", "1", r#","schedulingGates":[{"name":"example.com/g"}]"#)
        .await;
    let told = |pod: &Value| {
        condition(pod, "PodScheduled").is_some_and(|c| c.str_at(&["reason"]) == Some("SchedulingGated"))
    };
    bench.until("v1", "pods", "gated", "its condition", told).await;
    let open = value!({"spec": {"schedulingGates": null}});
    let pods = cloudeck_machinery::GroupVersionResource::new("", "v1", "pods");
    bench
        .admin
        .merge_patch(&pods, "default", "gated", "", &open)
        .await
        .unwrap();
    bench.until_bound("gated", "a").await;
    bench.stop().await;
}
