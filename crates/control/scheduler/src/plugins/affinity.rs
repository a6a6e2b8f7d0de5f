//! Node selectors and node affinity.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PreferredSchedulingTerm,
};

use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};

#[derive(Debug)]
pub(super) struct NodeAffinityPlugin;

struct Selected<'a>(&'a PodInfo);

impl NodeFilter for Selected<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if is_selected(self.0, node) {
            return Ok(());
        }
        Err(Unfit::unresolvable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }
}

struct Preferred<'a>(&'a [PreferredSchedulingTerm]);

impl NodeScore for Preferred<'_> {
    /// The sum of the weights of the preferences that the node meets.
    fn score(&self, node: &NodeInfo) -> i64 {
        let met = self.0.iter().filter(|p| matches(&p.preference, node));
        met.map(|p| i64::from(p.weight)).sum()
    }

    fn normalise(&self, scores: &mut [i64], _: &[&NodeInfo]) {
        super::stretch(scores);
    }
}

impl Plugin for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn narrow<'a>(&self, pod: &'a PodInfo) -> Option<BTreeSet<&'a str>> {
        let required = required(pod).filter(|required| !required.node_selector_terms.is_empty())?;
        let mut names = BTreeSet::new();
        // Terms are alternatives: if one of them names no node, any will do.
        for term in &required.node_selector_terms {
            names.extend(named(term)?);
        }
        Some(names)
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        selects(pod).then(|| Box::new(Selected(pod)) as _)
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        _: &'a Cache,
        _: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let affinity = pod.node_affinity.as_ref()?;
        let preferred = affinity
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()?;
        Some(Box::new(Preferred(preferred)))
    }

    fn weight(&self) -> i64 {
        2
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        matches!(event, ClusterEvent::Node { before, now: Some(now) }
            if is_selected(pod, now) && before.is_none_or(|before| !is_selected(pod, before)))
    }
}

/// Whether the pod demands some nodes only.
pub(super) fn selects(pod: &PodInfo) -> bool {
    required(pod).is_some() || !pod.node_selector.is_empty()
}

fn required(pod: &PodInfo) -> Option<&NodeSelector> {
    let affinity = pod.node_affinity.as_ref()?;
    affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()
}

/// The nodes that a term names; `None` when it does not.
fn named(term: &NodeSelectorTerm) -> Option<BTreeSet<&str>> {
    let fields = term.match_fields.iter().flatten();
    let naming = fields.filter(|field| field.key == "metadata.name" && field.operator == "In");
    naming
        .map(|field| field.values.iter().flatten().map(String::as_str).collect())
        .reduce(|a: BTreeSet<&str>, b| &a & &b)
}

/// Whether the node is one of those that the pod demands.
pub(super) fn is_selected(pod: &PodInfo, node: &NodeInfo) -> bool {
    let labelled = |(key, value): (&String, &String)| node.label(key) == Some(value);
    let meets = |term: &NodeSelectorTerm| matches(term, node);
    pod.node_selector.iter().all(labelled)
        && required(pod).is_none_or(|selector| selector.node_selector_terms.iter().any(meets))
}

/// A term without any requirement matches nothing.
fn matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |requirement: &NodeSelectorRequirement| holds(requirement, node.label(&requirement.key));
    let field = |requirement: &NodeSelectorRequirement| {
        requirement.key == "metadata.name" && holds(requirement, Some(&node.name))
    };
    expressions.iter().all(label) && fields.iter().all(field)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = || {
        let (value, wanted) = (value?.parse::<i64>().ok()?, values.first()?.parse::<i64>().ok()?);
        Some(value.cmp(&wanted))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => number().is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => number().is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::tests::{node, pod};

    fn fits(affinity: &str, labels: &str) -> bool {
        let terms = format!(
            r#"{{"metadata":{{"name":"p"}},"spec":{{"containers":[],"affinity":{{"nodeAffinity":{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{affinity}]}}}}}}}}}}"#
        );
        let node = node("n", &format!(r#"{{"metadata":{{"labels":{labels}}}}}"#));
        is_selected(&pod(&terms), &node)
    }

    #[test]
    fn terms_are_alternatives_and_requirements_hold_together() {
        let zone = r#"{"matchExpressions":[{"key":"zone","operator":"In","values":["a","b"]}]}"#;
        assert!(fits(zone, r#"{"zone":"a"}"#) && !fits(zone, r#"{"zone":"c"}"#) && !fits(zone, "{}"));
        let other = r#"{"matchExpressions":[{"key":"cores","operator":"Gt","values":["4"]}]}"#;
        assert!(fits(&format!("{zone},{other}"), r#"{"cores":"8"}"#));
        assert!(!fits("{}", r#"{"zone":"a"}"#));
        assert!(fits(
            r#"{"matchFields":[{"key":"metadata.name","operator":"In","values":["n"]}]}"#,
            "{}"
        ));
    }

    #[test]
    fn preferences_add_up() {
        let pod = pod(
            r#"{"metadata":{"name":"p"},"spec":{"containers":[],"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[
                {"weight":10,"preference":{"matchExpressions":[{"key":"a","operator":"Exists"}]}},
                {"weight":5,"preference":{"matchExpressions":[{"key":"b","operator":"Exists"}]}}]}}}}"#,
        );
        let cache = Cache::default();
        let both = node("n", r#"{"metadata":{"labels":{"a":"","b":""}}}"#);
        let none = node("m", "{}");
        let nodes = [&both, &none];
        let scores = NodeAffinityPlugin.score(&pod, &cache, &nodes).unwrap();
        assert_eq!((scores.score(&both), scores.score(&none)), (15, 0));
        let mut found = [15, 0];
        scores.normalise(&mut found, &nodes);
        assert_eq!(found, [100, 0]);
    }
}
