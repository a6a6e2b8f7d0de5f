//! Whether a node still gives signs of life, and what its conditions say once it does not. Pure.
//!
//! Source: `tryUpdateNodeHealth` in `pkg/controller/nodelifecycle`.

use std::time::Duration;

use cloudeck_machinery::{Value, value};

use crate::clock::Now;

/// The conditions that nobody but a living agent can vouch for. NetworkUnavailable is not its own.
const VOUCHED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// How long a node may be silent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grace {
    /// Before its first status.
    pub(crate) startup: Duration,
    /// Between signs of life.
    pub(crate) monitor: Duration,
}

/// What a node's silence comes to.
#[derive(Debug, PartialEq)]
pub(crate) enum Health {
    /// It lives as far as can be told; to be looked at again after this long.
    Alive(Duration),
    /// It is silent, and its conditions say so already.
    KnownSilent,
    /// It is silent; its conditions become these.
    Silent(Vec<Value>),
}

/// Judges a node by its last sign of life.
pub(crate) fn judge(node: &Value, seen: Now, grace: Grace, now: Now) -> Health {
    let allowed = match condition(node, "Ready") {
        Some(_) => grace.monitor,
        None => grace.startup,
    };
    let end = seen.plus(allowed);
    if now < end {
        return Health::Alive(now.until(end));
    }
    let mut conditions = node.items_at(&["status", "conditions"]).to_vec();
    let mut changed = false;
    for kind in VOUCHED {
        changed |= make_unknown(&mut conditions, kind, node, now);
    }
    if changed {
        Health::Silent(conditions)
    } else {
        Health::KnownSilent
    }
}

fn make_unknown(conditions: &mut Vec<Value>, kind: &str, node: &Value, now: Now) -> bool {
    let present = conditions
        .iter_mut()
        .find(|it| it.str_at(&["type"]) == Some(kind));
    let Some(condition) = present else {
        let created = node
            .str_at(&["metadata", "creationTimestamp"])
            .unwrap_or_default();
        conditions.push(value!({
            "type": (kind), "status": "Unknown", "reason": "NodeStatusNeverUpdated",
            "message": "Kubelet never posted node status.",
            "lastHeartbeatTime": (created), "lastTransitionTime": (now.timestamp())
        }));
        return true;
    };
    if condition.str_at(&["status"]) == Some("Unknown") {
        return false;
    }
    condition.set_at(&["status"], "Unknown");
    condition.set_at(&["reason"], "NodeStatusUnknown");
    condition.set_at(&["message"], "Kubelet stopped posting node status.");
    condition.set_at(&["lastTransitionTime"], now.timestamp());
    true
}

/// The node's condition of that type.
pub(crate) fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = node.items_at(&["status", "conditions"]);
    conditions.iter().find(|it| it.str_at(&["type"]) == Some(kind))
}

/// The status of the node's condition of that type.
pub(crate) fn condition_status<'a>(node: &'a Value, kind: &str) -> Option<&'a str> {
    condition(node, kind)?.str_at(&["status"])
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Grace = Grace {
        startup: Duration::from_mins(1),
        monitor: Duration::from_secs(50),
    };

    fn node(conditions: Value) -> Value {
        value!({
            "metadata": {"name": "n", "creationTimestamp": "1970-01-01T00:00:00Z"},
            "status": {"conditions": (conditions)}
        })
    }

    #[test]
    fn a_node_within_its_grace_is_looked_at_when_that_ends() {
        let ready = node(value!([{"type": "Ready", "status": "True"}]));
        let left = |millis| Health::Alive(Duration::from_millis(millis));
        assert_eq!(judge(&ready, Now(1000), GRACE, Now(2000)), left(49_000));
        let fresh = node(value!([]));
        assert_eq!(judge(&fresh, Now(1000), GRACE, Now(2000)), left(59_000));
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_that_only_its_agent_can_tell() {
        let ready = node(value!([
            {"type": "NetworkUnavailable", "status": "False"}, {"type": "Ready", "status": "True"}
        ]));
        let Health::Silent(conditions) = judge(&ready, Now(0), GRACE, Now(50_000)) else {
            panic!("it counts as alive")
        };
        let told: Vec<_> = conditions
            .iter()
            .map(|it| {
                (
                    it.str_at(&["type"]).unwrap(),
                    it.str_at(&["status"]).unwrap(),
                    it.str_at(&["reason"]),
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("NetworkUnavailable", "False", None),
                ("Ready", "Unknown", Some("NodeStatusUnknown")),
                ("MemoryPressure", "Unknown", Some("NodeStatusNeverUpdated")),
                ("DiskPressure", "Unknown", Some("NodeStatusNeverUpdated")),
                ("PIDPressure", "Unknown", Some("NodeStatusNeverUpdated")),
            ]
        );
        let again = node(Value::from(conditions));
        assert_eq!(judge(&again, Now(0), GRACE, Now(60_000)), Health::KnownSilent);
    }
}
