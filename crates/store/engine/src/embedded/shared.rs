//! What the store's threads and its handle share.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use super::EmbeddedOptions;
use super::format::StoreId;
use super::segment::{Place, Segment};
use super::segments::Segments;
use crate::disk::Disk;
use crate::state::State;

pub(crate) struct Shared {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) options: EmbeddedOptions,
    pub(crate) store: StoreId,
    pub(crate) epoch: u64,
    pub(crate) state: Arc<State<Place>>,
    pub(crate) segments: Mutex<Segments>,
    /// An empty segment, named by the manifest, for the committer to go on in.
    pub(crate) spare: Mutex<Option<Arc<Segment>>>,
    /// Set while the reserve is not held: only deletions are accepted.
    pub(crate) low_space: AtomicBool,
    pub(crate) stopping: AtomicBool,
    pub(crate) lease_changed: Notify,
    pub(crate) failed: Notify,
    pub(crate) keeper: Mutex<Option<SyncSender<()>>>,
    pub(crate) poison: OnceLock<String>,
}

impl Shared {
    pub(crate) fn poisoned(&self) -> Option<String> {
        self.poison.get().cloned()
    }

    /// Takes no more writes. Answers the first reason there was.
    pub(crate) fn poison(&self, error: &dyn Error) -> String {
        let reason = self.poison.get_or_init(|| {
            let reason = cloudeck_telemetry::chain(error);
            tracing::error!(
                error = reason,
                "the datastore failed and takes no more writes; it must be opened anew"
            );
            reason
        });
        self.failed.notify_waiters();
        reason.clone()
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, Segments> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take_spare(&self) -> Option<Arc<Segment>> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn has_spare(&self) -> bool {
        self.spare
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    pub(crate) fn set_spare(&self, spare: Arc<Segment>) {
        *self.spare.lock().unwrap_or_else(PoisonError::into_inner) = Some(spare);
    }

    /// Has the keeper look at what there is to do.
    pub(crate) fn wake_keeper(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        match keeper.as_ref().map(|wake| wake.try_send(())) {
            // Full: it is going to look anyway. Disconnected: the store is closing.
            None | Some(Ok(()) | Err(TrySendError::Full(()) | TrySendError::Disconnected(()))) => {}
        }
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// A thread of the store ended as it should not.
#[derive(Debug, thiserror::Error)]
#[error("the {0} thread panicked")]
pub(crate) struct ThreadPanicked(pub(crate) &'static str);
