//! Rules: chains of expressions over registers.
//!
//! Fields of concatenated keys lie in neighbouring [`Register`]s of four bytes.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::Ipv4Cidr;
use crate::netlink::AttributeWriter;

const EXPRESSION: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;
const VERDICT_CODE: u16 = 1;
const VERDICT_CHAIN: u16 = 2;
const VERDICT_REGISTER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;
const EQUAL: u32 = 0;
const NOT_EQUAL: u32 = 1;
const FULLY_RANDOM_PORTS: u32 = 0x10;
const IP_SOURCE_AT: u32 = 12;
const IP_DESTINATION_AT: u32 = 16;
const PORT_DESTINATION_AT: u32 = 2;
const FIB_SOURCE: u32 = 1;
const FIB_DESTINATION: u32 = 2;
const FIB_ADDRESS_TYPE: u32 = 3;
const CT_STATE: u32 = 0;
const DIRECTION_ORIGINAL: u8 = 0;
const LOOKUP_INVERTED: u32 = 1;
const ICMP_PORT_UNREACHABLE: u8 = 3;

/// Bits of a connection's state, for [`Rule::if_ct_state`].
pub mod ct_state {
    /// Its first packet.
    pub const NEW: u32 = 8;
}

/// A register of four bytes, 0 to 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(pub u8);

impl Register {
    fn number(self) -> u32 {
        debug_assert!(self.0 < 16, "there are sixteen");
        libc::NFT_REG32_00 as u32 + u32::from(self.0)
    }
}

/// What is known about a packet beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meta {
    /// The mark of the packet.
    Mark,
    /// The protocol above IP.
    L4Protocol,
}

impl Meta {
    fn number(self) -> u32 {
        match self {
            Self::Mark => libc::NFT_META_MARK as u32,
            Self::L4Protocol => libc::NFT_META_L4PROTO as u32,
        }
    }
}

/// Which side of the packet is translated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatKind {
    /// The source.
    Source,
    /// The destination.
    Destination,
}

/// What becomes of a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Goes on to the next base chain.
    Accept,
    /// Vanishes.
    Drop,
    /// Continues in another chain and comes back.
    Jump(String),
    /// Continues in another chain.
    Goto(String),
    /// Continues after the jump that led here.
    Return,
}

impl Verdict {
    pub(super) fn write(&self, w: &mut AttributeWriter<'_>) {
        let (code, chain) = match self {
            Self::Accept => (libc::NF_ACCEPT, None),
            Self::Drop => (libc::NF_DROP, None),
            Self::Jump(chain) => (libc::NFT_JUMP, Some(chain)),
            Self::Goto(chain) => (libc::NFT_GOTO, Some(chain)),
            Self::Return => (libc::NFT_RETURN, None),
        };
        w.nest(DATA_VERDICT, |w| {
            w.be32(VERDICT_CODE, code as u32);
            if let Some(chain) = chain {
                w.text(VERDICT_CHAIN, chain);
            }
        });
    }
}

/// A rule under construction: a packet leaves it at the first condition that it does not meet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rule {
    expressions: Vec<u8>,
}

impl Rule {
    /// Without an expression, which all packets pass.
    pub fn new() -> Self {
        Self::default()
    }

    pub(super) fn expressions(&self) -> &[u8] {
        &self.expressions
    }

    /// Loads the source address.
    pub fn load_source(self, into: Register) -> Self {
        self.payload(NETWORK_HEADER, IP_SOURCE_AT, 4, into)
    }

    /// Loads the destination address.
    pub fn load_destination(self, into: Register) -> Self {
        self.payload(NETWORK_HEADER, IP_DESTINATION_AT, 4, into)
    }

    /// Loads the destination port.
    pub fn load_destination_port(self, into: Register) -> Self {
        self.payload(TRANSPORT_HEADER, PORT_DESTINATION_AT, 2, into)
    }

    /// Loads the address that the connection's first packet was sent to, before it was translated.
    pub fn load_original_destination(self, into: Register) -> Self {
        self.original(libc::NFT_CT_DST_IP as u32, into)
    }

    /// Loads the port that the connection's first packet was sent to, before it was translated.
    pub fn load_original_port(self, into: Register) -> Self {
        self.original(libc::NFT_CT_PROTO_DST as u32, into)
    }

    /// Loads something beside the packet.
    pub fn load_meta(self, what: Meta, into: Register) -> Self {
        self.push("meta", |w| {
            w.be32(2, what.number()).be32(1, into.number());
        })
    }

    /// Loads a constant number in the machine's order.
    pub fn load_number(self, number: u32, into: Register) -> Self {
        self.load_value(&number.to_ne_bytes(), into)
    }

    /// Loads a constant address.
    pub fn load_address(self, address: Ipv4Addr, into: Register) -> Self {
        self.load_value(&address.octets(), into)
    }

