//! A server with a scheduler, and what tests do to it.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_machinery::{GroupVersionResource, Object, Value, json, value};
use cloudeck_task::Scope;
use cloudeck_testkit::TestServer;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    pub(crate) server: TestServer,
    pub(crate) admin: Client,
    scope: Scope,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        let server = TestServer::start().await.unwrap();
        let scope = Scope::root("scheduler");
        let client = server.client(LocalIdentity::component("system:kube-scheduler"));
        cloudeck_scheduler::start(client, &scope).ready().await;
        let admin = server.admin();
        let bench = Self { server, admin, scope };
        // Without it no pod is admitted, and no controller runs that would make it.
        bench
            .create(
                "v1",
                "serviceaccounts",
                value!({"kind": "ServiceAccount", "metadata": {"name": "default"}}),
            )
            .await;
        bench
    }

    pub(crate) async fn stop(self) {
        let report = self.scope.shutdown(PATIENCE).await;
        assert_eq!(report.forced, Vec::<&str>::new());
        self.server.stop().await;
    }

    /// Creates an object in the namespace `default`, or in none.
    pub(crate) async fn create(&self, api_version: &str, plural: &str, mut tree: Value) -> Arc<Object> {
        tree.set_at(&["apiVersion"], api_version);
        let is_global = matches!(plural, "nodes" | "priorityclasses" | "namespaces");
        let namespace = if is_global { "" } else { "default" };
        let resource = resource(api_version, plural);
        self.admin.create(&resource, namespace, &tree).await.unwrap()
    }

    /// A node that is ready for `cpu` cores' worth of pods.
    pub(crate) async fn node(&self, name: &str, cpu: &str) {
        let node = value!({"kind": "Node", "metadata": {"name": (name), "labels": {"kubernetes.io/hostname": (name)}}});
        self.create("v1", "nodes", node).await;
        let room = value!({"cpu": (cpu), "memory": "8Gi", "pods": "20"});
        let nodes = resource("v1", "nodes");
        let status = value!({"status": {"capacity": (room.clone()), "allocatable": (room)}});
        self.admin
            .merge_patch(&nodes, "", name, "status", &status)
            .await
            .unwrap();
        // What the node controller takes away when the node is ready.
        let clean = value!({"spec": {"taints": null}});
        self.admin
            .merge_patch(&nodes, "", name, "", &clean)
            .await
            .unwrap();
    }

    /// A pod; `more` are further members of its spec as JSON.
    pub(crate) async fn pod(&self, name: &str, cpu: &str, more: &str) {
        let text = format!(
            r#"{{"kind":"Pod","metadata":{{"name":"{name}","labels":{{"app":"web"}}}},"spec":{{"containers":[
                {{"name":"c","image":"i","resources":{{"requests":{{"cpu":"{cpu}"}}}}}}]{more}}}}}"#
        );
        self.create("v1", "pods", json::parse(text.as_bytes()).unwrap())
            .await;
    }

    pub(crate) async fn end(&self, name: &str) {
        let options = value!({"gracePeriodSeconds": 0});
        self.admin
            .delete(&resource("v1", "pods"), "default", name, &options)
            .await
            .unwrap();
    }

    pub(crate) async fn until_bound(&self, name: &str, node: &str) {
        let bound = |pod: &Value| pod.str_at(&["spec", "nodeName"]) == Some(node);
        self.until("v1", "pods", name, "its node", bound).await;
    }

    /// Waits until the pod is told that it has no node, and answers with the message.
    pub(crate) async fn until_refused(&self, name: &str) -> String {
        let refused = |pod: &Value| condition(pod, "PodScheduled").is_some();
        let pod = self.until("v1", "pods", name, "its condition", refused).await;
        let condition = condition(&pod, "PodScheduled").unwrap();
        assert_eq!(condition.str_at(&["reason"]), Some("Unschedulable"));
        condition.str_at(&["message"]).unwrap().to_owned()
    }

    /// Waits until an object, meant by the start of its name, is as asked for, and answers with it.
    pub(crate) async fn until(
        &self,
        api_version: &str,
        plural: &str,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let scope = self.scope.child("wait");
        let config = InformerConfig {
            resource: resource(api_version, plural),
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        };
        let informer = Informer::start(&scope, self.admin.clone(), config);
        let mut changes = informer.subscribe();
        let mut last = Vec::new();
        let wait = async {
            loop {
                let all = informer.list();
                let meant = all.iter().filter(|object| object.key.name.starts_with(name));
                last = meant.map(|object| object.tree()).collect();
                if let Some(found) = last.iter().find(|tree| holds(tree)) {
                    return found.clone();
                }
                changes.next().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, wait).await;
        scope.shutdown(PATIENCE).await;
        outcome.unwrap_or_else(|_| panic!("{name}: {what} did not come; there is {last:#?}"))
    }
}

pub(crate) fn condition(pod: &Value, kind: &str) -> Option<Value> {
    let mut conditions = pod.items_at(&["status", "conditions"]).iter();
    conditions.find(|c| c.str_at(&["type"]) == Some(kind)).cloned()
}

fn resource(api_version: &str, plural: &str) -> GroupVersionResource {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    GroupVersionResource::new(group, version, plural)
}
