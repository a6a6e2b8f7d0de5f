//! Wins back the space of what the index has forgotten.
//!
//! Sealed segments are read through, what the index still refers to is written to new *base* segments, and a new
//! manifest names those instead. A version keeps its revisions. A tombstone is kept as long as history wants it, and
//! after that until no other segment can hold an older version of its key.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::format::{self, BatchWriter, HEADER_BYTES, Link, Record};
use super::keeper::manifest_with;
use super::manifest::ManifestWriteError;
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment, SegmentKind, file_name};
use super::segments::Segments;
use super::shared::Shared;
use crate::index::{StoredValue, Version};
use crate::model::Revision;

/// One write, and the pause after which the commit thread's own sync waits for it at most.
const BATCH_BYTES: usize = 512 << 10;
/// Index entries repointed per hold of the state's lock.
const REPOINT_CHUNK: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    #[error("compaction: {action} segment {segment}")]
    Io {
        action: &'static str,
        segment: u32,
        #[source]
        source: io::Error,
    },
    #[error("compaction: segment {segment} is damaged at offset {offset}")]
    Damaged { segment: u32, offset: usize },
    #[error(transparent)]
    Manifest(#[from] ManifestWriteError),
}

impl CompactionError {
    pub(crate) fn is_no_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => source.kind() == io::ErrorKind::StorageFull,
            Self::Manifest(error) => error.source.kind() == io::ErrorKind::StorageFull,
            Self::Damaged { .. } => false,
        }
    }

    pub(crate) fn is_ambiguous(&self) -> bool {
        matches!(self, Self::Manifest(error) if error.ambiguous)
    }
}

/// The sealed segments to read through: base segments, and the log's first few.
struct Victims {
    base: Vec<Arc<Segment>>,
    log: Vec<Arc<Segment>>,
}

/// Compacts when at least half of the oldest segments is garbage: writing what is kept then costs no more than the
/// space it wins, and the store is at most twice what it holds.
pub(crate) fn compact_if_due(shared: &Shared) -> Result<(), CompactionError> {
    let victims = due(&shared.segments(), shared.options.segment_bytes);
    victims.map_or(Ok(()), |victims| compact(shared, &victims))
}

/// Compacts whatever wins anything and fits into the reserve.
pub(crate) fn compact_for_space(shared: &Shared) -> Result<(), CompactionError> {
    let victims = worthwhile(&shared.segments(), shared.options.segment_bytes);
    victims.map_or(Ok(()), |victims| compact(shared, &victims))
}

fn due(segments: &Segments, segment_bytes: u64) -> Option<Victims> {
    let sealed: Vec<_> = segments.sealed().cloned().collect();
    let sum = |of: &[Arc<Segment>], size: fn(&Segment) -> u64| of.iter().map(|s| size(s)).sum::<u64>();
    let base_total = sum(&segments.base, Segment::total_bytes);
    let base_garbage = sum(&segments.base, Segment::garbage_bytes);
    let enough = |log: &[Arc<Segment>]| {
        let garbage = base_garbage + sum(log, Segment::garbage_bytes);
        let total = base_total + sum(log, Segment::total_bytes);
        garbage >= segment_bytes && garbage * 2 >= total
    };
    let count = (0..=sealed.len()).rev().find(|count| enough(&sealed[..*count]))?;
    Some(Victims {
        base: segments.base.clone(),
        log: sealed[..count].to_vec(),
    })
}

fn worthwhile(segments: &Segments, space: u64) -> Option<Victims> {
    let mut left = space;
    let mut afford = |segment: &Arc<Segment>| {
        let fits = segment.live_bytes() <= left;
        left -= if fits { segment.live_bytes() } else { 0 };
        fits
    };
    let log: Vec<_> = segments
        .sealed()
        .take_while(|segment| afford(segment))
        .cloned()
        .collect();
    let with_garbage = segments.base.iter().filter(|segment| segment.garbage_bytes() > 0);
    let base: Vec<_> = with_garbage.filter(|segment| afford(segment)).cloned().collect();
    let gain = base.iter().chain(&log).any(|segment| segment.garbage_bytes() > 0);
    gain.then_some(Victims { base, log })
}

