//! The thread that keeps house: a fresh segment in readiness, the reserve against a full disk, compaction.
//!
//! Only it changes the manifest of an open store.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use super::compaction;
use super::manifest::{Manifest, ManifestWriteError};
use super::segment::{Segment, SegmentKind};
use super::segments::Segments;
use super::shared::{Shared, chain};

/// Space held for the bad day: one segment to write deletions to and one for compaction to write to.
const RESERVE: &str = "RESERVE";

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
    pub(crate) shared: Arc<Shared>,
}

impl Keeper {
    /// Until the channel is closed.
    pub(crate) fn run(&self, wake: &mpsc::Receiver<()>) {
        loop {
            self.keep();
            if wake.recv().is_err() || self.shared.is_stopping() {
                return;
            }
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
            } else {
                tracing::warn!(error = chain(&error), "keeping the datastore in order");
            }
        }
    }

    fn try_keep(&self) -> Result<(), KeepError> {
        let ready = self.hold_reserve().and_then(|()| self.make_spare());
        match ready {
            Ok(()) => {}
            Err(error) if error.is_no_space() => self.relieve()?,
            Err(error) => return Err(error),
        }
        compaction::compact_if_due(&self.shared)?;
        Ok(())
    }

    /// Gains space on a full disk: history is given up, the reserve is lent to compaction.
    fn relieve(&self) -> Result<(), KeepError> {
        if !self.shared.low_space.swap(true, Ordering::Relaxed) {
            tracing::error!("the disk is full: the datastore accepts only deletions");
        }
        self.shared.state.forget_history();
        self.give_up_reserve().map_err(KeepError::Reserve)?;
        compaction::compact_for_space(&self.shared)?;
        self.hold_reserve()?;
        self.make_spare()?;
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
        let held = disk.open(RESERVE).and_then(|file| file.len());
        let wanted = 2 * self.shared.options.segment_bytes;
        match held {
            Ok(length) if length >= wanted => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                disk.create(RESERVE).map_err(KeepError::Reserve)?;
            }
            Err(error) => return Err(KeepError::Reserve(error)),
        }
        let reserved = disk.open(RESERVE).and_then(|file| file.reserve(wanted));
        if reserved.is_err() {
            let _ = self.give_up_reserve();
        }
        reserved.map_err(KeepError::Reserve)
    }

    fn give_up_reserve(&self) -> io::Result<()> {
        match self.shared.disk.remove(RESERVE) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
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
