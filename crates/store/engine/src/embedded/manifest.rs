//! The list of files that make up the store. Replaced as a whole, at once.

use std::io;
use std::time::Duration;

use super::format::{Link, StoreId};
use super::reserve::Reserve;
use crate::disk::Disk;
use crate::model::{LeaseId, Revision};

pub(crate) const MANIFEST: &str = "MANIFEST";
pub(crate) const MANIFEST_NEW: &str = "MANIFEST.new";
/// Enough for a thousand segments and leases.
pub(crate) const MANIFEST_RESERVE_BYTES: u64 = 16 << 10;
const MAGIC: &[u8; 8] = b"CLDKMAN1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: StoreId,
    /// One more at each opening.
    pub(crate) epoch: u64,
    /// The counter may not fall below it, whatever the segments still hold.
    pub(crate) revision: Revision,
    /// Compaction may have dropped what was replaced at or before it.
    pub(crate) horizon: Revision,
    /// The API horizon and the leases, as of `controls_sequence`; newer batches add to them.
    pub(crate) compact: Revision,
    pub(crate) leases: Vec<(LeaseId, Duration)>,
    pub(crate) controls_sequence: u64,
    /// Files that compaction wrote, with their exact length.
    pub(crate) base: Vec<(u32, u64)>,
    /// The chain before the first file of the log.
    pub(crate) log_start: Link,
    /// In order; the last may be empty, waiting to be used.
    pub(crate) log: Vec<u32>,
}

/// Why the bytes are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ManifestFault {
    #[error("the manifest is damaged")]
    Damaged,
    #[error("the manifest has version {0}, this program knows version 1")]
    Version(u32),
}

impl Manifest {
    /// Replaces the manifest on disk. An error that is `ambiguous` leaves open which one a restart finds.
    pub(crate) fn store(&self, disk: &dyn Disk) -> Result<(), ManifestWriteError> {
        self.replace(disk).map_err(|source| ManifestWriteError {
            ambiguous: false,
            source,
        })?;
        disk.sync_dir().map_err(|source| ManifestWriteError {
            ambiguous: true,
            source,
        })
    }

    fn replace(&self, disk: &dyn Disk) -> io::Result<()> {
        let mut written = self.write_new(disk);
        if written
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        {
            Reserve::MANIFEST.give_up(disk)?;
            written = self.write_new(disk);
        }
        written?;
        disk.rename(MANIFEST_NEW, MANIFEST)?;
        // The old manifest's space is free now. Without the reserve the next one has only the disk's own luck.
        if let Err(error) = Reserve::MANIFEST.hold(disk, MANIFEST_RESERVE_BYTES) {
            tracing::warn!(%error, "no space held for the next manifest");
        }
        Ok(())
    }

    fn write_new(&self, disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(MANIFEST_NEW) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(MANIFEST_NEW)?;
        file.write_at(&self.encode(), 0)?;
        file.sync_data()
    }

    pub(crate) fn load(disk: &dyn Disk) -> io::Result<Result<Self, ManifestFault>> {
        let file = disk.open(MANIFEST)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        file.read_at(&mut bytes, 0)?;
        Ok(Self::decode(&bytes))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&1_u32.to_le_bytes());
        out.extend_from_slice(&self.store.0);
        let link = self.log_start;
        let counters = [
            self.epoch,
            self.revision.get(),
            self.horizon.get(),
            self.compact.get(),
        ];
        let chain = [
            self.controls_sequence,
            link.epoch,
            link.sequence,
            u64::from(link.checksum),
        ];
        let leases = self
            .leases
            .iter()
            .flat_map(|(id, ttl)| [id.0, ttl.as_millis() as u64]);
        let base = self
            .base
            .iter()
            .flat_map(|(id, length)| [u64::from(*id), *length]);
        let log = self.log.iter().map(|id| u64::from(*id));
        let lengths = [
            self.leases.len() as u64,
            self.base.len() as u64,
            self.log.len() as u64,
        ];
        for word in counters
            .into_iter()
            .chain(chain)
            .chain(lengths)
            .chain(leases)
            .chain(base)
            .chain(log)
        {
            out.extend_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&out);
        out.extend_from_slice(&checksum.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let (body, checksum) = bytes.split_last_chunk::<4>().ok_or(ManifestFault::Damaged)?;
        let sound = body.starts_with(MAGIC) && crc32c::crc32c(body) == u32::from_le_bytes(*checksum);
        let version = body
            .get(8..12)
            .and_then(|v| v.try_into().ok())
            .map(u32::from_le_bytes);
        match version {
            Some(1) if sound => decode_body(&body[12..]).ok_or(ManifestFault::Damaged),
            Some(other) if sound => Err(ManifestFault::Version(other)),
            _ => Err(ManifestFault::Damaged),
        }
    }
}

fn decode_body(body: &[u8]) -> Option<Manifest> {
    let (store, words) = body.split_first_chunk::<16>()?;
    let mut words = words
        .chunks_exact(8)
        .map(|w| u64::from_le_bytes(w.try_into().expect("chunks of eight")));
    let mut next = || words.next();
    let (epoch, revision) = (next()?, Revision::new(next()?)?);
    let (horizon, compact) = (Revision::new(next()?)?, Revision::new(next()?)?);
    let controls_sequence = next()?;
    let log_start = Link {
        epoch: next()?,
        sequence: next()?,
        checksum: u32::try_from(next()?).ok()?,
    };
    let (leases, base, log) = (next()?, next()?, next()?);
    let lease =
        |next: &mut dyn FnMut() -> Option<u64>| Some((LeaseId(next()?), Duration::from_millis(next()?)));
    let leases = (0..leases).map(|_| lease(&mut next)).collect::<Option<_>>()?;
    let base = (0..base)
        .map(|_| Some((u32::try_from(next()?).ok()?, next()?)))
        .collect::<Option<_>>()?;
    let log = (0..log)
        .map(|_| u32::try_from(next()?).ok())
        .collect::<Option<_>>()?;
    let store = StoreId(*store);
    Some(Manifest {
        store,
        epoch,
        revision,
        horizon,
        compact,
        leases,
        controls_sequence,
        base,
        log_start,
        log,
    })
}

#[derive(Debug, thiserror::Error)]
#[error("replacing the manifest")]
pub struct ManifestWriteError {
    /// A restart may find the old one or the new one.
    pub(crate) ambiguous: bool,
    #[source]
    pub(crate) source: io::Error,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Manifest {
        let revision = |n| Revision::new(n).unwrap();
        Manifest {
            store: StoreId([7; 16]),
            epoch: 3,
            revision: revision(10),
            horizon: revision(4),
            compact: revision(5),
            leases: vec![(LeaseId(1), Duration::from_secs(9))],
            controls_sequence: 8,
            base: vec![(1, 100), (2, 200)],
            log_start: Link {
                epoch: 2,
                sequence: 6,
                checksum: 99,
            },
            log: vec![3, 4, 5],
        }
    }

    #[test]
    fn a_manifest_reads_back() {
        assert_eq!(Manifest::decode(&sample().encode()), Ok(sample()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let bytes = sample().encode();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            assert!(Manifest::decode(&flipped).is_err(), "byte {at}");
            assert!(Manifest::decode(&bytes[..at]).is_err(), "cut at {at}");
        }
    }
}
