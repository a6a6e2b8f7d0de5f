//! Whole-file advisory locks (`flock`), which the kernel releases when the holder dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

/// A lock that is held until dropped.
#[derive(Debug)]
pub struct FileLock {
    file: File,
}

impl FileLock {
    /// Takes the lock on `path`, making the file if needed; `None` when somebody else holds it.
    pub fn try_acquire(path: impl AsRef<Path>) -> io::Result<Option<Self>> {
        let path = path.as_ref();
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path)? => return Ok(Some(Self { file })),
                // The one who had it has removed it: who comes next finds another file.
                Ok(()) => {}
                Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
                Err(std::fs::TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// The same, and where no process that lives holds it, waits for it as long as `patience`: a child that a killed process
    /// had forked, and that has not become its program yet, holds its files for a moment.
    ///
    /// # Errors
    /// `TimedOut` when the lock stays taken and nobody is to be seen who holds it.
    pub fn acquire(path: impl AsRef<Path>, patience: Duration) -> io::Result<Option<Self>> {
        let path = path.as_ref();
        if let Some(lock) = Self::try_acquire(path)? {
            return Ok(Some(lock));
        }
        if holders(path)?.into_iter().any(lives) {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let (sender, locked) = mpsc::sync_channel(1);
        // The kernel knows of no limit to the wait, so a thread waits; one that waits in vain ends with the process.
        std::thread::spawn(move || {
            let outcome = file.lock().map(|()| Self { file });
            // Dropped, and with it the lock, when nobody waits any more.
            let _ = sender.send(outcome);
        });
        match locked.recv_timeout(patience) {
            Ok(outcome) => match outcome? {
                lock if is_at(&lock.file, path)? => Ok(Some(lock)),
                _ => Self::try_acquire(path),
            },
            Err(_) => Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "it is locked by a process of another pid namespace, or by one that a killed process left",
            )),
        }
    }

    /// The locked file, to write who holds it.
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for FileLock {
    /// Unlocks by name: a child that is forked but has not become its program yet holds a copy of the file, too, and the
    /// lock would live on with it for a moment.
    fn drop(&mut self) {
        // Closing the file comes next, so a failure changes little.
        let _ = self.file.unlock();
    }
}

/// Whether the file is still the one that others find there.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let own = file.metadata()?;
    match std::fs::metadata(path) {
        Ok(found) => Ok((found.dev(), found.ino()) == (own.dev(), own.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// The processes that hold a `flock` on the file, as the kernel tells them; those of other pid namespaces are left out.
pub fn holders(path: impl AsRef<Path>) -> io::Result<Vec<i32>> {
    use std::os::unix::fs::MetadataExt;
    /// Chances for a list that comes in pieces.
    const LOOKS: usize = 4;
    let inode = std::fs::metadata(path)?.ino();
    for _ in 0..LOOKS {
        let (text, whole) = locks()?;
        let mut found: Vec<i32> = text.lines().filter_map(|line| holder(line, inode)).collect();
        found.dedup();
        if whole || !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; waiting ones have `->` in front of the kind.
fn holder(line: &str, inode: u64) -> Option<i32> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let same = words.get(5)?.rsplit(':').next()?.parse::<u64>().ok()? == inode;
    let pid = (words.get(1) == Some(&"FLOCK") && same)
        .then(|| words.get(4)?.parse::<i32>().ok())
        .flatten();
    pid.filter(|pid| *pid > 0)
}

/// The kernel's list of locks, and whether it came in one piece. One piece is true of one moment. After each further one
/// the kernel counts from the beginning: where a lock has gone meanwhile another one is left out, where one has come
/// another is told twice.
fn locks() -> io::Result<(String, bool)> {
    use std::io::Read;
    const ROOM: usize = 64 << 10;
    let mut file = File::open("/proc/locks")?;
    let (mut text, mut pieces) = (Vec::new(), 0);
    loop {
        let begin = text.len();
        text.resize(begin + ROOM, 0);
        let length = file.read(&mut text[begin..])?;
        text.truncate(begin + length);
        if length == 0 {
            return Ok((String::from_utf8_lossy(&text).into_owned(), pieces <= 1));
        }
        pieces += 1;
    }
}

/// Whether the process is there and not merely waited for by its parent: then its own files are closed.
fn lives(pid: i32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
        return false;
    };
    // The name before the state may hold anything.
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

#[cfg(test)]
mod tests;
