use cloudeck_machinery::{Value, json, value};

use crate::bench::{Bench, active, deployments, events, is_deleting, node, nodes, pods, replica_sets};

fn deployment(replicas: usize) -> String {
    format!(
        r#"{{"apiVersion":"apps/v1","kind":"Deployment","metadata":{{"name":"web"}},"spec":{{"replicas":{replicas},
        "selector":{{"matchLabels":{{"app":"web"}}}},
        "template":{{"metadata":{{"labels":{{"app":"web"}}}},"spec":{{"containers":[{{"name":"c","image":"one"}}]}}}}}}}}"#
    )
}

fn image(pod: &Value) -> Option<&str> {
    pod.items_at(&["spec", "containers"])[0].str_at(&["image"])
}

fn is_ready(pod: &Value) -> bool {
    !pod.items_at(&["status", "conditions"]).is_empty()
}

/// Makes pods ready as they come, until the Deployment tells that the newest set is there.
async fn play_node_until_complete(bench: &Bench, wanted: &str) {
    loop {
        let done = |pods: &[Value]| {
            pods.iter()
                .all(|pod| is_deleting(pod) || image(pod) == Some(wanted) && is_ready(pod))
        };
        let all = bench
            .until(&pods(), "a pod to make ready, or the end", |all| {
                !all.is_empty() && (done(all) || all.iter().any(|pod| !is_ready(pod) && !is_deleting(pod)))
            })
            .await;
        if done(&all) {
            return;
        }
        for pod in all.iter().filter(|pod| !is_ready(pod) && !is_deleting(pod)) {
            bench.make_ready_if_there(pod).await;
        }
    }
}

fn progressed(deployment: &Value) -> bool {
    let conditions = deployment.items_at(&["status", "conditions"]);
    let observed = deployment.int_at(&["status", "observedGeneration"]);
    observed == deployment.int_at(&["metadata", "generation"])
        && conditions
            .iter()
            .any(|condition| condition.str_at(&["reason"]) == Some("NewReplicaSetAvailable"))
        && deployment.int_at(&["status", "updatedReplicas"]) == deployment.int_at(&["status", "replicas"])
        && deployment.int_at(&["status", "unavailableReplicas"]).is_none()
}

#[tokio::test]
async fn a_deployment_rolls_out_updates_and_rolls_back() {
    let bench = Bench::start().await;
    bench.create(&deployments(), &deployment(3)).await;
    play_node_until_complete(&bench, "one").await;
    bench
        .until_one(&deployments(), "web", "a first rollout", progressed)
        .await;
    let template = |image| {
        format!(r#"{{"spec":{{"template":{{"spec":{{"containers":[{{"name":"c","image":"{image}"}}]}}}}}}}}"#)
    };
    bench.patch(&deployments(), "web", "", &template("two")).await;
    play_node_until_complete(&bench, "two").await;
    let done = bench
        .until_one(&deployments(), "web", "an update", progressed)
        .await;
    let revision = ["metadata", "annotations", "deployment.kubernetes.io/revision"];
    assert_eq!(done.str_at(&revision), Some("2"));
    bench.patch(&deployments(), "web", "", &template("one")).await;
    play_node_until_complete(&bench, "one").await;
    let back = |tree: &Value| progressed(tree) && tree.str_at(&revision) == Some("3");
    bench.until_one(&deployments(), "web", "a rollback", back).await;
    let sets = bench
        .until(&replica_sets(), "the sets", |sets| sets.len() == 2)
        .await;
    let sizes: i64 = sets
        .iter()
        .map(|set| set.int_at(&["spec", "replicas"]).unwrap())
        .sum();
    assert_eq!(sizes, 3);
    let told = |event: &Value| event.str_at(&["reason"]) == Some("ScalingReplicaSet");
    bench
        .until(&events(), "events of scaling", |events| events.iter().any(told))
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn a_scaled_deployment_has_as_many_pods() {
    let bench = Bench::start().await;
    bench.create(&deployments(), &deployment(2)).await;
    bench.until(&pods(), "two pods", |pods| active(pods) == 2).await;
    bench
        .patch(&deployments(), "web", "scale", r#"{"spec":{"replicas":5}}"#)
        .await;
    bench.until(&pods(), "five pods", |pods| active(pods) == 5).await;
    bench.stop().await;
}

#[tokio::test]
async fn recreating_ends_all_old_pods_before_the_first_new_one() {
    let bench = Bench::start().await;
    bench.create(&nodes(), &node("n")).await;
    let mut wanted = json::parse(deployment(2).as_bytes()).unwrap();
    wanted.set_at(&["spec", "strategy", "type"], "Recreate");
    wanted.set_at(&["spec", "template", "spec", "nodeName"], "n");
    bench.create(&deployments(), &wanted.to_string()).await;
    bench.until(&pods(), "two pods", |pods| pods.len() == 2).await;
    let template = r#"{"spec":{"template":{"spec":{"containers":[{"name":"c","image":"two"}]}}}}"#;
    bench.patch(&deployments(), "web", "", template).await;
    // Nobody plays the node's agent, so they stay until they are forced.
    let ending = |pods: &[Value]| pods.len() == 2 && pods.iter().all(is_deleting);
    let old = bench.until(&pods(), "both to be ending", ending).await;
    let told = |tree: &Value| tree.int_at(&["status", "observedGeneration"]) == Some(2);
    bench
        .until_one(&deployments(), "web", "the new generation", told)
        .await;
    let sets = bench
        .until(&replica_sets(), "the sets", |sets| !sets.is_empty())
        .await;
    assert_eq!(sets.len(), 1, "the new set waits for the old pods");
    for pod in &old {
        let name = pod.str_at(&["metadata", "name"]).unwrap();
        bench
            .delete(&pods(), name, &value!({"gracePeriodSeconds": 0}))
            .await;
    }
    let renewed = |pods: &[Value]| pods.len() == 2 && pods.iter().all(|pod| image(pod) == Some("two"));
    bench.until(&pods(), "two new pods", renewed).await;
    bench.stop().await;
}
