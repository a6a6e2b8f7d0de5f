//! What the agent knows of a pod when it meets it: nothing, or what an earlier life left running.

use std::collections::BTreeMap;

use cloudeck_runtime::{ContainerId, ContainerState, ContainerStatus, SandboxState};
use k8s_openapi::api::core::v1::{ContainerStatus as ReportedStatus, Pod};

use super::convert::label;
use super::decide::all_containers;
use super::memo::{ContainerMemo, Ended, Instance, InstanceState, Millis, Phase, PodMemo, SandboxMemo};
use super::status::CONTAINER_ID_SCHEME;
use crate::node::Node;

/// The memo of a pod from the runtime's records and the status that was last reported.
pub async fn memo(node: &Node, pod: &Pod) -> PodMemo {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let sandboxes = node.runtime.sandboxes();
    let mine = |labels: &BTreeMap<String, String>| labels.get(label::POD_UID).is_some_and(|u| u == uid);
    let sandbox = sandboxes
        .iter()
        .filter(|s| mine(&s.config.labels))
        .max_by_key(|s| s.created_at_ns);
    let pod_ip = node.network.address_of(uid).map(|address| address.ip.into());
    let sandbox = match sandbox {
        // A daemon that was killed between the sandbox and its network left one that will never have an address.
        Some(found) if found.state == SandboxState::Ready && (found.netns.is_none() || pod_ip.is_some()) => {
            SandboxMemo::Ready { id: found.id.clone() }
        }
        Some(found) => SandboxMemo::Dead { id: found.id.clone() },
        None => SandboxMemo::None,
    };
    // Containers live in sandboxes: a pod without one is new, and there is nothing to look through.
    let containers = if sandbox == SandboxMemo::None {
        Vec::new()
    } else {
        node.runtime.containers()
    };
    let mut attempts: Vec<&ContainerStatus> = containers.iter().filter(|c| mine(&c.config.labels)).collect();
    attempts.sort_by_key(|c| c.config.attempt);
    let mut known = BTreeMap::new();
    for spec in pod.spec.as_ref().into_iter().flat_map(all_containers) {
        let own: Vec<&ContainerStatus> = attempts
            .iter()
            .copied()
            .filter(|c| c.config.name == spec.name)
            .collect();
        let mut memo = container(pod, &spec.name, own.clone(), node.now());
        add_messages(node, &mut memo, &own).await;
        known.insert(spec.name.clone(), memo);
    }
    let status = pod.status.as_ref();
    let settled = status
        .and_then(|s| s.phase.as_deref())
        .and_then(|phase| match phase {
            "Succeeded" => Some(Phase::Succeeded),
            "Failed" => Some(Phase::Failed),
            _ => None,
        });
    let started = status
        .and_then(|s| s.start_time.as_ref())
        .map(|t| t.0.as_millisecond());
    PodMemo {
        sandbox,
        containers: known,
        started_at: started.unwrap_or_else(|| node.now()),
        pod_ip,
        settled_phase: settled,
        status_is_final: settled.is_some(),
        ..PodMemo::default()
    }
}

/// What containers said at their ends while nobody listened.
async fn add_messages(node: &Node, memo: &mut ContainerMemo, attempts: &[&ContainerStatus]) {
    let last = memo
        .current
        .as_mut()
        .and_then(|instance| match &mut instance.state {
            InstanceState::Exited(ended) => Some(ended),
            InstanceState::Created | InstanceState::Running { .. } => None,
        });
    for ended in last.into_iter().chain(memo.previous.as_mut()) {
        if let Some(status) = attempts.iter().find(|c| c.id == ended.id && c.exit.is_some()) {
            ended.message = crate::termination::message(node, status).await;
        }
    }
}

/// `own` are the container's attempts, the oldest first.
fn container(pod: &Pod, name: &str, mut own: Vec<&ContainerStatus>, now: Millis) -> ContainerMemo {
    let Some(newest) = own.pop() else {
        return ContainerMemo::default();
    };
    let previous = own
        .pop()
        .filter(|c| c.state == ContainerState::Exited)
        .map(|c| ended(pod, c, now));
    let reported = reported(pod, name, &newest.id);
    let state = match newest.state {
        ContainerState::Created => InstanceState::Created,
        ContainerState::Running => InstanceState::Running {
            started_at: newest.started_at_ns / 1_000_000,
        },
        ContainerState::Exited => InstanceState::Exited(ended(pod, newest, now)),
    };
    let spec = pod
        .spec
        .as_ref()
        .into_iter()
        .flat_map(all_containers)
        .find(|c| c.name == name);
    // What was reported of a container that still runs goes on holding until its probes say otherwise.
    let started = reported.0 || spec.is_none_or(|c| c.startup_probe.is_none());
    let ready = reported.1 || spec.is_none_or(|c| c.readiness_probe.is_none());
    let current = Instance {
        id: newest.id.clone(),
        sandbox: newest.sandbox.clone(),
        attempt: newest.config.attempt,
        state,
        image: newest.config.image.clone(),
        image_id: newest
            .config
            .annotations
            .get(label::IMAGE_ID)
            .cloned()
            .unwrap_or_default(),
        user: newest.user.clone(),
    };
    // An end that nobody saw came with a reboot or a dead shim, not from a crash: the pod comes back at once.
    let crashed = current.attempt > 0 && newest.exit.is_some();
    ContainerMemo {
        current: Some(current),
        previous,
        started,
        ready,
        crash_delay_ms: if crashed {
            super::decide::FIRST_BACKOFF_MS
        } else {
            0
        },
        ..ContainerMemo::default()
    }
}

