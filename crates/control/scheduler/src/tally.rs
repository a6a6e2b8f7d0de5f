//! How many pods of a kind run on each node, kept up to date instead of counted anew.
//!
//! A [`PodQuery`] that was asked once is counted along with every pod that comes and goes, so the hundredth replica with
//! the same constraint costs no look at the other pods of the cluster.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use cloudeck_machinery::selector::LabelSelector;
use compact_str::CompactString;

use crate::model::{NodeId, NodeInfo, PodInfo, Term};

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

/// Numbers of pods by node; nodes without any are absent.
pub type NodeCounts = HashMap<NodeId, i64>;

/// Numbers of pods by the value that their nodes have for a label; values without any pod are absent.
pub type DomainCounts = HashMap<CompactString, i64>;

fn change(counts: &mut NodeCounts, node: NodeId, by: i64) {
    let count = counts.entry(node).or_insert(0);
    *count += by;
    if *count == 0 {
        counts.remove(&node);
    }
}

/// Adds pods to the domain that the node is in, if it is in any.
pub fn change_domain(counts: &mut DomainCounts, node: &NodeInfo, key: &str, by: i64) {
    let Some(value) = node.label(key) else { return };
    match counts.get_mut(value) {
        Some(count) => {
            *count += by;
            if *count == 0 {
                counts.remove(value);
            }
        }
        None => drop(counts.insert(value.into(), by)),
    }
}

#[derive(Debug, Default)]
struct Tally {
    on_nodes: Arc<NodeCounts>,
    /// By topology key, as far as it was asked for.
    in_domains: Vec<(CompactString, Arc<DomainCounts>)>,
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

impl Inner {
    /// The tally of a query; `count` counts when it is not kept.
    fn tally(&mut self, query: PodQuery, count: impl FnOnce(&PodQuery) -> NodeCounts) -> &mut Tally {
        self.asked += 1;
        if !self.by_query.contains_key(&query) && self.by_query.len() >= KEPT_QUERIES {
            let oldest = self.by_query.iter().min_by_key(|(_, tally)| tally.asked);
            if let Some(oldest) = oldest.map(|(query, _)| query.clone()) {
                self.by_query.remove(&oldest);
            }
        }
        let tally = match self.by_query.entry(query) {
            Entry::Occupied(kept) => kept.into_mut(),
            Entry::Vacant(vacant) => {
                let counts = Arc::new(count(vacant.key()));
                vacant.insert(Tally {
                    on_nodes: counts,
                    ..Tally::default()
                })
            }
        };
        tally.asked = self.asked;
        tally
    }
}

impl Tallies {
    /// The counts of a query by node; `count` counts when it is not kept.
    pub fn on_nodes(&self, query: PodQuery, count: impl FnOnce(&PodQuery) -> NodeCounts) -> Arc<NodeCounts> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&inner.tally(query, count).on_nodes)
    }

    /// The counts of a query by the domains of a topology key; `node` finds nodes.
    pub fn in_domains<'n>(
        &self,
        query: PodQuery,
        key: &str,
        count: impl FnOnce(&PodQuery) -> NodeCounts,
        node: impl Fn(NodeId) -> &'n NodeInfo,
    ) -> Arc<DomainCounts> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = inner.tally(query, count);
        if let Some((_, counts)) = tally.in_domains.iter().find(|(other, _)| other == key) {
            return Arc::clone(counts);
        }
        let mut counts = DomainCounts::new();
        for (id, count) in tally.on_nodes.iter() {
            change_domain(&mut counts, node(*id), key, *count);
        }
        let counts = Arc::new(counts);
        tally.in_domains.push((key.into(), Arc::clone(&counts)));
        counts
    }

    /// A pod came to the node (`by` is 1) or left it (-1).
    pub fn change(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let inner = self.inner.get_mut().unwrap_or_else(PoisonError::into_inner);
        for (query, tally) in &mut inner.by_query {
            if query.matches(pod) {
                change(Arc::make_mut(&mut tally.on_nodes), node.id, by);
                for (key, counts) in &mut tally.in_domains {
                    change_domain(Arc::make_mut(counts), node, key, by);
                }
            }
        }
    }
}

/// The terms that placed pods hold, each once, with the numbers of its holders by domain. Terms whose holders are in no
/// domain are absent.
#[derive(Debug, Default)]
pub struct HeldTerms {
    /// Terms that keep other pods away.
    pub apart: HashMap<Arc<Term>, Arc<DomainCounts>>,
    /// Terms by their weight in the scores of other pods; terms that holders demand weigh 1.
    pub wishes: HashMap<(Arc<Term>, i64), Arc<DomainCounts>>,
}

/// Upstream's `hardPodAffinityWeight`.
const DEMAND_WEIGHT: i64 = 1;

impl HeldTerms {
    /// A pod came to the node (`by` is 1) or left it (-1).
    pub fn change(&mut self, pod: &PodInfo, node: &NodeInfo, by: i64) {
        let Some(terms) = &pod.terms else { return };
        for term in &terms.apart {
            alter(&mut self.apart, Arc::clone(term), (node, &term.topology_key), by);
        }
        let demands = terms.near.iter().map(|term| (Arc::clone(term), DEMAND_WEIGHT));
        for wish in terms.wishes.iter().cloned().chain(demands) {
            let key = wish.0.topology_key.clone();
            alter(&mut self.wishes, wish, (node, &key), by);
        }
    }
}

fn alter<K: Eq + Hash + Clone>(
    table: &mut HashMap<K, Arc<DomainCounts>>,
    entry: K,
    (node, key): (&NodeInfo, &str),
    by: i64,
) {
    let counts = table.entry(entry.clone()).or_default();
    change_domain(Arc::make_mut(counts), node, key, by);
    if counts.is_empty() {
        table.remove(&entry);
    }
}
