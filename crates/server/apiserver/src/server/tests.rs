//! The server in-process, on the memory store.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Params, Request, WatchEvent, WatchStream};
use cloudeck_engine::{MemoryOptions, MemoryStore};
use cloudeck_machinery::{GroupVersionResource, Reason, Value, value};
use cloudeck_pki::TokenKey;
use cloudeck_task::Scope;
use futures_util::StreamExt as _;

use super::Server;
use crate::config::Config;

pub(crate) async fn server() -> Server {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
    let config = Config::new(
        IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)),
        6443,
        Arc::new(TokenKey::generate().unwrap()),
    );
    Server::start(config, store, &scope).await.unwrap()
}

pub(crate) async fn admin() -> Client {
    server().await.client(LocalIdentity::api_server())
}

fn config_maps() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "configmaps")
}

fn config_map(name: &str, content: &str) -> Value {
    value!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": (name)}, "data": {"k": (content)}})
}

async fn next(watch: &mut WatchStream) -> (&'static str, String, u64) {
    match watch.next().await.expect("the watch goes on") {
        WatchEvent::Added(object) => ("ADDED", object.key.to_string(), object.revision),
        WatchEvent::Modified(object) => ("MODIFIED", object.key.to_string(), object.revision),
        WatchEvent::Deleted(object) => ("DELETED", object.key.to_string(), object.revision),
        WatchEvent::Bookmark { revision, .. } => ("BOOKMARK", String::new(), revision),
        WatchEvent::Error(status) => panic!("the watch failed: {status}"),
    }
}

#[tokio::test]
async fn an_object_lives_from_creation_to_deletion() {
    let client = admin().await;
    let maps = config_maps();
    let created = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    let tree = created.tree();
    assert_eq!(tree.str_at(&["metadata", "namespace"]), Some("default"));
    assert_eq!(
        tree.str_at(&["metadata", "resourceVersion"]),
        Some(created.revision.to_string().as_str())
    );
    assert_eq!(tree.str_at(&["metadata", "uid"]).map(str::len), Some(36));
    let read = client.get(&maps, "default", "a").await.unwrap();
    assert!(
        Arc::ptr_eq(&created, &read),
        "the answer is the cached object itself"
    );

    let twice = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap_err();
    assert_eq!(
        (twice.reason, twice.message.as_str()),
        (Reason::AlreadyExists, "configmaps \"a\" already exists")
    );

    let patched = client
        .merge_patch(&maps, "default", "a", "", &value!({"data": {"k": "2"}}))
        .await
        .unwrap();
    assert!(patched.revision > created.revision);
    let again = client
        .merge_patch(&maps, "default", "a", "", &value!({"data": {"k": "2"}}))
        .await
        .unwrap();
    assert_eq!(
        again.revision, patched.revision,
        "a change of nothing writes nothing"
    );

    client.delete(&maps, "default", "a", &Value::Null).await.unwrap();
    let gone = client.get(&maps, "default", "a").await.unwrap_err();
    assert_eq!(
        (gone.code, gone.message.as_str()),
        (404, "configmaps \"a\" not found")
    );
}

#[tokio::test]
async fn a_stale_revision_conflicts_and_a_missing_one_does_not() {
    let client = admin().await;
    let maps = config_maps();
    let first = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    client
        .merge_patch(&maps, "default", "a", "", &value!({"data": {"k": "2"}}))
        .await
        .unwrap();
    let put = |tree: &Value| {
        let body = cloudeck_client::Body::json(cloudeck_machinery::json::to_vec(tree));
        client.send(Request::update(&maps, "default", "a", "", body))
    };
    let stale = put(&first.tree()).await.unwrap_err();
    assert_eq!(stale.reason, Reason::Conflict);
    put(&config_map("a", "3")).await.unwrap();
}

