//! The stores under test.

use std::sync::Arc;

use cloudeck_engine::{
    EmbeddedOptions, EmbeddedStore, HistoryPolicy, MemoryOptions, MemoryStore, Revision, Store, WallClock,
};
use cloudeck_task::Scope;

pub(crate) struct Subject {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) scope: Scope,
    _directory: Option<tempfile::TempDir>,
}

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Memory,
    Embedded,
}

impl Subject {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::with_history(kind, HistoryPolicy::default())
    }

    pub(crate) fn with_history(kind: Kind, history: HistoryPolicy) -> Self {
        Self::with_clock(kind, history, WallClock::default())
    }

    pub(crate) fn with_clock(kind: Kind, history: HistoryPolicy, clock: WallClock) -> Self {
        let scope = Scope::root("test");
        match kind {
            Kind::Memory => {
                let options = MemoryOptions { history, clock };
                Self {
                    store: Arc::new(MemoryStore::new(options, &scope)),
                    scope,
                    _directory: None,
                }
            }
            Kind::Embedded => {
                let directory = tempfile::tempdir().unwrap();
                // Small, so that every test that writes a little also rolls.
                let options = EmbeddedOptions {
                    history,
                    clock,
                    segment_bytes: 64 << 10,
                    ..EmbeddedOptions::default()
                };
                let store = Arc::new(EmbeddedStore::open(directory.path(), options, &scope).unwrap());
                Self {
                    store,
                    scope,
                    _directory: Some(directory),
                }
            }
        }
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.scope.request_shutdown();
    }
}

pub(crate) fn revision(n: u64) -> Revision {
    Revision::new(n).unwrap()
}
