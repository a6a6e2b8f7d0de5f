//! What the caller says: how the runtime is set up, what a sandbox and a container shall be.
//!
//! Plain values, also the form in which they are kept in the state directory; so a field that is added later needs a
//! `serde(default)`, and none is ever renamed.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How one instance of the runtime is set up. Everything it makes on the machine lies below these names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The instance: part of every name that is global on the machine.
    pub instance: String,
    /// Survives a reboot: configurations and exit codes.
    pub state_dir: PathBuf,
    /// Does not survive a reboot: sockets and pinned network namespaces. Short: socket paths stay under 108 bytes.
    pub run_dir: PathBuf,
    /// The cgroup, relative to the root of each hierarchy, below which everything lies.
    pub cgroup_parent: String,
    /// The program that becomes the shim when its first argument is [`crate::SHIM_WORD`].
    pub shim_exe: PathBuf,
}

impl RuntimeConfig {
    /// The usual names for `instance`.
    pub fn new(instance: &str, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            instance: instance.to_owned(),
            state_dir: state_dir.into(),
            run_dir: PathBuf::from(format!("/run/cloudeck-{instance}")),
            cgroup_parent: format!("cloudeck-{instance}"),
            shim_exe: PathBuf::from("/proc/self/exe"),
        }
    }
}

/// What a sandbox shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxConfig {
    /// Kept and given back as they are; the runtime reads none of them.
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// The host name of the pod's UTS namespace; not used with the host's network.
    pub hostname: Option<String>,
    pub namespaces: Namespaces,
    /// `net.ipv4.…`, `kernel.shm…`: set in the pod's own namespaces, refused where the pod has none of its own.
    pub sysctls: BTreeMap<String, String>,
    /// The pod's cgroup, relative to the instance's: `kubepods/burstable/poduid`.
    pub cgroup_parent: String,
    /// Limits of the pod's cgroup as a whole.
    pub resources: Resources,
    /// The size of `/dev/shm`, which the pod's containers share. Default: 64 MiB.
    pub shm_size_bytes: Option<u64>,
}

/// Which namespaces a pod has of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    pub network: NetworkMode,
    pub pid: PidMode,
    /// The host's IPC namespace (and its `/dev/shm`).
    pub host_ipc: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum NetworkMode {
    /// A network namespace of the pod's own, only `lo` up in it; and a host name of its own.
    #[default]
    Pod,
    /// The machine's network and host name.
    Host,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidMode {
    /// Each container sees its own processes only.
    #[default]
    Container,
    /// The containers of the pod see each other's; the infra process is process 1.
    Pod,
    /// The machine's processes.
    Host,
}

/// What a container shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerConfig {
    /// Kept and given back as they are; the runtime reads none of them.
    pub name: String,
    pub attempt: u32,
    pub image: String,
    pub labels: BTreeMap<String, String>,
    pub annotations: BTreeMap<String, String>,
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub argv: Vec<String>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Made when it is missing. Default: `/`.
    pub cwd: Option<PathBuf>,
    pub user: User,
    pub rootfs: Rootfs,
    /// Mounted by depth of destination; within the same depth in this order.
    pub mounts: Vec<Mount>,
    /// Beside the usual ones (null, zero, full, random, urandom, tty, ptmx, pts, shm, mqueue).
    pub devices: Vec<Device>,
    pub security: Security,
    pub rlimits: Vec<Rlimit>,
    /// Lowering it is best effort (see [`crate::ContainerStatus::degraded`]).
    pub oom_score_adj: Option<i32>,
    pub tty: bool,
    /// Whether standard input is kept open (else it is `/dev/null`).
    pub stdin: bool,
    /// Where standard output and error go, in CRI's format. `None`: nowhere.
    pub log_path: Option<PathBuf>,
    pub resources: Resources,
    /// What [`crate::Runtime::stop_container`] sends first. Default: SIGTERM.
    pub stop_signal: Option<i32>,
}