#[tokio::test]
async fn a_watch_sees_objects_enter_change_and_leave_its_selection() {
    let client = admin().await;
    let maps = config_maps();
    client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    let params = Params {
        label_selector: "in=yes".into(),
        ..Params::default()
    };
    let mut watch = client
        .watch(Request::watch(&maps, "default").with_params(params))
        .await
        .unwrap();
    let label = |value: &str| value!({"metadata": {"labels": {"in": (value)}}});
    let entered = client
        .merge_patch(&maps, "default", "a", "", &label("yes"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut watch).await,
        ("ADDED", "default/a".into(), entered.revision)
    );
    let changed = client
        .merge_patch(&maps, "default", "a", "", &value!({"data": {"x": "y"}}))
        .await
        .unwrap();
    assert_eq!(
        next(&mut watch).await,
        ("MODIFIED", "default/a".into(), changed.revision)
    );
    let left = client
        .merge_patch(&maps, "default", "a", "", &label("no"))
        .await
        .unwrap();
    assert_eq!(
        next(&mut watch).await,
        ("DELETED", "default/a".into(), left.revision)
    );
}

#[tokio::test]
async fn a_watch_list_ends_its_initial_objects_with_a_bookmark() {
    let client = admin().await;
    let maps = config_maps();
    let created = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    let params = Params {
        send_initial_events: Some(true),
        resource_version_match: "NotOlderThan".into(),
        allow_watch_bookmarks: true,
        ..Params::default()
    };
    let mut watch = client
        .watch(Request::watch(&maps, "default").with_params(params))
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await.0, "ADDED");
    let (kind, _, revision) = next(&mut watch).await;
    assert_eq!(kind, "BOOKMARK");
    assert!(revision >= created.revision);
}

#[tokio::test]
async fn a_watch_resumes_after_its_revision() {
    let client = admin().await;
    let maps = config_maps();
    let first = client
        .create(&maps, "default", &config_map("a", "1"))
        .await
        .unwrap();
    client
        .create(&maps, "default", &config_map("b", "1"))
        .await
        .unwrap();
    client.delete(&maps, "default", "a", &Value::Null).await.unwrap();
    let params = Params {
        resource_version: first.revision.to_string(),
        ..Params::default()
    };
    let mut watch = client
        .watch(Request::watch(&maps, "default").with_params(params))
        .await
        .unwrap();
    assert_eq!(next(&mut watch).await.0, "ADDED");
    let (kind, key, revision) = next(&mut watch).await;
    assert_eq!((kind, key.as_str()), ("DELETED", "default/a"));
    assert!(revision > first.revision, "a deletion carries its own revision");
}

#[tokio::test]
async fn a_chunked_list_shows_one_revision() {
    let client = admin().await;
    let maps = config_maps();
    for name in ["a", "b", "c"] {
        client
            .create(&maps, "default", &config_map(name, "1"))
            .await
            .unwrap();
    }
    let first = Params {
        limit: Some(2),
        ..Params::default()
    };
    let chunk = client.list(&maps, "default", first).await.unwrap();
    assert_eq!((chunk.items.len(), chunk.meta.remaining_item_count), (2, Some(1)));
    client
        .create(&maps, "default", &config_map("d", "1"))
        .await
        .unwrap();
    let rest = Params {
        limit: Some(2),
        continue_token: chunk.meta.continue_token,
        ..Params::default()
    };
    let rest = client.list(&maps, "default", rest).await.unwrap();
    let names: Vec<_> = rest.items.iter().map(|object| object.key.name.as_str()).collect();
    assert_eq!(
        (names.as_slice(), rest.meta.revision),
        (&["c"][..], chunk.meta.revision)
    );
    assert!(rest.meta.continue_token.is_empty());
}

#[tokio::test]
async fn a_stranger_is_refused() {
    let client = server().await.client(LocalIdentity::component("system:nobody"));
    let refused = client.get(&config_maps(), "default", "a").await.unwrap_err();
    assert_eq!(refused.code, 403);
}

#[tokio::test]
async fn a_finalizer_holds_a_deletion_back() {
    let client = admin().await;
    let maps = config_maps();
    let mut held = config_map("a", "1");
    held.set_at(&["metadata", "finalizers"], value!(["example.com/hold"]));
    client.create(&maps, "default", &held).await.unwrap();
    client.delete(&maps, "default", "a", &Value::Null).await.unwrap();
    let marked = client.get(&maps, "default", "a").await.unwrap().tree();
    assert!(marked.str_at(&["metadata", "deletionTimestamp"]).is_some());
    let release = value!({"metadata": {"finalizers": null}});
    client
        .merge_patch(&maps, "default", "a", "", &release)
        .await
        .unwrap();
    assert_eq!(client.get(&maps, "default", "a").await.unwrap_err().code, 404);
}
