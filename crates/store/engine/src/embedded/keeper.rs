//! The thread that keeps house: a fresh segment in readiness, the reserve against a full disk, compaction.
//!
//! Only it changes the manifest of an open store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::compaction;
use super::manifest::{MANIFEST_RESERVE_BYTES, Manifest, ManifestWriteError};
use super::reserve::Reserve;
use super::segment::{Segment, SegmentKind};
use super::segments::Segments;
use super::shared::{Shared, ThreadPanicked};

#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    #[error("preparing a segment")]
    Prepare(#[source] io::Error),
    #[error("holding the reserve")]
    Reserve(#[source] io::Error),
    #[error(transparent)]
    Manifest(#[from] ManifestWriteError),
    #[error(transparent)]
    Compaction(#[from] compaction::CompactionError),
}

impl KeepError {
    fn is_no_space(&self) -> bool {
        let source = match self {
            Self::Prepare(source) | Self::Reserve(source) => source,
            Self::Manifest(error) => &error.source,
            Self::Compaction(error) => return error.is_no_space(),
        };
        source.kind() == io::ErrorKind::StorageFull
    }

    fn is_ambiguous(&self) -> bool {
        match self {
            Self::Manifest(error) => error.ambiguous,
            Self::Compaction(error) => error.is_ambiguous(),
            _ => false,
        }
    }
}

pub(crate) struct Keeper {
    shared: Arc<Shared>,
    wake: mpsc::Receiver<()>,
}

impl Keeper {
    pub(crate) fn new(shared: Arc<Shared>, wake: mpsc::Receiver<()>) -> Self {
        Self { shared, wake }
    }

    /// Until the channel is closed.
    pub(crate) fn run(self) {
        loop {
            self.keep();
            if self.wake.recv().is_err() || self.shared.is_stopping() {
                return;
            }
        }
    }

    /// Keeps house if somebody asked for it.
    pub(crate) fn keep_if_asked(&self) {
        if self.wake.try_recv().is_ok() {
            self.keep();
        }
    }

    /// Does what there is to do, and logs what fails.
    pub(crate) fn keep(&self) {
        if self.shared.poisoned().is_some() {
            return;
        }
        if let Err(error) = self.try_keep() {
            if error.is_ambiguous() {
                self.shared.poison(&error);
            } else if !self.shared.is_stopping() {
                tracing::warn!(
                    error = cloudeck_telemetry::chain(&error),
                    "keeping the datastore in order"
                );
            }
        }
    }

    fn try_keep(&self) -> Result<(), KeepError> {
        let ready = self.hold_reserve().and_then(|()| self.make_spare());
        match ready.and_then(|()| Ok(compaction::compact_if_due(&self.shared)?)) {
            Err(error) if error.is_no_space() => self.relieve(),
            other => {
                if other.is_ok() && self.shared.low_space.swap(false, Ordering::Relaxed) {
                    tracing::info!("the datastore has space again");
                }
                other
            }
        }
    }

    /// Gains space on a full disk: history is given up, the reserve is lent to compaction.
    fn relieve(&self) -> Result<(), KeepError> {
        if !self.shared.low_space.swap(true, Ordering::Relaxed) {
            tracing::error!("the disk is full: the datastore accepts only deletions");
        }
        self.shared.state.forget_history();
        Reserve::SEGMENTS
            .give_up(&*self.shared.disk)
            .map_err(KeepError::Reserve)?;
        compaction::compact_for_space(&self.shared)?;
        // For deletions, even if the reserve cannot be held again.
        self.make_spare()?;
        self.hold_reserve()?;
        self.shared.low_space.store(false, Ordering::Relaxed);
        tracing::info!("the datastore has space again");
        Ok(())
    }

    fn make_spare(&self) -> Result<(), KeepError> {
        if self.shared.has_spare() {
            return Ok(());
        }
        let id = self.shared.segments().next_id();
        let shared = &*self.shared;
        let bytes = shared.options.segment_bytes;
        let made = Segment::create(&*shared.disk, shared.store, id, SegmentKind::Log, bytes);
        let spare = made.map_err(KeepError::Prepare)?;
        shared.disk.sync_dir().map_err(KeepError::Prepare)?;
        let manifest = manifest_with(shared, |segments| segments.log.push(Arc::clone(&spare)));
        manifest.store(&*shared.disk)?;
        shared.segments().log.push(Arc::clone(&spare));
        shared.set_spare(spare);
        Ok(())
    }

    fn hold_reserve(&self) -> Result<(), KeepError> {
        let disk = &*self.shared.disk;
        Reserve::MANIFEST
            .hold(disk, MANIFEST_RESERVE_BYTES)
            .map_err(KeepError::Reserve)?;
        let wanted = 2 * self.shared.options.segment_bytes;
        Reserve::SEGMENTS.hold(disk, wanted).map_err(KeepError::Reserve)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        // Without it the log would grow until the disk is full.
        if std::thread::panicking() {
            self.shared.poison(&ThreadPanicked("keeper"));
        }
    }
}

/// The manifest of what there is now, with one change.
pub(crate) fn manifest_with(shared: &Shared, change: impl FnOnce(&mut Segments)) -> Manifest {
    let mut segments = {
        let now = shared.segments();
        Segments {
            base: now.base.clone(),
            base_lengths: now.base_lengths.clone(),
            log_start: now.log_start,
            log: now.log.clone(),
        }
    };
    change(&mut segments);
    let inner = shared.state.read();
    Manifest {
        store: shared.store,
        epoch: shared.epoch,
        revision: inner.index.revision(),
        horizon: inner.index.horizon(),
        compact: inner.compact,
        leases: inner.leases.list(),
        controls_sequence: inner.sequence,
        base: segments
            .base
            .iter()
            .map(|s| s.id)
            .zip(segments.base_lengths)
            .collect(),
        log_start: segments.log_start,
        log: segments.log.iter().map(|s| s.id).collect(),
    }
}
