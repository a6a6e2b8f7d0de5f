//! Version 1: one tree per controller (or per few that are mounted together).

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloudeck_linux::mount::MountTable;

use super::{
    CgroupError, DeviceRule, Knob, Membership, keyed, kill_round, processes, read, refuse_hugepages, write,
};
use crate::config::Resources;
use crate::status::Stats;

/// One mounted tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) mount: PathBuf,
    controllers: Vec<String>,
}

/// The controllers that are used here; others are left alone.
const USED: [&str; 7] = ["cpu", "cpuacct", "cpuset", "devices", "freezer", "memory", "pids"];

pub(super) fn hierarchies(table: &MountTable) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for entry in table.entries.iter().filter(|entry| entry.fs_type == "cgroup") {
        let used = USED.iter().filter(|name| entry.has_super_option(name));
        let controllers: Vec<String> = used.map(ToString::to_string).collect();
        // The first mount of a controller is the place; the same tree may be bound elsewhere too.
        if !controllers.is_empty() && !found.iter().any(|known| known.controllers == controllers) {
            found.push(Hierarchy {
                mount: entry.mount_point.clone(),
                controllers,
            });
        }
    }
    found
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|name| name == controller)
    }

    pub(super) fn view(&self) -> (String, String) {
        let options = self.controllers.join(",");
        (options.clone(), options)
    }

    /// Groups are made in the tree of `cpuset` only where a set was asked for: an empty set takes no process.
    fn is_needed(&self, resources: &Resources) -> bool {
        let cpuset = resources.cpuset_cpus.is_some() || resources.cpuset_mems.is_some();
        cpuset || self.controllers != ["cpuset"]
    }
}

fn find<'h>(hierarchies: &'h [Hierarchy], controller: &str) -> Option<&'h Hierarchy> {
    hierarchies.iter().find(|hierarchy| hierarchy.has(controller))
}

pub(super) fn create(
    hierarchies: &[Hierarchy],
    path: &str,
    resources: &Resources,
) -> Result<Vec<PathBuf>, CgroupError> {
    let mut dirs = Vec::with_capacity(hierarchies.len());
    for hierarchy in hierarchies
        .iter()
        .filter(|hierarchy| hierarchy.is_needed(resources))
    {
        let dir = hierarchy.mount.join(path);
        if hierarchy.has("cpuset") {
            make_cpuset_dirs(&hierarchy.mount, path)?;
        } else {
            make_dirs(&dir)?;
        }
        dirs.push(dir);
    }
    set_limits(hierarchies, path, resources)?;
    Ok(dirs)
}

fn make_dirs(dir: &Path) -> Result<(), CgroupError> {
    let result = match std::fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => std::fs::create_dir_all(dir),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    };
    result.map_err(|source| CgroupError::Io {
        what: "make cgroup",
        path: dir.to_owned(),
        source,
    })
}

/// A new cpuset is empty and takes no process until it has been filled, from the top down.
fn make_cpuset_dirs(mount: &Path, path: &str) -> Result<(), CgroupError> {
    let mut dir = mount.to_owned();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        let parent = dir.clone();
        dir.push(part);
        make_dirs(&dir)?;
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if read(&dir.join(file))?.trim().is_empty() {
                write(&dir.join(file), read(&parent.join(file))?.trim())?;
            }
        }
    }
    Ok(())
}

pub(super) fn set_limits(
    hierarchies: &[Hierarchy],
    path: &str,
    resources: &Resources,
) -> Result<(), CgroupError> {
    refuse_hugepages(resources)?;
    for (controller, file, value) in knobs(resources) {
        let hierarchy = find(hierarchies, controller);
        let hierarchy = hierarchy.ok_or_else(|| CgroupError::Unsupported(controller.to_owned()))?;
        write(&hierarchy.mount.join(path).join(file), &value)?;
    }
    match resources.memory_limit_bytes {
        Some(limit) => set_memory(hierarchies, path, limit),
        None => Ok(()),
    }
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
        "cpu.shares",
        resources.cpu_shares.map(|n| n.max(2).to_string()),
    );
    // The period first: a quota is checked against it.
    add(
        "cpu",
        "cpu.cfs_period_us",
        resources.cpu_period.map(|n| n.to_string()),
    );
    add(
        "cpu",
        "cpu.cfs_quota_us",
        resources.cpu_quota.map(|n| n.to_string()),
    );
    add("pids", "pids.max", resources.pids_limit.map(unlimited));
    add("cpuset", "cpuset.cpus", resources.cpuset_cpus.clone());
    add("cpuset", "cpuset.mems", resources.cpuset_mems.clone());
    knobs
}

