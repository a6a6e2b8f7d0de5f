//! Walks a tar archive of a stranger: ustar, GNU long names, PAX records; streaming, with bounded memory.
//!
//! Layers come from whoever can push to a registry, so every field is checked before it is believed and no length in
//! the archive decides an allocation beyond [`EXTENSION_MAX`]. What cannot be represented (sparse files, volumes)
//! is an error, never skipped. Paths are given as they stand in the archive: cleaning them is the unpacker's task.

use std::io::{self, Read};

const BLOCK: usize = 512;
/// The most that the extension headers of one entry (long names, PAX record sets) may hold together. PAX carries extended attributes, of
/// which Linux allows 64 KiB each; Go's reader stops at the same megabyte, for each header.
const EXTENSION_MAX: u64 = 1 << 20;
const XATTR_PREFIX: &[u8] = b"SCHILY.xattr.";

/// A streaming reader of entries. After [`TarReader::next_entry`] the reader itself yields the entry's data.
pub(crate) struct TarReader<R> {
    input: R,
    /// Data of the current entry not read yet.
    remaining: u64,
    /// Fill after that data up to the block border.
    padding: u64,
    /// How much the extension headers of the next entry may still hold.
    extension_room: u64,
}

/// One member of the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Mtime,
    /// Extended attributes: name and value.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EntryKind {
    File,
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// Seconds and nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mtime {
    pub(crate) seconds: i64,
    pub(crate) nanoseconds: u32,
}

/// Why an archive cannot be walked on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TarError {
    #[error("reading the archive failed")]
    Read(#[from] io::Error),
    #[error("archive ends inside an entry")]
    Truncated,
    #[error("archive header has a wrong checksum")]
    Checksum,
    #[error("archive header field {0} is malformed")]
    Field(&'static str),
    #[error("archive extension headers of one entry are larger than {EXTENSION_MAX} bytes")]
    ExtensionTooLarge,
    #[error("archive has a malformed PAX record")]
    Pax,
    #[error("archive entry type {0:?} is not supported")]
    Unsupported(char),
    #[error("sparse archive entries are not supported")]
    Sparse,
}

/// What extension headers said about the entry that follows them.
#[derive(Default)]
struct Overrides {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
    uid: Option<u32>,
    gid: Option<u32>,
    mtime: Option<Mtime>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl<R: Read> TarReader<R> {
    pub(crate) fn new(input: R) -> Self {
        Self {
            input,
            remaining: 0,
            padding: 0,
            extension_room: EXTENSION_MAX,
        }
    }

    /// The next entry, or none at the end of the archive. Unread data of the one before is skipped.
    pub(crate) fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.extension_room = EXTENSION_MAX;
        let mut overrides = Overrides::default();
        loop {
            self.skip_data()?;
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            let kind = header.0[156];
            let size = overrides
                .size
                .filter(|_| !is_extension(kind))
                .map_or_else(|| header.size(), Ok)?;
            self.expect_data(size)?;
            match kind {
                b'x' => self.read_pax(&mut overrides)?,
                // Global records of git and others: Go's reader does not apply them either.
                b'g' => {}
                b'L' => overrides.path = Some(c_string(&self.read_extension()?).to_vec()),
                b'K' => overrides.link = Some(c_string(&self.read_extension()?).to_vec()),
                _ => return self.entry(&header, size, overrides).map(Some),
            }
        }
    }

    fn entry(&mut self, header: &Header, size: u64, overrides: Overrides) -> Result<Entry, TarError> {
        let path = overrides.path.unwrap_or_else(|| header.path());
        let link = overrides
            .link
            .unwrap_or_else(|| c_string(&header.0[157..257]).to_vec());
        let kind = header.kind(&path, link)?;
        if kind != EntryKind::File {
            // Only files have data; some writers state the size of a link's target.
            self.expect_data(0)?;
        }
        Ok(Entry {
            path,
            kind,
            size,
            mode: header.number(100..108, "mode")? as u32 & 0o7777,
            uid: overrides.uid.map_or_else(|| header.id(108..116, "uid"), Ok)?,
            gid: overrides.gid.map_or_else(|| header.id(116..124, "gid"), Ok)?,
            mtime: overrides.mtime.map_or_else(|| header.mtime(), Ok)?,
            xattrs: overrides.xattrs,
        })
    }

    pub(crate) fn get_ref(&self) -> &R {
        &self.input
    }

    /// Reads what stands after the end mark, so that a digest over the stream is complete.
    pub(crate) fn drain(mut self) -> Result<(), TarError> {
        io::copy(&mut self.input, &mut io::sink())?;
        Ok(())
    }

    fn expect_data(&mut self, size: u64) -> Result<(), TarError> {
        let padded = size
            .checked_next_multiple_of(BLOCK as u64)
            .ok_or(TarError::Field("size"))?;
        self.remaining = size;
        self.padding = padded - size;
        Ok(())
    }

    fn skip_data(&mut self) -> Result<(), TarError> {
        let rest = self
            .remaining
            .checked_add(self.padding)
            .ok_or(TarError::Field("size"))?;
        (self.remaining, self.padding) = (0, 0);
        let skipped = io::copy(&mut self.input.by_ref().take(rest), &mut io::sink())?;
        if skipped < rest {
            Err(TarError::Truncated)
        } else {
            Ok(())
        }
    }

    /// The end is a zero block, or a missing one: several writers leave it out.
    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(TarError::Truncated),
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        if block.iter().all(|b| *b == 0) {
            return Ok(None);
        }
        let header = Header(block);
        header.verify()?;
        Ok(Some(header))
    }

    fn read_extension(&mut self) -> Result<Vec<u8>, TarError> {
        let room = self.extension_room.checked_sub(self.remaining);
        self.extension_room = room.ok_or(TarError::ExtensionTooLarge)?;
        let mut data = Vec::new();
        self.read_to_end(&mut data)?;
        Ok(data)
    }

    fn read_pax(&mut self, overrides: &mut Overrides) -> Result<(), TarError> {
        let data = self.read_extension()?;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            let (key, value, next) = pax_record(rest).ok_or(TarError::Pax)?;
            overrides.set(key, value)?;
            rest = next;
        }
        Ok(())
    }
}

