//! Container statuses.

use cloudeck_runtime::RunsAs;
use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, ContainerUser, LinuxContainerUser, PodSpec, VolumeMount, VolumeMountStatus,
};

use super::time;
use crate::pod::decide::is_restartable;
use crate::pod::memo::{ContainerMemo, Ended, InstanceState, PodMemo};

/// The URI scheme of `containerID`.
pub(crate) const CONTAINER_ID_SCHEME: &str = "cloudeck://";

/// The statuses of `containers` in the spec's order.
pub(super) fn statuses(
    containers: &[Container],
    spec: &PodSpec,
    memo: &PodMemo,
    init: bool,
) -> Vec<ContainerStatus> {
    let none = ContainerMemo::default();
    // Init containers themselves, too, say so.
    let waiting_for_init = spec.init_containers.as_ref().is_some_and(|c| !c.is_empty());
    let mut sorted: Vec<ContainerStatus> = containers
        .iter()
        .map(|container| {
            status(
                container,
                memo.containers.get(&container.name).unwrap_or(&none),
                waiting_for_init,
                init,
                memo.termination.is_some(),
            )
        })
        .collect();
    if !init {
        // Upstream sorts ordinary containers by name and keeps init containers in order.
        sorted.sort_by(|a, b| a.name.cmp(&b.name));
    }
    sorted
}

fn status(
    container: &Container,
    known: &ContainerMemo,
    waiting_for_init: bool,
    init: bool,
    ending: bool,
) -> ContainerStatus {
    let (state, last_state) = states(known, waiting_for_init, ending);
    let running = known.running().is_some();
    let ready = if init && !is_restartable(container) {
        known.ended().is_some_and(Ended::succeeded)
    } else {
        running && known.started && known.ready
    };
    let instance = known.current.as_ref();
    ContainerStatus {
        name: container.name.clone(),
        state: Some(state),
        last_state: Some(last_state),
        ready,
        started: Some(running && known.started),
        restart_count: known.restart_count() as i32,
        image: instance.map_or_else(
            || container.image.clone().unwrap_or_default(),
            |i| i.image.clone(),
        ),
        image_id: instance.map_or_else(String::new, |i| i.image_id.clone()),
        container_id: instance.map(|i| format!("{CONTAINER_ID_SCHEME}{}", i.id)),
        // What the container was made with: reported once there is one.
        resources: instance.and_then(|_| container.resources.clone()),
        allocated_resources: instance.and_then(|_| container.resources.as_ref()?.requests.clone()),
        user: instance.and_then(|i| i.user.as_ref()).map(user),
        volume_mounts: container
            .volume_mounts
            .as_ref()
            .map(|mounts| mounts.iter().map(mounted).collect()),
        ..ContainerStatus::default()
    }
}

fn user(user: &RunsAs) -> ContainerUser {
    let groups: Vec<i64> = user.groups.iter().copied().map(i64::from).collect();
    ContainerUser {
        linux: Some(LinuxContainerUser {
            uid: user.uid.into(),
            gid: user.gid.into(),
            supplemental_groups: (!groups.is_empty()).then_some(groups),
        }),
    }
}

fn mounted(mount: &VolumeMount) -> VolumeMountStatus {
    let readonly = mount.read_only == Some(true);
    let recursive = match mount.recursive_read_only.as_deref() {
        Some("Enabled" | "IfPossible") => "Enabled",
        _ => "Disabled",
    };
    VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: readonly.then_some(true),
        recursive_read_only: readonly.then(|| recursive.to_owned()),
        ..VolumeMountStatus::default()
    }
}

/// The last word about a pod that is gone from the node: containers of which no end was seen count as failed, once the
/// pod was initialised; init containers, as far as any sign of a start reaches.
///
/// Source: `pkg/kubelet/status/status_manager.go` (`TerminatePod`).
pub(super) fn close(spec: &PodSpec, init: &mut [ContainerStatus], ordinary: &mut [ContainerStatus]) {
    if is_initialized(spec, init, ordinary) {
        ordinary.iter_mut().for_each(close_one);
    }
    let begun = init.iter().rposition(|status| !is_unstarted(status));
    let begun = begun.map_or(1, |at| at + 1).min(init.len());
    init[..begun].iter_mut().for_each(close_one);
}

fn close_one(status: &mut ContainerStatus) {
    let state = status.state.get_or_insert_default();
    if state.terminated.is_none() {
        let terminated = ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            ..ContainerStateTerminated::default()
        };
        *state = ContainerState {
            terminated: Some(terminated),
            ..ContainerState::default()
        };
    }
}

fn is_unstarted(status: &ContainerStatus) -> bool {
    let waits = status.state.as_ref().is_none_or(|state| state.waiting.is_some());
    waits && !has_ended_before(status)
}

fn has_ended_before(status: &ContainerStatus) -> bool {
    let last = status.last_state.as_ref();
    last.is_some_and(|state| state.terminated.is_some())
}

fn is_initialized(spec: &PodSpec, init: &[ContainerStatus], ordinary: &[ContainerStatus]) -> bool {
    let (Some(last), Some(status)) = (spec.init_containers.iter().flatten().next_back(), init.last()) else {
        return true;
    };
    if ordinary.iter().any(|status| !is_unstarted(status)) {
        return true;
    }
    if is_restartable(last) {
        let running = status.state.as_ref().is_some_and(|state| state.running.is_some());
        return running && status.started == Some(true);
    }
    [&status.state, &status.last_state]
        .into_iter()
        .flatten()
        .filter_map(|state| state.terminated.as_ref())
        .any(|end| end.exit_code == 0)
}

fn states(known: &ContainerMemo, waiting_for_init: bool, ending: bool) -> (ContainerState, ContainerState) {
    // Nothing waits for a next attempt in a pod that ends.
    let said = known.waiting.as_ref().filter(|_| !ending);
    let last = known.previous.as_ref().map(terminated).unwrap_or_default();
    let default_reason = if waiting_for_init {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let waiting = |reason: &str, message: Option<String>| ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message,
        }),
        ..ContainerState::default()
    };
    match known.current.as_ref().map(|i| &i.state) {
        Some(InstanceState::Running { started_at }) => {
            let running = ContainerStateRunning {
                started_at: Some(time(*started_at)),
            };
            (
                ContainerState {
                    running: Some(running),
                    ..ContainerState::default()
                },
                last,
            )
        }
        // Ended, and something is to be said of the next attempt: the end moves to the last state.
        Some(InstanceState::Exited(ended)) => match said {
            Some(w) => (waiting(&w.reason, some(&w.message)), terminated(ended)),
            None => (terminated(ended), last),
        },
        Some(InstanceState::Created) | None => match said {
            Some(w) => (waiting(&w.reason, some(&w.message)), last),
            None => (waiting(default_reason, None), last),
        },
    }
}

fn terminated(ended: &Ended) -> ContainerState {
    let terminated = ContainerStateTerminated {
        exit_code: ended.code,
        signal: (ended.signal != 0 && ended.reason != "Error" && ended.reason != "OOMKilled")
            .then_some(ended.signal),
        reason: Some(ended.reason.clone()),
        message: some(&ended.message),
        started_at: Some(time(ended.started_at)),
        finished_at: Some(time(ended.finished_at)),
        container_id: Some(format!("{CONTAINER_ID_SCHEME}{}", ended.id)),
    };
    ContainerState {
        terminated: Some(terminated),
        ..ContainerState::default()
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}
