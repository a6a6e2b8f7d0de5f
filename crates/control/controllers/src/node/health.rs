//! Whether a node is heard of. Pure.

use std::time::Duration;

use cloudeck_machinery::{Value, value};
use compact_str::CompactString;

use crate::Timings;
use crate::clock::Now;

/// The second look comes after this part of the grace: two and a half seconds by default.
const SECOND_LOOK: u32 = 20;

/// What was last heard of a node, and when it was heard here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Health {
    pub(super) uid: CompactString,
    heard: Now,
    heartbeat: Option<String>,
    renewed: Option<String>,
    ready: bool,
    /// When its silence was first seen to have lasted too long.
    doubted: Option<Now>,
    /// The pods of the node are to be told that it is not ready, and have not been.
    pub(super) owes_word: bool,
}

impl Health {
    /// Takes in what holds now; also answers whether the node was seen to be ready and no longer is. A node that is found
    /// silent when the controller starts owes its pods the word, too: nobody knows whether they were told.
    pub(super) fn observe(seen: Option<Self>, node: &Value, renewed: Option<&str>, now: Now) -> (Self, bool) {
        let ready = condition(node, "Ready");
        let heartbeat = ready.and_then(|ready| ready.str_at(&["lastHeartbeatTime"]));
        let is_silent =
            |seen: &Self| seen.heartbeat.as_deref() == heartbeat && seen.renewed.as_deref() == renewed;
        let silent = seen.as_ref().filter(|seen| is_silent(seen));
        let heard = silent.map_or(now, |seen| seen.heard);
        let doubted = silent.and_then(|seen| seen.doubted);
        let is_unknown = ready.and_then(|ready| ready.str_at(&["status"])) == Some("Unknown");
        let ready = is_ready(node);
        let lost_ready = seen.as_ref().is_some_and(|seen| seen.ready && !ready);
        let owed = seen.as_ref().map_or(is_unknown, |seen| seen.owes_word);
        let health = Self {
            uid: node.str_at(&["metadata", "uid"]).unwrap_or_default().into(),
            heard,
            heartbeat: heartbeat.map(str::to_owned),
            renewed: renewed.map(str::to_owned),
            ready,
            doubted,
            owes_word: !ready && (owed || lost_ready),
        };
        (health, lost_ready)
    }

    /// How long until the node's silence counts; `None` when it does.
    ///
    /// A machine that slept, or a clock that was set, makes everybody look silent at once, and the first to wake would
    /// judge the others. So there is a second look a little later, by when a living node has spoken.
    pub(super) fn time_left(&mut self, node: &Value, timings: &Timings, now: Now) -> Option<Duration> {
        let spoke = condition(node, "Ready").is_some();
        let grace = if spoke {
            timings.node_grace
        } else {
            timings.node_startup_grace
        };
        let left = grace.saturating_sub(since(self.heard, now));
        if !left.is_zero() {
            return Some(left);
        }
        let doubted = *self.doubted.get_or_insert(now);
        let left = (grace / SECOND_LOOK).saturating_sub(since(doubted, now));
        (!left.is_zero()).then_some(left)
    }
}

fn since(then: Now, now: Now) -> Duration {
    Duration::from_millis(u64::try_from(now.0.saturating_sub(then.0)).unwrap_or(0))
}

pub(super) fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    let mut conditions = node.items_at(&["status", "conditions"]).iter();
    conditions.find(|condition| condition.str_at(&["type"]) == Some(kind))
}

pub(super) fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").and_then(|ready| ready.str_at(&["status"])) == Some("True")
}

