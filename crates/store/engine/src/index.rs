//! The multi-version index: every key with its versions, and the order in which they came.
//!
//! It knows nothing of files or watches: a stored value is a handle `V`. Versions above the *horizon* are complete;
//! of older ones only the newest per key is kept, and no tombstone.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::error::ReadError;
use crate::model::{KeyRange, KeyValue, LeaseId, Revision};

/// A handle to a stored value.
pub(crate) trait StoredValue: Clone + PartialEq + Send + Sync + 'static {
    fn load(&self) -> Result<Bytes, ReadError>;
    /// What the value occupies where it is stored.
    fn size_bytes(&self) -> u64;
    /// Called when the index forgets it.
    fn release(&self);
}

impl StoredValue for Bytes {
    fn load(&self) -> Result<Bytes, ReadError> {
        Ok(self.clone())
    }

    fn size_bytes(&self) -> u64 {
        self.len() as u64
    }

    fn release(&self) {}
}

/// One version of a key.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Version<V> {
    pub(crate) mod_revision: Revision,
    pub(crate) create_revision: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
    pub(crate) deleted: bool,
    /// Where the value (of a tombstone: its record) is stored.
    pub(crate) value: V,
}

impl<V: StoredValue> Version<V> {
    pub(crate) fn key_value(&self, key: &Bytes, value: Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            value,
            create_revision: self.create_revision,
            mod_revision: self.mod_revision,
            version: self.version,
            lease: self.lease,
        }
    }

    pub(crate) fn load(&self, key: &Bytes) -> Result<KeyValue, ReadError> {
        Ok(self.key_value(key, self.value.load()?))
    }
}

/// The versions of one key, the newest apart because most keys have only one.
#[derive(Debug)]
struct Chain<V> {
    newest: Version<V>,
    /// Ascending.
    older: VecDeque<Version<V>>,
}

impl<V> Chain<V> {
    fn replace(&mut self, version: Version<V>) {
        // Most chains stay short, and doubling would begin with four.
        if self.older.len() < 4 {
            self.older.reserve_exact(1);
        }
        self.older.push_back(std::mem::replace(&mut self.newest, version));
    }

    /// The newest version at or before `revision`.
    fn at(&self, revision: Revision) -> Option<&Version<V>> {
        if self.newest.mod_revision <= revision {
            return Some(&self.newest);
        }
        let after = self.older.partition_point(|v| v.mod_revision <= revision);
        after.checked_sub(1).map(|i| &self.older[i])
    }

    fn exactly_mut(&mut self, revision: Revision) -> Option<&mut Version<V>> {
        if self.newest.mod_revision == revision {
            return Some(&mut self.newest);
        }
        let i = self
            .older
            .binary_search_by_key(&revision, |v| v.mod_revision)
            .ok()?;
        Some(&mut self.older[i])
    }
}

/// One key's change, as history remembers it.
#[derive(Debug, Clone)]
struct Change {
    revision: Revision,
    key: Bytes,
}

/// A change with its neighbours, for a watch.
#[derive(Debug, Clone)]
pub(crate) struct Replayed<V> {
    pub(crate) key: Bytes,
    pub(crate) version: Version<V>,
    /// What it replaced; never a tombstone.
    pub(crate) prev: Option<Version<V>>,
}

/// Builds an index from versions in any order, of which some may be there twice.
pub(crate) struct IndexBuilder<V> {
    index: Index<V>,
    changes: Vec<Change>,
}

