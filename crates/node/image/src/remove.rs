//! Removes directory trees that a container or an archive made.
//!
//! Such trees may be deeper than any stack or descriptor table, so nothing recurses: a directory inside is first
//! moved up beside the root of the removal, then emptied in turn. Links are never followed.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use rustix::io::Errno;

/// How often directories are read again in one removal; more means that somebody is filling the tree.
const REPEATS_MAX: u32 = 16;

/// Removes `path` and everything below it. What is absent is no error.
///
/// Interrupted, it leaves siblings named `path.N`; the store keeps such trees under its `tmp`, which is cleared when
/// it is opened.
pub(crate) fn remove_tree(path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let parent = match open_directory(CWD, parent) {
        Err(Errno::NOENT) => return Ok(()),
        other => other?,
    };
    let name = name.as_encoded_bytes().to_vec();
    let mut pending = vec![name.clone()];
    let mut moved = 0_u64;
    let mut repeats = 0;
    while let Some(current) = pending.pop() {
        let directory = match open_directory(&parent, current.as_slice()) {
            Err(Errno::NOENT) => continue,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                rustix::fs::unlinkat(&parent, current.as_slice(), AtFlags::empty())?;
                continue;
            }
            other => other?,
        };
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let child = entry.file_name();
            if matches!(child.to_bytes(), b"." | b"..") {
                continue;
            }
            if is_directory(&directory, &entry)? {
                moved += 1;
                let aside = [&name, b".".as_slice(), moved.to_string().as_bytes()].concat();
                rustix::fs::renameat(&directory, child, &parent, aside.as_slice())?;
                pending.push(aside);
            } else {
                rustix::fs::unlinkat(&directory, child, AtFlags::empty())?;
            }
        }
        match rustix::fs::unlinkat(&parent, current.as_slice(), AtFlags::REMOVEDIR) {
            // A file system may skip entries of a directory that shrinks while it is read.
            Err(Errno::NOTEMPTY) if repeats < REPEATS_MAX => {
                repeats += 1;
                pending.push(current);
            }
            other => other?,
        }
    }
    Ok(())
}

fn is_directory(parent: &OwnedFd, entry: &rustix::fs::DirEntry) -> Result<bool, Errno> {
    match entry.file_type() {
        FileType::Directory => Ok(true),
        FileType::Unknown => {
            let stat = rustix::fs::statat(parent, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(FileType::from_raw_mode(stat.st_mode) == FileType::Directory)
        }
        _ => Ok(false),
    }
}

fn open_directory(parent: impl AsFd, path: impl rustix::path::Arg) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, path, flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_deeper_than_the_descriptor_table_is_removed_and_its_links_are_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (outside, tree) = (directory.path().join("outside"), directory.path().join("tree"));
        std::fs::create_dir_all(&outside).unwrap();
        std::fs::write(outside.join("kept"), b"").unwrap();
        std::fs::create_dir(&tree).unwrap();
        std::os::unix::fs::symlink(&outside, tree.join("link")).unwrap();
        let mut at = open_directory(CWD, &tree).unwrap();
        for _ in 0..5000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = open_directory(&at, "d").unwrap();
        }
        drop(at);
        remove_tree(&tree).unwrap();
        assert!(outside.join("kept").exists());
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        remove_tree(&tree).unwrap();
    }

    #[test]
    fn a_single_file_is_removed_too() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), b"x").unwrap();
        remove_tree(&directory.path().join("file")).unwrap();
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
