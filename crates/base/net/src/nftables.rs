//! nftables over netlink: atomic batches of tables, chains, sets, elements and rules.
//!
//! A [`Batch`] is built without I/O; [`NftSocket::commit`] applies all of it or nothing.

use crate::namespace::NetNamespace;
use crate::netlink::{
    AttributeWriter, Attributes, Message, NetlinkError, NetlinkSocket, ParseError, Protocol, Requests,
};

mod element;
mod list;
mod rule;
#[cfg(test)]
mod tests;
mod watch;

pub use element::{Element, ElementData, SetData, SetSpec, SetType};
pub use list::{Chain, ListedElement};
pub use rule::{Meta, NatKind, Register, Rule, Verdict, ct_state};
pub use watch::{NftWatch, TableNews};

const SUBSYSTEM: u16 = (libc::NFNL_SUBSYS_NFTABLES as u16) << 8;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const CREATE: u16 = libc::NLM_F_CREATE as u16;
const CREATE_EXCLUSIVE: u16 = (libc::NLM_F_CREATE | libc::NLM_F_EXCL) as u16;
const APPEND: u16 = (libc::NLM_F_CREATE | libc::NLM_F_APPEND) as u16;
const FAMILY_IPV4: u8 = libc::NFPROTO_IPV4 as u8;
/// An attribute holds 64 kB; the longest element that we have takes less than 130 bytes.
const ELEMENTS_PER_MESSAGE: usize = 400;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const RULE_TABLE: u16 = 1;
const RULE_CHAIN: u16 = 2;
const RULE_EXPRESSIONS: u16 = 4;
const SET_TABLE: u16 = 1;
const SET_NAME: u16 = 2;
const ELEMENTS_TABLE: u16 = 1;
const ELEMENTS_SET: u16 = 2;
const ELEMENTS_LIST: u16 = 3;

/// Where packets meet a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Before the routing decision.
    Prerouting,
    /// For this host.
    Input,
    /// Passing through.
    Forward,
    /// From this host.
    Output,
    /// After the routing decision.
    Postrouting,
}

impl Hook {
    pub(crate) fn number(self) -> u32 {
        self as u32
    }
}

/// What a base chain may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainKind {
    /// Accept, drop, reject.
    Filter,
    /// Translate the first packet of a connection.
    Nat,
}

/// A chain that packets meet by themselves; its policy is to accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BaseChain {
    /// What it may do.
    pub kind: ChainKind,
    /// Where.
    pub hook: Hook,
    /// The lower the earlier: raw −300, destination translation −100, filter 0, source translation 100.
    pub priority: i32,
}

/// Changes that the kernel applies as one, all in the IPv4 family.
#[derive(Debug, Clone)]
pub struct Batch {
    requests: Requests,
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

impl Batch {
    /// No change yet.
    pub fn new() -> Self {
        let mut requests = Requests::new();
        requests.push(BATCH_BEGIN, 0, &batch_header(), |_| {});
        Self { requests }
    }

    /// Whether there is nothing to apply.
    pub fn is_empty(&self) -> bool {
        self.requests.len() == 1
    }

    /// Makes the table unless it is there.
    pub fn add_table(&mut self, table: &str) -> &mut Self {
        self.push(libc::NFT_MSG_NEWTABLE, CREATE, |w| {
            w.text(TABLE_NAME, table);
        })
    }

    /// Removes the table with everything in it; refused when there is none.
    pub fn delete_table(&mut self, table: &str) -> &mut Self {
        self.push(libc::NFT_MSG_DELTABLE, 0, |w| {
            w.text(TABLE_NAME, table);
        })
    }

    /// Leaves an empty table of this name, whatever was there.
    pub fn renew_table(&mut self, table: &str) -> &mut Self {
        self.add_table(table).delete_table(table).add_table(table)
    }

    /// Makes a chain: a base chain, or one to jump to.
    pub fn add_chain(&mut self, table: &str, chain: &str, base: Option<BaseChain>) -> &mut Self {
        self.push(libc::NFT_MSG_NEWCHAIN, CREATE, |w| {
            w.text(CHAIN_TABLE, table).text(CHAIN_NAME, chain);
            let Some(base) = base else { return };
            w.nest(CHAIN_HOOK, |w| {
                w.be32(HOOK_NUMBER, base.hook.number())
                    .be32(HOOK_PRIORITY, base.priority as u32);
            });
            w.be32(CHAIN_POLICY, libc::NF_ACCEPT as u32);
            w.text(
                CHAIN_TYPE,
                if base.kind == ChainKind::Nat {
                    "nat"
                } else {
                    "filter"
                },
            );
        })
    }

