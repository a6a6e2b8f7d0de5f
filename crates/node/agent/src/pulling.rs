//! Images for containers: pull policy, pull secrets, events.
//!
//! Source: `pkg/kubelet/images/image_manager.go`.

use std::sync::Arc;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_image::{AuthFile, Credentials, Image, Reference};
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::node::Node;
use crate::volumes::read_secret;

/// Why there is no image: a container's waiting reason and message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub reason: &'static str,
    pub message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    Always,
    IfNotPresent,
    Never,
}

fn policy(container: &Container) -> Policy {
    match container.image_pull_policy.as_deref() {
        Some("Always") => Policy::Always,
        Some("Never") => Policy::Never,
        _ => Policy::IfNotPresent,
    }
}

/// The container's image, pulled if its policy asks for it.
pub(crate) async fn ensure(
    node: &Node,
    pod: &Pod,
    container: &Container,
    reference: &ObjectReference,
) -> Result<Arc<Image>, Refusal> {
    let name = container.image.as_deref().unwrap_or_default();
    let parsed = name.parse::<Reference>().map_err(|error| {
        let message = format!(
            "Failed to apply default image tag \"{name}\": couldn't parse image name \"{name}\": {error}"
        );
        tell(
            node,
            reference,
            EventType::Warning,
            "InspectFailed",
            message.clone(),
        );
        Refusal {
            reason: "InvalidImageName",
            message,
        }
    })?;
    let present = node.images.get(name).map_err(|e| Refusal {
        reason: "ImageInspectError",
        message: crate::pod::chain(&e),
    })?;
    match (policy(container), present) {
        (Policy::IfNotPresent | Policy::Never, Some(image)) => {
            tell(
                node,
                reference,
                EventType::Normal,
                "Pulled",
                format!("Container image \"{name}\" already present on machine"),
            );
            Ok(image)
        }
        (Policy::Never, None) => {
            let message = format!("Container image \"{name}\" is not present with pull policy of Never");
            tell(
                node,
                reference,
                EventType::Warning,
                "ErrImageNeverPull",
                message.clone(),
            );
            Err(Refusal {
                reason: "ErrImageNeverPull",
                message,
            })
        }
        (Policy::Always, _) | (Policy::IfNotPresent, None) => pull(node, pod, name, &parsed, reference).await,
    }
}

async fn pull(
    node: &Node,
    pod: &Pod,
    name: &str,
    parsed: &Reference,
    reference: &ObjectReference,
) -> Result<Arc<Image>, Refusal> {
    tell(
        node,
        reference,
        EventType::Normal,
        "Pulling",
        format!("Pulling image \"{name}\""),
    );
    let begun = tokio::time::Instant::now();
    let credentials = credentials(node, pod, parsed).await;
    match node.images.pull(name, credentials).await {
        Ok(image) => {
            let took = begun.elapsed();
            let text = format!("{}ms", took.as_millis());
            let message = format!(
                "Successfully pulled image \"{name}\" in {text} ({text} including waiting). Image size: {} bytes.",
                image.size_bytes
            );
            tell(node, reference, EventType::Normal, "Pulled", message);
            Ok(image)
        }
        Err(error) => {
            let message = format!("failed to pull image \"{name}\": {}", crate::pod::chain(&*error));
            let event = format!("Failed to pull image \"{name}\": {}", crate::pod::chain(&*error));
            tell(node, reference, EventType::Warning, "Failed", event);
            Err(Refusal {
                reason: "ErrImagePull",
                message,
            })
        }
    }
}

/// The pull secrets of the pod; missing or broken ones are told and passed over, as upstream does.
async fn credentials(node: &Node, pod: &Pod, image: &Reference) -> Vec<Credentials> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let mut all = Vec::new();
    for reference in pod
        .spec
        .iter()
        .flat_map(|s| s.image_pull_secrets.iter().flatten())
    {
        let secret = read_secret(node, namespace, &reference.name, false).await;
        let data = secret.ok().flatten().and_then(|s| s.data).unwrap_or_default();
        let text = data.get(".dockerconfigjson").or_else(|| data.get(".dockercfg"));
        if let Some(Ok(file)) = text.map(|bytes| AuthFile::parse(&bytes.0)) {
            all.extend(file.lookup(image));
        } else {
            let message = format!(
                "Unable to retrieve some image pull secrets ({}); attempting to pull the image may not succeed.",
                reference.name
            );
            tell(
                node,
                &crate::pod::worker::pod_reference(pod),
                EventType::Warning,
                "FailedToRetrieveImagePullSecret",
                message,
            );
        }
    }
    all
}

fn tell(
    node: &Node,
    reference: &ObjectReference,
    event_type: EventType,
    reason: &'static str,
    message: String,
) {
    node.recorder
        .event(reference.clone(), event_type, reason, message);
}
