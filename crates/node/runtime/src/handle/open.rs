//! Opening an instance.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use cloudeck_linux::lock::FileLock;
use cloudeck_linux::process;
use cloudeck_task::Scope;
use tokio::sync::broadcast;

use super::filters::Filters;
use super::{EVENTS, Inner, Runtime, adopt, blocking, sandboxes_dir, spawn};
use crate::cgroup::Cgroups;
use crate::config::{Resources, RuntimeConfig};
use crate::error::OpenError;

/// The longest path that fits a socket address, with its end mark.
const MAX_SOCKET_PATH: usize = 107;

/// Below the run directory.
pub(super) const SOCKETS: &str = "s";
pub(super) const NETWORKS: &str = "netns";
/// An empty directory upon which roots are mounted, out of the machine's sight.
pub(super) const MOUNT_POINT: &str = "root";

pub(super) async fn open(config: RuntimeConfig, scope: &Scope) -> Result<Runtime, OpenError> {
    let scope = scope.child("runtime");
    let inner = blocking(move || prepare(config, scope)).await?;
    let runtime = Runtime {
        inner: Arc::new(inner),
    };
    adopt::all(&runtime.inner).await?;
    Ok(runtime)
}

fn prepare(config: RuntimeConfig, scope: Scope) -> Result<Inner, OpenError> {
    let sockets = config.run_dir.join(SOCKETS);
    if sockets.as_os_str().len() + "/0123456789abcdef.sock".len() > MAX_SOCKET_PATH {
        return Err(OpenError::PathTooLong(config.run_dir));
    }
    let filters = config.state_dir.join("seccomp");
    let dirs = [sandboxes_dir(&config), filters.clone(), sockets];
    for dir in dirs
        .iter()
        .cloned()
        .chain([NETWORKS, MOUNT_POINT].map(|name| config.run_dir.join(name)))
    {
        make_dir(&dir)?;
    }
    let lock = FileLock::try_acquire(config.run_dir.join("lock"));
    let lock = lock.map_err(|source| OpenError::Directory {
        path: config.run_dir.clone(),
        source,
    })?;
    let lock = lock.ok_or_else(|| OpenError::Locked(config.run_dir.clone()))?;
    let cgroups = Cgroups::discover().map_err(OpenError::Cgroups)?;
    cgroups
        .create_inner(&config.cgroup_parent, &Resources::default())
        .map_err(OpenError::Cgroups)?;
    let shims = format!("{}/shims", config.cgroup_parent);
    let shim_cgroup = cgroups
        .create_leaf(&shims, &Resources::default(), None)
        .map_err(OpenError::Cgroups)?;
    let program = spawn::sealed_program(&config.shim_exe);
    let program = program.map_err(|source| OpenError::Program {
        path: config.shim_exe.clone(),
        source,
    })?;
    let boot_id = process::boot_id();
    let boot_id = boot_id.map_err(|source| OpenError::Directory {
        path: "/proc".into(),
        source,
    })?;
    Ok(Inner {
        cgroups,
        shim_cgroup,
        program,
        boot_id,
        scope,
        sandboxes: Mutex::new(HashMap::new()),
        filters: Filters::new(filters),
        events: broadcast::Sender::new(EVENTS),
        // Never twice, also after a restart.
        next_exec: AtomicU64::new(crate::spec::now_ns() as u64),
        _lock: lock,
        config,
    })
}

/// Nobody else's: the files below tell what is in containers' environments.
fn make_dir(path: &Path) -> Result<(), OpenError> {
    use std::os::unix::fs::DirBuilderExt;
    let result = std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    result.map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })
}
