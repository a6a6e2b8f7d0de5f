//! Views of a kind: the facts that controllers need of each object, read once per revision and indexed by owner.
//!
//! A [`View`] follows a shared informer. Its handlers run in order, after the view itself has changed, and do nothing
//! but put keys into queues.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use cloudeck_client::{Change, Informer};
use cloudeck_machinery::{Object, ObjectKey};
use cloudeck_task::Scope;
use compact_str::{CompactString, format_compact};
use tokio::sync::watch;

/// How many changes are taken in before other tasks get their turn.
const CHANGES_PER_TURN: usize = 64;

/// What is kept of an object.
pub(crate) trait Facts: Send + Sync + Sized + 'static {
    /// Reads the facts; an error is the reason why the object is ignored.
    fn read(object: Arc<Object>) -> Result<Self, String>;

    fn object(&self) -> &Arc<Object>;

    /// The uid of the controlling owner.
    fn controller_uid(&self) -> Option<&str> {
        None
    }

    /// Whether its deletion has begun.
    fn is_deleting(&self) -> bool {
        false
    }
}

/// An object whole, for controllers that need little of it.
pub(crate) struct Whole(Arc<Object>);

impl Facts for Whole {
    fn read(object: Arc<Object>) -> Result<Self, String> {
        Ok(Self(object))
    }

    fn object(&self) -> &Arc<Object> {
        &self.0
    }
}

/// A change of one object as its handlers see it. Both sides are absent when the object came and went unseen.
pub(crate) struct Update<'a, T> {
    pub(crate) key: &'a ObjectKey,
    pub(crate) old: Option<&'a Arc<T>>,
    pub(crate) new: Option<&'a Arc<T>>,
}

impl<T> Update<'_, T> {
    /// The sides that there are, old first.
    pub(crate) fn sides(&self) -> impl Iterator<Item = &Arc<T>> {
        self.old.into_iter().chain(self.new)
    }
}

