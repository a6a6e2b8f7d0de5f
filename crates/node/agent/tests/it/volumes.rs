//! Volumes made of API data, in a running pod.

use cloudeck_machinery::{Value, value};

use crate::lab::{IDLE, Lab, eventually, shell};

fn pod(volume: Value) -> Value {
    let mut made = shell(IDLE);
    made.set_at(&["volumeMounts"], value!([{"name": "v", "mountPath": "/v"}]));
    value!({"containers": [(made)], "volumes": [(volume)]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_config_map_reaches_a_running_pod_at_once_and_whole() {
    let lab = Lab::new().await;
    lab.put(
        "configmaps",
        value!({"metadata": {"name": "m"}, "data": {"a": "1", "b": "1"}}),
    )
    .await;
    lab.create("p", pod(value!({"name": "v", "configMap": {"name": "m"}})))
        .await;
    let pod = lab.until_ready("p").await;
    assert_eq!(lab.exec(&pod, "cat /v/a /v/b").await, "11");
    lab.patch(
        "configmaps",
        "m",
        value!({"data": {"a": "2", "b": null, "c": "2"}}),
    )
    .await;
    eventually("the new content", async || {
        lab.exec(&pod, "cat /v/a /v/c").await == "22"
    })
    .await;
    assert_eq!(lab.exec(&pod, "ls /v").await, "a\nc\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_labelled_anew_sees_it_in_its_volumes() {
    let lab = Lab::new().await;
    let items = value!([{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}}]);
    let volume = value!({"name": "v", "projected": {"sources": [{"downwardAPI": {"items": (items)}}]}});
    lab.create("p", pod(volume)).await;
    let pod = lab.until_ready("p").await;
    for value in ["1", "2"] {
        lab.patch("pods", "p", value!({"metadata": {"labels": {"a": (value)}}}))
            .await;
        let expected = format!("a=\"{value}\"");
        eventually("the new label", async || {
            lab.exec(&pod, "cat /v/labels").await.contains(&expected)
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_the_secret_that_it_names() {
    let lab = Lab::new().await;
    let volume = value!({"name": "v", "secret": {"secretName": "s", "defaultMode": 256}});
    lab.create("p", pod(volume)).await;
    lab.until("p", "a pod that waits", |pod| {
        let waiting = crate::lab::container(pod, "c").str_at(&["state", "waiting", "reason"]);
        waiting == Some("ContainerCreating")
    })
    .await;
    lab.put(
        "secrets",
        value!({"metadata": {"name": "s"}, "stringData": {"k": "word"}}),
    )
    .await;
    let pod = lab.until_ready("p").await;
    let found = lab.exec(&pod, "cat /v/k; stat -L -c ' %a' /v/k").await;
    assert_eq!(found, "word 400\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_when_four_fifths_of_its_life_are_over() {
    let lab = Lab::new().await;
    lab.put(
        "configmaps",
        value!({"metadata": {"name": "m"}, "data": {"a": "1"}}),
    )
    .await;
    let volume = value!({"name": "v", "projected": {"sources": [
        {"serviceAccountToken": {"path": "token", "expirationSeconds": 600}},
        {"configMap": {"name": "m"}}
    ]}});
    lab.create("p", pod(volume)).await;
    let pod = lab.until_ready("p").await;
    let first = lab.exec(&pod, "cat /v/token").await;
    assert_eq!(first.split('.').count(), 3, "a signed token");
    // The volume is looked at whenever one of its sources changes.
    let look = async |seconds: i64, version: &str| {
        lab.pass(seconds);
        lab.patch("configmaps", "m", value!({"data": {"a": (version)}}))
            .await;
        eventually("the new content", async || {
            lab.exec(&pod, "cat /v/a").await == version
        })
        .await;
        lab.exec(&pod, "cat /v/token").await
    };
    assert_eq!(look(470, "2").await, first, "too early");
    assert_ne!(look(15, "3").await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_renewed_although_another_volume_has_lost_its_config_map() {
    let lab = Lab::new().await;
    for name in ["a", "z"] {
        lab.put(
            "configmaps",
            value!({"metadata": {"name": (name)}, "data": {"k": "1"}}),
        )
        .await;
    }
    let token = value!({"serviceAccountToken": {"path": "token", "expirationSeconds": 600}});
    let mut made = shell(IDLE);
    made.set_at(&["volumeMounts"], value!([{"name": "t", "mountPath": "/v"}]));
    let volumes = value!([
        {"name": "a", "configMap": {"name": "a"}},
        {"name": "t", "projected": {"sources": [(token)]}},
        {"name": "z", "configMap": {"name": "z"}}
    ]);
    lab.create("p", value!({"containers": [(made)], "volumes": (volumes)}))
        .await;
    let pod = lab.until_ready("p").await;
    let first = lab.exec(&pod, "cat /v/token").await;
    lab.pass(490);
    // The volumes are looked at whenever one of their sources changes.
    lab.remove("configmaps", "a").await;
    eventually("a new token", async || {
        let token = lab.exec(&pod, "cat /v/token").await;
        token != first && token.split('.').count() == 3
    })
    .await;
}