fn ended(pod: &Pod, status: &ContainerStatus, now: Millis) -> Ended {
    // An end that nobody saw stays at the time that was reported for it once.
    let at = reported_end(pod, &status.id).unwrap_or(now);
    // The shim knew when it began, and may be gone.
    let began = (status.started_at_ns != 0).then_some(status.started_at_ns / 1_000_000);
    Ended::from_exit(
        status.id.clone(),
        began.or_else(|| reported_start(pod, &status.id)).unwrap_or(0),
        status.exit,
        String::new(),
        at,
    )
}

fn reported_end(pod: &Pod, id: &ContainerId) -> Option<Millis> {
    let full = format!("{CONTAINER_ID_SCHEME}{id}");
    let states = statuses(pod).flat_map(|c| [c.state.as_ref(), c.last_state.as_ref()]);
    let mut ends = states.flatten().filter_map(|state| state.terminated.as_ref());
    let end = ends.find(|end| end.container_id.as_deref() == Some(full.as_str()))?;
    Some(end.finished_at.as_ref()?.0.as_millisecond())
}

fn reported_start(pod: &Pod, id: &ContainerId) -> Option<Millis> {
    let full = format!("{CONTAINER_ID_SCHEME}{id}");
    let ends = statuses(pod).flat_map(|c| [c.state.as_ref(), c.last_state.as_ref()]);
    let mut ends = ends.flatten().filter_map(|state| state.terminated.as_ref());
    let ended = ends.find(|end| end.container_id.as_deref() == Some(full.as_str()));
    let running = statuses(pod)
        .filter(|c| c.container_id.as_deref() == Some(full.as_str()))
        .find_map(|c| c.state.as_ref()?.running.as_ref()?.started_at.as_ref());
    let at = running.or_else(|| ended?.started_at.as_ref())?;
    Some(at.0.as_millisecond())
}

/// `(started, ready)` of this attempt as the API has them: what is said of an earlier one is not said of it.
fn reported(pod: &Pod, name: &str, id: &ContainerId) -> (bool, bool) {
    let full = format!("{CONTAINER_ID_SCHEME}{id}");
    let mut statuses = statuses(pod);
    let found = statuses.find(|c| c.name == name && c.container_id.as_deref() == Some(full.as_str()));
    found
        .map(|c| (c.started == Some(true), c.ready))
        .unwrap_or_default()
}

/// The container statuses that stand in the API.
fn statuses(pod: &Pod) -> impl Iterator<Item = &ReportedStatus> {
    pod.status.iter().flat_map(|s| {
        let init = s.init_container_statuses.iter().flatten();
        s.container_statuses.iter().flatten().chain(init)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pod::report::tests::id;

    #[test]
    fn a_start_that_the_shim_took_along_is_the_one_that_was_reported() {
        let status = serde_json::json!({"status": {"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 1, "started": true,
            "containerID": format!("cloudeck://{}", id('a')), "state": {"running": {"startedAt": "1970-01-01T00:00:05Z"}},
            "lastState": {"terminated": {
                "containerID": format!("cloudeck://{}", id('b')), "exitCode": 1, "startedAt": "1970-01-01T00:00:02Z"
            }}
        }]}});
        let pod: Pod = serde_json::from_value(status).unwrap();
        assert_eq!(reported_start(&pod, &id('a')), Some(5000));
        assert_eq!(reported_start(&pod, &id('b')), Some(2000));
        assert_eq!(reported_start(&pod, &id('c')), None);
    }

    #[test]
    fn an_end_that_nobody_saw_keeps_the_time_that_was_reported() {
        let status = serde_json::json!({"status": {"containerStatuses": [{
            "name": "c", "image": "i", "imageID": "", "ready": true, "restartCount": 1, "started": true,
            "containerID": format!("cloudeck://{}", id('b')),
            "lastState": {"terminated": {
                "containerID": format!("cloudeck://{}", id('a')), "exitCode": 137, "finishedAt": "1970-01-01T00:00:07Z"
            }}
        }]}});
        let pod: Pod = serde_json::from_value(status).unwrap();
        assert_eq!(reported_end(&pod, &id('a')), Some(7000));
        assert_eq!(reported_end(&pod, &id('b')), None);
        assert_eq!(reported(&pod, "c", &id('b')), (true, true));
        assert_eq!(reported(&pod, "d", &id('b')), (false, false));
        // Its next attempt has to show first that it is ready.
        assert_eq!(reported(&pod, "c", &id('c')), (false, false));
    }
}
