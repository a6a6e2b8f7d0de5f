//! The server in-process, on the memory store.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Params, Request, WatchEvent, WatchStream};
use cloudeck_engine::{HistoryPolicy, MemoryOptions, MemoryStore};
use cloudeck_machinery::{GroupVersionResource, Reason, Value, value};
use cloudeck_pki::TokenKey;
use cloudeck_task::Scope;
use futures_util::StreamExt as _;

use super::Server;
use crate::config::Config;

mod certificates;
mod contention;
mod eviction;
mod interrupted;
mod ownership;
mod quotas;
mod ranges;
mod refusals;
mod stored;

pub(crate) async fn server() -> Server {
    server_with(MemoryOptions::default()).await
}

async fn server_with(options: MemoryOptions) -> Server {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(options, &scope));
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

/// More changes than the cache keeps for its watchers.
const MANY: usize = 4_500;

async fn change_often(client: &Client) {
    for count in 0..MANY {
        let patch = value!({"data": {"k": (count.to_string())}});
        client
            .merge_patch(&config_maps(), "default", "a", "", &patch)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_watch_from_before_the_cache_replays_history_and_goes_live() {
    let client = admin().await;
    let maps = config_maps();
    let first = client
        .create(&maps, "default", &config_map("a", "x"))
        .await
        .unwrap();
    change_often(&client).await;
    let params = Params {
        resource_version: first.revision.to_string(),
        ..Params::default()
    };
    let mut watch = client
        .watch(Request::watch(&maps, "default").with_params(params))
        .await
        .unwrap();
    let mut last = first.revision;
    for _ in 0..MANY {
        let (kind, _, revision) = next(&mut watch).await;
        assert_eq!(kind, "MODIFIED");
        assert!(revision > last, "{revision} after {last}");
        last = revision;
    }
    client.delete(&maps, "default", "a", &Value::Null).await.unwrap();
    assert_eq!(next(&mut watch).await.0, "DELETED");
}

#[tokio::test]
async fn a_watch_resumed_after_a_restart_goes_live_at_once() {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
    let start = || {
        let key = Arc::new(TokenKey::generate().unwrap());
        let config = Config::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 6443, key);
        Server::start(
            config,
            Arc::clone(&store) as Arc<dyn cloudeck_engine::Store>,
            &scope,
        )
    };
    let before = start().await.unwrap().client(LocalIdentity::api_server());
    let maps = config_maps();
    let first = before
        .create(&maps, "default", &config_map("a", "x"))
        .await
        .unwrap();
    let namespace = value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    let namespaces = GroupVersionResource::new("", "v1", "namespaces");
    let last = before.create(&namespaces, "", &namespace).await.unwrap();
    let after = start().await.unwrap().client(LocalIdentity::api_server());
    let params = Params {
        resource_version: first.revision.to_string(),
        allow_watch_bookmarks: true,
        timeout_seconds: Some(1),
        ..Params::default()
    };
    let mut watch = after
        .watch(Request::watch(&maps, "default").with_params(params))
        .await
        .unwrap();
    // Its last word at the end of its time.
    assert_eq!(next(&mut watch).await, ("BOOKMARK", String::new(), last.revision));
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn a_watch_from_before_history_is_410() {
    let history = HistoryPolicy {
        max_revisions: 10,
        ..HistoryPolicy::default()
    };
    let client = server_with(MemoryOptions {
        history,
        ..MemoryOptions::default()
    })
    .await
    .client(LocalIdentity::api_server());
    let maps = config_maps();
    let first = client
        .create(&maps, "default", &config_map("a", "x"))
        .await
        .unwrap();
    change_often(&client).await;
    let params = Params {
        resource_version: first.revision.to_string(),
        ..Params::default()
    };
    let refused = client
        .watch(Request::watch(&maps, "default").with_params(params))
        .await;
    let status = refused.err().expect("that revision is gone");
    assert_eq!((status.code, status.reason), (410, Reason::Expired));
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off_and_holds_nobody_up() {
    let client = admin().await;
    let maps = config_maps();
    client
        .create(&maps, "default", &config_map("a", "x"))
        .await
        .unwrap();
    let mut watch = client.watch(Request::watch(&maps, "default")).await.unwrap();
    assert_eq!(next(&mut watch).await.0, "ADDED");
    change_often(&client).await;
    let Some(WatchEvent::Error(status)) = watch.next().await else {
        panic!("a watcher that far behind is cut off");
    };
    assert_eq!(status.code, 410);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn apply_creates_with_one_manager_and_conflicts_with_another() {
    let client = admin().await;
    let maps = config_maps();
    let mut mine = config_map("a", "mine");
    mine.set_at(&["metadata", "namespace"], "default");
    let created = client.apply(&maps, "me", "", &mine).await.unwrap().tree();
    let managers = created.items_at(&["metadata", "managedFields"]);
    assert_eq!(managers.len(), 1, "{created}");
    assert_eq!(managers[0].str_at(&["operation"]), Some("Apply"));
    let again = client.apply(&maps, "me", "", &mine).await.unwrap();
    assert_eq!(again.tree(), created, "applying the same again changes nothing");
    let body = cloudeck_client::Body {
        content_type: cloudeck_client::ContentType::ApplyPatch,
        bytes: cloudeck_machinery::json::to_vec(&config_map("a", "other")).into(),
    };
    let mut request = Request::patch(&maps, "default", "a", "", body);
    request.params.field_manager = "other".into();
    let conflict = client.send(request).await.unwrap_err();
    assert_eq!(
        conflict.message,
        "Apply failed with 1 conflict: conflict with \"me\": .data.k"
    );
}

#[tokio::test]
async fn a_dry_run_answers_and_writes_nothing() {
    let client = admin().await;
    let maps = config_maps();
    let body = cloudeck_client::Body::json(cloudeck_machinery::json::to_vec(&config_map("a", "1")));
    let params = Params {
        dry_run: vec!["All".into()],
        ..Params::default()
    };
    let request = Request::create(&maps, "default", body).with_params(params);
    let answer = client.send(request).await.unwrap().into_object().unwrap();
    assert_eq!(answer.key.name, "a");
    assert_eq!(client.get(&maps, "default", "a").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn a_generated_name_is_drawn_by_the_server() {
    let client = admin().await;
    let object = value!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"generateName": "g-"}});
    let created = client.create(&config_maps(), "default", &object).await.unwrap();
    assert!(
        created.key.name.starts_with("g-") && created.key.name.len() == 7,
        "{}",
        created.key
    );
}

#[tokio::test]
async fn an_event_is_one_object_under_two_groups() {
    let client = admin().await;
    let core = GroupVersionResource::new("", "v1", "events");
    let named = GroupVersionResource::new("events.k8s.io", "v1", "events");
    let event = value!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "default"},
        "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"}, "reason": "R", "message": "m",
        "type": "Normal", "source": {"component": "test"}
    });
    client.create(&core, "default", &event).await.unwrap();
    let other = client.get(&named, "default", "e").await.unwrap().tree();
    assert_eq!(other.str_at(&["apiVersion"]), Some("events.k8s.io/v1"));
    assert_eq!(
        (other.str_at(&["note"]), other.str_at(&["regarding", "name"])),
        (Some("m"), Some("p"))
    );
}

