//! The last step: from this program to the container's.

use std::ffi::CString;

use cloudeck_linux::{fd, process, signal};

use super::identity::{self, Identity};
use crate::config::ContainerConfig;
use crate::error::StartError;
use crate::protocol::Failure;

const USUAL_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs the container's program. Comes back only with the reason why it could not.
pub(super) fn run(config: &ContainerConfig, identity: Identity, filter: Option<&[u8]>) -> Failure {
    run_as(&config.argv, &config.env, config.tty, identity, filter)
}

/// As [`run`], for any program.
pub(super) fn run_as(
    argv: &[String],
    env: &[String],
    tty: bool,
    identity: Identity,
    filter: Option<&[u8]>,
) -> Failure {
    let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
        return Failure::Refused("no command specified".to_owned());
    };
    let env = complete(env, tty, &identity.home, &host_name());
    let (Ok(arguments), Ok(variables)) = (c_strings(argv), c_strings(&env)) else {
        return Failure::Refused("an argument or variable has a zero byte in it".to_owned());
    };
    let candidates = candidates(name, &env);
    // Nothing that was open here survives: not the machine's root, not our binary.
    if let Err(error) = fd::cloexec_from(3) {
        return Failure::Refused(format!("close descriptors: {error}"));
    }
    let _ = signal::reset(&crate::shim::IGNORED);
    if let Err(error) = identity::take_on(&identity, filter) {
        return error.into();
    }
    let mut denied = false;
    for candidate in &candidates {
        let error = process::exec(candidate, &arguments, &variables);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR) => {}
            Some(libc::EACCES) => denied = true,
            _ => {
                let reason = reason(&error);
                return Failure::Start(StartError::Other {
                    path: name.clone(),
                    reason,
                });
            }
        }
    }
    Failure::Start(match (denied, name.contains('/')) {
        (true, _) => StartError::PermissionDenied(name.clone()),
        (false, true) => StartError::NoSuchFile(name.clone()),
        (false, false) => StartError::NotInPath(name.clone()),
    })
}

/// The kernel's words, as users know them.
fn reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        Some(libc::E2BIG) => "argument list too long".to_owned(),
        _ => error.to_string(),
    }
}

/// The name of the pod, or of the machine on whose network it is.
fn host_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_default()
        .trim()
        .to_owned()
}

/// Adds what programs expect and nobody has said. Of two variables with one name the later counts.
fn complete(env: &[String], tty: bool, home: &str, host_name: &str) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut all: Vec<String> = Vec::with_capacity(env.len() + 3);
    let mut seen = std::collections::HashSet::new();
    for entry in env.iter().rev().filter(|entry| entry.contains('=')) {
        if seen.insert(name(entry)) {
            all.push(entry.clone());
        }
    }
    all.reverse();
    let mut add = |entry: String| {
        if !seen.contains(&name(&entry)) {
            all.push(entry);
        }
    };
    add(USUAL_PATH.to_owned());
    add(format!("HOSTNAME={host_name}"));
    add(format!("HOME={home}"));
    if tty {
        add("TERM=xterm".to_owned());
    }
    all
}

/// Where the program may be: itself if it is a path, else in each directory of `PATH`.
fn candidates(name: &str, env: &[String]) -> Vec<CString> {
    if name.contains('/') {
        return c_strings(&[name.to_owned()]).unwrap_or_default();
    }
    let path = env
        .iter()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or_default();
    let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    let paths: Vec<String> = dirs.map(|dir| format!("{dir}/{name}")).collect();
    c_strings(&paths).unwrap_or_default()
}

fn c_strings(strings: &[String]) -> Result<Vec<CString>, std::ffi::NulError> {
    strings.iter().map(|text| CString::new(text.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(entries: &[&str]) -> Vec<String> {
        entries.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_later_of_two_variables_counts() {
        let env = complete(&own(&["A=1", "B=2", "A=3", "no-value"]), false, "/root", "pod");
        assert_eq!(
            env,
            own(&["B=2", "A=3", USUAL_PATH, "HOSTNAME=pod", "HOME=/root"])
        );
    }

    #[test]
    fn what_is_said_is_not_completed() {
        let env = own(&["PATH=/x", "HOME=/y", "TERM=vt100", "HOSTNAME=h"]);
        assert_eq!(complete(&env, true, "/root", "pod"), env);
    }

    #[test]
    fn a_name_is_looked_for_in_the_containers_path_only() {
        let found = candidates("sh", &own(&["PATH=/a::/b"]));
        let found: Vec<_> = found.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(found, ["/a/sh", "./sh", "/b/sh"]);
        assert_eq!(candidates("./sh", &[]).len(), 1);
    }
}
