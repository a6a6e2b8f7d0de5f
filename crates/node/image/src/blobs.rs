//! The content store: immutable files named by their digest.
//!
//! A blob is written to a temporary file while it is hashed, and takes its name only when digest and size are the
//! expected ones and its bytes are on disk. So whatever stands under a digest is complete and right, after any crash.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cloudeck_oci::Digest;
use sha2::{Digest as _, Sha256};

/// The directories `blobs/sha256` and `tmp` of a store. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Blobs {
    inner: Arc<Directories>,
}

#[derive(Debug)]
struct Directories {
    blobs: PathBuf,
    temporary: PathBuf,
    /// Tells the temporary files of one opening apart; the random part those of several processes.
    next: AtomicU64,
    random: u64,
}

/// A blob being written.
#[derive(Debug)]
pub(crate) struct BlobWriter {
    store: Blobs,
    file: File,
    path: TemporaryPath,
    hasher: Sha256,
    size: u64,
}

/// A complete blob that has no name yet; dropped, it vanishes.
#[derive(Debug)]
pub(crate) struct StagedBlob {
    store: Blobs,
    file: File,
    path: TemporaryPath,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
}

/// A file or directory under `tmp`, removed when dropped.
#[derive(Debug)]
pub(crate) struct TemporaryPath(PathBuf);

/// Why content was not accepted or is not there.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    #[error("content has digest {found}, expected {expected}")]
    Digest { expected: Digest, found: Digest },
    #[error("content has {found} bytes, expected {expected}")]
    Size { expected: u64, found: u64 },
    #[error("content {digest} is larger than {limit} bytes")]
    TooLarge { digest: Digest, limit: u64 },
    #[error("content {0} is not in the store")]
    Missing(Digest),
    #[error("writing content stopped")]
    Stopped,
    #[error("writing or reading {path} failed")]
    Io {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

impl BlobError {
    fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

impl Blobs {
    /// Makes the directories where they are missing.
    pub(crate) fn open(root: &Path) -> Result<Self, BlobError> {
        let (blobs, temporary) = (root.join("blobs/sha256"), root.join("tmp"));
        for directory in [&blobs, &temporary] {
            // What layers bring is nobody's business on the host.
            let made = fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(directory);
            made.map_err(BlobError::at(directory))?;
        }
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
            .map_err(|errno| BlobError::at(&temporary)(errno.into()))?;
        let random = u64::from_ne_bytes(random);
        let inner = Directories {
            blobs,
            temporary,
            next: AtomicU64::new(0),
            random,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// A path under `tmp` that nobody else uses. Nothing is created.
    pub(crate) fn temporary(&self) -> TemporaryPath {
        let number = self.inner.next.fetch_add(1, Ordering::Relaxed);
        TemporaryPath(
            self.inner
                .temporary
                .join(format!("{:016x}-{number}", self.inner.random)),
        )
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.inner.blobs
    }

    pub(crate) fn temporary_directory(&self) -> &Path {
        &self.inner.temporary
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.inner.blobs.join(digest.hex())
    }

    /// The size of a blob, if it is in the store.
    pub(crate) fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest))
            .ok()
            .map(|metadata| metadata.len())
    }

    pub(crate) fn open_blob(&self, digest: &Digest) -> Result<File, BlobError> {
        let path = self.path(digest);
        File::open(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => BlobError::Missing(*digest),
            _ => BlobError::at(&path)(error),
        })
    }

    /// Reads a small blob (a document) and checks it against its name once more.
    pub(crate) fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        let file = self.open_blob(digest)?;
        file.take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(BlobError::at(&self.path(digest)))?;
        if bytes.len() as u64 > limit {
            return Err(BlobError::TooLarge {
                digest: *digest,
                limit,
            });
        }
        let found = sha256(&bytes);
        if found != *digest {
            self.remove(digest)?;
            return Err(BlobError::Digest {
                expected: *digest,
                found,
            });
        }
        Ok(bytes)
    }

    /// Hashes a blob again, after its content made no sense. One that the disk damaged is removed, so that it will be
    /// brought again.
    pub(crate) fn recheck(&self, digest: &Digest) -> Result<(), BlobError> {
        let mut hashing = HashingReader::new(self.open_blob(digest)?);
        io::copy(&mut hashing, &mut io::sink()).map_err(BlobError::at(&self.path(digest)))?;
        let found = hashing.digest();
        if found != *digest {
            self.remove(digest)?;
            return Err(BlobError::Digest {
                expected: *digest,
                found,
            });
        }
        Ok(())
    }

    fn remove(&self, digest: &Digest) -> Result<(), BlobError> {
        let path = self.path(digest);
        fs::remove_file(&path).map_err(BlobError::at(&path))
    }

    pub(crate) fn writer(&self) -> Result<BlobWriter, BlobError> {
        let path = self.temporary();
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path.0)
            .map_err(BlobError::at(&path.0))?;
        Ok(BlobWriter {
            store: self.clone(),
            file,
            path,
            hasher: Sha256::new(),
            size: 0,
        })
    }

    /// Copies everything that `reader` gives.
    pub(crate) fn stage(&self, reader: &mut dyn Read) -> Result<StagedBlob, BlobError> {
        let mut writer = self.writer()?;
        let path = writer.path.0.clone();
        io::copy(reader, &mut writer).map_err(BlobError::at(&path))?;
        Ok(writer.finish())
    }

    /// Stores a document made or received in memory.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Digest, BlobError> {
        self.stage(&mut &*bytes)?.commit()
    }

    /// Makes names given so far survive a power failure.
    pub(crate) fn sync(&self) -> Result<(), BlobError> {
        sync_directory(&self.inner.blobs).map_err(BlobError::at(&self.inner.blobs))
    }
}

