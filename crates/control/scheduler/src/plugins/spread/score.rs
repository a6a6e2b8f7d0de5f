//! How even the spread would be, as a score: the soft constraints of a pod, or the cluster's default ones.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::{HOSTNAME, counted, is_included};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo, Spread};
use crate::plugins::NodeScore;
use crate::tally::NodeCounts;

/// Upstream's system defaults: topology key and skew.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

struct Constraint<'a> {
    spread: Cow<'a, Spread>,
    on_nodes: Option<Arc<NodeCounts>>,
    /// Pods by domain, of the domains that the fitting nodes are in; empty for host names, whose counts are those of
    /// the nodes.
    in_domains: HashMap<CompactString, i64>,
    /// The more domains, the more a pod of one weighs: else the constraint with few domains would outweigh the others.
    weight: f64,
}

pub(super) struct Evenness<'a> {
    constraints: Vec<Constraint<'a>>,
    /// Whether nodes without one of the labels are left out.
    demands_labels: bool,
}

impl<'a> Evenness<'a> {
    pub(super) fn measure(pod: &'a PodInfo, cache: &'a Cache, fitting: &[&'a NodeInfo]) -> Option<Self> {
        let spreads = soft(pod, cache);
        if spreads.is_empty() {
            return None;
        }
        let constraint = |spread: Cow<'a, Spread>| Constraint {
            on_nodes: counted(pod, &spread).map(|query| cache.count(query)),
            spread,
            in_domains: HashMap::new(),
            weight: 0.0,
        };
        let mut evenness = Self {
            constraints: spreads.into_iter().map(constraint).collect(),
            demands_labels: !pod.spread.is_empty(),
        };
        evenness.find_domains(fitting);
        evenness.count_domains(pod, cache);
        Some(evenness)
    }

    fn counts(&self, node: &NodeInfo) -> bool {
        let mut keys = self
            .constraints
            .iter()
            .map(|constraint| &constraint.spread.topology_key);
        !self.demands_labels || keys.all(|key| node.label(key).is_some())
    }

    fn find_domains(&mut self, fitting: &[&NodeInfo]) {
        let scored: Vec<_> = fitting.iter().filter(|node| self.counts(node)).collect();
        for constraint in &mut self.constraints {
            let key = constraint.spread.topology_key.as_str();
            let size = if key == HOSTNAME {
                scored.len()
            } else {
                for node in &scored {
                    let domain = node.label(key).unwrap_or_default();
                    if !constraint.in_domains.contains_key(domain) {
                        constraint.in_domains.insert(domain.into(), 0);
                    }
                }
                constraint.in_domains.len()
            };
            constraint.weight = (size as f64 + 2.0).ln();
        }
    }

    fn count_domains(&mut self, pod: &PodInfo, cache: &Cache) {
        for at in 0..self.constraints.len() {
            let counts = self.constraints[at].on_nodes.clone();
            let is_scored_by_domain = !self.constraints[at].in_domains.is_empty();
            for (id, count) in counts
                .iter()
                .filter(|_| is_scored_by_domain)
                .flat_map(|c| c.iter())
            {
                let node = cache.at(*id);
                if !node.known || !self.counts(node) {
                    continue;
                }
                let constraint = &mut self.constraints[at];
                if !is_included(&constraint.spread, pod, node) {
                    continue;
                }
                let domain = node.label(&constraint.spread.topology_key).unwrap_or_default();
                if let Some(pods) = constraint.in_domains.get_mut(domain) {
                    *pods += count;
                }
            }
        }
    }
}

/// A pod's own soft constraints, or without any of its own the default ones, if there is anything to spread it among.
fn soft<'a>(pod: &'a PodInfo, cache: &Cache) -> Vec<Cow<'a, Spread>> {
    if !pod.spread.is_empty() {
        let own = pod.spread.iter().filter(|constraint| !constraint.hard);
        return own.map(Cow::Borrowed).collect();
    }
    let Some(siblings) = cache.surroundings.siblings_of(pod) else {
        return Vec::new();
    };
    let constraint = |(key, max_skew): (&str, i64)| Spread {
        max_skew,
        topology_key: key.into(),
        selector: siblings.selector.clone(),
        hard: false,
        min_domains: 1,
        honours_affinity: true,
        honours_taints: false,
    };
    DEFAULTS
        .into_iter()
        .map(|default| Cow::Owned(constraint(default)))
        .collect()
}

impl NodeScore for Evenness<'_> {
    /// The weighed number of pods that are there already.
    fn score(&self, node: &NodeInfo) -> i64 {
        if !self.counts(node) {
            return 0;
        }
        let score = self.constraints.iter().filter_map(|constraint| {
            let key = &constraint.spread.topology_key;
            let domain = node.label(key)?;
            let pods = if key == HOSTNAME {
                constraint
                    .on_nodes
                    .as_ref()
                    .and_then(|counts| counts.get(&node.id))
            } else {
                constraint.in_domains.get(domain)
            };
            let pods = pods.copied().unwrap_or(0) as f64;
            Some(pods * constraint.weight + (constraint.spread.max_skew - 1) as f64)
        });
        score.sum::<f64>().round() as i64
    }

    /// The fewer the better; nodes without the labels get nothing.
    fn normalise(&self, scores: &mut [i64], nodes: &[&NodeInfo]) {
        let counted = || nodes.iter().map(|node| self.counts(node));
        let among = |scores: &[i64]| {
            let among = scores.iter().zip(counted()).filter(|(_, counted)| *counted);
            among.map(|(score, _)| *score).collect::<Vec<i64>>()
        };
        let among = among(scores);
        let least = among.iter().copied().min().unwrap_or(0);
        let most = among.iter().copied().max().unwrap_or(0);
        for (score, counted) in scores.iter_mut().zip(counted()) {
            *score = match (counted, most) {
                (false, _) => 0,
                (true, 0) => 100,
                (true, most) => 100 * (most + least - *score) / most,
            };
        }
    }
}
