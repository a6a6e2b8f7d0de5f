//! Signals as data: blocked, and read from a descriptor.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use crate::check;

fn set_of(signals: &[i32]) -> libc::sigset_t {
    // SAFETY: sigemptyset initialises the set, sigaddset only sets bits in it.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, *signal);
        }
        set
    }
}

/// Blocks `signals` and returns a non-blocking descriptor from which they are read.
pub fn descriptor(signals: &[i32]) -> io::Result<OwnedFd> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; no old set is asked for.
    check(i64::from(unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    }))?;
    // SAFETY: -1 asks for a new descriptor.
    let fd = check(i64::from(unsafe {
        libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK)
    }))?;
    // SAFETY: a fresh descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Blocks `signals`: they wait until somebody asks for them.
pub fn block(signals: &[i32]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; no old set is asked for.
    check(i64::from(unsafe {
        libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut())
    }))?;
    Ok(())
}

/// The next signal that waits at `fd`, if any.
pub fn next(fd: impl AsFd) -> Option<i32> {
    // SAFETY: all-zero bytes are a valid signalfd_siginfo.
    let mut info: libc::signalfd_siginfo = unsafe { std::mem::zeroed() };
    let size = size_of_val(&info);
    // SAFETY: the kernel writes at most one record into `info`.
    let got = unsafe { libc::read(fd.as_fd().as_raw_fd(), (&raw mut info).cast(), size) };
    (got == size as isize).then_some(info.ssi_signo as i32)
}

/// Waits for one of `signals`, which are blocked meanwhile.
pub fn wait_for(signals: &[i32]) -> io::Result<i32> {
    let set = set_of(signals);
    loop {
        // SAFETY: the set is initialised and no details are asked for.
        match check(i64::from(unsafe {
            libc::sigwaitinfo(&raw const set, std::ptr::null_mut())
        })) {
            Ok(signal) => return Ok(signal as i32),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Unblocks every signal, and gives `signals` their default actions: what a program expects at its start. (Handlers are
/// reset by the exec itself, ignored signals are not.)
pub fn reset(signals: &[i32]) -> io::Result<()> {
    for signal in signals {
        // SAFETY: the default action runs no code of ours.
        unsafe { libc::signal(*signal, libc::SIG_DFL) };
    }
    let none = set_of(&[]);
    // SAFETY: the set is initialised; no old set is asked for.
    check(i64::from(unsafe {
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut())
    }))?;
    Ok(())
}

/// Ignores `signal`.
pub fn ignore(signal: i32) {
    // SAFETY: ignoring runs no code of ours.
    unsafe { libc::signal(signal, libc::SIG_IGN) };
}
