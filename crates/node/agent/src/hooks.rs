//! Life-cycle hooks: postStart and preStop.

use std::time::Duration;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_runtime::ContainerId;
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod};

use crate::node::Node;
use crate::pod::decide::all_containers;
use crate::pod::worker::{field_path, pod_reference};
use crate::probe::{self, Verdict};

/// A hook without a limit of its own may take as long as the container lives; this bounds what hangs.
const LONGEST_HOOK: Duration = Duration::from_hours(1);

/// Runs a hook to its end. The error is what the event says.
pub(crate) async fn run(
    node: &Node,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    hook: &LifecycleHandler,
) -> Result<(), String> {
    run_within(node, pod, container, id, hook, LONGEST_HOOK).await
}

async fn run_within(
    node: &Node,
    pod: &Pod,
    container: &Container,
    id: &ContainerId,
    hook: &LifecycleHandler,
    limit: Duration,
) -> Result<(), String> {
    if let Some(exec) = &hook.exec {
        let command = exec.command.clone().unwrap_or_default();
        let output = node
            .runtime
            .exec_sync(id, command.clone(), limit)
            .await
            .map_err(|e| crate::pod::chain(&e))?;
        if output.code != 0 {
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            return Err(format!(
                "command '{}' exited with {}: {text}",
                command.join(" "),
                output.code
            ));
        }
        return Ok(());
    }
    if let Some(http) = &hook.http_get {
        let host = http
            .host
            .clone()
            .filter(|h| !h.is_empty())
            .or_else(|| probe::pod_address(node, pod));
        let request =
            probe::http::HttpCheck::from_action(http, container, host, limit).map_err(|e| e.to_string())?;
        return match request.run().await {
            Verdict::Passed => Ok(()),
            Verdict::Failed(why) | Verdict::Unknown(why) => Err(why),
        };
    }
    if let Some(sleep) = &hook.sleep {
        let seconds = u64::try_from(sleep.seconds).unwrap_or(0);
        tokio::time::sleep(Duration::from_secs(seconds).min(limit)).await;
        return Ok(());
    }
    Ok(())
}

/// Runs the container's preStop hook within its grace and gives what is left of it.
pub(crate) async fn pre_stop(
    node: &Node,
    pod: &Pod,
    name: &str,
    id: &ContainerId,
    grace: Duration,
) -> Duration {
    let container = pod
        .spec
        .as_ref()
        .into_iter()
        .flat_map(all_containers)
        .find(|c| c.name == name);
    let Some(container) = container else { return grace };
    let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref()) else {
        return grace;
    };
    if grace.is_zero() {
        return grace;
    }
    let begun = tokio::time::Instant::now();
    let outcome = tokio::time::timeout(grace, run_within(node, pod, container, id, hook, grace)).await;
    let failure = match outcome {
        Ok(Ok(())) => None,
        Ok(Err(why)) => Some(why),
        Err(_) => Some(format!("the hook did not end within {} s", grace.as_secs())),
    };
    if let Some(why) = failure {
        let reference = ObjectReference {
            field_path: field_path(pod, name),
            ..pod_reference(pod)
        };
        node.recorder.event(
            reference,
            EventType::Warning,
            "FailedPreStopHook",
            format!("PreStopHook failed: {why}"),
        );
    }
    grace.saturating_sub(begun.elapsed())
}
