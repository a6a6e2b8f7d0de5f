//! Hands commits to watches: never blocks, cuts off who is too slow.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;

use crate::error::{ReadError, WatchError};
use crate::index::StoredValue;
use crate::model::{Event, EventKind, KeyRange, Revision, WatchBatch};
use crate::staging::StagedChange;

/// The store's side of a live watch.
pub(crate) struct Watcher {
    pub(crate) range: KeyRange,
    /// Earlier revisions are not for it.
    pub(crate) from: Revision,
    pub(crate) prev: bool,
    pub(crate) sender: mpsc::Sender<WatchBatch>,
    /// The last revision put into its queue.
    pub(crate) sent: Arc<AtomicU64>,
    /// Why the sender was dropped.
    pub(crate) ended: Arc<OnceLock<WatchError>>,
}

#[derive(Default)]
pub(crate) struct Hub {
    watchers: HashMap<u64, Watcher>,
    next_id: u64,
    closed: bool,
}

impl Hub {
    pub(crate) fn add(&mut self, watcher: Watcher) -> u64 {
        self.next_id += 1;
        if self.closed {
            let _ = watcher.ended.set(WatchError::Closed);
        } else {
            self.watchers.insert(self.next_id, watcher);
        }
        self.next_id
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.watchers.remove(&id);
    }

    pub(crate) fn len(&self) -> usize {
        self.watchers.len()
    }

    /// Ends every watch, also those that come later.
    pub(crate) fn close(&mut self) {
        self.closed = true;
        for (_, watcher) in self.watchers.drain() {
            let _ = watcher.ended.set(WatchError::Closed);
        }
    }

    /// Queues the changes of one revision.
    pub(crate) fn send<V: StoredValue>(&mut self, revision: Revision, changes: &[StagedChange<V>]) {
        self.watchers
            .retain(|_, watcher| match watcher.offer(revision, changes) {
                Ok(()) => true,
                Err(reason) => {
                    // From here on the watch is complete no further than its reader has come.
                    watcher.sent.store(u64::MAX, Ordering::SeqCst);
                    let _ = watcher.ended.set(reason);
                    false
                }
            });
    }
}

impl Watcher {
    fn offer<V: StoredValue>(
        &self,
        revision: Revision,
        changes: &[StagedChange<V>],
    ) -> Result<(), WatchError> {
        if revision < self.from {
            return Ok(());
        }
        let mine = changes.iter().filter(|change| self.range.contains(&change.key));
        let events = mine
            .map(|change| event(change, self.prev))
            .collect::<Result<Vec<_>, _>>()?;
        if events.is_empty() {
            return Ok(());
        }
        // Before the queue: `Frontier` must never see the queue's batch without this.
        self.sent.store(revision.get(), Ordering::SeqCst);
        let batch = WatchBatch { revision, events };
        self.sender.try_send(batch).map_err(|_| WatchError::Lagging)
    }
}

fn event<V: StoredValue>(change: &StagedChange<V>, with_prev: bool) -> Result<Event, ReadError> {
    Ok(Event {
        kind: if change.version.deleted {
            EventKind::Delete
        } else {
            EventKind::Put
        },
        kv: change.version.key_value(&change.key, change.value.clone()),
        prev: if with_prev { change.load_prev()? } else { None },
    })
}
