//! What a Deployment needs next, as a pure function of what is observed.
//!
//! Source: `rolling.go`, `recreate.go` and `sync.go` in `pkg/controller/deployment`.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_machinery::{Object, Value};
use compact_str::CompactString;

use super::facts::Deployment;
use super::rollout::{Member, Rollout, scale};
use super::{proportion, revision, status};
use crate::clock::Now;
use crate::pod::Pod;
use crate::replicaset::facts::ReplicaSet;

/// What is known when a Deployment is looked at.
pub(crate) struct Observed<'a> {
    pub(crate) deployment: &'a Deployment,
    /// The sets it owns.
    pub(crate) sets: &'a [Arc<ReplicaSet>],
    /// Whether the set of this uid has pods that are not finished.
    pub(crate) has_pods: &'a dyn Fn(&str) -> bool,
    pub(crate) now: Now,
}

/// What to do, in this order; what follows a failure is not done.
#[derive(Default)]
pub(crate) struct Plan {
    /// A set to create.
    pub(crate) create: Option<Value>,
    /// Sets to replace, each with what its scaling is told as.
    pub(crate) update: Vec<(Value, Option<String>)>,
    pub(crate) delete: Vec<Arc<ReplicaSet>>,
    /// The Deployment with its new status.
    pub(crate) deployment: Option<Value>,
    /// When to look again if nothing happens.
    pub(crate) again: Option<Duration>,
    /// New pods come in the place of those of these sets, by uid, which are gone as far as the caches know.
    pub(crate) replaces: Option<Vec<CompactString>>,
}

pub(crate) fn decide(observed: &Observed<'_>) -> Plan {
    let deployment = observed.deployment;
    let mut rollout = Rollout::new(deployment, observed.sets, observed.now);
    if deployment.deleting {
        let outcome = status::plain(&rollout);
        return plan(rollout, outcome);
    }
    status::note_pause(&mut rollout);
    rollout.sync_revision();
    if deployment.paused || was_scaled(&rollout) {
        proportion::scale_all(&mut rollout);
        if deployment.paused {
            rollout.clean_up();
        }
        let outcome = status::plain(&rollout);
        return plan(rollout, outcome);
    }
    if deployment.recreates {
        recreate(&mut rollout, observed.has_pods);
    } else {
        roll(&mut rollout);
    }
    let outcome = status::rolling(&rollout);
    plan(rollout, outcome)
}

/// Whether the wanted size differs from what its active sets were last told.
fn was_scaled(rollout: &Rollout<'_>) -> bool {
    let wanted = rollout.deployment.replicas;
    let mut active = rollout.members().filter(|member| member.replicas > 0);
    active.any(|member| {
        revision::size(&member.tree, revision::DESIRED_REPLICAS).is_some_and(|told| told != wanted)
    })
}

fn recreate(rollout: &mut Rollout<'_>, has_pods: &dyn Fn(&str) -> bool) {
    let deployment = rollout.deployment;
    let mut scaled = false;
    for member in &mut rollout.old {
        scaled |= scale(deployment, member, 0, false);
    }
    let old = rollout.old.iter().filter_map(|member| member.set.as_deref());
    let old_pods = old.clone().any(|set| !is_empty(set) || has_pods(&set.object.uid));
    if scaled || old_pods {
        return;
    }
    let old = old.map(|set| set.object.uid.clone()).collect();
    let mut grows = rollout.new.is_none();
    rollout.ensure_new();
    if let Some(new) = &mut rollout.new {
        grows |= scale(deployment, new, deployment.replicas, false);
    }
    rollout.replaces = grows.then_some(old);
    if status::stands_complete(deployment) {
        rollout.clean_up();
    }
}

/// Whether its controller says that it has no pods and will make none.
fn is_empty(set: &ReplicaSet) -> bool {
    set.count("replicas") == 0 && set.count("observedGeneration") >= set.generation()
}

