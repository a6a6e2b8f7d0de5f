//! The watch cache: what every read is served from.
//!
//! One [`feed`] reads the datastore's changes in revision order and applies them to one [`KindCache`] per storage kind.
//! Each revision of an object is one immutable `Arc<Object>`; lists, watches and in-process clients share it.
//! Start reading at [`KindCache`].

pub(crate) mod event;
pub(crate) mod feed;
pub(crate) mod frontier;
pub(crate) mod pending;
pub(crate) mod splice;
pub(crate) mod watcher;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use cloudeck_machinery::{Object, ObjectKey};
use compact_str::{CompactString, format_compact};
use tokio::sync::watch;

pub(crate) use event::{CacheEvent, Change};
pub(crate) use frontier::Frontier;

/// Events that a kind keeps for its watchers. A watcher further behind is cut off; one that resumes from further back
/// is served from the datastore's history. At 7,000 writes a second this is more than half a second of lag.
const RING_EVENTS: usize = 4096;
/// Bytes of objects the ring may keep alive that the cache itself no longer holds.
const RING_BYTES: usize = 8 << 20;
/// Events handed to a watcher at once.
const READ_AHEAD: usize = 256;

/// The objects of one storage kind and their latest changes.
pub(crate) struct KindCache {
    state: RwLock<State>,
    changed: watch::Sender<()>,
}

struct State {
    /// By `namespace/name` (or `name`), in byte order.
    objects: BTreeMap<CompactString, Arc<Object>>,
    ring: VecDeque<Arc<CacheEvent>>,
    ring_bytes: usize,
    /// Every event after this revision is in the ring.
    ring_start: u64,
    /// The revision of the newest event.
    last_change: u64,
}

/// The watcher's place is no longer in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Behind;

/// A consistent look at a part of the kind.
pub(crate) struct Snapshot {
    pub(crate) objects: Vec<Arc<Object>>,
    /// The revision at which exactly these objects existed.
    pub(crate) revision: u64,
}

impl KindCache {
    pub(crate) fn new() -> Self {
        Self {
            state: RwLock::new(State {
                objects: BTreeMap::new(),
                ring: VecDeque::new(),
                ring_bytes: 0,
                ring_start: 0,
                last_change: 0,
            }),
            changed: watch::channel(()).0,
        }
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Fills the cache with what the datastore held at `revision`; watchers from before must resume.
    pub(crate) fn load(&self, objects: Vec<Arc<Object>>, revision: u64) {
        let mut state = self.write();
        state.objects = objects
            .into_iter()
            .map(|object| (joined(&object.key), object))
            .collect();
        state.ring.clear();
        state.ring_bytes = 0;
        state.ring_start = revision;
        state.last_change = revision;
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        let key = join(namespace, name);
        self.read().objects.get(&key).cloned()
    }

    /// All objects of a namespace (all with an empty one) that come after `after`, up to `limit` of those that `keep`
    /// accepts; and whether more would follow. `frontier` is read before the cache.
    pub(crate) fn snapshot(
        &self,
        namespace: &str,
        frontier: &Frontier,
        after: Option<&str>,
        limit: usize,
        mut keep: impl FnMut(&Object) -> bool,
    ) -> (Snapshot, bool) {
        let seen = frontier.revision();
        let state = self.read();
        let mut objects = Vec::new();
        let mut more = false;
        for object in state.range(namespace, after) {
            if !keep(object) {
                continue;
            }
            if objects.len() == limit {
                more = true;
                break;
            }
            objects.push(Arc::clone(object));
        }
        let revision = seen.max(state.last_change);
        (Snapshot { objects, revision }, more)
    }

    /// How many objects stand after `after`.
    pub(crate) fn count_after(&self, namespace: &str, after: &str) -> usize {
        self.read().range(namespace, Some(after)).count()
    }

    /// The newest revision at which anything of the kind changed.
    pub(crate) fn last_change(&self) -> u64 {
        self.read().last_change
    }

    /// Applies the events of one revision, together. Those who wait learn of it by [`KindCache::announce`].
    pub(crate) fn apply(&self, events: impl IntoIterator<Item = Arc<CacheEvent>>) {
        let mut state = self.write();
        for event in events {
            state.apply(event);
        }
        state.trim();
    }

    /// Wakes who waits for changes.
    pub(crate) fn announce(&self) {
        self.changed.send_replace(());
    }

    /// Events after `cursor`, a few at a time, never splitting a revision.
    pub(crate) fn events_after(&self, cursor: u64) -> Result<Vec<Arc<CacheEvent>>, Behind> {
        let state = self.read();
        if cursor < state.ring_start {
            return Err(Behind);
        }
        let start = state.ring.partition_point(|event| event.revision <= cursor);
        let mut events: Vec<Arc<CacheEvent>> = Vec::new();
        for event in state.ring.range(start..) {
            if events.len() >= READ_AHEAD && events.last().is_some_and(|last| last.revision != event.revision)
            {
                break;
            }
            events.push(Arc::clone(event));
        }
        Ok(events)
    }

    /// Wakes when the kind changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl State {
    fn range(&self, namespace: &str, after: Option<&str>) -> impl Iterator<Item = &Arc<Object>> {
        let prefix = if namespace.is_empty() {
            CompactString::default()
        } else {
            format_compact!("{namespace}/")
        };
        let start = match after {
            Some(after) if after >= prefix.as_str() => Bound::Excluded(CompactString::from(after)),
            _ => Bound::Included(prefix.clone()),
        };
        self.objects
            .range((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix.as_str()))
            .map(|(_, object)| object)
    }

    fn apply(&mut self, event: Arc<CacheEvent>) {
        self.last_change = event.revision;
        self.ring_bytes += event.held_bytes();
        match &event.change {
            Change::Put { object, .. } => {
                self.objects.insert(joined(&object.key), Arc::clone(object));
            }
            Change::Delete { last, .. } => {
                self.objects.remove(&joined(&last.key));
            }
        }
        self.ring.push_back(event);
    }

    fn trim(&mut self) {
        while self.ring.len() > RING_EVENTS || self.ring_bytes > RING_BYTES {
            let Some(event) = self.ring.pop_front() else {
                break;
            };
            self.ring_bytes -= event.held_bytes();
            // Events of one revision leave together in effect: a cursor at this revision has seen them all.
            self.ring_start = event.revision;
        }
    }
}

/// `namespace/name`, or `name` alone.
pub(crate) fn join(namespace: &str, name: &str) -> CompactString {
    if namespace.is_empty() {
        name.into()
    } else {
        format_compact!("{namespace}/{name}")
    }
}

pub(crate) fn joined(key: &ObjectKey) -> CompactString {
    join(&key.namespace, &key.name)
}
