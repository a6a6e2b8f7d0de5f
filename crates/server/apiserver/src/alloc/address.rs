//! Service addresses: which are free, and the IPAddress object that says who has one.

use std::net::Ipv4Addr;

use bytes::Bytes;
use cloudeck_engine::Txn;
use cloudeck_machinery::value;

use crate::config::Cidr;
use crate::registry::commit;
use crate::server::Core;

impl Cidr {
    fn size(self) -> u32 {
        1_u32.checked_shl(u32::from(32 - self.prefix)).unwrap_or(u32::MAX)
    }

    /// Whether `address` is in the range and can be given out.
    pub(crate) fn offers(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.address));
        offset > 0 && offset < self.size() - 1
    }

    /// The first address: Service `kubernetes`.
    pub(crate) fn first(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) + 1)
    }

    /// Offset of the part that addresses are chosen from; below it they are left to those who ask by number.
    fn dynamic_start(self) -> u32 {
        let size = self.size();
        if size <= 16 { 0 } else { (size / 16).clamp(16, 256) }
    }

    /// Every address in the order in which they are tried: the upper part from a random place, then the lower.
    pub(crate) fn candidates(self, random: u32) -> impl Iterator<Item = Ipv4Addr> {
        let (size, start) = (self.size(), self.dynamic_start());
        let upper = (size - 1).saturating_sub(start).max(1);
        let base = u32::from(self.address);
        let above = (0..upper).map(move |at| start + (at + random % upper) % upper);
        above
            .chain(1..start)
            .filter(|offset| *offset > 0)
            .map(move |offset| Ipv4Addr::from(base + offset))
    }
}

/// Chooses a free address.
pub(super) fn choose(core: &Core) -> Option<Ipv4Addr> {
    let taken = core.stored("networking.k8s.io", "ipaddresses");
    let random = u32::from_le_bytes(core.ids.bytes());
    core.config
        .service_cidr
        .candidates(random)
        .find(|address| taken.cache.get("", &address.to_string()).is_none())
}

pub(super) fn is_taken(core: &Core, address: Ipv4Addr) -> bool {
    core.stored("networking.k8s.io", "ipaddresses")
        .cache
        .get("", &address.to_string())
        .is_some()
}

/// Adds the address's object to the transaction.
pub(super) fn take(core: &Core, txn: Txn, address: &str, namespace: &str, name: &str) -> Txn {
    let kind = core.stored("networking.k8s.io", "ipaddresses");
    let mut tree = value!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {
            "name": (address), "uid": (core.ids.uuid()), "creationTimestamp": (core.clock.timestamp()),
            "labels": {
                "ipaddress.kubernetes.io/ip-family": "IPv4",
                "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"
            }
        },
        "spec": {"parentRef": {"group": "", "resource": "services", "namespace": (namespace), "name": (name)}}
    });
    // It fits the schema: it was written for it.
    let _ = cloudeck_schema::normalise(kind.ty, &mut tree);
    let key = Bytes::from(kind.key("", address));
    txn.expect_absent(key.clone())
        .put(key, commit::encode(kind, &mut tree))
}

pub(super) fn give_back(core: &Core, txn: Txn, address: &str) -> Txn {
    let kind = core.stored("networking.k8s.io", "ipaddresses");
    txn.delete(kind.key("", address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_chosen_from_the_upper_part_first() {
        let cidr = Cidr {
            address: Ipv4Addr::new(10, 96, 0, 0),
            prefix: 16,
        };
        let mut tried = cidr.candidates(0);
        assert_eq!(tried.next(), Some(Ipv4Addr::new(10, 96, 1, 0)));
        let all: Vec<Ipv4Addr> = cidr.candidates(7).collect();
        assert_eq!(all.len(), 65_534);
        assert_eq!(all.last(), Some(&Ipv4Addr::new(10, 96, 0, 255)));
        assert!(all.iter().all(|address| cidr.offers(*address)));
    }

    #[test]
    fn a_small_range_gives_all_it_has() {
        let cidr = Cidr {
            address: Ipv4Addr::new(10, 0, 0, 0),
            prefix: 29,
        };
        let mut all: Vec<Ipv4Addr> = cidr.candidates(3).collect();
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 6);
    }
}