type Handler<T> = Box<dyn Fn(&Update<'_, T>) + Send + Sync>;

/// The facts of all objects of a kind. Cheap to clone; clones are the same view.
pub(crate) struct View<T> {
    inner: Arc<Inner<T>>,
}

impl<T> Clone for View<T> {
    fn clone(&self) -> Self {
        Self {
            inner: Arc::clone(&self.inner),
        }
    }
}

struct Inner<T> {
    informer: Informer,
    state: RwLock<State<T>>,
    handlers: RwLock<Vec<Handler<T>>>,
    filled: watch::Sender<bool>,
}

struct State<T> {
    objects: BTreeMap<ObjectKey, Arc<T>>,
    /// By the controlling owner's uid, or [`orphans_of`] the namespace.
    by_owner: HashMap<CompactString, BTreeSet<ObjectKey>>,
}

impl<T: Facts> View<T> {
    pub(crate) fn new(informer: Informer) -> Self {
        let state = State {
            objects: BTreeMap::new(),
            by_owner: HashMap::new(),
        };
        Self {
            inner: Arc::new(Inner {
                informer,
                state: RwLock::new(state),
                handlers: RwLock::default(),
                filled: watch::Sender::new(false),
            }),
        }
    }

    /// Adds a handler; all are added before [`View::follow`].
    pub(crate) fn on_change(&self, handler: impl Fn(&Update<'_, T>) + Send + Sync + 'static) {
        let mut handlers = self
            .inner
            .handlers
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        handlers.push(Box::new(handler));
    }

    /// Starts following the informer.
    pub(crate) fn follow(&self, scope: &Scope) {
        let view = self.clone();
        scope.spawn_until_shutdown("controller view", async move { view.run().await });
    }

    /// Resolves when everything that was there at the start has been seen.
    pub(crate) async fn filled(&self) {
        // The sender lives in `self`, so waiting cannot fail.
        let _ = self.inner.filled.subscribe().wait_for(|filled| *filled).await;
    }

    pub(crate) fn get(&self, key: &ObjectKey) -> Option<Arc<T>> {
        self.state().objects.get(key).cloned()
    }

    /// All objects in the order of lists.
    pub(crate) fn list(&self) -> Vec<Arc<T>> {
        self.state().objects.values().cloned().collect()
    }

    /// Whether any object is as asked for.
    pub(crate) fn any(&self, holds: impl Fn(&T) -> bool) -> bool {
        self.state().objects.values().any(|facts| holds(facts))
    }

    pub(crate) fn list_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let state = self.state();
        let range = state.objects.range(ObjectKey::new(namespace, "")..);
        range
            .take_while(|(key, _)| key.namespace == namespace)
            .map(|(_, facts)| Arc::clone(facts))
            .collect()
    }

    /// The objects whose controlling owner has the uid.
    pub(crate) fn owned_by(&self, uid: &str) -> Vec<Arc<T>> {
        self.state().indexed(uid)
    }

    /// Those, and the objects of the namespace without a controlling owner. One look: an object that is adopted or
    /// released meanwhile is there all the same.
    pub(crate) fn owned_by_or_orphans(&self, uid: &str, namespace: &str) -> Vec<Arc<T>> {
        let state = self.state();
        let mut objects = state.indexed(uid);
        objects.extend(state.indexed(&orphans_of(namespace)));
        objects
    }

    /// Whether the object that was made at `revision` has been seen, or was gone before it could be.
    ///
    /// That the view is past the revision would prove nothing: changes come in the order of the first that was not taken
    /// in yet, but each with the newest state of its object.
    pub(crate) fn has_seen(&self, key: &ObjectKey, revision: u64) -> bool {
        self.state().objects.contains_key(key) || self.inner.informer.has_lost(key, revision)
    }

    async fn run(self) {
        let mut changes = self.inner.informer.subscribe();
        let informer = self.inner.informer.clone();
        tokio::select! {
            () = informer.synced() => {}
            () = async { loop { let change = changes.next().await; self.take(change); } } => {}
        }
        let mut taken = 0;
        while let Some(change) = changes.try_next() {
            self.take(change);
            taken += 1;
            if taken % CHANGES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
        self.inner.filled.send_replace(true);
        loop {
            let change = changes.next().await;
            self.take(change);
            taken += 1;
            if taken % CHANGES_PER_TURN == 0 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Takes one change in and tells the handlers.
    pub(crate) fn take(&self, change: Change) {
        let new = change.new.and_then(|object| match T::read(object) {
            Ok(facts) => Some(Arc::new(facts)),
            Err(error) => {
                tracing::warn!(name = %change.key, error, "object not understood; ignoring it");
                None
            }
        });
        let old = {
            let mut state = self.inner.state.write().unwrap_or_else(PoisonError::into_inner);
            state.set(&change.key, new.as_ref())
        };
        let update = Update {
            key: &change.key,
            old: old.as_ref(),
            new: new.as_ref(),
        };
        let handlers = self.inner.handlers.read().unwrap_or_else(PoisonError::into_inner);
        for handler in handlers.iter() {
            handler(&update);
        }
    }

    fn state(&self) -> RwLockReadGuard<'_, State<T>> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Facts> State<T> {
    fn set(&mut self, key: &ObjectKey, new: Option<&Arc<T>>) -> Option<Arc<T>> {
        let old = match new {
            Some(new) => self.objects.insert(key.clone(), Arc::clone(new)),
            None => self.objects.remove(key),
        };
        let before = old.as_deref().map(|facts| owner_key(key, facts));
        let after = new.map(|facts| owner_key(key, &**facts));
        if before == after {
            return old;
        }
        if let Some(owner) = before
            && let Some(keys) = self.by_owner.get_mut(&owner)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
        if let Some(owner) = after {
            self.by_owner.entry(owner).or_default().insert(key.clone());
        }
        old
    }

    fn indexed(&self, owner: &str) -> Vec<Arc<T>> {
        let keys = self.by_owner.get(owner).into_iter().flatten();
        keys.filter_map(|key| self.objects.get(key)).cloned().collect()
    }
}

fn owner_key<T: Facts>(key: &ObjectKey, facts: &T) -> CompactString {
    match facts.controller_uid() {
        Some(uid) => uid.into(),
        None => orphans_of(&key.namespace),
    }
}

/// Cannot be a uid: those hold no slash.
fn orphans_of(namespace: &str) -> CompactString {
    format_compact!("orphans/{namespace}")
}

#[cfg(test)]
mod tests;
