//! Control groups, versions 1 and 2 behind one face.
//!
//! A group is named by a path relative to the root of the hierarchies (`cloudeck-x/kubepods/poduid/container`). On
//! version 2 that is one directory; on version 1 (also where a version 2 hierarchy is mounted beside it without
//! controllers) one per controller that is used. What was asked for and cannot be given is an error that names it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cloudeck_linux::mount::MountTable;
use cloudeck_linux::pidfd;

use crate::config::Resources;
use crate::status::Stats;

mod bpf;
pub mod devices;
mod v1;
mod v2;

pub use devices::DeviceRule;

/// A control group could not be made, limited, read or removed.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    #[error("no cgroup file system is mounted")]
    NotMounted,
    #[error("limit {0} is not supported on this machine")]
    Unsupported(String),
    #[error("set {path} to {value:?}")]
    Write {
        path: PathBuf,
        value: String,
        source: io::Error,
    },
    #[error("{what} {path}")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("cgroup {path} still has processes")]
    Busy { path: PathBuf },
    #[error("load the device filter of cgroup {path}")]
    DeviceFilter { path: PathBuf, source: io::Error },
}

/// The hierarchies of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    layout: Layout,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Layout {
    V1(Vec<v1::Hierarchy>),
    V2(PathBuf),
}

/// How a process gets into a group.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Membership {
    /// Version 2: the directory that a process can be born into.
    pub birth: Option<PathBuf>,
    /// Version 1: the directories that it enters itself.
    pub join: Vec<PathBuf>,
    /// The file that tells how often the kernel killed for want of memory.
    pub oom_events: Option<PathBuf>,
    /// A directory that has the group's processes in `cgroup.procs`.
    pub processes: PathBuf,
}

impl Membership {
    /// Enters the group with the calling thread, which must be the only one of its process. (On version 2 a process is
    /// born into its group, and nothing is done here.)
    ///
    /// Through `tasks`, not `cgroup.procs`: a thread that moves itself need not be kept from forking meanwhile, whereas
    /// moving a process waits for every processor of the machine (measured: 0.25 ms against 8 to 15 ms after a pause).
    pub(crate) fn enter(&self) -> io::Result<()> {
        self.join
            .iter()
            .try_for_each(|dir| std::fs::write(dir.join("tasks"), "0"))
    }
}

impl Cgroups {
    /// Looks where this process sees the hierarchies mounted.
    pub fn discover() -> Result<Self, CgroupError> {
        let path = PathBuf::from("/proc/self/mountinfo");
        let table = MountTable::of_self().map_err(|source| CgroupError::Io {
            what: "read",
            path,
            source,
        })?;
        Self::from_mounts(&table)
    }

    fn from_mounts(table: &MountTable) -> Result<Self, CgroupError> {
        let hierarchies = v1::hierarchies(table);
        if !hierarchies.is_empty() {
            return Ok(Self {
                layout: Layout::V1(hierarchies),
            });
        }
        let unified = table.entries.iter().find(|entry| entry.fs_type == "cgroup2");
        let unified = unified.ok_or(CgroupError::NotMounted)?;
        Ok(Self {
            layout: Layout::V2(unified.mount_point.clone()),
        })
    }

    /// Whether version 2 is in use.
    pub fn is_v2(&self) -> bool {
        matches!(self.layout, Layout::V2(_))
    }

    /// Makes the group `path`, which will hold other groups, and sets its limits.
    pub fn create_inner(&self, path: &str, resources: &Resources) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => v1::create(hierarchies, path, resources).map(drop),
            Layout::V2(root) => v2::create_inner(root, path, resources),
        }
    }

    /// Makes the group `path`, which will hold processes, in a group that exists, and sets its limits.
    pub fn create_leaf(
        &self,
        path: &str,
        resources: &Resources,
        devices: Option<&[DeviceRule]>,
    ) -> Result<Membership, CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => {
                let dirs = v1::create(hierarchies, path, resources)?;
                if let Some(rules) = devices {
                    v1::limit_devices(hierarchies, path, rules)?;
                }
                Ok(v1::membership(hierarchies, path, dirs))
            }
            Layout::V2(root) => {
                let dir = v2::create_leaf(root, path, resources)?;
                if let Some(rules) = devices {
                    bpf::limit_devices(&dir, rules).map_err(|source| CgroupError::DeviceFilter {
                        path: dir.clone(),
                        source,
                    })?;
                }
                Ok(v2::membership(dir))
            }
        }
    }

    /// Changes the limits of a group that exists.
    pub fn update(&self, path: &str, resources: &Resources) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => v1::set_limits(hierarchies, path, resources),
            Layout::V2(root) => v2::set_limits(&root.join(path), resources),
        }
    }

    /// What the processes of the group use.
    pub fn stats(&self, path: &str) -> Result<Stats, CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => v1::stats(hierarchies, path),
            Layout::V2(root) => v2::stats(&root.join(path)),
        }
    }

    /// Kills every process in the group and below, and waits until they have ended.
    pub fn kill(&self, path: &str, limit: Duration) -> Result<(), CgroupError> {
        match &self.layout {
            Layout::V1(hierarchies) => v1::kill(hierarchies, path, limit),
            Layout::V2(root) => v2::kill(&root.join(path), limit),
        }
    }

    /// Removes the group and those below. Its processes must have ended. That it is not there is fine.
    pub fn remove(&self, path: &str) -> Result<(), CgroupError> {
        self.dirs(path).iter().try_for_each(|dir| remove_tree(dir))
    }

    /// The directories of the group that exist.
    pub fn dirs(&self, path: &str) -> Vec<PathBuf> {
        let dirs = match &self.layout {
            Layout::V1(hierarchies) => hierarchies.iter().map(|h| h.mount.join(path)).collect(),
            Layout::V2(root) => vec![root.join(path)],
        };
        dirs.into_iter().filter(|dir| dir.is_dir()).collect()
    }

    /// What a container may see of the hierarchies: (name below `/sys/fs/cgroup`, mount options).
    pub(crate) fn views(&self) -> Vec<(String, String)> {
        match &self.layout {
            Layout::V1(hierarchies) => hierarchies.iter().map(v1::Hierarchy::view).collect(),
            Layout::V2(_) => Vec::new(),
        }
    }
}

