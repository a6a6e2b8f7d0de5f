//! Service addresses: which are free, and the IPAddress object that says who has one.
//!
//! Addresses come from the range that the server is told of, then from the ServiceCIDRs that are ready. Not here: IPv6.

use std::net::Ipv4Addr;

use bytes::Bytes;
use cloudeck_engine::Txn;
use cloudeck_machinery::{Value, value};

use crate::config::Cidr;
use crate::registry::commit;
use crate::server::Core;

impl Cidr {
    fn size(self) -> u32 {
        1_u32.checked_shl(u32::from(32 - self.prefix)).unwrap_or(u32::MAX)
    }

    fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix)).unwrap_or(0);
        u32::from(address) & mask == u32::from(self.address) & mask
    }

    /// Whether `address` is in the range and can be given out.
    pub(crate) fn offers(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.address));
        offset > 0 && offset < self.size().saturating_sub(1)
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

/// The range that the server is told of. It gives while its object is missing, so that the first service gets its address.
const DEFAULT_RANGE: &str = "kubernetes";

/// The ranges that addresses are given from, the default one first.
fn ranges(core: &Core) -> Vec<Cidr> {
    let objects = core.stored("networking.k8s.io", "servicecidrs");
    let (all, _) = objects
        .cache
        .snapshot("", &core.frontier, None, usize::MAX, |_| true);
    let (mut ranges, mut default) = (Vec::new(), Some(core.config.service_cidr));
    for object in &all.objects {
        let tree = object.tree();
        if object.key.name == DEFAULT_RANGE && is_going(&tree) {
            default = None;
        } else if object.key.name != DEFAULT_RANGE && is_ready(&tree) {
            let texts = tree.items_at(&["spec", "cidrs"]).iter().filter_map(Value::as_str);
            ranges.extend(texts.filter_map(|text| text.parse::<Cidr>().ok()));
        }
    }
    default.into_iter().chain(ranges).collect()
}

fn is_going(range: &Value) -> bool {
    range.at(&["metadata", "deletionTimestamp"]).is_some()
}

fn is_ready(range: &Value) -> bool {
    let mut conditions = range.items_at(&["status", "conditions"]).iter();
    let ready = |condition: &Value| {
        condition.str_at(&["type"]) == Some("Ready") && condition.str_at(&["status"]) == Some("True")
    };
    conditions.any(ready) && !is_going(range)
}

/// Chooses a free address.
pub(super) fn choose(core: &Core) -> Option<Ipv4Addr> {
    let taken = core.stored("networking.k8s.io", "ipaddresses");
    let random = u32::from_le_bytes(core.ids.bytes());
    ranges(core)
        .into_iter()
        .flat_map(|range| range.candidates(random))
        .find(|address| taken.cache.get("", &address.to_string()).is_none())
}

/// Whether somebody may ask for the address.
///
/// # Errors
/// Why not, in upstream's words.
pub(super) fn check(core: &Core, address: Ipv4Addr) -> Result<(), String> {
    let ranges = ranges(core);
    let Some(range) = ranges.iter().find(|range| range.contains(address)) else {
        return Err("the provided network does not match the current range".to_owned());
    };
    if ranges.iter().any(|range| range.offers(address)) {
        return Ok(());
    }
    Err(format!(
        "the provided IP ({address}) is not in the valid range. The range of valid IPs is {}/{}",
        range.address, range.prefix
    ))
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
