//! Garbage collection: objects whose owners are all gone go as well, in the background, in the foreground, or are set
//! free.
//!
//! State: a graph of owners over every kind that can be deleted (events excepted), fed by the caches; of an object it
//! keeps no more than its place, its owners and the orders its finalizers give. That an owner is absent is never
//! believed of the graph: it is read live and told by its uid. An object is read live before it is deleted.
//!
//! Source: `pkg/controller/garbagecollector`. Deviation: absent owners have no virtual nodes, the index of dependents
//! holds what those are needed for.

mod decide;
mod graph;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_client::{Change, Client};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::object::split_api_version;
use cloudeck_machinery::{GroupVersionResource, Object, ObjectKey, Reason, Status, Value, value};
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;

use crate::caches::{self, Cache, Caches};
use crate::kinds;
use crate::write;
use decide::{Action, OwnerState, Policy};
use graph::{FOREGROUND, Graph, Item, ORPHAN, OwnerRef, Uid};

/// Upstream has twenty; here a request costs no round trip.
const WORKERS: usize = 4;

#[derive(Clone)]
pub(crate) struct Garbage {
    client: Client,
    caches: Arc<[Cache]>,
    graph: Arc<Mutex<Graph>>,
    recorder: EventRecorder,
    queue: WorkQueue<Uid>,
}

impl Garbage {
    pub(crate) fn new(client: Client, caches: &Caches, scope: &Scope) -> Self {
        Self {
            caches: caches
                .iter()
                .filter(|cache| cache.resource != kinds::events())
                .cloned()
                .collect(),
            graph: Arc::default(),
            recorder: EventRecorder::start(scope, client.clone(), "garbage-collector-controller", ""),
            client,
            queue: WorkQueue::new(),
        }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        self.fill();
        for (kind, cache) in self.caches.iter().enumerate() {
            let (this, kind) = (self.clone(), kind as u16);
            caches::follow(scope, "owner graph", &cache.informer, move |change| {
                this.take(kind, change);
            });
        }
        let (this, queue) = (Arc::new(self.clone()), self.queue.clone());
        cloudeck_controller::run(scope, "garbage-collector", WORKERS, queue, move |uid| {
            let this = Arc::clone(&this);
            async move { this.reconcile(&uid).await }
        });
    }

    /// Fills the graph from the caches as a whole, so that owners are not asked for only because their kind comes
    /// later.
    fn fill(&self) {
        let mut graph = self.graph();
        for (kind, cache) in self.caches.iter().enumerate() {
            for object in cache.informer.list() {
                graph.set(&object.uid, read(kind as u16, &object));
            }
        }
        for uid in graph.doubts() {
            self.queue.add(uid);
        }
    }

    fn take(&self, kind: u16, change: Change) {
        let mut graph = self.graph();
        let mut look = Vec::new();
        let replaced = |old: &&Arc<Object>| change.new.as_ref().is_none_or(|new| new.uid != old.uid);
        if let Some(old) = change.old.as_ref().filter(replaced) {
            look.extend(graph.remove(&old.uid));
        }
        if change.old.is_none() && change.new.is_none() {
            // It came and went unseen, so its uid is not known, but who names it may have found it alive.
            look.extend(graph.naming(self.caches[usize::from(kind)].kind.kind, &change.key));
        }
        let mut stranger = None;
        if let Some(new) = &change.new {
            let item = read(kind, new);
            let is_new = graph
                .get(&new.uid)
                .is_none_or(|known| known.owners != item.owners);
            let foreign = graph.foreign_owner(&item).filter(|_| is_new);
            stranger = foreign.map(|owner| (Arc::clone(new), owner));
            look.extend(graph.set(&new.uid, item));
        }
        drop(graph);
        for uid in look {
            self.queue.add(uid);
        }
        if let Some((object, owner)) = stranger {
            self.report(kind, &object, &owner);
        }
    }

