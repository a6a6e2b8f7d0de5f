//! Owner, mode, times and extended attributes of what a layer brings, and the marks of overlayfs.
//!
//! Of extended attributes only file capabilities and `user.*` are taken over. Those by which overlayfs itself is
//! steered (`trusted.overlay.*`, `user.overlay.*`) would let an archive redirect lookups, and labels of the build
//! host's security modules mean nothing here.

use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, FileType, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::UnpackError;
use super::clean_path::CleanPath;
use crate::tar::{Entry, EntryKind, Mtime};

const OPAQUE: &str = "trusted.overlay.opaque";
const CAPABILITY: &[u8] = b"security.capability";
/// Larger than any version of the capability attribute.
const CAPABILITY_BYTES: usize = 64;
/// Of directories that an archive implies and no layer has.
const IMPLIED_MODE: u32 = 0o755;

/// What is set on a file or directory once its content stands.
#[derive(Debug, Clone)]
pub(super) struct Attributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Mtime,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(entry: &Entry) -> Self {
        let taken = entry.xattrs.iter().filter(|(name, _)| is_taken_over(name));
        let xattrs = taken.cloned().collect();
        Self {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs,
        }
    }

    pub(super) fn of_stat(stat: &Stat) -> Self {
        let mtime = Mtime {
            seconds: stat.st_mtime,
            nanoseconds: stat.st_mtime_nsec as u32,
        };
        Self {
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            gid: stat.st_gid,
            mtime,
            xattrs: Vec::new(),
        }
    }

    pub(super) fn implied() -> Self {
        Self {
            mode: IMPLIED_MODE,
            uid: 0,
            gid: 0,
            mtime: Mtime::default(),
            xattrs: Vec::new(),
        }
    }

    /// Takes over the file capabilities of an open file.
    pub(super) fn copy_capability(&mut self, file: &OwnedFd) -> Result<(), Errno> {
        let mut value = [0; CAPABILITY_BYTES];
        match rustix::fs::fgetxattr(file, CAPABILITY, &mut value) {
            Ok(length) => self.xattrs.push((CAPABILITY.to_vec(), value[..length].to_vec())),
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        Ok(())
    }

    /// Owner first: changing it clears the set-user-id bit and the capabilities.
    pub(super) fn set(&self, file: &OwnedFd) -> Result<(), Errno> {
        rustix::fs::fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))?;
        rustix::fs::fchmod(file, Mode::from_raw_mode(self.mode))?;
        for (name, value) in &self.xattrs {
            match rustix::fs::fsetxattr(file, name.as_slice(), value, XattrFlags::empty()) {
                // Some file systems have no user attributes; programs cope with that, but not with lost rights.
                Err(Errno::OPNOTSUPP) if name.as_slice() != CAPABILITY => {}
                other => other?,
            }
        }
        rustix::fs::futimens(file, &timestamps(self.mtime))
    }
}

fn is_taken_over(name: &[u8]) -> bool {
    name == CAPABILITY || (name.starts_with(b"user.") && !name.starts_with(b"user.overlay."))
}

fn timestamps(mtime: Mtime) -> Timestamps {
    let time = Timespec {
        tv_sec: mtime.seconds,
        tv_nsec: i64::from(mtime.nanoseconds),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Creates a link, device or pipe with its attributes. `name` does not exist yet.
pub(super) fn create_special(
    directory: &OwnedFd,
    name: &[u8],
    entry: &Entry,
    path: &CleanPath,
) -> Result<(), UnpackError> {
    let create = || match &entry.kind {
        EntryKind::Symlink(target) => rustix::fs::symlinkat(target.as_slice(), directory, name),
        EntryKind::Character(major, minor) => {
            make_node(directory, name, FileType::CharacterDevice, (*major, *minor))
        }
        EntryKind::Block(major, minor) => make_node(directory, name, FileType::BlockDevice, (*major, *minor)),
        EntryKind::Fifo => make_node(directory, name, FileType::Fifo, (0, 0)),
        EntryKind::File | EntryKind::Directory | EntryKind::HardLink(_) => Err(Errno::INVAL),
    };
    create().map_err(UnpackError::system("creating", path.as_bytes()))?;
    set_by_name(directory, name, entry).map_err(UnpackError::system("setting attributes of", path.as_bytes()))
}

fn make_node(directory: &OwnedFd, name: &[u8], kind: FileType, device: (u32, u32)) -> Result<(), Errno> {
    let device = rustix::fs::makedev(device.0, device.1);
    rustix::fs::mknodat(directory, name, kind, Mode::RUSR | Mode::WUSR, device)
}

/// For what cannot be opened. The name was created just now by us and is no link where the mode is set.
fn set_by_name(directory: &OwnedFd, name: &[u8], entry: &Entry) -> Result<(), Errno> {
    let owner = (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)));
    rustix::fs::chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
    if !matches!(entry.kind, EntryKind::Symlink(_)) {
        rustix::fs::chmodat(directory, name, Mode::from_raw_mode(entry.mode), AtFlags::empty())?;
    }
    rustix::fs::utimensat(
        directory,
        name,
        &timestamps(entry.mtime),
        AtFlags::SYMLINK_NOFOLLOW,
    )
}

/// Hides a name of the lower layers: a character device 0:0.
pub(super) fn create_whiteout(directory: &OwnedFd, name: &[u8], path: &CleanPath) -> Result<(), UnpackError> {
    rustix::fs::mknodat(directory, name, FileType::CharacterDevice, Mode::empty(), 0)
        .map_err(UnpackError::system("hiding", path.as_bytes()))
}

/// Hides everything that lower layers have in a directory.
pub(super) fn set_opaque(directory: &OwnedFd, path: &[u8]) -> Result<(), UnpackError> {
    rustix::fs::fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty())
        .map_err(UnpackError::system("hiding the lower content of", path))
}

pub(super) fn is_opaque(directory: &OwnedFd) -> Result<bool, Errno> {
    let mut value = [0; 1];
    match rustix::fs::fgetxattr(directory, OPAQUE, &mut value) {
        Ok(length) => Ok(&value[..length] == b"y"),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno),
    }
}
