//! A server with the controllers, and what tests do to it.

use std::time::Duration;

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_lifecycle::LifecycleConfig;
use cloudeck_machinery::{GroupVersionResource, Reason, Value, value};
use cloudeck_task::Scope;
use cloudeck_testkit::TestServer;

/// Longer than anything here takes; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Bench {
    server: TestServer,
    pub(crate) admin: Client,
    scope: Scope,
}

impl Bench {
    pub(crate) async fn start() -> Self {
        Self::start_with(LifecycleConfig::default()).await
    }

    pub(crate) async fn start_with(config: LifecycleConfig) -> Self {
        let server = TestServer::start().await.unwrap();
        let scope = Scope::root("lifecycle");
        let client = |account: &str| server.client(LocalIdentity::controller(account));
        let lifecycle = cloudeck_lifecycle::start(config, &client, &scope);
        lifecycle.ready().await;
        let admin = server.admin();
        let bench = Self { server, admin, scope };
        // Without it no pod is admitted.
        bench
            .create(&core("serviceaccounts"), "default", "default", value!({}))
            .await;
        bench
    }

    pub(crate) async fn stop(self) {
        let report = self.scope.shutdown(PATIENCE).await;
        assert_eq!(report.forced, Vec::<&str>::new());
        self.server.stop().await;
    }

    /// Creates an object; `rest` is all but its name and type. Answers with it.
    pub(crate) async fn create(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        rest: Value,
    ) -> Value {
        let info = cloudeck_schema::resource(&resource.group, &resource.version, &resource.resource).unwrap();
        let mut tree = rest;
        tree.set_at(&["apiVersion"], info.api_version());
        tree.set_at(&["kind"], info.kind);
        tree.set_at(&["metadata", "name"], name);
        self.admin
            .create(resource, namespace, &tree)
            .await
            .unwrap()
            .tree()
    }

    pub(crate) async fn patch(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        subresource: &str,
        patch: Value,
    ) {
        self.admin
            .merge_patch(resource, namespace, name, subresource, &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn delete(
        &self,
        resource: &GroupVersionResource,
        namespace: &str,
        name: &str,
        options: Value,
    ) {
        self.admin
            .delete(resource, namespace, name, &options)
            .await
            .unwrap();
    }

    pub(crate) async fn exists(&self, resource: &GroupVersionResource, namespace: &str, name: &str) -> bool {
        match self.admin.get(resource, namespace, name).await {
            Ok(_) => true,
            Err(status) if status.reason == Reason::NotFound => false,
            Err(status) => panic!("{status}"),
        }
    }

    /// Waits until the objects of the resource are as asked for, and answers with them.
    pub(crate) async fn until(
        &self,
        resource: &GroupVersionResource,
        what: &str,
        holds: impl Fn(&[Value]) -> bool,
    ) -> Vec<Value> {
        let scope = self.scope.child("wait");
        let config = InformerConfig::all(&resource.group, &resource.version, &resource.resource);
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
        let wanted = |tree: &Value| named(tree, name) && holds(tree);
        let all = self.until(resource, what, |all| all.iter().any(wanted)).await;
        all.into_iter().find(|tree| named(tree, name)).unwrap()
    }

    pub(crate) async fn until_gone(&self, resource: &GroupVersionResource, name: &str) {
        self.until(resource, "its absence", |all| {
            !all.iter().any(|tree| named(tree, name))
        })
        .await;
    }
}

pub(crate) fn named(tree: &Value, name: &str) -> bool {
    tree.str_at(&["metadata", "name"]) == Some(name)
}

pub(crate) fn uid(tree: &Value) -> &str {
    tree.str_at(&["metadata", "uid"]).unwrap()
}

/// A resource of the core group.
pub(crate) fn core(plural: &str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", plural)
}

/// A condition's status and reason.
pub(crate) fn condition<'a>(tree: &'a Value, kind: &str) -> Option<(&'a str, &'a str)> {
    let conditions = tree.items_at(&["status", "conditions"]);
    let found = conditions.iter().find(|it| it.str_at(&["type"]) == Some(kind))?;
    Some((
        found.str_at(&["status"])?,
        found.str_at(&["reason"]).unwrap_or_default(),
    ))
}
