//! The end of the log: one batch at a time, each durable before the next.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::format::{BatchWriter, HEADER_BYTES, Link, StoreId, padded};
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment};
use crate::index::Version;

/// A batch below this size is written together with zeros after it.
const SMALL_BATCH_BYTES: usize = 16 << 10;
/// The zeros: blocks that were written before need no change of metadata, so fdatasync is one write (66 µs against
/// 85 with reserved but unwritten blocks). About 170 small commits share the cost.
const ZERO_AHEAD_BYTES: u64 = 256 << 10;

/// The pace of a disk that was not used yet: it is slow until it has shown that it is not.
const UNKNOWN_PACE: Duration = Duration::from_millis(10);
/// Over so many batches the pace is averaged.
const PACE_OVER: u32 = 8;

/// A batch that could not be appended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    /// Nothing of it is in the log.
    #[error("no space left for the log")]
    NoSpace,
    /// It may or may not be in the log.
    #[error("{action}")]
    Unknown {
        action: &'static str,
        #[source]
        source: io::Error,
    },
}

pub(crate) struct Log {
    active: Arc<Segment>,
    /// Where the next batch goes.
    tail: u64,
    /// Space is held up to here.
    reserved: u64,
    /// Blocks up to here were written since the segment was opened.
    written: u64,
    link: Link,
    writer: BatchWriter,
    /// A moving average of what a batch takes.
    pace: Duration,
    /// Found at opening; later ones come from the keeper.
    first_spare: Option<Arc<Segment>>,
}

impl Log {
    pub(crate) fn new(
        store: StoreId,
        active: Arc<Segment>,
        tail: u64,
        reserved: u64,
        link: Link,
        first_spare: Option<Arc<Segment>>,
    ) -> Self {
        Self {
            active,
            tail,
            reserved,
            written: tail,
            link,
            writer: BatchWriter::new(store),
            pace: UNKNOWN_PACE,
            first_spare,
        }
    }

    pub(crate) fn link(&self) -> Link {
        self.link
    }

    /// What a batch takes until it is durable, lately.
    pub(crate) fn pace(&self) -> Duration {
        self.pace
    }

    pub(crate) fn take_first_spare(&mut self) -> Option<Arc<Segment>> {
        self.first_spare.take()
    }

    /// Whether a batch with this much in it fits into the space that is held, leaving `keep_free` bytes.
    pub(crate) fn fits(&self, body_bytes: usize, keep_free: u64) -> bool {
        self.tail + padded(body_bytes) as u64 + keep_free <= self.reserved
    }

    /// Whether a fresh segment would help.
    pub(crate) fn has_batches(&self) -> bool {
        self.tail > SEGMENT_HEADER_BYTES
    }

    /// Holds more space in the segment being written.
    pub(crate) fn extend(&mut self, body_bytes: usize, more: u64) -> io::Result<()> {
        let wanted = self.tail + padded(body_bytes) as u64 + more;
        // A value's offset is 32 bits.
        if wanted > u64::from(u32::MAX) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.active.file.reserve(wanted)?;
        self.reserved = wanted;
        Ok(())
    }

    /// Goes on in `spare`; the segment so far is sealed.
    pub(crate) fn roll(&mut self, spare: Arc<Segment>, reserved: u64) {
        let sealed = std::mem::replace(&mut self.active, spare);
        let _ = sealed.end.set(self.link);
        // Gives back what was held; if it fails, or a crash undoes it, zeros follow the last batch.
        if let Err(error) = sealed.file.set_len(self.tail) {
            tracing::warn!(segment = sealed.id, %error, "unused log space not given back");
        }
        self.tail = SEGMENT_HEADER_BYTES;
        self.written = SEGMENT_HEADER_BYTES;
        self.reserved = reserved;
    }

    /// The batch being built.
    pub(crate) fn writer(&mut self) -> &mut BatchWriter {
        &mut self.writer
    }

    /// Adds a version to the batch and tells where its value will lie.
    pub(crate) fn add(&mut self, key: &[u8], value: &[u8], version: &Version<()>) -> Place {
        let span = self.writer.version(key, value, version);
        Place::new(&self.active, self.tail, span)
    }

    /// Writes the batch and waits until it is durable. The batch is gone afterwards, in any case.
    pub(crate) fn append(&mut self, time_ms: u64) -> Result<(), AppendError> {
        let (buffer, link) = self.writer.finish(self.link, time_ms);
        let end = self.tail + buffer.len() as u64;
        if buffer.len() < SMALL_BATCH_BYTES && end > self.written {
            let ahead = (end + ZERO_AHEAD_BYTES).min(self.reserved).max(end);
            buffer.resize((ahead - self.tail) as usize, 0);
        }
        let begun = Instant::now();
        let written = self.active.file.write_at(buffer, self.tail);
        let reached = self.tail + buffer.len() as u64;
        self.writer.clear();
        match written {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Err(self.retract()),
            Err(source) => {
                return Err(AppendError::Unknown {
                    action: "writing to the log",
                    source,
                });
            }
        }
        let sync = self.active.file.sync_data();
        sync.map_err(|source| AppendError::Unknown {
            action: "making the log durable",
            source,
        })?;
        self.pace = (self.pace * (PACE_OVER - 1) + begun.elapsed()) / PACE_OVER;
        self.written = self.written.max(reached);
        self.tail = end;
        self.link = link;
        Ok(())
    }

    /// Makes sure that nothing of a refused batch comes back.
    fn retract(&mut self) -> AppendError {
        let wiped = self
            .active
            .file
            .write_at(&[0; HEADER_BYTES], self.tail)
            .and_then(|()| self.active.file.sync_data());
        match wiped {
            Ok(()) => AppendError::NoSpace,
            Err(source) => AppendError::Unknown {
                action: "taking a refused write back",
                source,
            },
        }
    }

    /// Counts versions that are now in the segment.
    pub(crate) fn active(&self) -> &Arc<Segment> {
        &self.active
    }
}
