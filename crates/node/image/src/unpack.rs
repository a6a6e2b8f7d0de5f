//! Unpacks one layer archive into a directory that overlayfs can use as a lower layer.
//!
//! The archive is hostile until proven otherwise. Nothing it says is ever resolved by the kernel outside the layer's
//! root: [`tree`] walks every path itself, link by link, and opens the result with `openat2(RESOLVE_BENEATH |
//! NO_SYMLINKS | NO_MAGICLINKS | NO_XDEV)`; objects are created by name under such a descriptor, never through a link.
//! A layer is the difference to the layers below it, so directories that it implies take their attributes from
//! there, and a hard link may name a file of a lower layer. Whiteouts become overlayfs's own marks.
//!
//! Order is that of the archive: a later entry replaces an earlier one of the same name, as if each were written in
//! turn into the merged file system. A whiteout hides lower layers only, never what its own layer brings.

mod attributes;
mod bounded;
mod clean_path;
mod decompress;
mod tree;

use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cloudeck_oci::Digest;
use rustix::io::Errno;

use crate::blobs::HashingReader;
use crate::tar::{Entry, EntryKind, TarError, TarReader};
use attributes::Attributes;
pub(crate) use bounded::Bounded;
use clean_path::CleanPath;
pub(crate) use decompress::decompress;
use tree::{Found, Tree, TreeDirectory};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARK: &[u8] = b".wh..wh..opq";
/// Names that AUFS kept for itself.
const METADATA_PREFIX: &[u8] = b".wh..wh.";
/// Data is copied in pieces of this size.
const COPY_BYTES: usize = 128 * 1024;

/// How much one layer may bring. A compressed megabyte can unpack to a gigabyte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnpackLimits {
    /// Of the uncompressed archive.
    pub size_bytes: u64,
    /// Files, directories and links.
    pub entries: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self {
            size_bytes: 32 << 30,
            entries: 2_000_000,
        }
    }
}

/// Why a layer was not unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    #[error("layer archive cannot be read")]
    Archive(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("layer path {0:?} leads out of the root file system")]
    Escapes(String),
    #[error("layer path {0:?} is not usable as a file name")]
    Path(String),
    #[error("layer path {0:?} is nested too deeply")]
    TooDeep(String),
    #[error("layer path {0:?} passes through something that is not a directory")]
    NotADirectory(String),
    #[error("layer path {0:?} passes through too many symbolic links")]
    TooManyLinks(String),
    #[error("layer hard link {path:?} names {target:?}, which is not a file")]
    HardLink { path: String, target: String },
    #[error("layer unpacks to more than {0} bytes")]
    TooLarge(u64),
    #[error("layer has more than {0} entries")]
    TooManyEntries(u64),
    #[error("layer has uncompressed digest {found}, its configuration says {expected}")]
    DiffId { expected: Digest, found: Digest },
    #[error("unpacking was cancelled")]
    Cancelled,
    #[error("{action} {path:?} of the layer failed")]
    System {
        action: &'static str,
        path: String,
        #[source]
        source: std::io::Error,
    },
}

impl From<TarError> for UnpackError {
    fn from(error: TarError) -> Self {
        Self::Archive(Box::new(error))
    }
}

impl UnpackError {
    fn system(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> Self {
        let path = String::from_utf8_lossy(path).into_owned();
        move |errno| Self::System {
            action,
            path,
            source: errno.into(),
        }
    }
}

/// One layer to unpack.
pub(crate) struct Layer<'a> {
    /// The directory to fill: exists, is empty, belongs to us alone.
    pub(crate) root: &'a Path,
    /// A directory on the same file system for what the archive itself replaces.
    pub(crate) discarded: &'a Path,
    /// Unpacked lower layers, top first.
    pub(crate) lowers: &'a [PathBuf],
    pub(crate) limits: UnpackLimits,
    /// Asked between entries and pieces of data.
    pub(crate) cancelled: &'a dyn Fn() -> bool,
}

