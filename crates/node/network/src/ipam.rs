//! Addresses for pods: a ring over the node's range. Pure.
//!
//! Allocation goes on after the last address given out, so a released address comes up again only when all other free
//! ones have had their turn: caches, tracked connections and clients of a dead pod do not meet its successor.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cloudeck_net::Ipv4Cidr;

#[cfg(test)]
mod tests;

/// The first addresses that no pod gets: the network's own and one for the node.
const RESERVED_AT_START: u32 = 2;
/// The last address, the broadcast address of the range.
const RESERVED_AT_END: u32 = 1;

/// The addresses of one range and which of them are in use.
#[derive(Debug, Clone)]
pub struct Pool {
    range: Ipv4Cidr,
    first: u32,
    last: u32,
    used: BTreeSet<Ipv4Addr>,
    cursor: u32,
}

/// Why there is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// All are in use.
    #[error("no free address in pod range {0}")]
    Exhausted(Ipv4Cidr),
    /// Another pod has it.
    #[error("address {0} is in use")]
    InUse(Ipv4Addr),
    /// It does not belong to the range, or is reserved.
    #[error("address {address} is not one that a pod can have in range {range}")]
    Unusable {
        /// The address.
        address: Ipv4Addr,
        /// The range.
        range: Ipv4Cidr,
    },
}

impl Pool {
    /// All free; allocation goes on after `cursor`, the last address given out in an earlier life, if there was one.
    pub fn new(range: Ipv4Cidr, cursor: Option<Ipv4Addr>) -> Self {
        let network = u32::from(range.network());
        let first = network.saturating_add(RESERVED_AT_START);
        let last = u32::from(range.last()).saturating_sub(RESERVED_AT_END);
        let cursor = cursor
            .map(u32::from)
            .filter(|cursor| (first..=last).contains(cursor))
            .unwrap_or(last);
        Self {
            range,
            first,
            last,
            used: BTreeSet::new(),
            cursor,
        }
    }

    /// How many pods can have an address.
    pub fn capacity(&self) -> usize {
        self.last
            .checked_sub(self.first)
            .map_or(0, |span| span as usize + 1)
    }

    /// The last address that was given out.
    pub fn cursor(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.cursor)
    }

    /// The next free address of the ring.
    pub fn allocate(&mut self) -> Result<Ipv4Addr, AllocateError> {
        for _ in 0..self.capacity() {
            self.cursor = if self.cursor >= self.last {
                self.first
            } else {
                self.cursor + 1
            };
            let address = Ipv4Addr::from(self.cursor);
            if self.used.insert(address) {
                return Ok(address);
            }
        }
        Err(AllocateError::Exhausted(self.range))
    }

    /// Marks a certain address as used.
    pub fn claim(&mut self, address: Ipv4Addr) -> Result<(), AllocateError> {
        if !(self.first..=self.last).contains(&u32::from(address)) {
            return Err(AllocateError::Unusable {
                address,
                range: self.range,
            });
        }
        if self.used.insert(address) {
            Ok(())
        } else {
            Err(AllocateError::InUse(address))
        }
    }

    /// Gives an address back. `false` when it was not in use.
    pub fn release(&mut self, address: Ipv4Addr) -> bool {
        self.used.remove(&address)
    }
}