    /// Loads a random number from `offset` to `offset + modulus - 1`.
    pub fn load_random(self, modulus: u32, offset: u32, into: Register) -> Self {
        self.push("numgen", |w| {
            w.be32(1, into.number())
                .be32(2, modulus)
                .be32(3, libc::NFT_NG_RANDOM as u32)
                .be32(4, offset);
        })
    }

    /// Loads a hash of `bytes` bytes from `from` on, as a number from `offset` to `offset + modulus - 1`.
    pub fn load_hash(
        self,
        from: Register,
        bytes: u32,
        seed: u32,
        modulus: u32,
        offset: u32,
        into: Register,
    ) -> Self {
        self.push("hash", |w| {
            w.be32(1, from.number())
                .be32(2, into.number())
                .be32(3, bytes)
                .be32(4, modulus)
                .be32(5, seed)
                .be32(6, offset)
                .be32(7, 0);
        })
    }

    /// Passes when the source lies in the range.
    pub fn if_source_in(self, range: Ipv4Cidr) -> Self {
        self.load_source(SCRATCH)
            .compare_masked(range.mask(), EQUAL, range.network())
    }

    /// Passes when the source lies outside the range.
    pub fn unless_source_in(self, range: Ipv4Cidr) -> Self {
        self.load_source(SCRATCH)
            .compare_masked(range.mask(), NOT_EQUAL, range.network())
    }

    /// Passes when the destination lies in the range.
    pub fn if_destination_in(self, range: Ipv4Cidr) -> Self {
        self.load_destination(SCRATCH)
            .compare_masked(range.mask(), EQUAL, range.network())
    }

    /// Passes when the destination lies outside the range.
    pub fn unless_destination_in(self, range: Ipv4Cidr) -> Self {
        self.load_destination(SCRATCH)
            .compare_masked(range.mask(), NOT_EQUAL, range.network())
    }

    /// Passes when the packet came over another device than this one.
    pub fn unless_input_device(self, index: u32) -> Self {
        self.push("meta", |w| {
            w.be32(2, libc::NFT_META_IIF as u32).be32(1, SCRATCH.number());
        })
        .compare(NOT_EQUAL, &index.to_ne_bytes())
    }

    /// Passes when one of these bits of the packet's mark is set.
    pub fn if_mark_has(self, bits: u32) -> Self {
        self.load_meta(Meta::Mark, SCRATCH)
            .mask(bits.to_ne_bytes())
            .compare(NOT_EQUAL, &[0; 4])
    }

    /// Passes when the connection is in one of these states.
    pub fn if_ct_state(self, bits: u32) -> Self {
        self.push("ct", |w| {
            w.be32(2, CT_STATE).be32(1, SCRATCH.number());
        })
        .mask(bits.to_ne_bytes())
        .compare(NOT_EQUAL, &[0; 4])
    }

    /// Passes when the destination is an address of this host.
    pub fn if_destination_is_local(self) -> Self {
        self.address_type(FIB_DESTINATION, EQUAL)
    }

    /// Passes when the destination is not an address of this host.
    pub fn unless_destination_is_local(self) -> Self {
        self.address_type(FIB_DESTINATION, NOT_EQUAL)
    }

    /// Passes when the source is an address of this host.
    pub fn if_source_is_local(self) -> Self {
        self.address_type(FIB_SOURCE, EQUAL)
    }

    /// Passes when the source is not an address of this host.
    pub fn unless_source_is_local(self) -> Self {
        self.address_type(FIB_SOURCE, NOT_EQUAL)
    }

    /// Passes when the key from `key` on is in the set.
    pub fn if_in_set(self, set: &str, key: Register) -> Self {
        self.push("lookup", |w| {
            w.text(1, set).be32(2, key.number());
        })
    }

    /// Passes when the key from `key` on is not in the set.
    pub fn unless_in_set(self, set: &str, key: Register) -> Self {
        self.push("lookup", |w| {
            w.text(1, set).be32(2, key.number()).be32(5, LOOKUP_INVERTED);
        })
    }

    /// Passes when the key from `key` on is in the map, and loads its value.
    pub fn load_from_map(self, map: &str, key: Register, into: Register) -> Self {
        self.push("lookup", |w| {
            w.text(1, map).be32(2, key.number()).be32(3, into.number());
        })
    }

    /// Ends with the verdict that the map holds for the key, if it holds one.
    pub fn verdict_from_map(self, map: &str, key: Register) -> Self {
        self.push("lookup", |w| {
            w.text(1, map).be32(2, key.number()).be32(3, VERDICT_REGISTER);
        })
    }

    /// Adds the key with its value to a map that rules fill, or renews its timeout.
    pub fn remember(self, map: &str, key: Register, data: Register, timeout: Duration) -> Self {
        self.push("dynset", |w| {
            w.text(1, map)
                .be32(3, libc::NFT_DYNSET_OP_UPDATE as u32)
                .be32(4, key.number())
                .be32(5, data.number())
                .be64(6, timeout.as_millis() as u64);
        })
    }

