//! Opening a store: from files to a state, and a log to append to.
//!
//! Order matters: nothing is changed on disk before everything was read and found sound; then the torn tail is cut,
//! the last batch made durable (it may have been written but not synced), and only then does the manifest name the
//! new epoch.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::SystemTime;

use bytes::Bytes;
use tokio::time::Instant;

use super::format::{Link, StoreId};
use super::log::Log;
use super::manifest::{MANIFEST, MANIFEST_NEW, Manifest, ManifestFault, ManifestWriteError};
use super::scan::{Control, Damage, Ending, Scan, scan};
use super::segment::{self, Place, SEGMENT_HEADER_BYTES, Segment, SegmentKind};
use super::segments::Segments;
use crate::disk::Disk;
use crate::index::{Index, IndexBuilder, Version};
use crate::lease::LeaseTable;
use crate::model::Revision;
use crate::state::AGE_STEP;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has the datastore open")]
    Locked,
    #[error("{action}")]
    Io {
        action: String,
        #[source]
        source: io::Error,
    },
    #[error("{fault}; a repair can salvage what is intact")]
    Manifest { fault: ManifestFault },
    #[error("the directory holds segments but no manifest; a repair can salvage what is intact")]
    NoManifest,
    #[error("segment {segment} is missing; a repair can salvage what is intact")]
    MissingSegment { segment: u32 },
    #[error("segment {segment} is damaged at offset {offset}: {damage}; a repair can salvage what is intact")]
    Corrupt {
        segment: u32,
        offset: u64,
        damage: Damage,
    },
    #[error("starting the store's threads")]
    Threads(#[source] io::Error),
}

impl From<ManifestWriteError> for OpenError {
    fn from(error: ManifestWriteError) -> Self {
        io_error("replacing the manifest")(error.source)
    }
}

pub(crate) fn io_error(action: impl Into<String>) -> impl FnOnce(io::Error) -> OpenError {
    let action = action.into();
    |source| OpenError::Io { action, source }
}

/// What an opening yields.
pub(crate) struct Recovered {
    pub(crate) store: StoreId,
    pub(crate) index: Index<Place>,
    pub(crate) leases: LeaseTable,
    pub(crate) compact: Revision,
    pub(crate) ages: VecDeque<(Revision, SystemTime)>,
    pub(crate) segments: Segments,
    pub(crate) log: Log,
}

/// Opens what is there, or makes a new store. The caller holds the directory's lock.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    segment_bytes: u64,
    new_id: StoreId,
) -> Result<Recovered, OpenError> {
    let names = disk.list().map_err(io_error("listing the directory"))?;
    let manifest = if names.iter().any(|name| name == MANIFEST) {
        let loaded = Manifest::load(&**disk).map_err(io_error("reading the manifest"))?;
        loaded.map_err(|fault| OpenError::Manifest { fault })?
    } else if names
        .iter()
        .any(|name| segment::parse_file_name(name).is_some_and(|id| id != FIRST))
    {
        return Err(OpenError::NoManifest);
    } else {
        create(&**disk, &names, segment_bytes, new_id)?
    };
    let (found, index) = read_and_index(&**disk, &manifest)?;
    found.settle(disk, manifest, &names, index)
}

/// The first segment of a new store. Without a manifest it was never used.
const FIRST: u32 = 1;

fn create(
    disk: &dyn Disk,
    names: &[String],
    segment_bytes: u64,
    store: StoreId,
) -> Result<Manifest, OpenError> {
    let first = segment::file_name(FIRST);
    if names.contains(&first) {
        let unused = disk.open(&first).and_then(|file| first_is_unused(&*file));
        if !unused.map_err(io_error("reading the first segment"))? {
            return Err(OpenError::NoManifest);
        }
        disk.remove(&first)
            .map_err(io_error("removing an unused segment"))?;
    }
    Segment::create(disk, store, FIRST, SegmentKind::Log, segment_bytes)
        .map_err(io_error("making the first segment"))?;
    disk.sync_dir()
        .map_err(io_error("making the first segment durable"))?;
    let manifest = Manifest {
        store,
        epoch: 0,
        revision: Revision::EMPTY_STORE,
        horizon: Revision::ZERO,
        compact: Revision::ZERO,
        leases: Vec::new(),
        controls_sequence: 0,
        base: Vec::new(),
        log_start: Link {
            epoch: 0,
            sequence: 0,
            checksum: 0,
        },
        log: vec![FIRST],
    };
    Ok(manifest)
}

fn first_is_unused(file: &dyn crate::disk::File) -> io::Result<bool> {
    let length = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0; length];
    file.read_at(&mut bytes, 0)?;
    Ok(bytes
        .iter()
        .skip(SEGMENT_HEADER_BYTES as usize)
        .all(|byte| *byte == 0))
}

