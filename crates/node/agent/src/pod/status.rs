//! `PodStatus` from the spec and what the node remembers: pure, and in upstream's words.
//!
//! Source: `pkg/kubelet/kubelet_pods.go` (`getPhase`, `convertStatusToAPIStatus`), `pkg/kubelet/status/generate.go`.

mod conditions;
mod containers;

pub(crate) use containers::CONTAINER_ID_SCHEME;

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    HostIP, Pod, PodCondition, PodIP, PodSpec, PodStatus, ResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::amounts;
use super::decide::{is_restartable, runs_again};
use super::memo::{ContainerMemo, Millis, Phase, PodMemo, SandboxMemo};

/// `status.reason` and `status.message` of a pod whose `activeDeadlineSeconds` have passed.
pub const DEADLINE_REASON: &str = "DeadlineExceeded";
pub const DEADLINE_MESSAGE: &str = "Pod was active on the node longer than the specified deadline";

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
    if let Some(status) = pod.status.as_ref().filter(|_| memo.status_is_final) {
        return status.clone();
    }
    if let Some(rejection) = &memo.rejected {
        return rejected(pod, memo, rejection.reason, &rejection.message, now);
    }
    let phase = reported_phase(spec, memo);
    let late = memo.deadline_exceeded && phase == Phase::Failed;
    let mut init_statuses = containers::statuses(
        spec.init_containers.as_deref().unwrap_or_default(),
        spec,
        memo,
        true,
    );
    let mut statuses = containers::statuses(&spec.containers, spec, memo, false);
    let conditions = conditions::conditions(pod, spec, memo, phase, now);
    if memo.cleaned {
        containers::close(spec, &mut init_statuses, &mut statuses);
    }
    // Whatever was not seen to end well has failed.
    let phase = if memo.cleaned && !phase.is_terminal() {
        Phase::Failed
    } else {
        phase
    };
    let ip = if context.host_network && memo.sandbox != SandboxMemo::None {
        Some(context.host_ip)
    } else {
        memo.pod_ip
    };
    let requests = amounts::written(&amounts::requests(spec));
    PodStatus {
        phase: Some(phase.as_str().to_owned()),
        conditions: Some(conditions),
        reason: late.then(|| DEADLINE_REASON.to_owned()),
        message: late.then(|| DEADLINE_MESSAGE.to_owned()),
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
        allocated_resources: requests.clone(),
        resources: Some(ResourceRequirements {
            requests,
            limits: amounts::written(&amounts::limits(spec)),
            ..ResourceRequirements::default()
        }),
        ..PodStatus::default()
    }
}

fn rejected(pod: &Pod, memo: &PodMemo, reason: &str, message: &str, now: Millis) -> PodStatus {
    let scheduled = conditions::kept(pod, "PodScheduled");
    let _ = now;
    PodStatus {
        phase: Some(Phase::Failed.as_str().to_owned()),
        reason: Some(reason.to_owned()),
        message: Some(format!("Pod was rejected: {message}")),
        start_time: Some(time(memo.started_at)),
        observed_generation: pod.metadata.generation,
        conditions: scheduled.map(|condition: PodCondition| vec![condition]),
        qos_class: pod.status.as_ref().and_then(|s| s.qos_class.clone()),
        ..PodStatus::default()
    }
}

/// The phase to report: a terminal one only when nothing of the pod lives any more.
fn reported_phase(spec: &PodSpec, memo: &PodMemo) -> Phase {
    if let Some(settled) = memo.settled_phase {
        return settled;
    }
    let phase = phase(spec, memo);
    let lives = memo.containers.values().any(ContainerMemo::is_live);
    match phase {
        Phase::Succeeded | Phase::Failed if lives => {
            let begun = spec
                .containers
                .iter()
                .any(|c| memo.containers.get(&c.name).is_some_and(|k| k.current.is_some()));
            if begun { Phase::Running } else { Phase::Pending }
        }
        phase => phase,
    }
}

/// Upstream's `getPhase`, sidecars that merely linger left out.
pub fn phase(spec: &PodSpec, memo: &PodMemo) -> Phase {
    let none = ContainerMemo::default();
    let known = |name: &str| memo.containers.get(name).unwrap_or(&none);
    let begun = spec.containers.iter().any(|c| known(&c.name).current.is_some());
    let (mut pending, mut failed) = (false, false);
    for container in spec.init_containers.iter().flatten() {
        let state = known(&container.name);
        if is_restartable(container) {
            // One that comes back does not make the pod a beginner again.
            pending |= !begun && !state.started && state.last_end().is_none();
        } else {
            let ended = state.last_end();
            failed |= ended.is_some_and(|end| !end.succeeded() && !runs_again(spec, container, end.code));
            pending |= state.running().is_some() || (ended.is_none() && !begun);
        }
    }
    if failed || memo.deadline_exceeded {
        return Phase::Failed;
    }
    if pending {
        return Phase::Pending;
    }
    main_phase(spec, memo.termination.is_some(), known)
}

fn main_phase<'a>(spec: &'a PodSpec, ending: bool, known: impl Fn(&'a str) -> &'a ContainerMemo) -> Phase {
    let (mut running, mut succeeded, mut coming_back) = (false, true, false);
    for container in &spec.containers {
        let state = known(&container.name);
        if state.running().is_some() {
            running = true;
        } else if let Some(end) = state.last_end() {
            succeeded &= end.succeeded();
            coming_back |= runs_again(spec, container, end.code);
        } else {
            // It has never run.
            return Phase::Pending;
        }
    }
    // While the pod ends nothing is restarted any more: how they ended decides.
    if running || (coming_back && !ending) {
        Phase::Running
    } else if succeeded {
        Phase::Succeeded
    } else {
        Phase::Failed
    }
}

/// A time of the API from milliseconds since 1970, cut to seconds.
pub(super) fn time(at: Millis) -> Time {
    Time(Timestamp::from_second(at.div_euclid(1000)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
