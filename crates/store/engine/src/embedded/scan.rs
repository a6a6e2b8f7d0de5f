//! Reads a segment from its beginning and says how it ends.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tokio::time::Instant;

use super::format::{
    self, BatchFault, BatchHeader, BodySpan, HEADER_BYTES, Link, Record, RecordFault, StoreId, own_key,
};
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment};
use crate::index::{StoredValue, Version};
use crate::lease::LeaseTable;
use crate::model::{LeaseId, Revision};

/// A change that is no key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Control {
    Compact(Revision),
    LeaseGrant(LeaseId, Duration),
    LeaseRevoke(LeaseId),
}

/// Everything up to the first fault.
pub(crate) struct Scan {
    pub(crate) versions: Vec<(Bytes, Version<Place>)>,
    /// With the sequence of their batch.
    pub(crate) controls: Vec<(u64, Control)>,
    /// The last revision of a batch with its time.
    pub(crate) ages: Vec<(Revision, SystemTime)>,
    /// The first byte after the last whole batch.
    pub(crate) end: usize,
    /// Where the last whole batch begins.
    pub(crate) last_batch: Option<usize>,
    pub(crate) link: Link,
    pub(crate) ending: Ending,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Nothing but zeros follows.
    Clean,
    /// Bytes follow that are no batch, and no batch follows them: a write that was cut short.
    Torn,
    /// There is a batch after the fault, or the fault cannot come from a write cut short.
    Damaged(Damage),
}

/// What is wrong with a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    #[error("{0}, and later batches follow")]
    Batch(BatchFault),
    #[error("a whole batch is out of order")]
    Chain,
    #[error(transparent)]
    Record(RecordFault),
    #[error("the segment ends too early")]
    Short,
    #[error("the header is damaged")]
    Header,
}

/// Reads `bytes`, the content of `segment`. The chain must continue `link`.
pub(crate) fn scan(segment: &Arc<Segment>, store: StoreId, bytes: &[u8], link: Link) -> Scan {
    let mut scan = Scan {
        versions: Vec::new(),
        controls: Vec::new(),
        ages: Vec::new(),
        end: SEGMENT_HEADER_BYTES as usize,
        last_batch: None,
        link,
        ending: Ending::Clean,
    };
    scan.ending = loop {
        match format::decode_batch(store, &bytes[scan.end.min(bytes.len())..]) {
            Ok((header, _)) if !scan.continues(&header) => break Ending::Damaged(Damage::Chain),
            Ok((header, body)) => {
                if let Err(fault) = scan.take(segment, &header, body) {
                    break Ending::Damaged(Damage::Record(fault));
                }
            }
            Err(fault) => break ending(store, bytes, scan.end, fault),
        }
    };
    scan
}

/// How a segment ends whose bytes from `at` on are no batch.
fn ending(store: StoreId, bytes: &[u8], at: usize, fault: BatchFault) -> Ending {
    let rest = bytes.get(at..).unwrap_or_default();
    // In pieces, so that it is done many bytes at a time: mostly this is megabytes of reserved space.
    if rest
        .chunks(1024)
        .all(|piece| piece.iter().fold(0, |seen, byte| seen | byte) == 0)
    {
        Ending::Clean
    } else if format::find_batch(store, bytes, at + 8).is_some() {
        Ending::Damaged(Damage::Batch(fault))
    } else {
        Ending::Torn
    }
}

impl Scan {
    fn continues(&self, header: &BatchHeader) -> bool {
        header.sequence == self.link.sequence + 1
            && header.previous == self.link.checksum
            && header.epoch >= self.link.epoch
    }

    fn take(&mut self, segment: &Arc<Segment>, header: &BatchHeader, body: &[u8]) -> Result<(), RecordFault> {
        let batch = take_batch(segment, self.end, header, body)?;
        if let Some((_, last)) = batch.versions.last() {
            let time = SystemTime::UNIX_EPOCH + Duration::from_millis(header.time_ms);
            self.ages.push((last.mod_revision, time));
        }
        self.versions.extend(batch.versions);
        self.controls.extend(batch.controls);
        self.last_batch = Some(self.end);
        self.end += format::padded(body.len());
        self.link = Link {
            epoch: header.epoch,
            sequence: header.sequence,
            checksum: header.checksum,
        };
        Ok(())
    }
}

/// What a batch holds.
pub(crate) struct Batch {
    pub(crate) versions: Vec<(Bytes, Version<Place>)>,
    /// With the batch's sequence.
    pub(crate) controls: Vec<(u64, Control)>,
}

/// Reads the records of the batch that begins at `at`: all of them or none.
pub(crate) fn take_batch(
    segment: &Arc<Segment>,
    at: usize,
    header: &BatchHeader,
    body: &[u8],
) -> Result<Batch, RecordFault> {
    // A look ahead, because a version is counted as it is taken.
    format::decode_records(body).try_for_each(|record| record.map(drop))?;
    let mut batch = Batch {
        versions: Vec::new(),
        controls: Vec::new(),
    };
    for record in format::decode_records(body) {
        let control = match record? {
            Record::Version { key, version } => {
                batch.versions.push((own_key(key), placed(segment, at, version)));
                continue;
            }
            Record::Compact(revision) => Control::Compact(revision),
            Record::LeaseGrant { id, ttl_ms } => Control::LeaseGrant(id, Duration::from_millis(ttl_ms)),
            Record::LeaseRevoke(id) => Control::LeaseRevoke(id),
        };
        batch.controls.push((header.sequence, control));
    }
    Ok(batch)
}

impl Control {
    pub(crate) fn apply_to(&self, leases: &mut LeaseTable, now: Instant) {
        match self {
            Self::Compact(_) => {}
            Self::LeaseGrant(id, ttl) => leases.grant(*id, *ttl, now),
            Self::LeaseRevoke(id) => leases.remove(*id),
        }
    }
}

/// A version with its place in the file, counted there.
fn placed(segment: &Arc<Segment>, batch: usize, version: Version<BodySpan>) -> Version<Place> {
    let span = version.value;
    let from_batch = BodySpan {
        offset: span.offset + HEADER_BYTES as u32,
        ..span
    };
    let place = Place::new(segment, batch as u64, from_batch);
    segment.count(place.size_bytes(), version.mod_revision);
    let head = Version {
        mod_revision: version.mod_revision,
        create_revision: version.create_revision,
        version: version.version,
        lease: version.lease,
        deleted: version.deleted,
        value: (),
    };
    head.with(place)
}
