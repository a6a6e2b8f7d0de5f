//! Taints and tolerations.

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::{ClusterEvent, Plugin, Unfit};
use crate::model::{NodeInfo, PodInfo};

#[derive(Debug)]
pub(super) struct TaintToleration;

impl Plugin for TaintToleration {
    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn filter(&self, pod: &PodInfo, node: &NodeInfo) -> Result<(), Unfit> {
        let hard = node
            .taints
            .iter()
            .filter(|t| matches!(t.effect.as_str(), "NoSchedule" | "NoExecute"));
        for taint in hard {
            if !pod.tolerations.iter().any(|t| tolerates(t, taint)) {
                let value = taint.value.as_deref().unwrap_or_default();
                return Err(Unfit::unresolvable(format!(
                    "node(s) had untolerated taint {{{}: {value}}}",
                    taint.key
                )));
            }
        }
        Ok(())
    }

    /// The fewer soft taints stay untolerated, the better.
    fn score(&self, pod: &PodInfo, node: &NodeInfo) -> Option<i64> {
        let soft = node.taints.iter().filter(|t| t.effect == "PreferNoSchedule");
        let bad = soft
            .filter(|taint| !pod.tolerations.iter().any(|t| tolerates(t, taint)))
            .count();
        Some(100 - i64::try_from(bad).unwrap_or(100).min(100))
    }

    fn weight(&self) -> i64 {
        3
    }

    fn hints(&self) -> &'static [ClusterEvent] {
        &[ClusterEvent::NodeAdded, ClusterEvent::NodeTaintsChanged]
    }
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