/// The processes in `dir` and the groups below it.
fn processes(dir: &Path) -> Vec<i32> {
    let mut found = Vec::new();
    visit(dir, &mut |dir| {
        if let Ok(text) = std::fs::read_to_string(dir.join("cgroup.procs")) {
            found.extend(
                text.lines()
                    .filter_map(|line| line.parse::<i32>().ok())
                    .filter(|pid| *pid > 0),
            );
        }
    });
    found
}

/// Calls `act` for the groups below `dir` and then for `dir` itself.
fn visit(dir: &Path, act: &mut dyn FnMut(&Path)) {
    if let Ok(entries) = std::fs::read_dir(dir) {
        for entry in entries.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                visit(&entry.path(), act);
            }
        }
    }
    act(dir);
}

/// Kills what is in `dir` and below, one round: returns how many there were. They have ended when it returns, or the
/// deadline has passed.
fn kill_round(dir: &Path, deadline: Instant) -> usize {
    let victims: Vec<_> = processes(dir)
        .into_iter()
        .filter_map(|pid| pidfd::open(pid).ok())
        .collect();
    for victim in &victims {
        let _ = pidfd::send_signal(victim, libc::SIGKILL);
    }
    for victim in &victims {
        let _ = pidfd::wait_end(victim, deadline.saturating_duration_since(Instant::now()));
    }
    victims.len()
}

/// How long a group may stay busy after its last process has ended: the kernel unlinks a task from its group a little
/// after it reports its end, and on version 1 tells nobody.
const UNLINK_LIMIT: Duration = Duration::from_secs(2);

fn remove_tree(top: &Path) -> Result<(), CgroupError> {
    let mut result = Ok(());
    visit(top, &mut |dir| {
        if result.is_ok() {
            result = remove_dir(dir);
        }
    });
    result
}

fn remove_dir(dir: &Path) -> Result<(), CgroupError> {
    let deadline = Instant::now() + UNLINK_LIMIT;
    loop {
        match std::fs::remove_dir(dir) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                if !processes(dir).is_empty() || Instant::now() >= deadline {
                    return Err(CgroupError::Busy { path: dir.to_owned() });
                }
                v2::wait_empty(dir, Duration::from_millis(1));
            }
            Err(source) => {
                return Err(CgroupError::Io {
                    what: "remove cgroup",
                    path: dir.to_owned(),
                    source,
                });
            }
        }
    }
}

fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    // Not fs::write: a control file is never created or truncated.
    let result = std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            use std::io::Write;
            file.write_all(value.as_bytes())
        });
    result.map_err(|source| CgroupError::Write {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// One limit: what it is called, the file, the value.
type Knob = (&'static str, &'static str, String);

fn read(path: &Path) -> Result<String, CgroupError> {
    std::fs::read_to_string(path).map_err(|source| CgroupError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    })
}

/// The number after `key` in a file of `key value` lines.
fn keyed(text: &str, key: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(key)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

/// How many processes the kernel has killed in the group of this file (`memory.events` or `memory.oom_control`).
pub(crate) fn oom_kills(events: &Path) -> u64 {
    std::fs::read_to_string(events).map_or(0, |text| keyed(&text, "oom_kill"))
}

fn refuse_hugepages(resources: &Resources) -> Result<(), CgroupError> {
    match resources.hugepage_limits.keys().next() {
        Some(size) => Err(CgroupError::Unsupported(format!("hugepages-{size}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
