//! The truth: every change that the datastore acknowledged, in order, kept outside the product.
//!
//! What clients are answered and what watches deliver is held against it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;

use crate::host;
use crate::laws::Laws;
use crate::trace::{Trace, digest};

/// One key at one revision; without a value it was deleted.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) revision: u64,
    /// `core/pods/default/web-1`: the datastore's key without its root.
    pub(crate) key: Arc<str>,
    pub(crate) value: Option<Bytes>,
    /// What it replaced.
    pub(crate) prev: Option<Bytes>,
}

/// See the module. Cheap to clone; clones are the same book.
#[derive(Clone)]
pub(crate) struct Book {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

struct Inner {
    revision: u64,
    current: BTreeMap<Arc<str>, (u64, Bytes)>,
    /// By kind (`core/pods/`), in order.
    log: HashMap<String, Vec<Entry>>,
    /// The newest revision of each key that some client was told of.
    told: HashMap<Arc<str>, u64>,
    newest_told: u64,
    laws: Laws,
    last_change: (Duration, String),
}

/// `core/pods/` of `core/pods/default/web-1`.
pub(crate) fn kind_of(key: &str) -> &str {
    let ends = key.match_indices('/').nth(1);
    ends.map_or(key, |(at, _)| &key[..=at])
}

impl Book {
    pub(crate) fn new(trace: &Trace) -> Self {
        let inner = Inner {
            revision: 0,
            current: BTreeMap::new(),
            log: HashMap::new(),
            told: HashMap::new(),
            newest_told: 0,
            laws: Laws::new(trace),
            last_change: (Duration::ZERO, String::new()),
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
            trace: trace.clone(),
        }
    }

    /// Writes down what one revision changed.
    pub(crate) fn record(&self, revision: u64, changes: Vec<(Arc<str>, Option<Bytes>)>) {
        let mut inner = self.lock();
        if revision <= inner.revision {
            let last = inner.revision;
            self.trace
                .violation(format!("revision {revision} was given after {last}"));
        }
        inner.revision = revision;
        for (key, value) in changes {
            inner.record(revision, key, value, &self.trace);
        }
    }

    /// See [`Laws::expect_no_disturbance`].
    pub(crate) fn expect_no_disturbance(&self) {
        self.lock().laws.expect_no_disturbance();
    }

    /// See [`Laws::binding_in_doubt`].
    pub(crate) fn binding_in_doubt(&self) {
        self.lock().laws.binding_in_doubt();
    }

    pub(crate) fn revision(&self) -> u64 {
        self.lock().revision
    }

    /// The keys that begin so, with revision and value.
    pub(crate) fn present(&self, prefix: &str) -> Vec<(Arc<str>, u64, Bytes)> {
        let inner = self.lock();
        let range = inner.current.range(Arc::from(prefix)..);
        range
            .take_while(|(key, _)| key.starts_with(prefix))
            .map(|(key, (revision, value))| (Arc::clone(key), *revision, value.clone()))
            .collect()
    }

    /// All that is there.
    pub(crate) fn everything(&self) -> BTreeMap<Arc<str>, (u64, Bytes)> {
        self.lock().current.clone()
    }

    /// What was there at a revision.
    pub(crate) fn at(&self, kind: &str, revision: u64) -> BTreeMap<Arc<str>, (u64, Bytes)> {
        let inner = self.lock();
        let mut state = BTreeMap::new();
        let log = inner.log.get(kind).into_iter().flatten();
        for entry in log.take_while(|entry| entry.revision <= revision) {
            match &entry.value {
                Some(value) => state.insert(Arc::clone(&entry.key), (entry.revision, value.clone())),
                None => state.remove(&entry.key),
            };
        }
        state
    }

    /// How many changes of the kind there were up to a revision: where a watch from there goes on.
    pub(crate) fn position(&self, kind: &str, revision: u64) -> usize {
        let inner = self.lock();
        let log = inner.log.get(kind).map_or(&[][..], Vec::as_slice);
        log.partition_point(|entry| entry.revision <= revision)
    }

