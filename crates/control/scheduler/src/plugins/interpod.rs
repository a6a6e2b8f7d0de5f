//! Affinity and anti-affinity between pods.
//!
//! A domain is the nodes that share a label's value. The pod may demand to be in a domain where other pods run, or where
//! they do not; pods that run may demand that others stay away. Both may also wish, which makes scores.
//!
//! Source: `plugins/interpodaffinity`.

use std::sync::Arc;

use compact_str::CompactString;

use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{Labels, NodeInfo, PodInfo, Term};
use crate::tally::{DomainCounts, PodMatcher, PodQuery, change_domain};

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

/// Pods of one term by its domains.
struct Domains {
    key: CompactString,
    pods: Arc<DomainCounts>,
}

impl Domains {
    fn add(&mut self, node: &NodeInfo, by: i64) {
        change_domain(Arc::make_mut(&mut self.pods), node, &self.key, by);
    }

    /// The number in the node's domain; `None` when the node is in none.
    fn at(&self, node: &NodeInfo) -> Option<i64> {
        let value = node.label(&self.key)?;
        Some(self.pods.get(value).copied().unwrap_or(0))
    }
}

/// A term of the pod that is to be placed, with the pods that count for it.
struct OwnTerm {
    /// Its namespaces are those that its selector means now.
    matcher: PodMatcher,
    domains: Domains,
}

fn matcher(term: &Term, cache: &Cache) -> PodMatcher {
    PodMatcher {
        namespaces: cache
            .surroundings
            .namespaces_of(&term.namespaces, &term.namespace_selector),
        selector: term.selector.clone(),
    }
}

fn domains(term: &Term, all_of: Vec<PodMatcher>, cache: &Cache) -> Domains {
    let query = PodQuery {
        all_of,
        skips_deleting: false,
    };
    Domains {
        key: term.topology_key.clone(),
        pods: cache.count_by(query, &term.topology_key),
    }
}

/// What the pod and the others demand of its place.
struct Demands<'a> {
    pod: &'a PodInfo,
    /// Labels of its namespace.
    namespace: Labels,
    /// Terms with the pods that all of them mean.
    near: Vec<OwnTerm>,
    /// Terms each with the pods that it means.
    apart: Vec<OwnTerm>,
    /// Terms of pods that want this one away from their domain.
    rejecting: Vec<(Arc<Term>, Domains)>,
}

impl<'a> Demands<'a> {
    fn gather(pod: &'a PodInfo, cache: &'a Cache) -> Self {
        let (mut near, mut apart) = (Vec::new(), Vec::new());
        if let Some(terms) = &pod.terms {
            let all: Vec<PodMatcher> = terms.near.iter().map(|term| matcher(term, cache)).collect();
            near.extend(terms.near.iter().zip(&all).map(|(term, matcher)| OwnTerm {
                matcher: matcher.clone(),
                domains: domains(term, all.clone(), cache),
            }));
            apart.extend(terms.apart.iter().map(|term| {
                let matcher = matcher(term, cache);
                let domains = domains(term, vec![matcher.clone()], cache);
                OwnTerm { matcher, domains }
            }));
        }
        let held = &cache.held_terms().apart;
        let namespace = if held.is_empty() {
            Labels::default()
        } else {
            cache.surroundings.namespace_labels(&pod.key.namespace)
        };
        let rejecting = held.iter().filter(|(term, _)| term.is_about(pod, &namespace));
        let rejecting = rejecting.map(|(term, pods)| {
            let domains = Domains {
                key: term.topology_key.clone(),
                pods: Arc::clone(pods),
            };
            (Arc::clone(term), domains)
        });
        Self {
            pod,
            rejecting: rejecting.collect(),
            namespace,
            near,
            apart,
        }
    }

    fn are_void(&self) -> bool {
        self.near.is_empty() && self.apart.is_empty() && self.rejecting.is_empty()
    }

    /// Whether the pod would be with those it wants to be with. The first of pods that want each other is let in
    /// anywhere in a domain.
    fn has_friends(&self, node: &NodeInfo) -> bool {
        let mut found = true;
        for term in &self.near {
            match term.domains.at(node) {
                None => return false,
                Some(count) => found &= count > 0,
            }
        }
        let is_first = || {
            let mut near = self.near.iter();
            near.all(|term| term.domains.pods.is_empty() && term.matcher.matches(self.pod))
        };
        found || is_first()
    }
}

impl NodeFilter for Demands<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if !self.has_friends(node) {
            return Err(Unfit::unresolvable("node(s) didn't match pod affinity rules"));
        }
        let mut apart = self.apart.iter();
        if apart.any(|term| term.domains.at(node) > Some(0)) {
            return Err(Unfit::resolvable("node(s) didn't match pod anti-affinity rules"));
        }
        let mut rejecting = self.rejecting.iter();
        if rejecting.any(|(_, domains)| domains.at(node) > Some(0)) {
            return Err(Unfit::resolvable(
                "node(s) didn't satisfy existing pods anti-affinity rules",
            ));
        }
        Ok(())
    }

    fn suppose(&mut self, other: &PodInfo, node: &NodeInfo, by: i64) {
        if self.near.iter().all(|term| term.matcher.matches(other)) {
            for term in &mut self.near {
                term.domains.add(node, by);
            }
        }
        for term in self.apart.iter_mut().filter(|term| term.matcher.matches(other)) {
            term.domains.add(node, by);
        }
        for term in other.terms.iter().flat_map(|terms| &terms.apart) {
            if !term.is_about(self.pod, &self.namespace) {
                continue;
            }
            if let Some((_, domains)) = self.rejecting.iter_mut().find(|(known, _)| known == term) {
                domains.add(node, by);
            } else {
                let mut domains = Domains {
                    key: term.topology_key.clone(),
                    pods: Arc::default(),
                };
                domains.add(node, by);
                self.rejecting.push((Arc::clone(term), domains));
            }
        }
    }
}

/// What the pod wishes of others and others of it, by weight; only what makes a difference.
fn wishes(pod: &PodInfo, cache: &Cache) -> Vec<(i64, Domains)> {
    let own = pod.terms.iter().flat_map(|terms| &terms.wishes);
    let own = own.map(|(term, weight)| (*weight, domains(term, vec![matcher(term, cache)], cache)));
    let mut wishes: Vec<_> = own.filter(|(_, domains)| !domains.pods.is_empty()).collect();
    let held = &cache.held_terms().wishes;
    if held.is_empty() {
        return wishes;
    }
    let namespace = cache.surroundings.namespace_labels(&pod.key.namespace);
    let about = held
        .iter()
        .filter(|((term, _), _)| term.is_about(pod, &namespace));
    wishes.extend(about.map(|((term, weight), pods)| {
        let domains = Domains {
            key: term.topology_key.clone(),
            pods: Arc::clone(pods),
        };
        (*weight, domains)
    }));
    wishes
}

struct Wishes(Vec<(i64, Domains)>);

impl NodeScore for Wishes {
    fn score(&self, node: &NodeInfo) -> i64 {
        let wishes = self.0.iter();
        let weighed = wishes.filter_map(|(weight, domains)| Some(weight * domains.at(node)?));
        weighed.sum()
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
