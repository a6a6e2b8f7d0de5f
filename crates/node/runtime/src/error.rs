//! What can go wrong, as the caller of [`crate::Runtime`] sees it.

use std::io;
use std::path::PathBuf;

use crate::status::{ContainerId, SandboxId};

/// The runtime could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process uses the runtime directory {0}")]
    Locked(PathBuf),
    #[error("prepare directory {path}")]
    Directory { path: PathBuf, source: io::Error },
    #[error("find the cgroup file systems")]
    Cgroups(#[source] crate::cgroup::CgroupError),
    #[error("make a read-only view of the shim's program {path}")]
    Program { path: PathBuf, source: io::Error },
    #[error("socket paths below {0} would be longer than 107 bytes")]
    PathTooLong(PathBuf),
}

/// A request could not be done.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    #[error("no sandbox {0}")]
    NoSandbox(SandboxId),
    #[error("no container {0}")]
    NoContainer(ContainerId),
    #[error("the sandbox {0} is not ready")]
    NotReady(SandboxId),
    /// The state does not allow it: starting what runs, an exec in what has ended.
    #[error("{0}")]
    State(String),
    /// What was asked for cannot be: the message names it.
    #[error("{0}")]
    Refused(String),
    /// The program of a container or exec could not be run.
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the shim of sandbox {0} has ended")]
    ShimGone(SandboxId),
    #[error("command timed out after {0:?}")]
    Timeout(std::time::Duration),
    #[error(transparent)]
    Cgroup(#[from] crate::cgroup::CgroupError),
    #[error("{what}")]
    Io { what: String, source: io::Error },
}

/// The program could not be run. The words are those that users of other runtimes know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, serde::Serialize, serde::Deserialize)]
pub enum StartError {
    #[error("exec: {0:?}: executable file not found in $PATH")]
    NotInPath(String),
    #[error("exec: {0:?}: permission denied")]
    PermissionDenied(String),
    #[error("exec: {0:?}: no such file or directory")]
    NoSuchFile(String),
    #[error("exec {path:?}: {reason}")]
    Other { path: String, reason: String },
}

impl StartError {
    /// The exit code that shells and runtimes give this: 127 not found, 126 not executable.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotInPath(_) | Self::NoSuchFile(_) => 127,
            Self::PermissionDenied(_) | Self::Other { .. } => 126,
        }
    }
}

impl RequestError {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
