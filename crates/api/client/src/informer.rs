//! Shared caches of a resource, fed by one watch each.
//!
//! In-process the cached objects are the server's own `Arc<Object>`s: an informer costs a map of pointers. Changes reach
//! subscribers as sets of keys, coalesced per key, so a slow subscriber holds at most one entry per object and blocks
//! nobody.

mod reflector;
mod subscription;

pub use subscription::{Change, Subscription};

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use cloudeck_machinery::{GroupVersionResource, Object, ObjectKey};
use cloudeck_task::Scope;
use tokio::sync::watch;

use crate::{Client, Params};
use subscription::Pending;

/// What an informer follows.
#[derive(Debug, Clone)]
pub struct InformerConfig {
    pub resource: GroupVersionResource,
    /// Empty for all namespaces.
    pub namespace: String,
    pub label_selector: String,
    pub field_selector: String,
}

impl InformerConfig {
    /// Everything of one resource.
    pub fn all(group: &str, version: &str, resource: &str) -> Self {
        Self {
            resource: GroupVersionResource::new(group, version, resource),
            namespace: String::new(),
            label_selector: String::new(),
            field_selector: String::new(),
        }
    }

    #[must_use]
    pub fn with_field_selector(mut self, selector: impl Into<String>) -> Self {
        self.field_selector = selector.into();
        self
    }
}

/// A cache of a resource. Cheap to clone; clones are the same cache.
#[derive(Clone)]
pub struct Informer {
    inner: Arc<Inner>,
}

struct Inner {
    cache: RwLock<BTreeMap<ObjectKey, Arc<Object>>>,
    subscribers: Mutex<Vec<Arc<Pending>>>,
    synced: watch::Sender<bool>,
    /// The cache holds all changes up to this revision. Set after them.
    reached: AtomicU64,
}

impl Informer {
    /// Starts following; returns at once. Await [`Informer::synced`] before trusting an absence.
    pub fn start(scope: &Scope, client: Client, config: InformerConfig) -> Self {
        let inner = Arc::new(Inner {
            cache: RwLock::default(),
            subscribers: Mutex::default(),
            synced: watch::Sender::new(false),
            reached: AtomicU64::new(0),
        });
        let informer = Self { inner };
        let follower = informer.clone();
        scope.spawn_until_shutdown("informer", async move {
            reflector::follow(follower, client, config).await;
        });
        informer
    }

    /// Resolves when the cache has held a consistent whole once.
    pub async fn synced(&self) {
        let mut synced = self.inner.synced.subscribe();
        // The sender lives in `self`, so waiting cannot fail.
        let _ = synced.wait_for(|done| *done).await;
    }

    pub fn get(&self, key: &ObjectKey) -> Option<Arc<Object>> {
        self.cache().get(key).cloned()
    }

    /// Whether the object that was made at `revision` is known to be there no more. False as long as the cache may only
    /// not have heard of it yet.
    pub fn has_lost(&self, key: &ObjectKey, revision: u64) -> bool {
        // In this order: what the cache lacks after it has come so far, it had and lost.
        self.inner.reached.load(Ordering::Acquire) >= revision && self.get(key).is_none()
    }

    /// All objects in the order of lists.
    pub fn list(&self) -> Vec<Arc<Object>> {
        self.cache().values().cloned().collect()
    }

    /// The objects of one namespace.
    pub fn list_namespace(&self, namespace: &str) -> Vec<Arc<Object>> {
        let from = ObjectKey::new(namespace, "");
        let cache = self.cache();
        let range = cache
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace);
        range.map(|(_, object)| Arc::clone(object)).collect()
    }

    pub fn len(&self) -> usize {
        self.cache().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Changes from here on, beginning with one for every object present.
    pub fn subscribe(&self) -> Subscription {
        let pending = Arc::new(Pending::default());
        // Registered under the cache's lock, so that no change falls between the snapshot and the first event.
        let cache = self.cache();
        for key in cache.keys() {
            pending.add(key.clone(), None);
        }
        lock(&self.inner.subscribers).push(Arc::clone(&pending));
        drop(cache);
        Subscription::new(pending, self.clone())
    }

    /// The cache has all changes up to here. Not to be said amid initial events: they come in the order of names.
    fn has_all_to(&self, revision: u64) {
        self.inner.reached.fetch_max(revision, Ordering::Release);
    }

    fn cache(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<ObjectKey, Arc<Object>>> {
        self.inner
            .cache
            .read()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn set(&self, object: Arc<Object>) {
        let mut cache = self
            .inner
            .cache
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let key = object.key.clone();
        let old = cache.insert(key.clone(), Arc::clone(&object));
        if old.as_ref().is_some_and(|old| old.revision == object.revision) {
            return;
        }
        self.notify(key, old);
    }

    fn remove(&self, key: &ObjectKey) {
        let mut cache = self
            .inner
            .cache
            .write()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(old) = cache.remove(key) {
            self.notify(key.clone(), Some(old));
        }
    }

    /// Called with the cache's write lock held, which orders notifications.
    fn notify(&self, key: ObjectKey, old: Option<Arc<Object>>) {
        let mut subscribers = lock(&self.inner.subscribers);
        subscribers.retain(|pending| !pending.is_abandoned());
        for pending in subscribers.iter() {
            pending.add(key.clone(), old.clone());
        }
    }
}

impl InformerConfig {
    fn params(&self) -> Params {
        Params {
            label_selector: self.label_selector.clone(),
            field_selector: self.field_selector.clone(),
            allow_watch_bookmarks: true,
            ..Params::default()
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
