//! Nodes, their taints, and the pods of nodes that fail.

use std::time::Duration;

use cloudeck_lifecycle::LifecycleConfig;
use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::bench::{Bench, condition, core};

fn leases() -> GroupVersionResource {
    GroupVersionResource::new("coordination.k8s.io", "v1", "leases")
}

async fn make_node(bench: &Bench, name: &str) {
    bench.create(&core("nodes"), "", name, value!({})).await;
}

/// Says what a node's agent says of itself.
async fn report(bench: &Bench, name: &str, ready: &str) {
    let status = value!({"status": {"conditions": [{
        "type": "Ready", "status": (ready), "reason": "Test", "lastHeartbeatTime": "2020-01-01T00:00:00Z"
    }]}});
    bench.patch(&core("nodes"), "", name, "status", status).await;
}

async fn make_pod(bench: &Bench, name: &str, node: &str, tolerations: Value) {
    let spec = value!({"spec": {
        "nodeName": (node), "containers": [{"name": "c", "image": "i"}], "tolerations": (tolerations),
        "terminationGracePeriodSeconds": 0
    }});
    bench.create(&core("pods"), "default", name, spec).await;
    let status =
        value!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    bench
        .patch(&core("pods"), "default", name, "status", status)
        .await;
}

fn tolerating_for(seconds: i64) -> Value {
    value!([
        {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute",
         "tolerationSeconds": (seconds)},
        {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute",
         "tolerationSeconds": (seconds)}
    ])
}

/// Renews a node's lease for ever, as its agent does.
async fn renew(bench: &Bench, name: &str) {
    bench
        .create(&leases(), "kube-node-lease", name, value!({"spec": {}}))
        .await;
    for round in 0_u64.. {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let time = format!("2020-01-01T00:{:02}:{:02}.000000Z", round / 60 % 60, round % 60);
        let spec = value!({"spec": {"renewTime": (time.as_str())}});
        bench.patch(&leases(), "kube-node-lease", name, "", spec).await;
    }
}

fn taints(node: &Value) -> Vec<(String, String)> {
    let text = |it: &Value, member: &str| it.str_at(&[member]).unwrap_or_default().to_owned();
    let taints = node.items_at(&["spec", "taints"]).iter();
    taints.map(|it| (text(it, "key"), text(it, "effect"))).collect()
}

#[tokio::test]
async fn a_node_is_schedulable_as_soon_as_it_is_ready() {
    let bench = Bench::start().await;
    make_node(&bench, "one").await;
    let tainted =
        |node: &Value| taints(node) == [("node.kubernetes.io/not-ready".into(), "NoSchedule".into())];
    bench
        .until_one(&core("nodes"), "one", "the taint it registers with", tainted)
        .await;
    report(&bench, "one", "True").await;
    bench
        .until_one(&core("nodes"), "one", "no taint", |node| taints(node).is_empty())
        .await;
    report(&bench, "one", "False").await;
    // The only node: it keeps its pods.
    bench
        .until_one(&core("nodes"), "one", "the taint again", tainted)
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_silent_node_is_unknown_and_gives_up_pods_that_do_not_tolerate_it() {
    let config = LifecycleConfig {
        node_monitor_grace: Duration::from_secs(3),
        ..LifecycleConfig::default()
    };
    let bench = Bench::start_with(config).await;
    for name in ["silent", "lively"] {
        make_node(&bench, name).await;
        report(&bench, name, "True").await;
    }
    let watching = async {
        make_pod(&bench, "patient", "silent", tolerating_for(600)).await;
        make_pod(&bench, "hasty", "silent", tolerating_for(0)).await;
        make_pod(&bench, "elsewhere", "lively", tolerating_for(0)).await;
        let silent = bench
            .until_one(&core("nodes"), "silent", "taints", |node| taints(node).len() == 2)
            .await;
        assert_eq!(
            condition(&silent, "Ready"),
            Some(("Unknown", "NodeStatusUnknown"))
        );
        assert_eq!(
            condition(&silent, "DiskPressure"),
            Some(("Unknown", "NodeStatusNeverUpdated"))
        );
        bench.until_gone(&core("pods"), "hasty").await;
        let unready = |pod: &Value| condition(pod, "Ready").is_some_and(|(status, _)| status == "False");
        bench
            .until_one(&core("pods"), "patient", "loss of readiness", unready)
            .await;
        let lively = bench
            .admin
            .get(&core("nodes"), "", "lively")
            .await
            .unwrap()
            .tree();
        assert_eq!(condition(&lively, "Ready"), Some(("True", "Test")));
        assert!(bench.exists(&core("pods"), "default", "elsewhere").await);
        let told = |reason: &'static str| {
            move |all: &[Value]| all.iter().any(|it| it.str_at(&["reason"]) == Some(reason))
        };
        bench
            .until(&core("events"), "the node's event", told("NodeNotReady"))
            .await;
        bench
            .until(
                &core("events"),
                "the eviction's event",
                told("TaintManagerEviction"),
            )
            .await;
    };
    tokio::select! {
        () = renew(&bench, "lively") => {}
        () = watching => {}
    }
    bench.stop().await;
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_are_removed() {
    let config = LifecycleConfig {
        gone_node_quarantine: Duration::from_millis(50),
        ..LifecycleConfig::default()
    };
    let bench = Bench::start_with(config).await;
    make_node(&bench, "one").await;
    report(&bench, "one", "True").await;
    make_pod(&bench, "left", "one", value!([])).await;
    bench.delete(&core("nodes"), "", "one", Value::Null).await;
    bench.until_gone(&core("pods"), "left").await;
    bench.stop().await;
}

#[tokio::test]
async fn finished_pods_beyond_the_threshold_are_removed() {
    let bench = Bench::start_with(LifecycleConfig {
        finished_pods: 2,
        ..LifecycleConfig::default()
    })
    .await;
    make_node(&bench, "one").await;
    for name in ["a", "b", "c"] {
        make_pod(&bench, name, "one", value!([])).await;
        bench
            .patch(
                &core("pods"),
                "default",
                name,
                "status",
                value!({"status": {"phase": "Succeeded"}}),
            )
            .await;
    }
    bench
        .until(&core("pods"), "two pods", |pods| pods.len() == 2)
        .await;
    bench.stop().await;
}
