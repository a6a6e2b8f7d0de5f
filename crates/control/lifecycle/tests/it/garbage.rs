//! Garbage collection over the API.

use cloudeck_machinery::{Value, value};

use crate::bench::{Bench, core, named, uid};

/// Creates a config map owned by the others.
async fn make(bench: &Bench, name: &str, owners: &[&Value]) -> Value {
    let reference = |owner: &&Value| {
        value!({
            "apiVersion": "v1", "kind": (owner.str_at(&["kind"]).unwrap()), "uid": (uid(owner)),
            "name": (owner.str_at(&["metadata", "name"]).unwrap()), "blockOwnerDeletion": true
        })
    };
    let owners: Vec<Value> = owners.iter().map(reference).collect();
    let rest = value!({"metadata": {"ownerReferences": (owners)}});
    bench.create(&core("configmaps"), "default", name, rest).await
}

async fn delete(bench: &Bench, name: &str, policy: &str) {
    bench
        .delete(
            &core("configmaps"),
            "default",
            name,
            value!({"propagationPolicy": (policy)}),
        )
        .await;
}

fn owners(tree: &Value) -> usize {
    tree.items_at(&["metadata", "ownerReferences"]).len()
}

#[tokio::test]
async fn dependents_follow_their_owner_in_the_background_and_stay_for_another() {
    let bench = Bench::start().await;
    let (one, two) = (make(&bench, "one", &[]).await, make(&bench, "two", &[]).await);
    let child = make(&bench, "child", &[&one]).await;
    make(&bench, "grandchild", &[&child]).await;
    make(&bench, "shared", &[&one, &two]).await;
    delete(&bench, "one", "Background").await;
    bench.until_gone(&core("configmaps"), "grandchild").await;
    bench
        .until_one(&core("configmaps"), "shared", "one owner less", |it| {
            owners(it) == 1
        })
        .await;
    assert!(bench.exists(&core("configmaps"), "default", "two").await);
    bench.stop().await;
}

#[tokio::test]
async fn an_owner_in_foreground_deletion_waits_for_its_dependents() {
    let bench = Bench::start().await;
    let owner = make(&bench, "owner", &[]).await;
    let held = make(&bench, "held", &[&owner]).await;
    make(&bench, "leaf", &[&held]).await;
    let finalizers = value!({"metadata": {"finalizers": ["example.com/hold"]}});
    bench
        .patch(&core("configmaps"), "default", "held", "", finalizers)
        .await;
    delete(&bench, "owner", "Foreground").await;
    bench.until_gone(&core("configmaps"), "leaf").await;
    let only_held = |it: &Value| it.items_at(&["metadata", "finalizers"]).len() == 1;
    bench
        .until_one(
            &core("configmaps"),
            "held",
            "its own foreground deletion's end",
            only_held,
        )
        .await;
    assert!(
        bench.exists(&core("configmaps"), "default", "owner").await,
        "it waits"
    );
    bench
        .patch(
            &core("configmaps"),
            "default",
            "held",
            "",
            value!({"metadata": {"finalizers": null}}),
        )
        .await;
    bench.until_gone(&core("configmaps"), "owner").await;
    assert!(!bench.exists(&core("configmaps"), "default", "held").await);
    bench.stop().await;
}

#[tokio::test]
async fn an_orphaning_owner_leaves_its_dependents_free() {
    let bench = Bench::start().await;
    let owner = make(&bench, "owner", &[]).await;
    make(&bench, "child", &[&owner]).await;
    delete(&bench, "owner", "Orphan").await;
    bench.until_gone(&core("configmaps"), "owner").await;
    let child = bench
        .admin
        .get(&core("configmaps"), "default", "child")
        .await
        .unwrap()
        .tree();
    assert_eq!(owners(&child), 0);
    bench.stop().await;
}

#[tokio::test]
async fn an_owner_that_never_was_or_lives_elsewhere_does_not_hold() {
    let bench = Bench::start().await;
    let mut ghost = make(&bench, "ghost", &[]).await;
    ghost.set_at(&["metadata", "uid"], "00000000-0000-0000-0000-000000000000");
    make(&bench, "haunted", &[&ghost]).await;
    bench.until_gone(&core("configmaps"), "haunted").await;
    let far = bench
        .create(&core("configmaps"), "kube-system", "far", value!({}))
        .await;
    make(&bench, "stray", &[&far]).await;
    bench.until_gone(&core("configmaps"), "stray").await;
    let told = |all: &[Value]| {
        all.iter()
            .any(|it| it.str_at(&["reason"]) == Some("OwnerRefInvalidNamespace"))
    };
    bench.until(&core("events"), "the event", told).await;
    let all = bench.until(&core("configmaps"), "the others", |_| true).await;
    assert!(all.iter().any(|it| named(it, "far")));
    bench.stop().await;
}
