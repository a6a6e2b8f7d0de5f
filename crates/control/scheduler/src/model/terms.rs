//! What pods ask of each other's places: terms of affinity, and constraints of spread.

use std::collections::BTreeSet;
use std::sync::Arc;

use cloudeck_machinery::selector::{LabelSelector, Operator, Requirement};
use compact_str::CompactString;
use k8s_openapi::api::core::v1::{
    Affinity, PodAffinityTerm, PodSpec, TopologySpreadConstraint, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;

use super::{Labels, PodInfo};

/// Which pods a term is about, and in what domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Term {
    pub namespaces: BTreeSet<CompactString>,
    pub namespace_selector: LabelSelector,
    pub selector: LabelSelector,
    pub topology_key: CompactString,
}

impl Term {
    /// Whether the term, held by a pod that is placed, is about this pod; `namespace` are its namespace's labels.
    pub fn is_about(&self, pod: &PodInfo, namespace: &Labels) -> bool {
        let there = self.namespaces.contains(&pod.key.namespace)
            || self.namespace_selector.matches(namespace.as_ref());
        there && self.selector.matches(pod.labels.as_ref())
    }

    /// `own` is the namespace of the pod that holds the term; it is meant where no other is named.
    fn read(term: &PodAffinityTerm, own: &str) -> Self {
        let mut namespaces: BTreeSet<CompactString> =
            term.namespaces.iter().flatten().map(Into::into).collect();
        if namespaces.is_empty() && term.namespace_selector.is_none() {
            namespaces.insert(own.into());
        }
        Self {
            namespaces,
            namespace_selector: selector(term.namespace_selector.as_ref()),
            selector: selector(term.label_selector.as_ref()),
            topology_key: term.topology_key.as_str().into(),
        }
    }
}

/// A term that is wished for, by its weight.
pub type Wish = (Arc<Term>, i64);

/// What a pod demands and wishes of the places of others.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PodTerms {
    pub near: Vec<Arc<Term>>,
    pub apart: Vec<Arc<Term>>,
    /// Weights below zero are wishes to be apart.
    pub wishes: Vec<Wish>,
}

impl PodTerms {
    /// `None` when the pod does not care.
    pub(super) fn read(affinity: &Affinity, own: &str) -> Option<Box<Self>> {
        let mut terms = Self::default();
        if let Some(near) = &affinity.pod_affinity {
            terms.near = required(
                near.required_during_scheduling_ignored_during_execution
                    .as_deref(),
                own,
            );
            terms.wish(
                near.preferred_during_scheduling_ignored_during_execution
                    .as_deref(),
                1,
                own,
            );
        }
        if let Some(apart) = &affinity.pod_anti_affinity {
            terms.apart = required(
                apart
                    .required_during_scheduling_ignored_during_execution
                    .as_deref(),
                own,
            );
            terms.wish(
                apart
                    .preferred_during_scheduling_ignored_during_execution
                    .as_deref(),
                -1,
                own,
            );
        }
        let empty = terms.near.is_empty() && terms.apart.is_empty() && terms.wishes.is_empty();
        (!empty).then(|| Box::new(terms))
    }

    fn wish(&mut self, preferred: Option<&[WeightedPodAffinityTerm]>, sign: i64, own: &str) {
        let preferred = preferred.unwrap_or_default().iter();
        self.wishes.extend(preferred.map(|wish| {
            (
                Arc::new(Term::read(&wish.pod_affinity_term, own)),
                sign * i64::from(wish.weight),
            )
        }));
    }
}

fn required(terms: Option<&[PodAffinityTerm]>, own: &str) -> Vec<Arc<Term>> {
    let terms = terms.unwrap_or_default().iter();
    terms.map(|term| Arc::new(Term::read(term, own))).collect()
}

/// A constraint of `topologySpreadConstraints`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: CompactString,
    pub selector: LabelSelector,
    /// `DoNotSchedule`; else it only counts in scores.
    pub hard: bool,
    pub min_domains: usize,
    /// Whether nodes that the pod's node affinity excludes are left out of the count.
    pub honours_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate are left out of the count.
    pub honours_taints: bool,
}

impl Spread {
    pub(super) fn read_all(spec: &PodSpec, labels: &Labels) -> Box<[Self]> {
        let constraints = spec.topology_spread_constraints.iter().flatten();
        constraints
            .map(|constraint| Self::read(constraint, labels))
            .collect()
    }

    fn read(constraint: &TopologySpreadConstraint, labels: &Labels) -> Self {
        Self {
            max_skew: constraint.max_skew.into(),
            topology_key: constraint.topology_key.as_str().into(),
            selector: with_match_label_keys(constraint, labels),
            hard: constraint.when_unsatisfiable == "DoNotSchedule",
            min_domains: usize::try_from(constraint.min_domains.unwrap_or(1)).unwrap_or(1),
            honours_affinity: constraint.node_affinity_policy.as_deref() != Some("Ignore"),
            honours_taints: constraint.node_taints_policy.as_deref() == Some("Honor"),
        }
    }
}

/// The server writes the keys into the selector of new pods; this is for pods that came by another way.
fn with_match_label_keys(constraint: &TopologySpreadConstraint, labels: &Labels) -> LabelSelector {
    let found = selector(constraint.label_selector.as_ref());
    let keys = constraint.match_label_keys.iter().flatten();
    let added: Vec<Requirement> = keys
        .filter_map(|key| {
            let at = labels
                .binary_search_by(|(other, _)| other.as_str().cmp(key))
                .ok()?;
            Some(requirement(key, Operator::In, vec![labels[at].1.clone()]))
        })
        .filter(|requirement| !found.requirements().contains(requirement))
        .collect();
    if found.is_nothing() || added.is_empty() {
        return found;
    }
    let all = found.requirements().iter().cloned().chain(added);
    LabelSelector::from_requirements(all.collect())
}

fn requirement(key: &str, operator: Operator, values: Vec<CompactString>) -> Requirement {
    Requirement {
        key: key.into(),
        operator,
        values,
    }
}

/// An absent selector selects nothing, an empty one everything. One with an operator that does not exist selects nothing.
fn selector(selector: Option<&ApiSelector>) -> LabelSelector {
    let Some(selector) = selector else {
        return LabelSelector::nothing();
    };
    let mut requirements: Vec<Requirement> = selector
        .match_labels
        .iter()
        .flatten()
        .map(|(key, value)| requirement(key, Operator::In, vec![value.into()]))
        .collect();
    for expression in selector.match_expressions.iter().flatten() {
        let operator = match expression.operator.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return LabelSelector::nothing(),
        };
        let values = expression.values.iter().flatten().map(Into::into).collect();
        requirements.push(requirement(&expression.key, operator, values));
    }
    LabelSelector::from_requirements(requirements)
}
