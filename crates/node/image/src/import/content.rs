//! The files of an archive or directory, by path.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use cloudeck_oci::Digest;
use serde::de::DeserializeOwned;

use super::ImportError;
use crate::blobs::{Blobs, StagedBlob};
use crate::install::DOCUMENT_BYTES_MAX;
use crate::tar::{EntryKind, TarReader};
use crate::unpack::{Bounded, decompress};

/// Members that are links to links are a mistake.
const LINKS_MAX: usize = 8;

/// What can be imported from.
pub(super) struct Content<'a> {
    blobs: &'a Blobs,
    source: Source,
}

enum Source {
    Archive {
        /// Taken when committed. Several paths may have one digest.
        staged: RefCell<HashMap<Digest, StagedBlob>>,
        files: HashMap<String, (Digest, u64)>,
        /// `docker save` of old links equal layers.
        links: HashMap<String, String>,
    },
    Directory(PathBuf),
}

impl<'a> Content<'a> {
    pub(super) fn from_directory(blobs: &'a Blobs, directory: PathBuf) -> Self {
        Self {
            blobs,
            source: Source::Directory(directory),
        }
    }

    pub(super) fn from_archive(
        blobs: &'a Blobs,
        archive: impl Read,
        limit: u64,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Self, ImportError> {
        let mut archive = TarReader::new(Bounded::new(decompress(archive)?, limit));
        let mut members = Members::default();
        let read = members.read(blobs, &mut archive, cancelled);
        if archive.get_ref().is_exceeded() {
            return Err(ImportError::TooLarge(limit));
        }
        read?;
        let Members { staged, files, links } = members;
        Ok(Self {
            blobs,
            source: Source::Archive {
                staged: RefCell::new(staged),
                files,
                links,
            },
        })
    }

    pub(super) fn contains(&self, path: &str) -> bool {
        match &self.source {
            Source::Archive { files, .. } => files.contains_key(path),
            Source::Directory(directory) => directory.join(path).is_file(),
        }
    }

    /// Reads a JSON document.
    pub(super) fn document<T: DeserializeOwned>(&self, path: &str) -> Result<T, ImportError> {
        let bytes = self.bytes(path)?;
        serde_json::from_slice(&bytes).map_err(|source| ImportError::Document {
            name: path.to_owned(),
            source,
        })
    }

    /// Reads a small file.
    pub(super) fn bytes(&self, path: &str) -> Result<Vec<u8>, ImportError> {
        match &self.source {
            Source::Archive { staged, .. } => {
                let (digest, _) = self.locate(path)?;
                match staged.borrow().get(&digest) {
                    Some(blob) => Ok(blob.read(DOCUMENT_BYTES_MAX)?),
                    None => Ok(self.blobs.read(&digest, DOCUMENT_BYTES_MAX)?),
                }
            }
            Source::Directory(directory) => {
                let path = directory.join(path);
                let failed = |source| ImportError::Open {
                    path: path.clone(),
                    source,
                };
                let mut bytes = Vec::new();
                File::open(&path)
                    .map_err(failed)?
                    .take(DOCUMENT_BYTES_MAX)
                    .read_to_end(&mut bytes)
                    .map_err(failed)?;
                Ok(bytes)
            }
        }
    }

    /// Puts a file into the store; returns digest and size.
    pub(super) fn commit(&self, path: &str) -> Result<(Digest, u64), ImportError> {
        match &self.source {
            Source::Archive { staged, .. } => {
                let (digest, size) = self.locate(path)?;
                if let Some(blob) = staged.borrow_mut().remove(&digest) {
                    blob.commit()?;
                }
                Ok((digest, size))
            }
            Source::Directory(directory) => {
                let path = directory.join(path);
                let mut file = File::open(&path).map_err(|source| ImportError::Open { path, source })?;
                let blob = self.blobs.stage(&mut file)?;
                let size = blob.size;
                Ok((blob.commit()?, size))
            }
        }
    }

    pub(super) fn put(&self, bytes: &[u8]) -> Result<Digest, ImportError> {
        Ok(self.blobs.put(bytes)?)
    }

    fn locate(&self, path: &str) -> Result<(Digest, u64), ImportError> {
        let Source::Archive { files, links, .. } = &self.source else {
            unreachable!("only archives are searched by member");
        };
        let mut at = path;
        for _ in 0..LINKS_MAX {
            if let Some(found) = files.get(at) {
                return Ok(*found);
            }
            let Some(target) = links.get(at) else { break };
            at = target;
        }
        Err(ImportError::Missing(path.to_owned()))
    }
}

#[derive(Default)]
struct Members {
    staged: HashMap<Digest, StagedBlob>,
    files: HashMap<String, (Digest, u64)>,
    links: HashMap<String, String>,
}

impl Members {
    fn read<R: Read>(
        &mut self,
        blobs: &Blobs,
        archive: &mut TarReader<R>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<(), ImportError> {
        while let Some(entry) = archive.next_entry().map_err(ImportError::archive)? {
            if cancelled() {
                return Err(ImportError::Cancelled);
            }
            let path = normal(&String::from_utf8_lossy(&entry.path), "");
            match &entry.kind {
                EntryKind::File => {
                    let blob = blobs.stage(archive)?;
                    self.files.insert(path, (blob.digest, blob.size));
                    self.staged.insert(blob.digest, blob);
                }
                EntryKind::Symlink(target) => {
                    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
                    let target = normal(&String::from_utf8_lossy(target), directory);
                    self.links.insert(path, target);
                }
                EntryKind::HardLink(target) => {
                    self.links
                        .insert(path, normal(&String::from_utf8_lossy(target), ""));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

/// A member's path relative to the archive, cleaned lexically; it names an entry in a table, never a file.
fn normal(path: &str, directory: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn member_paths_are_compared_in_one_form() {
        assert_eq!(normal("./a//b", ""), "a/b");
        assert_eq!(normal("../c/layer.tar", "d"), "c/layer.tar");
        assert_eq!(normal("../../..", "d"), "");
    }
}
