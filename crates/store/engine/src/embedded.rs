//! The embedded store: an append-only log with an index in memory.
//!
//! The directory holds `MANIFEST` (the list of the rest), numbered `*.seg` files (the log, and the *base* that
//! compaction makes of its beginning), `RESERVE*` (space for the day the disk is full) and `LOCK`.
//!
//! A *commit* thread writes ([`turns`], [`committer`]), a *keeper* thread prepares and compacts ([`keeper`]); reads and
//! watches go to the shared state without either. Values stay on disk.

mod base_writer;
mod committer;
mod compaction;
mod format;
mod keeper;
mod log;
mod manifest;
mod recovery;
mod repair;
mod reserve;
mod scan;
mod segment;
mod segments;
mod shared;
mod turns;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use cloudeck_task::Scope;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;

use self::committer::{Command, Committer, Reply};
use self::keeper::Keeper;
use self::recovery::{Recovered, io_error};
use self::shared::Shared;
use self::turns::{CommitThread, Turns};
use crate::blocking::run_blocking;
use crate::clock::WallClock;
use crate::disk::{Disk, RealDisk};
use crate::error::{CompactError, LeaseError, RangeError, TxnError, WatchError};
use crate::model::{
    HistoryPolicy, LeaseId, RangeRequest, RangeResponse, Revision, StoreStatus, Txn, TxnResponse,
    WatchRequest,
};
use crate::state::{Inner, State};
use crate::store::{BoxFuture, Store};
use crate::watch::WatchStream;

pub use self::format::{BatchFault, RecordFault, StoreId};
pub use self::manifest::ManifestFault;
pub use self::recovery::OpenError;
pub use self::repair::{Lost, RepairError, RepairReport, repair, repair_on};
pub use self::scan::Damage;

/// Commands that may wait for the committer: a few batches of the largest size.
const QUEUE: usize = 1024;
/// The smallest segment that is of any use; for tests.
const MIN_SEGMENT_BYTES: u64 = 4 << 10;
/// Offsets have 32 bits, and a segment may be extended.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;

#[derive(Debug, Clone)]
pub struct EmbeddedOptions {
    pub history: HistoryPolicy,
    pub clock: WallClock,
    /// The log is cut into files of this size; four times as much is held on disk in advance (the file being
    /// written, the next one, and a reserve of two).
    pub segment_bytes: u64,
    pub keeper: KeeperMode,
    /// Identity of a new store; random if `None`.
    pub store_id: Option<StoreId>,
}

/// Who prepares segments and compacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeeperMode {
    /// A thread of its own.
    Thread,
    /// The commit thread, between commits: for simulations that must run the same way twice.
    WithCommits,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            history: HistoryPolicy::default(),
            clock: WallClock::default(),
            segment_bytes: 8 << 20,
            keeper: KeeperMode::Thread,
            store_id: None,
        }
    }
}

/// See the module. Dropping it closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    turns: Arc<Turns>,
    queue: mpsc::Sender<Command>,
    threads: Arc<Mutex<Vec<JoinHandle<()>>>>,
    /// Given back when the last thread has ended.
    lock: Arc<Mutex<Option<Box<dyn Send + Sync>>>>,
}

impl EmbeddedStore {
    /// Opens the store in `directory`, or makes one. Leases expire in a task of `scope`.
    ///
    /// Blocks while it reads the log; needs a tokio runtime around it.
    pub fn open(directory: &Path, options: EmbeddedOptions, scope: &Scope) -> Result<Self, OpenError> {
        let action = format!("opening the directory {}", directory.display());
        let disk = RealDisk::open(directory).map_err(io_error(action))?;
        Self::open_on(Arc::new(disk), options, scope)
    }

