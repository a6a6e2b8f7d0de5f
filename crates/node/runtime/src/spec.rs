//! The files of the state directory.
//!
//! ```text
//! <state>/seccomp/<hash>.bpf                  compiled filters
//! <state>/sandboxes/<sandbox>/sandbox.json    what was asked for
//! <state>/sandboxes/<sandbox>/shim.json       who holds it, in this boot
//! <state>/sandboxes/<sandbox>/exits           how its containers ended (see `exits`)
//! <state>/sandboxes/<sandbox>/<container>/container.json
//! ```
//!
//! Every file carries the version of its form. A newer daemon reads older ones: fields are only ever added.

use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::cgroup::Membership;
use crate::config::{ContainerConfig, SandboxConfig};
use crate::status::{ContainerId, SandboxId};

/// The version of the files and of the protocol that this code writes.
pub(crate) const VERSION: u32 = 1;

pub(crate) const SANDBOX_FILE: &str = "sandbox.json";
pub(crate) const SHIM_FILE: &str = "shim.json";
pub(crate) const CONTAINER_FILE: &str = "container.json";
pub(crate) const EXITS_FILE: &str = "exits";

/// `sandbox.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SandboxSpec {
    pub(crate) version: u32,
    pub(crate) id: SandboxId,
    pub(crate) created_at_ns: i64,
    pub(crate) config: SandboxConfig,
    /// The pod's cgroup, relative to the hierarchies' roots.
    pub(crate) cgroup: String,
    pub(crate) socket: PathBuf,
    pub(crate) netns: Option<PathBuf>,
    /// An empty directory on which roots are mounted, in mount namespaces of their own.
    pub(crate) mount_point: PathBuf,
    /// Where the shim puts itself.
    pub(crate) shim_cgroup: Membership,
}

/// `shim.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ShimRecord {
    pub(crate) version: u32,
    pub(crate) boot_id: String,
    pub(crate) pid: i32,
    /// With the pid, the identity of the process within the boot.
    pub(crate) start_time: u64,
    pub(crate) infra_pid: i32,
}

/// `container.json`: what was asked for, and what the daemon has made of it for the container's process.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ContainerSpec {
    pub(crate) version: u32,
    pub(crate) id: ContainerId,
    pub(crate) created_at_ns: i64,
    pub(crate) config: ContainerConfig,
    /// The container's cgroup, relative to the hierarchies' roots.
    pub(crate) cgroup: String,
    pub(crate) membership: Membership,
    /// Version 1: what appears below `/sys/fs/cgroup`: (name, mount options).
    pub(crate) cgroup_views: Vec<(String, String)>,
    pub(crate) capabilities: u64,
    /// The compiled filter.
    pub(crate) seccomp: Option<PathBuf>,
}

/// The directory of a container.
pub(crate) fn container_dir(sandbox_dir: &Path, container: &str) -> PathBuf {
    sandbox_dir.join(container)
}

pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    let bytes = std::fs::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Writes so that a reader sees the whole file or none, whatever dies meanwhile.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, bytes)?;
    std::fs::rename(temporary, path)
}

pub(crate) fn now_ns() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
