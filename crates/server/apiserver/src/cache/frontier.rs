//! How far the caches have come, and who waits for it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};

use tokio::sync::oneshot;

/// From what the caches have applied to how far that makes them complete.
type CompleteTo = Box<dyn Fn(u64) -> u64 + Send + Sync>;

/// Every cache holds all changes up to [`Frontier::revision`]. Writers wait here until readers see their write.
#[derive(Default)]
pub(crate) struct Frontier {
    revision: AtomicU64,
    waiters: Mutex<BTreeMap<u64, Vec<oneshot::Sender<()>>>>,
    /// Tells when the store moved without a change under the API's keys.
    store: RwLock<Option<CompleteTo>>,
}

impl Frontier {
    /// The newest revision that every cache has reached.
    pub(crate) fn revision(&self) -> u64 {
        let applied = self.revision.load(Ordering::Acquire);
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        store.as_ref().map_or(applied, |complete_to| complete_to(applied))
    }

    /// From now on asks `complete_to`, of the watch that feeds the caches.
    pub(crate) fn follow(&self, complete_to: impl Fn(u64) -> u64 + Send + Sync + 'static) {
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(complete_to));
    }

    /// The newest revision that was applied.
    pub(crate) fn applied(&self) -> u64 {
        self.revision.load(Ordering::Acquire)
    }

    /// Called by the feed when everything up to `revision` is applied.
    pub(crate) fn advance(&self, revision: u64) {
        let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
        self.revision.fetch_max(revision, Ordering::AcqRel);
        let later = waiters.split_off(&(revision + 1));
        let reached = std::mem::replace(&mut *waiters, later);
        drop(waiters);
        for waiter in reached.into_values().flatten() {
            // A waiter that gave up is of no interest.
            let _ = waiter.send(());
        }
    }

    /// Resolves when every cache has reached `revision`.
    ///
    /// Cancel safety: may be dropped at any time.
    pub(crate) async fn reached(&self, revision: u64) {
        if self.revision.load(Ordering::Acquire) >= revision {
            return;
        }
        let mut waiting = Waiting {
            frontier: self,
            revision,
            over: false,
        };
        let receiver = {
            let mut waiters = self.waiters.lock().unwrap_or_else(PoisonError::into_inner);
            if self.revision.load(Ordering::Acquire) >= revision {
                waiting.over = true;
                return;
            }
            let (sender, receiver) = oneshot::channel();
            waiters.entry(revision).or_default().push(sender);
            receiver
        };
        // The sender lives in `self`, so this ends only by being reached.
        let _ = receiver.await;
        waiting.over = true;
    }
}

/// Somebody who waits. Whoever gives up leaves nothing behind: what he waits for may never come.
struct Waiting<'a> {
    frontier: &'a Frontier,
    revision: u64,
    over: bool,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let waiters = self.frontier.waiters.lock();
        let mut waiters = waiters.unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut entry) = waiters.entry(self.revision) {
            entry.get_mut().retain(|waiter| !waiter.is_closed());
            if entry.get().is_empty() {
                entry.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn waiters_wake_in_order_of_revision() {
        let frontier = Frontier::default();
        let mut second = Box::pin(frontier.reached(2));
        assert!((&mut second).now_or_never().is_none());
        frontier.advance(1);
        assert!((&mut second).now_or_never().is_none());
        frontier.advance(3);
        second.await;
        frontier.reached(3).await;
        assert_eq!(frontier.revision(), 3);
    }

    #[tokio::test]
    async fn who_gives_up_leaves_nothing_behind_and_the_others_waiting() {
        let frontier = Frontier::default();
        let mut patient = Box::pin(frontier.reached(7));
        assert!((&mut patient).now_or_never().is_none());
        for revision in [7, 9] {
            assert!(frontier.reached(revision).now_or_never().is_none());
        }
        let waiting = || -> Vec<(u64, usize)> {
            let waiters = frontier.waiters.lock().unwrap();
            waiters
                .iter()
                .map(|(revision, all)| (*revision, all.len()))
                .collect()
        };
        assert_eq!(waiting(), [(7, 1)]);
        frontier.advance(7);
        patient.await;
        assert_eq!(waiting(), []);
    }
}
