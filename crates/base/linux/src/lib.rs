//! Typed wrappers for the Linux system calls that the product needs and that std does not have.
//!
//! Each module is one corner of the kernel: [`clone`] makes processes, [`ns`] enters namespaces, [`mount`] and
//! [`inroot`] deal with trees of files, [`pidfd`] and [`process`] with processes, [`caps`] with capabilities,
//! [`scm`] passes descriptors over sockets, [`lock`] holds files, [`lo`] brings a loopback device up.
//!
//! Every function returns `std::io::Error` with the kernel's errno and nothing else: what was attempted is for the
//! caller to say. Nothing here logs or keeps state, and only the bounded wait for a lock starts a thread. Knows nothing of
//! containers, pods or Kubernetes.
//!
//! Start reading at [`inroot`], whose rule everything that touches a foreign file system lives by.
#![allow(
    unsafe_code,
    reason = "this crate is where system calls without a safe wrapper are wrapped"
)]

pub mod caps;
pub mod clone;
pub mod fd;
pub mod inroot;
pub mod lo;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod ns;
pub mod pidfd;
pub mod process;
pub mod scm;
pub mod signal;

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The result of a call that returns -1 and sets errno.
pub(crate) fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A path as the kernel takes it.
pub(crate) fn c_path(path: &Path) -> io::Result<CString> {
    c_str(path.as_os_str().as_bytes())
}

/// A string as the kernel takes it.
pub(crate) fn c_str(text: &[u8]) -> io::Result<CString> {
    CString::new(text).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))
}