impl BlobWriter {
    /// Forgets what was written: the source starts again from its beginning.
    pub(crate) fn restart(&mut self) -> Result<(), BlobError> {
        self.file
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(BlobError::at(&self.path.0))?;
        self.hasher = Sha256::new();
        self.size = 0;
        Ok(())
    }

    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), BlobError> {
        let path = self.path.0.clone();
        self.write_all(bytes).map_err(BlobError::at(&path))
    }

    pub(crate) fn finish(self) -> StagedBlob {
        let digest = Digest::from_bytes(self.hasher.finalize().into());
        StagedBlob {
            store: self.store,
            file: self.file,
            path: self.path,
            digest,
            size: self.size,
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl StagedBlob {
    /// Refuses content other than the one promised.
    pub(crate) fn verify(self, digest: &Digest, size: u64) -> Result<Self, BlobError> {
        if self.size != size {
            return Err(BlobError::Size {
                expected: size,
                found: self.size,
            });
        }
        if self.digest != *digest {
            return Err(BlobError::Digest {
                expected: *digest,
                found: self.digest,
            });
        }
        Ok(self)
    }

    /// Gives the blob its name. [`Blobs::sync`] makes the name durable.
    pub(crate) fn commit(self) -> Result<Digest, BlobError> {
        let target = self.store.path(&self.digest);
        if self.store.size(&self.digest) != Some(self.size) {
            self.file.sync_data().map_err(BlobError::at(&self.path.0))?;
            fs::rename(&self.path.0, &target).map_err(BlobError::at(&target))?;
        }
        Ok(self.digest)
    }

    /// Reads a small staged blob (a document of an archive).
    pub(crate) fn read(&self, limit: u64) -> Result<Vec<u8>, BlobError> {
        if self.size > limit {
            return Err(BlobError::TooLarge {
                digest: self.digest,
                limit,
            });
        }
        fs::read(&self.path.0).map_err(BlobError::at(&self.path.0))
    }
}

impl TemporaryPath {
    /// Something under `tmp` that is to vanish.
    pub(crate) fn existing(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TemporaryPath {
    fn drop(&mut self) {
        // Gone already when it was renamed; anything else is collected when the store is next opened.
        if fs::remove_file(&self.0).is_err() && self.0.is_dir() {
            let _ = crate::remove::remove_tree(&self.0);
        }
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Replaces a small file in one step that survives a power failure. `temporary` is on the same file system.
pub(crate) fn replace_file(target: &Path, temporary: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(temporary)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(temporary, target)?;
    sync_directory(target.parent().unwrap_or(Path::new("/")))
}

/// Hashes what passes through.
pub(crate) struct HashingReader<R> {
    inner: R,
    hasher: Sha256,
}

impl<R: Read> HashingReader<R> {
    pub(crate) fn new(inner: R) -> Self {
        Self {
            inner,
            hasher: Sha256::new(),
        }
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.inner
    }

    pub(crate) fn digest(self) -> Digest {
        Digest::from_bytes(self.hasher.finalize().into())
    }
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_takes_its_name_only_when_it_is_the_expected_one() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let wanted = sha256(b"right");
        let wrong = blobs.stage(&mut &b"wrong"[..]).unwrap();
        assert!(matches!(wrong.verify(&wanted, 5), Err(BlobError::Digest { .. })));
        let short = blobs.stage(&mut &b"righ"[..]).unwrap();
        assert!(matches!(
            short.verify(&wanted, 5),
            Err(BlobError::Size {
                expected: 5,
                found: 4
            })
        ));
        assert_eq!(blobs.size(&wanted), None);
        let right = blobs
            .stage(&mut &b"right"[..])
            .unwrap()
            .verify(&wanted, 5)
            .unwrap();
        assert_eq!(right.commit().unwrap(), wanted);
        assert_eq!(blobs.read(&wanted, 100).unwrap(), b"right");
        assert_eq!(fs::read_dir(blobs.temporary_directory()).unwrap().count(), 0);
    }

    #[test]
    fn damage_on_disk_is_noticed_when_a_document_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let digest = blobs.put(b"document").unwrap();
        fs::write(blobs.path(&digest), b"docuMent").unwrap();
        assert!(matches!(blobs.read(&digest, 3), Err(BlobError::TooLarge { .. })));
        assert!(matches!(blobs.read(&digest, 100), Err(BlobError::Digest { .. })));
        assert!(matches!(blobs.read(&digest, 100), Err(BlobError::Missing(_))));
    }

    #[test]
    fn a_restarted_writer_hashes_only_the_new_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(directory.path()).unwrap();
        let mut writer = blobs.writer().unwrap();
        writer.append(b"first attempt").unwrap();
        writer.restart().unwrap();
        writer.append(b"second").unwrap();
        let digest = writer.finish().commit().unwrap();
        assert_eq!(digest, sha256(b"second"));
        assert_eq!(fs::read(blobs.path(&digest)).unwrap(), b"second");
    }
}
