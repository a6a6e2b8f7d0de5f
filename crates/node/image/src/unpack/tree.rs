//! The directory tree being filled, seen through its own symbolic links and down to the layers below it.
//!
//! Every path is walked here part by part, so that a link is followed inside the tree or not at all; what the kernel
//! then opens is free of links, and `openat2` holds it to that.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::UnpackError;
use super::attributes::{self, Attributes};
use super::clean_path::{CleanPath, DEPTH_MAX};

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Nothing,
    Directory,
    Symlink,
    Whiteout,
    Other,
}

/// An open directory of the tree and its path without links.
pub(super) struct TreeDirectory {
    pub(super) fd: OwnedFd,
    pub(super) path: CleanPath,
}

pub(super) struct Tree {
    /// This layer's root, then those below it, top first.
    layers: Vec<OwnedFd>,
    discarded: OwnedFd,
    discarded_count: u64,
    /// How many bytes may still be copied up from lower layers.
    copy_budget: u64,
    /// Archives come directory by directory: the one walked last, by the path asked for.
    last: Option<(CleanPath, Rc<TreeDirectory>)>,
}

/// The parts of a path still to be walked, next one last.
struct Walk {
    pending: Vec<Vec<u8>>,
    done: Vec<Vec<u8>>,
    links: usize,
}

impl Tree {
    pub(super) fn open(
        root: &Path,
        discarded: &Path,
        lowers: &[PathBuf],
        copy_budget: u64,
    ) -> Result<Self, UnpackError> {
        let open = |path: &Path| {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            rustix::fs::openat(CWD, path, flags, Mode::empty()).map_err(UnpackError::system(
                "opening",
                path.as_os_str().as_encoded_bytes(),
            ))
        };
        let layers = std::iter::once(root)
            .chain(lowers.iter().map(PathBuf::as_path))
            .map(open);
        let layers = layers.collect::<Result<_, _>>()?;
        Ok(Self {
            layers,
            discarded: open(discarded)?,
            discarded_count: 0,
            copy_budget,
            last: None,
        })
    }

    /// Opens a directory, following links; those that lower layers have or nobody has are made. Of each that was
    /// made, path and attributes are added to `implied`.
    pub(super) fn directory(
        &mut self,
        path: &CleanPath,
        implied: &mut Vec<(CleanPath, Attributes)>,
    ) -> Result<Rc<TreeDirectory>, UnpackError> {
        if let Some((last, directory)) = &self.last
            && last == path
        {
            return Ok(Rc::clone(directory));
        }
        let directory = Rc::new(self.walk(path, implied)?);
        self.last = Some((path.clone(), Rc::clone(&directory)));
        Ok(directory)
    }

