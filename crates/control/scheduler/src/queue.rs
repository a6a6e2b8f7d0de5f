//! Pods that wait: ready to be tried (active), tried a moment ago (back-off), or refused until something changes
//! (unschedulable).
//!
//! A pod is in one of the three at most. Events that come while a pod is being tried are remembered, so that a refusal
//! that an event has overtaken goes to the back-off queue and not to sleep.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use crate::decision::Refusal;
use crate::model::PodInfo;
use crate::plugins::ClusterEvent;

/// Upstream's first and longest back-off.
const FIRST_BACKOFF_MS: u64 = 1_000;
const LONGEST_BACKOFF_MS: u64 = 10_000;
/// Upstream looks at every refused pod again after this long, against lost events.
const LONGEST_REFUSAL_MS: u64 = 300_000;

/// The three queues. Times are milliseconds of a clock that only grows.
#[derive(Debug, Default)]
pub struct Queue {
    /// Highest priority first, then first come.
    active: BTreeMap<(Reverse<i32>, u64), String>,
    backoff: BinaryHeap<Reverse<(u64, String)>>,
    pods: HashMap<String, Waiting>,
    arrivals: u64,
    /// Events of the current attempt, by their number.
    events: Vec<ClusterEvent>,
}

#[derive(Debug)]
struct Waiting {
    pod: PodInfo,
    attempts: u32,
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
    /// Being tried; events since then count from here.
    InWork(usize),
}

impl Queue {
    /// A new or changed pod without a node.
    pub fn add(&mut self, pod: PodInfo) {
        let uid = pod.uid.clone();
        let Some(waiting) = self.pods.get_mut(&uid) else {
            let place = Place::Gated;
            self.pods.insert(
                uid.clone(),
                Waiting {
                    pod,
                    attempts: 0,
                    place,
                },
            );
            return self.activate(&uid);
        };
        let changed = waiting.pod.gates != pod.gates
            || waiting.pod.requests != pod.requests
            || waiting.pod.tolerations != pod.tolerations
            || waiting.pod.node_selector != pod.node_selector;
        waiting.pod = pod;
        if changed && matches!(waiting.place, Place::Gated | Place::Refused { .. }) {
            self.activate(&uid);
        }
    }

    /// The pod is placed, gone, or not ours any more.
    pub fn remove(&mut self, uid: &str) {
        if let Some(waiting) = self.pods.remove(uid)
            && let Place::Active(key) = waiting.place
        {
            self.active.remove(&key);
        }
    }

    fn activate(&mut self, uid: &str) {
        let arrival = self.arrivals;
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        if let Place::Active(_) = waiting.place {
            return;
        }
        if !waiting.pod.gates.is_empty() {
            waiting.place = Place::Gated;
            return;
        }
        self.arrivals += 1;
        let key = (Reverse(waiting.pod.priority), arrival);
        waiting.place = Place::Active(key);
        self.active.insert(key, uid.to_owned());
    }

