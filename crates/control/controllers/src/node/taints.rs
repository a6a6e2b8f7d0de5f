//! Which taints follow from a node's conditions. Pure.

use cloudeck_machinery::{Value, value};

use super::health::condition;
use crate::clock::Now;

const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that keeps new pods away.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
];

/// The node's taints as they should be; `None` when they are. `any_ready`: whether any node of the cluster is ready;
/// if none is, no pod is evicted.
pub(super) fn decide(node: &Value, any_ready: bool, now: Now) -> Option<Vec<Value>> {
    let present = node.items_at(&["spec", "taints"]);
    let mut wanted = keep_away(node);
    if any_ready {
        wanted.extend(evicting(node).map(|key| (key, "NoExecute")));
    }
    let is = |taint: &Value, (key, effect): &(&str, &str)| {
        taint.str_at(&["key"]) == Some(key) && taint.str_at(&["effect"]) == Some(effect)
    };
    let stays = |taint: &&Value| !is_ours(taint) || wanted.iter().any(|wanted| is(taint, wanted));
    let mut taints: Vec<Value> = present.iter().filter(stays).cloned().collect();
    for wanted in &wanted {
        if !taints.iter().any(|taint| is(taint, wanted)) {
            let (key, effect) = *wanted;
            let at = now.timestamp();
            taints.push(value!({"key": (key), "effect": (effect), "timeAdded": (at)}));
        }
    }
    (taints != present).then_some(taints)
}

fn keep_away(node: &Value) -> Vec<(&'static str, &'static str)> {
    let mut wanted = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        if condition(node, kind).and_then(|condition| condition.str_at(&["status"])) == Some(status) {
            wanted.push((key, "NoSchedule"));
        }
    }
    if node.bool_at(&["spec", "unschedulable"]) == Some(true) {
        wanted.push((UNSCHEDULABLE, "NoSchedule"));
    }
    wanted
}

fn evicting(node: &Value) -> Option<&'static str> {
    match condition(node, "Ready")?.str_at(&["status"])? {
        "False" => Some(NOT_READY),
        "Unknown" => Some(UNREACHABLE),
        _ => None,
    }
}

fn is_ours(taint: &Value) -> bool {
    let key = taint.str_at(&["key"]).unwrap_or_default();
    match taint.str_at(&["effect"]) {
        Some("NoSchedule") => key == UNSCHEDULABLE || BY_CONDITION.iter().any(|(_, _, ours)| *ours == key),
        Some("NoExecute") => key == NOT_READY || key == UNREACHABLE,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    #[track_caller]
    fn check(spec: &str, ready: &str, any_ready: bool, wanted: Option<&[(&str, &str)]>) {
        let text = format!(
            r#"{{"spec":{{{spec}}},"status":{{"conditions":[{{"type":"Ready","status":"{ready}"}}]}}}}"#
        );
        let taints = decide(&json::parse(text.as_bytes()).unwrap(), any_ready, Now(0));
        let pairs = taints.as_ref().map(|taints| {
            let text =
                |taint: &Value, field| taint.str_at(&[field]).unwrap().replace("node.kubernetes.io/", "");
            taints
                .iter()
                .map(|taint| (text(taint, "key"), text(taint, "effect")))
                .collect::<Vec<_>>()
        });
        let wanted = wanted.map(|wanted| {
            wanted
                .iter()
                .map(|(key, effect)| ((*key).to_owned(), (*effect).to_owned()))
                .collect::<Vec<_>>()
        });
        assert_eq!(pairs, wanted);
    }

    #[test]
    fn a_silent_node_is_tainted_twice_and_a_healthy_one_cleared() {
        let both = [("unreachable", "NoSchedule"), ("unreachable", "NoExecute")];
        check("", "Unknown", true, Some(&both));
        check(
            r#""taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]"#,
            "True",
            true,
            Some(&[]),
        );
        check("", "True", true, None);
    }

    #[test]
    fn not_ready_and_unreachable_exclude_each_other() {
        let spec = r#""taints":[{"key":"node.kubernetes.io/not-ready","effect":"NoExecute"},{"key":"mine","effect":"NoExecute"}]"#;
        let wanted = [
            ("mine", "NoExecute"),
            ("unreachable", "NoSchedule"),
            ("unreachable", "NoExecute"),
        ];
        check(spec, "Unknown", true, Some(&wanted));
    }

    #[test]
    fn nobody_is_evicted_while_no_node_is_ready() {
        check("", "Unknown", false, Some(&[("unreachable", "NoSchedule")]));
        let spec = r#""taints":[{"key":"node.kubernetes.io/unreachable","effect":"NoExecute"}]"#;
        check(spec, "Unknown", false, Some(&[("unreachable", "NoSchedule")]));
    }

    #[test]
    fn a_cordoned_node_is_tainted() {
        check(
            r#""unschedulable":true"#,
            "True",
            true,
            Some(&[("unschedulable", "NoSchedule")]),
        );
    }
}
