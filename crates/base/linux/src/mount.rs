//! Mounting through descriptors, and the table of what is mounted.
//!
//! A mount target in a foreign tree is opened first ([`crate::inroot`]) and mounted upon through its descriptor, so that
//! nobody can swap it for a link in between.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::{c_path, c_str, check, ns};

pub mod table;

pub use table::{MountEntry, MountTable};

/// `mount(2)` upon the directory or file that `target` stands for.
pub fn mount_on(
    source: &str,
    target: impl AsFd,
    kind: &str,
    flags: libc::c_ulong,
    data: &str,
) -> io::Result<()> {
    let path = descriptor_path(&target);
    mount_raw(
        &c_str(source.as_bytes())?,
        &path,
        &c_str(kind.as_bytes())?,
        flags,
        &c_str(data.as_bytes())?,
    )
}

/// Changes flags or propagation of the mount at `path`.
pub fn change(path: impl AsRef<Path>, flags: libc::c_ulong) -> io::Result<()> {
    mount_raw(c"", &c_path(path.as_ref())?, c"", flags, c"")
}

/// Makes every mount of the namespace a slave of what it came from: what is mounted here stays here, what is taken away
/// there goes here as well. Also from within a plain chroot, whose root is no mount.
pub fn enslave_all() -> io::Result<()> {
    let enslave = || change("/", libc::MS_REC | libc::MS_SLAVE);
    match enslave() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => ns::at_the_top(enslave),
        outcome => outcome,
    }
}

/// Binds `source` to `target`, by paths.
pub fn bind(source: impl AsRef<Path>, target: impl AsRef<Path>) -> io::Result<()> {
    mount_raw(
        &c_path(source.as_ref())?,
        &c_path(target.as_ref())?,
        c"",
        libc::MS_BIND,
        c"",
    )
}

fn mount_raw(
    source: &std::ffi::CStr,
    target: &std::ffi::CStr,
    kind: &std::ffi::CStr,
    flags: libc::c_ulong,
    data: &std::ffi::CStr,
) -> io::Result<()> {
    // SAFETY: all strings are terminated and live across the call.
    check(i64::from(unsafe {
        libc::mount(
            source.as_ptr(),
            target.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr().cast(),
        )
    }))?;
    Ok(())
}

/// Detaches whatever is mounted at `path`.
pub fn detach(path: impl AsRef<Path>) -> io::Result<()> {
    let path = c_path(path.as_ref())?;
    // SAFETY: the path is terminated.
    check(i64::from(unsafe {
        libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW)
    }))?;
    Ok(())
}

/// A path that leads to what `fd` stands for, as long as it is open. Needs `/proc` in the current root.
pub fn descriptor_path(fd: &impl AsFd) -> CString {
    c_str(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd()).as_bytes()).expect("no zero byte in it")
}

/// A private copy of the mount (or of the part of it) that `fd` stands for, attached nowhere.
///
/// It belongs to the same peer group as the original, so a later change of propagation decides what it sees.
pub fn clone_tree(fd: impl AsFd, recursive: bool) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: i32 = 1;
    let mut flags = OPEN_TREE_CLONE | libc::O_CLOEXEC | libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is empty and terminated.
    let fd =
        check(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_fd().as_raw_fd(), c"".as_ptr(), flags) })?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches the detached mount `tree` upon what `target` stands for.
pub fn attach(tree: impl AsFd, target: impl AsFd) -> io::Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u32 = 0x04;
    const MOVE_MOUNT_T_EMPTY_PATH: u32 = 0x40;
    // SAFETY: both paths are empty and terminated.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_fd().as_raw_fd(),
            c"".as_ptr(),
            target.as_fd().as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })?;
    Ok(())
}

/// Mount attributes for [`set_attributes`].
pub mod attribute {
    pub const READ_ONLY: u64 = 0x01;
    pub const NO_SUID: u64 = 0x02;
    pub const NO_DEV: u64 = 0x04;
    pub const NO_EXEC: u64 = 0x08;
}

#[repr(C)]
#[derive(Default)]
struct MountAttributes {
    set: u64,
    clear: u64,
    propagation: u64,
    userns_fd: u64,
}

/// Sets attributes ([`attribute`]) and, unless 0, the propagation (`MS_PRIVATE`, …) of the mount that `fd` stands for.
pub fn set_attributes(
    fd: impl AsFd,
    set: u64,
    propagation: libc::c_ulong,
    recursive: bool,
) -> io::Result<()> {
    let attributes = MountAttributes {
        set,
        propagation,
        ..MountAttributes::default()
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and terminated; `attributes` has the size told and lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_fd().as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<MountAttributes>(),
        )
    })?;
    Ok(())
}

/// Opens `path` as `O_PATH`, following links: for paths that the operator named.
pub fn open_path(path: impl AsRef<Path>) -> io::Result<OwnedFd> {
    let path = c_path(path.as_ref())?;
    // SAFETY: the path is terminated.
    let fd = check(i64::from(unsafe {
        libc::open(path.as_ptr(), libc::O_PATH | libc::O_CLOEXEC)
    }))?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Detaches every mount at or below `prefix`, innermost first. Returns those that could not be.
pub fn detach_below(prefix: &Path) -> io::Result<Vec<(PathBuf, io::Error)>> {
    let table = MountTable::of_self()?;
    let mut failed = Vec::new();
    for entry in table
        .entries
        .iter()
        .rev()
        .filter(|entry| entry.mount_point.starts_with(prefix))
    {
        match detach(&entry.mount_point) {
            // EINVAL: no longer a mount point; a detached parent took it along.
            Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
                failed.push((entry.mount_point.clone(), error));
            }
            _ => {}
        }
    }
    Ok(failed)
}
