//! Everything that is mounted into the root: what every container has, what this one asked for, what is hidden.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use cloudeck_linux::inroot;
use cloudeck_linux::mount::{self, attribute};

use super::{SetupError, Step};
use crate::config::{BindPropagation, ContainerConfig, Mount, MountSource};
use crate::spec::ContainerSpec;

/// A mount with its source at hand.
pub(super) struct Attachment {
    mount: Mount,
    /// The detached source of a bind, and whether it is a directory.
    tree: Option<(OwnedFd, bool)>,
}

/// Opens the sources of all binds, shallow destinations first.
pub(super) fn collect(mounts: &[Mount]) -> Result<Vec<Attachment>, SetupError> {
    let mut attachments = Vec::with_capacity(mounts.len());
    for mount in mounts {
        let tree = match &mount.source {
            MountSource::Bind { path, sub_path } => Some(open_source(path, sub_path.as_deref())?),
            MountSource::Tmpfs { .. } => None,
        };
        attachments.push(Attachment {
            mount: mount.clone(),
            tree,
        });
    }
    attachments.sort_by_key(|attachment| attachment.mount.destination.components().count());
    Ok(attachments)
}

fn open_source(path: &Path, sub_path: Option<&Path>) -> Result<(OwnedFd, bool), SetupError> {
    let shown = sub_path.map_or_else(|| path.to_owned(), |sub| path.join(sub));
    let step = || format!("open mount source {}", shown.display());
    let mut source = mount::open_path(path).step(step)?;
    if let Some(sub) = sub_path {
        // The volume may hold links that a container has made.
        source = match inroot::open(&source, sub, libc::O_PATH) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                inroot::open_or_make_dir(&source, sub, 0o750)
            }
            other => other,
        }
        .step(step)?;
    }
    let is_dir = is_dir(&source).step(step)?;
    let tree = mount::clone_tree(&source, true).step(step)?;
    Ok((tree, is_dir))
}

fn is_dir(fd: &OwnedFd) -> std::io::Result<bool> {
    Ok(std::fs::File::from(fd.try_clone()?).metadata()?.is_dir())
}

/// Mounts what was asked for.
pub(super) fn attach_all(root: &OwnedFd, attachments: &mut [Attachment]) -> Result<(), SetupError> {
    attachments
        .iter()
        .try_for_each(|attachment| attach(root, attachment))
}

fn attach(root: &OwnedFd, attachment: &Attachment) -> Result<(), SetupError> {
    let Attachment { mount: wanted, tree } = attachment;
    let destination = &wanted.destination;
    let step = || format!("mount {}", destination.display());
    let Some((tree, is_dir)) = tree else {
        return attach_tmpfs(root, wanted);
    };
    let target = if *is_dir {
        inroot::open_or_make_dir(root, destination, 0o755).step(step)?
    } else {
        inroot::open_or_make_file(root, destination).step(step)?
    };
    let propagation = match wanted.propagation {
        BindPropagation::Private => libc::MS_PRIVATE,
        BindPropagation::HostToContainer => libc::MS_SLAVE,
        BindPropagation::Bidirectional => libc::MS_SHARED,
    };
    mount::set_attributes(tree, 0, propagation, true).step(step)?;
    if wanted.readonly {
        mount::set_attributes(tree, attribute::READ_ONLY, 0, wanted.recursive_readonly).step(step)?;
    }
    mount::attach(tree, target).step(step)
}

fn attach_tmpfs(root: &OwnedFd, wanted: &Mount) -> Result<(), SetupError> {
    let MountSource::Tmpfs { size_bytes, mode } = wanted.source else {
        return Ok(());
    };
    let step = || format!("mount {}", wanted.destination.display());
    let target = inroot::open_or_make_dir(root, &wanted.destination, 0o755).step(step)?;
    let mut options = format!("mode={:o}", mode.unwrap_or(0o1777));
    if let Some(size) = size_bytes {
        options = format!("{options},size={size}");
    }
    let readonly = if wanted.readonly { libc::MS_RDONLY } else { 0 };
    mount::mount_on(
        "tmpfs",
        target,
        "tmpfs",
        libc::MS_NOSUID | libc::MS_NODEV | readonly,
        &options,
    )
    .step(step)
}

const GUARDED: libc::c_ulong = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;

/// Mounts what every container has: `/proc`, `/dev` and its parts, `/sys`, cgroups.
pub(super) fn system(
    root: &OwnedFd,
    spec: &ContainerSpec,
    shared_memory: Option<&OwnedFd>,
) -> Result<(), SetupError> {
    let seal = if spec.config.security.privileged {
        0
    } else {
        libc::MS_RDONLY
    };
    put(root, "/proc", "proc", "proc", GUARDED, "")?;
    put(
        root,
        "/dev",
        "tmpfs",
        "tmpfs",
        libc::MS_NOSUID | libc::MS_STRICTATIME,
        "mode=755,size=65536k",
    )?;
    make_dirs(root, "/dev", ["pts", "mqueue", "shm"])?;
    let terminals = "newinstance,ptmxmode=0666,mode=0620,gid=5";
    put(
        root,
        "/dev/pts",
        "devpts",
        "devpts",
        libc::MS_NOSUID | libc::MS_NOEXEC,
        terminals,
    )?;
    put(root, "/dev/mqueue", "mqueue", "mqueue", GUARDED, "")?;
    put_shared_memory(root, shared_memory)?;
    put(root, "/sys", "sysfs", "sysfs", GUARDED | seal, "")?;
    put_cgroups(root, spec, seal)
}

