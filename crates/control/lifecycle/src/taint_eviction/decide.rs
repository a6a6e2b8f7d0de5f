//! Whether and when a pod has to leave its node. Pure.

use std::time::Duration;

use cloudeck_machinery::Value;

use crate::clock::Now;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stay,
    /// It tolerates the taints for a while.
    GoAt {
        since: Now,
        at: Now,
    },
    Go,
}

/// `taints` are the node's with the effect NoExecute; `waiting` is since when the pod is known to wait.
pub(super) fn decide(pod: &Value, taints: &[Value], waiting: Option<Now>, now: Now) -> Fate {
    if taints.is_empty() {
        return Fate::Stay;
    }
    let tolerations = pod.items_at(&["spec", "tolerations"]);
    let mut shortest: Option<i64> = None;
    let mut since: Option<Now> = None;
    for taint in taints {
        // The first that tolerates it counts, as upstream has it.
        let Some(toleration) = tolerations.iter().find(|it| tolerates(it, taint)) else {
            return Fate::Go;
        };
        if let Some(seconds) = toleration.int_at(&["tolerationSeconds"]) {
            shortest = Some(shortest.map_or(seconds, |other| other.min(seconds)));
        }
        let added = taint.str_at(&["timeAdded"]).and_then(Now::parse);
        since = since.max(added);
    }
    match shortest {
        None => Fate::Stay,
        Some(seconds) if seconds <= 0 => Fate::Go,
        Some(seconds) => {
            let begun = pod.str_at(&["status", "startTime"]).and_then(Now::parse);
            let since = match since {
                Some(added) => begun.map_or(added, |begun| begun.max(added)),
                None => waiting.unwrap_or(now),
            };
            Fate::GoAt {
                since,
                at: since.plus(Duration::from_secs(seconds.unsigned_abs())),
            }
        }
    }
}

/// Whether the toleration covers the taint.
fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |tree: &Value, member: &str| tree.str_at(&[member]).unwrap_or_default().to_owned();
    let (effect, key) = (text(toleration, "effect"), text(toleration, "key"));
    if !effect.is_empty() && effect != text(taint, "effect") {
        return false;
    }
    if !key.is_empty() && key != text(taint, "key") {
        return false;
    }
    match text(toleration, "operator").as_str() {
        "" | "Equal" => text(toleration, "value") == text(taint, "value"),
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    const NOW: Now = Now(1_000_000);

    fn check(tolerations: Value, taints: Value, waiting: Option<Now>, expected: Fate) {
        let pod = value!({"spec": {"tolerations": (tolerations)}});
        assert_eq!(decide(&pod, taints.as_array().unwrap(), waiting, NOW), expected);
    }

    fn taint() -> Value {
        value!([{"key": "k", "value": "v", "effect": "NoExecute"}])
    }

    #[test]
    fn a_pod_stays_without_taints_or_with_an_endless_toleration() {
        check(value!([]), value!([]), None, Fate::Stay);
        check(value!([{"operator": "Exists"}]), taint(), None, Fate::Stay);
        check(
            value!([{"key": "k", "value": "v", "effect": "NoExecute"}]),
            taint(),
            None,
            Fate::Stay,
        );
    }

    #[test]
    fn a_pod_that_does_not_tolerate_every_taint_goes_at_once() {
        check(value!([]), taint(), None, Fate::Go);
        check(value!([{"key": "k", "value": "w"}]), taint(), None, Fate::Go);
        check(
            value!([{"key": "k", "operator": "Exists", "effect": "NoSchedule"}]),
            taint(),
            None,
            Fate::Go,
        );
        check(
            value!([{"key": "k", "operator": "Exists", "tolerationSeconds": 0}]),
            taint(),
            None,
            Fate::Go,
        );
    }

    #[test]
    fn the_first_toleration_counts_from_when_it_began() {
        let both = value!([
            {"operator": "Exists", "tolerationSeconds": 10}, {"key": "k", "operator": "Exists", "tolerationSeconds": 5}
        ]);
        let go = |since: i64| Fate::GoAt {
            since: Now(since),
            at: Now(since + 10_000),
        };
        check(both.clone(), taint(), None, go(NOW.0));
        check(both.clone(), taint(), Some(Now(995_000)), go(995_000));
        let dated = value!([{"key": "k", "effect": "NoExecute", "timeAdded": "1970-01-01T00:16:30Z"}]);
        check(both, dated, Some(Now(1)), go(990_000));
    }
}
