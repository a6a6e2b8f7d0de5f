//! The taints that follow from a node's conditions. Pure.
//!
//! Source: `doNoScheduleTaintingPass` and `processTaintBaseEviction` in `pkg/controller/nodelifecycle`.

use cloudeck_machinery::{Value, value};

use super::health::condition_status;
use crate::clock::Now;

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Condition, its status, and the taint that keeps new pods away.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    (
        "NetworkUnavailable",
        "True",
        "node.kubernetes.io/network-unavailable",
    ),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];

/// Whether the cluster's state lets pods be driven from a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    Allowed,
    /// Not now; what is there stays.
    Withheld,
    /// No node is ready, so the fault is more likely ours: none is told to give up its pods.
    Suspended,
}

/// What the taints of a node come to.
#[derive(Debug, PartialEq)]
pub(crate) struct Outcome {
    /// The taints to be written; `None` when they are as they should be.
    pub(crate) write: Option<Vec<Value>>,
    /// A taint that drives pods away was wanted and withheld.
    pub(crate) withheld: bool,
    /// The write adds a taint that drives pods away from a node that had none.
    pub(crate) evicts: bool,
}

pub(crate) fn decide(node: &Value, eviction: Eviction, now: Now) -> Outcome {
    let before = node.items_at(&["spec", "taints"]);
    let mut taints: Vec<Value> = before
        .iter()
        .filter(|it| keep_no_schedule(node, it))
        .cloned()
        .collect();
    for key in wanted_no_schedule(node) {
        if !has(&taints, key, "NoSchedule") {
            taints.push(value!({"key": (key), "effect": "NoSchedule", "timeAdded": (now.timestamp())}));
        }
    }
    let wanted = wanted_no_execute(node, eviction);
    let had_one = [NOT_READY, UNREACHABLE]
        .iter()
        .any(|key| has(before, key, "NoExecute"));
    let mut outcome = Outcome {
        write: None,
        withheld: false,
        evicts: false,
    };
    match wanted {
        Some(key) if has(before, key, "NoExecute") || had_one || eviction == Eviction::Allowed => {
            taints.retain(|it| !is_other_no_execute(it, key));
            if !has(&taints, key, "NoExecute") {
                taints.push(value!({"key": (key), "effect": "NoExecute", "timeAdded": (now.timestamp())}));
                outcome.evicts = !had_one;
            }
        }
        Some(_) => outcome.withheld = true,
        None => taints.retain(|it| !is_other_no_execute(it, "")),
    }
    outcome.write = (taints != before).then_some(taints);
    outcome
}

fn wanted_no_schedule(node: &Value) -> Vec<&'static str> {
    let told = BY_CONDITION
        .iter()
        .filter(|(kind, status, _)| condition_status(node, kind) == Some(status));
    let mut keys: Vec<_> = told.map(|(_, _, key)| *key).collect();
    if node.bool_at(&["spec", "unschedulable"]) == Some(true) {
        keys.push(UNSCHEDULABLE);
    }
    keys
}

/// A taint of ours goes when its condition is told and says otherwise; a condition not told yet (a node that has just
/// registered) takes nothing away.
fn keep_no_schedule(node: &Value, taint: &Value) -> bool {
    let key = taint.str_at(&["key"]).unwrap_or_default();
    if taint.str_at(&["effect"]) != Some("NoSchedule") {
        return true;
    }
    if key == UNSCHEDULABLE {
        return node.bool_at(&["spec", "unschedulable"]) == Some(true);
    }
    match BY_CONDITION.iter().find(|(_, _, ours)| *ours == key) {
        Some((kind, status, _)) => match condition_status(node, kind) {
            Some(told) => told == *status,
            None => *kind == "Ready",
        },
        None => true,
    }
}

fn wanted_no_execute(node: &Value, eviction: Eviction) -> Option<&'static str> {
    if eviction == Eviction::Suspended {
        return None;
    }
    match condition_status(node, "Ready") {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    }
}