    /// The n-th change of the kind.
    pub(crate) fn entry(&self, kind: &str, position: usize) -> Option<Entry> {
        self.lock().log.get(kind)?.get(position).cloned()
    }

    /// Whether the key was changed at the revision.
    pub(crate) fn holds(&self, key: &str, revision: u64) -> bool {
        let inner = self.lock();
        let log = inner.log.get(kind_of(key)).map_or(&[][..], Vec::as_slice);
        let from = log.partition_point(|entry| entry.revision < revision);
        log[from..]
            .iter()
            .take_while(|entry| entry.revision == revision)
            .any(|entry| *entry.key == *key)
    }

    /// Whether the key was deleted after the revision.
    pub(crate) fn deleted_since(&self, key: &str, revision: u64) -> bool {
        let inner = self.lock();
        let log = inner.log.get(kind_of(key)).map_or(&[][..], Vec::as_slice);
        let from = log.partition_point(|entry| entry.revision <= revision);
        log[from..]
            .iter()
            .any(|entry| *entry.key == *key && entry.value.is_none())
    }

    /// A client is told of the key at the revision: nobody may see less from now on.
    pub(crate) fn tell(&self, key: &str, revision: u64) {
        let mut inner = self.lock();
        inner.newest_told = inner.newest_told.max(revision);
        let told = inner.told.entry(Arc::from(key)).or_default();
        *told = (*told).max(revision);
    }

    pub(crate) fn told(&self, key: &str) -> u64 {
        self.lock().told.get(key).copied().unwrap_or_default()
    }

    pub(crate) fn newest_told(&self) -> u64 {
        self.lock().newest_told
    }

    /// When something last changed that is not a sign of life, and what.
    pub(crate) fn last_change(&self) -> (Duration, String) {
        self.lock().last_change.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn record(&mut self, revision: u64, key: Arc<str>, value: Option<Bytes>, trace: &Trace) {
        let content = value.as_deref().map_or(0, digest);
        trace.line(format!("commit {revision} {key} {content:016x}"));
        trace.show(&key, value.as_deref());
        let prev = match &value {
            Some(value) => self.current.insert(Arc::clone(&key), (revision, value.clone())),
            None => self.current.remove(&key),
        };
        let entry = Entry {
            revision,
            key,
            value,
            prev: prev.map(|(_, value)| value),
        };
        if !is_sign_of_life(&entry) {
            self.last_change = (host::elapsed(), entry.key.to_string());
        }
        self.laws.committed(&entry, &self.current);
        let log = self.log.entry(kind_of(&entry.key).to_owned()).or_default();
        log.push(entry);
    }
}

/// Leases that nodes renew, and events that end by their age: what an idle cluster writes.
fn is_sign_of_life(entry: &Entry) -> bool {
    let is_expiry = entry.key.starts_with("core/events/") && entry.value.is_none();
    is_expiry
        || entry
            .key
            .starts_with("coordination.k8s.io/leases/kube-node-lease/")
            && entry.prev.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_past_can_be_asked_for() {
        let book = Book::new(&Trace::new(false, None));
        let key: Arc<str> = "core/configmaps/a/x".into();
        book.record(2, vec![(Arc::clone(&key), Some(Bytes::from_static(b"{}")))]);
        book.record(3, vec![(Arc::clone(&key), None)]);
        assert_eq!(book.at("core/configmaps/", 2).len(), 1);
        assert!(book.at("core/configmaps/", 3).is_empty());
        assert_eq!(book.position("core/configmaps/", 2), 1);
        assert!(book.holds(&key, 3) && !book.holds(&key, 4));
        assert!(book.deleted_since(&key, 2) && !book.deleted_since(&key, 3));
    }

    #[test]
    fn a_revision_that_goes_back_is_a_violation() {
        let trace = Trace::new(false, None);
        let book = Book::new(&trace);
        book.record(5, Vec::new());
        book.record(5, Vec::new());
        assert!(!trace.is_clean());
    }
}
