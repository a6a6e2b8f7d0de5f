//! The bytes of the log: batches and the records in them. Pure; hostile input gives an error, never a panic.
//!
//! A *batch* is the unit of recovery: header, records, zeros up to a multiple of eight. Its checksum covers the
//! store's id, the rest of the header and the records. The store's id is random and secret: no value that a client
//! stores can look like a batch, and no block of another store can pass for one of this.

use bytes::Bytes;

use crate::index::Version;
use crate::model::{LeaseId, Revision};

/// Random, made with the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(pub [u8; 16]);

impl StoreId {
    /// What a batch of this store begins with; never zero, so that unwritten space cannot begin one.
    fn magic(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        u32::from_le_bytes([a, b, c, d]) | 1
    }

    fn checksum(self, parts: &[&[u8]]) -> u32 {
        parts.iter().fold(crc32c::crc32c(&self.0), |crc, part| {
            crc32c::crc32c_append(crc, part)
        })
    }
}

pub(crate) const HEADER_BYTES: usize = 48;
/// No batch is longer: one commit is at most a few transactions of the largest size.
pub(crate) const MAX_BODY_BYTES: usize = 64 << 20;

/// The header of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BatchHeader {
    pub(crate) checksum: u32,
    pub(crate) body_bytes: u32,
    /// The checksum of the batch before.
    pub(crate) previous: u32,
    /// One more at each opening of the store.
    pub(crate) epoch: u64,
    /// One more for each batch.
    pub(crate) sequence: u64,
    /// Milliseconds since 1970, for history by age.
    pub(crate) time_ms: u64,
}

/// Why bytes are not a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFault {
    #[error("no batch begins here")]
    NoMagic,
    #[error("the batch is cut short")]
    Short,
    #[error("the batch does not match its checksum")]
    Checksum,
}

/// A record that is not one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed record at byte {offset} of its batch")]
pub struct RecordFault {
    pub offset: usize,
}

/// Bytes of a batch with its padding.
pub(crate) fn padded(body_bytes: usize) -> usize {
    (HEADER_BYTES + body_bytes).next_multiple_of(8)
}

/// Reads the batch at the beginning of `bytes`. Answers its header and its records' bytes.
pub(crate) fn decode_batch(store: StoreId, bytes: &[u8]) -> Result<(BatchHeader, &[u8]), BatchFault> {
    let header = decode_header(store, bytes)?;
    let end = HEADER_BYTES + header.body_bytes as usize;
    let body = bytes.get(HEADER_BYTES..end).ok_or(BatchFault::Short)?;
    if store.checksum(&[&bytes[8..HEADER_BYTES], body]) != header.checksum {
        return Err(BatchFault::Checksum);
    }
    Ok((header, body))
}

/// Reads a header alone, unchecked but for its beginning and its length.
pub(crate) fn decode_header(store: StoreId, bytes: &[u8]) -> Result<BatchHeader, BatchFault> {
    let mut reader = Reader { bytes, at: 0 };
    if reader.u32().ok_or(BatchFault::NoMagic)? != store.magic() {
        return Err(BatchFault::NoMagic);
    }
    let header = reader.header().ok_or(BatchFault::Short)?;
    if header.body_bytes as usize > MAX_BODY_BYTES {
        return Err(BatchFault::Checksum);
    }
    Ok(header)
}

/// Finds the first whole batch at or after `from` (batches begin at multiples of eight).
pub(crate) fn find_batch(store: StoreId, bytes: &[u8], from: usize) -> Option<(usize, BatchHeader)> {
    (from.next_multiple_of(8)..bytes.len().saturating_sub(HEADER_BYTES - 1))
        .step_by(8)
        .find_map(|at| {
            decode_batch(store, &bytes[at..])
                .ok()
                .map(|(header, _)| (at, header))
        })
}

/// One record, borrowed from its batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record<'a> {
    /// A version of a key. The handle is where the value lies in the body.
    Version {
        key: &'a [u8],
        version: Version<BodySpan>,
    },
    /// The API horizon moved.
    Compact(Revision),
    LeaseGrant {
        id: LeaseId,
        ttl_ms: u64,
    },
    LeaseRevoke(LeaseId),
}

/// A value's place within the body of its batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BodySpan {
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
    /// Over the value alone, so that a read can check it.
    pub(crate) checksum: u32,
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const COMPACT: u8 = 3;
const LEASE_GRANT: u8 = 4;
const LEASE_REVOKE: u8 = 5;

/// What a version costs beside its key and value: kind, three lengths or checksums, four counters.
pub(crate) const VERSION_OVERHEAD: usize = 1 + 3 * 4 + 4 * 8;