impl<V: StoredValue> IndexBuilder<V> {
    pub(crate) fn new(horizon: Revision) -> Self {
        Self {
            index: Index {
                horizon,
                ..Index::new()
            },
            changes: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, key: Bytes, version: Version<V>) {
        let revision = version.mod_revision;
        self.index.advance_to(revision);
        let key = self.index.insert(key, version);
        if revision > self.index.horizon {
            self.changes.extend(key.map(|key| Change { revision, key }));
        }
    }

    /// The counter will not be below `revision`.
    pub(crate) fn finish(mut self, revision: Revision) -> Index<V> {
        self.changes.sort_by_key(|change| change.revision);
        self.changes.shrink_to_fit();
        self.index.changes = self.changes.into();
        self.index.advance_to(revision.max(self.index.horizon));
        self.index.settle();
        self.index
    }
}

#[derive(Debug)]
pub(crate) struct Index<V> {
    keys: BTreeMap<Bytes, Chain<V>>,
    /// Every change above the horizon, ascending.
    changes: VecDeque<Change>,
    horizon: Revision,
    revision: Revision,
    live_keys: usize,
    /// Stored bytes of versions that are not the newest of their key, and of tombstones.
    superseded_bytes: u64,
    /// Versions that the chains have room for, the newest apart.
    older_slots: usize,
}

impl<V: StoredValue> Index<V> {
    pub(crate) fn new() -> Self {
        Self {
            keys: BTreeMap::new(),
            changes: VecDeque::new(),
            horizon: Revision::ZERO,
            revision: Revision::EMPTY_STORE,
            live_keys: 0,
            superseded_bytes: 0,
            older_slots: 0,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn horizon(&self) -> Revision {
        self.horizon
    }

    pub(crate) fn live_keys(&self) -> usize {
        self.live_keys
    }

    pub(crate) fn superseded_bytes(&self) -> u64 {
        self.superseded_bytes
    }

    /// Changes that history remembers.
    pub(crate) fn history_len(&self) -> usize {
        self.changes.len()
    }

    /// Memory that history costs.
    pub(crate) fn history_index_bytes(&self) -> u64 {
        let (changes, versions) = (size_of::<Change>(), size_of::<Version<V>>());
        (self.changes.len() * changes + self.older_slots * versions) as u64
    }

    /// The revision of the `n`-th oldest remembered change.
    pub(crate) fn nth_change(&self, n: usize) -> Option<Revision> {
        self.changes.get(n).map(|c| c.revision)
    }

    /// The newest version of a key that exists.
    pub(crate) fn get(&self, key: &[u8]) -> Option<(&Bytes, &Version<V>)> {
        let (key, chain) = self.keys.get_key_value(key)?;
        (!chain.newest.deleted).then_some((key, &chain.newest))
    }

    /// The version written at exactly `revision`, tombstones included.
    pub(crate) fn version_at(&self, key: &[u8], revision: Revision) -> Option<(&Bytes, &Version<V>)> {
        let (key, chain) = self.keys.get_key_value(key)?;
        let version = chain.at(revision).filter(|v| v.mod_revision == revision)?;
        Some((key, version))
    }

    /// The keys that exist at `revision`, which must not be below the horizon.
    pub(crate) fn range<'a>(
        &'a self,
        range: &'a KeyRange,
        revision: Revision,
    ) -> impl Iterator<Item = Option<(&'a Bytes, &'a Version<V>)>> + 'a {
        // `BTreeMap::range` panics on an inverted range; the filter makes that an empty walk.
        let walk = (!range.is_empty()).then(|| self.keys.range::<[u8], _>(range.bounds()));
        walk.into_iter()
            .flatten()
            .map(move |(key, chain)| chain.at(revision).filter(|v| !v.deleted).map(|v| (key, v)))
    }

    /// Adds a change. Changes of one revision come together, revisions ascend.
    pub(crate) fn apply(&mut self, key: &Bytes, version: Version<V>) {
        debug_assert!(version.mod_revision >= self.revision, "revisions ascend");
        let revision = version.mod_revision;
        self.revision = revision;
        let deleted = version.deleted;
        let shared_key = if let Some(chain) = self.keys.get_mut(key) {
            self.live_keys -= usize::from(!chain.newest.deleted);
            // A tombstone was counted when it came.
            if !chain.newest.deleted {
                self.superseded_bytes += chain.newest.value.size_bytes();
            }
            if deleted {
                self.superseded_bytes += version.value.size_bytes();
            }
            self.older_slots -= chain.older.capacity();
            chain.replace(version);
            self.older_slots += chain.older.capacity();
            None
        } else {
            if deleted {
                self.superseded_bytes += version.value.size_bytes();
            }
            // A copy: the caller's key may be a slice of a much larger buffer.
            let own = Bytes::copy_from_slice(key);
            self.keys.insert(
                own.clone(),
                Chain {
                    newest: version,
                    older: VecDeque::new(),
                },
            );
            Some(own)
        };
        self.live_keys += usize::from(!deleted);
        let key = shared_key.or_else(|| self.keys.get_key_value(key).map(|(own, _)| own.clone()));
        self.changes.push_back(Change {
            revision,
            key: key.expect("the key was just inserted"),
        });
    }

