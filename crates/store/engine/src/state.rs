//! What both implementations share: the visible state, reads and watches over it.
//!
//! One writer applies commits; any number of readers. Lock order: `inner`, then `hub`.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use crate::error::{RangeError, ReadError, WatchError};
use crate::hub::{Hub, Watcher};
use crate::index::{Index, Replayed, StoredValue, Version};
use crate::lease::LeaseTable;
use crate::model::{
    Event, EventKind, HistoryPolicy, KeyValue, RangeRequest, RangeResponse, Revision, WatchBatch,
    WatchRequest,
};
use crate::staging::StagedChange;
use crate::watch::{Cursor, Live, Step, WatchSource, WatchStream};

/// Keys a read may visit in place, about a tenth of a millisecond; a longer one goes to the blocking pool.
const INLINE_KEYS: usize = 256;
/// Values a read may load in place: `pread`s of a microsecond or two from the page cache.
const INLINE_VALUES: usize = 64;
/// Changes of history looked at per step of a replay.
const REPLAY_CHUNK: usize = 512;
/// Changes a watch may replay in place when it is opened.
const INLINE_REPLAY: usize = 32;
/// History by age is kept in steps of this length.
pub(crate) const AGE_STEP: Duration = Duration::from_secs(1);

pub(crate) struct Inner<V> {
    pub(crate) index: Index<V>,
    pub(crate) leases: LeaseTable,
    /// The API horizon.
    pub(crate) compact: Revision,
    /// How many commits the log held when this was the state; the memory store does not count.
    pub(crate) sequence: u64,
    /// Revisions with the time of their commit, ascending, a step apart.
    pub(crate) ages: VecDeque<(Revision, SystemTime)>,
}

pub(crate) struct State<V> {
    inner: RwLock<Inner<V>>,
    hub: Mutex<Hub>,
    published: watch::Sender<Revision>,
    policy: HistoryPolicy,
}

/// Keys found under the lock, values still to be loaded.
struct Found<V> {
    versions: Vec<(Bytes, Version<V>)>,
    more: bool,
    count: usize,
    revision: Revision,
}

/// The read visits more keys than may be visited in place.
struct TooLong;

impl<V: StoredValue> State<V> {
    pub(crate) fn new(
        index: Index<V>,
        leases: LeaseTable,
        compact: Revision,
        policy: HistoryPolicy,
    ) -> Arc<Self> {
        Self::recovered(
            Inner {
                index,
                leases,
                compact,
                sequence: 0,
                ages: VecDeque::new(),
            },
            policy,
        )
    }

