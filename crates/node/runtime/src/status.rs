//! What the runtime says: identities, states, ends, figures, events.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::config::{ContainerConfig, SandboxConfig};

macro_rules! identifier {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// A new one: 64 hexadecimal digits.
            pub(crate) fn random() -> std::io::Result<Self> {
                random_hex().map(Self)
            }

            /// Takes a name read from disk or from a caller; `None` unless it is 64 hexadecimal digits.
            pub fn parse(text: &str) -> Option<Self> {
                let good = text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
                good.then(|| Self(text.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 16 digits, where room is short.
            pub fn short(&self) -> &str {
                &self.0[..16]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

identifier! {
    /// Names a sandbox, for good.
    SandboxId
}
identifier! {
    /// Names a container, for good.
    ContainerId
}

fn random_hex() -> std::io::Result<String> {
    use std::fmt::Write;
    use std::io::Read;
    let mut bytes = [0_u8; 32];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// A sandbox as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SandboxStatus {
    pub id: SandboxId,
    pub state: SandboxState,
    pub config: SandboxConfig,
    /// Nanoseconds since 1970.
    pub created_at_ns: i64,
    /// The infra process, in the machine's pid namespace; 0 when it is gone.
    pub infra_pid: i32,
    /// The shim; 0 when it is gone.
    pub shim_pid: i32,
    /// The pinned network namespace; `None` with the host's network.
    pub netns: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SandboxState {
    Ready,
    /// Stopped, or its shim or infra process is gone: no container of it runs, none can be added.
    NotReady,
}

/// A container as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerStatus {
    pub id: ContainerId,
    pub sandbox: SandboxId,
    pub state: ContainerState,
    pub config: ContainerConfig,
    /// Nanoseconds since 1970; 0 for what has not happened.
    pub created_at_ns: i64,
    pub started_at_ns: i64,
    /// Its first process, in the machine's pid namespace; 0 unless created or running.
    pub pid: i32,
    /// Set in the state [`ContainerState::Exited`], unless the end was never seen (then it is unknown).
    pub exit: Option<Exit>,
    /// Whom its first process runs as, names looked up; `None` for what an earlier version made.
    pub user: Option<RunsAs>,
    /// What was asked for and given only in part (`oom_score_adj`, `rlimit nofile`).
    pub degraded: Vec<String>,
}

/// A process's user and groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunsAs {
    pub uid: u32,
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Set up, waiting to be started.
    Created,
    Running,
    Exited,
}

/// How a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// 128 + n after signal n.
    pub code: i32,
    /// 0 when no signal ended it.
    pub signal: i32,
    /// The kernel killed a process in the container's own cgroup for want of memory.
    pub oom: bool,
    /// Nanoseconds since 1970.
    pub at_ns: i64,
}

/// What a container uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    pub cpu_usage_ns: u64,
    pub memory_usage_bytes: u64,
    /// Usage without the file pages that could go at once.
    pub memory_working_set_bytes: u64,
    pub pids: u64,
}

/// The result of an exec that was waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncOutput {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    pub code: i32,
}

/// What happened. A hint to look: the truth is in the statuses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeEvent {
    ContainerStarted {
        sandbox: SandboxId,
        container: ContainerId,
    },
    /// Durable when it is sent.
    ContainerExited {
        sandbox: SandboxId,
        container: ContainerId,
        exit: Exit,
    },
    /// The infra process has ended, unasked; the sandbox's containers have been killed.
    SandboxDied { sandbox: SandboxId },
    /// The shim has ended, unasked; the sandbox's containers have been killed. Ends that it had not yet written down are
    /// unknown.
    ShimDied { sandbox: SandboxId },
}
