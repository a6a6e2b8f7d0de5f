//! What the server refuses, or does not do, whatever the kind.

use cloudeck_client::{Body, Params, Request, Verb};
use cloudeck_machinery::{GroupVersionResource, Reason, Status, Value, json, value};

use super::{admin, config_map, config_maps};

#[tokio::test]
async fn a_dry_deletion_deletes_nothing_wherever_it_says_so() {
    let client = admin().await;
    let maps = config_maps();
    client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    let dry = value!({"dryRun": ["All"], "propagationPolicy": "Background"});
    client.delete(&maps, "default", "a", &dry).await.unwrap();
    let params = Params {
        dry_run: vec!["All".into()],
        ..Params::default()
    };
    let deletion = Request::delete(&maps, "default", "a", Body::empty());
    client.send(deletion.with_params(params)).await.unwrap();
    client
        .get(&maps, "default", "a")
        .await
        .expect("it is still there");
}

#[tokio::test]
async fn options_of_a_deletion_that_contradict_themselves_are_refused() {
    let client = admin().await;
    let delete = async |options: Value| -> Status {
        client
            .delete(&config_maps(), "default", "a", &options)
            .await
            .unwrap_err()
    };
    let both = delete(value!({"orphanDependents": true, "propagationPolicy": "Orphan"})).await;
    let words = "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: \"Orphan\": orphanDependents and deletionPropagation cannot be both set";
    assert_eq!((both.code, both.message.as_str()), (422, words));
    let unknown = delete(value!({"propagationPolicy": "Never", "dryRun": ["Some"]})).await;
    let words = "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Unsupported value: \"Never\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\", dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"]";
    assert_eq!(unknown.message, words);
}

#[tokio::test]
async fn across_namespaces_there_is_only_reading() {
    let client = admin().await;
    let services = GroupVersionResource::new("", "v1", "services");
    let all = client
        .send(Request::new(Verb::DeleteCollection, &services, "", ""))
        .await
        .unwrap_err();
    let words = "the server does not allow this method on the requested resource";
    assert_eq!(
        (all.reason, all.message.as_str()),
        (Reason::MethodNotAllowed, words)
    );
    client
        .get(&services, "default", "kubernetes")
        .await
        .expect("nothing was deleted");
    let body = Body::json(json::to_vec(&config_map("a", "1")));
    let nowhere = client
        .send(Request::create(&config_maps(), "", body))
        .await
        .unwrap_err();
    assert_eq!(nowhere.code, 405);
}

