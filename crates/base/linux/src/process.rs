//! The calling process and facts about others: attributes by `prctl`, identity, waiting, identity across reboots.

use std::ffi::CString;
use std::io;
use std::path::Path;

use crate::check;

fn prctl(option: i32, value: libc::c_ulong) -> io::Result<i32> {
    // SAFETY: the options used in this module take integers only.
    check(i64::from(unsafe { libc::prctl(option, value, 0, 0, 0) })).map(|value| value as i32)
}

/// Whether others may trace the process and see its memory and links in `/proc`. Resets at exec.
pub fn set_dumpable(yes: bool) -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, libc::c_ulong::from(yes)).map(drop)
}

/// Orphans among the descendants become children of this process.
pub fn become_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map(drop)
}

/// The signal that this process gets when its parent dies. Cleared by a change of user.
pub fn set_parent_death_signal(signal: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, signal as libc::c_ulong).map(drop)
}

/// No exec may give more privileges from now on.
pub fn set_no_new_privileges() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

/// Whether capabilities survive the change from user 0 to another.
pub fn set_keep_capabilities(yes: bool) -> io::Result<()> {
    prctl(libc::PR_SET_KEEPCAPS, libc::c_ulong::from(yes)).map(drop)
}

/// Sets the name seen in `ps -o comm` (15 bytes are kept).
pub fn set_name(name: &str) -> io::Result<()> {
    let name = crate::c_str(name.as_bytes())?;
    // SAFETY: PR_SET_NAME reads a terminated string.
    check(i64::from(unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr(), 0, 0, 0)
    }))?;
    Ok(())
}

/// Becomes the user and groups given, for good: real, effective and saved ids.
///
/// Only for a process of one thread (libc's wrappers, which tell other threads, are avoided).
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: pointer and length describe the slice; the others take integers.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Sets which permissions new files do not get. Returns what was set before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: takes and returns an integer.
    unsafe { libc::umask(mask) }
}

/// Gives memory that was freed back to the kernel.
pub fn trim_heap() {
    // SAFETY: glibc's allocator looks after its own locks.
    unsafe { libc::malloc_trim(0) };
}

/// Ends the process without running destructors or exit handlers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit does not return.
    unsafe { libc::_exit(code) }
}

/// Starts a session of its own.
pub fn new_session() -> io::Result<()> {
    // SAFETY: takes nothing.
    check(i64::from(unsafe { libc::setsid() }))?;
    Ok(())
}

/// Makes the terminal on descriptor `fd` the controlling one of this session.
pub fn take_terminal(fd: impl std::os::fd::AsFd) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: TIOCSCTTY takes an integer.
    check(i64::from(unsafe {
        libc::ioctl(fd.as_fd().as_raw_fd(), libc::TIOCSCTTY, 0)
    }))?;
    Ok(())
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    pub pid: i32,
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// The signal that ended it, or 0.
    pub signal: i32,
}

/// Reaps one child that has ended, without waiting. `None`: there is none (any more).
pub fn reap_one() -> Option<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: the status has room for the answer.
        match check(i64::from(unsafe {
            libc::waitpid(-1, &raw mut status, libc::WNOHANG)
        })) {
            Ok(0) => return None,
            Ok(pid) => return Some(ended(pid as i32, status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

/// Waits for the end of the child `pid` and reaps it. `None` when it is no child (any more).
pub fn reap(pid: i32) -> Option<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: the status has room for the answer.
        match check(i64::from(unsafe { libc::waitpid(pid, &raw mut status, 0) })) {
            Ok(pid) => return Some(ended(pid as i32, status)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
}

fn ended(pid: i32, status: i32) -> Ended {
    if libc::WIFSIGNALED(status) {
        let signal = libc::WTERMSIG(status);
        Ended {
            pid,
            code: 128 + signal,
            signal,
        }
    } else {
        Ended {
            pid,
            code: libc::WEXITSTATUS(status),
            signal: 0,
        }
    }
}

/// Replaces the program. Comes back only with the reason why it could not.
pub fn exec(program: &CString, argv: &[CString], env: &[CString]) -> io::Error {
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings
            .iter()
            .map(|s| s.as_ptr())
            .chain(std::iter::once(std::ptr::null()))
            .collect()
    };
    let (argv, env) = (pointers(argv), pointers(env));
    // SAFETY: both arrays end in null and hold terminated strings that outlive the call.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), env.as_ptr()) };
    io::Error::last_os_error()
}

/// Sets a resource limit of this process.
pub fn set_rlimit(resource: u32, soft: u64, hard: u64) -> io::Result<()> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: the kernel reads one rlimit64 and writes nothing.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            &raw const limit,
            std::ptr::null::<u8>(),
        )
    })?;
    Ok(())
}

/// A resource limit of this process: (soft, hard).
pub fn rlimit(resource: u32) -> io::Result<(u64, u64)> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the kernel writes one rlimit64.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            std::ptr::null::<u8>(),
            &raw mut limit,
        )
    })?;
    Ok((limit.rlim_cur, limit.rlim_max))
}

/// The kernel's name of this boot. Processes known from another boot are gone.
pub fn boot_id() -> io::Result<String> {
    Ok(std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?
        .trim()
        .to_owned())
}

/// When the process `pid` was started, in clock ticks after boot: with the pid, an identity within one boot.
pub fn start_time(pid: i32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    start_time_in(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn start_time_in(stat: &str) -> Option<u64> {
    // The name in parentheses may itself hold spaces and parentheses, so count from the last one: field 22 of all is
    // the 20th after it.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_name_with_parentheses_does_not_shift_the_start_time() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20";
        assert_eq!(start_time_in(stat), Some(4242));
    }

    #[test]
    fn this_process_has_a_start_time_and_a_boot() {
        assert!(start_time(std::process::id() as i32).unwrap() > 0);
        assert_eq!(boot_id().unwrap().len(), 36);
    }

    #[test]
    fn a_wait_status_tells_code_and_signal() {
        assert_eq!(
            ended(1, 7 << 8),
            Ended {
                pid: 1,
                code: 7,
                signal: 0
            }
        );
        assert_eq!(
            ended(1, 9),
            Ended {
                pid: 1,
                code: 137,
                signal: 9
            }
        );
    }
}
