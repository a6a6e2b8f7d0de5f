//! The end of namespaces.

use cloudeck_machinery::{GroupVersionResource, Value, value};

use crate::bench::{Bench, condition, core};

async fn make_namespace(bench: &Bench) {
    bench.create(&core("namespaces"), "", "n", value!({})).await;
    bench
        .create(&core("serviceaccounts"), "n", "default", value!({}))
        .await;
}

#[tokio::test]
async fn a_namespace_goes_with_all_that_is_in_it() {
    let bench = Bench::start().await;
    make_namespace(&bench).await;
    bench
        .create(&core("configmaps"), "n", "c", value!({"data": {"k": "v"}}))
        .await;
    bench.create(&core("secrets"), "n", "s", value!({})).await;
    let deployments = GroupVersionResource::new("apps", "v1", "deployments");
    let spec = value!({"spec": {
        "selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    }});
    bench.create(&deployments, "n", "d", spec).await;
    let ports = value!({"spec": {"ports": [{"port": 80}]}});
    bench.create(&core("services"), "n", "web", ports).await;
    bench
        .create(&core("configmaps"), "default", "other", value!({}))
        .await;
    bench.delete(&core("namespaces"), "", "n", Value::Null).await;
    bench.until_gone(&core("namespaces"), "n").await;
    for (resource, name) in [
        (core("configmaps"), "c"),
        (core("secrets"), "s"),
        (deployments, "d"),
    ] {
        assert!(!bench.exists(&resource, "n", name).await, "{resource}");
    }
    assert!(bench.exists(&core("configmaps"), "default", "other").await);
    bench.stop().await;
}

#[tokio::test]
async fn pods_and_finalizers_hold_a_namespace_back_and_are_told_of() {
    let bench = Bench::start().await;
    make_namespace(&bench).await;
    let pod = value!({"spec": {"nodeName": "one", "containers": [{"name": "c", "image": "i"}]}});
    bench.create(&core("pods"), "n", "p", pod).await;
    let held = value!({"metadata": {"finalizers": ["example.com/hold"]}});
    bench.create(&core("configmaps"), "n", "c", held).await;
    bench.delete(&core("namespaces"), "", "n", Value::Null).await;
    let says = |kind: &'static str, status: &'static str| {
        move |tree: &Value| condition(tree, kind).is_some_and(|told| told.0 == status)
    };
    let remaining = says("NamespaceDeletionContentFailure", "False");
    bench
        .until_one(&core("namespaces"), "n", "conditions", remaining)
        .await;
    let spared = bench
        .admin
        .get(&core("configmaps"), "n", "c")
        .await
        .unwrap()
        .tree();
    assert!(
        spared.at(&["metadata", "deletionTimestamp"]).is_none(),
        "pods go first"
    );
    // The node's agent is done with the pod.
    bench
        .delete(&core("pods"), "n", "p", value!({"gracePeriodSeconds": 0}))
        .await;
    let namespace = bench
        .until_one(
            &core("namespaces"),
            "n",
            "the finalizer's condition",
            says("NamespaceFinalizersRemaining", "True"),
        )
        .await;
    assert_eq!(
        condition(&namespace, "NamespaceContentRemaining"),
        Some(("True", "SomeResourcesRemain"))
    );
    bench
        .patch(
            &core("configmaps"),
            "n",
            "c",
            "",
            value!({"metadata": {"finalizers": null}}),
        )
        .await;
    bench.until_gone(&core("namespaces"), "n").await;
    bench.stop().await;
}
