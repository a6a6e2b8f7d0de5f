//! Entering and leaving namespaces. All of it concerns the calling thread only.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::{c_str, check, fd, mount};

/// Enters the namespaces of the kinds `flags` (`CLONE_NEW*`) that `fd` stands for: a pidfd, or one namespace file.
pub fn enter(fd: impl AsFd, flags: i32) -> io::Result<()> {
    // SAFETY: setns takes a descriptor and an integer.
    check(i64::from(unsafe { libc::setns(fd.as_fd().as_raw_fd(), flags) }))?;
    Ok(())
}

/// Moves into fresh namespaces of the kinds `flags`.
pub fn leave(flags: i32) -> io::Result<()> {
    // SAFETY: the flags used here (NEW*) change what the thread sees, not memory or descriptors.
    check(i64::from(unsafe { libc::unshare(flags) }))?;
    Ok(())
}

/// Sets the host name of the current UTS namespace.
pub fn set_hostname(name: &str) -> io::Result<()> {
    // SAFETY: pointer and length describe the string.
    check(i64::from(unsafe {
        libc::sethostname(name.as_ptr().cast(), name.len())
    }))?;
    Ok(())
}

/// Where a thread is in the tree of files: its mount namespace, its root and its current directory.
///
/// Entering a mount namespace moves both to the top of it, also entering one's own; a program in a plain chroot is
/// elsewhere.
#[derive(Debug)]
pub struct Whereabouts {
    namespace: File,
    root: OwnedFd,
    current: OwnedFd,
}

impl Whereabouts {
    /// Where the calling thread is. Needs `/proc`.
    pub fn remember() -> io::Result<Self> {
        Ok(Self {
            namespace: File::open("/proc/thread-self/ns/mnt")?,
            root: mount::open_path("/")?,
            current: mount::open_path(".")?,
        })
    }

    /// Goes back there.
    pub fn go_back(&self) -> io::Result<()> {
        enter(&self.namespace, libc::CLONE_NEWNS)?;
        fd::enter_dir(&self.root)?;
        std::os::unix::fs::chroot(".")?;
        fd::enter_dir(&self.current)
    }
}

/// Does something with the top of the mount namespace as the root. The calling thread shares its place with no other.
pub(crate) fn at_the_top<T>(action: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let here = Whereabouts::remember()?;
    enter(&here.namespace, libc::CLONE_NEWNS)?;
    let outcome = action();
    here.go_back()?;
    outcome
}

/// Makes the current directory, on which something is mounted, the root of the current mount namespace and detaches the
/// old root.
///
/// In a plain chroot the kernel refuses to put the current root aside, as it is no mount of its own; and what lies above
/// it must go, too. So there the whole namespace is put aside, from its top.
pub fn pivot_to_current_dir() -> io::Result<()> {
    match pivot() {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let here = Whereabouts::remember()?;
            enter(&here.namespace, libc::CLONE_NEWNS)?;
            fd::enter_dir(&here.current)?;
            pivot()?;
        }
        outcome => outcome?,
    }
    let here = c_str(b".")?;
    // SAFETY: "." is now the old root, which is taken away; the string is terminated.
    check(i64::from(unsafe {
        libc::umount2(here.as_ptr(), libc::MNT_DETACH)
    }))?;
    std::env::set_current_dir("/")
}

fn pivot() -> io::Result<()> {
    let here = c_str(b".")?;
    // SAFETY: both paths are terminated; "." twice stacks the old root upon the new one.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) })?;
    Ok(())
}
