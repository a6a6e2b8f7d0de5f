//! Node selectors and node affinity.

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use super::{ClusterEvent, Plugin, Unfit};
use crate::model::{NodeInfo, PodInfo};

#[derive(Debug)]
pub(super) struct NodeAffinityPlugin;

impl Plugin for NodeAffinityPlugin {
    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        let selected = pod
            .node_selector
            .iter()
            .all(|(key, value)| node.labels.get(key) == Some(value));
        let required = pod
            .node_affinity
            .as_ref()
            .and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
        let matched = required.is_none_or(|selector| {
            selector
                .node_selector_terms
                .iter()
                .any(|term| matches(term, node))
        });
        if selected && matched {
            return Ok(());
        }
        Err(Unfit::unresolvable(
            "node(s) didn't match Pod's node affinity/selector",
        ))
    }

    /// The sum of the weights of the preferences that the node meets.
    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let preferred = pod
            .node_affinity
            .as_ref()?
            .preferred_during_scheduling_ignored_during_execution
            .as_ref()?;
        Some(
            preferred
                .iter()
                .filter(|p| matches(&p.preference, node))
                .map(|p| i64::from(p.weight))
                .sum(),
        )
    }

    fn normalised(&self) -> bool {
        true
    }

    fn weight(&self) -> i64 {
        2
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeLabelsChanged]
    }
}

/// A term without any requirement matches nothing.
fn matches(term: &NodeSelectorTerm, node: &NodeInfo) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    let label = |requirement: &NodeSelectorRequirement| {
        holds(requirement, node.labels.get(&requirement.key).map(String::as_str))
    };
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
        NodeAffinityPlugin.filter(&pod(&terms), &node).is_ok()
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
        assert_eq!(
            NodeAffinityPlugin.score(&pod, &node("n", r#"{"metadata":{"labels":{"a":"","b":""}}}"#)),
            Some(15)
        );
        assert_eq!(NodeAffinityPlugin.score(&pod, &node("n", "{}")), Some(0));
    }
}
