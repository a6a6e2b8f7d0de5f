//! Descriptors: the ones that must not leak over an `exec`, and the three that must.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::check;

/// Marks every descriptor from `first` upwards close-on-exec.
pub fn cloexec_from(first: u32) -> io::Result<()> {
    const CLOSE_RANGE_CLOEXEC: u32 = 4;
    // SAFETY: close_range takes three integers; with CLOEXEC it closes nothing.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, CLOSE_RANGE_CLOEXEC) })?;
    Ok(())
}

/// Makes `fd` also known as the number `target` (0, 1 or 2), surviving an exec.
pub fn install_stdio(fd: impl AsFd, target: i32) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    if raw == target {
        // SAFETY: plain fcntl on an open descriptor.
        check(i64::from(unsafe { libc::fcntl(raw, libc::F_SETFD, 0) }))?;
        return Ok(());
    }
    // SAFETY: dup2 onto a standard stream; whatever was open there is replaced on purpose.
    check(i64::from(unsafe { libc::dup2(raw, target) }))?;
    Ok(())
}

/// A pipe, both ends close-on-exec: (read, write).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [-1; 2];
    // SAFETY: the array has room for the two descriptors.
    check(i64::from(unsafe {
        libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC)
    }))?;
    // SAFETY: both are fresh and owned by nobody.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Makes reads and writes of `fd` return `EAGAIN` rather than wait.
pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let raw = fd.as_fd().as_raw_fd();
    // SAFETY: plain fcntl on an open descriptor.
    let flags = check(i64::from(unsafe { libc::fcntl(raw, libc::F_GETFL) }))? as i32;
    // SAFETY: as above.
    check(i64::from(unsafe {
        libc::fcntl(raw, libc::F_SETFL, flags | libc::O_NONBLOCK)
    }))?;
    Ok(())
}

/// A second, close-on-exec descriptor for what `number` stands for.
///
/// # Errors
/// `EBADF` when no such descriptor is open.
pub fn duplicate(number: i32) -> io::Result<OwnedFd> {
    // SAFETY: plain fcntl; a number that is not open is an error.
    let fd = check(i64::from(unsafe {
        libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3)
    }))?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Makes the directory that `fd` stands for the current one.
pub fn enter_dir(fd: impl AsFd) -> io::Result<()> {
    // SAFETY: fchdir takes a descriptor.
    check(i64::from(unsafe { libc::fchdir(fd.as_fd().as_raw_fd()) }))?;
    Ok(())
}

/// Sets the window size of the terminal `fd`.
pub fn set_window_size(fd: impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one winsize.
    check(i64::from(unsafe {
        libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &raw const size)
    }))?;
    Ok(())
}

/// Closes every descriptor from `first` upwards.
///
/// # Errors
/// Those of `close_range(2)`. Owners of what was open must not use (or drop) it afterwards: only for a process that will
/// do neither.
pub fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX)
}

/// Closes every descriptor but the standard ones and those `kept`.
///
/// # Errors
/// As for [`close_from`], and with the same demand on owners.
pub fn close_all_but(kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut first = 3;
    let next = |first| {
        let numbers = kept.iter().map(|fd| fd.as_raw_fd().unsigned_abs());
        numbers.filter(|fd| *fd >= first).min()
    };
    while let Some(fd) = next(first) {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: integers only. What it means for owners is for the callers to say; there is no memory that depends on a
    // descriptor.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clone::{CloneArgs, Forked, fork};

    fn is_open(fd: i32) -> bool {
        // SAFETY: plain fcntl; a number that is not open is an error.
        unsafe { libc::fcntl(fd, libc::F_GETFD) >= 0 }
    }

    #[test]
    fn all_but_the_kept_descriptors_are_closed() {
        let pipes: Vec<_> = (0..4).map(|_| pipe().unwrap()).collect();
        let kept = [pipes[3].1.as_fd(), pipes[1].0.as_fd(), pipes[1].1.as_fd()];
        // SAFETY: the child makes system calls only: no lock of another thread matters to it, and it never returns.
        let forked = unsafe { fork(CloneArgs::default()) }.unwrap();
        let Forked::Parent { pid, .. } = forked else {
            let done = close_all_but(&kept).is_ok();
            let open = |fd: &OwnedFd| is_open(fd.as_raw_fd());
            let right = [&pipes[3].1, &pipes[1].0, &pipes[1].1].into_iter().all(open)
                && ![&pipes[0].0, &pipes[0].1, &pipes[2].0, &pipes[2].1, &pipes[3].0]
                    .into_iter()
                    .any(open);
            crate::process::exit_now(if done && right && is_open(2) { 7 } else { 1 });
        };
        assert_eq!(crate::process::reap(pid).unwrap().code, 7);
    }
}
