//! Container statuses.

use k8s_openapi::api::core::v1::{
    Container, ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    ContainerStatus, PodSpec,
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
    let waiting_for_init = !init && spec.init_containers.as_ref().is_some_and(|c| !c.is_empty());
    let mut sorted: Vec<ContainerStatus> = containers
        .iter()
        .map(|container| {
            status(
                container,
                memo.containers.get(&container.name).unwrap_or(&none),
                waiting_for_init,
                init,
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
) -> ContainerStatus {
    let (state, last_state) = states(known, waiting_for_init);
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
        resources: container.resources.clone(),
        ..ContainerStatus::default()
    }
}

fn states(known: &ContainerMemo, waiting_for_init: bool) -> (ContainerState, ContainerState) {
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
        Some(InstanceState::Exited(ended)) => match &known.waiting {
            Some(w) => (waiting(&w.reason, some(&w.message)), terminated(ended)),
            None => (terminated(ended), last),
        },
        Some(InstanceState::Created) | None => match &known.waiting {
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
