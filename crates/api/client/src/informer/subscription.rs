//! A subscriber's view of an informer: which keys changed since it last looked.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cloudeck_machinery::{Object, ObjectKey};
use tokio::sync::Notify;

use super::{Informer, lock};

/// A coalesced change of one object: what the subscriber last knew of it, and what holds now.
#[derive(Debug, Clone)]
pub struct Change {
    pub key: ObjectKey,
    /// The object before the first change that this one stands for; `None` when it was new.
    pub old: Option<Arc<Object>>,
    /// The object now; `None` when it is gone.
    pub new: Option<Arc<Object>>,
}

/// So many places are kept for the next burst.
const LARGE: usize = 1024;

/// Keys with unseen changes, in the order of their first change.
#[derive(Default)]
pub(super) struct Pending {
    state: Mutex<Queue>,
    ready: Notify,
    abandoned: AtomicBool,
}

#[derive(Default)]
struct Queue {
    order: VecDeque<ObjectKey>,
    old: HashMap<ObjectKey, Option<Arc<Object>>>,
}

impl Pending {
    pub(super) fn add(&self, key: ObjectKey, old: Option<Arc<Object>>) {
        let mut state = lock(&self.state);
        if !state.old.contains_key(&key) {
            state.order.push_back(key.clone());
            state.old.insert(key, old);
        }
        drop(state);
        self.ready.notify_one();
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }
}

/// A stream of changes. Dropping it ends the subscription.
pub struct Subscription {
    pending: Arc<Pending>,
    informer: Informer,
}

impl Subscription {
    pub(super) fn new(pending: Arc<Pending>, informer: Informer) -> Self {
        Self { pending, informer }
    }

    /// The next change. An object that came and went between two calls may yield a change with neither side.
    ///
    /// # Cancel safety
    /// A change is taken only when it is returned.
    pub async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.try_next() {
                return change;
            }
            self.pending.ready.notified().await;
        }
    }

    /// The next change, if one is waiting.
    pub fn try_next(&mut self) -> Option<Change> {
        let mut state = lock(&self.pending.state);
        let key = state.order.pop_front()?;
        let old = state.old.remove(&key).flatten();
        if state.order.is_empty() && state.order.capacity() > LARGE {
            // A burst is over; its room is not kept.
            *state = Queue::default();
        }
        drop(state);
        let new = self.informer.get(&key);
        Some(Change { key, old, new })
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.pending.abandoned.store(true, Ordering::Relaxed);
    }
}