fn is_other_no_execute(taint: &Value, wanted: &str) -> bool {
    let key = taint.str_at(&["key"]).unwrap_or_default();
    taint.str_at(&["effect"]) == Some("NoExecute") && [NOT_READY, UNREACHABLE].contains(&key) && key != wanted
}

fn has(taints: &[Value], key: &str, effect: &str) -> bool {
    taints
        .iter()
        .any(|it| it.str_at(&["key"]) == Some(key) && it.str_at(&["effect"]) == Some(effect))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(ready: &str, taints: &[(&str, &str)]) -> Value {
        let taints: Vec<Value> = taints
            .iter()
            .map(|(key, effect)| value!({"key": (*key), "effect": (*effect)}))
            .collect();
        let mut node = value!({"spec": {"taints": (taints)}});
        if !ready.is_empty() {
            node.set_at(
                &["status", "conditions"],
                value!([{"type": "Ready", "status": (ready)}]),
            );
        }
        node
    }

    fn check(node: &Value, eviction: Eviction, expected: Option<&[(&str, &str)]>) {
        let outcome = decide(node, eviction, Now(0));
        let got = outcome.write.map(|taints| {
            let text = |it: &Value, member: &str| it.str_at(&[member]).unwrap().to_owned();
            taints
                .iter()
                .map(|it| (text(it, "key"), text(it, "effect")))
                .collect::<Vec<_>>()
        });
        let expected = expected.map(|all| {
            all.iter()
                .map(|(key, effect)| ((*key).to_owned(), (*effect).to_owned()))
                .collect::<Vec<_>>()
        });
        assert_eq!(got, expected);
    }

    #[test]
    fn a_ready_node_loses_our_taints_and_keeps_the_others() {
        let all = [
            (NOT_READY, "NoSchedule"),
            ("mine", "NoSchedule"),
            (UNREACHABLE, "NoExecute"),
        ];
        check(
            &node("True", &all),
            Eviction::Allowed,
            Some(&[("mine", "NoSchedule")]),
        );
        check(&node("True", &[("mine", "NoExecute")]), Eviction::Allowed, None);
    }

    #[test]
    fn a_node_that_has_not_told_yet_keeps_the_taint_it_registered_with() {
        check(&node("", &[(NOT_READY, "NoSchedule")]), Eviction::Allowed, None);
    }

    #[test]
    fn an_unready_node_is_tainted_for_new_pods_at_once_and_for_old_ones_when_allowed() {
        let node = node("False", &[]);
        check(
            &node,
            Eviction::Allowed,
            Some(&[(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")]),
        );
        check(&node, Eviction::Withheld, Some(&[(NOT_READY, "NoSchedule")]));
        assert!(decide(&node, Eviction::Withheld, Now(0)).withheld);
        assert!(decide(&node, Eviction::Allowed, Now(0)).evicts);
    }

    #[test]
    fn a_silent_node_swaps_its_taints_without_waiting_for_leave() {
        let all = [(NOT_READY, "NoSchedule"), (NOT_READY, "NoExecute")];
        let swapped = [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")];
        check(&node("Unknown", &all), Eviction::Withheld, Some(&swapped));
        assert!(!decide(&node("Unknown", &all), Eviction::Withheld, Now(0)).evicts);
    }

    #[test]
    fn when_no_node_is_ready_none_gives_up_its_pods() {
        let all = [(UNREACHABLE, "NoSchedule"), (UNREACHABLE, "NoExecute")];
        check(
            &node("Unknown", &all),
            Eviction::Suspended,
            Some(&[(UNREACHABLE, "NoSchedule")]),
        );
    }

    #[test]
    fn cordoning_and_pressure_show_as_taints() {
        let mut node = node("True", &[]);
        node.set_at(&["spec", "unschedulable"], true);
        check(&node, Eviction::Allowed, Some(&[(UNSCHEDULABLE, "NoSchedule")]));
        let pressed = value!({"status": {"conditions": [{"type": "DiskPressure", "status": "True"}]}});
        check(
            &pressed,
            Eviction::Allowed,
            Some(&[("node.kubernetes.io/disk-pressure", "NoSchedule")]),
        );
    }
}
