//! Writes that a view has not shown yet.
//!
//! Upstream counts expectations. Here every write is remembered with what will prove that it was seen: a created object
//! is in the view, or the informer has lost it again, a deleted one is gone, another, or marked. So a stale cache can
//! neither double a creation nor a deletion, and nothing has to be counted down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_machinery::{Object, ObjectKey};
use compact_str::CompactString;
use tokio::time::Instant;

use crate::view::{Facts, View};

/// A write unseen for so long is forgotten: the object came and went between two looks and nothing followed it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Unseen writes by the uid of the owner they were made for.
#[derive(Default)]
pub(crate) struct Pending {
    owners: Mutex<HashMap<CompactString, Vec<Write>>>,
}

struct Write {
    object: ObjectKey,
    at: Instant,
    kind: Kind,
}

enum Kind {
    Created { revision: u64 },
    Deleted { uid: CompactString },
}

impl Pending {
    pub(crate) fn created(&self, owner: &str, object: &Object) {
        let kind = Kind::Created {
            revision: object.revision,
        };
        self.push(owner, &object.key, kind);
    }

    pub(crate) fn deleted(&self, owner: &str, object: &Object) {
        let uid = object.uid.clone();
        self.push(owner, &object.key, Kind::Deleted { uid });
    }

    fn push(&self, owner: &str, object: &ObjectKey, kind: Kind) {
        let write = Write {
            object: object.clone(),
            at: Instant::now(),
            kind,
        };
        self.lock().entry(owner.into()).or_default().push(write);
    }

    /// Whether all writes for the owner have been seen. Forgets those that have.
    pub(crate) fn is_settled<T: Facts>(&self, owner: &str, view: &View<T>) -> bool {
        let mut owners = self.lock();
        let Some(writes) = owners.get_mut(owner) else {
            return true;
        };
        writes.retain(|write| write.at.elapsed() < PATIENCE && !write.is_seen(view));
        let settled = writes.is_empty();
        if settled {
            owners.remove(owner);
        }
        settled
    }

    pub(crate) fn forget(&self, owner: &str) {
        self.lock().remove(owner);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CompactString, Vec<Write>>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write {
    fn is_seen<T: Facts>(&self, view: &View<T>) -> bool {
        match &self.kind {
            Kind::Created { revision } => view.has_seen(&self.object, *revision),
            Kind::Deleted { uid } => {
                let present: Option<Arc<T>> = view.get(&self.object);
                present.is_none_or(|it| it.object().uid != *uid || it.is_deleting())
            }
        }
    }
}