fn compact(shared: &Shared, victims: &Victims) -> Result<(), CompactionError> {
    let mut output = Output::new(shared);
    let outcome = rewrite(shared, victims, &mut output).and_then(|done| {
        if done {
            swap(shared, victims, &mut output)
        } else {
            Ok(())
        }
    });
    match outcome {
        // Named by the new manifest, perhaps.
        Err(error) if error.is_ambiguous() => Err(error),
        Ok(()) if output.published => {
            drop_victims(shared, victims);
            Ok(())
        }
        other => {
            output.discard();
            other
        }
    }
}

/// Writes what is still wanted of the victims. False if the store is closing.
fn rewrite(shared: &Shared, victims: &Victims, output: &mut Output<'_>) -> Result<bool, CompactionError> {
    let others = oldest_of_others(&shared.segments(), victims);
    for victim in victims.base.iter().chain(&victims.log) {
        let bytes = victim.read_all().map_err(io_error("reading", victim.id))?;
        let mut at = SEGMENT_HEADER_BYTES as usize;
        while let Ok((_, body)) = format::decode_batch(shared.store, &bytes[at.min(bytes.len())..]) {
            if shared.is_stopping() {
                return Ok(false);
            }
            keep_wanted(shared, victim, at, body, others, output)?;
            at += format::padded(body.len());
        }
        // What the index refers to must have been found.
        if bytes
            .get(at..)
            .is_some_and(|rest| rest.iter().any(|byte| *byte != 0))
        {
            return Err(CompactionError::Damaged {
                segment: victim.id,
                offset: at,
            });
        }
    }
    output.finish()?;
    Ok(true)
}

/// The oldest revision in any segment that is no victim.
fn oldest_of_others(segments: &Segments, victims: &Victims) -> u64 {
    let is_victim = |id| {
        victims
            .base
            .iter()
            .chain(&victims.log)
            .any(|victim| victim.id == id)
    };
    segments
        .all()
        .filter(|s| !is_victim(s.id))
        .map(|s| s.min_revision())
        .min()
        .unwrap_or(u64::MAX)
}

fn keep_wanted(
    shared: &Shared,
    victim: &Arc<Segment>,
    at: usize,
    body: &[u8],
    others: u64,
    output: &mut Output<'_>,
) -> Result<(), CompactionError> {
    let damaged = CompactionError::Damaged {
        segment: victim.id,
        offset: at,
    };
    let mut wanted = Vec::new();
    {
        let inner = shared.state.read();
        for record in format::decode_records(body) {
            let Ok(record) = record else { return Err(damaged) };
            // The manifest carries the API horizon and the leases.
            let Record::Version { key, version } = record else {
                continue;
            };
            let span = format::BodySpan {
                offset: version.value.offset + HEADER_BYTES as u32,
                ..version.value
            };
            let place = Place::new(victim, at as u64, span);
            let indexed = inner.index.version_at(key, version.mod_revision);
            let is_indexed = indexed.is_some_and(|indexed| indexed.value == place);
            let is_needed_tombstone =
                version.deleted && indexed.is_none() && others < version.mod_revision.get();
            if is_indexed || is_needed_tombstone {
                wanted.push((key, version, place, is_indexed));
            }
        }
    }
    for (key, version, place, is_indexed) in wanted {
        let value = &body[version.value.offset as usize..][..version.value.bytes as usize];
        output.add(key, value, &version, is_indexed.then_some(place))?;
    }
    Ok(())
}

/// A version that the index must be told about.
struct Moved {
    key: Bytes,
    revision: Revision,
    from: Place,
    to: Place,
}

/// The base segments being written.
struct Output<'a> {
    shared: &'a Shared,
    writer: BatchWriter,
    link: Link,
    current: Option<(Arc<Segment>, u64)>,
    done: Vec<(Arc<Segment>, u64)>,
    moved: Vec<Moved>,
    next_id: u32,
    published: bool,
}

impl<'a> Output<'a> {
    fn new(shared: &'a Shared) -> Self {
        let next_id = shared.segments().next_id();
        let writer = BatchWriter::new(shared.store);
        let link = Link {
            epoch: shared.epoch,
            sequence: 0,
            checksum: 0,
        };
        Self {
            shared,
            writer,
            link,
            current: None,
            done: Vec::new(),
            moved: Vec::new(),
            next_id,
            published: false,
        }
    }