/// The segments as read.
struct Found {
    base: Vec<Arc<Segment>>,
    log: Vec<(Arc<Segment>, Scan, u64)>,
    /// Position in `log` of the one to go on with.
    active: usize,
}

type Versions = Vec<(Bytes, Version<Place>)>;

/// Reads one segment while another goes into the index: on a thread of its own, at most a segment ahead.
fn read_and_index(disk: &dyn Disk, manifest: &Manifest) -> Result<(Found, Index<Place>), OpenError> {
    let (sender, versions) = sync_channel::<Versions>(1);
    std::thread::scope(|scope| {
        let name = "store-recovery".to_owned();
        let reader = std::thread::Builder::new().name(name);
        let reader = reader.spawn_scoped(scope, move || read(disk, manifest, &sender));
        let reader = reader.map_err(OpenError::Threads)?;
        let mut index = IndexBuilder::new(manifest.horizon);
        for (key, version) in versions.into_iter().flatten() {
            index.add(key, version);
        }
        let found = reader
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok((found, index.finish(manifest.revision)))
    })
}

fn read(disk: &dyn Disk, manifest: &Manifest, versions: &SyncSender<Versions>) -> Result<Found, OpenError> {
    let pass_on = |scan: &mut Scan| {
        // The receiver is there until this function has returned.
        let _ = versions.send(std::mem::take(&mut scan.versions));
    };
    let mut base = Vec::new();
    for (id, length) in &manifest.base {
        let (segment, bytes) = load(disk, manifest.store, *id, SegmentKind::Base)?;
        let start = Link {
            epoch: 0,
            sequence: 0,
            checksum: 0,
        };
        let mut scan = scan(&segment, manifest.store, &bytes, start);
        let damage = match scan.ending {
            Ending::Clean if scan.end as u64 == *length => None,
            Ending::Damaged(damage) => Some(damage),
            Ending::Clean | Ending::Torn => Some(Damage::Short),
        };
        if let Some(damage) = damage {
            return Err(corrupt(&segment, &scan, damage));
        }
        pass_on(&mut scan);
        base.push(segment);
    }
    let mut log = Vec::new();
    let mut link = manifest.log_start;
    for id in &manifest.log {
        let (segment, bytes) = load(disk, manifest.store, *id, SegmentKind::Log)?;
        let mut scan = scan(&segment, manifest.store, &bytes, link);
        if let Ending::Damaged(damage) = scan.ending {
            return Err(corrupt(&segment, &scan, damage));
        }
        link = scan.link;
        pass_on(&mut scan);
        log.push((segment, scan, bytes.len() as u64));
    }
    let active = log
        .iter()
        .rposition(|(_, scan, _)| scan.last_batch.is_some())
        .unwrap_or(0);
    // A write cut short can only be the last one.
    if let Some((segment, scan, _)) = log[..active]
        .iter()
        .find(|(_, scan, _)| scan.ending == Ending::Torn)
    {
        return Err(corrupt(segment, scan, Damage::Short));
    }
    Ok(Found { base, log, active })
}

fn corrupt(segment: &Segment, scan: &Scan, damage: Damage) -> OpenError {
    OpenError::Corrupt {
        segment: segment.id,
        offset: scan.end as u64,
        damage,
    }
}

fn load(
    disk: &dyn Disk,
    store: StoreId,
    id: u32,
    kind: SegmentKind,
) -> Result<(Arc<Segment>, Vec<u8>), OpenError> {
    let file = match disk.open(&segment::file_name(id)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(OpenError::MissingSegment { segment: id });
        }
        other => other.map_err(io_error(format!("opening segment {id}")))?,
    };
    let segment = Segment::new(id, file);
    let bytes = segment
        .read_all()
        .map_err(io_error(format!("reading segment {id}")))?;
    if segment::decode_header(&bytes) == Some((store, id, kind)) {
        Ok((segment, bytes))
    } else {
        Err(OpenError::Corrupt {
            segment: id,
            offset: 0,
            damage: Damage::Header,
        })
    }
}

impl Found {
    /// Makes the disk fit for appending and builds the state.
    fn settle(
        mut self,
        disk: &Arc<dyn Disk>,
        mut manifest: Manifest,
        names: &[String],
        index: Index<Place>,
    ) -> Result<Recovered, OpenError> {
        remove_strangers(&**disk, &manifest, names).map_err(io_error("removing unfinished files"))?;
        let log = self.reopen_log(&manifest)?;
        let unused = self.drop_unused(&mut manifest);
        manifest.epoch += 1;
        let (mut leases, compact) = self.controls(&manifest);
        let ages = thin_out(self.log.iter().flat_map(|(_, scan, _)| &scan.ages));
        let segments = Segments {
            base: self.base,
            log_start: manifest.log_start,
            log: self.log.iter().map(|(segment, ..)| Arc::clone(segment)).collect(),
            base_lengths: manifest.base.iter().map(|(_, length)| *length).collect(),
        };
        for (key, version) in index.live() {
            leases.reattach(key, None, version.lease);
        }
        manifest.store(&**disk)?;
        for segment in unused {
            if let Err(error) = disk.remove(&segment::file_name(segment.id)) {
                tracing::warn!(segment = segment.id, %error, "an unused segment was not removed; the next opening will");
            }
        }
        Ok(Recovered {
            store: manifest.store,
            index,
            leases,
            compact,
            ages,
            segments,
            log,
        })
    }

