//! The words of the store: revisions, keys with values, ranges, requests and answers.

use std::fmt;
use std::ops::Bound;
use std::time::Duration;

use bytes::Bytes;

/// A point in the store's history. One counter for all keys; every transaction that changes something takes the next.
///
/// Never above `i64::MAX`, because clients of the API hold it in a signed integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(u64);

impl Revision {
    /// Before everything: no key ever has it.
    pub const ZERO: Self = Self(0);
    /// The revision of an empty store, as in etcd: the first write is revision 2.
    pub const EMPTY_STORE: Self = Self(1);

    /// `None` above `i64::MAX`.
    pub const fn new(value: u64) -> Option<Self> {
        if value <= i64::MAX as u64 {
            Some(Self(value))
        } else {
            None
        }
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    /// The revision after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The revision before this one; zero stays zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names a lease. Never zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// One key at one revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyValue {
    pub key: Bytes,
    /// Empty in the answer to a `keys_only` request.
    pub value: Bytes,
    /// When the key came to be (since its last deletion).
    pub create_revision: Revision,
    /// When this value was written.
    pub mod_revision: Revision,
    /// 1 for the value that created the key, one more for each later one.
    pub version: u64,
    pub lease: Option<LeaseId>,
}

/// The keys from `start` (included) to `end` (excluded; `None` is no upper end), in byte order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub start: Bytes,
    pub end: Option<Bytes>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        Self {
            start: Bytes::new(),
            end: None,
        }
    }

    /// Exactly this key.
    pub fn single(key: &[u8]) -> Self {
        let mut end = key.to_vec();
        end.push(0);
        Self {
            start: Bytes::copy_from_slice(key),
            end: Some(end.into()),
        }
    }

    /// Every key that begins with `prefix`.
    pub fn prefix(prefix: &[u8]) -> Self {
        let mut end = prefix.to_vec();
        while end.last() == Some(&u8::MAX) {
            end.pop();
        }
        let end = end.last_mut().map(|last| *last += 1).map(|()| Bytes::from(end));
        Self {
            start: Bytes::copy_from_slice(prefix),
            end,
        }
    }

    pub fn between(start: impl Into<Bytes>, end: impl Into<Bytes>) -> Self {
        Self {
            start: start.into(),
            end: Some(end.into()),
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        key >= &self.start[..] && self.end.as_ref().is_none_or(|end| key < &end[..])
    }

    /// Whether no key can be in it.
    pub fn is_empty(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end <= &self.start)
    }

    pub(crate) fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        let end = self.end.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        (Bound::Included(&self.start[..]), end)
    }
}

/// A read of a range at one revision.
#[derive(Debug, Clone)]
pub struct RangeRequest {
    pub range: KeyRange,
    /// `None` is the newest.
    pub revision: Option<Revision>,
    /// At most so many keys; 0 is all.
    pub limit: usize,
    /// Leave the values out.
    pub keys_only: bool,
    /// Leave the keys out too: only the count.
    pub count_only: bool,
    /// Allow a revision below the compact revision, as long as history still reaches it (time travel).
    pub history: bool,
}

impl RangeRequest {
    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            revision: None,
            limit: 0,
            keys_only: false,
            count_only: false,
            history: false,
        }
    }

    pub fn key(key: &[u8]) -> Self {
        Self::new(KeyRange::single(key))
    }

    pub fn prefix(prefix: &[u8]) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    #[must_use]
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    #[must_use]
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    #[must_use]
    pub fn keys_only(mut self) -> Self {
        self.keys_only = true;
        self
    }

    #[must_use]
    pub fn count_only(mut self) -> Self {
        self.count_only = true;
        self
    }

    /// See [`RangeRequest::history`].
    #[must_use]
    pub fn with_history(mut self) -> Self {
        self.history = true;
        self
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RangeResponse {
    /// In byte order of the keys.
    pub kvs: Vec<KeyValue>,
    /// Whether the limit left keys out.
    pub more: bool,
    /// Keys in the range, those beyond the limit included.
    pub count: usize,
    /// The store's revision when this was read (not the one asked for).
    pub revision: Revision,
}

/// What must hold for a transaction to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compare {
    pub key: Bytes,
    pub expect: Expect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    Absent,
    ModRevision(Revision),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    Put {
        key: Bytes,
        value: Bytes,
        lease: Option<LeaseId>,
    },
    Delete {
        key: Bytes,
    },
}

impl Op {
    pub fn key(&self) -> &Bytes {
        match self {
            Self::Put { key, .. } | Self::Delete { key } => key,
        }
    }

    pub(crate) fn size_bytes(&self) -> usize {
        match self {
            Self::Put { key, value, .. } => key.len() + value.len(),
            Self::Delete { key } => key.len(),
        }
    }
}

/// All operations at one revision, or none.
#[derive(Debug, Clone, Default)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub ops: Vec<Op>,
    /// Answer with what each operation replaced ([`TxnResponse::prev`]).
    pub prev: bool,
}

impl Txn {
    pub fn new() -> Self {
        Self::default()
    }

    /// Only if `key` does not exist.
    #[must_use]
    pub fn expect_absent(mut self, key: impl Into<Bytes>) -> Self {
        self.compares.push(Compare {
            key: key.into(),
            expect: Expect::Absent,
        });
        self
    }

