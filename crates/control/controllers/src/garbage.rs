//! Deletes what has lost its owners, and sees deletions through that wait for dependents or orphan them.
//!
//! State: a graph of the objects that have owners, fed by the informers of all kinds, and objects with one of its two
//! finalizers. An owner that the caches do not show is looked up by name before anything is deleted for its absence,
//! and the deletion holds for the revision that was looked at only. What to do is decided in [`decide`].
//!
//! References of cluster-scoped objects to namespaced owners are invalid and never followed, and one to an owner in another
//! namespace is one to none; both are told by an event. References to kinds that
//! are not served count as solid, because nobody can tell.
//!
//! Source: `pkg/controller/garbagecollector`.

mod decide;
mod graph;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_client::{Change, Client};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference, Requeue, WorkQueue};
use cloudeck_machinery::object::split_api_version;
use cloudeck_machinery::{Map, Object, ObjectKey, Reason, Status, Value, value};
use cloudeck_schema::ResourceInfo;
use cloudeck_task::Scope;
use compact_str::CompactString;

use crate::everything::{Everything, resource};
use crate::write;
use decide::{Action, Dependents, Owner};
use graph::{Graph, Metadata, Node, OwnerReference};

const WORKERS: usize = 8;

#[derive(Clone)]
pub(crate) struct GarbageCollector {
    inner: Arc<Inner>,
}

struct Inner {
    client: Client,
    events: EventRecorder,
    everything: Everything,
    graph: Mutex<Graph>,
    /// Uids.
    queue: WorkQueue<CompactString>,
}

impl GarbageCollector {
    /// Registers with the informers; [`GarbageCollector::run`] starts the work.
    pub(crate) fn new(client: Client, scope: &Scope, everything: &Everything) -> Self {
        let events = EventRecorder::start(scope, client.clone(), "garbage-collector-controller", "");
        let inner = Arc::new(Inner {
            client,
            events,
            everything: everything.clone(),
            graph: Mutex::default(),
            queue: WorkQueue::new(),
        });
        let taker = Arc::clone(&inner);
        everything.on_change(move |info, change| taker.take(info, change));
        Self { inner }
    }

    pub(crate) fn run(&self, scope: &Scope) {
        let inner = Arc::clone(&self.inner);
        let queue = inner.queue.clone();
        cloudeck_controller::run(
            scope,
            "garbage-collector",
            WORKERS,
            queue,
            move |uid: CompactString| {
                let inner = Arc::clone(&inner);
                async move { inner.reconcile(&uid).await }
            },
        );
    }
}

impl Inner {
    fn take(&self, info: &'static ResourceInfo, change: &Change) {
        let mut awake = Vec::new();
        let mut graph = self.graph();
        match (&change.old, &change.new) {
            // Came and went unseen: whoever names it as owner is looked at.
            (None, None) => awake = graph.dependents_of_name(info.kind, &change.key),
            (Some(old), new) if new.as_ref().is_none_or(|new| new.uid != old.uid) => {
                awake = graph.remove(&old.uid);
            }
            _ => {}
        }
        if let Some(new) = &change.new {
            awake.extend(graph.set(info, new));
        }
        drop(graph);
        for uid in awake {
            self.queue.add(uid);
        }
    }

    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn reconcile(&self, uid: &CompactString) -> Result<Requeue, Status> {
        let Some(node) = self.graph().node(uid) else {
            return Ok(Requeue::OnChange);
        };
        if node.metadata.is_deleting()
            && !node.metadata.awaits_dependents()
            && !node.metadata.orphans_dependents()
        {
            return Ok(Requeue::OnChange);
        }
        if !node.metadata.is_deleting() && self.has_cached_owners(&node) {
            return Ok(Requeue::OnChange);
        }
        // Decided on what holds now, not on what the graph remembers.
        let Some(latest) = self.latest(&node, uid).await? else {
            return Ok(Requeue::OnChange);
        };
        let metadata = Metadata::read(&latest);
        let dependents = self.dependents(uid);
        let action = if metadata.is_deleting() {
            decide::decide_ending(&metadata, dependents)
        } else {
            let mut owners = Vec::with_capacity(metadata.owner_references.len());
            for reference in &metadata.owner_references {
                owners.push(self.look_up(uid, &node, reference).await?);
            }
            decide::decide_living(&metadata, &owners, dependents)
        };
        self.act(&node, &latest, action).await?;
        Ok(Requeue::OnChange)
    }