    fn report(&self, kind: u16, object: &Object, owner: &OwnerRef) {
        let info = self.caches[usize::from(kind)].kind;
        let about = ObjectReference::to_object(&info.api_version(), info.kind, object);
        let namespace = &object.key.namespace;
        let identity = format!(
            "[{}/{}, namespace: {namespace}, name: {}, uid: {}]",
            owner.api_version, owner.kind, owner.name, owner.uid
        );
        let message = format!("ownerRef {identity} does not exist in namespace {namespace:?}");
        self.recorder
            .event(about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    async fn reconcile(&self, uid: &Uid) -> Result<Requeue, Status> {
        let Some(item) = self.graph().get(uid).cloned() else {
            return Ok(Requeue::OnChange);
        };
        if item.sets_free() {
            self.set_free(uid, &item).await?;
            return Ok(Requeue::OnChange);
        }
        if item.deleting && !item.foreground {
            return Ok(Requeue::OnChange);
        }
        let cache = &self.caches[usize::from(item.kind)];
        let Some(latest) = self.live(&cache.resource, &item.key, uid).await? else {
            // The cache will say so.
            return Ok(Requeue::OnChange);
        };
        let action = if item.waits_for_dependents() {
            decide::foreground(&self.graph(), uid)
        } else {
            let current = Item::read(item.kind, item.key.clone(), &latest);
            let mut owners = Vec::with_capacity(current.owners.len());
            for owner in &current.owners {
                owners.push((owner.clone(), self.owner_state(&item.key, owner).await?));
            }
            decide::living(&self.graph(), uid, &current, &owners)
        };
        self.act(cache, &item.key, &latest, action).await?;
        Ok(Requeue::OnChange)
    }

    async fn act(
        &self,
        cache: &Cache,
        key: &ObjectKey,
        latest: &Value,
        action: Action,
    ) -> Result<(), Status> {
        match action {
            Action::Nothing => Ok(()),
            Action::LookAt(dependents) => {
                for uid in dependents {
                    self.queue.add(uid);
                }
                Ok(())
            }
            Action::Finish => self.remove_finalizer(cache, key, latest, FOREGROUND).await,
            Action::Drop(owners) => self.drop_owners(cache, key, latest, &owners).await,
            Action::Delete {
                policy,
                unblock: false,
            } => self.delete(cache, key, latest, policy).await,
            Action::Delete {
                policy,
                unblock: true,
            } => {
                let unblocked = self.unblock_owners(cache, key, latest).await?;
                self.delete(cache, key, &unblocked, policy).await
            }
        }
    }

    /// How the owner is, asked of the server.
    async fn owner_state(&self, dependent: &ObjectKey, owner: &OwnerRef) -> Result<OwnerState, Status> {
        let Some(kind) = resource_of(owner) else {
            // Nobody can tell whether it exists.
            return Ok(OwnerState::Solid);
        };
        if kind.namespaced && dependent.namespace.is_empty() {
            // Such a reference cannot be looked up; upstream leaves the object alone.
            return Ok(OwnerState::Solid);
        }
        let namespace = if kind.namespaced {
            dependent.namespace.as_str()
        } else {
            ""
        };
        let resource = GroupVersionResource::new(kind.group, kind.version, kind.plural);
        let key = ObjectKey::new(namespace, &owner.name);
        Ok(match self.live(&resource, &key, &owner.uid).await? {
            None => OwnerState::Dangling,
            Some(tree) if Item::read(0, key, &tree).waits_for_dependents() => OwnerState::Waiting,
            Some(_) => OwnerState::Solid,
        })
    }

    /// The object as it is now, if it is still the one with that uid.
    async fn live(
        &self,
        resource: &GroupVersionResource,
        key: &ObjectKey,
        uid: &str,
    ) -> Result<Option<Value>, Status> {
        match self.client.get(resource, &key.namespace, &key.name).await {
            Ok(object) if object.uid == uid => Ok(Some(object.tree())),
            Ok(_) => Ok(None),
            Err(status) if status.reason == Reason::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Takes the owner out of its dependents, then lets it go.
    async fn set_free(&self, uid: &Uid, item: &Item) -> Result<(), Status> {
        let dependents: Vec<(Uid, Item)> = {
            let graph = self.graph();
            let found = graph
                .dependents(uid)
                .filter_map(|it| Some((it.clone(), graph.get(it)?.clone())));
            found.collect()
        };
        for (dependent, it) in dependents {
            let cache = &self.caches[usize::from(it.kind)];
            if let Some(latest) = self.live(&cache.resource, &it.key, &dependent).await? {
                self.drop_owners(cache, &it.key, &latest, std::slice::from_ref(uid))
                    .await?;
            }
        }
        let cache = &self.caches[usize::from(item.kind)];
        if let Some(latest) = self.live(&cache.resource, &item.key, uid).await? {
            self.remove_finalizer(cache, &item.key, &latest, ORPHAN).await?;
        }
        Ok(())
    }

    async fn drop_owners(
        &self,
        cache: &Cache,
        key: &ObjectKey,
        latest: &Value,
        gone: &[Uid],
    ) -> Result<(), Status> {
        let owners = latest.items_at(&["metadata", "ownerReferences"]).iter();
        let is_gone = |it: &&Value| gone.iter().any(|uid| it.str_at(&["uid"]) == Some(&**uid));
        let kept: Vec<_> = owners.clone().filter(|it| !is_gone(it)).cloned().collect();
        if kept.len() == owners.len() {
            return Ok(());
        }
        write::absent_is_fine(
            self.patch(cache, key, latest, "ownerReferences", kept)
                .await
                .map(drop),
        )
    }

    async fn unblock_owners(&self, cache: &Cache, key: &ObjectKey, latest: &Value) -> Result<Value, Status> {
        let mut owners = latest.items_at(&["metadata", "ownerReferences"]).to_vec();
        for owner in &mut owners {
            owner.set_at(&["blockOwnerDeletion"], false);
        }
        self.patch(cache, key, latest, "ownerReferences", owners).await
    }

    async fn remove_finalizer(
        &self,
        cache: &Cache,
        key: &ObjectKey,
        latest: &Value,
        name: &str,
    ) -> Result<(), Status> {
        let finalizers = latest.items_at(&["metadata", "finalizers"]).iter();
        let kept: Vec<_> = finalizers
            .clone()
            .filter(|it| it.as_str() != Some(name))
            .cloned()
            .collect();
        if kept.len() == finalizers.len() {
            return Ok(());
        }
        write::absent_is_fine(self.patch(cache, key, latest, "finalizers", kept).await.map(drop))
    }

    /// Replaces a list of the metadata, over the revision that was read.
    async fn patch(
        &self,
        cache: &Cache,
        key: &ObjectKey,
        latest: &Value,
        member: &str,
        list: Vec<Value>,
    ) -> Result<Value, Status> {
        let text = |member| latest.str_at(&["metadata", member]).unwrap_or_default();
        let list = if list.is_empty() {
            Value::Null
        } else {
            Value::from(list)
        };
        let patch = value!({"metadata": {
            "uid": (text("uid")), "resourceVersion": (text("resourceVersion")), (member): (list)
        }});
        let patched = self
            .client
            .merge_patch(&cache.resource, &key.namespace, &key.name, "", &patch)
            .await?;
        Ok(patched.tree())
    }

    async fn delete(
        &self,
        cache: &Cache,
        key: &ObjectKey,
        latest: &Value,
        policy: Policy,
    ) -> Result<(), Status> {
        let text = |member| latest.str_at(&["metadata", member]).unwrap_or_default();
        let options = value!({
            "propagationPolicy": (policy.as_str()),
            "preconditions": {"uid": (text("uid")), "resourceVersion": (text("resourceVersion"))}
        });
        write::delete(&self.client, &cache.resource, key, &options).await
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads an object for the graph; most have neither owners nor finalizers and are not parsed.
fn read(kind: u16, object: &Object) -> Item {
    let says = |word: &str| memchr::memmem::find(&object.json, word.as_bytes()).is_some();
    if says("\"ownerReferences\"") || says("\"deletionTimestamp\"") || says("\"finalizers\"") {
        return Item::read(kind, object.key.clone(), &object.tree());
    }
    Item {
        kind,
        key: object.key.clone(),
        owners: Box::default(),
        deleting: false,
        foreground: false,
        orphan: false,
    }
}

/// The kind that a reference names; in another version of its group when that one is not served.
fn resource_of(owner: &OwnerRef) -> Option<&'static ResourceInfo> {
    let (group, version) = split_api_version(&owner.api_version);
    cloudeck_schema::resource_by_kind(group, version, &owner.kind)
        .or_else(|| cloudeck_schema::resources().find(|it| it.group == group && it.kind == &*owner.kind))
}

#[cfg(test)]
mod tests;
