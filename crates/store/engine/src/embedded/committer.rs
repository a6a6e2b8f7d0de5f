//! Writing: makes what came together one batch, and waits for the disk once. Who does it, and when, is in
//! [`turns`](super::turns).

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::format::{HEADER_BYTES, VERSION_OVERHEAD};
use super::log::{AppendError, Log};
use super::segment::Place;
use super::shared::Shared;
use crate::error::{CompactError, LeaseError, TxnError};
use crate::index::StoredValue;
use crate::memory::check_compact;
use crate::model::{LeaseId, Revision, Txn, TxnResponse};
use crate::staging::{StagedChange, Staging};
use crate::state::Inner;

/// Bytes after which a batch takes no further transaction, so that the first does not wait for the last.
const MAX_BATCH_BYTES: usize = 1 << 20;
/// Space in the segment that only deletions may use, about 2,000 of them.
const DELETE_ROOM_BYTES: u64 = 256 << 10;
/// How far a full segment is extended when no fresh one is ready.
const EXTEND_BYTES: u64 = 1 << 20;

pub(crate) type Reply<T, E> = oneshot::Sender<Result<T, E>>;

pub(crate) enum Command {
    Txn {
        txn: Txn,
        reply: Reply<TxnResponse, TxnError>,
    },
    Compact {
        revision: Revision,
        reply: Reply<(), CompactError>,
    },
    Grant {
        id: Option<LeaseId>,
        ttl: Duration,
        reply: Reply<LeaseId, LeaseError>,
    },
    Revoke {
        id: LeaseId,
        only_if_expired: bool,
        reply: Reply<(), LeaseError>,
    },
    /// Wakes the committer to see that the store is closing.
    Stop,
}

pub(crate) struct Committer {
    shared: Arc<Shared>,
    log: Log,
    /// How many batches in a row have had one transaction, up to now.
    singles: usize,
}