/// Reads the data of the current entry.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..wanted])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                TarError::Truncated.to_string(),
            ));
        }
        self.remaining -= read as u64;
        Ok(read)
    }
}

impl Overrides {
    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), TarError> {
        match key {
            b"path" => self.path = Some(value.to_vec()),
            b"linkpath" => self.link = Some(value.to_vec()),
            b"size" => self.size = Some(decimal(value).ok_or(TarError::Field("size"))?),
            b"uid" => self.uid = Some(pax_id(value).ok_or(TarError::Field("uid"))?),
            b"gid" => self.gid = Some(pax_id(value).ok_or(TarError::Field("gid"))?),
            b"mtime" => self.mtime = Some(pax_time(value).ok_or(TarError::Field("mtime"))?),
            _ if key.starts_with(b"GNU.sparse.") => return Err(TarError::Sparse),
            _ => {
                if let Some(name) = key.strip_prefix(XATTR_PREFIX) {
                    self.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
        Ok(())
    }
}

/// One header block.
struct Header([u8; BLOCK]);

impl Header {
    fn verify(&self) -> Result<(), TarError> {
        let stated = self.number(148..156, "checksum")?;
        let byte = |(at, byte): (usize, &u8)| if (148..156).contains(&at) { b' ' } else { *byte };
        let unsigned: i64 = self.0.iter().enumerate().map(|pair| i64::from(byte(pair))).sum();
        // Old Sun writers summed signed characters.
        let signed: i64 = self
            .0
            .iter()
            .enumerate()
            .map(|pair| i64::from(byte(pair).cast_signed()))
            .sum();
        if stated == unsigned || stated == signed {
            Ok(())
        } else {
            Err(TarError::Checksum)
        }
    }

    /// An octal number, or a big-endian binary one where the first bit is set.
    fn number(&self, field: std::ops::Range<usize>, name: &'static str) -> Result<i64, TarError> {
        let field = &self.0[field];
        if field[0] & 0x80 != 0 {
            return binary(field).ok_or(TarError::Field(name));
        }
        let text = field.split(|b| *b == 0).next().unwrap_or_default().trim_ascii();
        let text = std::str::from_utf8(text).map_err(|_| TarError::Field(name))?;
        if text.is_empty() {
            return Ok(0);
        }
        if text.starts_with(['+', '-']) {
            return Err(TarError::Field(name));
        }
        i64::from_str_radix(text, 8).map_err(|_| TarError::Field(name))
    }

    fn size(&self) -> Result<u64, TarError> {
        u64::try_from(self.number(124..136, "size")?).map_err(|_| TarError::Field("size"))
    }

    fn id(&self, field: std::ops::Range<usize>, name: &'static str) -> Result<u32, TarError> {
        let id = u32::try_from(self.number(field, name)?).map_err(|_| TarError::Field(name))?;
        // The last number means "leave unchanged" to chown.
        if id == u32::MAX {
            Err(TarError::Field(name))
        } else {
            Ok(id)
        }
    }

    fn mtime(&self) -> Result<Mtime, TarError> {
        Ok(Mtime {
            seconds: self.number(136..148, "mtime")?,
            nanoseconds: 0,
        })
    }

    fn path(&self) -> Vec<u8> {
        let name = c_string(&self.0[..100]);
        let prefix = if &self.0[257..263] == b"ustar\0" {
            c_string(&self.0[345..500])
        } else {
            &[]
        };
        if prefix.is_empty() {
            name.to_vec()
        } else {
            [prefix, b"/", name].concat()
        }
    }

    fn kind(&self, path: &[u8], link: Vec<u8>) -> Result<EntryKind, TarError> {
        let device = || -> Result<(u32, u32), TarError> {
            let part =
                |field, name| u32::try_from(self.number(field, name)?).map_err(|_| TarError::Field(name));
            Ok((part(329..337, "major")?, part(337..345, "minor")?))
        };
        Ok(match self.0[156] {
            // Before ustar a directory was a file whose name ends in a slash.
            0 | b'0' | b'7' if path.ends_with(b"/") => EntryKind::Directory,
            0 | b'0' | b'7' => EntryKind::File,
            b'1' => EntryKind::HardLink(link),
            b'2' => EntryKind::Symlink(link),
            b'3' => device().map(|(major, minor)| EntryKind::Character(major, minor))?,
            b'4' => device().map(|(major, minor)| EntryKind::Block(major, minor))?,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            b'S' => return Err(TarError::Sparse),
            other => return Err(TarError::Unsupported(char::from(other))),
        })
    }
}

fn is_extension(kind: u8) -> bool {
    matches!(kind, b'x' | b'g' | b'L' | b'K')
}

fn c_string(field: &[u8]) -> &[u8] {
    field.split(|b| *b == 0).next().unwrap_or_default()
}

/// Two's complement with the top bit as the mark of the encoding.
fn binary(field: &[u8]) -> Option<i64> {
    let negative = field[0] & 0x40 != 0;
    let first = if negative { field[0] } else { field[0] & 0x7f };
    let start = if negative { -1 } else { 0 };
    std::iter::once(&first)
        .chain(&field[1..])
        .try_fold(start, |value: i64, byte| {
            let shifted = value.checked_mul(256)?;
            Some(shifted | i64::from(*byte))
        })
}

fn decimal(value: &[u8]) -> Option<u64> {
    let digits = value.iter().all(u8::is_ascii_digit).then_some(value)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

fn pax_id(value: &[u8]) -> Option<u32> {
    decimal(value)
        .and_then(|id| u32::try_from(id).ok())
        .filter(|id| *id != u32::MAX)
}

/// `length key=value\n`, where the length counts the whole record.
fn pax_record(data: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let space = data.iter().position(|b| *b == b' ')?;
    let length = usize::try_from(decimal(&data[..space])?).ok()?;
    let record = data.get(space + 1..length)?.strip_suffix(b"\n")?;
    let equals = record.iter().position(|b| *b == b'=')?;
    Some((&record[..equals], &record[equals + 1..], &data[length..]))
}

/// Decimal seconds with an optional sign and fraction.
fn pax_time(value: &[u8]) -> Option<Mtime> {
    let text = std::str::from_utf8(value).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits = fraction
        .bytes()
        .map(|b| u32::from(b - b'0'))
        .chain(std::iter::repeat(0))
        .take(9);
    let nanoseconds = digits.fold(0, |value, digit| value * 10 + digit);
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some(Mtime {
            seconds: seconds.checked_sub(1)?,
            nanoseconds: 1_000_000_000 - nanoseconds,
        });
    }
    Some(Mtime { seconds, nanoseconds })
}

#[cfg(test)]
mod tests;