    fn add<V>(
        &mut self,
        key: &[u8],
        value: &[u8],
        version: &Version<V>,
        from: Option<Place>,
    ) -> Result<(), CompactionError> {
        let (segment, tail) = self.current()?;
        let span = self.writer.version(key, value, version);
        let to = Place::new(&segment, tail, span);
        segment.count(to.size_bytes(), version.mod_revision);
        if let Some(from) = from {
            self.moved.push(Moved {
                key: Bytes::copy_from_slice(key),
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

    fn current(&mut self) -> Result<(Arc<Segment>, u64), CompactionError> {
        if let Some((segment, tail)) = &self.current {
            return Ok((Arc::clone(segment), *tail));
        }
        let (shared, id) = (self.shared, self.next_id);
        let segment = Segment::create(&*shared.disk, shared.store, id, SegmentKind::Base, 0)
            .map_err(io_error("making", id))?;
        self.next_id += 1;
        self.link = Link {
            epoch: shared.epoch,
            sequence: 0,
            checksum: 0,
        };
        self.current = Some((Arc::clone(&segment), SEGMENT_HEADER_BYTES));
        Ok((segment, SEGMENT_HEADER_BYTES))
    }

    /// Writes the batch. Synced at once, so that the disk is never kept busy for long.
    fn flush(&mut self) -> Result<(), CompactionError> {
        let Some((segment, tail)) = &mut self.current else {
            return Ok(());
        };
        let (bytes, link) = self.writer.finish(self.link, 0);
        let written = segment
            .file
            .write_at(bytes, *tail)
            .and_then(|()| segment.file.sync_data());
        written.map_err(io_error("writing", segment.id))?;
        *tail += bytes.len() as u64;
        self.link = link;
        self.writer.clear();
        if *tail >= self.shared.options.segment_bytes {
            self.done.extend(self.current.take());
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), CompactionError> {
        if !self.writer.is_empty() {
            self.flush()?;
        }
        self.done.extend(self.current.take());
        let synced = self.shared.disk.sync_dir();
        synced.map_err(io_error("making durable", self.next_id))
    }

    /// Removes what was written; what remains is removed at the next opening.
    fn discard(&self) {
        for (segment, _) in self.done.iter().chain(&self.current) {
            let _ = self.shared.disk.remove(&file_name(segment.id));
        }
    }
}

/// Names the new segments instead of the victims, on disk and then in the index.
fn swap(shared: &Shared, victims: &Victims, output: &mut Output<'_>) -> Result<(), CompactionError> {
    let manifest = manifest_with(shared, |segments| replace(segments, victims, &output.done));
    manifest.store(&*shared.disk)?;
    output.published = true;
    replace(&mut shared.segments(), victims, &output.done);
    for chunk in output.moved.chunks(REPOINT_CHUNK) {
        let mut inner = shared.state.write();
        for moved in chunk {
            if !inner
                .index
                .relocate(&moved.key, moved.revision, &moved.from, moved.to.clone())
            {
                moved.to.release();
            }
        }
    }
    Ok(())
}

fn replace(segments: &mut Segments, victims: &Victims, with: &[(Arc<Segment>, u64)]) {
    let gone = |id| victims.base.iter().any(|victim| victim.id == id);
    let pairs = std::mem::take(&mut segments.base)
        .into_iter()
        .zip(std::mem::take(&mut segments.base_lengths));
    let kept = pairs.filter(|(segment, _)| !gone(segment.id));
    (segments.base, segments.base_lengths) = kept.chain(with.iter().cloned()).unzip();
    if let Some(end) = victims.log.last().and_then(|last| last.end.get()) {
        segments.log_start = *end;
    }
    segments.log.drain(..victims.log.len());
}

/// Removes the victims' files; readers that hold one open can go on.
fn drop_victims(shared: &Shared, victims: &Victims) {
    for victim in victims.base.iter().chain(&victims.log) {
        if let Err(error) = shared.disk.remove(&file_name(victim.id)) {
            tracing::warn!(segment = victim.id, %error, "a compacted segment was not removed; the next opening will");
        }
    }
    if let Err(error) = shared.disk.sync_dir() {
        tracing::warn!(%error, "removal of compacted segments is not durable yet");
    }
}

fn io_error(action: &'static str, segment: u32) -> impl FnOnce(io::Error) -> CompactionError {
    move |source| CompactionError::Io {
        action,
        segment,
        source,
    }
}