/// Unpacks an archive (compressed or not) and returns the digest of its uncompressed form.
pub(crate) fn unpack(layer: &Layer<'_>, archive: impl Read) -> Result<Digest, UnpackError> {
    let bounded = Bounded::new(decompress(archive)?, layer.limits.size_bytes);
    let mut hashing = HashingReader::new(bounded);
    let outcome = unpack_entries(layer, TarReader::new(&mut hashing));
    if hashing.get_ref().is_exceeded() {
        return Err(UnpackError::TooLarge(layer.limits.size_bytes));
    }
    outcome?;
    Ok(hashing.digest())
}

fn unpack_entries<R: Read>(layer: &Layer<'_>, mut archive: TarReader<R>) -> Result<(), UnpackError> {
    let mut unpacker = Unpacker {
        tree: Tree::open(layer.root, layer.discarded, layer.lowers, layer.limits.size_bytes)?,
        directories: Vec::new(),
        buffer: vec![0; COPY_BYTES],
        cancelled: layer.cancelled,
    };
    let mut entries = 0;
    while let Some(entry) = archive.next_entry()? {
        entries += 1;
        if entries > layer.limits.entries {
            return Err(UnpackError::TooManyEntries(layer.limits.entries));
        }
        if (layer.cancelled)() {
            return Err(UnpackError::Cancelled);
        }
        unpacker.apply(&entry, &mut archive)?;
    }
    archive.drain()?;
    unpacker.finish()
}

struct Unpacker<'a> {
    tree: Tree,
    /// Directories whose attributes are set at the end, because filling them changes their times and needs access.
    directories: Vec<(CleanPath, Attributes)>,
    buffer: Vec<u8>,
    cancelled: &'a dyn Fn() -> bool,
}

