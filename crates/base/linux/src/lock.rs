//! Whole-file advisory locks (`flock`), which the kernel releases when the holder dies.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

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

#[cfg(test)]
mod tests {
    use super::*;

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
