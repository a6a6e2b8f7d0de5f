//! Unpacked layers: one directory per chain id, complete from the moment it has its name.
//!
//! A chain id names a layer together with all layers below it (OCI image specification, "Layer ChainID"), because
//! what an archive unpacks to depends on them.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cloudeck_oci::Digest;

use crate::blobs::{Blobs, sha256};
use crate::unpack::{self, UnpackError, UnpackLimits};

/// The directory `snapshots` of a store.
#[derive(Debug, Clone)]
pub(crate) struct Snapshots {
    directory: PathBuf,
    blobs: Blobs,
}

/// What to unpack.
pub(crate) struct SnapshotRequest<'a> {
    /// Chain ids up to and including the new layer, lowest first.
    pub(crate) chain: &'a [Digest],
    /// The digest that the uncompressed archive must have.
    pub(crate) diff_id: Digest,
    pub(crate) limits: UnpackLimits,
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

impl Snapshots {
    pub(crate) fn open(root: &Path, blobs: Blobs) -> io::Result<Self> {
        let directory = root.join("snapshots");
        // Layers hold set-user-id programs of strangers: no user of the host may reach them.
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        Ok(Self { directory, blobs })
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn path(&self, chain_id: &Digest) -> PathBuf {
        self.directory.join(chain_id.hex())
    }

    pub(crate) fn contains(&self, chain_id: &Digest) -> bool {
        self.path(chain_id).is_dir()
    }

    /// Unpacks a layer unless it is there already. Blocks.
    pub(crate) fn create(
        &self,
        request: &SnapshotRequest<'_>,
        archive: impl Read,
    ) -> Result<(), UnpackError> {
        let (chain_id, below) = request.chain.split_last().expect("a layer has a chain id");
        let target = self.path(chain_id);
        if target.is_dir() {
            return Ok(());
        }
        let failed = |source| UnpackError::System {
            action: "preparing",
            path: "snapshot".to_owned(),
            source,
        };
        let staging = self.blobs.temporary();
        let (root, discarded) = (staging.path().join("root"), staging.path().join("discarded"));
        for directory in [staging.path(), &root, &discarded] {
            fs::DirBuilder::new()
                .mode(0o700)
                .create(directory)
                .map_err(failed)?;
        }
        // A layer without an entry for its root leaves it as an image's root is: readable by all.
        fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        let lowers: Vec<_> = below.iter().rev().map(|lower| self.path(lower)).collect();
        let layer = unpack::Layer {
            root: &root,
            discarded: &discarded,
            lowers: &lowers,
            limits: request.limits,
            cancelled: request.cancelled,
        };
        let found = unpack::unpack(&layer, archive)?;
        if found != request.diff_id {
            return Err(UnpackError::DiffId {
                expected: request.diff_id,
                found,
            });
        }
        match fs::rename(&root, &target) {
            // Somebody else unpacked the same layer meanwhile.
            Err(_) if target.is_dir() => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Writes everything unpacked so far to disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        rustix::fs::syncfs(fs::File::open(&self.directory)?)?;
        Ok(())
    }
}

/// The chain ids of a stack of layers, lowest first.
pub(crate) fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let id = match chain.last() {
            None => *diff_id,
            Some(below) => sha256(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chain_ids_follow_the_specification() {
        let [a, b] = [sha256(b"a"), sha256(b"b")];
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain[0], a);
        assert_eq!(chain[1], sha256(format!("{a} {b}").as_bytes()));
        assert_ne!(chain_ids(&[b, a])[1], chain[1]);
    }
}
