//! The directories of one container's root file system. Mounting them is the runtime's task.
//!
//! `rootfs/KEY/` holds `upper` and `work` for overlayfs and `lease.json`, which keeps the image's snapshots from being
//! collected as long as the directory exists, whatever happens to the image's names.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use cloudeck_oci::Digest;
use serde::{Deserialize, Serialize};

use crate::blobs::{Blobs, TemporaryPath};

const LEASE: &str = "lease.json";
const EMPTY: &str = "empty";
const KEY_LENGTH_MAX: usize = 128;

/// What overlayfs is mounted from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootFs {
    /// Read-only layers, top first; an image without layers has one that is empty.
    pub lowers: Vec<PathBuf>,
    pub upper: PathBuf,
    pub work: PathBuf,
}

/// Why a root file system was not prepared or released.
#[derive(Debug, thiserror::Error)]
pub enum RootFsError {
    #[error("container key {0:?} is not usable as a file name")]
    Key(String),
    #[error("image {0} is not in the store")]
    NoImage(Digest),
    #[error("layer {0} of the image is not unpacked")]
    NoSnapshot(Digest),
    #[error("root file system of container {key:?} belongs to another image")]
    Taken { key: String },
    #[error(transparent)]
    Index(#[from] crate::index::IndexError),
    #[error(transparent)]
    Restore(#[from] crate::install::InstallError),
    #[error("preparing or releasing {path} failed")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Lease {
    version: u32,
    image: Digest,
    chain: Vec<Digest>,
}

/// The directory `rootfs` of a store.
#[derive(Debug, Clone)]
pub(crate) struct RootFileSystems {
    directory: PathBuf,
    blobs: Blobs,
}

impl RootFileSystems {
    pub(crate) fn open(root: &Path, blobs: Blobs) -> io::Result<Self> {
        let directory = root.join("rootfs");
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        Ok(Self { directory, blobs })
    }

    /// Makes the directories, or finds those of before a restart. The caller holds the index lock.
    pub(crate) fn prepare(
        &self,
        key: &str,
        image: Digest,
        chain: &[Digest],
        lowers: Vec<PathBuf>,
    ) -> Result<RootFs, RootFsError> {
        let target = self.path(key)?;
        // An overlay needs a lower directory.
        let lowers = if lowers.is_empty() {
            vec![target.join(EMPTY)]
        } else {
            lowers
        };
        let rootfs = RootFs {
            lowers,
            upper: target.join("upper"),
            work: target.join("work"),
        };
        let lease = Lease {
            version: 1,
            image,
            chain: chain.to_vec(),
        };
        if target.is_dir() {
            match read_lease(&target).map_err(at(&target))? {
                Some(known) if known == lease => return Ok(rootfs),
                Some(_) => return Err(RootFsError::Taken { key: key.to_owned() }),
                // Cut by a power failure, which no container survived.
                None => self.release(key)?,
            }
        }
        let staging = self.blobs.temporary();
        let top = rootfs.lowers.first().filter(|_| !chain.is_empty());
        fill(&staging, &lease, top.map(PathBuf::as_path)).map_err(at(staging.path()))?;
        fs::rename(staging.path(), &target).map_err(at(&target))?;
        Ok(rootfs)
    }

    /// Gives the directories back. What is absent is no error.
    pub(crate) fn release(&self, key: &str) -> Result<(), RootFsError> {
        let target = self.path(key)?;
        let aside = self.blobs.temporary();
        match fs::rename(&target, aside.path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other.map_err(at(&target))?,
        }
        crate::remove::remove_tree(aside.path()).map_err(at(&target))
    }

    pub(crate) fn keys(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.directory)?;
        entries
            .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
            .collect()
    }

    /// Every snapshot that a container holds.
    pub(crate) fn leased(&self) -> io::Result<Vec<Digest>> {
        let mut leased = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            leased.extend(
                read_lease(&entry?.path())?
                    .into_iter()
                    .flat_map(|lease| lease.chain),
            );
        }
        Ok(leased)
    }

    fn path(&self, key: &str) -> Result<PathBuf, RootFsError> {
        let usable = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        if key.is_empty() || key.len() > KEY_LENGTH_MAX || key.starts_with('.') || !key.bytes().all(usable) {
            return Err(RootFsError::Key(key.to_owned()));
        }
        Ok(self.directory.join(key))
    }
}

/// Not synced: after a power failure no container is left that needs it.
fn fill(staging: &TemporaryPath, lease: &Lease, top: Option<&Path>) -> io::Result<()> {
    let private = |path: &Path| fs::DirBuilder::new().mode(0o700).create(path);
    private(staging.path())?;
    private(&staging.path().join("work"))?;
    let upper = staging.path().join("upper");
    private(&upper)?;
    // What a container sees as the attributes of `/` are those of the upper directory.
    let (mode, owner) = if let Some(top) = top {
        let metadata = fs::metadata(top)?;
        (metadata.mode() & 0o7777, (metadata.uid(), metadata.gid()))
    } else {
        private(&staging.path().join(EMPTY))?;
        (0o755, (0, 0))
    };
    std::os::unix::fs::chown(&upper, Some(owner.0), Some(owner.1))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(mode))?;
    let lease = serde_json::to_vec(lease).expect("digests always serialise");
    fs::write(staging.path().join(LEASE), lease)
}

/// None if the file was cut by a power failure.
fn read_lease(directory: &Path) -> io::Result<Option<Lease>> {
    match fs::read(directory.join(LEASE)) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> RootFsError {
    let path = path.to_owned();
    move |source| RootFsError::Io { path, source }
}
