//! Netlink messages: building requests, reading answers.

use rustix::io::Errno;

use super::NetlinkError;
use super::attribute::{AttributeWriter, Attributes};

const HEADER_BYTES: usize = 16;
const FLAGS_AT: usize = 6;
const SEQUENCE_AT: usize = 8;

const FLAG_REQUEST: u16 = libc::NLM_F_REQUEST as u16;
const FLAG_ACK: u16 = libc::NLM_F_ACK as u16;
const FLAG_DUMP: u16 = libc::NLM_F_DUMP as u16;
/// Set in an answer without the request's payload (NETLINK_CAP_ACK), and in one with extended attributes.
const FLAG_CAPPED: u16 = 0x100;
const FLAG_ACK_ATTRIBUTES: u16 = 0x200;
const ERROR_TEXT: u16 = 1;

/// One or more requests under construction, in one buffer.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Requests {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl Requests {
    /// None so far.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a request: `header` is the protocol's own fixed part, `fill` writes the attributes after it.
    pub fn push(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        fill: impl FnOnce(&mut AttributeWriter<'_>),
    ) -> &mut Self {
        let start = self.bytes.len();
        self.starts.push(start);
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes
            .extend_from_slice(&(flags | FLAG_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        self.bytes.extend_from_slice(header);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        fill(&mut AttributeWriter::new(&mut self.bytes));
        let length = (self.bytes.len() - start) as u32;
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    /// The bytes so far, for tests and for splitting large batches.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn acknowledged(mut self) -> Self {
        for index in 0..self.starts.len() {
            self = self.acknowledged_at(index);
        }
        self
    }

    pub(super) fn acknowledged_at(mut self, index: usize) -> Self {
        self.add_flag(index, FLAG_ACK);
        self
    }

    pub(super) fn dumping(mut self) -> Self {
        self.add_flag(0, FLAG_DUMP);
        self
    }

    fn add_flag(&mut self, index: usize, flag: u16) {
        let at = self.starts[index] + FLAGS_AT;
        let flags = u16::from_ne_bytes([self.bytes[at], self.bytes[at + 1]]) | flag;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }

    /// Numbers the messages from `first` and gives up the buffer.
    pub(super) fn numbered(mut self, first: u32) -> (Vec<u8>, Sequenced) {
        for (index, start) in self.starts.iter().enumerate() {
            let at = start + SEQUENCE_AT;
            let sequence = first.wrapping_add(index as u32);
            self.bytes[at..at + 4].copy_from_slice(&sequence.to_ne_bytes());
        }
        (
            self.bytes,
            Sequenced {
                first,
                count: self.starts.len(),
            },
        )
    }
}

/// The numbers that the messages of one sending have.
#[derive(Debug, Clone, Copy)]
pub struct Sequenced {
    first: u32,
    pub(super) count: usize,
}

impl Sequenced {
    /// Which message of the sending an answer with this number is for.
    pub fn index_of(&self, sequence: u32) -> Option<usize> {
        let index = sequence.wrapping_sub(self.first) as usize;
        (index < self.count).then_some(index)
    }
}

/// Why an answer could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Something is longer than what holds it.
    #[error("truncated netlink message")]
    Truncated,
    /// A value has not the length of its type.
    #[error("netlink attribute {kind} has an odd length of {length} bytes")]
    Length {
        /// The attribute.
        kind: u16,
        /// Its length.
        length: usize,
    },
    /// A text is not UTF-8.
    #[error("netlink attribute is not a text")]
    Text,
}

/// One message that was read.
#[derive(Debug, Clone, Copy)]
pub struct Message<'a> {
    /// What it is.
    pub kind: u16,
    /// Flag bits.
    pub flags: u16,
    /// The number of the request that it answers.
    pub sequence: u32,
    /// Everything after the netlink header.
    pub payload: &'a [u8],
}

pub(super) struct Acknowledgement {
    pub(super) errno: Option<Errno>,
    detail: Option<String>,
}

impl Acknowledgement {
    pub(super) fn into_result(self, index: usize) -> Result<(), NetlinkError> {
        let detail = self.detail;
        self.errno.map_or(Ok(()), |errno| {
            Err(NetlinkError::Refused { index, errno, detail })
        })
    }
}

impl<'a> Message<'a> {
    /// The protocol's fixed part and the attributes after it.
    pub fn split<const HEADER: usize>(&self) -> Result<(&'a [u8; HEADER], Attributes<'a>), ParseError> {
        let (header, rest) = self
            .payload
            .split_first_chunk::<HEADER>()
            .ok_or(ParseError::Truncated)?;
        let padding = HEADER.next_multiple_of(4) - HEADER;
        Ok((header, Attributes::new(rest.get(padding..).unwrap_or_default())))
    }

    pub(super) fn is_done(&self) -> bool {
        self.kind == libc::NLMSG_DONE as u16
    }

    pub(super) fn acknowledgement(&self) -> Result<Option<Acknowledgement>, ParseError> {
        if self.kind != libc::NLMSG_ERROR as u16 {
            return Ok(None);
        }
        let (code, rest) = self
            .payload
            .split_first_chunk::<4>()
            .ok_or(ParseError::Truncated)?;
        let code = i32::from_ne_bytes(*code);
        let errno = (code != 0).then(|| Errno::from_raw_os_error(code.saturating_neg()));
        Ok(Some(Acknowledgement {
            errno,
            detail: self.error_text(rest),
        }))
    }

    /// The kernel's words after the copy of the request's header. Best effort: they only adorn an error.
    fn error_text(&self, rest: &[u8]) -> Option<String> {
        if self.flags & FLAG_ACK_ATTRIBUTES == 0 {
            return None;
        }
        let skip = if self.flags & FLAG_CAPPED != 0 {
            HEADER_BYTES
        } else {
            let length = rest.first_chunk::<4>()?;
            (u32::from_ne_bytes(*length) as usize).checked_next_multiple_of(4)?
        };
        let text = Attributes::new(rest.get(skip..)?).find(ERROR_TEXT).ok()??;
        text.text().ok().map(str::to_owned)
    }
}

/// The messages of one datagram, in order. Ends after the first malformed one.
#[derive(Debug)]
pub struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn split(&mut self) -> Result<Message<'a>, ParseError> {
        let header = self
            .rest
            .first_chunk::<HEADER_BYTES>()
            .ok_or(ParseError::Truncated)?;
        let length = u32::from_ne_bytes([header[0], header[1], header[2], header[3]]) as usize;
        let payload = self.rest.get(HEADER_BYTES..length).ok_or(ParseError::Truncated)?;
        let message = Message {
            kind: u16::from_ne_bytes([header[4], header[5]]),
            flags: u16::from_ne_bytes([header[6], header[7]]),
            sequence: u32::from_ne_bytes([header[8], header[9], header[10], header[11]]),
            payload,
        };
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok(message)
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, ParseError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let result = self.split();
        if result.is_err() {
            self.rest = &[];
        }
        Some(result)
    }
}