/// Makes directories in a file system that is ours and new, where nothing can be in the way.
fn make_dirs<'name>(
    root: &OwnedFd,
    place: &str,
    names: impl IntoIterator<Item = &'name str>,
) -> Result<(), SetupError> {
    let dir = system_dir(root, place)?;
    names.into_iter().try_for_each(|name| {
        inroot::make_dir(&dir, name.as_ref(), 0o755).step(|| format!("make {place}/{name}"))
    })
}

/// Mounts one file system at `place`. In the part of the tree that the image brings, no link is followed: an image whose
/// `/proc` is a link wants to be somewhere else.
fn put(
    root: &OwnedFd,
    place: &str,
    source: &str,
    kind: &str,
    flags: libc::c_ulong,
    options: &str,
) -> Result<(), SetupError> {
    let target = system_dir(root, place)?;
    mount::mount_on(source, target, kind, flags, options).step(|| format!("mount {place}"))
}

fn system_dir(root: &OwnedFd, place: &str) -> Result<OwnedFd, SetupError> {
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    match inroot::open_no_links(root, place, flags) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
            inroot::open_or_make_dir(root, place, 0o755)
                .and_then(|_| inroot::open_no_links(root, place, flags))
        }
        other => other,
    }
    .step(|| format!("open {place} in the image"))
}

fn put_shared_memory(root: &OwnedFd, shared_memory: Option<&OwnedFd>) -> Result<(), SetupError> {
    let step = || "mount /dev/shm".to_owned();
    let target = system_dir(root, "/dev/shm")?;
    if let Some(tree) = shared_memory {
        return mount::attach(tree, target).step(step);
    }
    let machine = mount::open_path("/dev/shm").and_then(|path| mount::clone_tree(path, false));
    mount::attach(machine.step(step)?, target).step(step)
}

fn put_cgroups(root: &OwnedFd, spec: &ContainerSpec, seal: libc::c_ulong) -> Result<(), SetupError> {
    let top = "/sys/fs/cgroup";
    if spec.cgroup_views.is_empty() {
        return put(root, top, "cgroup", "cgroup2", GUARDED | seal, "");
    }
    put(root, top, "tmpfs", "tmpfs", GUARDED, "mode=755")?;
    make_dirs(root, top, spec.cgroup_views.iter().map(|(name, _)| name.as_str()))?;
    for (name, options) in &spec.cgroup_views {
        put(
            root,
            &format!("{top}/{name}"),
            "cgroup",
            "cgroup",
            GUARDED | seal,
            options,
        )?;
        for controller in name.split(',').filter(|controller| controller != name) {
            let dir = system_dir(root, top)?;
            let link = PathBuf::from(format!(
                "/proc/self/fd/{}/{controller}",
                std::os::fd::AsRawFd::as_raw_fd(&dir)
            ));
            std::os::unix::fs::symlink(name, link).step(|| format!("link cgroup {controller}"))?;
        }
    }
    let dir = system_dir(root, top)?;
    mount::set_attributes(dir, attribute::READ_ONLY, 0, false).step(|| format!("seal {top}"))
}

/// What the container may not see.
const MASKED: [&str; 13] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/firmware",
];

/// What the container may not change.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Masks and protects paths of the root, which is `/` by now.
pub(super) fn restrict(config: &ContainerConfig) -> Result<(), SetupError> {
    let security = &config.security;
    let usual = |paths: &[&str]| -> Vec<PathBuf> {
        let paths: &[&str] = if security.privileged { &[] } else { paths };
        paths.iter().map(PathBuf::from).collect()
    };
    let masked = security.masked_paths.clone().unwrap_or_else(|| usual(&MASKED));
    let read_only = security
        .readonly_paths
        .clone()
        .unwrap_or_else(|| usual(&READ_ONLY));
    let root = mount::open_path("/").step(|| "open the root".to_owned())?;
    for path in &read_only {
        protect(&root, path)?;
    }
    for path in &masked {
        mask(&root, path)?;
    }
    Ok(())
}

fn open_if_there(root: &OwnedFd, path: &Path) -> Result<Option<OwnedFd>, SetupError> {
    match inroot::open(root, path, libc::O_PATH) {
        Ok(fd) => Ok(Some(fd)),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => Ok(None),
        Err(source) => Err(SetupError::Step {
            what: format!("open {}", path.display()),
            source,
        }),
    }
}

fn protect(root: &OwnedFd, path: &Path) -> Result<(), SetupError> {
    let step = || format!("make {} read-only", path.display());
    let Some(target) = open_if_there(root, path)? else {
        return Ok(());
    };
    let tree = mount::clone_tree(&target, true).step(step)?;
    mount::set_attributes(&tree, attribute::READ_ONLY, 0, true).step(step)?;
    mount::attach(tree, target).step(step)
}

fn mask(root: &OwnedFd, path: &Path) -> Result<(), SetupError> {
    let step = || format!("mask {}", path.display());
    let Some(target) = open_if_there(root, path)? else {
        return Ok(());
    };
    if is_dir(&target).step(step)? {
        return mount::mount_on("tmpfs", target, "tmpfs", libc::MS_RDONLY, "size=0k,nr_inodes=1").step(step);
    }
    let null = inroot::open(root, "/dev/null", libc::O_PATH).step(step)?;
    let tree = mount::clone_tree(null.as_fd(), false).step(step)?;
    mount::attach(tree, target).step(step)
}