#[tokio::test]
async fn a_deployment_counts_its_generations_and_its_status_is_its_own() {
    let client = admin().await;
    let deployments = GroupVersionResource::new("apps", "v1", "deployments");
    let tree = value!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "status": {"replicas": 9},
        "spec": {
            "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        }
    });
    let created = client
        .create(&deployments, "default", &tree)
        .await
        .unwrap()
        .tree();
    assert_eq!(created.int_at(&["metadata", "generation"]), Some(1));
    assert_eq!(created.int_at(&["status", "replicas"]), None);
    let status = value!({"status": {"replicas": 2, "observedGeneration": 1}, "spec": {"replicas": 7}});
    let stated = client
        .merge_patch(&deployments, "default", "d", "status", &status)
        .await
        .unwrap()
        .tree();
    assert_eq!(stated.int_at(&["status", "replicas"]), Some(2));
    assert_eq!(
        stated.int_at(&["spec", "replicas"]),
        created.int_at(&["spec", "replicas"])
    );
    assert_eq!(stated.int_at(&["metadata", "generation"]), Some(1));
    let scale = value!({"spec": {"replicas": 5}});
    let body = cloudeck_client::Body {
        content_type: cloudeck_client::ContentType::MergePatch,
        bytes: cloudeck_machinery::json::to_vec(&scale).into(),
    };
    client
        .send(Request::patch(&deployments, "default", "d", "scale", body))
        .await
        .unwrap();
    let scaled = client.get(&deployments, "default", "d").await.unwrap().tree();
    assert_eq!(
        (
            scaled.int_at(&["spec", "replicas"]),
            scaled.int_at(&["metadata", "generation"])
        ),
        (Some(5), Some(2))
    );
}

