//! The pod addresses of a node: a /24 of the cluster's pod range.

use cloudeck_engine::Txn;
use cloudeck_machinery::Value;

use super::range_key;
use crate::config::Cidr;
use crate::server::Core;

const NODE_PREFIX: u8 = 24;
const KIND: &str = "podcidrs";

/// Gives a new node its range, unless it brings one.
pub(super) fn claim(core: &Core, new: &mut Value, old: Option<&Value>) -> Txn {
    let cidr = match new.str_at(&["spec", "podCIDR"]).filter(|cidr| !cidr.is_empty()) {
        Some(own) => own.to_owned(),
        None if old.is_none() => match free(core) {
            Some(cidr) => cidr,
            None => return Txn::new(),
        },
        None => return Txn::new(),
    };
    if old.and_then(|old| old.str_at(&["spec", "podCIDR"])) == Some(&cidr) {
        return Txn::new();
    }
    new.set_at(&["spec", "podCIDR"], cidr.as_str());
    new.set_at(&["spec", "podCIDRs"], vec![Value::from(cidr.as_str())]);
    let key = range_key(KIND, &cidr.replace('/', "-"));
    let owner = new.str_at(&["metadata", "name"]).unwrap_or_default().to_owned();
    Txn::new().expect_absent(key.clone()).put(key, owner)
}

pub(super) fn release(old: &Value) -> Txn {
    match old.str_at(&["spec", "podCIDR"]).filter(|cidr| !cidr.is_empty()) {
        Some(cidr) => Txn::new().delete(range_key(KIND, &cidr.replace('/', "-"))),
        None => Txn::new(),
    }
}

fn free(core: &Core) -> Option<String> {
    let nodes = core.stored("", "nodes");
    let (nodes, _) = nodes
        .cache
        .snapshot("", &core.frontier, None, usize::MAX, |_| true);
    let taken: Vec<String> = nodes
        .objects
        .iter()
        .filter_map(|node| node.tree().str_at(&["spec", "podCIDR"]).map(str::to_owned))
        .collect();
    ranges(core.config.pod_cidr).find(|range| !taken.contains(range))
}

fn ranges(cidr: Cidr) -> impl Iterator<Item = String> {
    let count = 1_u32 << NODE_PREFIX.saturating_sub(cidr.prefix);
    let base = u32::from(cidr.address);
    (0..count).map(move |at| format!("{}/{NODE_PREFIX}", std::net::Ipv4Addr::from(base + at * 256)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_range_is_cut_into_node_ranges() {
        let cidr = Cidr {
            address: std::net::Ipv4Addr::new(10, 244, 0, 0),
            prefix: 22,
        };
        let all: Vec<String> = ranges(cidr).collect();
        assert_eq!(
            all,
            ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]
        );
    }
}
