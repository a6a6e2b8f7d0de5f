//! Removing every trace of an instance, also when nothing of it runs any more: by its names alone.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use cloudeck_linux::{mount, pidfd, process};

use super::{Runtime, blocking, sandboxes_dir};
use crate::cgroup::Cgroups;
use crate::config::RuntimeConfig;
use crate::spec::{self, ShimRecord};

/// What [`Runtime::purge`] could not remove, in words; empty when nothing is left.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct PurgeReport {
    pub left: Vec<String>,
}

/// How long killed processes may take to end.
const KILL_LIMIT: Duration = Duration::from_secs(10);

impl Runtime {
    /// Kills every process of the instance, daemon or not, and removes its cgroups, mounts, pinned namespaces and
    /// sockets; with `with_state` also what it keeps on disk. No [`Runtime`] of the instance may be open.
    pub async fn purge(config: &RuntimeConfig, with_state: bool) -> PurgeReport {
        let config = config.clone();
        blocking(move || purge(&config, with_state)).await
    }
}

fn purge(config: &RuntimeConfig, with_state: bool) -> PurgeReport {
    let mut report = PurgeReport::default();
    kill_shims(config, &mut report);
    match Cgroups::discover() {
        Ok(cgroups) => {
            report.note(cgroups.kill(&config.cgroup_parent, KILL_LIMIT));
            report.note(cgroups.remove(&config.cgroup_parent));
        }
        Err(error) => report.left.push(error.to_string()),
    }
    match mount::detach_below(&config.run_dir) {
        Ok(failed) => {
            let failed = failed
                .iter()
                .map(|(path, error)| format!("mount {}: {error}", path.display()));
            report.left.extend(failed);
        }
        Err(error) => report.left.push(format!("list mounts: {error}")),
    }
    report.remove_dir(&config.run_dir);
    if with_state {
        report.remove_dir(&sandboxes_dir(config));
        report.remove_dir(&config.state_dir.join("seccomp"));
    }
    report
}

/// The shims that are on record, should they not be in their cgroup; their infra processes die with them.
fn kill_shims(config: &RuntimeConfig, report: &mut PurgeReport) {
    let boot_id = process::boot_id().unwrap_or_default();
    let dirs = std::fs::read_dir(sandboxes_dir(config))
        .into_iter()
        .flatten()
        .flatten();
    let records = dirs.filter_map(|dir| spec::read::<ShimRecord>(&dir.path().join(spec::SHIM_FILE)).ok());
    for record in records.filter(|record| record.boot_id == boot_id) {
        if let Err(error) = kill_shim(&record) {
            report.left.push(format!("shim {}: {error}", record.pid));
        }
    }
}

/// Kills the shim that the record of this boot tells of, if it lives, and waits for its end.
pub(super) fn kill_shim(record: &ShimRecord) -> io::Result<()> {
    let Ok(shim) = pidfd::open(record.pid) else {
        return Ok(());
    };
    // Looked at after the descriptor was taken: it is this process or none.
    if process::start_time(record.pid).ok() != Some(record.start_time) {
        return Ok(());
    }
    match pidfd::send_signal(&shim, libc::SIGKILL) {
        Err(error) if error.raw_os_error() != Some(libc::ESRCH) => return Err(error),
        _ => {}
    }
    if pidfd::wait_end(&shim, KILL_LIMIT)? {
        Ok(())
    } else {
        Err(io::ErrorKind::TimedOut.into())
    }
}

impl PurgeReport {
    fn note(&mut self, result: Result<(), crate::cgroup::CgroupError>) {
        if let Err(error) = result {
            self.left.push(error.to_string());
        }
    }

    fn remove_dir(&mut self, path: &Path) {
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                self.left
                    .push(format!("{}: {error}", PathBuf::from(path).display()));
            }
            _ => {}
        }
    }
}
