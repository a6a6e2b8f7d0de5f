//! Collects what no image and no container needs, and what a crash left behind.
//!
//! Content on its way in is not in the index yet, so whoever brings some holds the content lock shared, and a
//! collection needs it alone: if it cannot have it at once, the collection is left to the next one. While it has it, things are
//! only renamed; the slow removal happens after others may go on.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use cloudeck_oci::Digest;
use rustix::fs::FlockOperation;

use crate::blobs::TemporaryPath;
use crate::index::{FileLock, Index, IndexError};
use crate::store::Inner;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    pub blobs: usize,
    pub snapshots: usize,
    /// Pieces of interrupted work.
    pub leftovers: usize,
}

/// Why nothing (more) was collected.
#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error("collecting unused image content failed")]
    Io(#[from] io::Error),
}

impl Inner {
    /// The lock that protects incoming content. Waits for a collection's short exclusive phase.
    pub(crate) fn content_lock(&self) -> io::Result<FileLock> {
        FileLock::open(&self.root.join("content.lock"), FlockOperation::LockShared)
    }

    /// Removes unreferenced content. Blocks. None if content is arriving right now.
    pub(crate) fn collect(&self) -> Result<Option<Collected>, CollectError> {
        let lock = FileLock::open(
            &self.root.join("content.lock"),
            FlockOperation::NonBlockingLockExclusive,
        );
        let lock = match lock {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            other => other?,
        };
        let mut garbage = Vec::new();
        let collected = self.set_aside(&mut garbage)?;
        drop(lock);
        let _shared = self.content_lock()?;
        drop(garbage);
        Ok(Some(collected))
    }

    /// Moves everything unneeded under `tmp` and lists it there.
    fn set_aside(&self, garbage: &mut Vec<TemporaryPath>) -> Result<Collected, CollectError> {
        let _index_lock = self.index_file.lock()?;
        let index = self.index_file.load()?;
        for entry in fs::read_dir(self.blobs.temporary_directory())? {
            garbage.push(TemporaryPath::existing(entry?.path()));
        }
        let leftovers = garbage.len();
        let blobs = self.set_aside_from(self.blobs.directory(), &needed_blobs(&index), garbage)?;
        let mut needed: HashSet<_> = index
            .images
            .values()
            .flat_map(|record| &record.chain)
            .copied()
            .collect();
        needed.extend(self.rootfs.leased()?);
        // Marks first: a layer without one is only unpacked again after a reboot, a mark without its layer would lie.
        self.set_aside_from(self.durability.marks(), &needed, garbage)?;
        let snapshots = self.set_aside_from(self.snapshots.directory(), &needed, garbage)?;
        Ok(Collected {
            blobs,
            snapshots,
            leftovers,
        })
    }

    fn set_aside_from(
        &self,
        directory: &Path,
        needed: &HashSet<Digest>,
        garbage: &mut Vec<TemporaryPath>,
    ) -> io::Result<usize> {
        let mut count = 0;
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| Digest::from_hex(name).ok());
            if digest.is_none_or(|digest| !needed.contains(&digest)) {
                let aside = self.blobs.temporary();
                fs::rename(entry.path(), aside.path())?;
                garbage.push(aside);
                count += 1;
            }
        }
        Ok(count)
    }
}

fn needed_blobs(index: &Index) -> HashSet<Digest> {
    let of_record = |(manifest, record): (&Digest, &crate::index::Record)| {
        let documents = record.documents.iter().chain(&record.layers).copied();
        documents.chain([*manifest, record.config]).collect::<Vec<_>>()
    };
    index.images.iter().flat_map(of_record).collect()
}
