//! The infra process: it owns the pod's namespaces and does nothing.
//!
//! Forked by the shim, never exec'd. Its root is empty and read-only, it has no capabilities, no descriptors and an
//! unprivileged user, and nobody may look into it: in a pod with a shared pid namespace it is process 1, and
//! `/proc/1/root` would otherwise be the machine's.

use std::os::fd::BorrowedFd;
use std::path::Path;

use cloudeck_linux::{caps, fd, mount, ns, process, signal};

use super::{SetupError, Step, bring_up_loopback};
use crate::config::{NetworkMode, PidMode};
use crate::protocol::{FromInit, send_packet};
use crate::spec::SandboxSpec;

/// Where the pod's shared memory lies in the infra's root.
pub(super) const SHARED_MEMORY: &str = "/shm";

/// Nobody in particular; as usual for pause containers.
const UID: u32 = 65_535;

const SHARED_MEMORY_SIZE: u64 = 64 << 20;

/// The namespaces that the infra process is born into.
pub(crate) fn clone_flags(sandbox: &SandboxSpec) -> i32 {
    let namespaces = sandbox.config.namespaces;
    let mut flags = libc::CLONE_NEWNS;
    if namespaces.network == NetworkMode::Pod {
        flags |= libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
    }
    if !namespaces.host_ipc {
        flags |= libc::CLONE_NEWIPC;
    }
    if namespaces.pid == PidMode::Pod {
        flags |= libc::CLONE_NEWPID;
    }
    flags
}

/// Becomes the infra process. Does not come back.
pub(crate) fn infra(sandbox: &SandboxSpec, shim: BorrowedFd<'_>) -> ! {
    let _ = process::set_dumpable(false);
    if let Err(error) = stay_with(shim).and_then(|()| set_up(sandbox)) {
        let _ = send_packet(shim, &FromInit::Failed(error.into()), &[]);
        process::exit_now(1);
    }
    let ready = FromInit::Ready {
        degraded: Vec::new(),
        user: None,
    };
    if send_packet(shim, &ready, &[]).is_err() {
        // The shim has died, perhaps while no signal told of that.
        process::exit_now(1);
    }
    let _ = fd::close_from(0);
    loop {
        match signal::wait_for(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]) {
            Ok(libc::SIGCHLD) => while process::reap_one().is_some() {},
            _ => process::exit_now(0),
        }
    }
}

/// Makes the infra process die with the shim, also while it is set up. The change of user undoes the signal, so it is set
/// once more then; between the two, that the shim is not there to hear tells as much, as nothing else holds its end open.
fn stay_with(shim: BorrowedFd<'_>) -> Result<(), SetupError> {
    process::set_parent_death_signal(libc::SIGKILL).step(|| "follow the shim".to_owned())?;
    fd::close_all_but(&[shim]).step(|| "close descriptors".to_owned())
}

fn set_up(sandbox: &SandboxSpec) -> Result<(), SetupError> {
    let config = &sandbox.config;
    process::set_name("cloudeck-infra").step(|| "set the name".to_owned())?;
    process::new_session().step(|| "start a session".to_owned())?;
    signal::block(&[libc::SIGTERM, libc::SIGINT, libc::SIGCHLD]).step(|| "block signals".to_owned())?;
    if config.namespaces.network == NetworkMode::Pod {
        bring_up_loopback()?;
        if let Some(name) = &config.hostname {
            ns::set_hostname(name).step(|| format!("set host name {name}"))?;
        }
    }
    for (name, value) in &config.sysctls {
        set_sysctl(sandbox, name, value)?;
    }
    empty_root(
        &sandbox.mount_point,
        config.shm_size_bytes.unwrap_or(SHARED_MEMORY_SIZE),
    )?;
    drop_everything()
}

/// Sets a kernel variable of one of the pod's own namespaces; any other would be the machine's.
fn set_sysctl(sandbox: &SandboxSpec, name: &str, value: &str) -> Result<(), SetupError> {
    let namespaces = sandbox.config.namespaces;
    let of_ipc = ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let of_network = name.starts_with("net.") && namespaces.network == NetworkMode::Pod;
    let of_ipc = of_ipc.iter().any(|prefix| name.starts_with(prefix)) && !namespaces.host_ipc;
    if !(of_network || of_ipc) || name.contains("..") || name.contains('/') {
        return Err(SetupError::Refused(format!(
            "sysctl {name:?} is not in a namespace of the pod's own"
        )));
    }
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    std::fs::write(path, value).step(|| format!("set sysctl {name:?} to {value:?}"))
}

/// Changes the root to an empty read-only one, with the pod's shared memory in it.
fn empty_root(mount_point: &Path, shared_memory_bytes: u64) -> Result<(), SetupError> {
    let step = || "make an empty root".to_owned();
    mount::enslave_all().step(step)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    let place = mount::open_path(mount_point).step(step)?;
    mount::mount_on("tmpfs", place, "tmpfs", flags, "size=4k,nr_inodes=4,mode=555").step(step)?;
    let shared = mount_point.join(SHARED_MEMORY.trim_start_matches('/'));
    std::fs::create_dir(&shared).step(step)?;
    let place = mount::open_path(&shared).step(step)?;
    let options = format!("mode=1777,size={shared_memory_bytes}");
    mount::mount_on("shm", place, "tmpfs", flags, &options).step(|| "mount shared memory".to_owned())?;
    std::env::set_current_dir(mount_point).step(step)?;
    ns::pivot_to_current_dir().step(step)?;
    let root = mount::open_path("/").step(step)?;
    mount::set_attributes(root, mount::attribute::READ_ONLY, 0, false).step(step)
}

fn drop_everything() -> Result<(), SetupError> {
    let step = || "drop privileges".to_owned();
    caps::limit_bounding(0).step(step)?;
    caps::clear_ambient().step(step)?;
    process::set_no_new_privileges().step(step)?;
    process::become_user(UID, UID, &[]).step(step)?;
    caps::set(caps::Sets::default()).step(step)?;
    // Both are reset by the change of user, so after it.
    process::set_dumpable(false).step(step)?;
    process::set_parent_death_signal(libc::SIGKILL).step(step)
}