    /// The next pod to try.
    pub fn pop(&mut self, now: u64) -> Option<PodInfo> {
        self.promote(now);
        let (_, uid) = self.active.pop_first()?;
        let waiting = self.pods.get_mut(&uid)?;
        waiting.attempts += 1;
        waiting.place = Place::InWork(self.events.len());
        Some(waiting.pod.clone())
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

    /// The pod found no node. Events since its attempt began send it to the back-off queue at once.
    pub fn refuse(&mut self, uid: &str, refusal: Refusal, now: u64) {
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        let Place::InWork(since) = waiting.place else {
            return;
        };
        if self.events[since..]
            .iter()
            .any(|event| refusal.may_be_turned_by(*event))
        {
            self.back_off(uid, now);
        } else {
            let until = now + LONGEST_REFUSAL_MS;
            waiting.place = Place::Refused { refusal, until };
            self.backoff.push(Reverse((until, uid.to_owned())));
        }
        self.forget_events();
    }

    /// The attempt failed for a reason of the moment: it is made again after the back-off.
    pub fn back_off(&mut self, uid: &str, now: u64) {
        let Some(waiting) = self.pods.get_mut(uid) else {
            return;
        };
        let doublings = waiting.attempts.saturating_sub(1).min(8);
        let until = now + (FIRST_BACKOFF_MS << doublings).min(LONGEST_BACKOFF_MS);
        waiting.place = Place::Backoff(until);
        self.backoff.push(Reverse((until, uid.to_owned())));
        self.forget_events();
    }

    /// Something happened in the cluster: pods that it may help are tried again, at once where their back-off is over.
    pub fn happened(&mut self, event: ClusterEvent, now: u64) {
        let in_work = self
            .pods
            .values()
            .any(|waiting| matches!(waiting.place, Place::InWork(_)));
        if in_work {
            self.events.push(event);
        }
        let helped = |waiting: &Waiting| matches!(&waiting.place, Place::Refused { refusal, .. } if refusal.may_be_turned_by(event));
        let uids: Vec<String> = self
            .pods
            .iter()
            .filter(|(_, waiting)| helped(waiting))
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in uids {
            // The first attempt's back-off is counted from now: a refused pod may have waited long.
            if self.pods.get(&uid).is_some_and(|waiting| waiting.attempts <= 1) {
                self.activate(&uid);
            } else {
                self.back_off(&uid, now);
            }
        }
    }

    fn forget_events(&mut self) {
        if !self
            .pods
            .values()
            .any(|waiting| matches!(waiting.place, Place::InWork(_)))
        {
            self.events.clear();
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
mod tests {
    use super::*;
    use crate::model::tests::pod;

    fn waiting(uid: &str, priority: i32) -> PodInfo {
        let mut info = pod(r#"{"metadata":{"name":"p"},"spec":{"containers":[]}}"#);
        info.uid = uid.into();
        info.priority = priority;
        info
    }

    fn refusal(event: ClusterEvent) -> Refusal {
        Refusal {
            nodes: 1,
            hints: [event as u8].into(),
            ..Refusal::default()
        }
    }

    fn pop(queue: &mut Queue, now: u64) -> Option<String> {
        queue.pop(now).map(|pod| pod.uid)
    }

    #[test]
    fn higher_priorities_come_first_then_first_come() {
        let mut queue = Queue::default();
        for (uid, priority) in [("a", 0), ("b", 10), ("c", 0)] {
            queue.add(waiting(uid, priority));
        }
        let order: Vec<_> = std::iter::from_fn(|| pop(&mut queue, 0)).collect();
        assert_eq!(order, ["b", "a", "c"]);
    }

    #[test]
    fn a_refused_pod_sleeps_until_an_event_that_may_help() {
        let mut queue = Queue::default();
        queue.add(waiting("a", 0));
        pop(&mut queue, 0);
        queue.refuse("a", refusal(ClusterEvent::NodeTaintsChanged), 0);
        queue.happened(ClusterEvent::NodeLabelsChanged, 1);
        assert_eq!(pop(&mut queue, 1), None);
        queue.happened(ClusterEvent::NodeTaintsChanged, 2);
        assert_eq!(pop(&mut queue, 2).as_deref(), Some("a"));
    }

    #[test]
    fn an_event_during_the_attempt_is_not_lost() {
        let mut queue = Queue::default();
        queue.add(waiting("a", 0));
        pop(&mut queue, 0);
        queue.happened(ClusterEvent::NodeAdded, 0);
        queue.refuse("a", refusal(ClusterEvent::NodeAdded), 0);
        assert_eq!(pop(&mut queue, 999), None);
        assert_eq!(pop(&mut queue, 1000).as_deref(), Some("a"));
    }

    #[test]
    fn back_offs_double_and_are_told_as_due() {
        let mut queue = Queue::default();
        queue.add(waiting("a", 0));
        let mut now = 0;
        let mut waits = Vec::new();
        for _ in 0..6 {
            assert_eq!(pop(&mut queue, now).as_deref(), Some("a"));
            queue.back_off("a", now);
            let due = queue.next_due().unwrap();
            waits.push(due - now);
            now = due;
        }
        assert_eq!(waits, [1000, 2000, 4000, 8000, 10_000, 10_000]);
    }

    #[test]
    fn a_gated_pod_waits_for_its_gates() {
        let mut queue = Queue::default();
        let mut gated = waiting("a", 0);
        gated.gates = vec!["g".into()];
        queue.add(gated.clone());
        assert_eq!(pop(&mut queue, 0), None);
        gated.gates.clear();
        queue.add(gated);
        assert_eq!(pop(&mut queue, 0).as_deref(), Some("a"));
    }

    #[test]
    fn a_removed_pod_is_never_tried() {
        let mut queue = Queue::default();
        queue.add(waiting("a", 0));
        queue.remove("a");
        assert_eq!(pop(&mut queue, 0), None);
        assert!(queue.is_empty());
    }
}
