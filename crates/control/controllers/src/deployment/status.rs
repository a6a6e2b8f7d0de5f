//! What a Deployment's status says of a rollout.
//!
//! Source: `calculateStatus`, `syncRolloutStatus`, `requeueStuckDeployment` in `pkg/controller/deployment`.

use std::time::Duration;

use cloudeck_machinery::{Time, Value, value};

use super::conditions::{self, AVAILABLE, PROGRESSING, REPLICA_FAILURE};
use super::facts::Deployment;
use super::rollout::{Member, Rollout};
use crate::clock::Now;

const NEW_SET_AVAILABLE: &str = "NewReplicaSetAvailable";
const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// A status, and when to look at it again.
pub(super) struct Outcome {
    pub(super) status: Value,
    pub(super) again: Option<Duration>,
}

/// The counts of a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counts {
    replicas: i64,
    updated: i64,
    ready: i64,
    available: i64,
    unavailable: i64,
    /// Absent while a set does not tell.
    terminating: Option<i64>,
}

impl Counts {
    fn of(rollout: &Rollout<'_>) -> Self {
        let available = rollout.sum("availableReplicas");
        Self {
            replicas: rollout.sum("replicas"),
            updated: rollout.new.as_ref().map_or(0, |new| new.count("replicas")),
            ready: rollout.sum("readyReplicas"),
            available,
            unavailable: (rollout.total() - available).max(0),
            terminating: rollout
                .members()
                .try_fold(0, |sum, member| Some(sum + terminating(member)?)),
        }
    }

    fn present(deployment: &Deployment) -> Self {
        Self {
            replicas: deployment.count("replicas"),
            updated: deployment.count("updatedReplicas"),
            ready: deployment.count("readyReplicas"),
            available: deployment.count("availableReplicas"),
            unavailable: deployment.count("unavailableReplicas"),
            terminating: deployment.tree.int_at(&["status", "terminatingReplicas"]),
        }
    }

    fn is_complete(&self, deployment: &Deployment) -> bool {
        [self.updated, self.replicas, self.available] == [deployment.replicas; 3]
    }

    /// Whether these counts are closer to the end than earlier ones.
    fn is_progress_since(&self, earlier: &Self) -> bool {
        self.updated > earlier.updated
            || self.replicas - self.updated < earlier.replicas - earlier.updated
            || self.ready > earlier.ready
            || self.available > earlier.available
    }

    fn to_value(self, deployment: &Deployment) -> Value {
        let mut status = Value::object();
        for (field, count) in [
            ("observedGeneration", deployment.generation()),
            ("replicas", self.replicas),
            ("updatedReplicas", self.updated),
            ("readyReplicas", self.ready),
            ("availableReplicas", self.available),
            ("unavailableReplicas", self.unavailable),
        ] {
            if count != 0 {
                status.set_at(&[field], count);
            }
        }
        if let Some(terminating) = self.terminating {
            status.set_at(&["terminatingReplicas"], terminating);
        }
        if let Some(collisions) = deployment.tree.int_at(&["status", "collisionCount"]) {
            status.set_at(&["collisionCount"], collisions);
        }
        status
    }
}

fn terminating(member: &Member) -> Option<i64> {
    let Some(set) = &member.set else { return Some(0) };
    let never_looked_at = set.count("observedGeneration") == 0;
    let told = set.tree.int_at(&["status", "terminatingReplicas"]);
    told.or(never_looked_at.then_some(0))
}

/// Whether the status that stands says that the rollout is over.
pub(super) fn stands_complete(deployment: &Deployment) -> bool {
    Counts::present(deployment).is_complete(deployment)
        && deployment.count("observedGeneration") >= deployment.generation()
}

/// Pausing and resuming stop the clock of progress, unless it has run out.
pub(super) fn note_pause(rollout: &mut Rollout<'_>) {
    let deployment = rollout.deployment;
    let reason = conditions::reason_of(&rollout.conditions, PROGRESSING);
    if deployment.progress_deadline.is_none() || reason == Some(TIMED_OUT) {
        return;
    }
    let told_paused = reason == Some("DeploymentPaused");
    let (reason, message) = match (deployment.paused, told_paused) {
        (true, false) => ("DeploymentPaused", "Deployment is paused"),
        (false, true) => ("DeploymentResumed", "Deployment is resumed"),
        _ => return,
    };
    let condition = conditions::progressing("Unknown", reason, message, rollout.now);
    conditions::set(&mut rollout.conditions, condition);
}

/// The status while nothing is rolled out: no progress is judged.
pub(super) fn plain(rollout: &Rollout<'_>) -> Outcome {
    let counts = Counts::of(rollout);
    let mut conditions = rollout.conditions.clone();
    judge_availability(rollout, &counts, &mut conditions);
    Outcome {
        status: with_conditions(counts.to_value(rollout.deployment), conditions),
        again: None,
    }
}