    /// As [`EmbeddedStore::open`], on any disk.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        mut options: EmbeddedOptions,
        scope: &Scope,
    ) -> Result<Self, OpenError> {
        let began = std::time::Instant::now();
        options.segment_bytes = options.segment_bytes.clamp(MIN_SEGMENT_BYTES, MAX_SEGMENT_BYTES);
        let lock = disk.lock().map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked,
            _ => io_error("locking the directory")(error),
        })?;
        let new_id = options.store_id.map_or_else(random_id, Ok)?;
        let recovered = recovery::open(&disk, options.segment_bytes, new_id)?;
        let store = Self::start(disk, options, recovered, lock)?;
        scope.spawn_until_shutdown(
            "lease expiry",
            expire_leases(Arc::clone(&store.shared), store.queue.clone()),
        );
        let status = store.status();
        let elapsed_ms = began.elapsed().as_millis() as u64;
        tracing::info!(
            revision = status.revision.get(),
            keys = status.keys,
            elapsed_ms,
            "datastore open"
        );
        Ok(store)
    }

    fn start(
        disk: Arc<dyn Disk>,
        options: EmbeddedOptions,
        recovered: Recovered,
        lock: Box<dyn Send + Sync>,
    ) -> Result<Self, OpenError> {
        let Recovered {
            store,
            index,
            leases,
            compact,
            ages,
            segments,
            mut log,
        } = recovered;
        let inner = Inner {
            index,
            leases,
            compact,
            sequence: log.link().sequence,
            ages,
        };
        let (wake, woken) = sync_channel(1);
        let spare = log.take_first_spare();
        let shared = Arc::new(Shared {
            disk,
            state: State::recovered(inner, options.history.clone()),
            options,
            store,
            epoch: log.link().epoch,
            segments: Mutex::new(segments),
            spare: Mutex::new(spare),
            low_space: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            lease_changed: Notify::new(),
            failed: Notify::new(),
            keeper: Mutex::new(Some(wake)),
            poison: OnceLock::new(),
        });
        let (sender, queue) = mpsc::channel(QUEUE);
        let keeper = Keeper::new(Arc::clone(&shared), woken);
        let committer = Committer::new(Arc::clone(&shared), log);
        let turns = Arc::new(Turns::new(Arc::clone(&shared), committer));
        let mut thread = CommitThread {
            turns: Arc::clone(&turns),
            queue,
            keeper: None,
        };
        let mut threads = Vec::new();
        match shared.options.keeper {
            KeeperMode::Thread => threads.push(spawn("store-keeper", move || keeper.run())?),
            KeeperMode::WithCommits => thread.keeper = Some(keeper),
        }
        threads.push(spawn("store-commit", move || thread.run())?);
        Ok(Self {
            shared,
            turns,
            queue: sender,
            threads: Arc::new(Mutex::new(threads)),
            lock: Arc::new(Mutex::new(Some(lock))),
        })
    }

    /// Sends a command and waits for its answer.
    async fn ask<T, E>(
        &self,
        command: impl FnOnce(Reply<T, E>) -> Command,
    ) -> Result<Result<T, E>, TxnError> {
        if self.shared.is_stopping() {
            return Err(TxnError::Closed);
        }
        let (reply, answer) = oneshot::channel();
        self.queue
            .send(command(reply))
            .await
            .map_err(|_| TxnError::Closed)?;
        answer.await.map_err(|_| TxnError::OutcomeUnknown {
            reason: "the commit thread ended".to_owned(),
        })
    }

    /// Lets the threads end. Answers what waits for them.
    fn stop(&self) -> impl FnOnce() + Send + 'static {
        self.shared.stopping.store(true, Ordering::Relaxed);
        // Only to wake the committer: with a full queue it is awake, and looks at the flag after every batch.
        let _ = self.queue.try_send(Command::Stop);
        self.shared
            .keeper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        self.shared.lease_changed.notify_one();
        let (threads, lock) = (Arc::clone(&self.threads), Arc::clone(&self.lock));
        move || {
            for thread in threads.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                if thread.join().is_err() {
                    tracing::error!("a thread of the datastore panicked");
                }
            }
            lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        // At most one batch and one step of compaction away.
        self.stop()();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, OpenError> {
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(work)
        .map_err(OpenError::Threads)
}

fn random_id() -> Result<StoreId, OpenError> {
    let mut id = [0; 16];
    let filled = rustix::rand::getrandom(&mut id, rustix::rand::GetRandomFlags::empty());
    filled.map_err(|errno| io_error("drawing a random identity")(errno.into()))?;
    Ok(StoreId(id))
}

/// Sleeps until the next deadline; a new lease, or the end of the store, wakes it early.
async fn expire_leases(shared: Arc<Shared>, queue: mpsc::Sender<Command>) {
    while !shared.is_stopping() {
        let next = shared.state.read().leases.next_deadline();
        let changed = shared.lease_changed.notified();
        match next {
            None => changed.await,
            Some(at) => tokio::select! {
                () = tokio::time::sleep_until(at) => {
                    let expired = shared.state.read().leases.expired(Instant::now());
                    let mut refused = false;
                    for id in expired {
                        match expire(&queue, id).await {
                            Expiry::Done => {}
                            Expiry::Refused => refused = true,
                            Expiry::Closed => return,
                        }
                    }
                    if refused {
                        let changed = shared.lease_changed.notified();
                        let _ = tokio::time::timeout(EXPIRE_AGAIN, changed).await;
                    }
                }
                () = changed => {}
            },
        }
    }
}

