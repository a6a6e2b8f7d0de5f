//! Evaluates transactions against the index plus what earlier transactions of the same commit staged.
//!
//! Nothing here is visible to anybody until [`State::apply`](crate::state::State::apply).

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};

use bytes::Bytes;

use crate::error::{ReadError, TxnError};
use crate::index::{Index, StoredValue, Version};
use crate::lease::LeaseTable;
use crate::model::{Compare, Expect, KeyValue, Op, Revision, Txn, TxnResponse};

/// Keys and values of one transaction together: twice what the API server accepts for one object.
pub(crate) const MAX_TXN_BYTES: usize = 8 << 20;

/// A version about to be stored; storing it yields the handle.
pub(crate) struct NewVersion<'a> {
    pub(crate) key: &'a Bytes,
    pub(crate) value: &'a Bytes,
    pub(crate) version: Version<()>,
}

/// One key's change, staged.
pub(crate) struct StagedChange<V> {
    pub(crate) key: Bytes,
    /// As the caller gave it, shared with the watches; empty for a deletion.
    pub(crate) value: Bytes,
    pub(crate) version: Version<V>,
    /// What it replaces, if that existed.
    pub(crate) prev: Option<Version<V>>,
    prev_value: OnceCell<Result<Bytes, ReadError>>,
}

impl<V: StoredValue> StagedChange<V> {
    /// What it replaces, read once however many ask.
    pub(crate) fn load_prev(&self) -> Result<Option<KeyValue>, ReadError> {
        let Some(prev) = &self.prev else { return Ok(None) };
        let value = self.prev_value.get_or_init(|| prev.value.load()).clone()?;
        Ok(Some(prev.key_value(&self.key, value)))
    }
}

/// The transactions of one commit.
pub(crate) struct Staging<'a, V> {
    index: &'a Index<V>,
    leases: &'a LeaseTable,
    changes: Vec<StagedChange<V>>,
    /// Per key, its newest change.
    newest: HashMap<Bytes, usize>,
    revision: Revision,
}

impl<'a, V: StoredValue> Staging<'a, V> {
    pub(crate) fn new(index: &'a Index<V>, leases: &'a LeaseTable) -> Self {
        Self {
            index,
            leases,
            changes: Vec::new(),
            newest: HashMap::new(),
            revision: index.revision(),
        }
    }

    pub(crate) fn into_changes(self) -> Vec<StagedChange<V>> {
        self.changes
    }

    /// Runs `txn`; `store` is called once per change, after everything that can fail.
    pub(crate) fn run(
        &mut self,
        txn: &Txn,
        store: &mut dyn FnMut(NewVersion<'_>) -> V,
    ) -> Result<TxnResponse, TxnError> {
        check(txn)?;
        self.check_leases(txn)?;
        if !txn.compares.iter().all(|c| self.holds(c)) {
            let current = txn
                .compares
                .iter()
                .map(|c| self.load(&c.key))
                .collect::<Result<_, _>>()?;
            return Ok(TxnResponse {
                succeeded: false,
                revision: self.revision,
                prev: Vec::new(),
                current,
            });
        }
        let prev = if txn.prev {
            txn.ops
                .iter()
                .map(|op| self.load(op.key()))
                .collect::<Result<_, _>>()?
        } else {
            Vec::new()
        };
        let revision = self.revision.next();
        for op in &txn.ops {
            self.stage(op, revision, store);
        }
        Ok(TxnResponse {
            succeeded: true,
            revision: self.revision,
            prev,
            current: Vec::new(),
        })
    }

    fn check_leases(&self, txn: &Txn) -> Result<(), TxnError> {
        for op in &txn.ops {
            if let Op::Put {
                lease: Some(lease), ..
            } = op
                && !self.leases.contains(*lease)
            {
                return Err(TxnError::LeaseNotFound(*lease));
            }
        }
        Ok(())
    }

    fn staged(&self, key: &[u8]) -> Option<&StagedChange<V>> {
        self.newest.get(key).map(|&i| &self.changes[i])
    }

    /// The newest existing version of a key, staged ones included.
    fn newest(&self, key: &[u8]) -> Option<&Version<V>> {
        match self.staged(key) {
            Some(change) => (!change.version.deleted).then_some(&change.version),
            None => self.index.get(key).map(|(_, version)| version),
        }
    }

    fn holds(&self, compare: &Compare) -> bool {
        let found = self.newest(&compare.key);
        match compare.expect {
            Expect::Absent => found.is_none(),
            Expect::ModRevision(revision) => found.is_some_and(|v| v.mod_revision == revision),
        }
    }

    fn load(&self, key: &Bytes) -> Result<Option<KeyValue>, ReadError> {
        match self.staged(key) {
            Some(change) if change.version.deleted => Ok(None),
            // Its bytes are not on disk yet.
            Some(change) => Ok(Some(change.version.key_value(key, change.value.clone()))),
            None => self
                .index
                .get(key)
                .map(|(key, version)| version.load(key))
                .transpose(),
        }
    }

    fn stage(&mut self, op: &Op, revision: Revision, store: &mut dyn FnMut(NewVersion<'_>) -> V) {
        let prev = self.newest(op.key()).cloned();
        let (key, value, lease, deleted) = match op {
            Op::Put { key, value, lease } => (key, value.clone(), *lease, false),
            Op::Delete { key } => (key, Bytes::new(), None, true),
        };
        let (create_revision, version) = match &prev {
            _ if deleted => (Revision::ZERO, 0),
            Some(prev) => (prev.create_revision, prev.version + 1),
            None => (revision, 1),
        };
        if deleted && prev.is_none() {
            return;
        }
        let head = Version {
            mod_revision: revision,
            create_revision,
            version,
            lease,
            deleted,
            value: (),
        };
        let stored = store(NewVersion {
            key,
            value: &value,
            version: head.clone(),
        });
        let prev_value = OnceCell::new();
        if let Some(staged) = self.staged(key)
            && prev.is_some()
        {
            let _ = prev_value.set(Ok(staged.value.clone()));
        }
        self.revision = revision;
        self.newest.insert(key.clone(), self.changes.len());
        self.changes.push(StagedChange {
            key: key.clone(),
            value,
            version: head.with(stored),
            prev,
            prev_value,
        });
    }
}

fn check(txn: &Txn) -> Result<(), TxnError> {
    let size = txn.size_bytes();
    if size > MAX_TXN_BYTES {
        return Err(TxnError::TooLarge {
            size,
            limit: MAX_TXN_BYTES,
        });
    }
    if txn.ops.iter().any(|op| op.key().is_empty()) {
        return Err(TxnError::EmptyKey);
    }
    if txn.ops.len() > 1 {
        let mut seen = HashSet::with_capacity(txn.ops.len());
        if !txn.ops.iter().all(|op| seen.insert(op.key())) {
            return Err(TxnError::DuplicateKey);
        }
    }
    Ok(())
}

impl Version<()> {
    /// The same version with its value stored.
    pub(crate) fn with<V>(self, value: V) -> Version<V> {
        Version {
            mod_revision: self.mod_revision,
            create_revision: self.create_revision,
            version: self.version,
            lease: self.lease,
            deleted: self.deleted,
            value,
        }
    }
}
