//! Salvages what is intact of a damaged store, and says what is lost.
//!
//! The salvaged state is written to new segments under a new epoch; the old files stay beside them, renamed. History is
//! given up: with gaps in it, it would lie. A lost batch may have held deletions, so a key may come back.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::time::Instant;

use super::base_writer::{BaseWriteError, BaseWriter};
use super::format::{self, Link, StoreId, VERSION_OVERHEAD};
use super::manifest::{MANIFEST, Manifest, ManifestWriteError};
use super::scan::{self, Control};
use super::segment::{self, Place, SEGMENT_HEADER_BYTES, Segment, SegmentKind};
use crate::disk::{Disk, RealDisk};
use crate::index::{Index, IndexBuilder, Version};
use crate::lease::LeaseTable;
use crate::model::Revision;

/// Bytes that are no whole batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    pub segment: u32,
    pub offset: u64,
    pub bytes: u64,
}

/// What a repair did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepairReport {
    /// Keys in the repaired store.
    pub keys: usize,
    /// Its revision: above every one that the lost bytes can have held.
    pub revision: Revision,
    pub lost: Vec<Lost>,
    /// Segments that the manifest names and that are not there, or whose values could not be read.
    pub missing: Vec<u32>,
    /// The manifest was of no use: every segment found was taken, even one that compaction had replaced.
    pub manifest_lost: bool,
    /// The old files' new names.
    pub kept_aside: Vec<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    #[error("another process has the datastore open")]
    Locked,
    #[error("no segment and no manifest tells which store this was")]
    NothingToSalvage,
    #[error("repair: {action}")]
    Io {
        action: &'static str,
        #[source]
        source: io::Error,
    },
    #[error("repair: {0}")]
    Write(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl From<BaseWriteError> for RepairError {
    fn from(error: BaseWriteError) -> Self {
        Self::Write(Box::new(error))
    }
}

impl From<ManifestWriteError> for RepairError {
    fn from(error: ManifestWriteError) -> Self {
        Self::Write(Box::new(error))
    }
}

fn io_error(action: &'static str) -> impl FnOnce(io::Error) -> RepairError {
    move |source| RepairError::Io { action, source }
}

/// Repairs the store in `directory`, which nobody may have open.
pub fn repair(directory: &Path, segment_bytes: u64) -> Result<RepairReport, RepairError> {
    let disk = RealDisk::open(directory).map_err(io_error("opening the directory"))?;
    repair_on(&disk, segment_bytes)
}

/// As [`repair`], on any disk.
pub fn repair_on(disk: &dyn Disk, segment_bytes: u64) -> Result<RepairReport, RepairError> {
    let _lock = disk.lock().map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => RepairError::Locked,
        _ => io_error("locking the directory")(error),
    })?;
    let found = Found::look(disk)?;
    let mut salvage = Salvage::default();
    for id in &found.wanted {
        match found.segments.get(id) {
            Some((segment, bytes)) => salvage.take(segment, found.store, bytes),
            None => salvage.missing.push(*id),
        }
    }
    salvage.write(disk, &found, segment_bytes)
}

/// What is in the directory.
struct Found {
    store: StoreId,
    manifest: Option<Manifest>,
    segments: BTreeMap<u32, (Arc<Segment>, Vec<u8>)>,
    /// The segments to salvage, oldest first.
    wanted: Vec<u32>,
}

impl Found {
    fn look(disk: &dyn Disk) -> Result<Self, RepairError> {
        let names = disk.list().map_err(io_error("listing the directory"))?;
        let manifest = if names.iter().any(|name| name == MANIFEST) {
            Manifest::load(disk)
                .map_err(io_error("reading the manifest"))?
                .ok()
        } else {
            None
        };
        let mut segments = BTreeMap::new();
        let mut identities = Vec::new();
        for id in names.iter().filter_map(|name| segment::parse_file_name(name)) {
            let file = disk
                .open(&segment::file_name(id))
                .map_err(io_error("opening a segment"))?;
            let segment = Segment::new(id, file);
            let bytes = segment.read_all().map_err(io_error("reading a segment"))?;
            identities.extend(segment::decode_header(&bytes).map(|(store, ..)| store));
            segments.insert(id, (segment, bytes));
        }
        let first = identities.first().copied();
        let store = manifest
            .as_ref()
            .map(|m| m.store)
            .or(first)
            .ok_or(RepairError::NothingToSalvage)?;
        let wanted = manifest.as_ref().map_or_else(
            || segments.keys().copied().collect(),
            |m| {
                m.base
                    .iter()
                    .map(|(id, _)| *id)
                    .chain(m.log.iter().copied())
                    .collect()
            },
        );
        Ok(Self {
            store,
            manifest,
            segments,
            wanted,
        })
    }
}

#[derive(Default)]
struct Salvage {
    versions: Vec<(Bytes, Version<Place>)>,
    controls: Vec<(u64, Control)>,
    lost: Vec<Lost>,
    missing: Vec<u32>,
    epoch: u64,
}

