//! Netlink attributes: a length, a kind, a value, padded to four bytes.

use std::net::Ipv4Addr;

use super::message::ParseError;

const HEADER_BYTES: usize = 4;
/// Flag bits in the kind: "nested" and "network byte order".
const KIND_MASK: u16 = 0x3fff;
const NESTED: u16 = 0x8000;

/// Appends attributes to a message.
pub struct AttributeWriter<'a> {
    bytes: &'a mut Vec<u8>,
}

impl<'a> AttributeWriter<'a> {
    /// Writes to the end of `bytes`, which must be aligned to four bytes there.
    pub fn new(bytes: &'a mut Vec<u8>) -> Self {
        Self { bytes }
    }

    /// An attribute with any value.
    ///
    /// # Panics
    /// When the value does not fit into an attribute (64 kB): callers split long lists.
    pub fn bytes(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value);
        self.close(start);
        self
    }

    /// One byte.
    pub fn u8(&mut self, kind: u16, value: u8) -> &mut Self {
        self.bytes(kind, &[value])
    }

    /// 32 bits in the machine's order, as rtnetlink has it.
    pub fn u32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_ne_bytes())
    }

    /// 16 bits in network order.
    pub fn be16(&mut self, kind: u16, value: u16) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 32 bits in network order, as nfnetlink has it.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// 64 bits in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    /// An IPv4 address.
    pub fn ipv4(&mut self, kind: u16, value: Ipv4Addr) -> &mut Self {
        self.bytes(kind, &value.octets())
    }

    /// A text, ended by a zero byte.
    pub fn text(&mut self, kind: u16, value: &str) -> &mut Self {
        let start = self.open(kind);
        self.bytes.extend_from_slice(value.as_bytes());
        self.bytes.push(0);
        self.close(start);
        self
    }

    /// An attribute that holds what `fill` writes: attributes, or a header and attributes.
    ///
    /// # Panics
    /// As [`AttributeWriter::bytes`].
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut AttributeWriter<'_>)) -> &mut Self {
        let start = self.open(kind | NESTED);
        fill(&mut AttributeWriter { bytes: self.bytes });
        self.close(start);
        self
    }

    /// Bytes that are no attribute: a header within a nest. The length must be a multiple of four.
    pub fn raw(&mut self, value: &[u8]) -> &mut Self {
        debug_assert_eq!(value.len() % 4, 0, "headers are padded by their author");
        self.bytes.extend_from_slice(value);
        self
    }

    fn open(&mut self, kind: u16) -> usize {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0, 0]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        start
    }

    fn close(&mut self, start: usize) {
        let length = u16::try_from(self.bytes.len() - start).expect("callers split lists before 64 kB");
        self.bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// One attribute of a message that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// Its kind, without the flag bits.
    pub kind: u16,
    /// Its value, without padding.
    pub value: &'a [u8],
}

impl<'a> Attribute<'a> {
    /// The value as 32 bits in the machine's order.
    pub fn u32(&self) -> Result<u32, ParseError> {
        self.array().map(u32::from_ne_bytes)
    }

    /// The value as 16 bits in network order.
    pub fn be16(&self) -> Result<u16, ParseError> {
        self.array().map(u16::from_be_bytes)
    }

    /// The value as 32 bits in network order.
    pub fn be32(&self) -> Result<u32, ParseError> {
        self.array().map(u32::from_be_bytes)
    }

    /// The value as an IPv4 address.
    pub fn ipv4(&self) -> Result<Ipv4Addr, ParseError> {
        self.array::<4>().map(Ipv4Addr::from)
    }

    /// The value as a text without its ending zero byte.
    pub fn text(&self) -> Result<&'a str, ParseError> {
        let bytes = self.value.strip_suffix(&[0]).unwrap_or(self.value);
        std::str::from_utf8(bytes).map_err(|_| ParseError::Text)
    }

    /// The attributes within the value.
    pub fn nested(&self) -> Attributes<'a> {
        Attributes::new(self.value)
    }

    fn array<const N: usize>(&self) -> Result<[u8; N], ParseError> {
        self.value.try_into().map_err(|_| ParseError::Length {
            kind: self.kind,
            length: self.value.len(),
        })
    }
}

/// The attributes in a piece of a message, in order. Ends after the first malformed one.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Reads from `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The first attribute of this kind.
    pub fn find(&self, kind: u16) -> Result<Option<Attribute<'a>>, ParseError> {
        for attribute in self.clone() {
            let attribute = attribute?;
            if attribute.kind == kind {
                return Ok(Some(attribute));
            }
        }
        Ok(None)
    }

    fn split(&mut self) -> Result<Attribute<'a>, ParseError> {
        let truncated = ParseError::Truncated;
        let (length, rest) = self.rest.split_first_chunk::<2>().ok_or(truncated)?;
        let (kind, _) = rest.split_first_chunk::<2>().ok_or(ParseError::Truncated)?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = self.rest.get(HEADER_BYTES..length).ok_or(ParseError::Truncated)?;
        self.rest = self.rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Ok(Attribute {
            kind: u16::from_ne_bytes(*kind) & KIND_MASK,
            value,
        })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, ParseError>;

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
