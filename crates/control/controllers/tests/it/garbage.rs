use cloudeck_machinery::{Value, value};

use crate::bench::{Bench, config_maps, deployments, events, is_deleting, pods, replica_sets};

const DEPLOYMENT: &str = r#"{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"web"},"spec":{"replicas":2,
    "selector":{"matchLabels":{"app":"web"}},
    "template":{"metadata":{"labels":{"app":"web"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#;

async fn with_deployment() -> Bench {
    let bench = Bench::start().await;
    bench.create(&deployments(), DEPLOYMENT).await;
    bench.until(&pods(), "two pods", |pods| pods.len() == 2).await;
    bench
}

fn policy(name: &str) -> Value {
    value!({"propagationPolicy": (name)})
}

fn map(name: &str, owner: &str, uid: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","ownerReferences":[
        {{"apiVersion":"v1","kind":"ConfigMap","name":"{owner}","uid":"{uid}"}}]}}}}"#
    )
}

fn named<'a>(all: &'a [Value], name: &str) -> Option<&'a Value> {
    all.iter()
        .find(|tree| tree.str_at(&["metadata", "name"]) == Some(name))
}

#[tokio::test]
async fn deleting_in_the_background_takes_everything_below() {
    let bench = with_deployment().await;
    bench.delete(&deployments(), "web", &policy("Background")).await;
    bench.until(&replica_sets(), "no sets", <[Value]>::is_empty).await;
    bench.until(&pods(), "no pods", <[Value]>::is_empty).await;
    bench.stop().await;
}

#[tokio::test]
async fn deleting_in_the_foreground_ends_with_the_owner() {
    let bench = with_deployment().await;
    // A pod that holds on keeps its owners waiting.
    let all = bench.until(&pods(), "two pods", |pods| pods.len() == 2).await;
    let held = all[0].str_at(&["metadata", "name"]).unwrap().to_owned();
    bench
        .patch(
            &pods(),
            &held,
            "",
            r#"{"metadata":{"finalizers":["example.com/hold"]}}"#,
        )
        .await;
    bench.delete(&deployments(), "web", &policy("Foreground")).await;
    bench
        .until(&pods(), "one pod", |pods| {
            pods.len() == 1 && is_deleting(&pods[0])
        })
        .await;
    let waits = |all: &[Value]| all.len() == 1 && is_deleting(&all[0]);
    bench.until(&replica_sets(), "a waiting set", waits).await;
    bench.until(&deployments(), "a waiting Deployment", waits).await;
    bench
        .patch(&pods(), &held, "", r#"{"metadata":{"finalizers":null}}"#)
        .await;
    bench.until(&deployments(), "the end", <[Value]>::is_empty).await;
    assert!(bench.get(&pods(), &held).await.is_err());
    bench.stop().await;
}

#[tokio::test]
async fn orphaned_pods_stay() {
    let bench = with_deployment().await;
    bench.delete(&deployments(), "web", &policy("Orphan")).await;
    bench.until(&deployments(), "the end", <[Value]>::is_empty).await;
    let free = |set: &Value| set.items_at(&["metadata", "ownerReferences"]).is_empty();
    bench
        .until(&replica_sets(), "a free set", |sets| {
            sets.len() == 1 && free(&sets[0])
        })
        .await;
    bench
        .until(&pods(), "both pods", |pods| {
            pods.len() == 2 && !pods.iter().any(is_deleting)
        })
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn an_object_of_an_owner_that_never_was_goes_and_one_of_a_living_owner_stays() {
    let bench = Bench::start().await;
    let owner = bench
        .create(
            &config_maps(),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"owner"}}"#,
        )
        .await;
    bench
        .create(&config_maps(), &map("kept", "owner", &owner.uid))
        .await;
    bench
        .create(
            &config_maps(),
            &map("lost", "owner", "11111111-2222-3333-4444-555555555555"),
        )
        .await;
    bench
        .until(&config_maps(), "the end of the lost one", |all| {
            named(all, "lost").is_none()
        })
        .await;
    assert!(bench.get(&config_maps(), "kept").await.is_ok());
    bench.delete(&config_maps(), "owner", &Value::Null).await;
    bench
        .until(&config_maps(), "the end of the kept one", |all| {
            named(all, "kept").is_none()
        })
        .await;
    bench.stop().await;
}

#[tokio::test]
async fn an_owner_in_another_namespace_is_none_and_that_is_told() {
    let bench = Bench::start().await;
    let owner = bench
        .create(
            &config_maps(),
            r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"owner","namespace":"kube-system"}}"#,
        )
        .await;
    bench
        .create(&config_maps(), &map("lost", "owner", &owner.uid))
        .await;
    bench
        .until(&config_maps(), "the end of the lost one", |all| {
            named(all, "lost").is_none()
        })
        .await;
    let message = format!(
        "ownerRef [v1/ConfigMap, namespace: default, name: owner, uid: {}] does not exist in namespace \"default\"",
        owner.uid
    );
    let told = |event: &Value| {
        event.str_at(&["reason"]) == Some("OwnerRefInvalidNamespace")
            && event.str_at(&["message"]) == Some(&message)
    };
    bench
        .until(&events(), "the event", |all| all.iter().any(told))
        .await;
    bench.stop().await;
}