impl Salvage {
    /// Takes every whole batch of a segment.
    fn take(&mut self, segment: &Arc<Segment>, store: StoreId, bytes: &[u8]) {
        let mut at = SEGMENT_HEADER_BYTES as usize;
        while at < bytes.len() {
            if let Ok((header, body)) = format::decode_batch(store, &bytes[at..]) {
                self.epoch = self.epoch.max(header.epoch);
                let end = at + format::padded(body.len());
                match scan::take_batch(segment, at, &header, body) {
                    Ok(batch) => {
                        self.versions.extend(batch.versions);
                        self.controls.extend(batch.controls);
                    }
                    Err(_) => self.lose(segment, at, end),
                }
                at = end;
                continue;
            }
            let next = format::find_batch(store, bytes, at + 8).map_or(bytes.len(), |(next, _)| next);
            if next < bytes.len() || bytes[at..next].iter().any(|byte| *byte != 0) {
                self.lose(segment, at, next);
            }
            at = next;
        }
    }

    fn lose(&mut self, segment: &Segment, from: usize, to: usize) {
        self.lost.push(Lost {
            segment: segment.id,
            offset: from as u64,
            bytes: (to - from) as u64,
        });
    }

    /// Revisions that what is lost can have held at most. A missing segment can have been of the largest size.
    fn revisions_lost(&self, segment_bytes: u64) -> u64 {
        let bytes: u64 = self.lost.iter().map(|lost| lost.bytes).sum();
        (bytes + 2 * segment_bytes * self.missing.len() as u64).div_ceil(VERSION_OVERHEAD as u64)
    }

    fn write(
        mut self,
        disk: &dyn Disk,
        found: &Found,
        segment_bytes: u64,
    ) -> Result<RepairReport, RepairError> {
        let manifest = found.manifest.as_ref();
        let newest = self
            .versions
            .iter()
            .map(|(_, version)| version.mod_revision)
            .max();
        let known = newest
            .into_iter()
            .chain(manifest.map(|m| m.revision))
            .max()
            .unwrap_or(Revision::EMPTY_STORE);
        let revision = Revision::new(known.get().saturating_add(self.revisions_lost(segment_bytes)))
            .ok_or(RepairError::NothingToSalvage)?;
        self.epoch = self.epoch.max(manifest.map_or(0, |m| m.epoch)) + 1;
        let mut index = IndexBuilder::new(revision);
        for (key, version) in std::mem::take(&mut self.versions) {
            index.add(key, version);
        }
        let index = index.finish(revision);
        let first_id = found
            .segments
            .keys()
            .chain(&found.wanted)
            .max()
            .map_or(1, |id| id + 1);
        let mut output = BaseWriter::new(disk, found.store, self.epoch, segment_bytes, first_id);
        let unreadable = copy(&index, found, &mut output)?;
        self.missing.extend(unreadable);
        output.finish()?;
        let log = output.next_id();
        Segment::create(disk, found.store, log, SegmentKind::Log, segment_bytes)
            .and_then(|_| disk.sync_dir())
            .map_err(io_error("making a new log"))?;
        self.manifest(found, revision, &output, log).store(disk)?;
        let kept_aside = set_aside(disk, found).map_err(io_error("renaming the old segments"))?;
        Ok(RepairReport {
            keys: index.live_keys(),
            revision,
            lost: self.lost,
            missing: self.missing,
            manifest_lost: manifest.is_none(),
            kept_aside,
        })
    }

    fn manifest(&self, found: &Found, revision: Revision, output: &BaseWriter<'_>, log: u32) -> Manifest {
        let since = found.manifest.as_ref().map_or(0, |m| m.controls_sequence);
        let mut leases = LeaseTable::default();
        let now = Instant::now();
        for (id, ttl) in found.manifest.iter().flat_map(|m| &m.leases) {
            leases.grant(*id, *ttl, now);
        }
        for (_, control) in self.controls.iter().filter(|(sequence, _)| *sequence > since) {
            control.apply_to(&mut leases, now);
        }
        Manifest {
            store: found.store,
            epoch: self.epoch,
            revision,
            horizon: revision,
            compact: revision,
            leases: leases.list(),
            controls_sequence: 0,
            base: output
                .done
                .iter()
                .map(|(segment, length)| (segment.id, *length))
                .collect(),
            log_start: Link {
                epoch: self.epoch,
                sequence: 0,
                checksum: 0,
            },
            log: vec![log],
        }
    }
}

/// Copies every key that exists. Answers the segments whose values could not be read.
fn copy(index: &Index<Place>, found: &Found, output: &mut BaseWriter<'_>) -> Result<Vec<u32>, RepairError> {
    let mut unreadable = Vec::new();
    for (key, version) in index.live() {
        match version.load(key) {
            Ok(kv) => output.add(key, &kv.value, version, None)?,
            Err(error) => unreadable.push(error.segment()),
        }
    }
    unreadable.retain(|id| found.segments.contains_key(id));
    unreadable.dedup();
    Ok(unreadable)
}

fn set_aside(disk: &dyn Disk, found: &Found) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for id in found.segments.keys() {
        let name = segment::file_name(*id);
        let aside = format!("{name}.damaged");
        disk.rename(&name, &aside)?;
        names.push(aside);
    }
    disk.sync_dir()?;
    Ok(names)
}
