//! Space held for the day the disk is full.

use std::io;

use crate::disk::Disk;

/// A file that only takes up space.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reserve {
    name: &'static str,
}

impl Reserve {
    /// For compaction, and for a segment to write deletions to.
    pub(crate) const SEGMENTS: Self = Self { name: "RESERVE" };
    /// For the next manifest, without which nothing else can be won back.
    pub(crate) const MANIFEST: Self = Self {
        name: "RESERVE.manifest",
    };

    /// Holds so much, if it is not held yet.
    pub(crate) fn hold(self, disk: &dyn Disk, bytes: u64) -> io::Result<()> {
        let file = match disk.open(self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(self.name)?,
            other => other?,
        };
        if file.len()? >= bytes {
            return Ok(());
        }
        let held = file.reserve(bytes);
        if held.is_err() {
            // Part of it is of no use; if this fails too, it is held until the next attempt.
            let _ = self.give_up(disk);
        }
        held
    }

    pub(crate) fn give_up(self, disk: &dyn Disk) -> io::Result<()> {
        match disk.remove(self.name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}
