//! Writes that the cache has not shown yet.
//!
//! Upstream counts expectations. Here every write is remembered with what will prove that it was seen: a created pod is
//! in the view or the view is past its revision, a deleted one is gone, another, or marked. So a stale cache can neither
//! double a creation nor a deletion, and nothing has to be counted down.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_machinery::{Object, ObjectKey};
use compact_str::CompactString;
use tokio::time::Instant;

use crate::pod::Pod;
use crate::view::View;

/// A write unseen for so long is forgotten: the pod came and went between two looks and nothing followed it.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// Unseen writes by the uid of the set they were made for.
#[derive(Default)]
pub(super) struct Pending {
    sets: Mutex<HashMap<CompactString, Vec<Write>>>,
}

struct Write {
    pod: ObjectKey,
    at: Instant,
    kind: Kind,
}

enum Kind {
    Created { revision: u64 },
    Deleted { uid: CompactString },
}

impl Pending {
    pub(super) fn created(&self, set: &str, pod: &Object) {
        let kind = Kind::Created {
            revision: pod.revision,
        };
        self.push(set, &pod.key, kind);
    }

    pub(super) fn deleted(&self, set: &str, pod: &Pod) {
        let uid = pod.object.uid.clone();
        self.push(set, &pod.object.key, Kind::Deleted { uid });
    }

    fn push(&self, set: &str, pod: &ObjectKey, kind: Kind) {
        let write = Write {
            pod: pod.clone(),
            at: Instant::now(),
            kind,
        };
        self.lock().entry(set.into()).or_default().push(write);
    }

    /// Whether all writes for the set have been seen. Forgets those that have.
    pub(super) fn is_settled(&self, set: &str, pods: &View<Pod>) -> bool {
        let mut sets = self.lock();
        let Some(writes) = sets.get_mut(set) else {
            return true;
        };
        writes.retain(|write| write.at.elapsed() < PATIENCE && !write.is_seen(pods));
        let settled = writes.is_empty();
        if settled {
            sets.remove(set);
        }
        settled
    }

    pub(super) fn forget(&self, set: &str) {
        self.lock().remove(set);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<CompactString, Vec<Write>>> {
        self.sets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write {
    fn is_seen(&self, pods: &View<Pod>) -> bool {
        let present: Option<Arc<Pod>> = pods.get(&self.pod);
        match &self.kind {
            Kind::Created { revision } => present.is_some() || pods.has_reached(*revision),
            Kind::Deleted { uid } => present.is_none_or(|pod| pod.object.uid != *uid || pod.deleting),
        }
    }
}