    fn walk(
        &mut self,
        path: &CleanPath,
        implied: &mut Vec<(CleanPath, Attributes)>,
    ) -> Result<TreeDirectory, UnpackError> {
        let mut walk = Walk {
            pending: path.parts().rev().map(<[u8]>::to_vec).collect(),
            done: Vec::new(),
            links: 0,
        };
        let mut at = self.open_clean(&CleanPath::from_parts(&[]))?;
        while let Some(part) = walk.pending.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    walk.done.pop();
                    at = self.open_clean(&CleanPath::from_parts(&walk.done))?;
                    continue;
                }
                _ if walk.done.len() >= DEPTH_MAX => return Err(UnpackError::TooDeep(path.to_string())),
                _ => {}
            }
            match self.step(&at, &mut walk, part, path, implied)? {
                Some(next) => at = next,
                None => at = self.open_clean(&CleanPath::from_parts(&walk.done))?,
            }
        }
        Ok(TreeDirectory {
            fd: at,
            path: CleanPath::from_parts(&walk.done),
        })
    }

    /// Goes into `part`; none after a link, whose target is now ahead.
    fn step(
        &mut self,
        at: &OwnedFd,
        walk: &mut Walk,
        part: Vec<u8>,
        path: &CleanPath,
        implied: &mut Vec<(CleanPath, Attributes)>,
    ) -> Result<Option<OwnedFd>, UnpackError> {
        let failed = |action| UnpackError::system(action, path.as_bytes());
        let attributes = match find(at, &part).map_err(failed("looking up"))? {
            Found::Directory => {
                let next = open_child(at, &part).map_err(failed("opening"))?;
                walk.done.push(part);
                return Ok(Some(next));
            }
            Found::Symlink => return walk.follow(at, &part, path).map(|()| None),
            Found::Other => return Err(UnpackError::NotADirectory(path.to_string())),
            Found::Whiteout => {
                self.discard(at, &part, path)?;
                None
            }
            Found::Nothing => match self.lower(&walk.done, &part).map_err(failed("looking up"))? {
                Some((Found::Symlink, below)) => return walk.follow(&below, &part, path).map(|()| None),
                Some((Found::Directory, below)) => Some(Attributes::of_stat(
                    &stat(&below, &part).map_err(failed("looking up"))?,
                )),
                _ => Some(Attributes::implied()),
            },
        };
        let next = make_child(at, &part).map_err(failed("creating"))?;
        walk.done.push(part);
        if attributes.is_none() {
            attributes::set_opaque(&next, path.as_bytes())?;
        }
        implied.push((
            CleanPath::from_parts(&walk.done),
            attributes.unwrap_or_else(Attributes::implied),
        ));
        Ok(Some(next))
    }

    /// What the layers show under a name, this one included, and the directory that has it.
    fn lower(&self, parents: &[Vec<u8>], name: &[u8]) -> Result<Option<(Found, OwnedFd)>, Errno> {
        for root in &self.layers {
            let mut at = root.try_clone().map_err(|_| Errno::MFILE)?;
            let mut covers = attributes::is_opaque(&at)?;
            let mut missing = false;
            for part in parents {
                match find(&at, part)? {
                    Found::Directory => at = open_child(&at, part)?,
                    Found::Nothing => {
                        missing = true;
                        break;
                    }
                    _ => return Ok(None),
                }
                covers |= attributes::is_opaque(&at)?;
            }
            if !missing {
                match find(&at, name)? {
                    Found::Nothing => {}
                    Found::Whiteout => return Ok(None),
                    found => return Ok(Some((found, at))),
                }
            }
            if covers {
                return Ok(None);
            }
        }
        Ok(None)
    }

    /// Whether lower layers show anything under a name that this one does not have.
    pub(super) fn is_in_lower(
        &self,
        directory: &TreeDirectory,
        name: &[u8],
        path: &CleanPath,
    ) -> Result<bool, UnpackError> {
        let parents: Vec<_> = directory.path.parts().map(<[u8]>::to_vec).collect();
        let found = self
            .lower(&parents, name)
            .map_err(UnpackError::system("looking up", path.as_bytes()))?;
        Ok(found.is_some())
    }

    /// Copies a regular file of a lower layer to the same place in this one. False if there is none.
    pub(super) fn copy_up(
        &mut self,
        directory: &TreeDirectory,
        name: &[u8],
        buffer: &mut [u8],
    ) -> Result<bool, UnpackError> {
        let failed = |action| UnpackError::system(action, name);
        let parents: Vec<_> = directory.path.parts().map(<[u8]>::to_vec).collect();
        let Some((Found::Other, below)) = self.lower(&parents, name).map_err(failed("looking up"))? else {
            return Ok(false);
        };
        let metadata = stat(&below, name).map_err(failed("looking up"))?;
        if FileType::from_raw_mode(metadata.st_mode) != FileType::RegularFile {
            return Ok(false);
        }
        let size = u64::try_from(metadata.st_size).unwrap_or(0);
        self.copy_budget = self
            .copy_budget
            .checked_sub(size)
            .ok_or(UnpackError::TooLarge(size))?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = rustix::fs::openat(&below, name, flags, Mode::empty()).map_err(failed("opening"))?;
        let target = create_file(&directory.fd, name).map_err(failed("creating"))?;
        loop {
            let read = rustix::io::read(&source, &mut *buffer).map_err(failed("reading"))?;
            if read == 0 {
                break;
            }
            write_all(&target, &buffer[..read]).map_err(failed("writing"))?;
        }
        let mut attributes = Attributes::of_stat(&metadata);
        attributes
            .copy_capability(&source)
            .map_err(failed("reading attributes of"))?;
        attributes.set(&target).map_err(failed("setting attributes of"))?;
        Ok(true)
    }

    /// Removes what this layer brought under a name before.
    pub(super) fn discard(
        &mut self,
        directory: &OwnedFd,
        name: &[u8],
        path: &CleanPath,
    ) -> Result<(), UnpackError> {
        let failed = |action| UnpackError::system(action, path.as_bytes());
        match find(directory, name).map_err(failed("looking up"))? {
            Found::Nothing => Ok(()),
            Found::Directory => {
                self.last = None;
                self.discarded_count += 1;
                let aside = self.discarded_count.to_string();
                rustix::fs::renameat(directory, name, &self.discarded, aside).map_err(failed("replacing"))
            }
            _ => {
                self.last = None;
                rustix::fs::unlinkat(directory, name, AtFlags::empty()).map_err(failed("replacing"))
            }
        }
    }

    /// A directory by its path without links, if it is still one.
    pub(super) fn existing_directory(&self, path: &CleanPath) -> Result<Option<OwnedFd>, UnpackError> {
        match self.open_beneath(path) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(errno) => Err(UnpackError::system("opening", path.as_bytes())(errno)),
        }
    }

    fn open_clean(&self, path: &CleanPath) -> Result<OwnedFd, UnpackError> {
        self.open_beneath(path)
            .map_err(UnpackError::system("opening", path.as_bytes()))
    }

    fn open_beneath(&self, path: &CleanPath) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH
            | ResolveFlags::NO_SYMLINKS
            | ResolveFlags::NO_MAGICLINKS
            | ResolveFlags::NO_XDEV;
        rustix::fs::openat2(&self.layers[0], path.as_relative(), flags, Mode::empty(), resolve)
    }
}

