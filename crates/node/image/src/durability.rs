//! Which unpacked layers survive a power failure.
//!
//! Blobs are synced before they count; unpacked layers are not, because that means to flush the whole file system, which
//! takes seconds beside a build, and a container may start from the page cache meanwhile. A thread syncs them soon
//! after and marks each in `synced/`. The file `boot` names the boot in which the store was last opened: in a new one,
//! layers without a mark may be torn, so they are dropped and unpacked again from their blobs when they are needed.
//! A killed process loses nothing of the page cache, so within one boot every layer that has its name is whole.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cloudeck_oci::Digest;

use crate::blobs::{Blobs, TemporaryPath, replace_file};
use crate::index::IndexError;
use crate::snapshots::Snapshots;
use crate::store::Inner;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The directory `synced` and the file `boot` of a store.
#[derive(Debug)]
pub(crate) struct Durability {
    marks: PathBuf,
    boot: PathBuf,
    snapshots: Snapshots,
    blobs: Blobs,
    /// One sync at a time; who waits finds nothing left to do.
    syncing: Mutex<()>,
}

impl Durability {
    pub(crate) fn open(root: &Path, snapshots: Snapshots, blobs: Blobs) -> io::Result<Self> {
        let marks = root.join("synced");
        fs::create_dir_all(&marks)?;
        Ok(Self {
            marks,
            boot: root.join("boot"),
            snapshots,
            blobs,
            syncing: Mutex::new(()),
        })
    }

    pub(crate) fn marks(&self) -> &Path {
        &self.marks
    }

    /// After a reboot, puts aside what was not synced before it. The caller holds the index lock and drops the result
    /// without it.
    pub(crate) fn recover(&self) -> io::Result<Vec<TemporaryPath>> {
        let current = fs::read(BOOT_ID)?;
        if fs::read(&self.boot).is_ok_and(|known| known == current) {
            return Ok(Vec::new());
        }
        let mut torn = Vec::new();
        for layer in self.unsynced()? {
            let aside = self.blobs.temporary();
            fs::rename(self.snapshots.path(&layer), aside.path())?;
            torn.push(aside);
        }
        replace_file(&self.boot, self.blobs.temporary().path(), &current)?;
        Ok(torn)
    }

    fn unsynced(&self) -> io::Result<Vec<Digest>> {
        let synced: HashSet<_> = digests_in(&self.marks)?.into_iter().collect();
        let mut layers = digests_in(self.snapshots.directory())?;
        layers.retain(|layer| !synced.contains(layer));
        Ok(layers)
    }

    /// Syncs and marks what is unpacked by now. Blocks, perhaps for seconds.
    fn sync(&self) -> io::Result<()> {
        let _alone = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let layers = self.unsynced()?;
        if layers.is_empty() {
            return Ok(());
        }
        self.snapshots.sync()?;
        for layer in layers.iter().filter(|layer| self.snapshots.contains(layer)) {
            File::create(self.marks.join(layer.hex()))?;
        }
        Ok(())
    }
}

impl Inner {
    /// Drops what a power failure may have torn.
    pub(crate) fn recover(&self) -> Result<(), IndexError> {
        let torn = {
            let _lock = self.index_file.lock()?;
            self.durability.recover().map_err(|source| IndexError::Io {
                path: self.root.clone(),
                source,
            })?
        };
        drop(torn);
        Ok(())
    }

    /// Has unpacked layers synced in the background.
    pub(crate) fn sync_soon(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.scope.spawn("image sync", async move {
            let synced = tokio::task::spawn_blocking(move || inner.durability.sync()).await;
            if let Ok(Err(error)) = synced {
                // Costs an unpacking after the next reboot, no more.
                tracing::warn!(%error, "syncing unpacked layers failed");
            }
        });
    }
}

fn digests_in(directory: &Path) -> io::Result<Vec<Digest>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        found.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| Digest::from_hex(name).ok()),
        );
    }
    Ok(found)
}
