//! Sandboxes and containers on bare system calls, and the shim that holds them.
//!
//! A **sandbox** is the frame of a pod: its network, IPC and host-name namespaces, kept by a small *infra* process. A
//! **container** is one program in that frame with a root file system, limits and privileges of its own. Each sandbox has
//! a **shim**: a process of one thread, started from this same binary by the hidden word `shim`, that is the parent of
//! all of them, writes their logs and keeps their exit codes. Shims outlive the daemon: whoever opens the same state
//! directory again finds them.
//!
//! # The way of a container
//!
//! [`Runtime::create_container`] writes its configuration into the state directory, makes the cgroup and asks the shim.
//! The shim forks; the child (`init`) enters the namespaces, builds the root, drops what it must not have, and waits.
//! [`Runtime::start_container`] lets it `exec`. What ends is reaped by the shim, written down durably, then reported.
//!
//! # Absences
//!
//! Knows nothing of Kubernetes, images or pod networks: the caller brings layers as directories, mounts as paths, and
//! sets up the network namespace that [`SandboxStatus::netns`] names (only its `lo` is up). Runs no other program. The
//! shim half uses neither tokio nor tracing nor threads, and never allocates in proportion to what containers write.
//!
//! Start reading at [`Runtime`]; then `shim` for the other side of the socket, and `init` for what a container is.
#![allow(
    unsafe_code,
    reason = "forks, and what only the calling thread of a process may do"
)]

pub mod capability;
pub mod cgroup;
pub mod config;
pub mod error;
mod exits;
pub mod handle;
mod init;
mod protocol;
pub mod seccomp;
mod shim;
mod spec;
pub mod status;

pub use config::{
    BindPropagation, Capabilities, ContainerConfig, Device, ExecRequest, Mount, MountSource, Namespaces,
    NetworkMode, PidMode, Resources, Rlimit, Rootfs, RuntimeConfig, SandboxConfig, SeccompProfile, Security,
    Stdio, User,
};
pub use error::{OpenError, RequestError, StartError};
pub use handle::{ExecHandle, PurgeReport, Runtime};
pub use shim::shim_main;
pub use status::{
    ContainerId, ContainerState, ContainerStatus, Exit, RunsAs, RuntimeEvent, SandboxId, SandboxState,
    SandboxStatus, Stats, SyncOutput,
};

/// The first argument that makes a binary of ours a shim: `main` then calls [`shim_main`] before anything else.
pub const SHIM_WORD: &str = "shim";