    /// Moves the revision without a change (recovery: the counter outlives the keys).
    pub(crate) fn advance_to(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Forgets the versions that were replaced at or before `horizon`.
    pub(crate) fn trim(&mut self, horizon: Revision) {
        let horizon = horizon.min(self.revision);
        if horizon <= self.horizon {
            return;
        }
        self.horizon = horizon;
        while self.changes.front().is_some_and(|c| c.revision <= horizon) {
            let change = self.changes.pop_front().expect("front was there");
            self.forget_before(&change);
        }
    }

    /// Drops what `change` replaced, and the change itself if it is a deletion.
    fn forget_before(&mut self, change: &Change) {
        let Some(chain) = self.keys.get_mut(&change.key) else {
            return;
        };
        let mut freed = 0;
        self.older_slots -= chain.older.capacity();
        while let Some(front) = chain.older.front() {
            let is_change = front.mod_revision == change.revision;
            if front.mod_revision > change.revision || is_change && !front.deleted {
                break;
            }
            freed += front.value.size_bytes();
            front.value.release();
            chain.older.pop_front();
        }
        if chain.older.capacity() > 4 * chain.older.len() {
            chain.older.shrink_to_fit();
        }
        self.older_slots += chain.older.capacity();
        let gone =
            chain.older.is_empty() && chain.newest.deleted && chain.newest.mod_revision <= change.revision;
        if gone {
            freed += chain.newest.value.size_bytes();
            chain.newest.value.release();
            self.keys.remove(&change.key);
        }
        self.superseded_bytes -= freed;
    }

    /// The changes in `range` from `from` on, at most `limit` looked at, whole revisions only. Also tells the first
    /// revision not covered.
    pub(crate) fn replay(
        &self,
        range: &KeyRange,
        from: Revision,
        limit: usize,
    ) -> (Vec<Replayed<V>>, Revision) {
        let start = self.changes.partition_point(|c| c.revision < from);
        let mut found = Vec::new();
        let mut last = Revision::ZERO;
        for (looked_at, change) in self.changes.range(start..).enumerate() {
            if looked_at >= limit && change.revision != last {
                return (found, change.revision);
            }
            last = change.revision;
            if range.contains(&change.key) {
                found.extend(self.replayed(change));
            }
        }
        (found, self.revision.next())
    }

    fn replayed(&self, change: &Change) -> Option<Replayed<V>> {
        let (key, chain) = self.keys.get_key_value(&change.key)?;
        let version = chain.at(change.revision)?.clone();
        let prev = chain
            .at(change.revision.previous())
            .filter(|v| !v.deleted)
            .cloned();
        Some(Replayed {
            key: key.clone(),
            version,
            prev,
        })
    }

    /// Points a version to where its value now is. False if the index has forgotten it.
    pub(crate) fn relocate(&mut self, key: &[u8], revision: Revision, from: &V, to: V) -> bool {
        let version = self
            .keys
            .get_mut(key)
            .and_then(|chain| chain.exactly_mut(revision));
        match version {
            Some(version) if version.value == *from => {
                version.value = to;
                true
            }
            _ => false,
        }
    }

    /// Every newest version that exists.
    pub(crate) fn live(&self) -> impl Iterator<Item = (&Bytes, &Version<V>)> {
        self.keys
            .iter()
            .filter(|(_, c)| !c.newest.deleted)
            .map(|(k, c)| (k, &c.newest))
    }

    /// Puts a version at its place in the chain. Answers the key, or `None` if the version was there.
    fn insert(&mut self, key: Bytes, version: Version<V>) -> Option<Bytes> {
        let Some((own, _)) = self.keys.get_key_value(&key) else {
            self.keys.insert(
                key.clone(),
                Chain {
                    newest: version,
                    older: VecDeque::new(),
                },
            );
            return Some(key);
        };
        let own = own.clone();
        let chain = self.keys.get_mut(&key).expect("looked up above");
        match version.mod_revision.cmp(&chain.newest.mod_revision) {
            std::cmp::Ordering::Greater => {
                chain.replace(version);
            }
            std::cmp::Ordering::Equal => {
                version.value.release();
                return None;
            }
            std::cmp::Ordering::Less => {
                match chain
                    .older
                    .binary_search_by_key(&version.mod_revision, |v| v.mod_revision)
                {
                    Ok(_) => {
                        version.value.release();
                        return None;
                    }
                    Err(i) => chain.older.insert(i, version),
                }
            }
        }
        Some(own)
    }

    /// After a rebuild: forgets what the horizon allows to forget, and counts.
    fn settle(&mut self) {
        let horizon = self.horizon;
        let (mut live, mut superseded) = (0, 0);
        self.keys.retain(|_, chain| {
            let keep_from = chain.older.partition_point(|v| v.mod_revision <= horizon);
            let newest_is_old = chain.newest.mod_revision <= horizon;
            let mut drop = if newest_is_old {
                chain.older.len()
            } else {
                keep_from.saturating_sub(1)
            };
            if !newest_is_old && keep_from > 0 && chain.older[keep_from - 1].deleted {
                drop = keep_from;
            }
            chain.older.drain(..drop).for_each(|v| v.value.release());
            chain.older.shrink_to_fit();
            if newest_is_old && chain.newest.deleted {
                chain.newest.value.release();
                return false;
            }
            superseded += chain.older.iter().map(|v| v.value.size_bytes()).sum::<u64>();
            if chain.newest.deleted {
                superseded += chain.newest.value.size_bytes();
            } else {
                live += 1;
            }
            true
        });
        self.live_keys = live;
        self.older_slots = self.keys.values().map(|chain| chain.older.capacity()).sum();
        self.superseded_bytes = superseded;
    }
}

#[cfg(test)]
mod tests;