    /// Only if `key` was last written at `revision`.
    #[must_use]
    pub fn expect_revision(mut self, key: impl Into<Bytes>, revision: Revision) -> Self {
        self.compares.push(Compare {
            key: key.into(),
            expect: Expect::ModRevision(revision),
        });
        self
    }

    #[must_use]
    pub fn put(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: None,
        });
        self
    }

    #[must_use]
    pub fn put_with_lease(mut self, key: impl Into<Bytes>, value: impl Into<Bytes>, lease: LeaseId) -> Self {
        self.ops.push(Op::Put {
            key: key.into(),
            value: value.into(),
            lease: Some(lease),
        });
        self
    }

    #[must_use]
    pub fn delete(mut self, key: impl Into<Bytes>) -> Self {
        self.ops.push(Op::Delete { key: key.into() });
        self
    }

    #[must_use]
    pub fn with_prev(mut self) -> Self {
        self.prev = true;
        self
    }

    /// Whether it can only make the store smaller; such a transaction may use space that others may not.
    pub(crate) fn only_deletes(&self) -> bool {
        self.ops.iter().all(|op| matches!(op, Op::Delete { .. }))
    }

    pub(crate) fn size_bytes(&self) -> usize {
        self.ops.iter().map(Op::size_bytes).sum()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TxnResponse {
    /// Whether every compare held. The operations ran only then.
    pub succeeded: bool,
    /// The revision of the change; the store's revision when nothing changed (compares failed, or only keys were
    /// deleted that did not exist).
    pub revision: Revision,
    /// With [`Txn::prev`] and on success: per operation, what was there before.
    pub prev: Vec<Option<KeyValue>>,
    /// On failure: per compare, what is there now.
    pub current: Vec<Option<KeyValue>>,
}

/// What a watch sees, and from when.
#[derive(Debug, Clone)]
pub struct WatchRequest {
    pub range: KeyRange,
    /// The first revision to see. `None` is from now on; one in the future is allowed.
    pub from_revision: Option<Revision>,
    /// Fill [`Event::prev`].
    pub prev: bool,
    /// Also yield batches without events when only other keys change. Wakes the reader for every commit of the
    /// store (coalesced), so a cache is better served by [`Frontier`](crate::Frontier).
    pub progress: bool,
    /// Revisions that may wait for a slow reader before it is cut off.
    pub buffer: usize,
    /// Go on from history, instead of ending with `Lagging`, when the reader was too slow.
    pub resume: bool,
}

impl WatchRequest {
    /// At 30,000 writes a second half a second of lag; a reader that is cut off resumes from history.
    pub const DEFAULT_BUFFER: usize = 16_384;

    pub fn new(range: KeyRange) -> Self {
        Self {
            range,
            from_revision: None,
            prev: false,
            progress: false,
            buffer: Self::DEFAULT_BUFFER,
            resume: false,
        }
    }

    pub fn prefix(prefix: &[u8]) -> Self {
        Self::new(KeyRange::prefix(prefix))
    }

    #[must_use]
    pub fn from(mut self, revision: Revision) -> Self {
        self.from_revision = Some(revision);
        self
    }

    #[must_use]
    pub fn with_prev(mut self) -> Self {
        self.prev = true;
        self
    }

    #[must_use]
    pub fn with_progress(mut self) -> Self {
        self.progress = true;
        self
    }

    /// See [`WatchRequest::resume`].
    #[must_use]
    pub fn resuming(mut self) -> Self {
        self.resume = true;
        self
    }

    #[must_use]
    pub fn buffer(mut self, revisions: usize) -> Self {
        self.buffer = revisions;
        self
    }
}

/// Everything that one revision changed in the watched range. Without events: progress only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to here has now been seen.
    pub revision: Revision,
    pub events: Vec<Event>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    pub kind: EventKind,
    /// For a deletion: the key, an empty value, and `mod_revision` = the revision of the deletion.
    pub kv: KeyValue,
    /// What was there before, if the watch asked for it and there was something.
    pub prev: Option<KeyValue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    Put,
    Delete,
}

/// How long history is kept for watch resumption and time travel: until the first of these limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPolicy {
    pub max_revisions: usize,
    pub max_age: Duration,
    /// Memory of the index that history may hold.
    pub max_index_bytes: u64,
    /// Replaced values that may stay on disk (or, in the memory store, in memory).
    pub max_value_bytes: u64,
}

impl Default for HistoryPolicy {
    fn default() -> Self {
        Self {
            max_revisions: 100_000,
            max_age: Duration::from_hours(1),
            max_index_bytes: 16 << 20,
            max_value_bytes: 256 << 20,
        }
    }
}

/// A look at the store's counters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreStatus {
    pub revision: Revision,
    /// Reads below it fail with `Compacted` (unless [`RangeRequest::history`]).
    pub compact_revision: Revision,
    /// Watches can start right after it, history reads at it.
    pub history_horizon: Revision,
    pub keys: usize,
    /// Bytes the store occupies on disk (0 in memory).
    pub disk_bytes: u64,
    /// Of those, bytes that compaction could win back.
    pub garbage_bytes: u64,
    pub watchers: usize,
    /// Why the store takes no more writes, if so.
    pub poisoned: Option<String>,
}
