//! Which endpoint a slot leads to: rendezvous hashing with quotas. Pure.
//!
//! Every endpoint has the same number of slots, give or take one, and when the set of endpoints changes, few slots
//! beyond the unavoidable ones move. The result depends on nothing but the set, so a restarted proxy and every node
//! come to the same.

use std::net::Ipv4Addr;

#[cfg(test)]
mod tests;

/// Where a connection can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// How many slots a service address has. One rule draws from a fixed number, so there are few sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SizeClass {
    /// 12: for 1, 2, 3, 4, 6 or 12 endpoints, which divide it.
    Small,
    /// 120: up to 24 endpoints, the least loaded of which then has five sixths of the most loaded's share.
    Medium,
    /// 1,200: up to as many endpoints.
    Large,
}

impl SizeClass {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Small, Self::Medium, Self::Large];

    /// The number of slots.
    pub fn slots(self) -> u32 {
        match self {
            Self::Small => 12,
            Self::Medium => 120,
            Self::Large => 1200,
        }
    }

    /// The class for a number of endpoints, which is not zero.
    pub fn of(endpoints: usize) -> Self {
        let divides = |class: Self| (class.slots() as usize).is_multiple_of(endpoints.max(1));
        if divides(Self::Small) {
            Self::Small
        } else if endpoints <= 24 || divides(Self::Medium) {
            Self::Medium
        } else {
            Self::Large
        }
    }
}

/// The endpoint of each slot, for a set of distinct endpoints; empty when there is none. Of more endpoints than the
/// largest class has slots, only so many are used.
pub fn assign(endpoints: &[Endpoint]) -> Vec<Endpoint> {
    if endpoints.is_empty() {
        return Vec::new();
    }
    let slots = SizeClass::of(endpoints.len()).slots();
    let mut ranked: Vec<Candidate> = endpoints
        .iter()
        .map(|endpoint| Candidate::new(*endpoint))
        .collect();
    ranked.sort_unstable_by_key(|candidate| (std::cmp::Reverse(candidate.seed), candidate.endpoint));
    ranked.truncate(slots as usize);
    // Those ranked first have the slots that are left over.
    let (share, left_over) = (slots as usize / ranked.len(), slots as usize % ranked.len());
    for (rank, candidate) in ranked.iter_mut().enumerate() {
        candidate.quota = share + usize::from(rank < left_over);
    }
    (0..slots).map(|slot| take_best(&mut ranked, slot)).collect()
}

struct Candidate {
    endpoint: Endpoint,
    seed: u64,
    quota: usize,
}

impl Candidate {
    fn new(endpoint: Endpoint) -> Self {
        let identity = u64::from(u32::from(endpoint.address)) << 16 | u64::from(endpoint.port);
        Self {
            endpoint,
            seed: mix(identity),
            quota: 0,
        }
    }
}

fn take_best(candidates: &mut [Candidate], slot: u32) -> Endpoint {
    let best = candidates
        .iter_mut()
        .filter(|candidate| candidate.quota > 0)
        .max_by_key(|candidate| mix(candidate.seed ^ (u64::from(slot) << 32 | u64::from(slot))))
        .expect("the quotas add up to the number of slots");
    best.quota -= 1;
    best.endpoint
}

/// The finaliser of splitmix64: every bit of the input moves half of the output's.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