    pub(crate) fn recovered(mut inner: Inner<V>, policy: HistoryPolicy) -> Arc<Self> {
        if let Some((_, last)) = inner.ages.back() {
            let last = *last;
            inner.trim(&policy, last);
        }
        let published = watch::Sender::new(inner.index.revision());
        let inner = RwLock::new(inner);
        Arc::new(Self {
            inner,
            hub: Mutex::default(),
            published,
            policy,
        })
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Inner<V>> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write(&self) -> RwLockWriteGuard<'_, Inner<V>> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a durable commit visible: to reads, then to watches. `also` changes what is no key's.
    pub(crate) fn commit(
        &self,
        changes: &[StagedChange<V>],
        now: SystemTime,
        also: impl FnOnce(&mut Inner<V>),
    ) {
        let revision = {
            let mut inner = self.write();
            for change in changes {
                inner.apply(change);
            }
            also(&mut inner);
            inner.trim(&self.policy, now);
            inner.index.revision()
        };
        let mut hub = self.hub();
        if hub.len() > 0 {
            for of_one in changes.chunk_by(|a, b| a.version.mod_revision == b.version.mod_revision) {
                hub.send(of_one[0].version.mod_revision, of_one);
            }
        }
        drop(hub);
        self.published.send_replace(revision);
    }

    pub(crate) async fn range(self: &Arc<Self>, request: RangeRequest) -> Result<RangeResponse, RangeError> {
        let found = {
            let inner = self.read();
            inner.find(&request, INLINE_KEYS)?
        };
        match found {
            Ok(found) if request.keys_only || found.versions.len() <= INLINE_VALUES => {
                Ok(found.load(request.keys_only)?)
            }
            Ok(found) => Ok(crate::blocking::run_blocking(move || found.load(false)).await?),
            Err(TooLong) => {
                let state = Arc::clone(self);
                crate::blocking::run_blocking(move || state.range_now(&request)).await
            }
        }
    }

    /// The whole read on this thread.
    pub(crate) fn range_now(&self, request: &RangeRequest) -> Result<RangeResponse, RangeError> {
        let found = self.read().find(request, usize::MAX)?;
        let Ok(found) = found else {
            unreachable!("nothing is longer than usize::MAX")
        };
        Ok(found.load(request.keys_only)?)
    }

    pub(crate) fn watch(self: &Arc<Self>, request: WatchRequest) -> Result<WatchStream, WatchError> {
        let from = match request.from_revision {
            None | Some(Revision::ZERO) => self.read().index.revision().next(),
            Some(from) => from,
        };
        let published = self.published.subscribe();
        WatchStream::open(Arc::clone(self) as Arc<dyn WatchSource>, request, from, published)
    }

    pub(crate) fn revision(&self) -> Revision {
        *self.published.borrow()
    }

    /// Gives all history up: the disk is full.
    pub(crate) fn forget_history(&self) {
        let mut inner = self.write();
        let revision = inner.index.revision();
        inner.index.trim(revision);
    }
}

impl<V: StoredValue> Inner<V> {
    fn apply(&mut self, change: &StagedChange<V>) {
        let from = change.prev.as_ref().and_then(|prev| prev.lease);
        let to = change.version.lease;
        if from.is_some() || to.is_some() {
            self.leases.reattach(&change.key, from, to);
        }
        self.index.apply(&change.key, change.version.clone());
    }

    /// Reads below the answer fail: by the API's own horizon, or because history had to give way earlier.
    pub(crate) fn compact_revision(&self) -> Revision {
        self.compact.max(self.index.horizon())
    }

    /// Forgets history beyond the policy.
    pub(crate) fn trim(&mut self, policy: &HistoryPolicy, now: SystemTime) {
        let revision = self.index.revision();
        if self
            .ages
            .back()
            .is_none_or(|(_, at)| now.duration_since(*at).is_ok_and(|age| age >= AGE_STEP))
        {
            self.ages.push_back((revision, now));
        }
        let mut horizon = self.index.horizon();
        while let Some((old, at)) = self.ages.front()
            && now.duration_since(*at).is_ok_and(|age| age > policy.max_age)
        {
            horizon = horizon.max(*old);
            self.ages.pop_front();
        }
        let beyond = self.index.history_len().saturating_sub(policy.max_revisions);
        if let Some(last) = beyond.checked_sub(1).and_then(|n| self.index.nth_change(n)) {
            horizon = horizon.max(last);
        }
        self.index.trim(horizon);
        self.trim_to_budgets(policy);
    }

    fn trim_to_budgets(&mut self, policy: &HistoryPolicy) {
        while self.index.history_index_bytes() > policy.max_index_bytes
            || self.index.superseded_bytes() > policy.max_value_bytes
        {
            let Some(oldest) = self.index.nth_change(0) else {
                return;
            };
            self.index.trim(oldest);
        }
    }