/// Whether the pods of the sets `old` are gone in truth. `fresh` are the sets that are the Deployment's own or could be, and
/// `pods` all of its namespace, both as the server has them now; `known` is what was decided on.
pub(crate) fn is_replaced(
    old: &[CompactString],
    known: &[Arc<ReplicaSet>],
    fresh: &[Arc<Object>],
    pods: &[Pod],
) -> bool {
    let is_known = |set: &Arc<Object>| {
        let mut known = known.iter().map(|known| &known.object);
        known.any(|known| known.uid == set.uid && known.revision == set.revision)
    };
    let lives = |pod: &Pod| {
        let owner = pod.owner.as_ref().filter(|_| !pod.is_finished());
        owner.is_some_and(|owner| old.contains(&owner.uid))
    };
    fresh.iter().all(is_known) && !pods.iter().any(lives)
}

fn roll(rollout: &mut Rollout<'_>) {
    rollout.ensure_new();
    if resize_new(rollout) || shrink_old(rollout) {
        return;
    }
    if status::stands_complete(rollout.deployment) {
        rollout.clean_up();
    }
}

fn resize_new(rollout: &mut Rollout<'_>) -> bool {
    let deployment = rollout.deployment;
    let present = rollout.new.as_ref().map_or(0, |new| new.replicas);
    let wanted = if present >= deployment.replicas {
        deployment.replicas
    } else {
        rollout.room_for_new(present)
    };
    match &mut rollout.new {
        Some(new) => scale(deployment, new, wanted, false),
        None => false,
    }
}

/// Shrinks old sets: first by pods that are not available anyway, then as far as availability allows. What the new set
/// has promised and does not deliver yet counts as unavailable.
fn shrink_old(rollout: &mut Rollout<'_>) -> bool {
    let deployment = rollout.deployment;
    let Some(new) = &rollout.new else { return false };
    let missing = new.replicas - new.available();
    let most = rollout.total() - deployment.min_available() - missing;
    if most <= 0 || rollout.old.iter().all(|member| member.replicas == 0) {
        return false;
    }
    let Some(unhealthy) = drop_unhealthy(deployment, &mut rollout.old, most) else {
        return false;
    };
    let spare = available_of_active(rollout) - deployment.min_available();
    let healthy = drop_healthy(deployment, &mut rollout.old, spare);
    unhealthy + healthy > 0
}

/// Sets that were empty before do not count: their pods, if any, are on their way out.
fn available_of_active(rollout: &Rollout<'_>) -> i64 {
    let before = |member: &&Member| member.set.as_ref().is_some_and(|set| set.replicas > 0);
    let old: i64 = rollout.old.iter().filter(before).map(Member::available).sum();
    old + rollout.new.as_ref().map_or(0, Member::available)
}

/// `None` when a set's status is from before its last shrinking: nothing can be told from it.
fn drop_unhealthy(deployment: &Deployment, old: &mut [Member], most: i64) -> Option<i64> {
    let mut dropped = 0;
    for member in old.iter_mut().filter(|member| member.replicas > 0) {
        if dropped >= most {
            break;
        }
        let unhealthy = member.replicas - member.available();
        if unhealthy < 0 {
            return None;
        }
        let count = unhealthy.min(most - dropped);
        let left = member.replicas - count;
        scale(deployment, member, left, false);
        dropped += count;
    }
    Some(dropped)
}

fn drop_healthy(deployment: &Deployment, old: &mut [Member], spare: i64) -> i64 {
    let mut dropped = 0;
    for member in old.iter_mut().filter(|member| member.replicas > 0) {
        if dropped >= spare {
            break;
        }
        let count = member.replicas.min(spare - dropped);
        let left = member.replicas - count;
        scale(deployment, member, left, false);
        dropped += count;
    }
    dropped
}

fn plan(rollout: Rollout<'_>, outcome: status::Outcome) -> Plan {
    let deployment = rollout.deployment;
    let mut tree = deployment.tree.clone();
    tree.set_at(&["status"], outcome.status);
    if let Some(revision) = &rollout.revision {
        tree.set_at(
            &["metadata", "annotations", revision::REVISION],
            revision.as_str(),
        );
    }
    let mut plan = Plan {
        delete: rollout.delete,
        again: outcome.again,
        replaces: rollout.replaces,
        deployment: (tree != deployment.tree).then_some(tree),
        ..Plan::default()
    };
    for member in rollout.new.into_iter().chain(rollout.old) {
        match member.set {
            None => plan.create = Some(member.tree),
            Some(_) if member.changed => plan.update.push((member.tree, member.event)),
            Some(_) => {}
        }
    }
    plan
}

#[cfg(test)]
mod tests;
