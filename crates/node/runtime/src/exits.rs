//! How the containers of a sandbox ended: a file of records of fixed size.
//!
//! The first record makes the file durable, with room for more: from then on, noting an end is one overwrite of blocks
//! that are there already, and one flush; no metadata has to follow. A record that a crash has torn does not parse and
//! counts as absent. Nothing is flushed while a sandbox starts: a busy disk takes tens of milliseconds.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::status::{ContainerId, Exit};

/// A container's end, and when it had been started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ExitRecord {
    pub(crate) container: ContainerId,
    pub(crate) started_at_ns: i64,
    pub(crate) exit: Exit,
}

/// 64 of the identity, the numbers, and an end mark.
const RECORD: usize = 160;

/// Records that are made room for at a time.
const CHUNK: u64 = 25;

/// The writing end, held by the shim.
#[derive(Debug)]
pub(crate) struct ExitLog {
    file: File,
    next: u64,
    room: u64,
    /// The directory of the file, until that is known to be durable.
    new_in: Option<PathBuf>,
}

impl ExitLog {
    /// Opens the file for appending.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let new_in = path.parent().map(Path::to_owned);
        let mut log = Self {
            next: 0,
            room: file.metadata()?.len() / RECORD as u64,
            file,
            new_in,
        };
        while log.next < log.room && log.is_taken(log.next)? {
            log.next += 1;
        }
        Ok(log)
    }

    fn is_taken(&self, index: u64) -> io::Result<bool> {
        let mut first = [0];
        self.file.read_exact_at(&mut first, index * RECORD as u64)?;
        Ok(first[0] != b' ')
    }

    /// Notes an end. Durable when it returns.
    pub(crate) fn append(&mut self, record: &ExitRecord) -> io::Result<()> {
        let grows = self.next == self.room;
        if grows {
            let blanks = vec![b' '; CHUNK as usize * RECORD];
            self.file.write_all_at(&blanks, self.room * RECORD as u64)?;
            self.room += CHUNK;
        }
        self.file
            .write_all_at(&encode(record), self.next * RECORD as u64)?;
        if grows {
            self.file.sync_all()?;
        } else {
            self.file.sync_data()?;
        }
        if let Some(dir) = self.new_in.take() {
            // A synced file that has no name is lost.
            File::open(dir)?.sync_all()?;
        }
        self.next += 1;
        Ok(())
    }
}

/// All ends that are on record; none when there is no file.
pub(crate) fn read(path: &Path) -> io::Result<Vec<ExitRecord>> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(bytes.chunks(RECORD).filter_map(decode).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn encode(record: &ExitRecord) -> Vec<u8> {
    let ExitRecord {
        container,
        started_at_ns,
        exit,
    } = record;
    let Exit {
        code,
        signal,
        oom,
        at_ns,
    } = exit;
    let text = format!(
        "{container} {code} {signal} {} {started_at_ns} {at_ns} .",
        u8::from(*oom)
    );
    format!("{text:<width$}\n", width = RECORD - 1).into_bytes()
}

fn decode(bytes: &[u8]) -> Option<ExitRecord> {
    let text = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut fields = text.split_ascii_whitespace();
    let container = ContainerId::parse(fields.next()?)?;
    let code = fields.next()?.parse().ok()?;
    let signal = fields.next()?.parse().ok()?;
    let oom = fields.next()? == "1";
    let started_at_ns = fields.next()?.parse().ok()?;
    let at_ns = fields.next()?.parse().ok()?;
    // The mark tells a whole record from one that was cut.
    (fields.next()? == ".").then_some(())?;
    Some(ExitRecord {
        container,
        started_at_ns,
        exit: Exit {
            code,
            signal,
            oom,
            at_ns,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct TempFile(PathBuf);

    impl Drop for TempFile {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn file(name: &str) -> TempFile {
        let path = std::env::temp_dir().join(format!("ck-exits-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        TempFile(path)
    }

    fn record(code: i32) -> ExitRecord {
        let exit = Exit {
            code,
            signal: code - 128,
            oom: code == 137,
            at_ns: i64::MAX,
        };
        ExitRecord {
            container: ContainerId::random().unwrap(),
            started_at_ns: i64::MAX,
            exit,
        }
    }

    #[test]
    fn what_was_noted_is_read_back_also_after_reopening() {
        let path = file("reopen");
        let records: Vec<_> = (0..60).map(record).collect();
        for part in records.chunks(20) {
            let mut log = ExitLog::open(&path.0).unwrap();
            for record in part {
                log.append(record).unwrap();
            }
        }
        assert_eq!(read(&path.0).unwrap(), records);
    }

    #[test]
    fn a_torn_record_counts_as_absent_and_is_not_overwritten() {
        let path = file("torn");
        let (first, second) = (record(1), record(137));
        ExitLog::open(&path.0).unwrap().append(&first).unwrap();
        let handle = OpenOptions::new().write(true).open(&path.0).unwrap();
        handle.write_all_at(b"                    ", 100).unwrap();
        ExitLog::open(&path.0).unwrap().append(&second).unwrap();
        assert_eq!(read(&path.0).unwrap(), [second]);
    }

    #[test]
    fn no_file_means_no_ends() {
        assert!(read(&file("none").0).unwrap().is_empty());
    }
}
