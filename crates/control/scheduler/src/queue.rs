//! Pods that wait: ready to be tried (active), tried a moment ago (back-off), or refused until something changes
//! (unschedulable).
//!
//! A pod is in one of the three at most. An attempt and its outcome are one step, between two looks at the watches, so no
//! event can come in between and be lost.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, HashSet};

use compact_str::CompactString;

use crate::decision::Refusal;
use crate::model::PodInfo;
use crate::plugins::{ClusterEvent, Plugin};

/// Upstream's first and longest back-off.
const FIRST_BACKOFF_MS: u64 = 1_000;
const LONGEST_BACKOFF_MS: u64 = 10_000;
/// Upstream looks at every refused pod again after this long, against lost events.
const LONGEST_REFUSAL_MS: u64 = 300_000;

/// The three queues. Times are milliseconds of a clock that only grows.
#[derive(Debug, Default)]
pub struct Queue {
    /// Highest priority first, then first come.
    active: BTreeMap<(Reverse<i32>, u64), CompactString>,
    backoff: BinaryHeap<Reverse<(u64, CompactString)>>,
    refused: HashSet<CompactString>,
    pods: HashMap<CompactString, Waiting>,
    arrivals: u64,
}

#[derive(Debug)]
struct Waiting {
    pod: PodInfo,
    attempts: u32,
    /// When it was last tried.
    tried: u64,
    /// The node kept for it, while the API does not tell yet.
    kept: Option<CompactString>,
    place: Place,
}

#[derive(Debug, PartialEq)]
enum Place {
    Active((Reverse<i32>, u64)),
    Backoff(u64),
    Refused {
        refusal: Refusal,
        until: u64,
    },
    /// Holds gates: no attempt until its spec changes.
    Gated,
    /// Being tried or bound.
    InWork,
}

impl Waiting {
    /// When its back-off is over.
    fn due(&self) -> u64 {
        let doublings = self.attempts.saturating_sub(1).min(8);
        self.tried + (FIRST_BACKOFF_MS << doublings).min(LONGEST_BACKOFF_MS)
    }

    fn pod(&self) -> PodInfo {
        let mut pod = self.pod.clone();
        if let Some(kept) = &self.kept {
            pod.nominated_node.clone_from(kept);
        }
        pod
    }
}

impl Queue {
    /// A new or changed pod without a node. Gives the pod with the node that is kept for it.
    pub fn add(&mut self, pod: PodInfo) -> PodInfo {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            let waiting = Waiting {
                pod: pod.clone(),
                attempts: 0,
                tried: 0,
                kept: None,
                place: Place::Gated,
            };
            self.pods.insert(uid.clone(), waiting);
            self.activate(&uid);
            return pod;
        };
        let changed = !waiting.pod.asks_the_same_as(&pod);
        if waiting.pod.nominated_node != pod.nominated_node {
            waiting.kept = None;
        }
        waiting.pod = pod;
        let pod = waiting.pod();
        if changed && matches!(waiting.place, Place::Gated | Place::Refused { .. }) {
            self.activate(&uid);
        }
        pod
    }

    /// The pod is placed, gone, or not ours any more.
    pub fn remove(&mut self, uid: &str) {
        self.refused.remove(uid);
        if let Some(waiting) = self.pods.remove(uid)
            && let Place::Active(key) = waiting.place
        {
            self.active.remove(&key);
        }
    }

    /// Lets the pod be tried as soon as its turn comes.
    pub fn activate(&mut self, uid: &str) {
        let arrival = self.arrivals;
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        if let Place::Active(_) | Place::InWork = waiting.place {
            return;
        }
        self.refused.remove(uid);
        if !waiting.pod.gates.is_empty() {
            waiting.place = Place::Gated;
            return;
        }
        self.arrivals += 1;
        let key = (Reverse(waiting.pod.priority), arrival);
        waiting.place = Place::Active(key);
        self.active.insert(key, uid.into());
    }

    /// The next pod to try.
    pub fn pop(&mut self, now: u64) -> Option<PodInfo> {
        self.promote(now);
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.attempts += 1;
        waiting.tried = now;
        waiting.place = Place::InWork;
        Some(waiting.pod())
    }

    fn promote(&mut self, now: u64) {
        while let Some(Reverse((at, uid))) = self.backoff.peek().cloned() {
            if at > now {
                break;
            }
            self.backoff.pop();
            let due = match self.pods.get(&uid).map(|waiting| &waiting.place) {
                Some(Place::Backoff(until) | Place::Refused { until, .. }) => *until == at,
                _ => false,
            };
            if due {
                self.activate(&uid);
            }
        }
    }

    /// When [`Queue::pop`] may have something though nothing happens.
    pub fn next_due(&self) -> Option<u64> {
        self.backoff.peek().map(|Reverse((at, _))| *at)
    }

    /// The pod found no node; `kept` is the one that is kept for it from now on, empty for none.
    pub fn refuse(&mut self, uid: &str, refusal: Refusal, kept: Option<&str>, now: u64) {
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        if let Some(kept) = kept {
            waiting.kept = Some(kept.into());
        }
        let until = now + LONGEST_REFUSAL_MS;
        waiting.place = Place::Refused { refusal, until };
        self.refused.insert(uid.into());
        self.backoff.push(Reverse((until, uid.into())));
    }

    /// The node is no longer kept for the pod: others need it more. It may look for another one.
    pub fn give_up_kept(&mut self, uid: &str) {
        if let Some(waiting) = self.pods.get_mut(uid) {
            waiting.kept = Some(CompactString::default());
        }
        self.activate(uid);
    }

    /// The attempt failed for a reason of the moment, or something has changed: it is made again after the back-off.
    pub fn back_off(&mut self, uid: &str, now: u64) {
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        self.refused.remove(uid);
        let until = waiting.due();
        waiting.place = Place::Backoff(until);
        if until <= now {
            return self.activate(uid);
        }
        self.backoff.push(Reverse((until, uid.into())));
    }

    /// Something happened in the cluster: pods that it may help are tried again, at once where their back-off is over.
    /// After its first attempt a pod need not wait.
    pub fn happened(&mut self, event: ClusterEvent<'_>, plugins: &[Box<dyn Plugin>], now: u64) {
        let is_helped = |uid: &&CompactString| match self.pods.get(*uid) {
            Some(waiting) => {
                matches!(&waiting.place, Place::Refused { refusal, .. } if refusal.is_turned_by(&waiting.pod, event, plugins))
            }
            None => false,
        };
        let helped: Vec<CompactString> = self.refused.iter().filter(is_helped).cloned().collect();
        for uid in helped {
            if self.pods.get(&uid).is_some_and(|waiting| waiting.attempts <= 1) {
                self.activate(&uid);
            } else {
                self.back_off(&uid, now);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.pods.len()
    }

    pub fn is_empty(&self) -> bool {
        self.pods.is_empty()
    }
}

#[cfg(test)]
mod tests;