/// The status during a rollout.
pub(super) fn rolling(rollout: &Rollout<'_>) -> Outcome {
    let deployment = rollout.deployment;
    let counts = Counts::of(rollout);
    let mut conditions = rollout.conditions.clone();
    judge_availability(rollout, &counts, &mut conditions);
    match deployment.progress_deadline {
        None => conditions::remove(&mut conditions, PROGRESSING),
        Some(deadline) => judge_progress(rollout, &counts, deadline, &mut conditions),
    }
    tell_failure(rollout, &mut conditions);
    let again = next_look(rollout, &counts, &conditions);
    Outcome {
        status: with_conditions(counts.to_value(deployment), conditions),
        again,
    }
}

fn with_conditions(mut status: Value, conditions: Vec<Value>) -> Value {
    if !conditions.is_empty() {
        status.set_at(&["conditions"], conditions);
    }
    status
}

fn judge_availability(rollout: &Rollout<'_>, counts: &Counts, conditions: &mut Vec<Value>) {
    let (status, reason, message) = if counts.available >= rollout.deployment.min_available() {
        (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
    } else {
        (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
    };
    conditions::set(
        conditions,
        conditions::new(AVAILABLE, status, reason, message, rollout.now),
    );
}

fn judge_progress(rollout: &Rollout<'_>, counts: &Counts, deadline: i64, conditions: &mut Vec<Value>) {
    let deployment = rollout.deployment;
    let current = conditions::find(conditions, PROGRESSING).cloned();
    let reason = current
        .as_ref()
        .and_then(|condition| condition.str_at(&["reason"]));
    if counts.replicas == counts.updated && reason == Some(NEW_SET_AVAILABLE) {
        return;
    }
    let subject = match &rollout.new {
        Some(new) => format!("ReplicaSet \"{}\"", new.name()),
        None => format!("Deployment \"{}\"", deployment.name()),
    };
    if counts.is_complete(deployment) {
        let message = format!("{subject} has successfully progressed.");
        let done = conditions::progressing("True", NEW_SET_AVAILABLE, &message, rollout.now);
        conditions::set(conditions, done);
    } else if counts.is_progress_since(&Counts::present(deployment)) {
        let message = format!("{subject} is progressing.");
        let mut moving = conditions::progressing("True", "ReplicaSetUpdated", &message, rollout.now);
        // The time of the update changes even though status and reason stay.
        if let Some(current) = current
            && current.str_at(&["status"]) == Some("True")
            && let Some(time) = current.at(&["lastTransitionTime"]).cloned()
        {
            moving.set_at(&["lastTransitionTime"], time);
        }
        conditions::remove(conditions, PROGRESSING);
        conditions.push(moving);
    } else if has_timed_out(current.as_ref(), deadline, rollout.now) {
        let message = format!("{subject} has timed out progressing.");
        let stuck = conditions::progressing("False", TIMED_OUT, &message, rollout.now);
        conditions::set(conditions, stuck);
    }
}

fn has_timed_out(current: Option<&Value>, deadline: i64, now: Now) -> bool {
    let Some(current) = current else { return false };
    match current.str_at(&["reason"]) {
        Some(NEW_SET_AVAILABLE) => false,
        Some(TIMED_OUT) => true,
        _ => time_left(current, deadline, now).is_none(),
    }
}

fn time_left(condition: &Value, deadline: i64, now: Now) -> Option<Duration> {
    let since = condition.str_at(&["lastUpdateTime"])?;
    now.until(Time::parse(since).ok()?, deadline)
}

/// When a rollout that stands still is to be judged again.
fn next_look(rollout: &Rollout<'_>, counts: &Counts, conditions: &[Value]) -> Option<Duration> {
    let deadline = rollout.deployment.progress_deadline?;
    let current = conditions::find(conditions, PROGRESSING)?;
    if counts.is_complete(rollout.deployment) || current.str_at(&["reason"]) == Some(TIMED_OUT) {
        return None;
    }
    // A second more, because times are kept in whole seconds.
    Some(time_left(current, deadline, rollout.now).unwrap_or_default() + Duration::from_secs(1))
}

/// The failure of a set to make pods, the new one's first, stands in the Deployment, too.
fn tell_failure(rollout: &Rollout<'_>, conditions: &mut Vec<Value>) {
    let failure = rollout.new.iter().chain(&rollout.old).find_map(|member| {
        conditions::find(member.tree.items_at(&["status", "conditions"]), REPLICA_FAILURE)
    });
    let Some(failure) = failure else {
        return conditions::remove(conditions, REPLICA_FAILURE);
    };
    let text = |field| failure.str_at(&[field]).unwrap_or_default();
    let at = text("lastTransitionTime");
    let condition = value!({
        "type": (REPLICA_FAILURE), "status": (text("status")), "reason": (text("reason")),
        "message": (text("message")), "lastUpdateTime": (at), "lastTransitionTime": (at)
    });
    conditions::set(conditions, condition);
}
