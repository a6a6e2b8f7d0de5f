//! A server with controllers, and what tests do to it.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_controllers::{ControllersConfig, Timings};
use cloudeck_machinery::{GroupVersionResource, Object, Status, Value, json, value};
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
        Self::start_with(&Timings::default()).await
    }

    pub(crate) async fn start_with(timings: &Timings) -> Self {
        let server = TestServer::start().await.unwrap();
        let scope = Scope::root("controllers");
        let config = ControllersConfig {
            root_ca_pem: "the certificate".into(),
            cluster_domain: "cluster.local".into(),
        };
        let client = |account: &str| server.client(LocalIdentity::controller(account));
        let controllers = cloudeck_controllers::start_with(config, timings, &client, &scope);
        controllers.ready().await;
        let admin = server.admin();
        let bench = Self { server, admin, scope };
        // Without it no pod is admitted.
        let accounts = GroupVersionResource::new("", "v1", "serviceaccounts");
        let there = |all: &[Value]| {
            all.iter()
                .any(|it| it.str_at(&["metadata", "namespace"]) == Some("default"))
        };
        bench.until(&accounts, "the default service account", there).await;
        bench
    }

    pub(crate) async fn stop(self) {
        let report = self.scope.shutdown(PATIENCE).await;
        assert_eq!(report.forced, Vec::<&str>::new());
        self.server.stop().await;
    }

    /// Creates out of JSON, in the namespace `default` where nothing else is said.
    pub(crate) async fn create(&self, resource: &GroupVersionResource, text: &str) -> Arc<Object> {
        let tree = json::parse(text.as_bytes()).unwrap();
        let own = tree.str_at(&["metadata", "namespace"]);
        let is_global = matches!(
            resource.resource.as_str(),
            "nodes" | "namespaces" | "servicecidrs"
        );
        let namespace = own.unwrap_or(if is_global { "" } else { "default" }).to_owned();
        self.admin.create(resource, &namespace, &tree).await.unwrap()
    }

    pub(crate) async fn get(&self, resource: &GroupVersionResource, name: &str) -> Result<Value, Status> {
        let object = self.admin.get(resource, "default", name).await?;
        Ok(object.tree())
    }

    /// A merge patch in the namespace `default`.
    pub(crate) async fn patch(
        &self,
        resource: &GroupVersionResource,
        name: &str,
        subresource: &str,
        text: &str,
    ) {
        let patch = json::parse(text.as_bytes()).unwrap();
        let outcome = self
            .admin
            .merge_patch(resource, "default", name, subresource, &patch)
            .await;
        outcome.unwrap();
    }

    pub(crate) async fn delete(&self, resource: &GroupVersionResource, name: &str, options: &Value) {
        self.admin
            .delete(resource, "default", name, options)
            .await
            .unwrap();
    }

    /// Waits until the objects of the resource are as asked for, and answers with them.
    pub(crate) async fn until(
        &self,
        resource: &GroupVersionResource,
        what: &str,
        holds: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let scope = self.scope.child("wait");
        let config = InformerConfig {
            resource: resource.clone(),
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        };
        let informer = Informer::start(&scope, self.admin.clone(), config);
        let mut changes = informer.subscribe();
        informer.synced().await;
        let mut last = Vec::new();
        let wait = async {
            loop {
                last = informer.list().iter().map(|object| object.tree()).collect();
                if holds(&last) {
                    return;
                }
                changes.next().await;
            }
        };
        let outcome = tokio::time::timeout(PATIENCE, wait).await;
        scope.shutdown(PATIENCE).await;
        assert!(
            outcome.is_ok(),
            "{resource}: {what} did not come; there is {last:#?}"
        );
        last
    }

    /// Waits until one object is as asked for, and answers with it.
    pub(crate) async fn until_one(
        &self,
        resource: &GroupVersionResource,
        name: &str,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Value {
        let named = |tree: &Value| tree.str_at(&["metadata", "name"]) == Some(name);
        let all = self
            .until(resource, what, |all| {
                all.iter().any(|tree| named(tree) && holds(tree))
            })
            .await;
        all.into_iter().find(named).unwrap()
    }

    /// Says what a node's agent says of a running pod.
    pub(crate) async fn make_ready(&self, pod: &Value) {
        self.report(pod, "True").await;
    }

    /// The same for a pod that may be gone meanwhile.
    pub(crate) async fn make_ready_if_there(&self, pod: &Value) {
        match self.try_report(pod, "True").await {
            Err(status) if status.code == 404 => {}
            outcome => drop(outcome.unwrap()),
        }
    }

    pub(crate) async fn report(&self, pod: &Value, ready: &str) {
        self.try_report(pod, ready).await.unwrap();
    }

    async fn try_report(&self, pod: &Value, ready: &str) -> Result<Arc<Object>, Status> {
        let name = pod.str_at(&["metadata", "name"]).unwrap();
        let number = 1 + name
            .bytes()
            .fold(0_u32, |sum, byte| (sum * 31 + u32::from(byte)) % 60_000);
        let address = format!("10.1.{}.{}", number / 250, 1 + number % 250);
        let status = value!({"status": {
            "phase": "Running", "podIP": (address.as_str()), "podIPs": [{"ip": (address.as_str())}],
            "conditions": [{"type": "Ready", "status": (ready), "lastTransitionTime": "2020-01-01T00:00:00Z"}]
        }});
        self.admin
            .merge_patch(&pods(), "default", name, "status", &status)
            .await
    }
}

macro_rules! resources {
    ($($name:ident => $group:literal $version:literal $plural:literal),* $(,)?) => {
        $(
            pub(crate) fn $name() -> GroupVersionResource {
                GroupVersionResource::new($group, $version, $plural)
            }
        )*
    };
}

resources! {
    pods => "" "v1" "pods",
    namespaces => "" "v1" "namespaces",
    config_maps => "" "v1" "configmaps",
    service_accounts => "" "v1" "serviceaccounts",
    cluster_roles => "rbac.authorization.k8s.io" "v1" "clusterroles",
    events => "" "v1" "events",
    services => "" "v1" "services",
    endpoints => "" "v1" "endpoints",
    nodes => "" "v1" "nodes",
    endpoint_slices => "discovery.k8s.io" "v1" "endpointslices",
    replica_sets => "apps" "v1" "replicasets",
    deployments => "apps" "v1" "deployments",
}

pub(crate) fn node(name: &str) -> String {
    format!(r#"{{"apiVersion":"v1","kind":"Node","metadata":{{"name":"{name}"}}}}"#)
}

pub(crate) fn is_deleting(tree: &Value) -> bool {
    tree.at(&["metadata", "deletionTimestamp"]).is_some()
}

/// How many pods are not being deleted.
pub(crate) fn active(pods: &[Value]) -> usize {
    pods.iter().filter(|pod| !is_deleting(pod)).count()
}
