//! Scaling a Deployment that has several sets with pods: each gets its share, so that neither a paused nor a running
//! rollout is hastened by it.
//!
//! Source: `scale` in `pkg/controller/deployment/sync.go`.

use std::cmp::Reverse;

use super::facts::Deployment;
use super::revision;
use super::rollout::{Member, Rollout, scale};

pub(super) fn scale_all(rollout: &mut Rollout<'_>) {
    let deployment = rollout.deployment;
    if let Some(member) = only_active_or_latest(rollout) {
        scale(deployment, member, deployment.replicas, false);
        return;
    }
    if is_saturated(rollout) {
        for member in &mut rollout.old {
            scale(deployment, member, 0, false);
        }
    } else if !deployment.recreates {
        scale_by_share(rollout);
    }
}

/// The one set with pods or, if none has any, the latest. `None` when several have.
fn only_active_or_latest<'m>(rollout: &'m mut Rollout<'_>) -> Option<&'m mut Member> {
    let Rollout { new, old, .. } = rollout;
    let active = old
        .iter()
        .chain(new.as_ref())
        .filter(|member| member.replicas > 0)
        .count();
    match active {
        0 => new.as_mut().or(old.last_mut()),
        1 => old
            .iter_mut()
            .chain(new.as_mut())
            .find(|member| member.replicas > 0),
        _ => None,
    }
}

/// Whether the new set alone is all that is wanted.
fn is_saturated(rollout: &Rollout<'_>) -> bool {
    let wanted = rollout.deployment.replicas;
    rollout.new.as_ref().is_some_and(|new| {
        new.replicas == wanted
            && new.available() == wanted
            && revision::size(&new.tree, revision::DESIRED_REPLICAS) == Some(wanted)
    })
}

fn scale_by_share(rollout: &mut Rollout<'_>) {
    let deployment = rollout.deployment;
    let allowed = if deployment.replicas > 0 {
        deployment.max_replicas()
    } else {
        0
    };
    let to_add = allowed - rollout.total();
    let mut active: Vec<&mut Member> = rollout.old.iter_mut().chain(rollout.new.as_mut()).collect();
    active.retain(|member| member.replicas > 0);
    // Largest first; of equals the newer ones grow first and the older ones shrink first. They stand oldest first.
    if to_add > 0 {
        active.reverse();
    }
    active.sort_by_key(|member| Reverse(member.replicas));
    let mut sizes = Vec::with_capacity(active.len());
    let mut added = 0;
    for member in &active {
        let share = share(deployment, member, to_add, added);
        sizes.push(member.replicas + share);
        added += share;
    }
    if let Some(largest) = sizes.first_mut() {
        *largest = (*largest + to_add - added).max(0);
    }
    for (member, size) in active.into_iter().zip(sizes) {
        scale(deployment, member, size, true);
    }
}

fn share(deployment: &Deployment, member: &Member, to_add: i64, added: i64) -> i64 {
    if to_add == 0 || to_add == added {
        return 0;
    }
    let fraction = fraction(deployment, member);
    if to_add > 0 {
        fraction.min(to_add - added)
    } else {
        fraction.max(to_add - added)
    }
}

fn fraction(deployment: &Deployment, member: &Member) -> i64 {
    if deployment.replicas == 0 {
        return -member.replicas;
    }
    let told = revision::size(&member.tree, revision::MAX_REPLICAS).filter(|most| *most != 0);
    let before = told.unwrap_or_else(|| deployment.count("replicas"));
    if before == 0 {
        return 0;
    }
    let size = (member.replicas * deployment.max_replicas()) as f64 / before as f64;
    size.round() as i64 - member.replicas
}
