//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{ClusterEvent, NodeFilter, NodeScore, Plugin, Unfit};
use crate::cache::Cache;
use crate::model::{NodeInfo, PodInfo};

#[derive(Debug)]
pub(super) struct TaintToleration;

struct Tolerated<'a>(&'a [Toleration]);

impl NodeFilter for Tolerated<'_> {
    fn check(&self, node: &NodeInfo) -> Result<(), Unfit> {
        if are_tolerated(self.0, node) {
            return Ok(());
        }
        Err(Unfit::unresolvable("node(s) had untolerated taint(s)"))
    }
}

impl NodeScore for Tolerated<'_> {
    /// The number of soft taints that are not tolerated.
    fn score(&self, node: &NodeInfo) -> i64 {
        let bad = node.taints.iter().filter(|taint| is_soft(taint));
        let bad = bad.filter(|taint| !self.0.iter().any(|t| tolerates(t, taint)));
        i64::try_from(bad.count()).unwrap_or(i64::MAX)
    }

    /// The fewer the better.
    fn normalise(&self, scores: &mut [i64], _: &[&NodeInfo]) {
        super::stretch(scores);
        for score in scores {
            *score = 100 - *score;
        }
    }
}

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter<'a>(&self, pod: &'a PodInfo, _: &'a Cache) -> Option<Box<dyn NodeFilter + 'a>> {
        Some(Box::new(Tolerated(&pod.tolerations)))
    }

    fn score<'a>(
        &self,
        pod: &'a PodInfo,
        _: &'a Cache,
        fitting: &[&'a NodeInfo],
    ) -> Option<Box<dyn NodeScore + 'a>> {
        let mut taints = fitting.iter().flat_map(|node| &node.taints);
        taints
            .any(is_soft)
            .then(|| Box::new(Tolerated(&pod.tolerations)) as _)
    }

    fn weight(&self) -> i64 {
        3
    }

    fn is_turned_by(&self, pod: &PodInfo, event: ClusterEvent<'_>) -> bool {
        let tolerated = |node: &NodeInfo| are_tolerated(&pod.tolerations, node);
        matches!(event, ClusterEvent::Node { before, now: Some(now) }
            if tolerated(now) && before.is_none_or(|before| !tolerated(before)))
    }
}

fn is_soft(taint: &Taint) -> bool {
    taint.effect == "PreferNoSchedule"
}

/// Whether the taints that keep pods away are tolerated.
pub(super) fn are_tolerated(tolerations: &[Toleration], node: &NodeInfo) -> bool {
    let mut hard = node
        .taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    hard.all(|taint| tolerations.iter().any(|t| tolerates(t, taint)))
}

/// Upstream's `ToleratesTaint`.
pub(super) fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    let value = toleration.value.as_deref().unwrap_or_default();
    let tainted = taint.value.as_deref().unwrap_or_default();
    match toleration.operator.as_deref().unwrap_or_default() {
        "" | "Equal" => !key.is_empty() && value == tainted,
        "Exists" => true,
        "Gt" => compare(tainted, value).is_some_and(std::cmp::Ordering::is_gt),
        "Lt" => compare(tainted, value).is_some_and(std::cmp::Ordering::is_lt),
        _ => false,
    }
}

fn compare(a: &str, b: &str) -> Option<std::cmp::Ordering> {
    Some(a.parse::<i64>().ok()?.cmp(&b.parse::<i64>().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_match_as_upstream_s_do() {
        let taint = Taint {
            key: "k".into(),
            value: Some("v".into()),
            effect: "NoSchedule".into(),
            ..Taint::default()
        };
        let check = |key: &str, operator: &str, value: &str, effect: &str| {
            let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            let toleration = Toleration {
                key: some(key),
                operator: some(operator),
                value: some(value),
                effect: some(effect),
                ..Toleration::default()
            };
            tolerates(&toleration, &taint)
        };
        assert!(
            check("k", "", "v", "NoSchedule") && check("k", "Equal", "v", "") && check("k", "Exists", "", "")
        );
        assert!(check("", "Exists", "", ""));
        assert!(
            !check("k", "", "x", "")
                && !check("x", "Exists", "", "")
                && !check("k", "Exists", "", "NoExecute")
        );
        assert!(!check("", "Equal", "v", ""));
    }
}
