//! Filters of system calls: profiles, their compilation to the kernel's packet-filter machine, and loading.
//!
//! Compiled by the daemon, once per profile and set of capabilities; the container's process only loads the bytes.
//! Not by a crate: the usual one knows a single action per filter and no profile language.

use std::io;

mod compile;
mod json;
mod syscalls;
mod usual;

pub use compile::compile;

/// What a filter does about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Allow,
    Errno(u16),
    KillProcess,
    KillThread,
    Trap,
    Trace(u16),
    Log,
}

impl Action {
    /// The kernel's number.
    fn code(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(errno) => 0x0005_0000 | u32::from(errno),
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Trace(data) => 0x7ff0_0000 | u32::from(data),
            Self::Log => 0x7ffc_0000,
        }
    }
}

/// How an argument is compared with a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `argument & value == other`.
    MaskedEqual,
}

/// A condition on one argument.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    pub index: u8,
    pub operator: Operator,
    pub value: u64,
    pub other: u64,
}

/// What to do about some calls; all conditions must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    pub names: Vec<String>,
    pub action: Action,
    pub arguments: Vec<Argument>,
}

impl Rule {
    fn plain(names: &str, action: Action) -> Self {
        let names = names.split_ascii_whitespace().map(ToOwned::to_owned).collect();
        Self {
            names,
            action,
            arguments: Vec::new(),
        }
    }

    fn with(name: &str, action: Action, argument: Argument) -> Self {
        Self {
            names: vec![name.to_owned()],
            action,
            arguments: vec![argument],
        }
    }
}

/// A filter before compilation. Of the rules for one call the first that fits counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    pub default: Action,
    pub rules: Vec<Rule>,
}

/// A profile cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProfileError {
    #[error("read seccomp profile")]
    Json(#[from] serde_json::Error),
    #[error("seccomp profile: {0} is not supported")]
    Unsupported(String),
    #[error("seccomp profile: the filter has {0} instructions, the kernel takes 4096")]
    TooLong(usize),
}

impl Profile {
    /// What container runtimes allow by default to a process that has `capabilities`.
    pub fn usual(capabilities: u64) -> Self {
        usual::profile(capabilities)
    }

    /// Reads Docker's or OCI's form, for a process that has `capabilities`.
    pub fn from_json(text: &[u8], capabilities: u64) -> Result<Self, ProfileError> {
        json::read(text, capabilities)
    }
}

/// Filters the calling thread, and what it will exec, for good. Needs no-new-privileges or `CAP_SYS_ADMIN`.
pub(crate) fn load(filter: &[u8]) -> io::Result<()> {
    const SET_MODE_FILTER: u32 = 1;
    let mut code: Vec<libc::sock_filter> = filter
        .chunks_exact(8)
        .map(|c| libc::sock_filter {
            code: u16::from_ne_bytes([c[0], c[1]]),
            jt: c[2],
            jf: c[3],
            k: u32::from_ne_bytes([c[4], c[5], c[6], c[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: code.len() as u16,
        filter: code.as_mut_ptr(),
    };
    // SAFETY: the program and its instructions live across the call; the kernel copies and checks them.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const program) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