/// Memory, and memory with swap where the kernel accounts it, to the same value. The second may never be below the
/// first, so the order depends on the direction.
fn set_memory(hierarchies: &[Hierarchy], path: &str, limit: i64) -> Result<(), CgroupError> {
    let hierarchy = find(hierarchies, "memory");
    let hierarchy = hierarchy.ok_or_else(|| CgroupError::Unsupported("memory".to_owned()))?;
    let dir = hierarchy.mount.join(path);
    let (memory, both) = (
        dir.join("memory.limit_in_bytes"),
        dir.join("memory.memsw.limit_in_bytes"),
    );
    let value = limit.to_string();
    if !both.exists() {
        return write(&memory, &value);
    }
    if write(&memory, &value).is_ok() {
        return write(&both, &value);
    }
    write(&both, &value)?;
    write(&memory, &value)
}

pub(super) fn limit_devices(
    hierarchies: &[Hierarchy],
    path: &str,
    rules: &[DeviceRule],
) -> Result<(), CgroupError> {
    let hierarchy = find(hierarchies, "devices");
    let hierarchy = hierarchy.ok_or_else(|| CgroupError::Unsupported("devices".to_owned()))?;
    let dir = hierarchy.mount.join(path);
    write(&dir.join("devices.deny"), "a")?;
    rules
        .iter()
        .try_for_each(|rule| write(&dir.join("devices.allow"), &rule.to_string()))
}

pub(super) fn membership(hierarchies: &[Hierarchy], path: &str, dirs: Vec<PathBuf>) -> Membership {
    let oom_events = find(hierarchies, "memory").map(|h| h.mount.join(path).join("memory.oom_control"));
    let processes = dirs.first().cloned().unwrap_or_default();
    Membership {
        birth: None,
        join: dirs,
        oom_events,
        processes,
    }
}

pub(super) fn stats(hierarchies: &[Hierarchy], path: &str) -> Result<Stats, CgroupError> {
    let file = |controller: &str, name: &str| {
        find(hierarchies, controller).map(|hierarchy| hierarchy.mount.join(path).join(name))
    };
    let number = |controller, name| -> Result<u64, CgroupError> {
        let Some(path) = file(controller, name) else {
            return Ok(0);
        };
        Ok(read(&path)?.trim().parse().unwrap_or(0))
    };
    let memory_usage_bytes = number("memory", "memory.usage_in_bytes")?;
    let inactive = match file("memory", "memory.stat") {
        Some(path) => keyed(&read(&path)?, "total_inactive_file"),
        None => 0,
    };
    Ok(Stats {
        cpu_usage_ns: number("cpuacct", "cpuacct.usage")?,
        memory_usage_bytes,
        memory_working_set_bytes: memory_usage_bytes.saturating_sub(inactive),
        pids: number("pids", "pids.current")?,
    })
}

/// Rounds of kill after which the group is frozen first, so that it cannot fork faster than it is killed.
const ROUNDS_UNFROZEN: u32 = 2;

pub(super) fn kill(hierarchies: &[Hierarchy], path: &str, limit: Duration) -> Result<(), CgroupError> {
    let deadline = Instant::now() + limit;
    let dirs: Vec<_> = hierarchies
        .iter()
        .map(|h| h.mount.join(path))
        .filter(|dir| dir.is_dir())
        .collect();
    let freezer = find(hierarchies, "freezer").map(|h| h.mount.join(path).join("freezer.state"));
    for round in 0_u32.. {
        let frozen = freezer
            .as_ref()
            .filter(|state| round >= ROUNDS_UNFROZEN && state.exists());
        if let Some(state) = frozen {
            write(state, "FROZEN")?;
        }
        // A frozen process dies of the signal once it is thawed, so thaw before waiting.
        if let Some(state) = frozen {
            for pid in dirs.iter().flat_map(|dir| processes(dir)) {
                if let Ok(victim) = cloudeck_linux::pidfd::open(pid) {
                    let _ = cloudeck_linux::pidfd::send_signal(victim, libc::SIGKILL);
                }
            }
            write(state, "THAWED")?;
        }
        let killed: usize = dirs.iter().map(|dir| kill_round(dir, deadline)).sum();
        if killed == 0 {
            break;
        }
        if Instant::now() >= deadline {
            return Err(CgroupError::Busy {
                path: PathBuf::from(path),
            });
        }
    }
    Ok(())
}