/// After a refused write, as on a full disk, an expired lease is tried again.
const EXPIRE_AGAIN: Duration = Duration::from_secs(1);

/// What came of ending a lease.
enum Expiry {
    Done,
    /// Not now.
    Refused,
    /// The store takes no more writes.
    Closed,
}

async fn expire(queue: &mpsc::Sender<Command>, id: LeaseId) -> Expiry {
    let (reply, answer) = oneshot::channel();
    let command = Command::Revoke {
        id,
        only_if_expired: true,
        reply,
    };
    if queue.send(command).await.is_err() {
        return Expiry::Closed;
    }
    match answer.await {
        // Kept alive or revoked in between: then there is nothing to do.
        Ok(Ok(()) | Err(LeaseError::NotFound(_))) => Expiry::Done,
        // After an unknown outcome every write is refused so.
        Ok(Err(LeaseError::Write(TxnError::Closed | TxnError::Poisoned { .. }))) | Err(_) => Expiry::Closed,
        Ok(Err(error)) => {
            tracing::warn!(
                error = cloudeck_telemetry::chain(&error),
                "an expired lease was not ended yet"
            );
            Expiry::Refused
        }
    }
}

impl Store for EmbeddedStore {
    fn range(&self, request: RangeRequest) -> BoxFuture<'_, Result<RangeResponse, RangeError>> {
        Box::pin(self.shared.state.range(request))
    }

    fn txn(&self, txn: Txn) -> BoxFuture<'_, Result<TxnResponse, TxnError>> {
        Box::pin(async move {
            match self.turns.alone(txn, &self.queue) {
                Ok(answer) => answer,
                Err(txn) => self.ask(|reply| Command::Txn { txn, reply }).await?,
            }
        })
    }

    fn watch(&self, request: WatchRequest) -> BoxFuture<'_, Result<WatchStream, WatchError>> {
        Box::pin(async move { self.shared.state.watch(request) })
    }

    fn compact(&self, revision: Revision) -> BoxFuture<'_, Result<(), CompactError>> {
        Box::pin(async move {
            self.ask(|reply| Command::Compact { revision, reply })
                .await
                .map_err(CompactError::Write)?
        })
    }

    fn revision(&self) -> Revision {
        self.shared.state.revision()
    }

    fn compact_revision(&self) -> Revision {
        self.shared.state.read().compact_revision()
    }

    fn status(&self) -> StoreStatus {
        let watchers = self.shared.state.hub().len();
        let files: Vec<_> = self.shared.segments().all().cloned().collect();
        let inner = self.shared.state.read();
        StoreStatus {
            revision: inner.index.revision(),
            compact_revision: inner.compact_revision(),
            history_horizon: inner.index.horizon(),
            keys: inner.index.live_keys(),
            disk_bytes: files.iter().map(|segment| segment.file.len().unwrap_or(0)).sum(),
            garbage_bytes: files.iter().map(|segment| segment.garbage_bytes()).sum(),
            watchers,
            poisoned: self.shared.poisoned(),
        }
    }

    fn lease_grant(&self, id: Option<LeaseId>, ttl: Duration) -> BoxFuture<'_, Result<LeaseId, LeaseError>> {
        Box::pin(async move {
            self.ask(|reply| Command::Grant { id, ttl, reply })
                .await
                .map_err(LeaseError::Write)?
        })
    }

    fn lease_keep_alive(&self, id: LeaseId) -> BoxFuture<'_, Result<Duration, LeaseError>> {
        Box::pin(async move {
            let kept = self.shared.state.write().leases.keep_alive(id, Instant::now());
            kept.ok_or(LeaseError::NotFound(id))
        })
    }

    fn lease_revoke(&self, id: LeaseId) -> BoxFuture<'_, Result<(), LeaseError>> {
        Box::pin(async move {
            let command = |reply| Command::Revoke {
                id,
                only_if_expired: false,
                reply,
            };
            self.ask(command).await.map_err(LeaseError::Write)?
        })
    }

    fn failed(&self) -> BoxFuture<'_, String> {
        Box::pin(async move {
            loop {
                let failed = self.shared.failed.notified();
                if let Some(reason) = self.shared.poisoned() {
                    return reason;
                }
                failed.await;
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(run_blocking(self.stop()))
    }
}
