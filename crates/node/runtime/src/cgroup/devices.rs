//! Which device nodes the processes of a group may use.

use std::fmt;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

/// One thing that is allowed; all else is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// `b` or `c`.
    pub kind: char,
    /// `None`: any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub read: bool,
    pub write: bool,
    pub mknod: bool,
}

impl DeviceRule {
    const fn all_of(kind: char, major: u32, minor: Option<u32>) -> Self {
        Self {
            kind,
            major: Some(major),
            minor,
            read: true,
            write: true,
            mknod: true,
        }
    }

    const fn mknod_of(kind: char) -> Self {
        Self {
            kind,
            major: None,
            minor: None,
            read: false,
            write: false,
            mknod: true,
        }
    }

    /// The rule for the device node `path` of this machine.
    pub fn for_node(path: &Path, permissions: &str) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        let kind = if metadata.file_type().is_block_device() {
            'b'
        } else if metadata.file_type().is_char_device() {
            'c'
        } else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a device node"));
        };
        let number = metadata.rdev();
        Ok(Self {
            kind,
            major: Some(libc::major(number)),
            minor: Some(libc::minor(number)),
            read: permissions.contains('r'),
            write: permissions.contains('w'),
            mknod: permissions.contains('m'),
        })
    }
}

/// As the kernel's version 1 writes it: `c 1:3 rwm`.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(f, "{} {}:{} ", self.kind, number(self.major), number(self.minor))?;
        for (letter, set) in [("r", self.read), ("w", self.write), ("m", self.mknod)] {
            if set {
                f.write_str(letter)?;
            }
        }
        Ok(())
    }
}

/// What every container may use. Making a node of any number is harmless: using it is what the rules are about.
pub const USUAL: [DeviceRule; 11] = [
    DeviceRule::mknod_of('c'),
    DeviceRule::mknod_of('b'),
    DeviceRule::all_of('c', 1, Some(3)), // null
    DeviceRule::all_of('c', 1, Some(5)), // zero
    DeviceRule::all_of('c', 1, Some(7)), // full
    DeviceRule::all_of('c', 1, Some(8)), // random
    DeviceRule::all_of('c', 1, Some(9)), // urandom
    DeviceRule::all_of('c', 5, Some(0)), // tty
    DeviceRule::all_of('c', 5, Some(1)), // console
    DeviceRule::all_of('c', 5, Some(2)), // ptmx
    DeviceRule::all_of('c', 136, None),  // pts
];
