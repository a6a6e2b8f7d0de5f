//! The nodes and links of `/dev`.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use cloudeck_linux::{inroot, process};

use super::{SetupError, Step};
use crate::config::ContainerConfig;

/// What every container has: name, major, minor.
const USUAL: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
];

/// Fills `/dev`, which is a fresh memory file system.
pub(super) fn make(root: &OwnedFd, config: &ContainerConfig) -> Result<(), SetupError> {
    let dev = inroot::open(root, "/dev", libc::O_PATH | libc::O_DIRECTORY).step(|| "open /dev".to_owned())?;
    for (name, major, minor) in USUAL {
        make_node(
            &dev,
            Path::new(name),
            libc::S_IFCHR | 0o666,
            libc::makedev(major, minor),
        )
        .step(|| format!("make device /dev/{name}"))?;
    }
    for (target, name) in LINKS {
        let path = format!("/proc/self/fd/{}/{name}", dev.as_raw_fd());
        std::os::unix::fs::symlink(target, path).step(|| format!("link /dev/{name}"))?;
    }
    for device in &config.devices {
        copy_node(root, &device.host_path, &device.container_path)?;
    }
    if config.security.privileged {
        copy_all(root, Path::new("/dev"))?;
    }
    Ok(())
}

fn make_node(dir: &OwnedFd, name: &Path, mode: u32, device: libc::dev_t) -> io::Result<()> {
    let name = CString::new(name.as_os_str().as_encoded_bytes())?;
    // The mask is lifted for this one call: the process has one thread.
    let mask = process::set_umask(0);
    // SAFETY: the name is terminated.
    let result = unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, device) };
    process::set_umask(mask);
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn copy_node(root: &OwnedFd, from: &Path, to: &Path) -> Result<(), SetupError> {
    let step = || format!("give device {}", from.display());
    let metadata = std::fs::metadata(from).step(step)?;
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(SetupError::Refused(format!("{} is not a device", from.display())));
    }
    let (Some(parent), Some(name)) = (to.parent(), to.file_name()) else {
        return Err(SetupError::Refused(format!(
            "{} is no name for a device",
            to.display()
        )));
    };
    let dir = inroot::open_or_make_dir(root, parent, 0o755).step(step)?;
    match make_node(&dir, Path::new(name), metadata.mode(), metadata.rdev()) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.step(step),
    }
}

/// Directories of `/dev` that are file systems of their own in a container.
const OWN: [&str; 4] = ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev/hugepages"];

fn copy_all(root: &OwnedFd, dir: &Path) -> Result<(), SetupError> {
    let entries = std::fs::read_dir(dir).step(|| format!("list {}", dir.display()))?;
    for entry in entries.flatten() {
        let path: PathBuf = entry.path();
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() && !OWN.iter().any(|own| path == Path::new(own)) {
            copy_all(root, &path)?;
        } else if (kind.is_block_device() || kind.is_char_device()) && path != Path::new("/dev/console") {
            copy_node(root, &path, &path)?;
        }
    }
    Ok(())
}
