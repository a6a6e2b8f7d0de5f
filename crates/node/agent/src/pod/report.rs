//! What operations, probes and the runtime tell a pod's worker, and what that changes in its memo.

use std::net::IpAddr;

use cloudeck_runtime::{ContainerId, Exit, SandboxId};
use k8s_openapi::api::core::v1::Pod;

use super::decide::{BACKOFF_RESET_MS, next_crash_delay};
use super::memo::{
    ContainerMemo, EarlyExit, Ended, Instance, InstanceState, Millis, PodMemo, SandboxMemo, Step, Waiting,
};

/// News for a worker.
#[derive(Debug)]
pub enum Report {
    /// The API's object changed; `None` when it is gone.
    Object(Option<std::sync::Arc<cloudeck_machinery::Object>>),
    VolumesReady,
    VolumesFailed {
        message: String,
    },
    SandboxReady {
        id: SandboxId,
        ip: Option<IpAddr>,
    },
    SandboxFailed {
        message: String,
    },
    /// With the ends of its containers, known or unknown: told in one, so that none is started in it once more.
    SandboxDied {
        id: SandboxId,
        ends: Vec<EarlyExit>,
    },
    SandboxStopped,
    Started {
        name: String,
        instance: Instance,
    },
    StartFailed {
        name: String,
        failure: StartFailure,
    },
    /// The pod ends, and the start has given up before anything was made.
    StartAbandoned {
        name: String,
    },
    Exited {
        id: ContainerId,
        exit: Option<Exit>,
        message: String,
    },
    Stopped {
        name: String,
    },
    Probed {
        name: String,
        id: ContainerId,
        probe: ProbeKind,
        passed: bool,
    },
    CleanedUp,
}

/// Why a container did not start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartFailure {
    /// `ErrImagePull`, `CreateContainerConfigError`, `CreateContainerError`, `RunContainerError`, `PostStartHookError`…
    pub reason: String,
    pub message: String,
    /// It was made and then failed to run: an end of its own, which counts as an attempt.
    pub ended: Option<Box<Instance>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProbeKind {
    Startup,
    Liveness,
    Readiness,
}

/// The first wait after a failed preparation; doubles are not needed, the causes are outside the node.
const RETRY_MS: i64 = 2_000;
/// Upstream's image pull back-off: 10 s doubling to 300 s.
const FIRST_START_DELAY_MS: i64 = 10_000;
const LONGEST_START_DELAY_MS: i64 = 300_000;
/// Errors of configuration are looked at again soon: the missing object may come.
const CONFIG_RETRY_MS: i64 = 2_000;

/// Takes a report into the memo. Object changes are the worker's own matter.
pub fn take(memo: &mut PodMemo, pod: &Pod, report: Report, now: Millis) {
    match report {
        Report::Object(_) => {}
        Report::VolumesReady => memo.volumes = Step::Done,
        Report::VolumesFailed { message } => {
            memo.volumes = Step::Failed {
                retry_at: now + RETRY_MS,
                message,
            }
        }
        Report::SandboxReady { id, ip } => {
            memo.sandbox = SandboxMemo::Ready { id };
            memo.pod_ip = ip;
        }
        Report::SandboxFailed { message } => {
            memo.sandbox = SandboxMemo::Failed {
                retry_at: now + RETRY_MS,
                message,
            }
        }
        Report::SandboxDied { id, ends } => {
            for EarlyExit { id, exit, message } in ends {
                ended(memo, id, exit, message, now);
            }
            if memo.sandbox.ready() == Some(&id) {
                memo.sandbox = SandboxMemo::Dead { id };
            }
        }
        Report::SandboxStopped => memo.sandbox = SandboxMemo::None,
        Report::Started { name, instance } => {
            let early = memo.take_early_exit(&instance.id);
            let known = memo.containers.entry(name.clone()).or_default();
            started(known, pod, &name, instance);
            if let Some(EarlyExit { id, exit, message }) = early {
                exited(known, id, exit, message, now);
            }
        }
        Report::StartFailed { name, failure } => {
            start_failed(memo.containers.entry(name).or_default(), failure, now);
        }
        Report::Exited { id, exit, message } => ended(memo, id, exit, message, now),
        Report::Stopped { name } | Report::StartAbandoned { name } => {
            if let Some(known) = memo.containers.get_mut(&name) {
                known.busy = None;
            }
        }
        Report::Probed {
            name,
            id,
            probe,
            passed,
        } => {
            if let Some(known) = memo.containers.get_mut(&name) {
                probed(known, &id, probe, passed);
            }
        }
        Report::CleanedUp => {
            memo.sandbox = SandboxMemo::None;
            memo.cleaned = true;
        }
    }
}