    /// Removes a chain that nothing refers to any more.
    pub fn delete_chain(&mut self, table: &str, chain: &str) -> &mut Self {
        self.push(libc::NFT_MSG_DELCHAIN, 0, |w| {
            w.text(CHAIN_TABLE, table).text(CHAIN_NAME, chain);
        })
    }

    /// Removes the rules of a chain.
    pub fn flush_chain(&mut self, table: &str, chain: &str) -> &mut Self {
        self.push(libc::NFT_MSG_DELRULE, 0, |w| {
            w.text(RULE_TABLE, table).text(RULE_CHAIN, chain);
        })
    }

    /// Puts a rule at the end of a chain.
    pub fn add_rule(&mut self, table: &str, chain: &str, rule: &Rule) -> &mut Self {
        self.push(libc::NFT_MSG_NEWRULE, APPEND, |w| {
            w.text(RULE_TABLE, table)
                .text(RULE_CHAIN, chain)
                .bytes(RULE_EXPRESSIONS, rule.expressions());
        })
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, table: &str, set: &SetSpec<'_>) -> &mut Self {
        let id = self.requests.len() as u32;
        self.push(libc::NFT_MSG_NEWSET, CREATE, |w| {
            w.text(SET_TABLE, table).text(SET_NAME, set.name);
            set.write(id, w);
        })
    }

    /// Adds elements to a set or map; refused when one is there with another value.
    pub fn add_elements<'e>(
        &mut self,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        self.push_elements(libc::NFT_MSG_NEWSETELEM, CREATE_EXCLUSIVE, table, set, elements)
    }

    /// Removes elements from a set or map; refused when one is not there.
    pub fn delete_elements<'e>(
        &mut self,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        self.push_elements(libc::NFT_MSG_DELSETELEM, 0, table, set, elements)
    }

    fn push_elements<'e>(
        &mut self,
        kind: libc::c_int,
        flags: u16,
        table: &str,
        set: &str,
        elements: impl IntoIterator<Item = &'e Element>,
    ) -> &mut Self {
        let mut elements = elements.into_iter().peekable();
        while elements.peek().is_some() {
            let piece = elements.by_ref().take(ELEMENTS_PER_MESSAGE);
            self.push(kind, flags, |w| {
                w.text(ELEMENTS_TABLE, table)
                    .text(ELEMENTS_SET, set)
                    .nest(ELEMENTS_LIST, |w| {
                        for element in piece {
                            element.write(w);
                        }
                    });
            });
        }
        self
    }

    fn push(
        &mut self,
        kind: libc::c_int,
        flags: u16,
        fill: impl FnOnce(&mut AttributeWriter<'_>),
    ) -> &mut Self {
        self.requests
            .push(SUBSYSTEM | kind as u16, flags, &header(FAMILY_IPV4), fill);
        self
    }
}

/// A socket to the kernel's nftables.
#[derive(Debug)]
pub struct NftSocket {
    socket: NetlinkSocket,
}

impl NftSocket {
    /// For the network namespace of the calling thread.
    pub fn open() -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open(Protocol::Netfilter)?,
        })
    }

    /// For another network namespace.
    pub fn open_in(namespace: &NetNamespace) -> Result<Self, NetlinkError> {
        Ok(Self {
            socket: NetlinkSocket::open_in(namespace, Protocol::Netfilter)?,
        })
    }

    /// Applies all changes of the batch, or none.
    pub fn commit(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let mut requests = batch.requests;
        let last = requests.len() - 1;
        requests.push(BATCH_END, 0, &batch_header(), |_| {});
        self.socket.transact(requests, last)
    }

    /// Whether the kernel would take the batch; applies nothing (a batch without an end is undone).
    pub fn check(&mut self, batch: Batch) -> Result<(), NetlinkError> {
        if batch.is_empty() {
            return Ok(());
        }
        let last = batch.requests.len() - 1;
        self.socket.transact(batch.requests, last)
    }

    fn dump<T>(
        &mut self,
        kind: libc::c_int,
        family: u8,
        fill: impl FnOnce(&mut AttributeWriter<'_>),
        mut read: impl FnMut(u8, Attributes<'_>, &mut Vec<T>) -> Result<(), ParseError>,
    ) -> Result<Vec<T>, NetlinkError> {
        let mut request = Requests::new();
        request.push(SUBSYSTEM | kind as u16, 0, &header(family), fill);
        let mut found = Vec::new();
        self.socket.dump(request, |message: &Message<'_>| {
            let (header, attributes) = message.split::<4>()?;
            read(header[0], attributes, &mut found)
        })?;
        Ok(found)
    }
}

fn header(family: u8) -> [u8; 4] {
    [family, 0, 0, 0]
}

/// The subsystem that a batch is for stands in the header's last field, in network order.
fn batch_header() -> [u8; 4] {
    [0, 0, 0, libc::NFNL_SUBSYS_NFTABLES as u8]
}