#[tokio::test]
async fn a_scale_belongs_to_the_object_in_its_path() {
    let client = admin().await;
    let sets = GroupVersionResource::new("apps", "v1", "replicasets");
    let set = value!({"metadata": {"name": "a"}, "spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    }});
    client.create(&sets, "default", &set).await.unwrap();
    let scale = value!({"metadata": {"name": "b"}, "spec": {"replicas": 3}});
    let body = Body::json(json::to_vec(&scale));
    let refused = client
        .send(Request::update(&sets, "default", "a", "scale", body))
        .await
        .unwrap_err();
    assert_eq!(
        refused.message,
        "the name of the object (b) does not match the name on the URL (a)"
    );
}

#[tokio::test]
async fn the_pods_of_a_deleted_job_stay_unless_it_is_said() {
    let client = admin().await;
    let jobs = GroupVersionResource::new("batch", "v1", "jobs");
    let job = value!({"metadata": {"name": "a"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]
    }}}});
    client.create(&jobs, "default", &job).await.unwrap();
    client.delete(&jobs, "default", "a", &Value::Null).await.unwrap();
    let marked = client.get(&jobs, "default", "a").await.unwrap();
    let finalizers = marked.tree().items_at(&["metadata", "finalizers"]).to_vec();
    assert_eq!(finalizers, [Value::from("orphan")]);
    client
        .create(&jobs, "default", &{
            let mut other = job.clone();
            other.set_at(&["metadata", "name"], "b");
            other
        })
        .await
        .unwrap();
    let background = value!({"propagationPolicy": "Background"});
    client.delete(&jobs, "default", "b", &background).await.unwrap();
    assert_eq!(client.get(&jobs, "default", "b").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn the_service_of_the_api_comes_back() {
    let client = admin().await;
    let services = GroupVersionResource::new("", "v1", "services");
    let first = client.get(&services, "default", "kubernetes").await.unwrap();
    let mut watch = client
        .watch(Request::watch(&services, "default").with_params(Params {
            resource_version: first.revision.to_string(),
            ..Params::default()
        }))
        .await
        .unwrap();
    client
        .delete(&services, "default", "kubernetes", &Value::Null)
        .await
        .unwrap();
    assert_eq!(super::next(&mut watch).await.0, "DELETED");
    assert_eq!(super::next(&mut watch).await.0, "ADDED");
    let second = client.get(&services, "default", "kubernetes").await.unwrap();
    assert_ne!(second.uid, first.uid);
    let address = |object: &Value| object.str_at(&["spec", "clusterIP"]).map(str::to_owned);
    assert_eq!(address(&second.tree()), address(&first.tree()));
}

#[tokio::test]
async fn events_are_selected_by_the_names_of_their_group() {
    let client = admin().await;
    let list = async |group: &str, selector: &str| {
        let events = GroupVersionResource::new(group, "v1", "events");
        let params = Params {
            field_selector: selector.into(),
            ..Params::default()
        };
        client
            .send(Request::list(&events, "default").with_params(params))
            .await
    };
    list("", "involvedObject.name=a").await.unwrap();
    list("events.k8s.io", "regarding.name=a,reason=b").await.unwrap();
    for (group, selector) in [
        ("", "regarding.name=a"),
        ("events.k8s.io", "involvedObject.name=a"),
    ] {
        assert_eq!(list(group, selector).await.unwrap_err().code, 400, "{selector}");
    }
}

#[tokio::test]
async fn the_newer_group_of_events_demands_more() {
    let client = admin().await;
    let create = async |group: &str, name: &str, rest: Value| {
        let mut event = value!({"metadata": {"name": (name)}, "type": "Normal", "reason": "R"});
        for (key, value) in rest.as_object().unwrap().iter() {
            event.set_at(&[key], value.clone());
        }
        let events = GroupVersionResource::new(group, "v1", "events");
        client.create(&events, "default", &event).await
    };
    let about = value!({"kind": "Pod", "name": "p", "namespace": "default"});
    create("", "old", value!({"involvedObject": (about.clone()), "count": 1}))
        .await
        .unwrap();
    let refused = create(
        "events.k8s.io",
        "bad",
        value!({"regarding": (about.clone()), "deprecatedCount": 1}),
    )
    .await
    .unwrap_err();
    let words = "eventTime: Required value, count: Invalid value: \"\": needs to be unset";
    assert!(refused.message.contains(words), "{refused}");
    let good = value!({"regarding": (about), "eventTime": "2026-01-01T00:00:00.000000Z", "action": "A",
        "reportingController": "example.com/c", "reportingInstance": "i"});
    create("events.k8s.io", "good", good).await.unwrap();
    let events = GroupVersionResource::new("events.k8s.io", "v1", "events");
    let patch = value!({"note": "other"});
    let fixed = client
        .merge_patch(&events, "default", "good", "", &patch)
        .await
        .unwrap_err();
    assert!(
        fixed
            .message
            .contains("message: Invalid value: \"other\": field is immutable"),
        "{fixed}"
    );
}

#[tokio::test]
async fn an_evicted_pod_is_told_why_and_guarded_by_its_budget() {
    let client = admin().await;
    let core = |plural| GroupVersionResource::new("", "v1", plural);
    let account = value!({"metadata": {"name": "default"}});
    client
        .create(&core("serviceaccounts"), "default", &account)
        .await
        .unwrap();
    let pod = value!({"metadata": {"name": "p", "labels": {"a": "b"}}, "spec": {
        "nodeName": "n", "containers": [{"name": "c", "image": "i"}]}});
    client.create(&core("pods"), "default", &pod).await.unwrap();
    let running =
        value!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    client
        .merge_patch(&core("pods"), "default", "p", "status", &running)
        .await
        .unwrap();
    let budgets = GroupVersionResource::new("policy", "v1", "poddisruptionbudgets");
    let budget = value!({"metadata": {"name": "b"}, "spec": {"selector": {"matchLabels": {"a": "b"}}, "minAvailable": 1}});
    client.create(&budgets, "default", &budget).await.unwrap();
    let evict = async || {
        let eviction = value!({"metadata": {"name": "p"}});
        client
            .create_subresource(&core("pods"), "default", "p", "eviction", &eviction)
            .await
    };
    let early = evict().await.unwrap_err();
    assert_eq!(
        (early.code, early.details.as_ref().unwrap().retry_after_seconds),
        (429, 10)
    );
    let counted = value!({"status": {"observedGeneration": 1, "disruptionsAllowed": 1, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    client
        .merge_patch(&budgets, "default", "b", "status", &counted)
        .await
        .unwrap();
    evict().await.unwrap();
    let pod = client.get(&core("pods"), "default", "p").await.unwrap().tree();
    assert!(pod.at(&["metadata", "deletionTimestamp"]).is_some());
    let conditions = pod.items_at(&["status", "conditions"]);
    assert!(conditions.iter().any(|condition| {
        condition.str_at(&["type"]) == Some("DisruptionTarget")
            && condition.str_at(&["reason"]) == Some("EvictionByEvictionAPI")
    }));
    let budget = client.get(&budgets, "default", "b").await.unwrap().tree();
    assert_eq!(budget.int_at(&["status", "disruptionsAllowed"]), Some(0));
    assert!(budget.at(&["status", "disruptedPods", "p"]).is_some());
}