impl Unpacker<'_> {
    fn apply(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<(), UnpackError> {
        let path = CleanPath::parse(&entry.path)?;
        let Some((parent, name)) = path.split_last() else {
            return self.apply_to_root(entry, path);
        };
        if name == OPAQUE_MARK {
            let parent = self.parent(&parent)?;
            return tree::hide_lower(&parent.fd, &path);
        }
        if name.starts_with(METADATA_PREFIX) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return self.apply_whiteout(&parent, hidden, &path);
        }
        if entry.kind == EntryKind::Directory {
            return self.apply_directory(&parent, name, entry, &path);
        }
        let linked = match &entry.kind {
            EntryKind::HardLink(target) => Some(self.link_target(&path, target)?),
            _ => None,
        };
        let directory = self.parent(&parent)?;
        let directory = &directory.fd;
        if let Some((source, source_name)) = &linked
            && same_object(&source.fd, source_name, directory, name, &path)?
        {
            return Ok(());
        }
        self.tree.discard(directory, name, &path)?;
        match (&entry.kind, linked) {
            (_, Some((source, source_name))) => {
                tree::hard_link(&source.fd, &source_name, directory, name, &path)
            }
            (EntryKind::File, None) => self.write_file(directory, name, entry, data, &path),
            _ => attributes::create_special(directory, name, entry, &path),
        }
    }

    /// The archive's own `./` gives the root directory its attributes; nothing else can be the root.
    fn apply_to_root(&mut self, entry: &Entry, path: CleanPath) -> Result<(), UnpackError> {
        if entry.kind != EntryKind::Directory {
            return Err(UnpackError::Path(
                String::from_utf8_lossy(&entry.path).into_owned(),
            ));
        }
        self.directories.push((path, Attributes::of(entry)));
        Ok(())
    }

    fn parent(&mut self, path: &CleanPath) -> Result<Rc<TreeDirectory>, UnpackError> {
        self.tree.directory(path, &mut self.directories)
    }

    fn apply_whiteout(
        &mut self,
        parent: &CleanPath,
        hidden: &[u8],
        path: &CleanPath,
    ) -> Result<(), UnpackError> {
        if hidden.is_empty() || matches!(hidden, b"." | b"..") {
            return Err(UnpackError::Path(path.to_string()));
        }
        let parent = self.parent(parent)?;
        let directory = &parent.fd;
        match tree::find(directory, hidden).map_err(UnpackError::system("looking up", path.as_bytes()))? {
            // A mark that hides nothing would show up as a file that cannot be opened.
            Found::Nothing if !self.tree.is_in_lower(&parent, hidden, path)? => Ok(()),
            Found::Nothing => attributes::create_whiteout(directory, hidden, path),
            Found::Directory => {
                let hidden = tree::open_child(directory, hidden)
                    .map_err(UnpackError::system("opening", path.as_bytes()))?;
                tree::hide_lower(&hidden, path)
            }
            Found::Whiteout | Found::Symlink | Found::Other => Ok(()),
        }
    }

    fn apply_directory(
        &mut self,
        parent: &CleanPath,
        name: &[u8],
        entry: &Entry,
        path: &CleanPath,
    ) -> Result<(), UnpackError> {
        let parent = self.parent(parent)?;
        let directory = &parent.fd;
        let found =
            tree::find(directory, name).map_err(UnpackError::system("looking up", path.as_bytes()))?;
        if found != Found::Directory {
            self.tree.discard(directory, name, path)?;
            let made = tree::make_child(directory, name)
                .map_err(UnpackError::system("creating", path.as_bytes()))?;
            if found != Found::Nothing {
                // What stood here hid the lower directory of this name, and goes on hiding it.
                attributes::set_opaque(&made, path.as_bytes())?;
            }
        }
        self.directories
            .push((parent.path.join(name), Attributes::of(entry)));
        Ok(())
    }

    /// Finds the file that a hard link names; one that only lower layers have is copied up first.
    fn link_target(
        &mut self,
        path: &CleanPath,
        target: &[u8],
    ) -> Result<(Rc<TreeDirectory>, Vec<u8>), UnpackError> {
        let target = CleanPath::parse(target)?;
        let refused = || UnpackError::HardLink {
            path: path.to_string(),
            target: target.to_string(),
        };
        let (parent, name) = target.split_last().ok_or_else(refused)?;
        let directory = self.parent(&parent)?;
        match tree::find(&directory.fd, name).map_err(UnpackError::system("looking up", path.as_bytes()))? {
            Found::Symlink | Found::Other => {}
            Found::Directory | Found::Whiteout => return Err(refused()),
            Found::Nothing => {
                if !self.tree.copy_up(&directory, name, &mut self.buffer)? {
                    return Err(refused());
                }
            }
        }
        Ok((directory, name.to_vec()))
    }

    fn write_file(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        data: &mut dyn Read,
        path: &CleanPath,
    ) -> Result<(), UnpackError> {
        let file =
            tree::create_file(directory, name).map_err(UnpackError::system("creating", path.as_bytes()))?;
        loop {
            let read = data
                .read(&mut self.buffer)
                .map_err(|e| UnpackError::Archive(Box::new(e)))?;
            if read == 0 {
                break;
            }
            tree::write_all(&file, &self.buffer[..read])
                .map_err(UnpackError::system("writing", path.as_bytes()))?;
            if (self.cancelled)() {
                return Err(UnpackError::Cancelled);
            }
        }
        Attributes::of(entry)
            .set(&file)
            .map_err(UnpackError::system("setting attributes of", path.as_bytes()))
    }

    /// Sets directory attributes, deepest and latest last, so that none is changed again by its neighbours.
    fn finish(mut self) -> Result<(), UnpackError> {
        for (path, attributes) in std::mem::take(&mut self.directories) {
            // A later entry may have replaced the directory by something else.
            let Some(directory) = self.tree.existing_directory(&path)? else {
                continue;
            };
            attributes
                .set(&directory)
                .map_err(UnpackError::system("setting attributes of", path.as_bytes()))?;
        }
        Ok(())
    }
}

/// Whether a hard link would replace its own target.
fn same_object(
    one: &OwnedFd,
    one_name: &[u8],
    other: &OwnedFd,
    other_name: &[u8],
    path: &CleanPath,
) -> Result<bool, UnpackError> {
    let stat = |fd: &OwnedFd, name: &[u8]| match tree::stat(fd, name) {
        Ok(stat) => Ok(Some((stat.st_dev, stat.st_ino))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(UnpackError::system("looking up", path.as_bytes())(errno)),
    };
    Ok(stat(one, one_name)?.is_some_and(|one| stat(other, other_name).is_ok_and(|other| other == Some(one))))
}

#[cfg(test)]
mod tests;
