//! Sets, maps and their elements.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::netlink::AttributeWriter;

use super::rule::Verdict;

const SET_FLAGS: u16 = 3;
const SET_KEY_TYPE: u16 = 4;
const SET_KEY_BYTES: u16 = 5;
const SET_DATA_TYPE: u16 = 6;
const SET_DATA_BYTES: u16 = 7;
const SET_ID: u16 = 10;
const SET_TIMEOUT: u16 = 11;
const FLAG_MAP: u32 = 0x8;
const FLAG_TIMEOUT: u32 = 0x10;
const FLAG_EVAL: u32 = 0x20;
const DATA_TYPE_VERDICT: u32 = 0xffff_ff00;
const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;

/// What a field of a key or value is. The kernel only knows lengths; the numbers are those by which `nft list` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetType {
    /// An IPv4 address.
    Ipv4Address,
    /// A protocol number.
    Protocol,
    /// A port, in network order.
    Port,
    /// A number in the machine's order.
    Mark,
}

impl SetType {
    fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Protocol => 12,
            Self::Port => 13,
            Self::Mark => 19,
        }
    }

    fn concatenated(types: &[Self]) -> u32 {
        types.iter().fold(0, |number, field| number << 6 | field.number())
    }
}

/// A set or map to make. Every field takes four bytes.
#[derive(Debug, Clone, Copy)]
pub struct SetSpec<'a> {
    /// Its name within the table.
    pub name: &'a str,
    /// The fields of the key.
    pub key: &'a [SetType],
    /// The fields of the value.
    pub data: SetData<'a>,
    /// Elements are added by rules and vanish this long after their last use.
    pub timeout: Option<Duration>,
}

/// What a set maps its keys to.
#[derive(Debug, Clone, Copy)]
pub enum SetData<'a> {
    /// Nothing.
    None,
    /// A verdict.
    Verdict,
    /// A value of these fields.
    Fields(&'a [SetType]),
}

impl<'a> SetSpec<'a> {
    /// A plain set.
    pub fn set(name: &'a str, key: &'a [SetType]) -> Self {
        Self {
            name,
            key,
            data: SetData::None,
            timeout: None,
        }
    }

    /// A map to values.
    pub fn map(name: &'a str, key: &'a [SetType], data: &'a [SetType]) -> Self {
        Self {
            name,
            key,
            data: SetData::Fields(data),
            timeout: None,
        }
    }

    /// A map to verdicts.
    pub fn verdict_map(name: &'a str, key: &'a [SetType]) -> Self {
        Self {
            name,
            key,
            data: SetData::Verdict,
            timeout: None,
        }
    }

    /// Lets rules add elements, which vanish `timeout` after their last use unless the rule says otherwise.
    pub fn filled_by_rules(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    pub(super) fn write(&self, id: u32, w: &mut AttributeWriter<'_>) {
        let map = if matches!(self.data, SetData::None) {
            0
        } else {
            FLAG_MAP
        };
        let timeout = if self.timeout.is_some() {
            FLAG_TIMEOUT | FLAG_EVAL
        } else {
            0
        };
        w.be32(SET_FLAGS, map | timeout)
            .be32(SET_KEY_TYPE, SetType::concatenated(self.key))
            .be32(SET_KEY_BYTES, 4 * self.key.len() as u32)
            .be32(SET_ID, id);
        match self.data {
            SetData::None => {}
            SetData::Verdict => {
                w.be32(SET_DATA_TYPE, DATA_TYPE_VERDICT).be32(SET_DATA_BYTES, 0);
            }
            SetData::Fields(fields) => {
                w.be32(SET_DATA_TYPE, SetType::concatenated(fields))
                    .be32(SET_DATA_BYTES, 4 * fields.len() as u32);
            }
        }
        if let Some(timeout) = self.timeout {
            w.be64(SET_TIMEOUT, timeout.as_millis() as u64);
        }
    }
}

/// What an element maps to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ElementData {
    /// Nothing: an element of a set, or one to delete.
    None,
    /// A value.
    Value(Vec<u8>),
    /// A verdict.
    Verdict(Verdict),
}

/// An element of a set or map, each field of its key and value padded to four bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    key: Vec<u8>,
    data: ElementData,
}

impl Element {
    /// An element without a field so far.
    pub fn new() -> Self {
        Self {
            key: Vec::with_capacity(16),
            data: ElementData::None,
        }
    }

    /// Adds an address to the key.
    pub fn address(mut self, address: Ipv4Addr) -> Self {
        self.key.extend_from_slice(&address.octets());
        self
    }

    /// Adds a protocol number to the key.
    pub fn protocol(mut self, number: u8) -> Self {
        self.key.extend_from_slice(&[number, 0, 0, 0]);
        self
    }

    /// Adds a port to the key.
    pub fn port(mut self, port: u16) -> Self {
        let [high, low] = port.to_be_bytes();
        self.key.extend_from_slice(&[high, low, 0, 0]);
        self
    }

    /// Adds a number to the key.
    pub fn mark(mut self, mark: u32) -> Self {
        self.key.extend_from_slice(&mark.to_ne_bytes());
        self
    }

    /// Maps to an address and a port.
    pub fn to_endpoint(mut self, address: Ipv4Addr, port: u16) -> Self {
        let [a, b, c, d] = address.octets();
        let [high, low] = port.to_be_bytes();
        self.data = ElementData::Value(vec![a, b, c, d, high, low, 0, 0]);
        self
    }

    /// Maps to a verdict.
    pub fn to_verdict(mut self, verdict: Verdict) -> Self {
        self.data = ElementData::Verdict(verdict);
        self
    }

    /// An element with a key that was read from the kernel, to delete it.
    pub fn from_key(key: Vec<u8>) -> Self {
        Self {
            key,
            data: ElementData::None,
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// The value; empty when there is none or it is a verdict.
    pub fn value(&self) -> &[u8] {
        match &self.data {
            ElementData::Value(value) => value,
            _ => &[],
        }
    }

    pub(super) fn write(&self, w: &mut AttributeWriter<'_>) {
        w.nest(LIST_ELEMENT, |w| {
            w.nest(ELEMENT_KEY, |w| {
                w.bytes(DATA_VALUE, &self.key);
            });
            match &self.data {
                ElementData::None => {}
                ElementData::Value(value) => {
                    w.nest(ELEMENT_DATA, |w| {
                        w.bytes(DATA_VALUE, value);
                    });
                }
                ElementData::Verdict(verdict) => {
                    w.nest(ELEMENT_DATA, |w| verdict.write(w));
                }
            }
        });
    }
}

impl Default for Element {
    fn default() -> Self {
        Self::new()
    }
}
