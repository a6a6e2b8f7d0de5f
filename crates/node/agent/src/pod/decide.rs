//! What to do next for a pod: a pure function of its spec and of what the node remembers of it.
//!
//! Order of upstream's `computePodActions`: volumes, sandbox, init containers one after the other (restartable ones
//! stay), then all others; ends before starts. Every action is idempotent and reports back into the memo.

use cloudeck_runtime::SandboxId;
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod, PodSpec};

use super::memo::{Busy, ContainerMemo, InstanceState, Millis, PodMemo, SandboxMemo, Step};

/// The first crash back-off; it doubles up to [`LONGEST_BACKOFF_MS`].
pub const FIRST_BACKOFF_MS: i64 = 10_000;
pub const LONGEST_BACKOFF_MS: i64 = 300_000;
/// A container that ran this long has its back-off forgotten.
pub const BACKOFF_RESET_MS: i64 = 600_000;
/// How long the error itself (`Error`, `ErrImagePull`) is shown before the back-off is: upstream shows it until its next
/// look at the pod, which is a second or more away.
const ERROR_SHOWN_MS: i64 = 1_000;

/// A step to take. Names are container names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    PrepareVolumes,
    CreateSandbox,
    /// Pull, create, start; `attempt` counts from 0.
    StartContainer {
        name: String,
        attempt: u32,
    },
    /// A container waits for its back-off: say so.
    AwaitBackoff {
        name: String,
        kind: Backoff,
        delay_ms: i64,
    },
    /// preStop, stop signal, grace, kill.
    StopContainer {
        name: String,
        grace_ms: i64,
        /// The signal waits until these have ended, or the grace is over.
        after: Vec<String>,
        why: StopReason,
    },
    /// Ends the sandbox and whatever is left in it, and gives back its address.
    StopSandbox,
    /// Removes everything that the pod had on the node.
    CleanUp,
}

/// What a back-off follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backoff {
    /// `CrashLoopBackOff`
    Crash,
    /// `ImagePullBackOff`
    ImagePull,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopReason {
    PodEnds,
    /// The liveness probe has failed.
    Unhealthy,
    /// The start-up probe has failed.
    NotStarted,
    SandboxDied,
}

impl StopReason {
    /// What the `Killing` event says.
    pub fn message(self, container: &str) -> String {
        match self {
            Self::Unhealthy => format!("Container {container} failed liveness probe, will be restarted"),
            Self::NotStarted => format!("Container {container} failed startup probe, will be restarted"),
            Self::PodEnds | Self::SandboxDied => format!("Stopping container {container}"),
        }
    }
}

/// What to do now, and when to look again if nothing happens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    pub actions: Vec<Action>,
    pub look_again_at: Option<Millis>,
}

