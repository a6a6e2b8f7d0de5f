//! Starting one container: image, environment, mounts, root file system, create, start, postStart.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_image::Image;
use cloudeck_runtime::{ContainerId, RequestError, Rootfs, SandboxId};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};

use super::{Operations, chain, log_dir, mounts};
use crate::hooks;
use crate::node::Node;
use crate::pod::convert::{self, ImageFacts, Resolved, label};
use crate::pod::decide::all_containers;
use crate::pod::memo::{Ended, Instance, InstanceState, Waiting};
use crate::pod::report::{Report, StartFailure};
use crate::pod::worker::{field_path, pod_reference};
use crate::pulling;

/// One start.
pub(super) struct Start<'a> {
    pub(super) operations: &'a Operations,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) sandbox: SandboxId,
    pub(super) name: String,
    pub(super) attempt: u32,
    pub(super) pod_ip: Option<IpAddr>,
}

type Failed = Box<StartFailure>;

#[allow(
    clippy::unnecessary_box_returns,
    reason = "it goes straight into results, which it would bloat unboxed"
)]
fn failed(reason: &str, message: impl Into<String>) -> Failed {
    Box::new(StartFailure {
        reason: reason.to_owned(),
        message: message.into(),
        ended: None,
    })
}

impl Start<'_> {
    fn node(&self) -> &Arc<Node> {
        &self.operations.node
    }

    pub(super) async fn run(&self) -> Result<Instance, Failed> {
        let spec = self
            .pod
            .spec
            .as_ref()
            .ok_or_else(|| failed("CreateContainerError", "the pod has no spec"))?;
        let container = all_containers(spec).find(|c| c.name == self.name);
        let container =
            container.ok_or_else(|| failed("CreateContainerError", "the pod has no such container"))?;
        let image = self.image(container).await?;
        let result = self.create_and_start(spec, container, &image).await;
        if let Err(failure) = &result {
            self.event(
                EventType::Warning,
                "Failed",
                format!("Error: {}", failure.message),
            );
        }
        result
    }

    async fn image(&self, container: &Container) -> Result<Arc<Image>, Failed> {
        let name = container.image.as_deref().unwrap_or_default();
        match pulling::ensure(self.node(), self.pod, container, &self.reference()).await {
            Ok(image) => Ok(image),
            Err(refusal) => {
                self.event(EventType::Warning, "Failed", format!("Error: {}", refusal.reason));
                if refusal.reason == "ErrImagePull" {
                    // What a user sees until the next attempt.
                    let waiting = Waiting {
                        reason: refusal.reason.to_owned(),
                        message: refusal.message.clone(),
                    };
                    self.operations
                        .report(Report::Waiting {
                            name: self.name.clone(),
                            waiting: Some(waiting),
                        })
                        .await;
                    self.event(
                        EventType::Normal,
                        "BackOff",
                        format!("Back-off pulling image \"{name}\""),
                    );
                    let message = format!(
                        "Back-off pulling image \"{name}\": ErrImagePull: {}",
                        refusal.message
                    );
                    return Err(failed("ImagePullBackOff", message));
                }
                Err(failed(refusal.reason, refusal.message))
            }
        }
    }

    async fn create_and_start(
        &self,
        spec: &PodSpec,
        container: &Container,
        image: &Image,
    ) -> Result<Instance, Failed> {
        let config_error = |message: String| failed("CreateContainerConfigError", message);
        let facts = image_facts(image);
        convert::check_non_root(spec, container, &facts.user, &self.pod_title())
            .map_err(|e| config_error(e.to_string()))?;
        let ip = self.ip_text();
        let env = crate::env::resolve(self.node(), self.pod, container, &ip).await;
        let env = env.map_err(|e| config_error(chain(&e)))?;
        let mounts = mounts::prepare(
            self.node(),
            self.pod,
            spec,
            container,
            self.attempt,
            self.pod_ip,
            &env,
        );
        let mounts = mounts.map_err(|e| config_error(chain(&e)))?;
        let create_error = |message: String| failed("CreateContainerError", message);
        let rootfs = self.rootfs(image).await.map_err(create_error)?;
        let image_id = facts.image_id.clone();
        let resolved = Resolved {
            attempt: self.attempt,
            image: facts,
            env,
            mounts: mounts.mounts,
            rootfs,
            log_path: log_dir(self.node(), self.pod)
                .join(&self.name)
                .join(format!("{}.log", self.attempt)),
            termination_path: Some(mounts.termination_path),
            memory_capacity_bytes: self.node().capacity.memory_bytes,
        };
        make_parent(&resolved.log_path).map_err(|e| failed("CreateContainerError", e.to_string()))?;
        let config = convert::container_config(self.pod, spec, container, resolved);
        let created = self.node().runtime.create_container(&self.sandbox, config).await;
        let id = created.map_err(|e| failed("CreateContainerError", chain(&e)))?;
        self.event(EventType::Normal, "Created", "Container created");
        self.start(container, id, image_id).await
    }

    async fn start(
        &self,
        container: &Container,
        id: ContainerId,
        image_id: String,
    ) -> Result<Instance, Failed> {
        let node = self.node();
        let image = container.image.clone().unwrap_or_default();
        let instance = |state| Instance {
            id: id.clone(),
            attempt: self.attempt,
            state,
            image: image.clone(),
            image_id: image_id.clone(),
        };
        if let Err(error) = node.runtime.start_container(&id).await {
            let (message, now) = (chain(&error), node.now());
            let ended = Ended {
                id: id.clone(),
                code: start_error_code(&error),
                signal: 0,
                reason: "StartError".to_owned(),
                message: message.clone(),
                started_at: 0,
                finished_at: now,
            };
            let ended = Some(Box::new(instance(InstanceState::Exited(ended))));
            return Err(Box::new(StartFailure {
                reason: "RunContainerError".to_owned(),
                message,
                ended,
            }));
        }
        let started_at = node.now();
        self.event(EventType::Normal, "Started", "Container started");
        self.forget_old_attempts().await;
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        if let Some(hook) = hook
            && let Err(message) = hooks::run(node, self.pod, container, &id, hook).await
        {
            self.event(
                EventType::Warning,
                "FailedPostStartHook",
                format!("PostStartHook failed: {message}"),
            );
            let grace = std::time::Duration::from_secs(2);
            if let Err(error) = node.runtime.stop_container(&id, grace).await {
                tracing::warn!(container = %id, error = chain(&error), "container not stopped after its postStart hook");
            }
        }
        Ok(instance(InstanceState::Running { started_at }))
    }

    async fn rootfs(&self, image: &Image) -> Result<Rootfs, String> {
        let key = format!("{}_{}_{}", self.uid(), self.name, self.attempt);
        let made = self
            .node()
            .images
            .prepare_rootfs(&key, image)
            .await
            .map_err(|e| chain(&e))?;
        Ok(Rootfs {
            lowers: made.lowers,
            upper: made.upper,
            work: made.work,
            readonly: false,
        })
    }

    /// The attempt before stays known (`lastState`, `logs --previous`); older ones go, and root file systems of both.
    async fn forget_old_attempts(&self) {
        let Some(last) = self.attempt.checked_sub(1) else {
            return;
        };
        let node = self.node();
        let key = |attempt: u32| format!("{}_{}_{attempt}", self.uid(), self.name);
        if let Err(error) = node.images.release_rootfs(&key(last)).await {
            tracing::debug!(
                container = self.name,
                error = chain(&error),
                "root file system kept"
            );
        }
        let containers = node.runtime.containers();
        for old in containers {
            let labels = &old.config.labels;
            let same = labels.get(label::POD_UID).is_some_and(|uid| uid == self.uid())
                && labels.get(label::CONTAINER_NAME) == Some(&self.name);
            if !same || old.config.attempt >= last {
                continue;
            }
            if let Err(error) = node.runtime.remove_container(&old.id).await {
                tracing::debug!(container = self.name, error = chain(&error), "old container kept");
            }
            if let Some(path) = &old.config.log_path
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(container = self.name, %error, "old log kept");
            }
        }
    }

    fn uid(&self) -> &str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// `name_namespace(uid)`, as upstream prints pods.
    fn pod_title(&self) -> String {
        let meta = &self.pod.metadata;
        let part = |text: &Option<String>| text.clone().unwrap_or_default();
        format!(
            "{}_{}({})",
            part(&meta.name),
            part(&meta.namespace),
            part(&meta.uid)
        )
    }

    fn ip_text(&self) -> String {
        let host_network = self.pod.spec.as_ref().and_then(|s| s.host_network) == Some(true);
        let ip = if host_network {
            Some(self.node().address())
        } else {
            self.pod_ip
        };
        ip.map(|ip| ip.to_string()).unwrap_or_default()
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            field_path: field_path(self.pod, &self.name),
            ..pod_reference(self.pod)
        }
    }

    fn event(&self, event_type: EventType, reason: &'static str, message: impl Into<String>) {
        self.node()
            .recorder
            .event(self.reference(), event_type, reason, message);
    }
}

/// 128 unless the program itself could not be run.
fn start_error_code(error: &RequestError) -> i32 {
    match error {
        RequestError::Start(error) => error.exit_code(),
        _ => 128,
    }
}

fn make_parent(path: &Path) -> std::io::Result<()> {
    path.parent().map_or(Ok(()), std::fs::create_dir_all)
}

fn image_facts(image: &Image) -> ImageFacts {
    let config = image.run_config();
    ImageFacts {
        image_id: image.status_id(),
        entrypoint: config.entrypoint.clone(),
        cmd: config.cmd.clone(),
        env: config.env.clone(),
        user: config.user.clone(),
        working_dir: config.working_dir.clone(),
        stop_signal: crate::signals::number(&config.stop_signal),
    }
}
