//! Wins back the space of what the index has forgotten.
//!
//! Sealed segments are read through, what the index still refers to is written to new *base* segments, and a new
//! manifest names those instead. A version keeps its revisions. A tombstone is kept as long as history wants it, and
//! after that until no other segment can hold an older version of its key.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use super::base_writer::{BaseWriteError, BaseWriter};
use super::format::{self, BodySpan, HEADER_BYTES, Link, Record};
use super::keeper::manifest_with;
use super::manifest::ManifestWriteError;
use super::segment::{Place, SEGMENT_HEADER_BYTES, Segment, file_name};
use super::segments::Segments;
use super::shared::Shared;
use crate::index::{StoredValue, Version};

/// Index entries repointed per hold of the state's lock.
const REPOINT_CHUNK: usize = 256;

#[derive(Debug, thiserror::Error)]
pub(crate) enum CompactionError {
    #[error("compaction: reading segment {segment}")]
    Read {
        segment: u32,
        #[source]
        source: io::Error,
    },
    #[error("compaction: segment {segment} is damaged at offset {offset}")]
    Damaged { segment: u32, offset: usize },
    /// Left for the next opening.
    #[error("compaction: the store is closing")]
    Closing,
    #[error(transparent)]
    Write(#[from] BaseWriteError),
    #[error(transparent)]
    Manifest(#[from] ManifestWriteError),
}

impl CompactionError {
    pub(crate) fn is_no_space(&self) -> bool {
        let source = match self {
            Self::Write(error) => &error.source,
            Self::Manifest(error) => &error.source,
            Self::Read { .. } | Self::Damaged { .. } | Self::Closing => return false,
        };
        source.kind() == io::ErrorKind::StorageFull
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

/// What to read through on a full disk: as much as fits into `space`, those with the least to keep first. The log only
/// from its beginning, even if that gains nothing yet: it becomes base, and then what comes after it can go.
fn worthwhile(segments: &Segments, space: u64) -> Option<Victims> {
    let sealed: Vec<_> = segments.sealed().cloned().collect();
    let mut base: Vec<_> = segments
        .base
        .iter()
        .filter(|s| s.garbage_bytes() > 0)
        .cloned()
        .collect();
    let garbage: u64 = sealed
        .iter()
        .chain(&base)
        .map(|segment| segment.garbage_bytes())
        .sum();
    // Less is not worth a rewrite after every deletion.
    if garbage < space / 4 {
        return None;
    }
    base.sort_by_key(|segment| segment.live_bytes());
    let mut left = space;
    let mut afford = |segment: &Arc<Segment>| {
        let fits = segment.live_bytes() <= left;
        left -= if fits { segment.live_bytes() } else { 0 };
        fits
    };
    let base: Vec<_> = base.into_iter().filter(|segment| afford(segment)).collect();
    let log: Vec<_> = sealed.into_iter().take_while(|segment| afford(segment)).collect();
    (!base.is_empty() || !log.is_empty()).then_some(Victims { base, log })
}

fn compact(shared: &Shared, victims: &Victims) -> Result<(), CompactionError> {
    let first_id = shared.segments().next_id();
    let segment_bytes = shared.options.segment_bytes;
    let mut output = BaseWriter::new(&*shared.disk, shared.store, shared.epoch, segment_bytes, first_id);
    match rewrite(shared, victims, &mut output).and_then(|()| publish(shared, victims, &output)) {
        Ok(()) => {
            replace(&mut shared.segments(), victims, &output.done);
            repoint(shared, &output);
            drop_victims(shared, victims);
            Ok(())
        }
        // Named by the new manifest, perhaps.
        Err(error) if error.is_ambiguous() => Err(error),
        Err(error) => {
            output.discard();
            Err(error)
        }
    }
}

/// Writes what is still wanted of the victims.
fn rewrite(shared: &Shared, victims: &Victims, output: &mut BaseWriter<'_>) -> Result<(), CompactionError> {
    let (others, mut chain) = {
        let segments = shared.segments();
        (oldest_of_others(&segments, victims), segments.log_start)
    };
    for victim in victims.base.iter().chain(&victims.log) {
        let read = victim.read_all();
        let bytes = read.map_err(|source| CompactionError::Read {
            segment: victim.id,
            source,
        })?;
        let mut at = SEGMENT_HEADER_BYTES as usize;
        let mut checksum = None;
        while let Ok((header, body)) = format::decode_batch(shared.store, &bytes[at.min(bytes.len())..]) {
            if shared.is_stopping() {
                return Err(CompactionError::Closing);
            }
            for (key, version, place) in wanted(shared, victim, at, body, others)? {
                let value = &body[version.value.offset as usize..][..version.value.bytes as usize];
                output.add(key, value, &version, place)?;
            }
            checksum = Some(header.checksum);
            at += format::padded(body.len());
        }
        let complete = match victim.end.get() {
            Some(end) => ends_at(checksum, *end, std::mem::replace(&mut chain, *end)),
            None => at >= bytes.len(),
        };
        if !complete {
            return Err(CompactionError::Damaged {
                segment: victim.id,
                offset: at,
            });
        }
    }
    Ok(output.finish()?)
}

/// Whether a log segment whose last batch has the checksum was read to its end. One without batches leaves the chain
/// where it was.
fn ends_at(checksum: Option<u32>, end: Link, before: Link) -> bool {
    match checksum {
        Some(checksum) => checksum == end.checksum,
        None => (end.sequence, end.checksum) == (before.sequence, before.checksum),
    }
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

/// A record to keep; if the index refers to it, with the index's key and its place.
type Wanted<'a> = (&'a [u8], Version<BodySpan>, Option<(Bytes, Place)>);

/// What to keep of the batch at `at`.
fn wanted<'a>(
    shared: &Shared,
    victim: &Arc<Segment>,
    at: usize,
    body: &'a [u8],
    others: u64,
) -> Result<Vec<Wanted<'a>>, CompactionError> {
    let mut wanted = Vec::new();
    let inner = shared.state.read();
    for record in format::decode_records(body) {
        let record = record.map_err(|_| CompactionError::Damaged {
            segment: victim.id,
            offset: at,
        })?;
        // The manifest carries the API horizon and the leases.
        let Record::Version { key, version } = record else {
            continue;
        };
        let span = BodySpan {
            offset: version.value.offset + HEADER_BYTES as u32,
            ..version.value
        };
        let place = Place::new(victim, at as u64, span);
        match inner.index.version_at(key, version.mod_revision) {
            Some((own, indexed)) if indexed.value == place => {
                wanted.push((key, version, Some((own.clone(), place))));
            }
            None if version.deleted && others < version.mod_revision.get() => {
                wanted.push((key, version, None));
            }
            // Forgotten, or another copy is the one in use.
            Some(_) | None => {}
        }
    }
    Ok(wanted)
}

/// Names the new segments instead of the victims, on disk.
fn publish(shared: &Shared, victims: &Victims, output: &BaseWriter<'_>) -> Result<(), CompactionError> {
    let manifest = manifest_with(shared, |segments| replace(segments, victims, &output.done));
    Ok(manifest.store(&*shared.disk)?)
}

/// Makes the index refer to the new segments.
fn repoint(shared: &Shared, output: &BaseWriter<'_>) {
    for chunk in output.moved.chunks(REPOINT_CHUNK) {
        let mut inner = shared.state.write();
        for moved in chunk {
            if !inner
                .index
                .relocate(&moved.key, moved.revision, &moved.from, moved.to.clone())
            {
                // Forgotten in between.
                moved.to.release();
            }
        }
    }
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

#[cfg(test)]
mod tests;
