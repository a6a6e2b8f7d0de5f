//! How fast nodes may be told to give up their pods: the worse the cluster looks, the slower. Pure.
//!
//! Source: `ReducedQPSFunc`, `ComputeZoneState` and the defaults of `pkg/controller/nodelifecycle`. Deviation: the
//! cluster is one zone.

use std::collections::HashMap;
use std::time::Duration;

use super::taints::Eviction;
use crate::clock::Now;

/// Upstream's rate is 0.1 a second.
const NORMAL: Duration = Duration::from_secs(10);
/// Upstream's secondary rate is 0.01 a second.
const SLOW: Duration = Duration::from_secs(100);
/// A cluster of at most this many nodes stops where a larger one slows down.
const LARGE_CLUSTER: usize = 50;
/// The share of unready nodes, in percent, from which on the cluster counts as disrupted.
const DISRUPTED_PERCENT: usize = 55;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    Every(Duration),
    Stopped,
    /// No node is ready.
    Suspended,
}

pub(crate) fn pace(ready: usize, unready: usize) -> Pace {
    let all = ready + unready;
    if unready > 0 && ready == 0 {
        return Pace::Suspended;
    }
    if unready > 2 && unready * 100 >= all * DISRUPTED_PERCENT {
        return if all > LARGE_CLUSTER {
            Pace::Every(SLOW)
        } else {
            Pace::Stopped
        };
    }
    Pace::Every(NORMAL)
}

/// Which nodes are ready, and when the next may be told to give up its pods.
#[derive(Debug)]
pub(crate) struct Pacer {
    ready: HashMap<String, bool>,
    next: Now,
    pace: Pace,
}

impl Default for Pacer {
    fn default() -> Self {
        Self {
            ready: HashMap::new(),
            next: Now(0),
            pace: Pace::Every(NORMAL),
        }
    }
}

impl Pacer {
    /// Notes a node's state, `None` when it is gone. Tells whether the pace changed, which concerns all nodes.
    pub(crate) fn note(&mut self, node: &str, ready: Option<bool>) -> bool {
        match ready {
            Some(ready) => drop(self.ready.insert(node.to_owned(), ready)),
            None => drop(self.ready.remove(node)),
        }
        let ready = self.ready.values().filter(|ready| **ready).count();
        let before = self.pace;
        self.pace = pace(ready, self.ready.len() - ready);
        self.pace != before
    }

    /// What a node may do now.
    pub(crate) fn leave(&self, now: Now) -> Eviction {
        match self.pace {
            Pace::Every(_) if now >= self.next => Eviction::Allowed,
            Pace::Every(_) | Pace::Stopped => Eviction::Withheld,
            Pace::Suspended => Eviction::Suspended,
        }
    }

    /// A node was told to give up its pods.
    pub(crate) fn used(&mut self, now: Now) {
        if let Pace::Every(interval) = self.pace {
            self.next = now.plus(interval);
        }
    }

    /// When to ask again, if time alone changes the answer.
    pub(crate) fn wait(&self, now: Now) -> Option<Duration> {
        matches!(self.pace, Pace::Every(_)).then(|| now.until(self.next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worse_the_cluster_looks_the_slower() {
        let cases = [
            (3, 1, Pace::Every(NORMAL)),
            (2, 2, Pace::Every(NORMAL)),
            (1, 2, Pace::Every(NORMAL)),
            (1, 3, Pace::Stopped),
            (20, 40, Pace::Every(SLOW)),
            (0, 1, Pace::Suspended),
            (0, 0, Pace::Every(NORMAL)),
        ];
        for (ready, unready, expected) in cases {
            assert_eq!(pace(ready, unready), expected, "{ready} ready, {unready} not");
        }
    }

    #[test]
    fn one_node_at_a_time_gives_up_its_pods() {
        let mut pacer = Pacer::default();
        pacer.note("a", Some(true));
        assert_eq!(pacer.leave(Now(0)), Eviction::Allowed);
        pacer.used(Now(0));
        assert_eq!(pacer.leave(Now(9_999)), Eviction::Withheld);
        assert_eq!(pacer.wait(Now(4_000)), Some(Duration::from_secs(6)));
        assert_eq!(pacer.leave(Now(10_000)), Eviction::Allowed);
        assert!(pacer.note("a", Some(false)), "now none is ready");
        assert_eq!(pacer.leave(Now(10_000)), Eviction::Suspended);
    }
}
