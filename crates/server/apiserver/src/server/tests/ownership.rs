//! Who owns which field, and what counts as a change.

use std::sync::Arc;

use cloudeck_client::{Body, Client, ContentType, Params, Request};
use cloudeck_machinery::{GroupVersionResource, Object, Value, json, value};

use super::{admin, config_map, config_maps};

async fn apply(client: &Client, resource: &GroupVersionResource, name: &str, tree: &Value) -> Arc<Object> {
    let body = Body {
        content_type: ContentType::ApplyPatch,
        bytes: json::to_vec(tree).into(),
    };
    let params = Params {
        field_manager: "test".into(),
        force: Some(true),
        ..Params::default()
    };
    let request = Request::patch(resource, "default", name, "", body);
    let answer = client.send(request.with_params(params)).await.unwrap();
    let cloudeck_client::Response::Object { object, .. } = answer else {
        panic!("an object is answered");
    };
    object
}

#[tokio::test]
async fn what_the_server_sets_on_a_new_object_belongs_to_nobody() {
    let client = admin().await;
    let jobs = GroupVersionResource::new("batch", "v1", "jobs");
    let job = value!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]
    }}}});
    let made = client.create(&jobs, "default", &job).await.unwrap();
    let entry = made.tree().items_at(&["metadata", "managedFields"])[0].clone();
    let owned = entry.get("fieldsV1").unwrap();
    assert!(owned.at(&["f:spec", "f:template", "f:spec"]).is_some());
    for made in [
        &["f:spec", "f:selector"][..],
        &["f:spec", "f:template", "f:metadata"],
    ] {
        assert!(owned.at(made).is_none(), "{made:?} in {owned}");
    }
}

#[tokio::test]
async fn an_apply_that_changes_nothing_writes_nothing() {
    let client = admin().await;
    let deployments = GroupVersionResource::new("apps", "v1", "deployments");
    let deployment = value!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}, "spec": {
        "minReadySeconds": 0, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    }});
    let first = apply(&client, &deployments, "a", &deployment).await;
    // Times have seconds: the next apply is to be at another one.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let second = apply(&client, &deployments, "a", &deployment).await;
    assert_eq!(second.revision, first.revision);
}

#[tokio::test]
async fn what_a_plug_in_undoes_is_no_new_generation() {
    let client = admin().await;
    let pods = GroupVersionResource::new("", "v1", "pods");
    let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
    let account = value!({"metadata": {"name": "default"}});
    client.create(&accounts, "default", &account).await.unwrap();
    let pod = value!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "i"}],
        "tolerations": [{"key": "a", "operator": "Exists"}]}});
    let made = client.create(&pods, "default", &pod).await.unwrap();
    assert_eq!(made.tree().items_at(&["spec", "tolerations"]).len(), 3);
    // The list is atomic, so this drops the tolerations that DefaultTolerationSeconds then adds again.
    let patch = value!({"spec": {"tolerations": [{"key": "a", "operator": "Exists"}]}});
    let patched = client
        .merge_patch(&pods, "default", "p", "", &patch)
        .await
        .unwrap();
    assert_eq!(patched.revision, made.revision);
    assert_eq!(patched.tree().int_at(&["metadata", "generation"]), Some(1));
}

#[tokio::test]
async fn an_empty_record_of_owners_clears_it() {
    let client = admin().await;
    let maps = config_maps();
    let made = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    assert_eq!(made.tree().items_at(&["metadata", "managedFields"]).len(), 1);
    let clear = value!({"metadata": {"managedFields": []}});
    let cleared = client
        .merge_patch(&maps, "default", "a", "", &clear)
        .await
        .unwrap();
    assert_eq!(cleared.tree().items_at(&["metadata", "managedFields"]), []);
}
