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
mod tests {
    use super::*;

    /// A process takes the lock, leaves a child with its files until the pipe that is returned closes, and ends.
    fn leave_to_a_child(path: &Path) -> std::process::ChildStdin {
        // A shell gives background programs an empty standard input, so the pipe goes in as 3.
        let script = r#"exec 3<&0 9>"$0"; flock 9; cat <&3 >/dev/null &"#;
        let mut command = std::process::Command::new("sh");
        let command = command.args(["-c", script]).arg(path);
        let mut shell = command.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pipe = shell.stdin.take().unwrap();
        assert!(shell.wait().unwrap().success());
        assert!(FileLock::try_acquire(path).unwrap().is_none());
        pipe
    }

    #[test]
    fn what_a_dead_process_left_behind_is_waited_for_but_not_for_ever() {
        let path = std::env::temp_dir().join(format!("ck-lock-left-{}", std::process::id()));
        let pipe = leave_to_a_child(&path);
        let (sender, acquired) = mpsc::sync_channel(1);
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || sender.send(FileLock::acquire(path, Duration::from_mins(1)))
        });
        assert!(acquired.recv_timeout(Duration::from_millis(100)).is_err());
        drop(pipe);
        let lock = acquired.recv().unwrap().unwrap();
        let lock = lock.expect("nobody holds it any more");
        waiting.join().unwrap().unwrap();
        // A living one is not waited for.
        assert!(
            FileLock::acquire(&path, Duration::from_mins(1))
                .unwrap()
                .is_none()
        );
        drop(lock);
        let pipe = leave_to_a_child(&path);
        let error = FileLock::acquire(&path, Duration::from_millis(20)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(pipe);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_lock_on_a_file_that_was_removed_meanwhile_is_none() {
        let path = std::env::temp_dir().join(format!("ck-lock-gone-{}", std::process::id()));
        let pipe = leave_to_a_child(&path);
        let (sender, acquired) = mpsc::sync_channel(1);
        let waiting = std::thread::spawn({
            let path = path.clone();
            move || sender.send(FileLock::acquire(path, Duration::from_mins(1)))
        });
        assert!(acquired.recv_timeout(Duration::from_millis(100)).is_err());
        std::fs::remove_file(&path).unwrap();
        drop(pipe);
        let _first = acquired.recv().unwrap().unwrap().expect("nobody holds it");
        waiting.join().unwrap().unwrap();
        assert!(
            FileLock::try_acquire(&path).unwrap().is_none(),
            "two hold the lock"
        );
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

    #[test]
    fn a_holder_is_seen_while_other_locks_come_and_go() {
        use std::sync::atomic::{AtomicBool, Ordering};
        const LOOKS: usize = 2_000;
        let path =
            |name: &str| std::env::temp_dir().join(format!("ck-lock-busy-{}-{name}", std::process::id()));
        let held = path("held");
        let (over, own) = (AtomicBool::new(false), std::process::id() as i32);
        let missed = std::thread::scope(|scope| {
            for name in ["a", "b"] {
                let (path, over) = (path(name), &over);
                scope.spawn(move || {
                    while !over.load(Ordering::Relaxed) {
                        drop(FileLock::try_acquire(&path).unwrap());
                    }
                    std::fs::remove_file(path).unwrap();
                });
            }
            let lock = FileLock::try_acquire(&held).unwrap().expect("nobody holds it");
            let missed = (0..LOOKS).filter(|_| holders(&held).unwrap() != [own]).count();
            over.store(true, Ordering::Relaxed);
            drop(lock);
            missed
        });
        assert_eq!(missed, 0, "of {LOOKS} looks");
        std::fs::remove_file(held).unwrap();
    }
}
