//! Affinity and anti-affinity between pods.
//!
//! A domain is the nodes that share a label's value. The pod may demand to be in a domain where other pods run, or where
//! they do not; pods that run may demand that others stay away. Both may also wish, which makes scores.
//!
//! Source: `plugins/interpodaffinity`.

use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{Labels, NodeInfo, PodInfo, Term};
use crate::tally::{NodeCounts, PodMatcher, PodQuery};

#[derive(Debug)]
pub(super) struct InterPodAffinity;

impl Plugin for InterPodAffinity {
    fn name(&self) -> &'static str {
        "InterPodAffinity"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, cache: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        let demands = Demands::gather(pod, cache);
        (!demands.are_void()).then(|| Box::new(demands) as _)
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        cache: &'a Cache,
        _: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let wishes = wishes(pod, cache);
        (!wishes.is_empty()).then(|| Box::new(Wishes(wishes)) as _)
    }

    fn weight(&self) -> i64 {
        2
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        match event {
            ClusterEvent::Node { before, now } => is_turned_by_node(pod, before, now),
            ClusterEvent::Pod { before, now } => is_turned_by_pod(pod, before, now),
        }
    }
}

/// Numbers of pods by topology key and value.
#[derive(Debug, Clone, Default)]
struct Domains(Vec<(CompactString, HashMap<CompactString, i64>)>);

impl Domains {
    fn add(&mut self, node: &NodeInfo, key: &str, by: i64) {
        let Some(value) = node.label(key) else { return };
        let at = self.0.iter().position(|(other, _)| other == key);
        let at = at.unwrap_or_else(|| {
            self.0.push((key.into(), HashMap::new()));
            self.0.len() - 1
        });
        let counts = &mut self.0[at].1;
        match counts.get_mut(value) {
            Some(count) => *count += by,
            None => drop(counts.insert(value.into(), by)),
        }
    }

    fn add_all(&mut self, cache: &Cache, counts: &NodeCounts, key: &str, weight: i64) {
        for (id, count) in counts {
            self.add(cache.at(*id), key, count * weight);
        }
    }

    /// The number in the node's domain; `None` when the node is in none.
    fn at(&self, node: &NodeInfo, key: &str) -> Option<i64> {
        let value = node.label(key)?;
        let counts = self.0.iter().find(|(other, _)| other == key);
        Some(
            counts
                .and_then(|(_, counts)| counts.get(value))
                .copied()
                .unwrap_or(0),
        )
    }

    fn is_empty(&self) -> bool {
        self.0
            .iter()
            .all(|(_, counts)| counts.values().all(|count| *count == 0))
    }
}

/// A term of the pod that is to be placed: its namespaces are those that its selector means now.
struct OwnTerm<'a> {
    matcher: PodMatcher,
    topology_key: &'a str,
}

impl<'a> OwnTerm<'a> {
    fn of(term: &'a Term, cache: &Cache) -> Self {
        Self {
            matcher: PodMatcher {
                namespaces: cache
                    .surroundings
                    .namespaces_of(&term.namespaces, &term.namespace_selector),
                selector: term.selector.clone(),
            },
            topology_key: &term.topology_key,
        }
    }

    fn count(&self, cache: &Cache) -> Arc<NodeCounts> {
        cache.count(query(vec![self.matcher.clone()]))
    }
}

fn query(all_of: Vec<PodMatcher>) -> PodQuery {
    PodQuery {
        all_of,
        skips_deleting: false,
    }
}

/// What the pod and the others demand of its place.
struct Demands<'a> {
    pod: &'a PodInfo,
    /// Labels of its namespace.
    namespace: Labels,
    near: Vec<OwnTerm<'a>>,
    apart: Vec<OwnTerm<'a>>,
    /// Pods that all terms of `near` mean.
    friends: Domains,
    /// Pods that a term of `apart` means.
    foes: Domains,
    /// Pods that want this one away from their domain.
    rejecting: Domains,
}

impl<'a> Demands<'a> {
    fn gather(pod: &'a PodInfo, cache: &'a Cache) -> Self {
        let own = |terms: &'a [Arc<Term>]| terms.iter().map(|term| OwnTerm::of(term, cache)).collect();
        let terms = pod.terms.as_deref();
        let mut demands = Self {
            pod,
            namespace: cache.surroundings.namespace_labels(&pod.key.namespace),
            near: terms.map_or_else(Vec::new, |terms| own(&terms.near)),
            apart: terms.map_or_else(Vec::new, |terms| own(&terms.apart)),
            friends: Domains::default(),
            foes: Domains::default(),
            rejecting: Domains::default(),
        };
        if !demands.near.is_empty() {
            let all = demands.near.iter().map(|term| term.matcher.clone()).collect();
            let counts = cache.count(query(all));
            for term in &demands.near {
                demands.friends.add_all(cache, &counts, term.topology_key, 1);
            }
        }
        for term in &demands.apart {
            demands
                .foes
                .add_all(cache, &term.count(cache), term.topology_key, 1);
        }
        for (term, counts) in &cache.held_terms().apart {
            if term.is_about(pod, &demands.namespace) {
                demands.rejecting.add_all(cache, counts, &term.topology_key, 1);
            }
        }
        demands
    }

    fn are_void(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.rejecting.is_empty()
    }