fn ended(memo: &mut PodMemo, id: ContainerId, exit: Option<Exit>, message: String, now: Millis) {
    let holder = memo
        .containers
        .values_mut()
        .find(|c| c.current.as_ref().is_some_and(|i| i.id == id));
    match holder {
        Some(known) => exited(known, id, exit, message, now),
        None => memo.keep_early_exit(EarlyExit { id, exit, message }),
    }
}

fn started(known: &mut ContainerMemo, pod: &Pod, name: &str, instance: Instance) {
    if let Some(Instance {
        state: InstanceState::Exited(ended),
        ..
    }) = known.current.take()
    {
        known.previous = Some(ended);
    }
    let spec = pod.spec.as_ref();
    let container = spec
        .into_iter()
        .flat_map(super::decide::all_containers)
        .find(|c| c.name == name);
    known.started = container.is_none_or(|c| c.startup_probe.is_none());
    known.ready = container.is_none_or(|c| c.readiness_probe.is_none());
    known.unhealthy = false;
    known.busy = None;
    known.waiting = None;
    known.retry_at = None;
    known.start_delay_ms = 0;
    if instance.attempt > 0 {
        known.crash_delay_ms = next_crash_delay(known.crash_delay_ms);
    }
    known.current = Some(instance);
}

fn start_failed(known: &mut ContainerMemo, failure: StartFailure, now: Millis) {
    known.busy = None;
    let StartFailure {
        reason,
        message,
        ended,
    } = failure;
    if let Some(instance) = ended {
        if let Some(Instance {
            state: InstanceState::Exited(before),
            ..
        }) = known.current.take()
        {
            known.previous = Some(before);
        }
        if instance.attempt > 0 {
            known.crash_delay_ms = next_crash_delay(known.crash_delay_ms);
        }
        known.current = Some(*instance);
        known.retry_at = None;
    } else if reason == "CreateContainerConfigError" {
        known.retry_at = Some(now + CONFIG_RETRY_MS);
    } else {
        let doubled = (known.start_delay_ms * 2).min(LONGEST_START_DELAY_MS);
        known.start_delay_ms = doubled.max(FIRST_START_DELAY_MS);
        known.retry_at = Some(now + known.start_delay_ms);
    }
    known.waiting = Some(Waiting { reason, message });
}

fn exited(known: &mut ContainerMemo, id: ContainerId, exit: Option<Exit>, message: String, now: Millis) {
    let Some(instance) = &mut known.current else {
        return;
    };
    let started_at = match instance.state {
        InstanceState::Running { started_at } => started_at,
        InstanceState::Created => now,
        InstanceState::Exited(_) => return,
    };
    let ended = Ended::from_exit(id, started_at, exit, message, now);
    if ended.finished_at - started_at >= BACKOFF_RESET_MS {
        known.crash_delay_ms = 0;
    }
    instance.state = InstanceState::Exited(ended);
    known.ready = false;
    known.started = false;
    known.unhealthy = false;
    known.waiting = None;
}

fn probed(known: &mut ContainerMemo, id: &ContainerId, probe: ProbeKind, passed: bool) {
    // Late news of an instance that is gone.
    if known.running().is_none_or(|instance| instance.id != *id) {
        return;
    }
    match (probe, passed) {
        (ProbeKind::Startup, true) => known.started = true,
        (ProbeKind::Startup | ProbeKind::Liveness, false) => known.unhealthy = true,
        (ProbeKind::Liveness, true) => {}
        (ProbeKind::Readiness, passed) => known.ready = passed,
    }
}

#[cfg(test)]
pub(crate) mod tests;
