//! Making a process by `clone3`: a fork that can at once enter new namespaces and a cgroup, and hands out a pidfd.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use crate::check;

/// What came back from [`fork`], once in each process.
#[derive(Debug)]
pub enum Forked {
    /// In the parent: the child, as seen from the parent's pid namespace.
    Parent { pid: i32, pidfd: OwnedFd },
    /// In the child.
    Child,
}

/// What the child gets at birth.
#[derive(Debug, Default, Clone, Copy)]
pub struct CloneArgs<'fd> {
    /// `CLONE_NEW*` flags.
    pub flags: i32,
    /// A cgroup v2 directory that the child is born into.
    pub cgroup: Option<BorrowedFd<'fd>>,
}

/// As the kernel's `struct clone_args`, version 2 (Linux 5.7).
#[repr(C)]
#[derive(Default)]
struct RawCloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// Forks.
///
/// # Errors
/// Those of `clone3(2)`; `ENOMEM` also when the pid namespace to be entered has lost its first process.
///
/// # Safety
/// The calling process must have one thread only (the child would otherwise inherit locks that nobody releases), and
/// the child must leave by `exec` or [`crate::process::exit_now`], never by returning into the parent's stack frames'
/// destructors that act on the outside world.
pub unsafe fn fork(args: CloneArgs<'_>) -> io::Result<Forked> {
    let mut pidfd: RawFd = -1;
    let mut raw = RawCloneArgs {
        flags: (libc::CLONE_PIDFD as u64) | u64::from(args.flags as u32),
        pidfd: std::ptr::from_mut(&mut pidfd) as u64,
        exit_signal: libc::SIGCHLD as u64,
        ..RawCloneArgs::default()
    };
    if let Some(cgroup) = args.cgroup {
        const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
        raw.flags |= CLONE_INTO_CGROUP;
        raw.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `raw` lives across the call and has the size told; without CLONE_VM the child has its own copy of the
    // stack and of `pidfd`. The caller vouches for the rest.
    let result = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            std::ptr::from_mut(&mut raw),
            size_of::<RawCloneArgs>(),
        )
    };
    match check(result)? {
        0 => Ok(Forked::Child),
        pid => {
            // SAFETY: the kernel has stored a fresh descriptor that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Forked::Parent {
                pid: pid as i32,
                pidfd,
            })
        }
    }
}

/// Starts a program in a cgroup of version 2, at once: moving it there afterwards would wait for every processor of the
/// machine (10 ms and more). It gets `stdin` and nothing else; standard output and error are `null`. Returns its pid.
///
/// Unlike [`fork`] this may be called with any number of threads.
///
/// # Errors
/// Those of `clone3(2)`. A program that cannot be run shows as one that ended with 127.
pub fn spawn_into_cgroup(
    program: &CString,
    argv: &[CString],
    stdin: BorrowedFd<'_>,
    null: BorrowedFd<'_>,
    cgroup: BorrowedFd<'_>,
) -> io::Result<i32> {
    let argv: Vec<_> = argv
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect();
    let env = [std::ptr::null()];
    // SAFETY: the child makes system calls only, on data prepared above: no lock of another thread matters to it, and it
    // never returns.
    unsafe {
        match fork(CloneArgs {
            flags: 0,
            cgroup: Some(cgroup),
        })? {
            Forked::Parent { pid, .. } => Ok(pid),
            Forked::Child => {
                libc::dup2(stdin.as_raw_fd(), 0);
                libc::dup2(null.as_raw_fd(), 1);
                libc::dup2(null.as_raw_fd(), 2);
                libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr());
                libc::_exit(127)
            }
        }
    }
}