#[tokio::test]
async fn a_namespace_waits_for_its_finalizer() {
    let client = admin().await;
    let namespaces = GroupVersionResource::new("", "v1", "namespaces");
    let tree = value!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    client.create(&namespaces, "", &tree).await.unwrap();
    client.delete(&namespaces, "", "n", &Value::Null).await.unwrap();
    let mut ending = client.get(&namespaces, "", "n").await.unwrap().tree();
    assert_eq!(ending.str_at(&["status", "phase"]), Some("Terminating"));
    let refused = client
        .create(&config_maps(), "n", &config_map("late", "1"))
        .await
        .unwrap_err();
    assert_eq!(refused.code, 403);
    ending.set_at(&["spec", "finalizers"], value!([]));
    let body = cloudeck_client::Body::json(cloudeck_machinery::json::to_vec(&ending));
    client
        .send(Request::update(&namespaces, "", "n", "finalize", body))
        .await
        .unwrap();
    assert_eq!(client.get(&namespaces, "", "n").await.unwrap_err().code, 404);
}

#[tokio::test]
async fn an_exact_read_sees_the_past_until_the_api_horizon_passes_it() {
    let server = server().await;
    let client = server.client(LocalIdentity::api_server());
    let maps = config_maps();
    let first = client
        .create(&maps, "default", &config_map("a", "old"))
        .await
        .unwrap();
    client
        .merge_patch(&maps, "default", "a", "", &value!({"data": {"k": "new"}}))
        .await
        .unwrap();
    let exact = Params {
        resource_version: first.revision.to_string(),
        resource_version_match: "Exact".into(),
        ..Params::default()
    };
    let past = client.list(&maps, "default", exact.clone()).await.unwrap();
    assert_eq!(past.meta.revision, first.revision);
    assert_eq!(past.items[0].tree().str_at(&["data", "k"]), Some("old"));
    server
        .core
        .store
        .compact(server.core.store.revision())
        .await
        .unwrap();
    let gone = client.list(&maps, "default", exact).await.unwrap_err();
    assert_eq!((gone.code, gone.reason), (410, Reason::Expired));
}

#[tokio::test]
async fn parameters_that_contradict_each_other_are_refused() {
    let client = admin().await;
    let check = async |params: Params, watch: bool, message: &str| {
        let answer = if watch {
            client
                .watch(Request::watch(&config_maps(), "default").with_params(params))
                .await
                .err()
        } else {
            client.list(&config_maps(), "default", params).await.err()
        };
        assert_eq!(answer.map(|status| status.message).as_deref(), Some(message));
    };
    let initial = Params {
        send_initial_events: Some(true),
        ..Params::default()
    };
    let want = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
    check(initial.clone(), true, want).await;
    let want = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list";
    check(initial, false, want).await;
    let matching = Params {
        resource_version_match: "Exact".into(),
        ..Params::default()
    };
    let want = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided";
    check(matching, false, want).await;
}

#[tokio::test]
async fn services_created_at_once_share_nothing_and_a_restart_forgets_nothing() {
    let scope = Scope::root("test");
    let store = Arc::new(MemoryStore::new(MemoryOptions::default(), &scope));
    let start = || {
        let key = Arc::new(TokenKey::generate().unwrap());
        let config = Config::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 6443, key);
        Server::start(
            config,
            Arc::clone(&store) as Arc<dyn cloudeck_engine::Store>,
            &scope,
        )
    };
    let services = GroupVersionResource::new("", "v1", "services");
    let service = |name: &str, port: i64| {
        let mut port_of = value!({"port": 80});
        if port != 0 {
            port_of.set_at(&["nodePort"], port);
        }
        value!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": (name)}, "spec": {
            "type": "NodePort", "ports": [(port_of)]
        }})
    };
    let client = start().await.unwrap().client(LocalIdentity::api_server());
    let names: Vec<String> = (0..40).map(|at| format!("s{at}")).collect();
    let made = names.iter().map(|name| {
        let (client, services, tree) = (client.clone(), services.clone(), service(name, 0));
        async move { client.create(&services, "default", &tree).await }
    });
    let made = futures_util::future::try_join_all(made).await.unwrap();
    let mut given: Vec<(String, i64)> = made
        .iter()
        .map(|object| {
            let tree = object.tree();
            let port = tree.items_at(&["spec", "ports"])[0]
                .int_at(&["nodePort"])
                .unwrap();
            (tree.str_at(&["spec", "clusterIP"]).unwrap().to_owned(), port)
        })
        .collect();
    let taken = given[0].1;
    given.sort();
    given.dedup_by(|a, b| a.0 == b.0);
    given.sort_by_key(|(_, port)| *port);
    given.dedup_by(|a, b| a.1 == b.1);
    assert_eq!(given.len(), 40);
    let client = start().await.unwrap().client(LocalIdentity::api_server());
    let refused = client
        .create(&services, "default", &service("late", taken))
        .await
        .unwrap_err();
    assert!(
        refused.message.ends_with("provided port is already allocated"),
        "{}",
        refused.message
    );
}
