//! Writes base segments: for compaction and repair.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{BatchWriter, Link, StoreId};
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment, SegmentKind, file_name};
use crate::disk::Disk;
use crate::index::{StoredValue, Version};
use crate::model::Revision;

/// One write, and the longest that the commit thread's own sync waits for it.
const BATCH_BYTES: usize = 512 << 10;

/// A segment that could not be written.
#[derive(Debug, thiserror::Error)]
#[error("writing base segment {segment}")]
pub(crate) struct BaseWriteError {
    pub(crate) segment: u32,
    #[source]
    pub(crate) source: io::Error,
}

/// A version that now lies elsewhere.
pub(crate) struct Moved {
    pub(crate) key: Bytes,
    pub(crate) revision: Revision,
    pub(crate) from: Place,
    pub(crate) to: Place,
}

pub(crate) struct BaseWriter<'a> {
    disk: &'a dyn Disk,
    store: StoreId,
    epoch: u64,
    segment_bytes: u64,
    next_id: u32,
    writer: BatchWriter,
    link: Link,
    /// With where its next batch goes.
    current: Option<(Arc<Segment>, u64)>,
    /// With their lengths.
    pub(crate) done: Vec<(Arc<Segment>, u64)>,
    pub(crate) moved: Vec<Moved>,
}

impl<'a> BaseWriter<'a> {
    pub(crate) fn new(
        disk: &'a dyn Disk,
        store: StoreId,
        epoch: u64,
        segment_bytes: u64,
        first_id: u32,
    ) -> Self {
        Self {
            disk,
            store,
            epoch,
            segment_bytes,
            next_id: first_id,
            writer: BatchWriter::new(store),
            link: start(epoch),
            current: None,
            done: Vec::new(),
            moved: Vec::new(),
        }
    }

    /// The id after the last segment made.
    pub(crate) fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Adds a version. `from` is where the index has it, if it has, and the index's own key.
    pub(crate) fn add<V>(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: &Version<V>,
        from: Option<(Bytes, Place)>,
    ) -> Result<(), BaseWriteError> {
        let (segment, tail) = self.current()?;
        let span = self.writer.version(key, value, version);
        let to = Place::new(&segment, tail, span);
        segment.count(to.size_bytes(), version.mod_revision);
        if let Some((key, from)) = from {
            self.moved.push(Moved {
                key,
                revision: version.mod_revision,
                from,
                to,
            });
        }
        if self.writer.body_bytes() >= BATCH_BYTES {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn current(&mut self) -> Result<(Arc<Segment>, u64), BaseWriteError> {
        if let Some((segment, tail)) = &self.current {
            return Ok((Arc::clone(segment), *tail));
        }
        let id = self.next_id;
        let made = Segment::create(self.disk, self.store, id, SegmentKind::Base, 0);
        let segment = made.map_err(|source| BaseWriteError { segment: id, source })?;
        self.next_id += 1;
        self.link = start(self.epoch);
        self.current = Some((Arc::clone(&segment), SEGMENT_HEADER_BYTES));
        Ok((segment, SEGMENT_HEADER_BYTES))
    }

    /// Writes the batch. Synced at once, so that the disk is never kept busy for long.
    fn flush(&mut self) -> Result<(), BaseWriteError> {
        let Some((segment, tail)) = &mut self.current else {
            return Ok(());
        };
        let (bytes, link) = self.writer.finish(self.link, 0);
        let written = segment
            .file
            .write_at(bytes, *tail)
            .and_then(|()| segment.file.sync_data());
        written.map_err(|source| BaseWriteError {
            segment: segment.id,
            source,
        })?;
        *tail += bytes.len() as u64;
        self.link = link;
        self.writer.clear();
        if *tail >= self.segment_bytes {
            self.done.extend(self.current.take());
        }
        Ok(())
    }

    /// Makes everything durable, names included.
    pub(crate) fn finish(&mut self) -> Result<(), BaseWriteError> {
        if !self.writer.is_empty() {
            self.flush()?;
        }
        self.done.extend(self.current.take());
        self.disk.sync_dir().map_err(|source| BaseWriteError {
            segment: self.next_id,
            source,
        })
    }

    /// Removes what was written; what remains is removed at the next opening.
    pub(crate) fn discard(&self) {
        for (segment, _) in self.done.iter().chain(&self.current) {
            let _ = self.disk.remove(&file_name(segment.id));
        }
    }
}

/// The chain before a base segment's first batch.
fn start(epoch: u64) -> Link {
    Link {
        epoch,
        sequence: 0,
        checksum: 0,
    }
}
