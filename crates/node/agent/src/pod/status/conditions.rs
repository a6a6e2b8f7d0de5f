//! Pod conditions: the agent's own, with transition times kept, beside those that others wrote.

use k8s_openapi::api::core::v1::{Pod, PodCondition, PodSpec};

use super::time;
use crate::pod::decide::is_restartable;
use crate::pod::memo::{ContainerMemo, Ended, Millis, Phase, PodMemo, SandboxMemo};

struct Verdict {
    condition: &'static str,
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// All conditions in upstream's order, then those of others as they stand.
pub(super) fn conditions(
    pod: &Pod,
    spec: &PodSpec,
    memo: &PodMemo,
    phase: Phase,
    now: Millis,
) -> Vec<PodCondition> {
    let containers_ready = containers_ready(spec, memo, phase);
    let ready = ready(pod, spec, &containers_ready, phase);
    let sandbox_ready = matches!(memo.sandbox, SandboxMemo::Ready { .. });
    let verdicts = [
        Verdict {
            condition: "PodReadyToStartContainers",
            holds: sandbox_ready,
            reason: None,
            message: None,
        },
        initialized(spec, memo, phase),
        ready,
        containers_ready,
        Verdict {
            condition: "PodScheduled",
            holds: true,
            reason: None,
            message: None,
        },
    ];
    let mut all: Vec<PodCondition> = verdicts
        .into_iter()
        .map(|verdict| render(pod, verdict, now))
        .collect();
    let others = pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    let own: Vec<String> = all.iter().map(|c| c.type_.clone()).collect();
    all.extend(others.filter(|c| !own.contains(&c.type_)).cloned());
    all
}

/// The condition of a type as it stands in the API.
pub(super) fn kept(pod: &Pod, condition: &str) -> Option<PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == condition).cloned()
}

fn render(pod: &Pod, verdict: Verdict, now: Millis) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let before = kept(pod, verdict.condition);
    let since = before
        .as_ref()
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: verdict.condition.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_transition_time: Some(since.unwrap_or_else(|| time(now))),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    }
}

fn initialized(spec: &PodSpec, memo: &PodMemo, phase: Phase) -> Verdict {
    let verdict = |holds, reason, message| Verdict {
        condition: "Initialized",
        holds,
        reason,
        message,
    };
    let none = ContainerMemo::default();
    let incomplete: Vec<&str> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|container| {
            let known = memo.containers.get(&container.name).unwrap_or(&none);
            if is_restartable(container) {
                !known.started
            } else {
                !known.ended().is_some_and(Ended::succeeded)
            }
        })
        .map(|container| container.name.as_str())
        .collect();
    let begun = spec
        .containers
        .iter()
        .any(|c| memo.containers.get(&c.name).is_some_and(|k| k.current.is_some()));
    if incomplete.is_empty() || begun {
        let reason = (phase == Phase::Succeeded).then_some("PodCompleted");
        return verdict(true, reason, None);
    }
    let message = format!("containers with incomplete status: [{}]", incomplete.join(" "));
    verdict(false, Some("ContainersNotInitialized"), Some(message))
}

fn containers_ready(spec: &PodSpec, memo: &PodMemo, phase: Phase) -> Verdict {
    let verdict = |holds, reason, message| Verdict {
        condition: "ContainersReady",
        holds,
        reason,
        message,
    };
    match phase {
        Phase::Succeeded => return verdict(false, Some("PodCompleted"), None),
        Phase::Failed => return verdict(false, Some("PodFailed"), None),
        Phase::Pending | Phase::Running => {}
    }
    let none = ContainerMemo::default();
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| is_restartable(c));
    let counted = sidecars.chain(&spec.containers);
    let unready: Vec<&str> = counted
        .filter(|container| {
            let known = memo.containers.get(&container.name).unwrap_or(&none);
            !(known.running().is_some() && known.started && known.ready)
        })
        .map(|container| container.name.as_str())
        .collect();
    if unready.is_empty() {
        return verdict(true, None, None);
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    verdict(false, Some("ContainersNotReady"), Some(message))
}

fn ready(pod: &Pod, spec: &PodSpec, containers_ready: &Verdict, phase: Phase) -> Verdict {
    let verdict = |holds, reason, message| Verdict {
        condition: "Ready",
        holds,
        reason,
        message,
    };
    if !containers_ready.holds || phase.is_terminal() {
        return verdict(false, containers_ready.reason, containers_ready.message.clone());
    }
    let gates = spec
        .readiness_gates
        .iter()
        .flatten()
        .map(|gate| gate.condition_type.as_str());
    let closed: Vec<String> = gates
        .filter_map(|gate| match kept(pod, gate) {
            None => Some(format!(
                "corresponding condition of pod readiness gate \"{gate}\" does not exist."
            )),
            Some(c) if c.status != "True" => Some(format!(
                "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
                c.status
            )),
            Some(_) => None,
        })
        .collect();
    if closed.is_empty() {
        verdict(true, None, None)
    } else {
        verdict(false, Some("ReadinessGatesNotReady"), Some(closed.join(", ")))
    }
}
