//! What a ReplicaSet needs, as a pure function of what is observed.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::{LabelSelector, Value, value};

use super::facts::ReplicaSet;
use super::rank;
use crate::claim::{Claimant, claim};
use crate::clock::Now;
use crate::pod::Pod;

/// The most pods that are created or deleted in one go.
const BURST: usize = 500;

/// What is known when a ReplicaSet is looked at.
pub(crate) struct Observed<'a> {
    pub(crate) set: &'a ReplicaSet,
    /// Its pods and the orphans of its namespace.
    pub(crate) pods: Vec<Arc<Pod>>,
    /// The pods of the sets with the same owner, its own included.
    pub(crate) related: &'a [Arc<Pod>],
    /// Whether everything that was written for it earlier has been seen. If not, pods are neither made nor deleted.
    pub(crate) settled: bool,
    pub(crate) now: Now,
}

/// What to do, in this order.
pub(crate) struct Decision {
    pub(crate) adopt: Vec<Arc<Pod>>,
    pub(crate) release: Vec<Arc<Pod>>,
    pub(crate) create: usize,
    pub(crate) delete: Vec<Arc<Pod>>,
    /// What the status counts.
    pub(crate) tally: Tally,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Tally {
    pub(crate) active: i64,
    pub(crate) fully_labeled: i64,
    pub(crate) ready: i64,
    pub(crate) available: i64,
    pub(crate) terminating: i64,
    /// When the next ready pod becomes available.
    pub(crate) next_available: Option<Duration>,
}

pub(crate) fn decide(observed: Observed<'_>) -> Decision {
    let Observed {
        set,
        pods,
        related,
        settled,
        now,
    } = observed;
    let claimant = Claimant {
        uid: &set.object.uid,
        deleting: set.deleting,
        selector: &set.selector,
    };
    let terminating = pods.iter().filter(|pod| counts_as_terminating(set, pod)).count();
    let active = pods.into_iter().filter(|pod| pod.is_active());
    let claims = claim(&claimant, active);
    let tally = tally(set, &claims.owned, terminating, now);
    let wanted = usize::try_from(set.replicas).unwrap_or(0);
    let have = claims.owned.len();
    let (mut create, mut delete) = (0, Vec::new());
    if settled && !set.deleting {
        create = wanted.saturating_sub(have).min(BURST);
        let surplus = have.saturating_sub(wanted).min(BURST);
        if surplus > 0 {
            delete = rank::to_delete(claims.owned, related, surplus, now);
        }
    }
    Decision {
        adopt: claims.adopt,
        release: claims.release,
        create,
        delete,
        tally,
    }
}

/// Being deleted, not finished, and owned.
fn counts_as_terminating(set: &ReplicaSet, pod: &Pod) -> bool {
    let owned = pod
        .owner
        .as_ref()
        .is_some_and(|owner| owner.uid == set.object.uid);
    pod.deleting && !pod.is_finished() && owned && set.selector.matches(&*pod.object)
}

fn tally(set: &ReplicaSet, active: &[Arc<Pod>], terminating: usize, now: Now) -> Tally {
    let labels = set
        .tree
        .at(&["spec", "template", "metadata", "labels"])
        .and_then(Value::as_object);
    let template = LabelSelector::from_map(labels);
    let mut tally = Tally {
        active: active.len() as i64,
        terminating: terminating as i64,
        ..Tally::default()
    };
    for pod in active {
        tally.fully_labeled += i64::from(template.matches(&*pod.object));
        if !pod.ready {
            continue;
        }
        tally.ready += 1;
        if set.min_ready_seconds == 0 {
            tally.available += 1;
            continue;
        }
        let Some(since) = pod.ready_since else { continue };
        match now.until(since, set.min_ready_seconds) {
            None => tally.available += 1,
            Some(left) => {
                let earlier = tally.next_available.map_or(left, |other| other.min(left));
                tally.next_available = Some(earlier);
            }
        }
    }
    tally
}

/// Why pods could not be created or deleted.
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// The new status, or `None` when it says what the present one says. While something that was written for the set is
/// unseen (not [`Observed::settled`]), the counts do not answer for its generation: who waits for a set to be empty must
/// not be told so too early.
pub(crate) fn status(
    set: &ReplicaSet,
    tally: &Tally,
    settled: bool,
    failure: Option<&Failure>,
    now: Now,
) -> Option<Value> {
    let mut status = value!({"replicas": (tally.active), "terminatingReplicas": (tally.terminating)});
    let observed = if settled {
        set.generation()
    } else {
        set.count("observedGeneration")
    };
    if observed != 0 {
        status.set_at(&["observedGeneration"], observed);
    }
    for (field, count) in [
        ("fullyLabeledReplicas", tally.fully_labeled),
        ("readyReplicas", tally.ready),
        ("availableReplicas", tally.available),
    ] {
        if count != 0 {
            status.set_at(&[field], count);
        }
    }
    let conditions = conditions(set, failure, now);
    if !conditions.is_empty() {
        status.set_at(&["conditions"], conditions);
    }
    (set.tree.at(&["status"]) != Some(&status)).then_some(status)
}

/// A failure is told once and stays as it was first told until it is over.
fn conditions(set: &ReplicaSet, failure: Option<&Failure>, now: Now) -> Vec<Value> {
    let is_failure = |condition: &Value| condition.str_at(&["type"]) == Some("ReplicaFailure");
    let mut conditions = set.tree.items_at(&["status", "conditions"]).to_vec();
    match failure {
        None => conditions.retain(|condition| !is_failure(condition)),
        Some(_) if conditions.iter().any(is_failure) => {}
        Some(failure) => conditions.push(value!({
            "type": "ReplicaFailure", "status": "True", "reason": (failure.reason),
            "message": (failure.message.as_str()), "lastTransitionTime": (now.timestamp())
        })),
    }
    conditions
}

#[cfg(test)]
mod tests;
