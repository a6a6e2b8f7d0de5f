use cloudeck_machinery::{Value, value};

use crate::bench::{Bench, condition};

const IMPORTANT: &str = r#","priorityClassName":"important""#;

/// A full node, and a class of pods that may push others off.
async fn crowded(policy: &str) -> Bench {
    let bench = Bench::start().await;
    let class = value!({
        "kind": "PriorityClass", "metadata": {"name": "important"}, "value": 1000, "preemptionPolicy": (policy)
    });
    bench
        .create("scheduling.k8s.io/v1", "priorityclasses", class)
        .await;
    bench.node("a", "2").await;
    for (name, cpu) in [("small", "500m"), ("large", "1500m")] {
        bench.pod(name, cpu, "").await;
        bench.until_bound(name, "a").await;
    }
    bench
}

#[tokio::test]
async fn an_important_pod_pushes_the_fewest_off_and_takes_their_place() {
    let bench = crowded("PreemptLowerPriority").await;
    bench.pod("new", "1", IMPORTANT).await;
    assert_eq!(
        bench.until_refused("new").await,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: found a potential placement for pod on node a, preempting 1 \
         victims"
    );
    let nominated = |pod: &Value| pod.str_at(&["status", "nominatedNodeName"]) == Some("a");
    let new = bench
        .until("v1", "pods", "new", "its nomination", nominated)
        .await;
    let going = |pod: &Value| pod.at(&["metadata", "deletionTimestamp"]).is_some();
    let victim = bench.until("v1", "pods", "large", "its end", going).await;
    let why = condition(&victim, "DisruptionTarget").unwrap();
    assert_eq!(why.str_at(&["reason"]), Some("PreemptionByScheduler"));
    assert_eq!(
        why.str_at(&["message"]),
        Some("default-scheduler: preempting to accommodate a higher priority pod")
    );
    let told = |event: &Value| event.str_at(&["reason"]) == Some("Preempted");
    let event = bench.until("v1", "events", "large.", "the event", told).await;
    let uid = new.str_at(&["metadata", "uid"]).unwrap();
    assert_eq!(
        event.str_at(&["message"]),
        Some(format!("Preempted by pod {uid} on node a").as_str())
    );
    // Nobody slips in while the victim ends.
    bench.pod("late", "1", "").await;
    bench.until_refused("late").await;
    bench.end("large").await;
    let arrived = |pod: &Value| {
        pod.str_at(&["spec", "nodeName"]) == Some("a") && pod.at(&["status", "nominatedNodeName"]).is_none()
    };
    bench.until("v1", "pods", "new", "its node", arrived).await;
    let small = bench
        .until("v1", "pods", "small", "its being there", |_| true)
        .await;
    assert!(!going(&small));
    bench.stop().await;
}

#[tokio::test]
async fn budgets_decide_who_goes() {
    let bench = crowded("PreemptLowerPriority").await;
    let budget = value!({
        "kind": "PodDisruptionBudget", "metadata": {"name": "keep"},
        "spec": {"maxUnavailable": 0, "selector": {"matchLabels": {"keep": "yes"}}}
    });
    bench.create("policy/v1", "poddisruptionbudgets", budget).await;
    let label = value!({"metadata": {"labels": {"keep": "yes"}}});
    let pods = cloudeck_machinery::GroupVersionResource::new("", "v1", "pods");
    bench
        .admin
        .merge_patch(&pods, "default", "small", "", &label)
        .await
        .unwrap();
    bench.pod("new", "500m", IMPORTANT).await;
    let going = |pod: &Value| pod.at(&["metadata", "deletionTimestamp"]).is_some();
    bench.until("v1", "pods", "large", "its end", going).await;
    bench.stop().await;
}

#[tokio::test]
async fn a_pod_that_never_preempts_waits() {
    let bench = crowded("Never").await;
    bench.pod("new", "1", IMPORTANT).await;
    assert_eq!(
        bench.until_refused("new").await,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never."
    );
    bench.end("large").await;
    bench.until_bound("new", "a").await;
    bench.stop().await;
}
