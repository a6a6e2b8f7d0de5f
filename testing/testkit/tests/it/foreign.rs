//! The crate `kube`: a client that shares no code with the server.

use std::collections::BTreeMap;

use cloudeck_testkit::TestServer;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client};

async fn client(test: &TestServer) -> Client {
    // The process may have several providers; kube asks for the default one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::from_yaml(&test.kubeconfig()).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([("k".into(), "1".into())])),
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn kube_creates_watches_patches_applies_and_deletes() {
    let test = TestServer::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&test).await, "default");
    let created = maps
        .create(&PostParams::default(), &config_map("a"))
        .await
        .unwrap();
    let version = created.metadata.resource_version.clone().unwrap();
    let mut events = maps
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap()
        .boxed();
    let merge = serde_json::json!({"data": {"k": "2"}});
    maps.patch("a", &PatchParams::default(), &Patch::Merge(merge))
        .await
        .unwrap();
    let Some(WatchEvent::Modified(seen)) = events.try_next().await.unwrap() else {
        panic!("the patch was not seen");
    };
    assert_eq!(seen.data.unwrap()["k"], "2");
    let apply = serde_json::json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"mine": "x"}
    });
    let applied = maps
        .patch("a", &PatchParams::apply("kube-test"), &Patch::Apply(apply))
        .await
        .unwrap();
    let managers: Vec<_> = applied
        .metadata
        .managed_fields
        .unwrap()
        .into_iter()
        .filter_map(|entry| entry.manager)
        .collect();
    assert!(managers.contains(&"kube-test".to_owned()), "{managers:?}");
    assert_eq!(applied.data.unwrap().len(), 2);
    maps.delete("a", &kube::api::DeleteParams::default())
        .await
        .unwrap();
    assert_eq!(maps.list(&ListParams::default()).await.unwrap().items.len(), 0);
    test.stop().await;
}

#[tokio::test]
async fn kubes_watcher_lists_in_pages_and_by_streaming() {
    let test = TestServer::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&test).await, "default");
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
    }
    for config in [
        watcher::Config::default().page_size(2),
        watcher::Config::default().streaming_lists(),
    ] {
        let mut names = Vec::new();
        let mut events = watcher(maps.clone(), config).boxed();
        while let Some(event) = events.try_next().await.unwrap() {
            match event {
                watcher::Event::InitApply(map) => names.push(map.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(names, ["a", "b", "c"]);
    }
    test.stop().await;
}

#[tokio::test]
async fn a_continue_token_of_a_compacted_revision_is_410_and_may_go_on_inconsistently() {
    let test = TestServer::start().await.unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client(&test).await, "default");
    for name in ["a", "b", "c"] {
        maps.create(&PostParams::default(), &config_map(name))
            .await
            .unwrap();
    }
    let page = maps.list(&ListParams::default().limit(1)).await.unwrap();
    maps.create(&PostParams::default(), &config_map("d"))
        .await
        .unwrap();
    test.store.compact(test.store.revision()).await.unwrap();
    let rest = ListParams::default()
        .limit(5)
        .continue_token(&page.metadata.continue_.unwrap());
    let kube::Error::Api(gone) = maps.list(&rest).await.unwrap_err() else {
        panic!("not an answer of the server");
    };
    assert_eq!((gone.code, gone.reason.as_str()), (410, "Expired"));
    test.stop().await;
}
