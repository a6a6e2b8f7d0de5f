//! `/proc/self/mountinfo`.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// The mounts that a process sees, in the kernel's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    pub entries: Vec<MountEntry>,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// The part of the file system that is mounted.
    pub root: PathBuf,
    pub mount_point: PathBuf,
    /// Per-mount options: `rw,nosuid`.
    pub options: String,
    /// Propagation: `shared:1`, `master:2`.
    pub propagation: Vec<String>,
    pub fs_type: String,
    pub source: String,
    /// Per-file-system options: `rw,memory` of a cgroup v1 hierarchy.
    pub super_options: String,
}

impl MountTable {
    /// What the calling process sees.
    pub fn of_self() -> io::Result<Self> {
        std::fs::read("/proc/self/mountinfo").map(|bytes| Self::parse(&bytes))
    }

    /// Reads the kernel's text; a line that does not have its form is left out.
    pub fn parse(bytes: &[u8]) -> Self {
        Self {
            entries: bytes.split(|b| *b == b'\n').filter_map(parse_line).collect(),
        }
    }

    /// The mount that is on top at exactly `path`.
    pub fn at(&self, path: &Path) -> Option<&MountEntry> {
        self.entries.iter().rev().find(|entry| entry.mount_point == path)
    }
}

impl MountEntry {
    /// Whether the file system has the option `name`.
    pub fn has_super_option(&self, name: &str) -> bool {
        self.super_options.split(',').any(|option| option == name)
    }
}

fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|b| *b == b' ');
    let root = path(fields.nth(3)?);
    let mount_point = path(fields.next()?);
    let options = text(fields.next()?);
    let propagation = fields
        .by_ref()
        .take_while(|field| *field != b"-")
        .map(text)
        .collect();
    Some(MountEntry {
        root,
        mount_point,
        options,
        propagation,
        fs_type: text(fields.next()?),
        source: text(fields.next()?),
        super_options: text(fields.next()?),
    })
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

fn path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

/// The kernel writes space, tab, newline and backslash as `\ooo`.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, tail @ ..] = rest {
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..] if *first == b'\\' => {
                plain.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = after;
            }
            _ => {
                plain.push(*first);
                rest = tail;
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_with_propagation_and_escapes_is_read() {
        let line =
            b"36 35 98:0 /mnt1 /mnt/with\\040space rw,noatime shared:7 master:1 - cgroup cgroup rw,memory\n";
        let table = MountTable::parse(line);
        let entry = table.at(Path::new("/mnt/with space")).expect("parsed");
        assert_eq!(entry.root, Path::new("/mnt1"));
        assert_eq!(entry.propagation, ["shared:7", "master:1"]);
        assert_eq!(entry.fs_type, "cgroup");
        assert!(entry.has_super_option("memory") && !entry.has_super_option("mem"));
    }

    #[test]
    fn a_cut_line_is_left_out() {
        assert!(
            MountTable::parse(b"36 35 98:0 /mnt1 /mnt2 rw - cgroup")
                .entries
                .is_empty()
        );
    }

    #[test]
    fn this_process_sees_proc() {
        assert!(MountTable::of_self().unwrap().at(Path::new("/proc")).is_some());
    }
}
