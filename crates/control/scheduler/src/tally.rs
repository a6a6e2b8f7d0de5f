//! How many pods of a kind run on each node, kept up to date instead of counted anew.
//!
//! A [`PodQuery`] that was asked once is counted along with every pod that comes and goes, so the hundredth replica with
//! the same constraint costs no look at the other pods of the cluster.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use cloudeck_machinery::selector::LabelSelector;
use compact_str::CompactString;

use crate::model::{NodeId, PodInfo, Term};

/// How many queries are kept; each costs a comparison for every pod that comes or goes. More than that many kinds of
/// pods with constraints at the same time are counted anew now and then.
const KEPT_QUERIES: usize = 256;

/// The namespaces that are meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Namespaces {
    All,
    Listed(BTreeSet<CompactString>),
}

/// Pods of some namespaces with some labels.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodMatcher {
    pub namespaces: Namespaces,
    pub selector: LabelSelector,
}

impl PodMatcher {
    pub fn matches(&self, pod: &PodInfo) -> bool {
        let there = match &self.namespaces {
            Namespaces::All => true,
            Namespaces::Listed(listed) => listed.contains(&pod.key.namespace),
        };
        there && self.selector.matches(pod.labels.as_ref())
    }
}

/// Which pods are counted: those that all of the matchers mean.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PodQuery {
    pub all_of: Vec<PodMatcher>,
    /// Pods that are being deleted do not count.
    pub skips_deleting: bool,
}

impl PodQuery {
    pub fn matches(&self, pod: &PodInfo) -> bool {
        !(self.skips_deleting && pod.deleting) && self.all_of.iter().all(|matcher| matcher.matches(pod))
    }
}

/// Numbers of pods; nodes without any are absent.
pub type NodeCounts = HashMap<NodeId, i64>;

fn change(counts: &mut NodeCounts, node: NodeId, by: i64) {
    let count = counts.entry(node).or_insert(0);
    *count += by;
    if *count == 0 {
        counts.remove(&node);
    }
}

#[derive(Debug)]
struct Tally {
    counts: Arc<NodeCounts>,
    /// When it was last asked for.
    asked: u64,
}

/// The queries that are kept.
#[derive(Debug, Default)]
pub struct Tallies {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_query: HashMap<PodQuery, Tally>,
    asked: u64,
}

impl Tallies {
    /// The counts of a query; `count` counts when it is not kept.
    pub fn of(&self, query: PodQuery, count: impl FnOnce(&PodQuery) -> NodeCounts) -> Arc<NodeCounts> {
        let mut guard = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        inner.asked += 1;
        if let Some(tally) = inner.by_query.get_mut(&query) {
            tally.asked = inner.asked;
            return Arc::clone(&tally.counts);
        }
        if inner.by_query.len() >= KEPT_QUERIES {
            let oldest = inner.by_query.iter().min_by_key(|(_, tally)| tally.asked);
            if let Some(oldest) = oldest.map(|(query, _)| query.clone()) {
                inner.by_query.remove(&oldest);
            }
        }
        let counts = Arc::new(count(&query));
        let tally = Tally {
            counts: Arc::clone(&counts),
            asked: inner.asked,
        };
        inner.by_query.insert(query, tally);
        counts
    }

    /// A pod came to the node (`by` is 1) or left it (-1).
    pub fn change(&mut self, pod: &PodInfo, node: NodeId, by: i64) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (query, tally) in &mut inner.by_query {
            if query.matches(pod) {
                change(Arc::make_mut(&mut tally.counts), node, by);
            }
        }
    }
}

/// The terms that placed pods hold, each once, with the numbers of its holders.
#[derive(Debug, Default)]
pub struct HeldTerms {
    /// Terms that keep other pods away.
    pub apart: HashMap<Arc<Term>, NodeCounts>,
    /// Terms by their weight in the scores of other pods; terms that holders demand weigh 1.
    pub wishes: HashMap<(Arc<Term>, i64), NodeCounts>,
}

/// Upstream's `hardPodAffinityWeight`.
const DEMAND_WEIGHT: i64 = 1;

impl HeldTerms {
    /// A pod came to the node (`by` is 1) or left it (-1).
    pub fn change(&mut self, pod: &PodInfo, node: NodeId, by: i64) {
        let Some(terms) = &pod.terms else { return };
        for term in &terms.apart {
            alter(&mut self.apart, Arc::clone(term), node, by);
        }
        let demands = terms.near.iter().map(|term| (Arc::clone(term), DEMAND_WEIGHT));
        for wish in terms.wishes.iter().cloned().chain(demands) {
            alter(&mut self.wishes, wish, node, by);
        }
    }
}

fn alter<K: Eq + std::hash::Hash + Clone>(table: &mut HashMap<K, NodeCounts>, key: K, node: NodeId, by: i64) {
    let counts = table.entry(key.clone()).or_default();
    change(counts, node, by);
    if counts.is_empty() {
        table.remove(&key);
    }
}
