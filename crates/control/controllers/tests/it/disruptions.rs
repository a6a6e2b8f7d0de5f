use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::bench::{Bench, deployments, pods};

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,
    "selector":{"matchLabels":{"app":"web"}},
    "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

#[tokio::test]
async fn evictions_are_granted_as_far_as_the_budget_reaches() {
    let bench = Bench::start().await;
    bench.create(&deployments(), DEPLOYMENT).await;
    let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    bench
        .create(
            &budgets,
            r#"{"apiVersion":"policy/v1","kind":"PodDisruptionBudget","metadata":{"name":"b"},
            "spec":{"maxUnavailable":1,"selector":{"matchLabels":{"app":"web"}}}}"#,
        )
        .await;
    let allows = |allowed: i64, healthy: i64| {
        move |budget: &Value| {
            let status = |name| budget.int_at(&["status", name]);
            status("disruptionsAllowed") == Some(allowed)
                && status("currentHealthy") == Some(healthy)
                && status("expectedPods") == Some(2)
                && status("observedGeneration") == Some(1)
        }
    };
    bench.until_one(&budgets, "b", "no pod ready", allows(0, 0)).await;
    let all = bench.until(&pods(), "two pods", |pods| pods.len() == 2).await;
    for pod in &all {
        bench.make_ready(pod).await;
    }
    bench.until_one(&budgets, "b", "one to spare", allows(1, 2)).await;
    let evict = async |pod: &Value| {
        let name = pod.str_at(&["metadata", "name"]).unwrap();
        let eviction = value!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": (name)}});
        bench
            .admin
            .create_subresource(&pods(), "default", name, "eviction", &eviction)
            .await
    };
    evict(&all[0]).await.unwrap();
    // Until another one is ready in its place.
    let refused = evict(&all[1]).await.unwrap_err();
    assert_eq!(refused.code, 429, "{refused}");
    let is_new = |pod: &Value| {
        let uid = pod.str_at(&["metadata", "uid"]);
        all.iter().all(|old| old.str_at(&["metadata", "uid"]) != uid)
    };
    let now = bench
        .until(&pods(), "another pod", |pods| pods.iter().any(is_new))
        .await;
    for pod in now.iter().filter(|pod| is_new(pod)) {
        bench.make_ready(pod).await;
    }
    bench
        .until_one(&budgets, "b", "one to spare again", allows(1, 2))
        .await;
    evict(&all[1]).await.unwrap();
    bench.stop().await;
}

#[tokio::test]
async fn a_share_of_what_has_no_replicas_is_unknown() {
    let bench = Bench::start().await;
    let jobs = GroupVersionResource::new("batch", "v1", "jobs");
    let job = r#"{"metadata":{"name":"j"},"spec":{"template":{"spec":{"restartPolicy":"Never",
        "containers":[{"name":"c","image":"i"}]}}}}"#;
    let job = bench.create(&jobs, job).await;
    let pod = format!(
        r#"{{"metadata":{{"name":"p","labels":{{"app":"job"}},"ownerReferences":[{{"apiVersion":"batch/v1","kind":"Job",
        "name":"j","uid":"{}","controller":true}}]}},"spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}"#,
        job.uid
    );
    bench.create(&pods(), &pod).await;
    let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let budget =
        r#"{"metadata":{"name":"b"},"spec":{"maxUnavailable":1,"selector":{"matchLabels":{"app":"job"}}}}"#;
    bench.create(&budgets, budget).await;
    let failed = |budget: &Value| {
        let condition = budget.items_at(&["status", "conditions"]).first();
        condition.is_some_and(|condition| {
            condition.str_at(&["reason"]) == Some("SyncFailed")
                && condition.str_at(&["message"])
                    == Some("jobs.batch does not implement the scale subresource")
        })
    };
    bench.until_one(&budgets, "b", "the reason", failed).await;
    bench.stop().await;
}