    /// Sets bits of the packet's mark.
    pub fn set_mark_bits(self, bits: u32) -> Self {
        let keep = !bits;
        self.load_meta(Meta::Mark, SCRATCH)
            .bitwise(keep.to_ne_bytes(), bits.to_ne_bytes())
            .push("meta", |w| {
                w.be32(2, Meta::Mark.number()).be32(3, SCRATCH.number());
            })
    }

    /// Translates to the address in `address` and, if given, the port in `port`.
    pub fn translate(self, kind: NatKind, address: Register, port: Option<Register>) -> Self {
        let kind = match kind {
            NatKind::Source => libc::NFT_NAT_SNAT,
            NatKind::Destination => libc::NFT_NAT_DNAT,
        };
        self.push("nat", |w| {
            w.be32(1, kind as u32)
                .be32(2, libc::NFPROTO_IPV4 as u32)
                .be32(3, address.number());
            if let Some(port) = port {
                w.be32(5, port.number());
            }
        })
    }

    /// Gives the packet the address of the device that it leaves by, and a random port.
    pub fn masquerade(self) -> Self {
        self.push("masq", |w| {
            w.be32(1, FULLY_RANDOM_PORTS);
        })
    }

    /// Ends with "port unreachable" to the sender.
    pub fn reject(self) -> Self {
        self.push("reject", |w| {
            w.be32(1, libc::NFT_REJECT_ICMP_UNREACH as u32)
                .u8(2, ICMP_PORT_UNREACHABLE);
        })
    }

    /// Passes TCP and ends with a reset to the sender.
    pub fn reset_tcp(self) -> Self {
        let tcp = self
            .load_meta(Meta::L4Protocol, SCRATCH)
            .compare(EQUAL, &[libc::IPPROTO_TCP as u8]);
        tcp.push("reject", |w| {
            w.be32(1, libc::NFT_REJECT_TCP_RST as u32).u8(2, 0);
        })
    }

    /// Counts packets and bytes.
    pub fn count(self) -> Self {
        self.push("counter", |_| {})
    }

    /// Ends with a verdict.
    pub fn verdict(self, verdict: &Verdict) -> Self {
        self.push("immediate", |w| {
            w.be32(1, VERDICT_REGISTER).nest(2, |w| verdict.write(w));
        })
    }

    fn original(self, what: u32, into: Register) -> Self {
        self.push("ct", |w| {
            w.be32(1, into.number()).be32(2, what).u8(3, DIRECTION_ORIGINAL);
        })
    }

    fn payload(self, base: u32, offset: u32, bytes: u32, into: Register) -> Self {
        self.push("payload", |w| {
            w.be32(1, into.number())
                .be32(2, base)
                .be32(3, offset)
                .be32(4, bytes);
        })
    }

    fn load_value(self, value: &[u8], into: Register) -> Self {
        self.push("immediate", |w| {
            w.be32(1, into.number()).nest(2, |w| {
                w.bytes(DATA_VALUE, value);
            });
        })
    }

    fn address_type(self, which: u32, operation: u32) -> Self {
        self.push("fib", |w| {
            w.be32(1, SCRATCH.number())
                .be32(2, FIB_ADDRESS_TYPE)
                .be32(3, which);
        })
        .compare(operation, &u32::from(libc::RTN_LOCAL).to_ne_bytes())
    }

    fn compare_masked(self, mask: Ipv4Addr, operation: u32, value: Ipv4Addr) -> Self {
        self.mask(mask.octets()).compare(operation, &value.octets())
    }

    fn mask(self, mask: [u8; 4]) -> Self {
        self.bitwise(mask, [0; 4])
    }

    fn bitwise(self, mask: [u8; 4], xor: [u8; 4]) -> Self {
        let value = |bytes: [u8; 4]| {
            move |w: &mut AttributeWriter<'_>| {
                w.bytes(DATA_VALUE, &bytes);
            }
        };
        self.push("bitwise", |w| {
            w.be32(1, SCRATCH.number())
                .be32(2, SCRATCH.number())
                .be32(3, 4)
                .nest(4, value(mask))
                .nest(5, value(xor));
        })
    }

    fn compare(self, operation: u32, value: &[u8]) -> Self {
        self.push("cmp", |w| {
            w.be32(1, SCRATCH.number()).be32(2, operation).nest(3, |w| {
                w.bytes(DATA_VALUE, value);
            });
        })
    }

    fn push(mut self, name: &str, fill: impl FnOnce(&mut AttributeWriter<'_>)) -> Self {
        AttributeWriter::new(&mut self.expressions).nest(EXPRESSION, |w| {
            w.text(EXPRESSION_NAME, name).nest(EXPRESSION_DATA, fill);
        });
        self
    }
}

/// Conditions use the last register for their own purposes.
const SCRATCH: Register = Register(15);
