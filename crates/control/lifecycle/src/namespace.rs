//! The end of namespaces: deletes their content, then takes the finalizer `kubernetes` off.
//!
//! State: namespaces that are being deleted, until they are gone. Pods go first, the rest once none is left. What
//! remains (graceful pods, finalizers) is told in the conditions, and the namespace is looked at again when something
//! in it changes. It does not refuse creations in such a namespace: admission does.
//!
//! Source: `pkg/controller/namespace/deletion`. Deviation: upstream waits for an estimate of the pods' grace and looks
//! again.

mod conditions;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_client::{Body, Change, Client, Informer, Params, Request, Verb};
use cloudeck_controller::{Requeue, WorkQueue};
use cloudeck_machinery::{GroupVersionResource, Object, ObjectKey, Reason, Status, Value, json, value};
use cloudeck_task::Scope;

use crate::caches::{self, Cache, Caches};
use crate::clock::Clock;
use crate::kinds;
use crate::write;
use conditions::Findings;

const FINALIZER: &str = "kubernetes";
const WORKERS: usize = 4;

#[derive(Clone)]
pub(crate) struct Namespaces {
    client: Client,
    namespaces: Informer,
    caches: Caches,
    clock: Clock,
    /// Namespaces that are being deleted.
    ending: Arc<Mutex<HashSet<String>>>,
    queue: WorkQueue<ObjectKey>,
}

impl Namespaces {
    pub(crate) fn new(client: Client, caches: &Caches, clock: Clock) -> Self {
        Self {
            client,
            namespaces: caches.informer(&kinds::namespaces()),
            caches: caches.clone(),
            clock,
            ending: Arc::default(),
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let this = self.clone();
        caches::follow(scope, "ending namespaces", &self.namespaces, move |change| {
            this.namespace_changed(&change);
        });
        for cache in self.caches.iter().filter(|cache| cache.kind.namespaced) {
            let this = self.clone();
            caches::follow(
                scope,
                "content of ending namespaces",
                &cache.informer,
                move |change| {
                    this.content_changed(&change);
                },
            );
        }
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "namespace-controller", WORKERS, queue, move |key| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&key).await }
        });
    }

    fn namespace_changed(&self, change: &Change) {
        let name = change.key.name.as_str();
        let is_ending = |it: &Object| it.tree().at(&["metadata", "deletionTimestamp"]).is_some();
        if change.new.as_deref().is_some_and(is_ending) {
            self.ending().insert(name.to_owned());
            self.queue.add(change.key.clone());
        } else {
            self.ending().remove(name);
        }
    }

    /// Something is gone, has lost a finalizer, or slipped in: either way there is something to do.
    fn content_changed(&self, change: &Change) {
        let namespace = change.key.namespace.as_str();
        if self.ending().contains(namespace) {
            self.queue.add(ObjectKey::new("", namespace));
        }
    }

    async fn reconcile(&self, key: &ObjectKey) -> Result<Requeue, Status> {
        let object = match self.client.get(&kinds::namespaces(), "", &key.name).await {
            Err(status) if status.reason == Reason::NotFound => return Ok(Requeue::OnChange),
            outcome => outcome?,
        };
        let mut namespace = object.tree();
        let held = |tree: &Value| {
            let mut finalizers = tree.items_at(&["spec", "finalizers"]).iter();
            finalizers.any(|it| it.as_str() == Some(FINALIZER))
        };
        if namespace.at(&["metadata", "deletionTimestamp"]).is_none() || !held(&namespace) {
            return Ok(Requeue::OnChange);
        }
        if namespace.str_at(&["status", "phase"]) != Some("Terminating") {
            namespace.set_at(&["status", "phase"], "Terminating");
            namespace = self.update(&namespace, "status").await?;
        }
        let findings = self.delete_content(&key.name).await;
        let now = (self.clock)().timestamp();
        let present = namespace.items_at(&["status", "conditions"]);
        if let Some(conditions) = conditions::updated(present, &findings, &now) {
            namespace.set_at(&["status", "conditions"], conditions);
            namespace = self.update(&namespace, "status").await?;
        }
        if findings.is_empty() {
            let finalizers = namespace.items_at(&["spec", "finalizers"]).iter();
            let others: Vec<_> = finalizers
                .filter(|it| it.as_str() != Some(FINALIZER))
                .cloned()
                .collect();
            namespace.set_at(&["spec", "finalizers"], others);
            let outcome = self.update(&namespace, "finalize").await;
            write::absent_is_fine(outcome.map(drop))?;
        }
        match findings.failures.first() {
            Some(failure) => Err(Status::internal(failure)),
            None => Ok(Requeue::OnChange),
        }
    }

    /// Deletes what can be deleted now and tells what is left: pods first, the rest once none is left.
    async fn delete_content(&self, namespace: &str) -> Findings {
        let mut findings = Findings::default();
        let is_pods = |cache: &&Cache| cache.resource == kinds::pods();
        for cache in self.caches.iter().filter(is_pods) {
            self.delete_kind(cache, namespace, &mut findings).await;
        }
        if findings.is_empty() {
            for cache in self
                .caches
                .iter()
                .filter(|cache| cache.kind.namespaced && !is_pods(cache))
            {
                self.delete_kind(cache, namespace, &mut findings).await;
            }
        }
        findings
    }

    async fn delete_kind(&self, cache: &Cache, namespace: &str, findings: &mut Findings) {
        match self.try_delete_kind(cache, namespace).await {
            Ok(left) => findings.note(&cache.resource, &left),
            Err(status) => findings.failures.push(status.to_string()),
        }
    }

    /// Deletes the objects of a kind that are not being deleted yet; answers with what is left.
    async fn try_delete_kind(&self, cache: &Cache, namespace: &str) -> Result<Vec<Value>, Status> {
        let (resource, background) = (&cache.resource, value!({"propagationPolicy": "Background"}));
        let living = |it: &Value| it.at(&["metadata", "deletionTimestamp"]).is_none();
        let present = self.list(resource, namespace).await?;
        if !present.iter().any(living) {
            return Ok(present);
        }
        if cache.kind.has_verb("deletecollection") {
            let mut request = Request::new(Verb::DeleteCollection, resource, namespace, "");
            request.body = Body::json(json::to_vec(&background));
            self.client.send(request).await?;
        } else {
            for object in present.iter().filter(|it| living(it)) {
                let name = object.str_at(&["metadata", "name"]).unwrap_or_default();
                write::delete(
                    &self.client,
                    resource,
                    &ObjectKey::new(namespace, name),
                    &background,
                )
                .await?;
            }
        }
        self.list(resource, namespace).await
    }

    async fn list(&self, resource: &GroupVersionResource, namespace: &str) -> Result<Vec<Value>, Status> {
        let list = self.client.list(resource, namespace, Params::default()).await?;
        Ok(list.items.iter().map(|object| object.tree()).collect())
    }

    async fn update(&self, namespace: &Value, subresource: &str) -> Result<Value, Status> {
        let name = namespace.str_at(&["metadata", "name"]).unwrap_or_default();
        let body = Body::json(json::to_vec(namespace));
        let request = Request::update(&kinds::namespaces(), "", name, subresource, body);
        Ok(self.client.send(request).await?.into_object()?.tree())
    }

    fn ending(&self) -> MutexGuard<'_, HashSet<String>> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
