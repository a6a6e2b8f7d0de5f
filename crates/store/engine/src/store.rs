//! The seam: what a datastore does, whoever does it.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::error::{CompactError, LeaseError, RangeError, TxnError, WatchError};
use crate::model::{
    LeaseId, RangeRequest, RangeResponse, Revision, StoreStatus, Txn, TxnResponse, WatchRequest,
};
use crate::watch::WatchStream;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A datastore with the semantics of etcd v3. Used as `Arc<dyn Store>`.
///
/// Nothing is visible (to a range, a watch, another transaction's answer) nor acknowledged before it is durable.
/// When a transaction's future resolves, every watch has the change in its queue already.
///
/// Cancel safety: a dropped `txn`, `compact` or lease future may still take effect, as a lost connection would.
pub trait Store: Send + Sync + 'static {
    /// Reads a range at one revision. Small reads are done in place (a few `pread`s from the page cache), large ones
    /// on the blocking pool.
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, RangeError>>;

    /// Compares and, if all hold, changes: atomically, at one revision.
    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, TxnError>>;

    /// Opens a watch. It fails here if history no longer reaches its first revision.
    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, WatchError>>;

    /// Moves the API horizon: reads at an older revision fail from now on. Durable. History is kept longer, see
    /// [`HistoryPolicy`](crate::HistoryPolicy).
    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), CompactError>>;

    /// The newest visible revision.
    fn revision(&self) -> Revision;

    /// The API horizon.
    fn compact_revision(&self) -> Revision;

    fn status(&self) -> StoreStatus;

    /// Grants a lease; `id` is chosen by the store if `None`. The keys put with it are deleted when nobody has kept
    /// it alive for `ttl`. A restart begins the time anew, as a new leader does in etcd.
    fn lease_grant(&self, id: Option<LeaseId>, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, LeaseError>>;

    /// Begins the lease's time anew and tells how much that is.
    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Duration, LeaseError>>;

    /// Ends the lease and deletes its keys, at one revision.
    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>>;

    /// Resolves, with the reason, when the store takes no more writes until it is opened anew: a crash-only process
    /// ends then and starts again. Never resolves otherwise.
    fn failed(&self) -> BoxFuture<'_, String>;

    /// Finishes what was accepted, then takes nothing more. Watches end with `Closed`.
    fn close(&self) -> BoxFuture<'_, ()>;
}
