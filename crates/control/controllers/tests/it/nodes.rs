use std::time::Duration;

use cloudeck_controllers::Timings;
use cloudeck_machinery::{Value, json, value};

use crate::bench::{Bench, endpoint_slices, events, is_deleting, node, nodes, pods, services};

fn pod(name: &str, node: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}"}},"spec":{{"nodeName":"{node}",
        "containers":[{{"name":"c","image":"i"}}]}}}}"#
    )
}

async fn say_ready(bench: &Bench, name: &str, status: &str) {
    let patch = value!({"status": {"conditions": [{
        "type": "Ready", "status": (status), "lastHeartbeatTime": "2020-01-01T00:00:00Z",
        "lastTransitionTime": "2020-01-01T00:00:00Z"
    }]}});
    bench
        .admin
        .merge_patch(&nodes(), "", name, "status", &patch)
        .await
        .unwrap();
}

fn has_taint(node: &Value, key: &str, effect: &str) -> bool {
    node.items_at(&["spec", "taints"])
        .iter()
        .any(|taint| taint.str_at(&["key"]) == Some(key) && taint.str_at(&["effect"]) == Some(effect))
}

const NOT_READY: &str = "node.kubernetes.io/not-ready";

#[tokio::test]
async fn nodes_are_registered_and_removed_in_so_many_words() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    let told = |reason: &'static str, message: &'static str| {
        move |all: &[Value]| {
            let is_it = |event: &Value| {
                event.str_at(&["reason"]) == Some(reason)
                    && event.str_at(&["message"]) == Some(message)
                    && event.str_at(&["source", "component"]) == Some("node-controller")
            };
            all.iter().any(is_it)
        }
    };
    let registered = told("RegisteredNode", "Node a event: Registered Node a in Controller");
    bench.until(&events(), "the registration", registered).await;
    bench.admin.delete(&nodes(), "", "a", &value!({})).await.unwrap();
    let removed = told("RemovingNode", "Node a event: Removing Node a from Controller");
    bench.until(&events(), "the removal", removed).await;
    bench.stop().await;
}

