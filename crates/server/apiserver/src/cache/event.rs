//! One change of one object, and its wire frames, made once for all watchers.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use cloudeck_machinery::Object;

use super::splice;

/// What a watcher is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum EventType {
    Added,
    Modified,
    Deleted,
}

impl EventType {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }
}

/// One change at one revision.
pub(crate) struct CacheEvent {
    pub(crate) revision: u64,
    pub(crate) change: Change,
    /// The previous object under this event's revision, for watchers whose selection it left.
    gone: OnceLock<Arc<Object>>,
    /// The JSON line per [`EventType`].
    frames: [OnceLock<Bytes>; 3],
}

pub(crate) enum Change {
    Put {
        object: Arc<Object>,
        prev: Option<Arc<Object>>,
    },
    Delete {
        /// The previous object under this event's revision.
        last: Arc<Object>,
    },
}

impl CacheEvent {
    pub(crate) fn put(revision: u64, object: Arc<Object>, prev: Option<Arc<Object>>) -> Self {
        Self::new(revision, Change::Put { object, prev })
    }

    pub(crate) fn delete(revision: u64, prev: &Object) -> Self {
        let last = Arc::new(splice::under_revision(prev, revision));
        Self::new(revision, Change::Delete { last })
    }

    fn new(revision: u64, change: Change) -> Self {
        Self {
            revision,
            change,
            gone: OnceLock::new(),
            frames: Default::default(),
        }
    }

    /// What a watcher with this selection is told: entering, staying or leaving the selection.
    pub(crate) fn seen_by(&self, selects: impl Fn(&Object) -> bool) -> Option<(EventType, Arc<Object>)> {
        match &self.change {
            Change::Put { object, prev } => {
                let before = prev.as_ref().is_some_and(|prev| selects(prev));
                match (before, selects(object)) {
                    (false, true) => Some((EventType::Added, Arc::clone(object))),
                    (true, true) => Some((EventType::Modified, Arc::clone(object))),
                    (true, false) => Some((EventType::Deleted, self.gone(prev.as_ref()?))),
                    (false, false) => None,
                }
            }
            Change::Delete { last } => selects(last).then(|| (EventType::Deleted, Arc::clone(last))),
        }
    }

    fn gone(&self, prev: &Arc<Object>) -> Arc<Object> {
        Arc::clone(
            self.gone
                .get_or_init(|| Arc::new(splice::under_revision(prev, self.revision))),
        )
    }

    /// The JSON line of `kind` and `object`, which [`CacheEvent::seen_by`] answered.
    pub(crate) fn frame(&self, kind: EventType, object: &Object) -> Bytes {
        self.frames[kind as usize]
            .get_or_init(|| frame(kind.as_str(), &object.json))
            .clone()
    }

    /// Bytes that only this event keeps alive once the cache has moved on.
    pub(crate) fn held_bytes(&self) -> usize {
        256 + match &self.change {
            Change::Put { object, prev } => {
                object.json.len() + prev.as_ref().map_or(0, |prev| prev.json.len()) / 2
            }
            Change::Delete { last } => last.json.len(),
        }
    }
}

/// `{"type":"…","object":…}` and a line feed.
pub(crate) fn frame(kind: &str, object: &[u8]) -> Bytes {
    let mut line = Vec::with_capacity(object.len() + 40);
    line.extend_from_slice(b"{\"type\":\"");
    line.extend_from_slice(kind.as_bytes());
    line.extend_from_slice(b"\",\"object\":");
    line.extend_from_slice(object);
    line.extend_from_slice(b"}\n");
    line.into()
}