    /// Cuts the torn tail and makes the last batch durable.
    fn reopen_log(&self, manifest: &Manifest) -> Result<Log, OpenError> {
        for (segment, scan, _) in &self.log[..self.active] {
            let _ = segment.end.set(scan.link);
        }
        for (segment, scan, length) in &self.log[self.active..] {
            let action = || io_error(format!("preparing segment {} for writing", segment.id));
            mend(segment, scan, *length).map_err(action())?;
        }
        let (segment, scan, length) = &self.log[self.active];
        let link = Link {
            epoch: manifest.epoch + 1,
            ..scan.link
        };
        let reserved = (*length).max(scan.end as u64);
        let spare = self
            .log
            .get(self.active + 1)
            .map(|(segment, ..)| Arc::clone(segment));
        Ok(Log::new(
            manifest.store,
            Arc::clone(segment),
            scan.end as u64,
            reserved,
            link,
            spare,
        ))
    }

    /// Forgets the empty segments after the spare. There is one when the process before went on to a segment, had the
    /// next one prepared, and ended before it wrote anything. Only the spare is ever written to, so that one would
    /// stay empty amid the log.
    fn drop_unused(&mut self, manifest: &mut Manifest) -> Vec<Arc<Segment>> {
        let used = self.log.len().min(self.active + 2);
        manifest.log.truncate(used);
        self.log.drain(used..).map(|(segment, ..)| segment).collect()
    }

    /// The leases and the API horizon: as the manifest has them, and what the log adds.
    fn controls(&self, manifest: &Manifest) -> (LeaseTable, Revision) {
        let mut leases = LeaseTable::default();
        let mut compact = manifest.compact;
        let now = Instant::now();
        for (id, ttl) in &manifest.leases {
            leases.grant(*id, *ttl, now);
        }
        let controls = self.log.iter().flat_map(|(_, scan, _)| &scan.controls);
        for (_, control) in controls.filter(|(sequence, _)| *sequence > manifest.controls_sequence) {
            if let Control::Compact(revision) = control {
                compact = compact.max(*revision);
            }
            control.apply_to(&mut leases, now);
        }
        (leases, compact)
    }
}

/// Makes a segment end after its last whole batch, and that batch durable.
///
/// The last batch is written anew: it may be in the page cache only, and after a failed fsync the kernel counts such
/// pages as clean, so that a sync alone would do nothing.
fn mend(segment: &Segment, scan: &Scan, length: u64) -> io::Result<()> {
    let end = scan.end as u64;
    if scan.ending == Ending::Torn {
        // Zeros, not a truncation: that would give back space that may then be missing.
        segment
            .file
            .write_at(&vec![0; length.saturating_sub(end) as usize], end)?;
    }
    if let Some(begin) = scan.last_batch {
        let mut last = vec![0; scan.end - begin];
        // The padding of the very last batch may have been cut off.
        let present = last
            .len()
            .min(usize::try_from(length).map_or(0, |length| length.saturating_sub(begin)));
        segment.file.read_at(&mut last[..present], begin as u64)?;
        segment.file.write_at(&last, begin as u64)?;
    }
    segment.file.sync_data()
}

/// Keeps one time per step.
fn thin_out<'a>(ages: impl Iterator<Item = &'a (Revision, SystemTime)>) -> VecDeque<(Revision, SystemTime)> {
    let mut kept: VecDeque<(Revision, SystemTime)> = VecDeque::new();
    for (revision, at) in ages {
        let near = |(_, last): &(_, SystemTime)| at.duration_since(*last).is_ok_and(|age| age < AGE_STEP);
        if !kept.back().is_some_and(near) {
            kept.push_back((*revision, *at));
        }
    }
    kept
}

/// Removes files that no manifest names: a compaction or preparation that a crash interrupted.
fn remove_strangers(disk: &dyn Disk, manifest: &Manifest, names: &[String]) -> io::Result<()> {
    let known = |id: u32| manifest.log.contains(&id) || manifest.base.iter().any(|(base, _)| *base == id);
    let strangers = names
        .iter()
        .filter(|name| *name == MANIFEST_NEW || segment::parse_file_name(name).is_some_and(|id| !known(id)));
    let mut removed = false;
    for name in strangers {
        disk.remove(name)?;
        removed = true;
    }
    if removed { disk.sync_dir() } else { Ok(()) }
}
