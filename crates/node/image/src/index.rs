//! Which images the store holds, and under which names: one small file, replaced as a whole.
//!
//! Several processes may use a store at once (the daemon and a command line), so the file is the truth and each keeps
//! only a copy, dropped when the file was replaced. Changes happen under a lock file; a reader never waits.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cloudeck_oci::Digest;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::blobs::{TemporaryPath, replace_file};

const VERSION: u32 = 1;

/// The content of the index file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Index {
    version: u32,
    /// By manifest digest.
    pub(crate) images: BTreeMap<Digest, Record>,
}

/// One image: all content it keeps alive, and its names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The digest of the configuration: the image id.
    pub(crate) config: Digest,
    /// Documents beside manifest and configuration: the multi-platform index that led here.
    #[serde(default)]
    pub(crate) documents: Vec<Digest>,
    /// Layer blobs, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// Snapshots, lowest first.
    pub(crate) chain: Vec<Digest>,
    pub(crate) size_bytes: u64,
    /// Canonical tagged names.
    #[serde(default)]
    pub(crate) names: Vec<String>,
    /// Canonical `repository@digest` names.
    #[serde(default)]
    pub(crate) repo_digests: Vec<String>,
}

/// Why the index was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    #[error("image index {path} is damaged")]
    Malformed {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("image index {path} has version {found}; this program reads up to {VERSION}")]
    Version { path: PathBuf, found: u32 },
    #[error("reading or writing image index {path} failed")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// The file and its lock.
#[derive(Debug)]
pub(crate) struct IndexFile {
    path: PathBuf,
    lock: PathBuf,
}

/// Tells one replacement of the file from the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(Option<(u64, i64, i64, u64)>);

/// A lock on a file, given back when dropped.
#[derive(Debug)]
pub(crate) struct FileLock {
    _file: File,
}

impl Index {
    /// Gives `name` to one image and takes it from all others.
    pub(crate) fn name(&mut self, manifest: &Digest, name: &str) {
        for (digest, record) in &mut self.images {
            record.names.retain(|other| other != name);
            if digest == manifest {
                record.names.push(name.to_owned());
                record.names.sort();
            }
        }
    }

    /// Adds an image, or its further names and documents if it is known.
    pub(crate) fn add(&mut self, manifest: Digest, new: Record) {
        let names = new.names.clone();
        match self.images.get_mut(&manifest) {
            Some(known) => {
                merge(&mut known.documents, new.documents);
                merge(&mut known.repo_digests, new.repo_digests);
            }
            None => drop(self.images.insert(manifest, new)),
        }
        for name in &names {
            self.name(&manifest, name);
        }
    }
}

fn merge<T: Ord>(into: &mut Vec<T>, new: Vec<T>) {
    into.extend(new);
    into.sort();
    into.dedup();
}

impl IndexFile {
    pub(crate) fn new(root: &Path) -> Self {
        Self {
            path: root.join("images.json"),
            lock: root.join("images.lock"),
        }
    }

    fn failed(&self, source: io::Error) -> IndexError {
        IndexError::Io {
            path: self.path.clone(),
            source,
        }
    }

    /// One system call.
    pub(crate) fn stamp(&self) -> Result<Stamp, IndexError> {
        match fs::metadata(&self.path) {
            Ok(m) => Ok(Stamp(Some((m.ino(), m.mtime(), m.mtime_nsec(), m.len())))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Stamp(None)),
            Err(error) => Err(self.failed(error)),
        }
    }

    pub(crate) fn load(&self) -> Result<Index, IndexError> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Index::default()),
            other => other.map_err(|error| self.failed(error))?,
        };
        let path = self.path.clone();
        let index: Index =
            serde_json::from_slice(&bytes).map_err(|source| IndexError::Malformed { path, source })?;
        if index.version > VERSION {
            return Err(IndexError::Version {
                path: self.path.clone(),
                found: index.version,
            });
        }
        Ok(index)
    }

    /// Waits for the lock under which the index and the leases are changed. Held for milliseconds only.
    pub(crate) fn lock(&self) -> Result<FileLock, IndexError> {
        let lock = FileLock::open(&self.lock, FlockOperation::LockExclusive);
        lock.map_err(|error| self.failed(error))
    }

    /// Writes the index; the caller holds the lock.
    pub(crate) fn write(
        &self,
        _lock: &FileLock,
        mut index: Index,
        temporary: &TemporaryPath,
    ) -> Result<(), IndexError> {
        index.version = VERSION;
        let bytes = serde_json::to_vec_pretty(&index).expect("digests and strings always serialise");
        replace_file(&self.path, temporary.path(), &bytes).map_err(|error| self.failed(error))
    }
}

impl FileLock {
    /// Takes a lock, waiting for it where `operation` says so.
    pub(crate) fn open(path: &Path, operation: FlockOperation) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        loop {
            match rustix::fs::flock(&file, operation) {
                Err(rustix::io::Errno::INTR) => {}
                other => break other?,
            }
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blobs::{Blobs, sha256};

    fn record(names: &[&str]) -> Record {
        Record {
            config: sha256(b"config"),
            documents: vec![],
            layers: vec![],
            chain: vec![],
            size_bytes: 1,
            names: names.iter().map(ToString::to_string).collect(),
            repo_digests: vec![],
        }
    }

    #[test]
    fn a_name_belongs_to_one_image_at_a_time() {
        let mut index = Index::default();
        index.add(sha256(b"old"), record(&["a:1", "b:1"]));
        index.add(sha256(b"new"), record(&["a:1"]));
        assert_eq!(index.images[&sha256(b"old")].names, ["b:1"]);
        assert_eq!(index.images[&sha256(b"new")].names, ["a:1"]);
    }

    #[test]
    fn an_index_reads_back_and_changes_its_stamp_on_every_write() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let file = IndexFile::new(directory.path());
        assert_eq!(file.load().unwrap(), Index::default());
        let before = file.stamp().unwrap();
        let mut index = Index::default();
        index.add(sha256(b"x"), record(&["a:1"]));
        let lock = file.lock().unwrap();
        file.write(&lock, index.clone(), &blobs.temporary()).unwrap();
        assert_ne!(file.stamp().unwrap(), before);
        assert_eq!(file.load().unwrap().images, index.images);
    }

    #[test]
    fn an_index_of_the_future_or_a_damaged_one_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let file = IndexFile::new(directory.path());
        fs::write(
            directory.path().join("images.json"),
            r#"{"version":2,"images":{}}"#,
        )
        .unwrap();
        assert!(matches!(file.load(), Err(IndexError::Version { found: 2, .. })));
        fs::write(directory.path().join("images.json"), r#"{"version":1,"#).unwrap();
        assert!(matches!(file.load(), Err(IndexError::Malformed { .. })));
    }
}
