//! Who has the data directory, and what that process does with it.
//!
//! A lock on a file says that somebody is there, and ends with that process however it ends. It does not say that a
//! cluster runs: the daemon holds it until it has ended, `down` while it removes. So the holder writes what it does into
//! the locked file, with its process number: a word that another one has left there is not taken for the holder's.

use std::io::ErrorKind;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cloudeck_linux::lock::{FileLock, holders};
use cloudeck_linux::pidfd;

use crate::settings::Places;

/// How long a daemon may take to end, and `down` to remove.
pub const END_LIMIT: Duration = Duration::from_secs(15);
/// What a killed daemon was just starting may hold its files for a moment.
const LEFT_BEHIND: Duration = Duration::from_secs(5);
/// Who has the lock writes what for within microseconds; one that does not for so long is a daemon that knows of no such
/// thing.
const WORD_LIMIT: Duration = Duration::from_secs(2);
/// After this is looked again at one that has not written yet.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// What the holder of the data directory does, in the order in which it can come to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Doing {
    Starting,
    Running,
    /// The daemon serves no more, and lets go when its tasks have ended.
    Ending,
    /// `down` is at work.
    Removing,
}

impl Doing {
    const ALL: [Self; 4] = [Self::Starting, Self::Running, Self::Ending, Self::Removing];

    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ending => "ending",
            Self::Removing => "removing",
        }
    }

    /// Whether there is a cluster, now or in a moment.
    pub fn serves(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

/// The data directory, taken by this process.
#[derive(Debug)]
pub struct Claim {
    lock: FileLock,
    told: Mutex<Option<Doing>>,
}

impl Claim {
    fn new(lock: FileLock, doing: Doing) -> Result<Self> {
        let claim = Self {
            lock,
            told: Mutex::new(None),
        };
        claim.tell(doing)?;
        Ok(claim)
    }

    /// Lets others know what this process does. There is no way back: who is ending does not run.
    pub fn tell(&self, doing: Doing) -> Result<()> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_some_and(|told| told >= doing) {
            return Ok(());
        }
        // Always of the same length, in one write: nobody reads half of it.
        let line = format!("{:<8} {:>10}\n", doing.word(), std::process::id());
        self.lock
            .file()
            .write_all_at(line.as_bytes(), 0)
            .context("write into the lock")?;
        *told = Some(doing);
        Ok(())
    }
}

/// What came of asking for the data directory.
#[derive(Debug)]
pub enum Asked {
    Claimed(Claim),
    /// A cluster runs there, or starts.
    Taken(Doing),
}

/// Takes the data directory to start a cluster in it. Waits for one that is ending or being removed.
pub fn claim(places: &Places) -> Result<Asked> {
    let deadline = Instant::now() + END_LIMIT;
    loop {
        if let Some(claim) = take(places, Doing::Starting)? {
            return Ok(Asked::Claimed(claim));
        }
        let Some(holder) = look(places)? else {
            continue;
        };
        if holder.doing.serves() {
            return Ok(Asked::Taken(holder.doing));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if !holder.ended(left)? {
            bail!(
                "process {} is {} what is in {}, and does not come to an end; see {}",
                holder.pid,
                holder.doing.word(),
                places.data_dir.display(),
                places.log().display()
            );
        }
    }
}

/// Takes the data directory, made if need be; `None` when a living process has it.
pub fn take(places: &Places, doing: Doing) -> Result<Option<Claim>> {
    loop {
        make_private(&places.data_dir)?;
        let lock = match FileLock::acquire(places.lock(), LEFT_BEHIND) {
            // Removed in between, with all that was in it: by the end of a `down --purge`.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            taken => taken.with_context(|| format!("lock {}", places.lock().display()))?,
        };
        return lock.map(|lock| Claim::new(lock, doing)).transpose();
    }
}

fn make_private(dir: &Path) -> Result<()> {
    std::fs::create_dir_all(dir).with_context(|| format!("make {}", dir.display()))?;
    match std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o700)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        set => set.with_context(|| format!("close {}", dir.display())),
    }
}

/// A living process that has the data directory.
#[derive(Debug)]
pub struct Holder {
    pub pid: i32,
    pub doing: Doing,
    /// Cannot come to mean another process, as a number can.
    process: OwnedFd,
}

impl Holder {
    /// Waits for its end; false when it lives on.
    pub fn ended(&self, within: Duration) -> Result<bool> {
        pidfd::wait_end(&self.process, within).context("wait for the process that has the data directory")
    }

    /// Asks it to end.
    pub fn terminate(&self) -> Result<()> {
        match rustix::process::pidfd_send_signal(&self.process, rustix::process::Signal::TERM) {
            Err(rustix::io::Errno::SRCH) => Ok(()),
            sent => sent.context("end the daemon"),
        }
    }
}

/// Who has the data directory, without taking anything. The kernel is asked for the process, and the file for what it does.
pub fn look(places: &Places) -> Result<Option<Holder>> {
    let lock = places.lock();
    let begun = Instant::now();
    while let Some((pid, process)) = holding_process(&lock)? {
        let doing = match written_by(&lock, pid) {
            Some(doing) => doing,
            None if begun.elapsed() >= WORD_LIMIT => Doing::Running,
            None => {
                // An end is as good as a word.
                pidfd::wait_end(&process, LOOK_AGAIN).context("wait for the holder's word")?;
                continue;
            }
        };
        return Ok(Some(Holder { pid, doing, process }));
    }
    Ok(None)
}

fn holding_process(lock: &Path) -> Result<Option<(i32, OwnedFd)>> {
    let pids = match holders(lock) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found.context("look for the process that has the data directory")?,
    };
    let own = std::process::id() as i32;
    let lives = |process: &OwnedFd| !pidfd::wait_end(process, Duration::ZERO).unwrap_or(true);
    Ok(pids.into_iter().filter(|pid| *pid != own).find_map(|pid| {
        let process = pidfd::open(pid).ok()?;
        lives(&process).then_some((pid, process))
    }))
}

/// What the process has written into the lock; `None` when somebody else wrote last.
fn written_by(lock: &Path, pid: i32) -> Option<Doing> {
    let text = std::fs::read_to_string(lock).ok()?;
    let (word, writer) = text.trim().split_once(' ')?;
    let doing = Doing::ALL.into_iter().find(|doing| doing.word() == word)?;
    (writer.trim() == own_number(pid)?).then_some(doing)
}

/// The number that the process knows itself by, which is another one in a pid namespace of its own.
fn own_number(pid: i32) -> Option<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"))?;
    numbers.split_ascii_whitespace().next_back().map(str::to_owned)
}

#[cfg(test)]
mod tests;
