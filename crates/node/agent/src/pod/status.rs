//! `PodStatus` from the spec and what the node remembers: pure, and in upstream's words.
//!
//! Source: `pkg/kubelet/kubelet_pods.go` (`getPhase`, `convertStatusToAPIStatus`), `pkg/kubelet/status/generate.go`.

mod conditions;
mod containers;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::decide::{Restart, is_restartable, restart_policy};
use super::memo::{ContainerMemo, Millis, Phase, PodMemo, SandboxMemo};

/// What the status needs beside the pod and its memo.
#[derive(Debug, Clone)]
pub struct StatusContext {
    pub host_ip: IpAddr,
    /// Whether the pod is bound to the host's network (its IP is the host's then).
    pub host_network: bool,
}

/// The status to report.
pub fn generate(pod: &Pod, memo: &PodMemo, context: &StatusContext, now: Millis) -> PodStatus {
    let Some(spec) = &pod.spec else {
        return PodStatus::default();
    };
    if let Some(rejection) = &memo.rejected {
        return rejected(pod, memo, &rejection.reason, &rejection.message, now);
    }
    let phase = memo.settled_phase.unwrap_or_else(|| phase(spec, memo));
    let init_statuses = containers::statuses(
        spec.init_containers.as_deref().unwrap_or_default(),
        spec,
        memo,
        true,
    );
    let statuses = containers::statuses(&spec.containers, spec, memo, false);
    let ip = if context.host_network && memo.sandbox != SandboxMemo::None {
        Some(context.host_ip)
    } else {
        memo.pod_ip
    };
    let conditions = conditions::conditions(pod, spec, memo, phase, now);
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        conditions: Some(conditions),
        observed_generation: pod.metadata.generation,
        host_ip: Some(context.host_ip.to_string()),
        host_ips: Some(vec![HostIP {
            ip: context.host_ip.to_string(),
        }]),
        pod_ip: ip.map(|ip| ip.to_string()),
        pod_ips: ip.map(|ip| vec![PodIP { ip: ip.to_string() }]),
        start_time: Some(time(memo.started_at)),
        init_container_statuses: (!init_statuses.is_empty()).then_some(init_statuses),
        container_statuses: Some(statuses),
        qos_class: pod.status.as_ref().and_then(|s| s.qos_class.clone()),
        ..PodStatus::default()
    }
}

fn rejected(pod: &Pod, memo: &PodMemo, reason: &str, message: &str, now: Millis) -> PodStatus {
    let scheduled = conditions::kept(pod, "PodScheduled");
    let _ = now;
    PodStatus {
        phase: Some(Phase::Failed.as_str().to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        start_time: Some(time(memo.started_at)),
        observed_generation: pod.metadata.generation,
        conditions: scheduled.map(|condition: PodCondition| vec![condition]),
        qos_class: pod.status.as_ref().and_then(|s| s.qos_class.clone()),
        ..PodStatus::default()
    }
}

/// Upstream's `getPhase`.
pub fn phase(spec: &PodSpec, memo: &PodMemo) -> Phase {
    let restart = restart_policy(spec);
    let none = ContainerMemo::default();
    let known = |name: &str| memo.containers.get(name).unwrap_or(&none);
    let mut init_failed = false;
    for container in spec.init_containers.iter().flatten() {
        let state = known(&container.name);
        if is_restartable(container) {
            if !state.started && spec.containers.iter().all(|c| known(&c.name).current.is_none()) {
                return Phase::Pending;
            }
            continue;
        }
        match state.ended() {
            Some(ended) if ended.succeeded() => {}
            Some(_) if restart == Restart::Never => init_failed = true,
            _ if spec.containers.iter().any(|c| known(&c.name).current.is_some()) => {}
            _ => return Phase::Pending,
        }
    }
    if init_failed {
        return Phase::Failed;
    }
    main_phase(spec, memo.termination.is_some(), restart, known)
}

fn main_phase<'a>(
    spec: &'a PodSpec,
    ending: bool,
    restart: Restart,
    known: impl Fn(&'a str) -> &'a ContainerMemo,
) -> Phase {
    let (mut unknown, mut running, mut stopped, mut succeeded) = (0, 0, 0, 0);
    for container in &spec.containers {
        let state = known(&container.name);
        if state.running().is_some() {
            running += 1;
        } else if let Some(ended) = state.ended() {
            stopped += 1;
            succeeded += usize::from(ended.succeeded());
        } else if state.previous.is_some() {
            // Waiting for its next attempt.
            stopped += 1;
        } else {
            unknown += 1;
        }
    }
    if unknown > 0 {
        return Phase::Pending;
    }
    if running > 0 {
        return Phase::Running;
    }
    if stopped == 0 {
        return Phase::Pending;
    }
    match restart {
        // Nothing is restarted any more: how they ended decides.
        _ if ending => {
            if stopped == succeeded {
                Phase::Succeeded
            } else {
                Phase::Failed
            }
        }
        Restart::OnFailure | Restart::Never if stopped == succeeded => Phase::Succeeded,
        Restart::Never => Phase::Failed,
        Restart::Always | Restart::OnFailure => Phase::Running,
    }
}

/// A time of the API from milliseconds since 1970, cut to seconds.
pub(super) fn time(at: Millis) -> Time {
    Time(Timestamp::from_second(at.div_euclid(1000)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