/// The node with what it says of itself made Unknown; `None` when all is Unknown already.
pub(super) fn unknown(node: &Value, now: Now) -> Option<Value> {
    let mut conditions = node.items_at(&["status", "conditions"]).to_vec();
    let mut changed = false;
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        let present = conditions
            .iter_mut()
            .find(|condition| condition.str_at(&["type"]) == Some(kind));
        match present {
            None => {
                changed = true;
                let created = node
                    .str_at(&["metadata", "creationTimestamp"])
                    .unwrap_or_default();
                conditions.push(value!({
                    "type": (kind), "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                    "lastHeartbeatTime": (created), "lastTransitionTime": (now.timestamp())
                }));
            }
            Some(present) if present.str_at(&["status"]) != Some("Unknown") => {
                changed = true;
                present.set_at(&["status"], "Unknown");
                present.set_at(&["reason"], "NodeStatusUnknown");
                present.set_at(&["message"], "Kubelet stopped posting node status.");
                present.set_at(&["lastTransitionTime"], now.timestamp());
            }
            Some(_) => {}
        }
    }
    let mut tree = node.clone();
    tree.set_at(&["status", "conditions"], conditions);
    changed.then_some(tree)
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::json;

    use super::*;

    fn node(status: &str, heartbeat: &str) -> Value {
        let text = format!(
            r#"{{"status":{{"conditions":[{{"type":"Ready","status":"{status}","lastHeartbeatTime":"{heartbeat}"}}]}}}}"#
        );
        json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_renewed_lease_or_a_new_heartbeat_starts_the_time_anew() {
        let tree = node("True", "a");
        let (health, _) = Health::observe(None, &tree, Some("1"), Now(0));
        let later = Now(49_000);
        let (mut silent, _) = Health::observe(Some(health.clone()), &tree, Some("1"), later);
        assert_eq!(
            silent.time_left(&tree, &Timings::default(), later),
            Some(Duration::from_secs(1))
        );
        let (mut renewed, _) = Health::observe(Some(health.clone()), &tree, Some("2"), later);
        assert_eq!(
            renewed.time_left(&tree, &Timings::default(), later),
            Some(Duration::from_secs(50))
        );
        let (mut posted, _) = Health::observe(Some(health), &node("True", "b"), Some("1"), later);
        assert_eq!(
            posted.time_left(&tree, &Timings::default(), later),
            Some(Duration::from_secs(50))
        );
    }

    #[test]
    fn a_controller_that_begins_grants_the_whole_time_whatever_was_missed() {
        let tree = node("True", "1970-01-01T00:00:00Z");
        let hours_later = Now(7_200_000);
        let (mut found, lost) = Health::observe(None, &tree, Some("1970-01-01T00:00:00Z"), hours_later);
        assert!(!lost && !found.owes_word);
        let left = found.time_left(&tree, &Timings::default(), hours_later);
        assert_eq!(left, Some(Duration::from_secs(50)));
    }

    #[test]
    fn silence_counts_at_the_second_look_however_late_the_first_one_is() {
        let tree = node("True", "a");
        let (health, _) = Health::observe(None, &tree, Some("1"), Now(0));
        // Everybody slept for an hour.
        let awake = 3_600_000;
        let (mut health, _) = Health::observe(Some(health), &tree, Some("1"), Now(awake));
        let mut left = |after: i64| health.time_left(&tree, &Timings::default(), Now(awake + after));
        assert_eq!(left(0), Some(Duration::from_millis(2_500)));
        assert_eq!(left(500), Some(Duration::from_secs(2)));
        assert_eq!(left(2_500), None);
        let (mut spoke, _) = Health::observe(Some(health), &tree, Some("2"), Now(awake + 400));
        let left = spoke.time_left(&tree, &Timings::default(), Now(awake + 400));
        assert_eq!(left, Some(Duration::from_secs(50)));
    }

    #[test]
    fn losing_readiness_is_told_once() {
        let (ready, lost) = Health::observe(None, &node("True", "a"), None, Now(0));
        assert!(!lost);
        let (unready, lost) = Health::observe(Some(ready), &node("Unknown", "a"), None, Now(1));
        assert!(lost);
        assert!(!Health::observe(Some(unready), &node("Unknown", "a"), None, Now(2)).1);
    }

    #[test]
    fn the_word_is_owed_until_it_is_given_or_the_node_is_back() {
        let (found_ready, _) = Health::observe(None, &node("True", "a"), None, Now(0));
        assert!(!found_ready.owes_word);
        let (lost, _) = Health::observe(Some(found_ready), &node("False", "a"), None, Now(1));
        let (later, _) = Health::observe(Some(lost.clone()), &node("Unknown", "a"), None, Now(2));
        assert!(lost.owes_word && later.owes_word);
        let mut given = later.clone();
        given.owes_word = false;
        assert!(
            !Health::observe(Some(given), &node("Unknown", "a"), None, Now(3))
                .0
                .owes_word
        );
        assert!(
            !Health::observe(Some(later), &node("True", "b"), None, Now(3))
                .0
                .owes_word
        );
        assert!(
            Health::observe(None, &node("Unknown", "a"), None, Now(0))
                .0
                .owes_word
        );
        assert!(
            !Health::observe(None, &node("False", "a"), None, Now(0))
                .0
                .owes_word
        );
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let tree = unknown(&node("True", "a"), Now(0)).unwrap();
        let ready = condition(&tree, "Ready").unwrap();
        assert_eq!(ready.str_at(&["reason"]), Some("NodeStatusUnknown"));
        let memory = condition(&tree, "MemoryPressure").unwrap();
        assert_eq!(memory.str_at(&["reason"]), Some("NodeStatusNeverUpdated"));
        assert_eq!(unknown(&tree, Now(9)), None);
    }
}
