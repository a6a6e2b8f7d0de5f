//! How even the spread would be, as a score: the soft constraints of a pod, or the cluster's default ones.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::Arc;

use super::{HOSTNAME, counted, is_included, is_plain};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo, Spread};
use crate::plugins::NodeScore;
use crate::plugins::affinity::selects;
use crate::tally::{DomainCounts, NodeCounts, change_domain};

/// Upstream's system defaults: topology key and skew.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];

struct Constraint<'a> {
    spread: Cow<'a, Spread>,
    pods: Pods,
    /// The more domains, the more a pod of one weighs: else the constraint with few domains would outweigh the others.
    weight: f64,
}

enum Pods {
    /// Host names are the domains.
    OnNodes(Arc<NodeCounts>),
    InDomains(Arc<DomainCounts>),
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
            spread,
            pods: Pods::OnNodes(Arc::default()),
            weight: 0.0,
        };
        let mut evenness = Self {
            constraints: spreads.into_iter().map(constraint).collect(),
            demands_labels: !pod.spread.is_empty(),
        };
        let spreads = || evenness.constraints.iter().map(|constraint| &*constraint.spread);
        let plain = if evenness.demands_labels {
            is_plain(pod, spreads(), cache)
        } else {
            !selects(pod)
        };
        for at in 0..evenness.constraints.len() {
            evenness.constraints[at].pods = evenness.pods(at, pod, cache, plain);
            evenness.constraints[at].weight = (evenness.domains(at, fitting) as f64 + 2.0).ln();
        }
        Some(evenness)
    }

    fn counts(&self, node: &NodeInfo) -> bool {
        let mut keys = self
            .constraints
            .iter()
            .map(|constraint| &constraint.spread.topology_key);
        !self.demands_labels || keys.all(|key| node.label(key).is_some())
    }

    /// How many domains of the constraint the fitting nodes are in. Nodes without the label are one of them, as upstream
    /// has it.
    fn domains(&self, at: usize, fitting: &[&NodeInfo]) -> usize {
        let key = &self.constraints[at].spread.topology_key;
        let scored = fitting.iter().filter(|node| self.counts(node));
        if key == HOSTNAME {
            return scored.count();
        }
        let values: HashSet<_> = scored.map(|node| node.label(key)).collect();
        values.len()
    }

    fn pods(&self, at: usize, pod: &PodInfo, cache: &Cache, plain: bool) -> Pods {
        let spread = &self.constraints[at].spread;
        let key = &spread.topology_key;
        let Some(query) = counted(pod, spread) else {
            return Pods::OnNodes(Arc::default());
        };
        if key == HOSTNAME {
            return Pods::OnNodes(cache.count(query));
        }
        if plain {
            return Pods::InDomains(cache.count_by(query, key));
        }
        let mut pods = DomainCounts::new();
        for (id, count) in cache.count(query).iter() {
            let node = cache.at(*id);
            if node.known && self.counts(node) && is_included(spread, pod, node) {
                change_domain(&mut pods, node, key, *count);
            }
        }
        Pods::InDomains(Arc::new(pods))
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
            let domain = node.label(&constraint.spread.topology_key)?;
            let pods = match &constraint.pods {
                Pods::OnNodes(counts) => counts.get(&node.id),
                Pods::InDomains(counts) => counts.get(domain),
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