/// Whom a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// As in an image: `name`, `uid`, `name:group`, `uid:gid`; empty for root. Names are looked up in the root's
    /// `/etc/passwd` and `/etc/group`.
    pub user: String,
    /// In place of the group that `user` has.
    pub gid: Option<u32>,
    /// Beside those that `/etc/group` gives the user.
    pub additional_gids: Vec<u32>,
    /// Do not add the groups that `/etc/group` gives the user (`supplementalGroupsPolicy: Strict`).
    pub strict_groups: bool,
}

/// The root file system: an overlay, mounted inside the container's mount namespace only.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rootfs {
    /// Unpacked layers, the topmost first.
    pub lowers: Vec<PathBuf>,
    /// What the container writes; made when missing. On one file system with `work`.
    pub upper: PathBuf,
    pub work: PathBuf,
    pub readonly: bool,
}

/// One mount inside the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    pub destination: PathBuf,
    pub source: MountSource,
    #[serde(default)]
    pub readonly: bool,
    /// With `readonly`: the mounts below the source as well.
    #[serde(default)]
    pub recursive_readonly: bool,
    #[serde(default)]
    pub propagation: BindPropagation,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountSource {
    /// A file or directory of the machine.
    Bind {
        path: PathBuf,
        /// A path below `path`, whose content the container may have written: resolved inside it, links and all. Made as
        /// a directory when missing.
        #[serde(default)]
        sub_path: Option<PathBuf>,
    },
    /// Memory.
    Tmpfs {
        #[serde(default)]
        size_bytes: Option<u64>,
        #[serde(default)]
        mode: Option<u32>,
    },
}

/// Whether mounts travel between the machine and the container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum BindPropagation {
    #[default]
    Private,
    HostToContainer,
    Bidirectional,
}

/// A device node of the machine, given to the container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    /// Of `r`, `w`, `m`.
    pub permissions: String,
}

/// What a container may do to the machine.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// All capabilities, all devices, no seccomp filter, nothing masked, `/sys` and cgroups writable.
    pub privileged: bool,
    pub capabilities: Capabilities,
    pub seccomp: SeccompProfile,
    pub no_new_privileges: bool,
    /// `None`: the usual ones.
    pub masked_paths: Option<Vec<PathBuf>>,
    pub readonly_paths: Option<Vec<PathBuf>>,
}

/// Changes to the default set. Names with or without `CAP_`; `ALL` is understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    pub add: Vec<String>,
    pub drop: Vec<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// What container runtimes allow by default, given the container's capabilities.
    #[default]
    RuntimeDefault,
    Unconfined,
    /// A profile file in Docker's or OCI's JSON.
    Localhost(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rlimit {
    /// `RLIMIT_NOFILE`, `nofile`.
    pub name: String,
    pub soft: u64,
    pub hard: u64,
}

/// Limits of a cgroup. `None` leaves what the kernel or the parent gives.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    pub cpu_shares: Option<u64>,
    /// Microseconds of CPU per period; -1 for no limit.
    pub cpu_quota: Option<i64>,
    pub cpu_period: Option<u64>,
    /// -1 for no limit. Swap is not given beyond it.
    pub memory_limit_bytes: Option<i64>,
    /// -1 for no limit.
    pub pids_limit: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    /// Page size (`2MB`) and limit in bytes. Not supported: a container that asks for any fails.
    pub hugepage_limits: BTreeMap<String, u64>,
}

/// A further process in a running container.
#[derive(Debug)]
pub struct ExecRequest {
    pub argv: Vec<String>,
    /// Beside the container's; the later of two of the same name counts.
    pub env: Vec<String>,
    /// Default: the container's.
    pub cwd: Option<PathBuf>,
    /// Default: the container's.
    pub user: Option<User>,
    pub stdio: Stdio,
}

/// Where the standard streams of an exec go.
#[derive(Debug)]
pub enum Stdio {
    /// A terminal; its master is [`crate::ExecHandle::terminal`].
    Terminal { columns: u16, rows: u16 },
    /// Descriptors that the process gets as they are; `None` is `/dev/null`.
    Pipes {
        stdin: Option<OwnedFd>,
        stdout: Option<OwnedFd>,
        stderr: Option<OwnedFd>,
    },
}

/// How long [`crate::Runtime::stop_container`] waits after the stop signal, unless told otherwise.
pub const DEFAULT_STOP_TIMEOUT: Duration = Duration::from_secs(30);