    fn find(&self, request: &RangeRequest, budget: usize) -> Result<Result<Found<V>, TooLong>, RangeError> {
        let newest = self.index.revision();
        let at = request.revision.filter(|r| *r > Revision::ZERO).unwrap_or(newest);
        if at > newest {
            return Err(RangeError::FutureRevision { revision: newest });
        }
        let floor = if request.history {
            self.index.horizon()
        } else {
            self.compact_revision()
        };
        if at < floor {
            return Err(RangeError::Compacted {
                compact_revision: floor,
            });
        }
        let limit = if request.limit == 0 {
            usize::MAX
        } else {
            request.limit
        };
        let mut found = Found {
            versions: Vec::new(),
            more: false,
            count: 0,
            revision: newest,
        };
        for (visited, entry) in self.index.range(&request.range, at).enumerate() {
            if visited >= budget {
                return Ok(Err(TooLong));
            }
            let Some((key, version)) = entry else { continue };
            found.count += 1;
            if found.count > limit {
                found.more = true;
            } else if !request.count_only {
                found.versions.push((key.clone(), version.clone()));
            }
        }
        Ok(Ok(found))
    }
}

impl<V: StoredValue> Found<V> {
    fn load(self, keys_only: bool) -> Result<RangeResponse, ReadError> {
        let load = |(key, version): (Bytes, Version<V>)| {
            if keys_only {
                Ok(version.key_value(&key, Bytes::new()))
            } else {
                version.load(&key)
            }
        };
        let kvs = self
            .versions
            .into_iter()
            .map(load)
            .collect::<Result<Vec<KeyValue>, ReadError>>()?;
        Ok(RangeResponse {
            kvs,
            more: self.more,
            count: self.count,
            revision: self.revision,
        })
    }
}

impl<V: StoredValue> WatchSource for State<V> {
    fn step(&self, request: &WatchRequest, cursor: &Cursor) -> Result<Step, WatchError> {
        let inner = self.read();
        let horizon = inner.index.horizon();
        if cursor.next <= horizon {
            return Err(WatchError::Compacted { horizon });
        }
        let opening = cursor.last_event == Revision::ZERO;
        let chunk = if opening { INLINE_REPLAY } else { REPLAY_CHUNK };
        let (changes, next) = inner.index.replay(&request.range, cursor.next, chunk);
        let caught_up = next > inner.index.revision();
        let next = next.max(cursor.next);
        // Registered under the state's lock: no commit can come between the last change seen and the first queued.
        let live = caught_up.then(|| {
            let last = changes
                .last()
                .map_or(cursor.last_event, |c| c.version.mod_revision);
            self.subscribe(request, next, last, cursor)
        });
        drop(inner);
        Ok(Step {
            batches: batches(changes, request.prev)?,
            next,
            live,
        })
    }

    fn unsubscribe(&self, id: u64) {
        self.hub().remove(id);
    }
}

impl<V: StoredValue> State<V> {
    fn subscribe(&self, request: &WatchRequest, from: Revision, last: Revision, cursor: &Cursor) -> Live {
        let (sender, queue) = mpsc::channel(request.buffer.max(1));
        let ended = Arc::new(OnceLock::new());
        cursor.sent.store(last.get(), Ordering::SeqCst);
        let id = self.hub().add(Watcher {
            range: request.range.clone(),
            from,
            prev: request.prev,
            sender,
            sent: Arc::clone(&cursor.sent),
            ended: Arc::clone(&ended),
        });
        Live { id, queue, ended }
    }
}

fn batches<V: StoredValue>(changes: Vec<Replayed<V>>, with_prev: bool) -> Result<Vec<WatchBatch>, ReadError> {
    let mut batches: Vec<WatchBatch> = Vec::new();
    for change in changes {
        let revision = change.version.mod_revision;
        let event = event(&change, with_prev)?;
        match batches.last_mut() {
            Some(batch) if batch.revision == revision => batch.events.push(event),
            _ => batches.push(WatchBatch {
                revision,
                events: vec![event],
            }),
        }
    }
    Ok(batches)
}

fn event<V: StoredValue>(change: &Replayed<V>, with_prev: bool) -> Result<Event, ReadError> {
    let prev = change.prev.as_ref().filter(|_| with_prev);
    let (kind, kv) = if change.version.deleted {
        (
            EventKind::Delete,
            change.version.key_value(&change.key, Bytes::new()),
        )
    } else {
        (EventKind::Put, change.version.load(&change.key)?)
    };
    Ok(Event {
        kind,
        kv,
        prev: prev.map(|prev| prev.load(&change.key)).transpose()?,
    })
}