type Waiting = (Txn, Reply<TxnResponse, TxnError>);

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log) -> Self {
        Self {
            shared,
            log,
            singles: 0,
        }
    }

    /// How many batches in a row have had one transaction, up to now.
    pub(crate) fn singles(&self) -> usize {
        self.singles
    }

    /// How long the disk takes to make a batch durable, lately.
    pub(crate) fn pace(&self) -> Duration {
        self.log.pace()
    }

    /// Commits one transaction.
    pub(crate) fn commit_alone(&mut self, txn: Txn) -> Result<TxnResponse, TxnError> {
        let (reply, mut answer) = oneshot::channel();
        self.commit(&mut vec![(txn, reply)]);
        answer
            .try_recv()
            .expect("every transaction of a group is answered")
    }

    pub(crate) fn process(&mut self, commands: &mut Vec<Command>) {
        let mut group: Vec<Waiting> = Vec::with_capacity(commands.len());
        let mut bytes = 0;
        for command in commands.drain(..) {
            let Command::Txn { txn, reply } = command else {
                self.commit(&mut group);
                bytes = 0;
                self.control(command);
                continue;
            };
            bytes += txn.size_bytes();
            group.push((txn, reply));
            if bytes >= MAX_BATCH_BYTES {
                self.commit(&mut group);
                bytes = 0;
            }
        }
        self.commit(&mut group);
    }

    /// Commits transactions together and answers each.
    fn commit(&mut self, group: &mut Vec<Waiting>) {
        if group.is_empty() {
            return;
        }
        self.singles = if group.len() == 1 { self.singles + 1 } else { 0 };
        self.admit(group);
        let (answers, changes) = self.stage(group);
        let outcome = self.append(&changes, |_| {});
        for ((_, reply), answer) in group.drain(..).zip(answers) {
            // The caller may have gone away.
            let _ = reply.send(outcome.clone().and(answer));
        }
    }

    /// Answers those that may not run for want of space.
    fn admit(&mut self, group: &mut Vec<Waiting>) {
        let only_deletes = group.iter().all(|(txn, _)| txn.only_deletes());
        let low = self.shared.low_space.load(Ordering::Relaxed);
        if low {
            // Every deletion may have made enough garbage to go on.
            self.shared.wake_keeper();
        }
        if self.shared.poisoned().is_none()
            && (only_deletes || !low)
            && self.make_room(body_bytes(group), only_deletes)
        {
            return;
        }
        let kept = std::mem::take(group)
            .into_iter()
            .filter_map(|(txn, reply)| match self.refusal(&txn) {
                None => Some((txn, reply)),
                Some(refusal) => {
                    let _ = reply.send(Err(refusal));
                    None
                }
            });
        *group = kept.collect();
        if !group.is_empty() && !self.make_room(body_bytes(group), true) {
            group
                .drain(..)
                .for_each(|(_, reply)| drop(reply.send(Err(TxnError::NoSpace))));
        }
        self.shared.wake_keeper();
    }

    fn refusal(&self, txn: &Txn) -> Option<TxnError> {
        let poisoned = self.shared.poisoned().map(|reason| TxnError::Poisoned { reason });
        poisoned.or_else(|| (!txn.only_deletes()).then_some(TxnError::NoSpace))
    }

    /// Whether a batch with so much in it can be written: here, in a fresh segment, or in this one extended.
    fn make_room(&mut self, body_bytes: usize, privileged: bool) -> bool {
        let segment_bytes = self.shared.options.segment_bytes;
        let keep_free = if privileged {
            0
        } else {
            DELETE_ROOM_BYTES.min(segment_bytes / 8)
        };
        if self.log.fits(body_bytes, keep_free) {
            return true;
        }
        if self.log.has_batches()
            && let Some(spare) = self.log.take_first_spare().or_else(|| self.shared.take_spare())
        {
            self.log.roll(spare, segment_bytes);
            self.shared.wake_keeper();
            if self.log.fits(body_bytes, keep_free) {
                return true;
            }
        }
        match self
            .log
            .extend(body_bytes, keep_free + EXTEND_BYTES.min(segment_bytes))
        {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!(%error, "no space to extend the log");
                self.log.fits(body_bytes, keep_free)
            }
        }
    }

    /// Evaluates the transactions and builds their batch.
    fn stage(&mut self, group: &[Waiting]) -> (Vec<Result<TxnResponse, TxnError>>, Vec<StagedChange<Place>>) {
        let inner = self.shared.state.read();
        let mut staging = Staging::new(&inner.index, &inner.leases);
        let log = &mut self.log;
        let mut answers = Vec::with_capacity(group.len());
        for (txn, _) in group {
            answers.push(staging.run(txn, &mut |new| log.add(new.key, new.value, &new.version)));
        }
        (answers, staging.into_changes())
    }

    /// Makes the batch durable, then visible.
    fn append(
        &mut self,
        changes: &[StagedChange<Place>],
        also: impl FnOnce(&mut Inner<Place>),
    ) -> Result<(), TxnError> {
        if self.log.writer().is_empty() {
            return Ok(());
        }
        let now = self.shared.options.clock.now();
        let time = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        match self.log.append(time.as_millis() as u64) {
            Ok(()) => {}
            Err(AppendError::NoSpace) => {
                self.shared.wake_keeper();
                return Err(TxnError::NoSpace);
            }
            Err(error) => {
                return Err(TxnError::OutcomeUnknown {
                    reason: self.shared.poison(&error),
                });
            }
        }
        for change in changes {
            self.log
                .active()
                .count(change.version.value.size_bytes(), change.version.mod_revision);
        }
        let sequence = self.log.link().sequence;
        self.shared.state.commit(changes, now, |inner| {
            inner.sequence = sequence;
            also(inner);
        });
        Ok(())
    }

    fn control(&mut self, command: Command) {
        match command {
            Command::Stop => {}
            Command::Txn { txn, reply } => self.commit(&mut vec![(txn, reply)]),
            Command::Compact { revision, reply } => drop(reply.send(self.compact(revision))),
            Command::Grant { id, ttl, reply } => drop(reply.send(self.grant(id, ttl))),
            Command::Revoke {
                id,
                only_if_expired,
                reply,
            } => drop(reply.send(self.revoke(id, only_if_expired))),
        }
    }

    /// Whether a small batch that frees space, or is needed to free it, can be written.
    fn admit_control(&mut self, body_bytes: usize) -> Result<(), TxnError> {
        if let Some(reason) = self.shared.poisoned() {
            return Err(TxnError::Poisoned { reason });
        }
        if self.make_room(body_bytes, true) {
            Ok(())
        } else {
            Err(TxnError::NoSpace)
        }
    }

    fn compact(&mut self, revision: Revision) -> Result<(), CompactError> {
        {
            let inner = self.shared.state.read();
            check_compact(revision, inner.compact_revision(), inner.index.revision())?;
        }
        self.admit_control(HEADER_BYTES).map_err(CompactError::Write)?;
        self.log.writer().compact(revision);
        self.append(&[], |inner| inner.compact = revision)
            .map_err(CompactError::Write)
    }

    fn grant(&mut self, id: Option<LeaseId>, ttl: Duration) -> Result<LeaseId, LeaseError> {
        let id = {
            let inner = self.shared.state.read();
            let id = id
                .filter(|id| id.0 != 0)
                .unwrap_or_else(|| inner.leases.free_id());
            if inner.leases.contains(id) {
                return Err(LeaseError::Exists(id));
            }
            id
        };
        self.admit_control(HEADER_BYTES).map_err(LeaseError::Write)?;
        self.log.writer().lease_grant(id, ttl.as_millis() as u64);
        let grant = |inner: &mut Inner<Place>| inner.leases.grant(id, ttl, Instant::now());
        self.append(&[], grant).map_err(LeaseError::Write)?;
        self.shared.lease_changed.notify_one();
        Ok(id)
    }

    /// Ends a lease and deletes its keys in the same batch.
    fn revoke(&mut self, id: LeaseId, only_if_expired: bool) -> Result<(), LeaseError> {
        let keys = {
            let inner = self.shared.state.read();
            let due = !only_if_expired || inner.leases.is_expired(id, Instant::now());
            if !inner.leases.contains(id) || !due {
                return Err(LeaseError::NotFound(id));
            }
            inner.leases.keys(id)
        };
        let (reply, _nobody) = oneshot::channel();
        let group = [(keys.into_iter().fold(Txn::new(), Txn::delete), reply)];
        self.admit_control(body_bytes(&group) + HEADER_BYTES)
            .map_err(LeaseError::Write)?;
        let (answers, changes) = self.stage(&group);
        answers
            .into_iter()
            .try_for_each(|answer| answer.map(drop))
            .map_err(LeaseError::Write)?;
        self.log.writer().lease_revoke(id);
        self.append(&changes, |inner| inner.leases.remove(id))
            .map_err(LeaseError::Write)
    }
}

/// What the transactions take in a batch, at most.
fn body_bytes(group: &[Waiting]) -> usize {
    group
        .iter()
        .map(|(txn, _)| txn.size_bytes() + txn.ops.len() * VERSION_OVERHEAD)
        .sum()
}
