//! One file of the log, and a value's place in it.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::format::{BodySpan, Link, StoreId, VERSION_OVERHEAD};
use crate::disk::{Disk, File};
use crate::error::ReadError;
use crate::index::StoredValue;
use crate::model::Revision;

pub(crate) const SEGMENT_HEADER_BYTES: u64 = 64;
const MAGIC: &[u8; 8] = b"CLDKSEG1";

/// What a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SegmentKind {
    /// Commits in the order they were made.
    Log,
    /// What compaction kept, in any order.
    Base,
}

/// A file of the store. Sizes are counted as [`Place::size_bytes`] counts, to be comparable.
pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) file: Arc<dyn File>,
    /// Where the chain of batches stands at its end; set when nothing more will be written.
    pub(crate) end: OnceLock<Link>,
    /// Of everything in it.
    total_bytes: AtomicU64,
    /// Of what the index refers to.
    live_bytes: AtomicU64,
    /// The oldest revision in it.
    min_revision: AtomicU64,
}

impl Segment {
    pub(crate) fn new(id: u32, file: Arc<dyn File>) -> Arc<Self> {
        Arc::new(Self {
            id,
            file,
            end: OnceLock::new(),
            total_bytes: AtomicU64::new(0),
            live_bytes: AtomicU64::new(0),
            min_revision: AtomicU64::new(u64::MAX),
        })
    }

    /// Makes the file with its header, durable but for its name.
    pub(crate) fn create(
        disk: &dyn Disk,
        store: StoreId,
        id: u32,
        kind: SegmentKind,
        reserve: u64,
    ) -> io::Result<Arc<Self>> {
        let name = file_name(id);
        let file = match disk.create(&name) {
            // Of an earlier attempt: no manifest names an id that is still to be given.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&name)?;
                disk.create(&name)?
            }
            other => other?,
        };
        let written = Self::begin(&*file, store, id, kind, reserve);
        if let Err(error) = written {
            // Nothing refers to it; if this fails too, the next opening removes it.
            let _ = disk.remove(&name);
            return Err(error);
        }
        Ok(Self::new(id, file))
    }

    fn begin(file: &dyn File, store: StoreId, id: u32, kind: SegmentKind, reserve: u64) -> io::Result<()> {
        if reserve > 0 {
            file.reserve(reserve)?;
        }
        file.write_at(&encode_header(store, id, kind), 0)?;
        file.sync_data()
    }

    /// Counts a version that was written or found in it.
    pub(crate) fn count(&self, size_bytes: u64, revision: Revision) {
        self.total_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        self.live_bytes.fetch_add(size_bytes, Ordering::Relaxed);
        self.min_revision.fetch_min(revision.get(), Ordering::Relaxed);
    }

    pub(crate) fn total_bytes(&self) -> u64 {
        self.total_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn garbage_bytes(&self) -> u64 {
        self.total_bytes().saturating_sub(self.live_bytes())
    }

    pub(crate) fn min_revision(&self) -> u64 {
        self.min_revision.load(Ordering::Relaxed)
    }

    /// Everything in the file.
    pub(crate) fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = usize::try_from(self.file.len()?).map_err(io::Error::other)?;
        let mut bytes = vec![0; length];
        self.file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

pub(crate) fn file_name(id: u32) -> String {
    format!("{id:08}.seg")
}

/// The id in a segment's file name.
pub(crate) fn parse_file_name(name: &str) -> Option<u32> {
    name.strip_suffix(".seg")?.parse().ok()
}

/// Magic, version, kind, id, store, zeros, checksum.
fn encode_header(store: StoreId, id: u32, kind: SegmentKind) -> [u8; SEGMENT_HEADER_BYTES as usize] {
    let mut header = [0; SEGMENT_HEADER_BYTES as usize];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&1_u32.to_le_bytes());
    header[12..16].copy_from_slice(&u32::from(kind == SegmentKind::Base).to_le_bytes());
    header[16..20].copy_from_slice(&id.to_le_bytes());
    header[20..36].copy_from_slice(&store.0);
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Reads a segment's header: the store it belongs to, its id and kind.
pub(crate) fn decode_header(bytes: &[u8]) -> Option<(StoreId, u32, SegmentKind)> {
    let header = bytes.get(..SEGMENT_HEADER_BYTES as usize)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let sound = header[..8] == *MAGIC && word(8) == 1 && word(60) == crc32c::crc32c(&header[..60]);
    let kind = match word(12) {
        0 => SegmentKind::Log,
        1 => SegmentKind::Base,
        _ => return None,
    };
    let store = StoreId(header[20..36].try_into().ok()?);
    sound.then_some((store, word(16), kind))
}

/// Where a value lies.
#[derive(Clone)]
pub(crate) struct Place {
    segment: Arc<Segment>,
    offset: u32,
    bytes: u32,
    checksum: u32,
}

impl Place {
    /// The place of a value in the batch that begins at `batch`. `span` counts from there.
    pub(crate) fn new(segment: &Arc<Segment>, batch: u64, span: BodySpan) -> Self {
        Self {
            segment: Arc::clone(segment),
            offset: batch as u32 + span.offset,
            bytes: span.bytes,
            checksum: span.checksum,
        }
    }

    fn read(&self) -> io::Result<Vec<u8>> {
        let mut value = vec![0; self.bytes as usize];
        self.segment.file.read_at(&mut value, u64::from(self.offset))?;
        Ok(value)
    }
}

impl PartialEq for Place {
    fn eq(&self, other: &Self) -> bool {
        self.segment.id == other.segment.id && self.offset == other.offset
    }
}

impl StoredValue for Place {
    fn load(&self) -> Result<Bytes, ReadError> {
        if self.bytes == 0 {
            return Ok(Bytes::new());
        }
        let (segment, offset) = (self.segment.id, u64::from(self.offset));
        let value = self.read().map_err(|error| ReadError::Io {
            segment,
            offset,
            reason: error.to_string(),
        })?;
        if crc32c::crc32c(&value) == self.checksum {
            Ok(value.into())
        } else {
            Err(ReadError::Corrupt { segment, offset })
        }
    }

    fn size_bytes(&self) -> u64 {
        u64::from(self.bytes) + VERSION_OVERHEAD as u64
    }

    fn release(&self) {
        self.segment
            .live_bytes
            .fetch_sub(self.size_bytes(), Ordering::Relaxed);
    }
}
