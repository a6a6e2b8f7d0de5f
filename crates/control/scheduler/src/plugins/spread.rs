//! Topology spread: pods of a kind are spread over domains, such as zones.
//!
//! Source: `plugins/podtopologyspread`. The cluster's default constraints are upstream's system defaults: pods of one
//! workload or Service are spread over nodes and zones as far as scores can do it.

mod score;

use std::cell::Cell;
use std::collections::HashSet;
use std::sync::Arc;

use super::affinity::{is_selected, selects};
use super::taints::are_tolerated;
use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo, Spread};
use crate::tally::{DomainCounts, Namespaces, PodMatcher, PodQuery, change_domain};

const HOSTNAME: &str = "kubernetes.io/hostname";
const MISMATCH: &str = "node(s) didn't match pod topology spread constraints";
const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";

#[derive(Debug)]
pub(super) struct PodTopologySpread;

impl Plugin for PodTopologySpread {
    fn name(&self) -> &'static str {
        "PodTopologySpread"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, cache: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        pod.spread
            .iter()
            .any(|constraint| constraint.hard)
            .then(|| Box::new(Skew::measure(pod, cache)) as _)
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        cache: &'a Cache,
        fitting: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        score::Evenness::measure(pod, cache, fitting).map(|evenness| Box::new(evenness) as _)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        let constraints = || hard(pod);
        match event {
            ClusterEvent::Node { before, now } => {
                let counts = |node: &NodeInfo| constraints().all(|c| node.label(&c.topology_key).is_some());
                match (before, now) {
                    (Some(before), Some(now)) if counts(before) && counts(now) => {
                        before.taints != now.taints
                            || constraints()
                                .any(|c| before.label(&c.topology_key) != now.label(&c.topology_key))
                    }
                    (Some(before), Some(now)) => counts(before) != counts(now),
                    (one, other) => one.or(other).is_some_and(counts),
                }
            }
            ClusterEvent::Pod { before, now } => {
                let near = |other: &&PodInfo| other.key.namespace == pod.key.namespace;
                let counts = |c: &Spread, other: Option<&PodInfo>| {
                    other
                        .filter(near)
                        .is_some_and(|other| !other.deleting && c.selector.matches(other.labels.as_ref()))
                };
                constraints().any(|c| counts(c, before) != counts(c, now))
            }
        }
    }
}

fn hard(pod: &PodInfo) -> impl Iterator<Item = &Spread> {
    pod.spread.iter().filter(|constraint| constraint.hard)
}

/// The pods that count for the constraint. A selector that restricts nothing counts nothing, as upstream has it.
fn counted(pod: &PodInfo, constraint: &Spread) -> Option<PodQuery> {
    if constraint.selector.is_everything() || constraint.selector.is_nothing() {
        return None;
    }
    let matcher = PodMatcher {
        namespaces: Namespaces::Listed([pod.key.namespace.clone()].into()),
        selector: constraint.selector.clone(),
    };
    Some(PodQuery {
        all_of: vec![matcher],
        skips_deleting: true,
    })
}

/// Whether the node is one of those over which the constraint spreads.
fn is_included(constraint: &Spread, pod: &PodInfo, node: &NodeInfo) -> bool {
    (!constraint.honours_affinity || is_selected(pod, node))
        && (!constraint.honours_taints || are_tolerated(&pod.tolerations, node))
}

/// Whether counts by domain need no look at the nodes: each of them is included, and has every label.
fn is_plain<'s>(pod: &PodInfo, mut constraints: impl Iterator<Item = &'s Spread>, cache: &Cache) -> bool {
    let selects = selects(pod);
    constraints.all(|constraint| {
        let looks = (constraint.honours_affinity && selects) || constraint.honours_taints;
        !looks && cache.topology(&constraint.topology_key).is_everywhere
    })
}

/// The pods of one constraint by domain.
struct Domains<'a> {
    constraint: &'a Spread,
    pods: Arc<DomainCounts>,
    /// How many domains there are, with pods and without.
    number: usize,
    /// The fewest pods of a domain, once it was asked for.
    fewest: Cell<Option<i64>>,
    /// Whether the pod itself counts.
    own: i64,
}

impl Domains<'_> {
    /// The fewest pods of a domain; with fewer domains than demanded there is an empty one to come.
    fn fewest(&self) -> i64 {
        if let Some(fewest) = self.fewest.get() {
            return fewest;
        }
        let fewest = if self.number < self.constraint.min_domains || self.pods.len() < self.number {
            0
        } else {
            self.pods.values().copied().min().unwrap_or(0)
        };
        self.fewest.set(Some(fewest));
        fewest
    }
}

/// How far from even the pods of the hard constraints are.
struct Skew<'a> {
    pod: &'a PodInfo,
    domains: Vec<Domains<'a>>,
}

impl<'a> Skew<'a> {
    fn measure(pod: &'a PodInfo, cache: &'a Cache) -> Self {
        let own = |c: &Spread| i64::from(c.selector.matches(pod.labels.as_ref()));
        let domains = hard(pod).map(|constraint| Domains {
            constraint,
            pods: Arc::default(),
            number: 0,
            fewest: Cell::default(),
            own: own(constraint),
        });
        let mut skew = Self {
            pod,
            domains: domains.collect(),
        };
        if is_plain(pod, hard(pod), cache) {
            for domains in &mut skew.domains {
                let key = &domains.constraint.topology_key;
                domains.number = cache.topology(key).domains;
                if let Some(query) = counted(pod, domains.constraint) {
                    domains.pods = cache.count_by(query, key);
                }
            }
        } else {
            skew.count_included(cache);
        }
        skew
    }

    /// Counts by a look at every node.
    fn count_included(&mut self, cache: &Cache) {
        for at in 0..self.domains.len() {
            let constraint = self.domains[at].constraint;
            let counts = counted(self.pod, constraint).map(|query| cache.count(query));
            let mut pods = DomainCounts::new();
            let mut there: HashSet<&str> = HashSet::new();
            let included = cache
                .nodes()
                .filter(|node| self.has_all_labels(node) && is_included(constraint, self.pod, node));
            for node in included {
                there.extend(node.label(&constraint.topology_key));
                if let Some(count) = counts.as_ref().and_then(|counts| counts.get(&node.id)) {
                    change_domain(&mut pods, node, &constraint.topology_key, *count);
                }
            }
            self.domains[at].number = there.len();
            self.domains[at].pods = Arc::new(pods);
        }
    }

    fn has_all_labels(&self, node: &NodeInfo) -> bool {
        let mut domains = self.domains.iter();
        domains.all(|domains| node.label(&domains.constraint.topology_key).is_some())
    }
}

impl NodeFilter for Skew<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        for domains in &self.domains {
            let Some(domain) = node.label(&domains.constraint.topology_key) else {
                return Err(Unfit::unresolvable(NO_LABEL));
            };
            let there = domains.pods.get(domain).copied().unwrap_or(0);
            if there + domains.own - domains.fewest() > domains.constraint.max_skew {
                return Err(Unfit::resolvable(MISMATCH));
            }
        }
        Ok(())
    }

    fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if other.key.namespace != self.pod.key.namespace || other.deleting || !self.has_all_labels(node) {
            return;
        }
        for domains in &mut self.domains {
            let constraint = domains.constraint;
            if !constraint.selector.is_everything()
                && constraint.selector.matches(other.labels.as_ref())
                && is_included(constraint, self.pod, node)
            {
                let pods = Arc::make_mut(&mut domains.pods);
                change_domain(pods, node, &constraint.topology_key, by);
                domains.fewest.set(None);
            }
        }
    }
}

#[cfg(test)]
mod tests;
