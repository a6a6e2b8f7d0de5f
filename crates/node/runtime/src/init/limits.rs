//! Resource limits and the score for the killer. The two things that are best effort: a root without
//! `CAP_SYS_RESOURCE` may not go past what it has itself.

use std::io;

use cloudeck_linux::process;

use super::{SetupError, Step};
use crate::config::Rlimit;

/// In the kernel's order.
const NAMES: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

/// Sets the limits; one that may not be raised is clamped to what may be, and noted.
pub(super) fn raise(limits: &[Rlimit], degraded: &mut Vec<String>) -> Result<(), SetupError> {
    for limit in limits {
        let upper = limit.name.to_ascii_uppercase();
        let name = upper.strip_prefix("RLIMIT_").unwrap_or(&upper);
        let number = NAMES.iter().position(|known| *known == name);
        let Some(number) = number else {
            return Err(SetupError::Refused(format!("unknown rlimit {:?}", limit.name)));
        };
        set(number as u32, name, limit, degraded).step(|| format!("set rlimit {}", limit.name))?;
    }
    Ok(())
}

fn set(number: u32, name: &str, limit: &Rlimit, degraded: &mut Vec<String>) -> io::Result<()> {
    match process::set_rlimit(number, limit.soft, limit.hard) {
        Err(error) if error.raw_os_error() == Some(libc::EPERM) => {
            let (_, hard) = process::rlimit(number)?;
            degraded.push(format!("rlimit {}", name.to_ascii_lowercase()));
            process::set_rlimit(number, limit.soft.min(hard), limit.hard.min(hard))
        }
        other => other,
    }
}

/// Sets the score; one that may not be lowered so far stays at the lowest that may be, and is noted.
pub(super) fn set_oom_score(score: i32, degraded: &mut Vec<String>) -> Result<(), SetupError> {
    let path = "/proc/self/oom_score_adj";
    match std::fs::write(path, score.to_string()) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EACCES | libc::EPERM)) => {
            degraded.push("oom_score_adj".to_owned());
            Ok(())
        }
        other => other.step(|| format!("set oom_score_adj to {score}")),
    }
}
