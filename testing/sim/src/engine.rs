//! The datastore's life: which engine, on which disk, and what is left of it after a crash.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use cloudeck_engine::embedded::StoreId;
use cloudeck_engine::sim::{Dice as DiskDice, Faults, SimDisk};
use cloudeck_engine::{
    EmbeddedOptions, EmbeddedStore, HistoryPolicy, KeeperMode, MemoryOptions, MemoryStore, RangeRequest,
    Store, Txn,
};
use cloudeck_task::Scope;

use crate::book::Book;
use crate::dice::Dice;
use crate::storage::{Recorded, changes, short};
use crate::trace::Trace;

const STOP: Duration = Duration::from_secs(10);
/// Small, so that a simulation sees segments end and the log compacted.
const SEGMENT_BYTES: u64 = 128 << 10;

/// A datastore that can crash, if it is one on a disk.
pub(crate) struct Engine {
    book: Book,
    trace: Trace,
    history: HistoryPolicy,
    disk: Option<SimDisk>,
    scope: Scope,
    store: Arc<Recorded>,
}

impl Engine {
    /// Opens an empty datastore: in memory, or the embedded one on a simulated disk.
    pub(crate) fn open(dice: &mut Dice, book: &Book, trace: &Trace) -> Result<Self> {
        let disk = (dice.below(3) == 0).then(SimDisk::new);
        let mut history = HistoryPolicy::default();
        if dice.below(3) == 0 {
            // Who is away for long has to begin anew.
            history.max_revisions = dice.between(20, 200) as usize;
        }
        trace.line(format!("datastore on disk: {}, {history:?}", disk.is_some()));
        let scope = Scope::root("store");
        Ok(Self {
            store: open_on(disk.as_ref(), &history, book, &scope)?,
            book: book.clone(),
            trace: trace.clone(),
            history,
            disk,
            scope,
        })
    }

    pub(crate) fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store) as Arc<dyn Store>
    }

    pub(crate) fn can_crash(&self) -> bool {
        self.disk.is_some()
    }

    /// Lets the disk fail in one way or another, soon.
    pub(crate) async fn doom(&self, dice: &mut Dice) {
        self.settle().await;
        let soon = dice.below(60);
        let faults = match dice.below(4) {
            // The machine stops dead in the middle of a change.
            0 | 1 => Faults {
                changes_until_crash: Some(soon),
                ..Faults::default()
            },
            2 => Faults {
                syncs_until_failure: Some(soon / 4),
                ..Faults::default()
            },
            _ => Faults {
                full_writes: soon / 8,
                changes_until_crash: Some(200),
                ..Faults::default()
            },
        };
        self.trace.line(format!("the disk fails: {faults:?}"));
        if let Some(disk) = &self.disk {
            disk.set_faults(faults);
        }
    }

    /// Forgets what was not synced and opens what is left. Nobody uses the store.
    pub(crate) async fn crash(&mut self, dice: &mut Dice) -> Result<()> {
        let Some(disk) = self.disk.clone() else {
            return Ok(());
        };
        self.settle().await;
        disk.crash(&mut DiskDice::new(dice.below(u64::MAX)));
        self.scope.shutdown(STOP).await;
        self.scope = Scope::root("store");
        let in_doubt = self.store.in_doubt();
        self.store = open_on(Some(&disk), &self.history, &self.book, &self.scope)?;
        self.compare(&in_doubt).await
    }

    /// Waits until the engine's thread has nothing left to do.
    async fn settle(&self) {
        // Whether it still takes writes is of no interest here.
        let _ = self.store.txn(Txn::new()).await;
    }

    /// What was acknowledged must be there, and of what was in doubt all or nothing.
    async fn compare(&self, in_doubt: &[Txn]) -> Result<()> {
        let everything = RangeRequest::prefix(crate::storage::ROOT);
        let range = self
            .store
            .range(everything)
            .await
            .context("reading what is left")?;
        let left: BTreeMap<Arc<str>, (u64, Bytes)> = range
            .kvs
            .iter()
            .map(|kv| (short(&kv.key), (kv.mod_revision.get(), kv.value.clone())))
            .collect();
        let expected = self.book.everything();
        if left == expected {
            return Ok(());
        }
        let next = self.book.revision() + 1;
        for txn in in_doubt {
            let mut with_it = expected.clone();
            for (key, value) in changes(txn) {
                match value {
                    Some(value) => with_it.insert(key, (next, value)),
                    None => with_it.remove(&key),
                };
            }
            if left == with_it {
                self.trace.line("a write in doubt has survived");
                self.book.record(next, changes(txn));
                return Ok(());
            }
        }
        let lost = expected.iter().find(|(key, was)| left.get(*key) != Some(was));
        let odd = left.iter().find(|(key, is)| expected.get(*key) != Some(is));
        let name = |it: Option<(&Arc<str>, &(u64, Bytes))>| it.map(|(key, (at, _))| format!("{key} at {at}"));
        self.trace.violation(format!(
            "the datastore lost {:?} and has {:?} after a crash",
            name(lost),
            name(odd)
        ));
        Ok(())
    }

    /// Ends it, and says what had failed.
    pub(crate) async fn stop(self) -> Option<String> {
        let in_doubt = self.store.in_doubt().len();
        if in_doubt > 0 {
            self.trace
                .violation(format!("{in_doubt} writes were left in doubt"));
        }
        self.scope.shutdown(STOP).await.failure
    }
}

fn open_on(
    disk: Option<&SimDisk>,
    history: &HistoryPolicy,
    book: &Book,
    scope: &Scope,
) -> Result<Arc<Recorded>> {
    let Some(disk) = disk else {
        let options = MemoryOptions {
            history: history.clone(),
            ..MemoryOptions::default()
        };
        let store = Arc::new(MemoryStore::new(options, scope));
        return Ok(Arc::new(Recorded::new(store, book, false)));
    };
    let options = EmbeddedOptions {
        history: history.clone(),
        segment_bytes: SEGMENT_BYTES,
        keeper: KeeperMode::WithCommits,
        store_id: Some(StoreId([7; 16])),
        ..EmbeddedOptions::default()
    };
    let store = EmbeddedStore::open_on(Arc::new(disk.clone()), options, scope)?;
    Ok(Arc::new(Recorded::new(Arc::new(store), book, true)))
}
