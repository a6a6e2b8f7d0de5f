//! What machines leave on the host, and how what dead tests left is found and removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Once;

use rustix::fs::{FlockOperation, flock};

/// With this begin the names of all machines, their folders and control groups.
pub(crate) const PREFIX: &str = "ck-e2e-";

/// A folder that is removed with its value. While it is held, nobody clears it.
pub(crate) struct Disk {
    path: PathBuf,
    _lock: File,
}

impl Disk {
    /// Makes one, after what dead tests left has been removed.
    pub(crate) fn create(name: &str) -> Self {
        static CLEARED: Once = Once::new();
        CLEARED.call_once(clear);
        let path = std::env::temp_dir().join(name);
        // Between the two steps it would look like that of a dead test.
        let _making = lock_all();
        fs::create_dir(&path).unwrap();
        let lock = File::create(path.join("lock")).unwrap();
        flock(&lock, FlockOperation::LockExclusive).unwrap();
        Self { path, _lock: lock }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path)
            && !std::thread::panicking()
        {
            panic!("remove {}: {error}", self.path.display());
        }
    }
}

/// While it is held, no folder is made, and none is cleared.
fn lock_all() -> File {
    let all = File::open(std::env::temp_dir()).unwrap();
    flock(&all, FlockOperation::LockExclusive).unwrap();
    all
}

fn clear() {
    let _clearing = lock_all();
    for entry in fs::read_dir(std::env::temp_dir()).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(lock) = name
            .starts_with(PREFIX)
            .then(|| File::open(entry.path().join("lock")).ok())
            .flatten()
        else {
            continue;
        };
        // A machine ends with the test that held the lock; what it leaves are groups and files.
        if flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && remove_groups(&name).is_ok() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Removes the control groups of a machine, which must have no processes any more.
pub(crate) fn remove_groups(name: &str) -> Result<(), String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|error| error.to_string())?;
    let is_group = |kind: &str| matches!(kind, "cgroup" | "cgroup2");
    for mount in mounts.lines() {
        let mut fields = mount.split(' ').skip(1);
        if let (Some(folder), Some(kind)) = (fields.next(), fields.next())
            && is_group(kind)
        {
            remove_group(&Path::new(folder).join(name))?;
        }
    }
    Ok(())
}

fn remove_group(group: &Path) -> Result<(), String> {
    let Ok(entries) = fs::read_dir(group) else {
        return Ok(());
    };
    for entry in entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        remove_group(&entry.path())?;
    }
    fs::remove_dir(group).map_err(|error| format!("{}: {error}", group.display()))
}
