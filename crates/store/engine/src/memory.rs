//! The store in memory: for tests and simulation. A commit is durable at once and done in place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cloudeck_task::Scope;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::clock::WallClock;
use crate::error::{CompactError, LeaseError, RangeError, TxnError, WatchError};
use crate::index::Index;
use crate::lease::LeaseTable;
use crate::model::{
    HistoryPolicy, LeaseId, RangeRequest, RangeResponse, Revision, StoreStatus, Txn, TxnResponse,
    WatchRequest,
};
use crate::staging::Staging;
use crate::state::State;
use crate::store::{BoxFuture, Store};
use crate::watch::WatchStream;

#[derive(Debug, Clone, Default)]
pub struct MemoryOptions {
    pub history: HistoryPolicy,
    pub clock: WallClock,
}

/// See the module.
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    state: Arc<State<Bytes>>,
    /// Held over a commit; the flag says closed.
    writer: Mutex<bool>,
    clock: WallClock,
    lease_changed: Notify,
}

impl MemoryStore {
    /// Leases expire in a task of `scope`.
    pub fn new(options: MemoryOptions, scope: &Scope) -> Self {
        let state = State::new(
            Index::new(),
            LeaseTable::default(),
            Revision::ZERO,
            options.history,
        );
        let shared = Arc::new(Shared {
            state,
            writer: Mutex::new(false),
            clock: options.clock,
            lease_changed: Notify::new(),
        });
        scope.spawn_until_shutdown("lease expiry", expire_leases(Arc::clone(&shared)));
        Self { shared }
    }
}

impl Shared {
    fn commit(&self, txn: &Txn) -> Result<TxnResponse, TxnError> {
        let closed = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if *closed {
            return Err(TxnError::Closed);
        }
        self.commit_as_writer(txn)
    }

    /// The caller holds the writer's lock.
    fn commit_as_writer(&self, txn: &Txn) -> Result<TxnResponse, TxnError> {
        let (response, changes) = {
            let inner = self.state.read();
            let mut staging = Staging::new(&inner.index, &inner.leases);
            let response = staging.run(txn, &mut |new| new.value.clone())?;
            (response, staging.into_changes())
        };
        if !changes.is_empty() {
            self.state.commit(&changes, self.clock.now(), |_| {});
        }
        Ok(response)
    }

    fn compact(&self, revision: Revision) -> Result<(), CompactError> {
        let mut inner = self.state.write();
        check_compact(revision, inner.compact_revision(), inner.index.revision())?;
        inner.compact = revision;
        Ok(())
    }

    fn grant(&self, id: Option<LeaseId>, ttl: Duration) -> Result<LeaseId, LeaseError> {
        let mut inner = self.state.write();
        let id = id
            .filter(|id| id.0 != 0)
            .unwrap_or_else(|| inner.leases.free_id());
        if inner.leases.contains(id) {
            return Err(LeaseError::Exists(id));
        }
        inner.leases.grant(id, ttl, Instant::now());
        drop(inner);
        self.lease_changed.notify_one();
        Ok(id)
    }

    fn revoke(&self, id: LeaseId, only_if_expired: bool) -> Result<(), LeaseError> {
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let keys = {
            let inner = self.state.read();
            let due = !only_if_expired || inner.leases.is_expired(id, Instant::now());
            if !inner.leases.contains(id) || !due {
                return Err(LeaseError::NotFound(id));
            }
            inner.leases.keys(id)
        };
        let txn = keys.into_iter().fold(Txn::new(), Txn::delete);
        self.commit_as_writer(&txn).map_err(LeaseError::Write)?;
        self.state.write().leases.remove(id);
        Ok(())
    }
}

/// Whether the API horizon may move to `revision`.
pub(crate) fn check_compact(
    revision: Revision,
    compacted: Revision,
    newest: Revision,
) -> Result<(), CompactError> {
    if revision > newest {
        return Err(CompactError::FutureRevision { revision: newest });
    }
    if revision <= compacted {
        return Err(CompactError::Compacted {
            compact_revision: compacted,
        });
    }
    Ok(())
}

/// Sleeps until the next deadline; a new lease wakes it early.
async fn expire_leases(shared: Arc<Shared>) {
    loop {
        let next = shared.state.read().leases.next_deadline();
        let changed = shared.lease_changed.notified();
        match next {
            None => changed.await,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    for id in expired(&shared) {
                        // Kept alive or revoked in between: then there is nothing to do.
                        let _ = shared.revoke(id, true);
                    }
                }
                () = changed => {}
            },
        }
    }
}

fn expired(shared: &Shared) -> Vec<LeaseId> {
    shared.state.read().leases.expired(Instant::now())
}

impl Store for MemoryStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, RangeError>> {
        // In place: there is no disk to wait for, and a simulation wants no second thread.
        Box::pin(async move { self.shared.state.range_now(&request) })
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, TxnError>> {
        Box::pin(async move { self.shared.commit(&txn) })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, WatchError>> {
        Box::pin(async move { self.shared.state.watch(request) })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), CompactError>> {
        Box::pin(async move { self.shared.compact(revision) })
    }

    fn revision(&self) -> Revision {
        self.shared.state.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.shared.state.read().compact_revision()
    }

    fn status(&self) -> StoreStatus {
        let watchers = self.shared.state.hub().len();
        let inner = self.shared.state.read();
        StoreStatus {
            revision: inner.index.revision(),
            compact_revision: inner.compact_revision(),
            history_horizon: inner.index.horizon(),
            keys: inner.index.live_keys(),
            disk_bytes: 0,
            garbage_bytes: 0,
            watchers,
            poisoned: None,
        }
    }

    fn lease_grant(&self, id: Option<LeaseId>, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, LeaseError>> {
        Box::pin(async move { self.shared.grant(id, ttl) })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Duration, LeaseError>> {
        Box::pin(async move {
            let kept = self.shared.state.write().leases.keep_alive(id, Instant::now());
            kept.ok_or(LeaseError::NotFound(id))
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        Box::pin(async move { self.shared.revoke(id, false) })
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(std::future::pending())
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            *self.shared.writer.lock().unwrap_or_else(PoisonError::into_inner) = true;
            self.shared.state.hub().close();
        })
    }
}
