//! Paths inside a root that somebody else has filled: an image, a volume.
//!
//! Such a tree may hold symbolic links to anywhere, and may change while it is read. So no path in it is ever handed to
//! the kernel as it stands: it is resolved by `openat2(RESOLVE_IN_ROOT)`, as if the calling process were chrooted into
//! the tree, and everything further is done through the descriptor.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::{c_path, check};

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;

#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

fn openat2(root: impl AsFd, path: &Path, flags: i32, mode: u32, resolve: u64) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let path = c_path(path)?;
    let how = OpenHow {
        flags: (flags | libc::O_CLOEXEC) as u64,
        mode: u64::from(mode),
        resolve: resolve | RESOLVE_NO_MAGICLINKS,
    };
    loop {
        // SAFETY: the path is terminated and `how` has the size told; both live across the call.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                root.as_fd().as_raw_fd(),
                path.as_ptr(),
                &raw const how,
                size_of::<OpenHow>(),
            )
        };
        match check(fd) {
            // SAFETY: a fresh descriptor.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
            // EAGAIN: a rename went on at the same time and `..` could not be trusted. Ask again.
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) => {}
            Err(error) => return Err(error),
        }
    }
}

/// Opens `path` below `root`; symbolic links are followed as if `root` were `/`.
pub fn open(root: impl AsFd, path: impl AsRef<Path>, flags: i32) -> io::Result<OwnedFd> {
    openat2(root, path.as_ref(), flags, 0, RESOLVE_IN_ROOT)
}

/// As [`open`], but any symbolic link on the way is an error (`ELOOP`).
pub fn open_no_links(root: impl AsFd, path: impl AsRef<Path>, flags: i32) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let relative = path.strip_prefix("/").unwrap_or(path);
    openat2(root, relative, flags, 0, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS)
}

/// Opens the directory `path` below `root` as `O_PATH`, making it and its parents where they are missing.
///
/// A link that points to a missing place has that place made, inside the root.
pub fn open_or_make_dir(root: impl AsFd, path: impl AsRef<Path>, mode: u32) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    match open(root.as_fd(), path, libc::O_PATH | libc::O_DIRECTORY) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => make_dirs(root, path, mode),
        other => other,
    }
}

/// How often a chain of dangling links may lead to another, as for the kernel.
const MAX_LINKS: u32 = 40;

fn make_dirs(root: impl AsFd, path: &Path, mode: u32) -> io::Result<OwnedFd> {
    let root = root.as_fd();
    let mut todo: Vec<OsString> = names_reversed(path);
    let mut done = PathBuf::new();
    let mut here = open(root, ".", libc::O_PATH | libc::O_DIRECTORY)?;
    let mut links = 0;
    while let Some(name) = todo.pop() {
        let next = done.join(&name);
        match open(root, &next, libc::O_PATH | libc::O_DIRECTORY) {
            Ok(fd) => here = fd,
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                if let Some(target) = read_link(&here, &name)? {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(io::Error::from_raw_os_error(libc::ELOOP));
                    }
                    if target.is_absolute() {
                        done = PathBuf::new();
                        here = open(root, ".", libc::O_PATH | libc::O_DIRECTORY)?;
                    }
                    todo.extend(names_reversed(&target));
                    continue;
                }
                make_dir(&here, &name, mode)?;
                here = open(root, &next, libc::O_PATH | libc::O_DIRECTORY)?;
            }
            Err(error) => return Err(error),
        }
        done = next;
    }
    Ok(here)
}

/// The names of a path, last first; `..` is kept (the kernel resolves it inside the root).
fn names_reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut names: Vec<_> = names.collect();
    names.reverse();
    names
}

/// Makes one directory; that it is already there is fine.
pub fn make_dir(parent: impl AsFd, name: &OsStr, mode: u32) -> io::Result<()> {
    let name = c_path(Path::new(name))?;
    // SAFETY: the name is terminated and lives across the call.
    match check(i64::from(unsafe {
        libc::mkdirat(parent.as_fd().as_raw_fd(), name.as_ptr(), mode)
    })) {
        Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
        _ => Ok(()),
    }
}

/// Opens the file `path` below `root` as `O_PATH`, making an empty one (and its directories) where it is missing.
pub fn open_or_make_file(root: impl AsFd, path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let path = path.as_ref();
    let root = root.as_fd();
    match open(root, path, libc::O_PATH) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
        other => return other,
    }
    let (Some(parent), Some(_)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    };
    open_or_make_dir(root, parent, 0o755)?;
    // O_CREAT follows a dangling link, inside the root.
    drop(openat2(
        root,
        path,
        libc::O_CREAT | libc::O_WRONLY | libc::O_NOCTTY,
        0o644,
        RESOLVE_IN_ROOT,
    )?);
    open(root, path, libc::O_PATH)
}

/// The target of the link `name` in `dir`, or `None` when there is no such thing or it is not a link.
pub fn read_link(dir: impl AsFd, name: &OsStr) -> io::Result<Option<PathBuf>> {
    let name = c_path(Path::new(name))?;
    let mut buffer = vec![0_u8; libc::PATH_MAX as usize];
    // SAFETY: the name is terminated; the kernel writes at most the length told.
    let result = unsafe {
        libc::readlinkat(
            dir.as_fd().as_raw_fd(),
            name.as_ptr(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        )
    };
    match check(result as i64) {
        Ok(length) => {
            buffer.truncate(length as usize);
            Ok(Some(PathBuf::from(OsString::from_vec(buffer))))
        }
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Reads a whole small file below `root`, at most `limit` bytes of it; `None` when it is missing.
pub fn read_file(root: impl AsFd, path: impl AsRef<Path>, limit: u64) -> io::Result<Option<Vec<u8>>> {
    use std::io::Read;
    let fd = match open(root, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY) {
        Ok(fd) => fd,
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let file = std::fs::File::from(fd);
    if !file.metadata()?.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

#[cfg(test)]
mod tests;
