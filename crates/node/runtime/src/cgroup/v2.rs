//! Version 2: one tree, controllers enabled from the top down, processes in leaves only.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{CgroupError, Knob, Membership, keyed, kill_round, read, refuse_hugepages, write};
use crate::config::Resources;
use crate::status::Stats;

/// The controllers that are used here.
const USED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];

pub(super) fn create_inner(root: &Path, path: &str, resources: &Resources) -> Result<(), CgroupError> {
    let mut dir = root.to_owned();
    enable_controllers(&dir)?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        dir.push(part);
        make_dir(&dir)?;
        enable_controllers(&dir)?;
    }
    set_limits(&dir, resources)
}

pub(super) fn create_leaf(root: &Path, path: &str, resources: &Resources) -> Result<PathBuf, CgroupError> {
    let dir = root.join(path);
    make_dir(&dir)?;
    set_limits(&dir, resources)?;
    Ok(dir)
}

fn make_dir(dir: &Path) -> Result<(), CgroupError> {
    match std::fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other.map_err(|source| CgroupError::Io {
            what: "make cgroup",
            path: dir.to_owned(),
            source,
        }),
    }
}

/// Gives the groups below `dir` the controllers that `dir` itself has.
fn enable_controllers(dir: &Path) -> Result<(), CgroupError> {
    let available = read(&dir.join("cgroup.controllers"))?;
    let enabled = read(&dir.join("cgroup.subtree_control"))?;
    let has = |list: &str, name: &str| list.split_whitespace().any(|word| word == name);
    for name in USED
        .iter()
        .filter(|name| has(&available, name) && !has(&enabled, name))
    {
        write(&dir.join("cgroup.subtree_control"), &format!("+{name}"))?;
    }
    Ok(())
}

pub(super) fn set_limits(dir: &Path, resources: &Resources) -> Result<(), CgroupError> {
    refuse_hugepages(resources)?;
    for (controller, file, value) in knobs(resources) {
        let path = dir.join(file);
        if !path.exists() {
            return Err(CgroupError::Unsupported(controller.to_owned()));
        }
        write(&path, &value)?;
    }
    if resources.memory_limit_bytes.is_some() {
        // Not asked for by name, and missing where swap is not accounted.
        let (swap, group) = (dir.join("memory.swap.max"), dir.join("memory.oom.group"));
        if swap.exists() {
            write(
                &swap,
                if resources.memory_limit_bytes < Some(0) {
                    "max"
                } else {
                    "0"
                },
            )?;
        }
        if group.exists() {
            write(&group, "1")?;
        }
    }
    Ok(())
}

fn knobs(resources: &Resources) -> Vec<Knob> {
    let mut knobs: Vec<Knob> = Vec::new();
    let mut add = |controller, file, value: Option<String>| {
        if let Some(value) = value {
            knobs.push((controller, file, value));
        }
    };
    let unlimited = |value: i64| {
        if value < 0 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    add(
        "cpu",
        "cpu.weight",
        resources.cpu_shares.map(|shares| weight(shares).to_string()),
    );
    add("cpu", "cpu.max", cpu_max(resources));
    add(
        "memory",
        "memory.max",
        resources.memory_limit_bytes.map(unlimited),
    );
    add("pids", "pids.max", resources.pids_limit.map(unlimited));
    add("cpuset", "cpuset.cpus", resources.cpuset_cpus.clone());
    add("cpuset", "cpuset.mems", resources.cpuset_mems.clone());
    knobs
}

/// Shares (2…262144, usually 1024 per CPU) on the scale of weights (1…10000), as Kubernetes converts them.
pub(super) fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9_999 / 262_142
}

fn cpu_max(resources: &Resources) -> Option<String> {
    let period = resources.cpu_period.unwrap_or(100_000);
    match resources.cpu_quota {
        Some(quota) if quota > 0 => Some(format!("{quota} {period}")),
        Some(_) => Some(format!("max {period}")),
        None => resources.cpu_period.map(|period| format!("max {period}")),
    }
}

pub(super) fn membership(dir: PathBuf) -> Membership {
    let oom_events = Some(dir.join("memory.events"));
    Membership {
        birth: Some(dir.clone()),
        join: Vec::new(),
        oom_events,
        processes: dir,
    }
}

pub(super) fn stats(dir: &Path) -> Result<Stats, CgroupError> {
    let number = |name: &str| {
        std::fs::read_to_string(dir.join(name))
            .ok()
            .and_then(|t| t.trim().parse().ok())
    };
    let memory_usage_bytes = number("memory.current").unwrap_or(0);
    let memory_stat = std::fs::read_to_string(dir.join("memory.stat")).unwrap_or_default();
    Ok(Stats {
        cpu_usage_ns: keyed(&read(&dir.join("cpu.stat"))?, "usage_usec") * 1_000,
        memory_usage_bytes,
        memory_working_set_bytes: memory_usage_bytes.saturating_sub(keyed(&memory_stat, "inactive_file")),
        pids: number("pids.current").unwrap_or(0),
    })
}

pub(super) fn kill(dir: &Path, limit: Duration) -> Result<(), CgroupError> {
    if !dir.is_dir() {
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    let all_at_once = dir.join("cgroup.kill");
    if all_at_once.exists() {
        write(&all_at_once, "1")?;
    } else {
        // Before Linux 5.14: one by one, frozen so that no fork escapes.
        write(&dir.join("cgroup.freeze"), "1")?;
        kill_round(dir, Instant::now());
        write(&dir.join("cgroup.freeze"), "0")?;
    }
    if wait_empty(dir, deadline.saturating_duration_since(Instant::now())) {
        Ok(())
    } else {
        Err(CgroupError::Busy { path: dir.to_owned() })
    }
}

/// Waits until no process is left in the group or below: the kernel tells of a change in `cgroup.events`. On version 1,
/// which has no such file, waits `limit`.
pub(super) fn wait_empty(dir: &Path, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    let Ok(mut events) = File::open(dir.join("cgroup.events")) else {
        std::thread::sleep(limit);
        return true;
    };
    let mut text = String::new();
    loop {
        text.clear();
        let _ = events.rewind().and_then(|()| events.read_to_string(&mut text));
        if keyed(&text, "populated") == 0 {
            return true;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        let mut entry = libc::pollfd {
            fd: events.as_raw_fd(),
            events: libc::POLLPRI,
            revents: 0,
        };
        // SAFETY: one pollfd is passed.
        unsafe {
            libc::poll(
                &raw mut entry,
                1,
                i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1),
            )
        };
    }
}