impl Walk {
    /// Puts a link's target ahead, from the root if it is absolute.
    fn follow(&mut self, at: &OwnedFd, name: &[u8], path: &CleanPath) -> Result<(), UnpackError> {
        self.links += 1;
        if self.links > LINKS_MAX {
            return Err(UnpackError::TooManyLinks(path.to_string()));
        }
        let target = rustix::fs::readlinkat(at, name, Vec::new())
            .map_err(UnpackError::system("reading link", path.as_bytes()))?;
        let target = target.as_bytes();
        if target.starts_with(b"/") {
            self.done.clear();
        }
        self.pending
            .extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
        Ok(())
    }
}

/// Hides what lower layers have in a directory. Whiteouts in it then hide nothing any more, and are taken away:
/// overlayfs would list them.
pub(super) fn hide_lower(directory: &OwnedFd, path: &CleanPath) -> Result<(), UnpackError> {
    let failed = |action| UnpackError::system(action, path.as_bytes());
    if attributes::is_opaque(directory).map_err(failed("looking up"))? {
        return Ok(());
    }
    attributes::set_opaque(directory, path.as_bytes())?;
    remove_whiteouts(directory).map_err(failed("clearing"))
}

/// Recursion is bounded: no directory of the tree is deeper than [`DEPTH_MAX`].
fn remove_whiteouts(directory: &OwnedFd) -> Result<(), Errno> {
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if matches!(name, b"." | b"..") {
            continue;
        }
        match find(directory, name)? {
            Found::Whiteout => rustix::fs::unlinkat(directory, name, AtFlags::empty())?,
            Found::Directory => remove_whiteouts(&open_child(directory, name)?)?,
            Found::Nothing | Found::Symlink | Found::Other => {}
        }
    }
    Ok(())
}

pub(super) fn stat(directory: &OwnedFd, name: &[u8]) -> Result<Stat, Errno> {
    rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)
}

pub(super) fn find(directory: &OwnedFd, name: &[u8]) -> Result<Found, Errno> {
    let stat = match stat(directory, name) {
        Err(Errno::NOENT) => return Ok(Found::Nothing),
        other => other?,
    };
    Ok(match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => Found::Directory,
        FileType::Symlink => Found::Symlink,
        FileType::CharacterDevice if stat.st_rdev == 0 => Found::Whiteout,
        _ => Found::Other,
    })
}

/// Opens a directory that is no link.
pub(super) fn open_child(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::empty())
}

/// Makes a directory that only we enter until its attributes are set.
pub(super) fn make_child(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    rustix::fs::mkdirat(directory, name, Mode::RWXU)?;
    open_child(directory, name)
}

/// Creates a file that did not exist.
pub(super) fn create_file(directory: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR)
}

pub(super) fn write_all(file: impl AsFd, mut bytes: &[u8]) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::write(&file, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

/// Links the object itself, even if it is a symbolic link.
pub(super) fn hard_link(
    from: &OwnedFd,
    from_name: &[u8],
    to: &OwnedFd,
    to_name: &[u8],
    path: &CleanPath,
) -> Result<(), UnpackError> {
    rustix::fs::linkat(from, from_name, to, to_name, AtFlags::empty())
        .map_err(UnpackError::system("linking", path.as_bytes()))
}
