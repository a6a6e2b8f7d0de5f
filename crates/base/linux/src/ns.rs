//! Entering and leaving namespaces. All of it concerns the calling thread only.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::{c_str, check};

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

/// Makes the current directory the root of the current mount namespace and detaches the old root.
pub fn pivot_to_current_dir() -> io::Result<()> {
    let here = c_str(b".")?;
    // SAFETY: both paths are terminated; "." twice stacks the old root upon the new one.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) })?;
    // SAFETY: "." is now the old root, which is taken away.
    check(i64::from(unsafe {
        libc::umount2(here.as_ptr(), libc::MNT_DETACH)
    }))?;
    std::env::set_current_dir("/")
}