    /// The common case, told from the caches: all owners are there and none waits.
    fn has_cached_owners(&self, node: &Node) -> bool {
        let mut references = node.metadata.owner_references.iter();
        references.all(|reference| {
            let (group, _) = split_api_version(&reference.api_version);
            let Some((info, informer)) = self.everything.by_kind(group, &reference.kind) else {
                return false;
            };
            let owner = informer.get(&owner_key(info, node, reference));
            owner.is_some_and(|owner| {
                owner.uid == reference.uid && !Metadata::read(&owner).awaits_dependents()
            })
        })
    }

    async fn latest(&self, node: &Node, uid: &str) -> Result<Option<Arc<Object>>, Status> {
        let found = self
            .client
            .get(&resource(node.info), &node.key.namespace, &node.key.name)
            .await;
        match found {
            Ok(object) => Ok(Some(object).filter(|object| object.uid == uid)),
            Err(status) if status.reason == Reason::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    fn dependents(&self, uid: &str) -> Dependents {
        let all = self.graph().dependents(uid);
        Dependents {
            any: !all.is_empty(),
            blocking: all.iter().any(|(_, dependent)| dependent.blocks(uid)),
            waiting: all
                .iter()
                .any(|(_, dependent)| dependent.metadata.awaits_dependents()),
        }
    }

    async fn look_up(&self, uid: &str, node: &Node, reference: &OwnerReference) -> Result<Owner, Status> {
        let (group, _) = split_api_version(&reference.api_version);
        let Some((info, _)) = self.everything.by_kind(group, &reference.kind) else {
            return Ok(Owner::Solid);
        };
        if info.namespaced && node.key.namespace.is_empty() {
            self.tell_of_other_namespace(uid, node, reference);
            return Ok(Owner::Solid);
        }
        let key = owner_key(info, node, reference);
        match self.client.get(&resource(info), &key.namespace, &key.name).await {
            Ok(owner) if owner.uid != reference.uid => {
                self.tell_of_other_namespace(uid, node, reference);
                Ok(Owner::Absent)
            }
            Ok(owner) => {
                let waits = Metadata::read(&owner).awaits_dependents();
                Ok(if waits { Owner::Waiting } else { Owner::Solid })
            }
            Err(status) if status.reason == Reason::NotFound => {
                self.tell_of_other_namespace(uid, node, reference);
                Ok(Owner::Absent)
            }
            Err(status) => Err(status),
        }
    }

    /// An owner in another namespace is none, and whoever named it may have thought otherwise.
    fn tell_of_other_namespace(&self, uid: &str, node: &Node, reference: &OwnerReference) {
        let (group, _) = split_api_version(&reference.api_version);
        let Some((info, informer)) = self.everything.by_kind(group, &reference.kind) else {
            return;
        };
        let is_it = |owner: &Arc<Object>| owner.uid == reference.uid;
        if !info.namespaced || !informer.list().iter().any(is_it) {
            return;
        }
        let OwnerReference {
            api_version,
            kind,
            name,
            uid: owner,
            ..
        } = reference;
        let namespace = &node.key.namespace;
        let message = format!(
            "ownerRef [{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {owner}] does not exist in namespace \
             \"{namespace}\""
        );
        let about = ObjectReference {
            api_version: resource(node.info).api_version(),
            kind: node.info.kind.to_owned(),
            namespace: namespace.to_string(),
            name: node.key.name.to_string(),
            uid: uid.to_owned(),
            ..ObjectReference::default()
        };
        self.events
            .event(about, EventType::Warning, "OwnerRefInvalidNamespace", message);
    }

    async fn act(&self, node: &Node, latest: &Object, action: Action) -> Result<(), Status> {
        match action {
            Action::Nothing => Ok(()),
            Action::RemoveFinalizer(finalizer) => self.remove_finalizer(node, latest, finalizer).await,
            Action::OrphanDependents => {
                let dependents = self.graph().dependents(&latest.uid);
                for (uid, dependent) in dependents {
                    self.remove_owner(&dependent, &uid, &latest.uid).await?;
                }
                self.remove_finalizer(node, latest, graph::ORPHAN).await
            }
            Action::WakeDependents => {
                let dependents = self.graph().dependents(&latest.uid).into_iter();
                let blocking = dependents.filter(|(_, dependent)| {
                    dependent.blocks(&latest.uid) && !dependent.metadata.awaits_dependents()
                });
                blocking.for_each(|(uid, _)| self.queue.add(uid));
                Ok(())
            }
            Action::RemoveReferences(places) => {
                let kept = latest.tree().items_at(&["metadata", "ownerReferences"]).to_vec();
                let kept = kept
                    .into_iter()
                    .enumerate()
                    .filter(|(at, _)| !places.contains(at));
                let kept: Vec<Value> = kept.map(|(_, reference)| reference).collect();
                self.patch(node, latest, "ownerReferences", kept).await
            }
            Action::Delete { policy, unblock } => self.delete(node, latest, policy, unblock).await,
        }
    }

    async fn delete(&self, node: &Node, latest: &Object, policy: &str, unblock: bool) -> Result<(), Status> {
        if unblock {
            let mut references = latest.tree().items_at(&["metadata", "ownerReferences"]).to_vec();
            for reference in &mut references {
                reference.set_at(&["blockOwnerDeletion"], false);
            }
            self.patch(node, latest, "ownerReferences", references).await?;
        }
        let mut preconditions = value!({"uid": (latest.uid.clone())});
        if !unblock {
            preconditions.set_at(&["resourceVersion"], latest.revision.to_string());
        }
        let options = value!({"propagationPolicy": (policy), "preconditions": (preconditions)});
        write::delete_with(&self.client, &resource(node.info), &node.key, &options).await
    }

    async fn remove_finalizer(&self, node: &Node, latest: &Object, finalizer: &str) -> Result<(), Status> {
        let mut finalizers = latest.tree().items_at(&["metadata", "finalizers"]).to_vec();
        finalizers.retain(|other| other.as_str() != Some(finalizer));
        self.patch(node, latest, "finalizers", finalizers).await
    }

    async fn remove_owner(&self, dependent: &Node, uid: &str, owner: &str) -> Result<(), Status> {
        let Some(latest) = self.latest(dependent, uid).await? else {
            return Ok(());
        };
        let mut references = latest.tree().items_at(&["metadata", "ownerReferences"]).to_vec();
        let before = references.len();
        references.retain(|reference| reference.str_at(&["uid"]) != Some(owner));
        if references.len() == before {
            return Ok(());
        }
        self.patch(dependent, &latest, "ownerReferences", references)
            .await
    }

    /// Replaces a list of the metadata, at the revision that was looked at.
    async fn patch(
        &self,
        node: &Node,
        latest: &Object,
        field: &str,
        items: Vec<Value>,
    ) -> Result<(), Status> {
        let mut metadata = Map::new();
        metadata.insert("uid", latest.uid.clone().into());
        metadata.insert("resourceVersion", latest.revision.to_string().into());
        metadata.insert(field, items.into());
        let patch = value!({"metadata": (metadata)});
        let (resource, key) = (resource(node.info), &node.key);
        let outcome = self
            .client
            .merge_patch(&resource, &key.namespace, &key.name, "", &patch)
            .await;
        write::absent_is_fine(outcome.map(|_| ()))
    }
}

/// Owners live in the namespace of what they own, or in none.
fn owner_key(info: &ResourceInfo, node: &Node, reference: &OwnerReference) -> ObjectKey {
    let namespace = if info.namespaced {
        node.key.namespace.as_str()
    } else {
        ""
    };
    ObjectKey::new(namespace, &reference.name)
}

#[cfg(test)]
mod tests;
