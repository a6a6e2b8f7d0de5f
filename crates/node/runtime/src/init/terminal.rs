//! A terminal of the container's own devpts.

use std::fs::{File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, fchown};

use cloudeck_linux::{fd, inroot, mount, process};

use super::{SetupError, Step, install};

/// Opens a terminal, makes it the standard streams and the controlling terminal, and returns its master. The process
/// leads a session and its root is the container's.
pub(super) fn open(uid: u32, size: Option<(u16, u16)>, console: bool) -> Result<OwnedFd, SetupError> {
    let step = || "open a terminal".to_owned();
    let open = |path: &str| {
        OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOCTTY | libc::O_CLOEXEC)
            .open(path)
    };
    let master = open("/dev/pts/ptmx").step(step)?;
    let number = unlock(&master).step(step)?;
    let name = format!("/dev/pts/{number}");
    let slave = open(&name).step(step)?;
    fchown(&slave, Some(uid), None).step(step)?;
    if let Some((columns, rows)) = size {
        fd::set_window_size(&slave, columns, rows).step(step)?;
    }
    install([slave.as_fd(); 3])?;
    process::take_terminal(&slave).step(|| "take the terminal".to_owned())?;
    if console {
        bind_console(&name)?;
    }
    Ok(master.into())
}

fn unlock(master: &File) -> std::io::Result<u32> {
    let (mut lock, mut number) = (0_i32, 0_u32);
    // SAFETY: each call reads or writes the one integer it is given.
    let results = unsafe {
        [
            libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw mut lock),
            libc::ioctl(master.as_raw_fd(), libc::TIOCGPTN, &raw mut number),
        ]
    };
    if results == [0, 0] {
        Ok(number)
    } else {
        Err(std::io::Error::last_os_error())
    }
}

/// `/dev/console` is the container's terminal.
fn bind_console(terminal: &str) -> Result<(), SetupError> {
    let step = || "mount /dev/console".to_owned();
    let root = mount::open_path("/").step(step)?;
    let target = inroot::open_or_make_file(&root, "/dev/console").step(step)?;
    let source = mount::open_path(terminal).step(step)?;
    mount::attach(mount::clone_tree(source, false).step(step)?, target).step(step)
}
