//! Topology spread: pods of a kind are spread over domains, such as zones.
//!
//! Source: `plugins/podtopologyspread`. The cluster's default constraints are upstream's system defaults: pods of one
//! workload or Service are spread over nodes and zones as far as scores can do it.

mod score;

use std::collections::{BTreeMap, HashMap};

use compact_str::CompactString;

use super::affinity::is_selected;
use super::taints::are_tolerated;
use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo, Spread};
use crate::tally::{Namespaces, PodMatcher, PodQuery};

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

/// The pods of one constraint by domain.
struct Domains<'a> {
    constraint: &'a Spread,
    pods: HashMap<CompactString, i64>,
    /// How many domains have how many pods.
    levels: BTreeMap<i64, usize>,
    /// Whether the pod itself counts.
    own: i64,
}

impl Domains<'_> {
    fn add(&mut self, domain: &str, by: i64) {
        let pods = self.pods.get_mut(domain);
        let before = pods.as_deref().copied();
        let now = before.unwrap_or(0) + by;
        match pods {
            Some(pods) => *pods = now,
            None => drop(self.pods.insert(domain.into(), now)),
        }
        if let Some(before) = before
            && let Some(count) = self.levels.get_mut(&before)
        {
            *count -= 1;
            if *count == 0 {
                self.levels.remove(&before);
            }
        }
        *self.levels.entry(now).or_insert(0) += 1;
    }

    /// The fewest pods of a domain; with fewer domains than demanded there is an empty one to come.
    fn fewest(&self) -> i64 {
        if self.pods.len() < self.constraint.min_domains {
            return 0;
        }
        // Without any domain nothing is refused for its skew.
        self.levels.keys().next().copied().unwrap_or(i64::MAX / 2)
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
            pods: HashMap::new(),
            levels: BTreeMap::new(),
            own: own(constraint),
        });
        let mut skew = Self {
            pod,
            domains: domains.collect(),
        };
        let counts: Vec<_> = hard(pod)
            .map(|constraint| counted(pod, constraint).map(|query| cache.count(query)))
            .collect();
        for node in cache.nodes() {
            if !skew.has_all_labels(node) {
                continue;
            }
            for (domains, counts) in skew.domains.iter_mut().zip(&counts) {
                let there = counts.as_ref().and_then(|counts| counts.get(&node.id));
                if is_included(domains.constraint, pod, node)
                    && let Some(domain) = node.label(&domains.constraint.topology_key)
                {
                    domains.add(domain, there.copied().unwrap_or(0));
                }
            }
        }
        skew
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
                && let Some(domain) = node.label(&constraint.topology_key)
            {
                domains.add(domain, by);
            }
        }
    }
}

#[cfg(test)]
mod tests;