impl Plan {
    fn act(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(super) fn wake(&mut self, at: Millis) {
        self.look_again_at = Some(self.look_again_at.map_or(at, |other| other.min(at)));
    }
}

/// The plan for a pod.
pub fn decide(pod: &Pod, memo: &PodMemo, now: Millis) -> Plan {
    let mut plan = Plan::default();
    let Some(spec) = &pod.spec else {
        return plan;
    };
    if memo.termination.is_some()
        || memo.rejected.is_some()
        || memo.deadline_exceeded
        // Sidecars end with the containers that they serve.
        || super::status::phase(spec, memo).is_terminal()
        || memo.settled_phase.is_some_and(super::Phase::is_terminal)
    {
        end(spec, memo, now, &mut plan);
    } else {
        keep_running(spec, memo, now, &mut plan);
    }
    plan
}

fn end(spec: &PodSpec, memo: &PodMemo, now: Millis, plan: &mut Plan) {
    let mut live = false;
    for container in all_containers(spec) {
        let Some(known) = memo.containers.get(&container.name) else {
            continue;
        };
        if !known.is_live() {
            continue;
        }
        live = true;
        if known.busy.is_none() {
            let own = || {
                spec.termination_grace_period_seconds
                    .unwrap_or(30)
                    .saturating_mul(1000)
            };
            let grace_ms = memo
                .termination
                .as_ref()
                .map_or_else(own, |t| remaining_grace(t.since, t.grace_seconds, now));
            plan.act(Action::StopContainer {
                name: container.name.clone(),
                grace_ms,
                after: ends_before(spec, memo, container),
                why: StopReason::PodEnds,
            });
        }
    }
    if live || memo.cleaned {
        return;
    }
    match &memo.sandbox {
        SandboxMemo::Creating | SandboxMemo::Stopping { .. } => {}
        // Cleaning up ends the sandbox too, beside all the rest.
        _ if memo.termination.is_some() => {
            if memo.volumes != Step::Running {
                plan.act(Action::CleanUp);
            }
        }
        // A finished pod that is still wanted keeps its logs; only a deleted one is cleaned up.
        SandboxMemo::Ready { .. } | SandboxMemo::Dead { .. } => plan.act(Action::StopSandbox),
        SandboxMemo::None | SandboxMemo::Failed { .. } => {}
    }
}

/// Which live containers a container outlives: a sidecar all ordinary ones and the sidecars that began after it.
///
/// Source: `pkg/kubelet/kuberuntime/kuberuntime_termination_order.go`.
fn ends_before(spec: &PodSpec, memo: &PodMemo, container: &Container) -> Vec<String> {
    if !is_init(spec, &container.name) || !is_restartable(container) {
        return Vec::new();
    }
    let began_later = spec
        .init_containers
        .iter()
        .flatten()
        .skip_while(|other| other.name != container.name)
        .skip(1)
        .filter(|other| is_restartable(other));
    let is_live = |name: &str| memo.containers.get(name).is_some_and(ContainerMemo::is_live);
    let all = spec.containers.iter().chain(began_later);
    all.filter(|other| is_live(&other.name))
        .map(|other| other.name.clone())
        .collect()
}

fn remaining_grace(since: Millis, grace_seconds: i64, now: Millis) -> i64 {
    let end = since.saturating_add(grace_seconds.saturating_mul(1000));
    end.saturating_sub(now).max(0)
}

/// Volumes and sandbox are prepared side by side; containers wait for both.
fn keep_running(spec: &PodSpec, memo: &PodMemo, now: Millis, plan: &mut Plan) {
    match &memo.volumes {
        Step::Todo => plan.act(Action::PrepareVolumes),
        Step::Failed { retry_at, .. } if *retry_at <= now => plan.act(Action::PrepareVolumes),
        Step::Failed { retry_at, .. } => plan.wake(*retry_at),
        Step::Running | Step::Done => {}
    }
    match &memo.sandbox {
        SandboxMemo::Ready { id } if memo.volumes == Step::Done => containers(spec, memo, id, now, plan),
        SandboxMemo::Ready { .. } | SandboxMemo::Creating | SandboxMemo::Stopping { .. } => {}
        SandboxMemo::Dead { .. } => replace_sandbox(spec, memo, plan),
        SandboxMemo::None => plan.act(Action::CreateSandbox),
        SandboxMemo::Failed { retry_at, .. } if *retry_at <= now => plan.act(Action::CreateSandbox),
        SandboxMemo::Failed { retry_at, .. } => plan.wake(*retry_at),
    }
}

/// The sandbox is dead: what lives in it ends first, then it is stopped, then a new one is made.
fn replace_sandbox(spec: &PodSpec, memo: &PodMemo, plan: &mut Plan) {
    let live: Vec<&str> = all_containers(spec)
        .map(|c| c.name.as_str())
        .filter(|name| memo.containers.get(*name).is_some_and(ContainerMemo::is_live))
        .collect();
    if live.is_empty() {
        return plan.act(Action::StopSandbox);
    }
    for name in live {
        if memo
            .containers
            .get(name)
            .is_some_and(|known| known.busy.is_none())
        {
            let name = name.to_owned();
            plan.act(Action::StopContainer {
                name,
                grace_ms: 0,
                after: Vec::new(),
                why: StopReason::SandboxDied,
            });
        }
    }
}

fn containers(spec: &PodSpec, memo: &PodMemo, sandbox: &SandboxId, now: Millis, plan: &mut Plan) {
    let none = ContainerMemo::default();
    let known = |container: &Container| memo.containers.get(&container.name).unwrap_or(&none);
    let is_here = |known: &ContainerMemo| {
        known
            .current
            .as_ref()
            .is_some_and(|instance| instance.sandbox == *sandbox)
    };
    // Once an ordinary container has been started, finished init containers are not looked at again. A new sandbox is a
    // new life of the pod: init containers run again in it.
    let past_init = spec.containers.iter().any(|c| is_here(known(c)));
    for container in spec.init_containers.iter().flatten() {
        let state = known(container);
        if is_restartable(container) {
            step(spec, container, state, now, plan);
            let up = state.running().is_some() && state.started;
            if !past_init && !up {
                return;
            }
        } else if !past_init && !is_here(state) && state.ended().is_some() {
            let attempt = state.restart_count() + 1;
            if state.busy.is_none() {
                start_when_due(container.name.clone(), attempt, state, now, plan);
            }
            return;
        } else if !past_init && !state.ended().is_some_and(super::memo::Ended::succeeded) {
            step(spec, container, state, now, plan);
            return;
        }
    }
    for container in &spec.containers {
        step(spec, container, known(container), now, plan);
    }
}

/// One container's next step.
fn step(spec: &PodSpec, container: &Container, known: &ContainerMemo, now: Millis, plan: &mut Plan) {
    if known.busy.is_some() {
        return;
    }
    let name = container.name.clone();
    let Some(instance) = &known.current else {
        return start_when_due(name, 0, known, now, plan);
    };
    match &instance.state {
        InstanceState::Running { .. } if known.unhealthy => {
            plan.act(Action::StopContainer {
                name,
                grace_ms: -1,
                after: Vec::new(),
                why: if known.started {
                    StopReason::Unhealthy
                } else {
                    StopReason::NotStarted
                },
            });
        }
        InstanceState::Running { .. } => {}
        // Created and never started: the start failed or the daemon died in between. It is made anew.
        InstanceState::Created => start_when_due(name, instance.attempt, known, now, plan),
        InstanceState::Exited(ended) => {
            if runs_again(spec, container, ended.code) {
                restart_or_wait(name, instance.attempt + 1, known, ended.finished_at, now, plan);
            }
        }
    }
}

fn start_when_due(name: String, attempt: u32, known: &ContainerMemo, now: Millis, plan: &mut Plan) {
    match known.retry_at {
        Some(at) if at > now => await_retry(name, at, known, now, plan),
        _ => plan.act(Action::StartContainer { name, attempt }),
    }
}

/// Waits for the next attempt at a start that failed before anything ran.
fn await_retry(name: String, at: Millis, known: &ContainerMemo, now: Millis, plan: &mut Plan) {
    plan.wake(at);
    if known.waiting.as_ref().is_some_and(|w| w.reason == "ErrImagePull") {
        let failed_at = at - known.start_delay_ms;
        say(
            name,
            Backoff::ImagePull,
            known.start_delay_ms,
            failed_at,
            now,
            plan,
        );
    }
}

/// Says that a container waits, once the error before has been seen for a while.
fn say(name: String, kind: Backoff, delay_ms: i64, error_since: Millis, now: Millis, plan: &mut Plan) {
    if error_since + ERROR_SHOWN_MS <= now {
        plan.act(Action::AwaitBackoff { name, kind, delay_ms });
    } else {
        plan.wake(error_since + ERROR_SHOWN_MS);
    }
}

fn restart_or_wait(
    name: String,
    attempt: u32,
    known: &ContainerMemo,
    ended_at: Millis,
    now: Millis,
    plan: &mut Plan,
) {
    // A failed start (an image that went away) has its own delay.
    if let Some(at) = known.retry_at.filter(|at| *at > now) {
        return await_retry(name, at, known, now, plan);
    }
    let due = ended_at + known.crash_delay_ms;
    if due <= now {
        return plan.act(Action::StartContainer { name, attempt });
    }
    plan.wake(due);
    if known
        .waiting
        .as_ref()
        .is_none_or(|w| w.reason != "CrashLoopBackOff")
    {
        say(name, Backoff::Crash, known.crash_delay_ms, ended_at, now, plan);
    }
}

/// The back-off before the next restart but one: none before the first restart, then 10 s, doubling to 300 s.
pub fn next_crash_delay(last_ms: i64) -> i64 {
    if last_ms == 0 {
        FIRST_BACKOFF_MS
    } else {
        (last_ms * 2).min(LONGEST_BACKOFF_MS)
    }
}

/// Whether a container that ended with `code` is to run again: its own rules decide, then its own policy, then the
/// pod's. (Init containers that have succeeded are never asked about.)
///
/// Source: `pkg/api/v1/pod/util.go` (`ContainerShouldRestart`). The rule `RestartAllContainers` is refused at admission.
pub fn runs_again(spec: &PodSpec, container: &Container, code: i32) -> bool {
    let own = container.restart_policy.as_deref();
    if own.is_some() && restart_rule(container, code).is_some_and(|rule| rule.action == "Restart") {
        return true;
    }
    match own.or(spec.restart_policy.as_deref()) {
        Some("Never") => false,
        Some("OnFailure") => code != 0,
        _ => true,
    }
}

/// The first rule that the exit code meets.
fn restart_rule(container: &Container, code: i32) -> Option<&ContainerRestartRule> {
    container.restart_policy_rules.iter().flatten().find(|rule| {
        rule.exit_codes.as_ref().is_some_and(|codes| {
            let listed = codes.values.iter().flatten().any(|value| *value == code);
            match codes.operator.as_str() {
                "In" => listed,
                "NotIn" => !listed,
                _ => false,
            }
        })
    })
}

fn is_init(spec: &PodSpec, name: &str) -> bool {
    spec.init_containers.iter().flatten().any(|c| c.name == name)
}

/// An init container that keeps running beside the others (a sidecar).
pub fn is_restartable(container: &Container) -> bool {
    container.restart_policy.as_deref() == Some("Always")
}

/// Init containers first.
pub fn all_containers(spec: &PodSpec) -> impl Iterator<Item = &Container> {
    spec.init_containers.iter().flatten().chain(&spec.containers)
}

/// Whether an action on a container is under way.
pub fn is_stopping(known: &ContainerMemo) -> bool {
    known.busy == Some(Busy::Stopping)
}

#[cfg(test)]
mod tests;