    /// Whether the pod would be with those it wants to be with. The first of pods that want each other is let in
    /// anywhere in a domain.
    fn has_friends(&self, node: &NodeInfo) -> bool {
        let mut found = true;
        for term in &self.near {
            match self.friends.at(node, term.topology_key) {
                None => return false,
                Some(count) => found &= count > 0,
            }
        }
        found || (self.friends.is_empty() && self.near.iter().all(|term| term.matcher.matches(self.pod)))
    }
}

impl NodeFilter for Demands<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if !self.has_friends(node) {
            return Err(Unfit::unresolvable("node(s) didn't match pod affinity rules"));
        }
        let mut apart = self.apart.iter();
        if apart.any(|term| self.foes.at(node, term.topology_key) > Some(0)) {
            return Err(Unfit::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        let mut rejecting = self.rejecting.0.iter();
        if rejecting.any(|(key, _)| self.rejecting.at(node, key) > Some(0)) {
            return Err(Unfit::resolvable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if !self.near.is_empty() && self.near.iter().all(|term| term.matcher.matches(other)) {
            for term in &self.near {
                self.friends.add(node, term.topology_key, by);
            }
        }
        for term in self.apart.iter().filter(|term| term.matcher.matches(other)) {
            self.foes.add(node, term.topology_key, by);
        }
        for term in other.terms.iter().flat_map(|terms| &terms.apart) {
            if term.is_about(self.pod, &self.namespace) {
                self.rejecting.add(node, &term.topology_key, by);
            }
        }
    }
}

/// The weights of what the pod wishes of others and others of it, by domain.
fn wishes(pod: &PodInfo, cache: &Cache) -> Domains {
    let mut sums = Domains::default();
    for (term, weight) in pod.terms.iter().flat_map(|terms| &terms.wishes) {
        let counts = OwnTerm::of(term, cache).count(cache);
        sums.add_all(cache, &counts, &term.topology_key, *weight);
    }
    let held = &cache.held_terms().wishes;
    if held.is_empty() {
        return sums;
    }
    let namespace = cache.surroundings.namespace_labels(&pod.key.namespace);
    for ((term, weight), counts) in held {
        if term.is_about(pod, &namespace) {
            sums.add_all(cache, counts, &term.topology_key, *weight);
        }
    }
    sums
}

struct Wishes(Domains);

impl NodeScore for Wishes {
    fn score(&self, node: &NodeInfo) -> i64 {
        let keys = self.0.0.iter();
        keys.filter_map(|(key, _)| self.0.at(node, key)).sum()
    }

    fn normalise(&self, scores: &mut [i64], _: &[&NodeInfo]) {
        let least = scores.iter().copied().min().unwrap_or(0);
        let range = scores.iter().copied().max().unwrap_or(0) - least;
        for score in scores {
            *score = if range > 0 {
                (100.0 * ((*score - least) as f64 / range as f64)) as i64
            } else {
                0
            };
        }
    }
}

/// Whether a new or relabelled node may be one where the pod's demands are met.
fn is_turned_by_node(pod: &PodInfo, before: Option<&NodeInfo>, now: Option<&NodeInfo>) -> bool {
    let Some(now) = now else { return false };
    let terms = pod.terms.as_deref();
    let near = terms.map_or(&[][..], |terms| &terms.near);
    let apart = terms.map_or(&[][..], |terms| &terms.apart);
    let Some(before) = before else {
        // A pod that others keep away, or that keeps away from others, may go to any node that comes.
        return near.is_empty()
            || !apart.is_empty()
            || near.iter().any(|term| now.label(&term.topology_key).is_some());
    };
    let moved = |term: &Arc<Term>| before.label(&term.topology_key) != now.label(&term.topology_key);
    near.iter()
        .any(|term| moved(term) && now.label(&term.topology_key).is_some())
        || apart
            .iter()
            .any(|term| moved(term) && before.label(&term.topology_key).is_some())
}

fn is_turned_by_pod(pod: &PodInfo, before: Option<&PodInfo>, now: Option<&PodInfo>) -> bool {
    let terms = pod.terms.as_deref();
    // Selectors of namespaces may have changed their minds since; the next attempt looks closely.
    let means = |term: &Arc<Term>, other: &PodInfo| {
        let there = term.namespaces.contains(&other.key.namespace) || !term.namespace_selector.is_nothing();
        there && term.selector.matches(other.labels.as_ref())
    };
    let is_friend = |other: &PodInfo| {
        let near = terms.map_or(&[][..], |terms| &terms.near);
        !near.is_empty() && near.iter().all(|term| means(term, other))
    };
    let is_foe = |other: &PodInfo| {
        let mut apart = terms.iter().flat_map(|terms| &terms.apart);
        apart.any(|term| means(term, other))
    };
    let rejects = |other: &PodInfo| {
        let mut held = other.terms.iter().flat_map(|terms| &terms.apart);
        held.any(|term| means(term, pod))
    };
    match (before, now) {
        (None, Some(now)) => is_friend(now),
        (Some(before), None) => is_foe(before) || rejects(before),
        (Some(before), Some(now)) => {
            (!is_friend(before) && is_friend(now)) || (is_foe(before) && !is_foe(now))
        }
        (None, None) => false,
    }
}

#[cfg(test)]
mod tests;
