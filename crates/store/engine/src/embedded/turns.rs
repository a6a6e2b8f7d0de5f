//! Whose turn it is to commit: the commit thread's, with all that has queued up, or that of a writer who is alone.
//!
//! To hand a transaction to a thread and to be woken by it costs a lone writer half as much again as a quick disk takes.
//! So he commits it himself, on a thread of the executor, as long as that is over in less than [`BRIEF`]. As soon as
//! writers come together, or the disk is slow, they queue for the thread, which takes them together.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::mpsc;

use super::KeeperMode;
use super::committer::{Command, Committer};
use super::keeper::Keeper;
use super::shared::{Shared, ThreadPanicked};
use crate::error::TxnError;
use crate::model::{Txn, TxnResponse};

/// Commands that the thread takes at once at most: more gain nothing, the disk's round trip is long paid.
const MAX_COMMANDS: usize = 512;
/// What may run on a thread of the executor without others noticing.
const BRIEF: Duration = Duration::from_micros(400);

/// So many batches of one transaction in a row tell that a writer is alone. Among many, some are single too.
const ALONE: usize = 16;

/// Who holds the turn commits; nobody else does.
pub(crate) struct Turns {
    shared: Arc<Shared>,
    desk: Mutex<Desk>,
    /// Whether writers may commit at all.
    open: bool,
    /// The thread has work and waits for its turn, which comes next: nobody overtakes what it took from the queue.
    thread_waits: AtomicBool,
}

struct Desk {
    committer: Committer,
    /// No more turns: the store is closed.
    closed: bool,
}

/// A turn. What is left half done by a panic may not be gone on with.
struct Turn<'a> {
    desk: MutexGuard<'a, Desk>,
    shared: &'a Shared,
}

impl Turns {
    /// Writers commit only on an executor that can go on without the thread they are on, and where nobody counts on the
    /// order of threads.
    pub(crate) fn new(shared: Arc<Shared>, committer: Committer) -> Self {
        let open = shared.options.keeper == KeeperMode::Thread
            && Handle::try_current().is_ok_and(|runtime| {
                runtime.runtime_flavor() == RuntimeFlavor::MultiThread && runtime.metrics().num_workers() > 1
            });
        Self {
            shared,
            desk: Mutex::new(Desk {
                committer,
                closed: false,
            }),
            open,
            thread_waits: AtomicBool::new(false),
        }
    }

    /// Commits here and now, if nobody else is about and the disk is quick; otherwise gives the transaction back.
    pub(crate) fn alone(
        &self,
        txn: Txn,
        queue: &mpsc::Sender<Command>,
    ) -> Result<Result<TxnResponse, TxnError>, Txn> {
        let others = queue.capacity() < queue.max_capacity() || self.thread_waits.load(Ordering::SeqCst);
        if !self.open || others {
            return Err(txn);
        }
        let desk = match self.desk.try_lock() {
            Ok(desk) => desk,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(txn),
        };
        if desk.closed || desk.committer.singles() < ALONE || desk.committer.pace() > BRIEF {
            return Err(txn);
        }
        Ok(self.turn(desk).desk.committer.commit_alone(txn))
    }

    fn turn<'a>(&'a self, desk: MutexGuard<'a, Desk>) -> Turn<'a> {
        Turn {
            desk,
            shared: &self.shared,
        }
    }

    /// For the thread.
    fn wait(&self) -> Turn<'_> {
        self.thread_waits.store(true, Ordering::SeqCst);
        let desk = self.desk.lock().unwrap_or_else(PoisonError::into_inner);
        self.thread_waits.store(false, Ordering::SeqCst);
        self.turn(desk)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.shared.poison(&ThreadPanicked("commit"));
        }
    }
}

/// The commit thread.
pub(crate) struct CommitThread {
    pub(crate) turns: Arc<Turns>,
    pub(crate) queue: mpsc::Receiver<Command>,
    /// If it has no thread of its own.
    pub(crate) keeper: Option<Keeper>,
}

impl CommitThread {
    /// Until the store is closing and the queue is empty.
    pub(crate) fn run(mut self) {
        self.keeper.iter().for_each(Keeper::keep);
        let mut commands = Vec::with_capacity(MAX_COMMANDS);
        while self.queue.blocking_recv_many(&mut commands, MAX_COMMANDS) > 0 {
            self.turns.wait().desk.committer.process(&mut commands);
            self.keeper.iter().for_each(Keeper::keep_if_asked);
            if self.turns.shared.is_stopping() {
                // What is queued is still done.
                self.queue.close();
            }
        }
    }
}

impl Drop for CommitThread {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.turns.shared.poison(&ThreadPanicked("commit"));
        }
        self.turns.wait().desk.closed = true;
        self.turns.shared.state.hub().close();
    }
}
