//! Container logs in the form that CRI prescribes: `<time> stdout|stderr F|P <text>`, one line per line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// A line that is longer is written in parts, marked `P` but for the last.
const MAX_LINE: usize = 16 << 10;

/// What is read at a time.
const CHUNK: usize = 8 << 10;

/// The most that a pipe holds, unless root has made it larger. What comes beyond that is written just now, by somebody who
/// could go on for ever.
const MAX_PIPE: usize = 1 << 20;

/// One of the outputs of a container.
pub(super) struct Stream {
    pub(super) fd: File,
    name: &'static str,
    /// The beginning of a line whose end has not come yet.
    partial: Vec<u8>,
}

impl Stream {
    /// Reads from `fd`, which does not wait.
    pub(super) fn new(fd: OwnedFd, name: &'static str) -> Self {
        Self {
            fd: File::from(fd),
            name,
            partial: Vec::new(),
        }
    }

    /// Moves what is there to the log: a bit of it, or all. `false`: nothing will come any more.
    pub(super) fn pump(&mut self, log: Option<&mut File>, all: bool) -> bool {
        let mut log = log;
        let mut buffer = [0; CHUNK];
        let (limit, mut taken) = (if all { MAX_PIPE } else { 1 }, 0);
        while taken < limit {
            match self.fd.read(&mut buffer) {
                Ok(0) => return self.end(log),
                Ok(got) => {
                    if let Some(log) = log.as_deref_mut() {
                        self.take(&buffer[..got], log);
                    }
                    taken += got;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return true,
                // EIO: the last user of a terminal has gone.
                Err(_) => return self.end(log),
            }
        }
        true
    }

    fn end(&mut self, log: Option<&mut File>) -> bool {
        if let Some(log) = log {
            self.finish(log);
        }
        false
    }

    fn take(&mut self, bytes: &[u8], log: &mut File) {
        let mut out = Vec::with_capacity(bytes.len() + 64);
        let stamp = timestamp(crate::spec::now_ns());
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.cut(end, &stamp, &mut out);
                    self.emit(&stamp, b'F', &mut out);
                }
                None => self.cut(piece, &stamp, &mut out),
            }
        }
        // A full disk loses lines; it must not stop the container.
        let _ = log.write_all(&out);
    }

    /// Appends to the line, writing out parts of it when it gets too long.
    fn cut(&mut self, mut bytes: &[u8], stamp: &str, out: &mut Vec<u8>) {
        while self.partial.len() + bytes.len() > MAX_LINE {
            let (now, later) = bytes.split_at(MAX_LINE - self.partial.len());
            self.partial.extend_from_slice(now);
            self.emit(stamp, b'P', out);
            bytes = later;
        }
        self.partial.extend_from_slice(bytes);
    }

    fn emit(&mut self, stamp: &str, tag: u8, out: &mut Vec<u8>) {
        out.extend_from_slice(stamp.as_bytes());
        out.push(b' ');
        out.extend_from_slice(self.name.as_bytes());
        out.extend_from_slice(&[b' ', tag, b' ']);
        out.extend_from_slice(&self.partial);
        out.push(b'\n');
        // Not clear(): a quiet container holds no buffer.
        self.partial = Vec::new();
    }

    fn finish(&mut self, log: &mut File) {
        if !self.partial.is_empty() {
            let mut out = Vec::new();
            self.emit(&timestamp(crate::spec::now_ns()), b'F', &mut out);
            let _ = log.write_all(&out);
        }
    }
}

/// Opens a log for appending.
pub(super) fn open(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    File::options().append(true).create(true).mode(0o640).open(path)
}

/// RFC 3339 in UTC with nanoseconds.
fn timestamp(at_ns: i64) -> String {
    let (seconds, nanos) = (at_ns.div_euclid(1_000_000_000), at_ns.rem_euclid(1_000_000_000));
    let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3_600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

/// Year, month and day of a day counted from 1970-01-01. Years begin in March here, so that the leap day is the last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use cloudeck_linux::fd;

    use super::*;

    #[test]
    fn times_are_written_as_rfc_3339() {
        let cases = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_798_761_599_999_999_999, "2026-12-31T23:59:59.999999999Z"),
        ];
        for (at, text) in cases {
            assert_eq!(timestamp(at), text);
        }
    }

    /// Feeds the pieces one by one, closes, and returns the log without its times.
    fn check(pieces: &[&[u8]], expected: &[(char, usize)]) {
        let (reader, writer) = fd::pipe().unwrap();
        fd::set_nonblocking(&reader).unwrap();
        let mut writer = File::from(writer);
        let path = std::env::temp_dir().join(format!("ck-log-{}-{:p}", std::process::id(), pieces));
        let mut log = open(&path).unwrap();
        let mut stream = Stream::new(reader, "stdout");
        for piece in pieces {
            writer.write_all(piece).unwrap();
            assert!(stream.pump(Some(&mut log), true));
        }
        drop(writer);
        assert!(!stream.pump(Some(&mut log), true));
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::remove_file(path).unwrap();
        let lines: Vec<(char, usize)> = text
            .lines()
            .map(|line| {
                let rest = &line[31..];
                assert!(rest.starts_with("stdout "), "{line}");
                (rest.as_bytes()[7] as char, rest.len() - 9)
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn who_writes_on_after_the_end_holds_nobody_up() {
        let mut source = tempfile::tempfile().unwrap();
        source.set_len(3 * MAX_PIPE as u64).unwrap();
        source.write_all(b"a line\n").unwrap();
        io::Seek::rewind(&mut source).unwrap();
        let mut stream = Stream::new(source.into(), "stdout");
        assert!(stream.pump(None, true));
        assert!(stream.pump(None, false));
        let rest = io::Seek::stream_position(&mut stream.fd).unwrap();
        assert_eq!(rest, (MAX_PIPE + CHUNK) as u64);
    }

    #[test]
    fn a_line_may_come_in_pieces() {
        check(&[b"ab", b"c\nd", b"\n"], &[('F', 3), ('F', 1)]);
    }

    #[test]
    fn empty_lines_and_a_last_line_without_end_are_kept() {
        check(&[b"\n\nlast"], &[('F', 0), ('F', 0), ('F', 4)]);
    }

    #[test]
    fn a_long_line_is_cut_and_marked() {
        let long = vec![b'x'; MAX_LINE + 5];
        check(&[&long, b"\n"], &[('P', MAX_LINE), ('F', 5)]);
    }
}
