//! The crate `kube` as a client that knows nothing of us.

use cloudeck_e2e::Cluster;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, AttachParams, DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use crate::manifests::IDLE;

/// Where the API is, from the administrator's kubeconfig.
pub(crate) fn server(cluster: &Cluster) -> String {
    let text = std::fs::read_to_string(cluster.kubeconfig()).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.trim().trim_start_matches("- ").strip_prefix("server: "))
        .unwrap();
    line.trim_matches('"').to_owned()
}

/// The status code that a request without credentials gets.
pub(crate) fn anonymous_status(cluster: &Cluster, server: &str, path: &str) -> u16 {
    on_machine(cluster, async {
        let mut config = Config::new(server.parse().unwrap());
        config.accept_invalid_certs = true;
        let client = Client::try_from(config).unwrap();
        let request = http::Request::get(path)
            .body(kube::client::Body::empty())
            .unwrap();
        client.send(request).await.unwrap().status().as_u16()
    })
}

/// Runs a future with its sockets in the machine's network.
fn on_machine<T: Send>(cluster: &Cluster, future: impl Future<Output = T> + Send) -> T {
    // Boxed: it is larger than the stacks it would be passed through.
    let future = Box::pin(future);
    let block = || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(future)
    };
    // A thread is born into its parent's network; this one also has the stack that unoptimised code wants.
    let on_large_stack = || {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new()
                .stack_size(16 << 20)
                .spawn_scoped(scope, block)
                .unwrap();
            thread.join().unwrap()
        })
    };
    cluster.machine().network().run(on_large_stack).unwrap()
}

async fn administrator(cluster: &Cluster) -> Client {
    let file = Kubeconfig::read_from(cluster.kubeconfig()).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .unwrap();
    Client::try_from(config).unwrap()
}

#[test]
fn kube_creates_watches_patches_applies_and_enters() {
    let cluster = Cluster::start();
    on_machine(&cluster, async {
        let client = administrator(&cluster).await;
        let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let map = serde_json::from_value(json!({"metadata": {"name": "x"}, "data": {"a": "1"}})).unwrap();
        let created = maps.create(&PostParams::default(), &map).await.unwrap();
        let since = created.metadata.resource_version.unwrap();
        let mut changes = maps
            .watch(&WatchParams::default().fields("metadata.name=x"), &since)
            .await
            .unwrap()
            .boxed();
        let patch = Patch::Merge(json!({"data": {"a": "2"}}));
        maps.patch("x", &PatchParams::default(), &patch).await.unwrap();
        let Some(WatchEvent::Modified(seen)) = changes.try_next().await.unwrap() else {
            panic!("no change")
        };
        assert_eq!(seen.data.unwrap()["a"], "2");
        let apply = Patch::Apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"b": "3"}}));
        let applied = maps
            .patch("x", &PatchParams::apply("tests"), &apply)
            .await
            .unwrap();
        assert_eq!(applied.data.unwrap().len(), 2);
        maps.delete("x", &DeleteParams::default()).await.unwrap();

        let pods: Api<Pod> = Api::default_namespaced(client);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "p", "image": "example.test/busybox:1", "command": ["/bin/sh", "-c", IDLE]}]}});
        pods.create(&PostParams::default(), &serde_json::from_value(pod).unwrap())
            .await
            .unwrap();
        let running = kube::runtime::wait::await_condition(
            pods.clone(),
            "p",
            kube::runtime::conditions::is_pod_running(),
        );
        tokio::time::timeout(cloudeck_e2e::PATIENCE, running)
            .await
            .unwrap()
            .unwrap();
        let mut process = pods
            .exec("p", ["echo", "in"], &AttachParams::default().stderr(false))
            .await
            .unwrap();
        let mut text = String::new();
        let mut stdout = process.stdout().unwrap();
        tokio::io::AsyncReadExt::read_to_string(&mut stdout, &mut text)
            .await
            .unwrap();
        assert_eq!(text, "in\n");
        process.join().await.unwrap();
    });
}
