use cloudeck_machinery::{Value, json};

use crate::bench::{Bench, active, events, pods, replica_sets};

fn set(replicas: usize) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"ReplicaSet","metadata":{{"name":"web"}},"spec":{{"replicas":{replicas},
        "selector":{{"matchLabels":{{"app":"web"}}}},
        "template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}}}}}"#
    )
}

#[tokio::test]
async fn a_set_gets_its_pods_and_tells_of_them() {
    let bench = Bench::start().await;
    bench.create(&replica_sets(), &set(3)).await;
    let all = bench.until(&pods(), "three pods", |pods| pods.len() == 3).await;
    assert_eq!(all[0].str_at(&["metadata", "generateName"]), Some("web-"));
    let status =
        |field: &'static str, count: i64| move |set: &Value| set.int_at(&["status", field]) == Some(count);
    bench
        .until_one(&replica_sets(), "web", "replicas", status("replicas", 3))
        .await;
    for pod in &all {
        bench.make_ready(pod).await;
    }
    let set = bench
        .until_one(
            &replica_sets(),
            "web",
            "availability",
            status("availableReplicas", 3),
        )
        .await;
    assert_eq!(set.int_at(&["status", "readyReplicas"]), Some(3));
    assert_eq!(set.int_at(&["status", "fullyLabeledReplicas"]), Some(3));
    assert_eq!(set.int_at(&["status", "observedGeneration"]), Some(1));
    let created = |event: &Value| event.str_at(&["reason"]) == Some("SuccessfulCreate");
    bench
        .until(&events(), "events", |events| {
            events.iter().filter(|e| created(e)).count() == 3
        })
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn scaling_creates_and_deletes_the_difference() {
    let bench = Bench::start().await;
    bench.create(&replica_sets(), &set(20)).await;
    bench.until(&pods(), "twenty pods", |pods| pods.len() == 20).await;
    bench
        .patch(&replica_sets(), "web", "", r#"{"spec":{"replicas":5}}"#)
        .await;
    bench.until(&pods(), "five pods", |pods| active(pods) == 5).await;
    bench
        .patch(&replica_sets(), "web", "", r#"{"spec":{"replicas":8}}"#)
        .await;
    bench.until(&pods(), "eight pods", |pods| active(pods) == 8).await;
    // Whatever was still to come has come once the status says so.
    let steady = |set: &Value| {
        set.int_at(&["status", "replicas"]) == Some(8)
            && set.int_at(&["status", "observedGeneration"]) == Some(3)
    };
    bench
        .until_one(&replica_sets(), "web", "a steady status", steady)
        .await;
    bench.until(&pods(), "eight pods", |pods| active(pods) == 8).await;
    bench.stop().await;
}

#[tokio::test]
async fn an_orphan_is_adopted_and_a_relabelled_pod_released_and_replaced() {
    let bench = Bench::start().await;
    let orphan = r#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"orphan","labels":{"app":"web"}},
        "spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    bench.create(&pods(), orphan).await;
    bench.create(&replica_sets(), &set(2)).await;
    let owned = |pod: &Value| !pod.items_at(&["metadata", "ownerReferences"]).is_empty();
    bench
        .until(&pods(), "an adopted pod and a new one", |pods| {
            pods.len() == 2 && pods.iter().all(owned)
        })
        .await;
    bench
        .patch(
            &pods(),
            "orphan",
            "",
            r#"{"metadata":{"labels":{"app":"other"}}}"#,
        )
        .await;
    bench
        .until(&pods(), "a replacement", |pods| pods.len() == 3)
        .await;
    bench
        .until_one(&pods(), "orphan", "release", |pod| !owned(pod))
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_refused_creation_is_told_in_the_status_and_retried() {
    let bench = Bench::start().await;
    let mut refused = json::parse(set(1).as_bytes()).unwrap();
    refused.set_at(&["spec", "template", "spec", "serviceAccountName"], "nobody");
    bench.create(&replica_sets(), &refused.to_string()).await;
    let failed = |set: &Value| {
        set.items_at(&["status", "conditions"]).iter().any(|condition| {
            condition.str_at(&["type"]) == Some("ReplicaFailure")
                && condition.str_at(&["reason"]) == Some("FailedCreate")
        })
    };
    bench.until_one(&replica_sets(), "web", "a failure", failed).await;
    let accounts = cloudeck_machinery::GroupVersionResource::new("", "v1", "serviceaccounts");
    let account = r#"{"apiVersion":"v1","kind":"ServiceAccount","metadata":{"name":"nobody"}}"#;
    bench.create(&accounts, account).await;
    bench
        .until_one(&replica_sets(), "web", "recovery", |set| !failed(set))
        .await;
    bench.until(&pods(), "the pod", |pods| pods.len() == 1).await;
    bench.stop().await;
}