#[tokio::test]
async fn taints_follow_a_nodes_conditions() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    bench.create(&nodes(), &node("b")).await;
    say_ready(&bench, "a", "True").await;
    let clean = |node: &Value| node.items_at(&["spec", "taints"]).is_empty();
    bench.until_one(&nodes(), "a", "no taint", clean).await;
    say_ready(&bench, "b", "False").await;
    let both =
        |node: &Value| has_taint(node, NOT_READY, "NoSchedule") && has_taint(node, NOT_READY, "NoExecute");
    bench.until_one(&nodes(), "b", "both taints", both).await;
    // With no node ready nothing is to be evicted.
    say_ready(&bench, "a", "False").await;
    let one =
        |node: &Value| has_taint(node, NOT_READY, "NoSchedule") && !has_taint(node, NOT_READY, "NoExecute");
    bench.until_one(&nodes(), "b", "one taint", one).await;
    bench.until_one(&nodes(), "a", "one taint", one).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_cordoned_node_is_tainted_until_it_is_uncordoned() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    say_ready(&bench, "a", "True").await;
    let cordon =
        |flag: &str| json::parse(format!(r#"{{"spec":{{"unschedulable":{flag}}}}}"#).as_bytes()).unwrap();
    bench
        .admin
        .merge_patch(&nodes(), "", "a", "", &cordon("true"))
        .await
        .unwrap();
    let tainted = |node: &Value| has_taint(node, "node.kubernetes.io/unschedulable", "NoSchedule");
    bench.until_one(&nodes(), "a", "the taint", tainted).await;
    bench
        .admin
        .merge_patch(&nodes(), "", "a", "", &cordon("null"))
        .await
        .unwrap();
    bench
        .until_one(&nodes(), "a", "no taint", |node| !tainted(node))
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn pods_that_do_not_tolerate_a_taint_are_evicted() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    say_ready(&bench, "a", "True").await;
    bench.create(&pods(), &pod("weak", "a")).await;
    let mut tolerant = json::parse(pod("strong", "a").as_bytes()).unwrap();
    tolerant.set_at(&["spec", "tolerations"], vec![value!({"operator": "Exists"})]);
    bench.create(&pods(), &tolerant.to_string()).await;
    let taint = json::parse(br#"{"spec":{"taints":[{"key":"mine","effect":"NoExecute"}]}}"#).unwrap();
    bench
        .admin
        .merge_patch(&nodes(), "", "a", "", &taint)
        .await
        .unwrap();
    let evicted = |pod: &Value| {
        let conditions = pod.items_at(&["status", "conditions"]).iter();
        let mut reasons = conditions.filter_map(|condition| condition.str_at(&["reason"]));
        is_deleting(pod) && reasons.any(|reason| reason == "DeletionByTaintManager")
    };
    bench.until_one(&pods(), "weak", "its eviction", evicted).await;
    let told = |event: &Value| event.str_at(&["reason"]) == Some("TaintManagerEviction");
    bench
        .until(&events(), "the event", |events| events.iter().any(told))
        .await;
    assert!(!is_deleting(&bench.get(&pods(), "strong").await.unwrap()));
    bench.stop().await;
}

#[tokio::test]
async fn pods_of_a_node_that_is_no_longer_ready_are_not_ready() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    say_ready(&bench, "a", "True").await;
    bench
        .until_one(&nodes(), "a", "no taint", |node| {
            node.items_at(&["spec", "taints"]).is_empty()
        })
        .await;
    let created = bench.create(&pods(), &pod("p", "a")).await;
    bench
        .patch(&pods(), "p", "", r#"{"metadata":{"labels":{"app":"p"}}}"#)
        .await;
    bench.make_ready(&created.tree()).await;
    // Once an endpoint tells of the pod's readiness the controllers know of it.
    let service = r#"{"apiVersion":"v1","kind":"Service","metadata":{"name":"p"},
        "spec":{"selector":{"app":"p"},"ports":[{"port":80}]}}"#;
    bench.create(&services(), service).await;
    let ready = |slice: &Value| slice.to_string().contains(r#""ready":true,"serving":true"#);
    bench
        .until(&endpoint_slices(), "the endpoint", |all| all.iter().any(ready))
        .await;
    say_ready(&bench, "a", "Unknown").await;
    let unready = |pod: &Value| {
        let mut conditions = pod.items_at(&["status", "conditions"]).iter();
        conditions.any(|it| it.str_at(&["type"]) == Some("Ready") && it.str_at(&["status"]) == Some("False"))
    };
    bench.until_one(&pods(), "p", "it to be not ready", unready).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_silent_node_becomes_unknown_and_recovers_when_it_speaks() {
    let timings = Timings {
        node_grace: Duration::from_millis(300),
        node_startup_grace: Duration::from_millis(300),
        ..Timings::default()
    };
    let bench = Bench::start_with(&timings).await;
    bench.create(&nodes(), &node("a")).await;
    let ready = |status: &'static str, reason: &'static str| {
        move |node: &Value| {
            let mut conditions = node.items_at(&["status", "conditions"]).iter();
            let ready = conditions.find(|it| it.str_at(&["type"]) == Some("Ready"));
            let text = |field| ready.and_then(|it| it.str_at(&[field])).unwrap_or_default();
            text("status") == status && text("reason") == reason
        }
    };
    let never = ready("Unknown", "NodeStatusNeverUpdated");
    bench
        .until_one(&nodes(), "a", "it to have never spoken", never)
        .await;
    say_ready(&bench, "a", "True").await;
    // The heartbeat that was told is not told again.
    let silent = ready("Unknown", "NodeStatusUnknown");
    let node = bench
        .until_one(&nodes(), "a", "its silence to count", silent)
        .await;
    let message = "Kubelet stopped posting node status.";
    let told = |it: &Value| it.str_at(&["message"]) == Some(message);
    assert!(node.items_at(&["status", "conditions"]).iter().any(told));
    let tainted = |node: &Value| has_taint(node, "node.kubernetes.io/unreachable", "NoSchedule");
    bench.until_one(&nodes(), "a", "the taint", tainted).await;
    bench.stop().await;
}

#[tokio::test]
async fn pods_of_a_node_that_is_gone_are_removed() {
    let timings = Timings {
        gone_node_quarantine: Duration::from_millis(100),
        ..Timings::default()
    };
    let bench = Bench::start_with(&timings).await;
    bench.create(&nodes(), &node("a")).await;
    bench.create(&nodes(), &node("b")).await;
    bench.create(&pods(), &pod("lost", "a")).await;
    bench.create(&pods(), &pod("kept", "b")).await;
    bench.admin.delete(&nodes(), "", "a", &Value::Null).await.unwrap();
    let lost = |all: &[Value]| {
        all.iter()
            .all(|pod| pod.str_at(&["metadata", "name"]) == Some("kept"))
    };
    bench.until(&pods(), "the end of the lost pod", lost).await;
    assert!(bench.get(&pods(), "kept").await.is_ok());
    bench.stop().await;
}

#[tokio::test]
async fn events_end_after_their_life_time() {
    let timings = Timings {
        event_lifetime: Duration::from_secs(1),
        ..Timings::default()
    };
    let bench = Bench::start_with(&timings).await;
    let event = |name: &str, time: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Event","metadata":{{"name":"{name}","namespace":"default"}},"reason":"R",
            "involvedObject":{{"kind":"Pod","name":"p","namespace":"default"}},"lastTimestamp":"{time}"}}"#
        )
    };
    bench
        .create(&events(), &event("late", "2100-01-01T00:00:00Z"))
        .await;
    bench
        .create(&events(), &event("early", "2020-01-01T00:00:00Z"))
        .await;
    let named = |all: &[Value], name: &str| {
        all.iter()
            .any(|it| it.str_at(&["metadata", "name"]) == Some(name))
    };
    bench
        .until(&events(), "the end of the early one", |all| !named(all, "early"))
        .await;
    bench
        .until(&events(), "the late one", |all| named(all, "late"))
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn of_many_finished_pods_the_oldest_go() {
    let timings = Timings {
        finished_pods: 2,
        ..Timings::default()
    };
    let bench = Bench::start_with(&timings).await;
    bench.create(&nodes(), &node("a")).await;
    for (name, phase) in [
        ("d-runs", "Running"),
        ("c-first", "Succeeded"),
        ("b-second", "Failed"),
    ] {
        bench.create(&pods(), &pod(name, "a")).await;
        let status = format!(r#"{{"status":{{"phase":"{phase}"}}}}"#);
        bench.patch(&pods(), name, "status", &status).await;
    }
    bench.create(&pods(), &pod("a-evicted", "a")).await;
    bench
        .patch(
            &pods(),
            "a-evicted",
            "status",
            r#"{"status":{"phase":"Failed","reason":"Evicted"}}"#,
        )
        .await;
    let names = |all: &[Value]| -> Vec<String> {
        let names = all.iter().filter_map(|pod| pod.str_at(&["metadata", "name"]));
        names.map(str::to_owned).collect()
    };
    let left = |all: &[Value]| names(all) == ["b-second", "c-first", "d-runs"];
    bench.until(&pods(), "the end of the evicted pod", left).await;
    bench.stop().await;
}

#[tokio::test]
async fn pods_end_on_a_node_that_is_out_of_service() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    for name in ["ending", "kept"] {
        bench.create(&pods(), &pod(name, "a")).await;
    }
    bench.delete(&pods(), "ending", &Value::Null).await;
    let waits = |pod: &Value| is_deleting(pod);
    bench.until_one(&pods(), "ending", "its waiting", waits).await;
    let taint = json::parse(
        br#"{"spec":{"taints":[{"key":"node.kubernetes.io/out-of-service","effect":"NoSchedule"}]}}"#,
    );
    bench
        .admin
        .merge_patch(&nodes(), "", "a", "", &taint.unwrap())
        .await
        .unwrap();
    let kept = |all: &[Value]| all.len() == 1 && all[0].str_at(&["metadata", "name"]) == Some("kept");
    bench.until(&pods(), "the end of the other", kept).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_pod_is_evicted_when_what_it_tolerates_is_over() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("a")).await;
    say_ready(&bench, "a", "True").await;
    for (name, seconds) in [("short", 1), ("long", 3600)] {
        let mut tree = json::parse(pod(name, "a").as_bytes()).unwrap();
        let toleration = value!({"key": "mine", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": (seconds)});
        tree.set_at(&["spec", "tolerations"], vec![toleration]);
        bench.create(&pods(), &tree.to_string()).await;
    }
    // Added long ago: what is granted to the pods runs from their creation.
    let taint = json::parse(
        br#"{"spec":{"taints":[{"key":"mine","effect":"NoExecute","timeAdded":"2020-01-01T00:00:00Z"}]}}"#,
    );
    bench
        .admin
        .merge_patch(&nodes(), "", "a", "", &taint.unwrap())
        .await
        .unwrap();
    bench
        .until_one(&pods(), "short", "its eviction", is_deleting)
        .await;
    assert!(!is_deleting(&bench.get(&pods(), "long").await.unwrap()));
    bench.stop().await;
}
