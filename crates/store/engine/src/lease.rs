//! Leases: who holds which keys, and until when.
//!
//! The table is part of the state and changes only with a commit; deadlines are in memory only and begin anew after a
//! restart. Time is tokio's, so that a test can pause and advance it.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::model::LeaseId;

/// As etcd has it; beyond it, deadlines would overflow.
const MAX_TTL: Duration = Duration::from_hours(2_500_000);

#[derive(Debug, Clone)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: HashSet<Bytes>,
}

#[derive(Debug, Default)]
pub(crate) struct LeaseTable {
    leases: HashMap<LeaseId, Lease>,
}

impl LeaseTable {
    pub(crate) fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    pub(crate) fn grant(&mut self, id: LeaseId, ttl: Duration, now: Instant) {
        let ttl = ttl.min(MAX_TTL);
        self.leases.insert(
            id,
            Lease {
                ttl,
                deadline: now + ttl,
                keys: HashSet::new(),
            },
        );
    }

    pub(crate) fn remove(&mut self, id: LeaseId) {
        self.leases.remove(&id);
    }

    pub(crate) fn keep_alive(&mut self, id: LeaseId, now: Instant) -> Option<Duration> {
        let lease = self.leases.get_mut(&id)?;
        lease.deadline = now + lease.ttl;
        Some(lease.ttl)
    }

    /// An id that is free: one above the highest, or the lowest there is.
    pub(crate) fn free_id(&self) -> LeaseId {
        let highest = self.leases.keys().map(|id| id.0).max().unwrap_or(0);
        let above = highest.checked_add(1).map(LeaseId);
        above
            .or_else(|| (1..=u64::MAX).map(LeaseId).find(|id| !self.contains(*id)))
            .expect("fewer than 2^64 leases")
    }

    /// Records that `key` moved from one lease to another.
    pub(crate) fn reattach(&mut self, key: &Bytes, from: Option<LeaseId>, to: Option<LeaseId>) {
        if let Some(lease) = from.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.remove(key);
        }
        if let Some(lease) = to.and_then(|id| self.leases.get_mut(&id)) {
            lease.keys.insert(key.clone());
        }
    }

    /// The keys of a lease, in byte order.
    pub(crate) fn keys(&self, id: LeaseId) -> Vec<Bytes> {
        let mut keys: Vec<_> = self
            .leases
            .get(&id)
            .map(|l| l.keys.iter().cloned().collect())
            .unwrap_or_default();
        keys.sort();
        keys
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|l| l.deadline).min()
    }

    pub(crate) fn expired(&self, now: Instant) -> Vec<LeaseId> {
        self.leases
            .iter()
            .filter(|(_, l)| l.deadline <= now)
            .map(|(id, _)| *id)
            .collect()
    }

    pub(crate) fn is_expired(&self, id: LeaseId, now: Instant) -> bool {
        self.leases.get(&id).is_some_and(|l| l.deadline <= now)
    }

    /// Every lease with its time to live, by id.
    pub(crate) fn list(&self) -> Vec<(LeaseId, Duration)> {
        let mut all: Vec<_> = self.leases.iter().map(|(id, l)| (*id, l.ttl)).collect();
        all.sort();
        all
    }
}