/// Iterates over the records of a body. Stops after the first fault.
pub(crate) fn decode_records(body: &[u8]) -> impl Iterator<Item = Result<Record<'_>, RecordFault>> {
    let mut reader = Reader { bytes: body, at: 0 };
    let mut failed = false;
    std::iter::from_fn(move || {
        if failed || reader.at == body.len() {
            return None;
        }
        let offset = reader.at;
        let record = reader.record();
        failed = record.is_none();
        Some(record.ok_or(RecordFault { offset }))
    })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn revision(&mut self) -> Option<Revision> {
        Revision::new(self.u64()?)
    }

    /// After the magic.
    fn header(&mut self) -> Option<BatchHeader> {
        let header = BatchHeader {
            checksum: self.u32()?,
            body_bytes: self.u32()?,
            previous: self.u32()?,
            epoch: self.u64()?,
            sequence: self.u64()?,
            time_ms: self.u64()?,
        };
        let _reserved = self.u64()?;
        Some(header)
    }

    fn record(&mut self) -> Option<Record<'a>> {
        match self.take(1)? {
            [kind @ (PUT | DELETE)] => self.version(*kind == DELETE),
            [COMPACT] => Some(Record::Compact(self.revision()?)),
            [LEASE_GRANT] => Some(Record::LeaseGrant {
                id: LeaseId(self.u64()?),
                ttl_ms: self.u64()?,
            }),
            [LEASE_REVOKE] => Some(Record::LeaseRevoke(LeaseId(self.u64()?))),
            _ => None,
        }
    }

    fn version(&mut self, deleted: bool) -> Option<Record<'a>> {
        let (key_bytes, bytes, checksum) = (self.u32()?, self.u32()?, self.u32()?);
        let (mod_revision, create_revision) = (self.revision()?, self.revision()?);
        let (version, lease) = (self.u64()?, self.u64()?);
        let key = self.take(key_bytes as usize)?;
        let offset = self.at as u32;
        self.take(bytes as usize)?;
        let lease = (lease != 0).then_some(LeaseId(lease));
        let value = BodySpan {
            offset,
            bytes,
            checksum,
        };
        let version = Version {
            mod_revision,
            create_revision,
            version,
            lease,
            deleted,
            value,
        };
        (!key.is_empty()).then_some(Record::Version { key, version })
    }
}

/// Builds one batch. The buffer is kept for the next.
pub(crate) struct BatchWriter {
    store: StoreId,
    buffer: Vec<u8>,
}

/// What the header of the next batch needs to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) epoch: u64,
    /// Of the last batch written.
    pub(crate) sequence: u64,
    /// Of the last batch written.
    pub(crate) checksum: u32,
}

impl BatchWriter {
    pub(crate) fn new(store: StoreId) -> Self {
        Self {
            store,
            buffer: vec![0; HEADER_BYTES],
        }
    }

    pub(crate) fn clear(&mut self) {
        // A burst of large values should not be paid for ever.
        self.buffer.truncate(HEADER_BYTES);
        self.buffer.shrink_to(1 << 20);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.len() == HEADER_BYTES
    }

    pub(crate) fn body_bytes(&self) -> usize {
        self.buffer.len() - HEADER_BYTES
    }

    /// Adds a version. Answers the value's place, from the beginning of the batch.
    pub(crate) fn version<V>(&mut self, key: &[u8], value: &[u8], version: &Version<V>) -> BodySpan {
        let checksum = crc32c::crc32c(value);
        self.buffer.push(if version.deleted { DELETE } else { PUT });
        for word in [key.len() as u32, value.len() as u32, checksum] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        let lease = version.lease.map_or(0, |lease| lease.0);
        for word in [
            version.mod_revision.get(),
            version.create_revision.get(),
            version.version,
            lease,
        ] {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
        self.buffer.extend_from_slice(key);
        let offset = self.buffer.len() as u32;
        self.buffer.extend_from_slice(value);
        BodySpan {
            offset,
            bytes: value.len() as u32,
            checksum,
        }
    }

    pub(crate) fn compact(&mut self, revision: Revision) {
        self.words(COMPACT, &[revision.get()]);
    }

    pub(crate) fn lease_grant(&mut self, id: LeaseId, ttl_ms: u64) {
        self.words(LEASE_GRANT, &[id.0, ttl_ms]);
    }

    pub(crate) fn lease_revoke(&mut self, id: LeaseId) {
        self.words(LEASE_REVOKE, &[id.0]);
    }

    fn words(&mut self, kind: u8, words: &[u64]) {
        self.buffer.push(kind);
        for word in words {
            self.buffer.extend_from_slice(&word.to_le_bytes());
        }
    }

    /// Completes the batch. Answers its bytes, padded, and the link for the next one.
    pub(crate) fn finish(&mut self, link: Link, time_ms: u64) -> (&mut Vec<u8>, Link) {
        let body_bytes = self.body_bytes();
        let sequence = link.sequence + 1;
        let mut header = Vec::with_capacity(HEADER_BYTES);
        header.extend_from_slice(&(body_bytes as u32).to_le_bytes());
        header.extend_from_slice(&link.checksum.to_le_bytes());
        for word in [link.epoch, sequence, time_ms, 0] {
            header.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = self.store.checksum(&[&header, &self.buffer[HEADER_BYTES..]]);
        self.buffer[..4].copy_from_slice(&self.store.magic().to_le_bytes());
        self.buffer[4..8].copy_from_slice(&checksum.to_le_bytes());
        self.buffer[8..HEADER_BYTES].copy_from_slice(&header);
        self.buffer.resize(padded(body_bytes), 0);
        (
            &mut self.buffer,
            Link {
                epoch: link.epoch,
                sequence,
                checksum,
            },
        )
    }
}

/// A key that outlives the buffer it was read from.
pub(crate) fn own_key(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}

#[cfg(test)]
mod tests;
