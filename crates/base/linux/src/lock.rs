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
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file })),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(error),
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
            Ok(outcome) => outcome.map(Some),
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

/// The processes that hold a `flock` on the file, as the kernel tells them; those of other pid namespaces are left out.
pub fn holders(path: impl AsRef<Path>) -> io::Result<Vec<i32>> {
    use std::os::unix::fs::MetadataExt;
    let inode = std::fs::metadata(path)?.ino();
    let text = std::fs::read_to_string("/proc/locks")?;
    // `1: FLOCK  ADVISORY  WRITE 1234 fe:00:5678 0 EOF`; waiting ones have `->` in front of the kind.
    let holder = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let same = words.get(5)?.rsplit(':').next()?.parse::<u64>().ok()? == inode;
        (words.get(1) == Some(&"FLOCK") && same)
            .then(|| words.get(4)?.parse::<i32>().ok())
            .flatten()
    };
    Ok(text.lines().filter_map(holder).filter(|pid| *pid > 0).collect())
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
mod tests {
    use super::*;

    /// A process takes the lock, leaves a child with its files for as long as `sleep` makes of `time`, and ends.
    fn leave_to_a_child(path: &Path, time: &str) {
        let script = r#"exec 9>"$0"; flock 9; sleep "$1" &"#;
        let mut command = std::process::Command::new("sh");
        let ended = command.args(["-c", script]).arg(path).arg(time).status();
        assert!(ended.unwrap().success());
        assert!(FileLock::try_acquire(path).unwrap().is_none());
    }

    #[test]
    fn what_a_dead_process_left_behind_is_waited_for_but_not_for_ever() {
        let path = std::env::temp_dir().join(format!("ck-lock-left-{}", std::process::id()));
        leave_to_a_child(&path, "0.2");
        let lock = FileLock::acquire(&path, Duration::from_secs(20)).unwrap();
        let lock = lock.expect("nobody holds it any more");
        // A living one is not waited for.
        assert!(
            FileLock::acquire(&path, Duration::from_secs(20))
                .unwrap()
                .is_none()
        );
        drop(lock);
        leave_to_a_child(&path, "2");
        let error = FileLock::acquire(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_copy_of_the_file_does_not_hold_the_lock() {
        let path = std::env::temp_dir().join(format!("ck-lock-copy-{}", std::process::id()));
        let first = FileLock::try_acquire(&path)
            .unwrap()
            .expect("nobody holds it yet");
        // As a forked child has one.
        let copy = first.file().try_clone().unwrap();
        drop(first);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
        drop(copy);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_second_holder_is_refused_until_the_first_lets_go() {
        let path = std::env::temp_dir().join(format!("ck-lock-{}", std::process::id()));
        let first = FileLock::try_acquire(&path)
            .unwrap()
            .expect("nobody holds it yet");
        assert_eq!(holders(&path).unwrap(), [std::process::id() as i32]);
        assert!(FileLock::try_acquire(&path).unwrap().is_none());
        drop(first);
        assert!(FileLock::try_acquire(&path).unwrap().is_some());
        std::fs::remove_file(path).unwrap();
    }
}
