//! Starting one container: image, environment, mounts, root file system, create, start, postStart.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_image::{Image, RootFsError};
use cloudeck_runtime::{ContainerId, Rootfs, SandboxState};
use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use tokio::sync::watch;

use super::{Operations, WantedContainer, chain, log_dir, mounts};
use crate::hooks;
use crate::node::Node;
use crate::pod::convert::{self, ImageFacts, Resolved, label};
use crate::pod::decide::all_containers;
use crate::pod::memo::{Ended, Instance, InstanceState, Millis};
use crate::pod::report::{Report, StartFailure};
use crate::pod::worker::{field_path, pod_reference};
use crate::pulling;

/// The exit code of what did not begin to run, as containerd reports it.
const START_ERROR_CODE: i32 = 128;

/// One start.
pub(super) struct Start<'a> {
    pub(super) operations: &'a Operations,
    pub(super) pod: &'a Arc<Pod>,
    pub(super) wanted: WantedContainer,
    /// Turns true when the pod ends.
    pub(super) cancelled: watch::Receiver<bool>,
}

/// Why there is no running container.
pub(super) enum NotStarted {
    /// The pod or its sandbox ends; nothing was made that counts.
    Abandoned,
    Failed(Failed),
}

impl From<Failed> for NotStarted {
    fn from(failure: Failed) -> Self {
        Self::Failed(failure)
    }
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

    pub(super) async fn run(&self) -> Result<Instance, NotStarted> {
        let spec = self
            .pod
            .spec
            .as_ref()
            .ok_or_else(|| failed("CreateContainerError", "the pod has no spec"))?;
        let container = all_containers(spec).find(|c| c.name == self.wanted.name);
        let container =
            container.ok_or_else(|| failed("CreateContainerError", "the pod has no such container"))?;
        let image = tokio::select! {
            image = self.image(container) => image?,
            () = self.cancelled() => return Err(NotStarted::Abandoned),
        };
        let result = self.create_and_start(spec, container, &image).await;
        if result.is_err() && !self.sandbox_lives() {
            // No failure of the container's: it is made in the next sandbox.
            let id = self.wanted.sandbox.clone();
            let ends = Vec::new();
            self.operations.report(Report::SandboxDied { id, ends }).await;
            return Err(NotStarted::Abandoned);
        }
        if let Err(failure) = &result
            // Its own event has been told, without the hook's words.
            && failure.reason != "PostStartHookError"
        {
            self.event(
                EventType::Warning,
                "Failed",
                format!("Error: {}", failure.message),
            );
        }
        Ok(result?)
    }

    fn sandbox_lives(&self) -> bool {
        let status = self.node().runtime.sandbox_status(&self.wanted.sandbox);
        status.is_ok_and(|status| status.state == SandboxState::Ready)
    }

    async fn cancelled(&self) {
        let mut cancelled = self.cancelled.clone();
        if cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            // The worker is gone at shutdown only; then this task is ended too.
            std::future::pending::<()>().await;
        }
    }

    async fn image(&self, container: &Container) -> Result<Arc<Image>, Failed> {
        let image = pulling::ensure(self.node(), self.pod, container, &self.reference()).await;
        image.map_err(|refusal| {
            self.event(EventType::Warning, "Failed", format!("Error: {}", refusal.reason));
            failed(refusal.reason, refusal.message)
        })
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
            self.wanted.attempt,
            self.wanted.pod_ip,
            &env,
        );
        let mounts = mounts.map_err(|e| config_error(chain(&e)))?;
        let create_error = |message: String| failed("CreateContainerError", message);
        if let Some(unstarted) = &self.wanted.unstarted {
            let removed = self.node().runtime.remove_container(unstarted).await;
            removed.map_err(|e| create_error(chain(&e)))?;
        }
        let rootfs = self.rootfs(image).await.map_err(create_error)?;
        let image_id = facts.image_id.clone();
        let log_path = log_dir(self.node(), self.pod)
            .join(&self.wanted.name)
            .join(format!("{}.log", self.wanted.attempt));
        let resolved = Resolved {
            attempt: self.wanted.attempt,
            image: facts,
            env,
            mounts: mounts.mounts,
            rootfs,
            log_path,
            termination_path: Some(mounts.termination_path),
            memory_capacity_bytes: self.node().capacity.memory_bytes,
            seccomp_profiles: self.node().config.seccomp_dir(),
        };
        let created = self.create(spec, container, resolved).await;
        if created.is_err() {
            // The next attempt may be at another image.
            self.release_rootfs(self.wanted.attempt).await;
        }
        let id = created.map_err(create_error)?;
        self.event(EventType::Normal, "Created", "Container created");
        self.start(container, id, image_id).await
    }

    async fn create(
        &self,
        spec: &PodSpec,
        container: &Container,
        resolved: Resolved,
    ) -> Result<ContainerId, String> {
        make_parent(&resolved.log_path).map_err(|e| e.to_string())?;
        let config = convert::container_config(self.pod, spec, container, resolved);
        let runtime = &self.node().runtime;
        let created = runtime.create_container(&self.wanted.sandbox, config).await;
        created.map_err(|e| chain(&e))
    }

    async fn start(
        &self,
        container: &Container,
        id: ContainerId,
        image_id: String,
    ) -> Result<Instance, Failed> {
        let node = self.node();
        let image = container.image.clone().unwrap_or_default();
        let user = node.runtime.container_status(&id).ok().and_then(|made| made.user);
        let instance = |state| Instance {
            id: id.clone(),
            sandbox: self.wanted.sandbox.clone(),
            attempt: self.wanted.attempt,
            state,
            image: image.clone(),
            image_id: image_id.clone(),
            user: user.clone(),
        };
        if let Err(error) = node.runtime.start_container(&id).await {
            let (message, now) = (chain(&error), node.now());
            let ended = Ended {
                id: id.clone(),
                code: START_ERROR_CODE,
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
        let status = node.runtime.container_status(&id);
        let started_at = status.map_or_else(|_| node.now(), |status| status.started_at_ns / 1_000_000);
        self.event(EventType::Normal, "Started", "Container started");
        self.forget_old_attempts().await;
        let Some(hook) = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) else {
            return Ok(instance(InstanceState::Running { started_at }));
        };
        let outcome = tokio::select! {
            outcome = hooks::run(node, self.pod, container, &id, hook) => outcome,
            () = self.cancelled() => Ok(()),
        };
        match outcome {
            Ok(()) => Ok(instance(InstanceState::Running { started_at })),
            Err(why) => {
                let ended = self.end_after_hook(&id, started_at).await;
                Err(Box::new(StartFailure {
                    reason: "PostStartHookError".to_owned(),
                    message: why,
                    ended: Some(Box::new(instance(InstanceState::Exited(ended)))),
                }))
            }
        }
    }

    /// Ends a container whose postStart hook has failed. The hook's words are not for events: they may hold secrets.
    async fn end_after_hook(&self, id: &ContainerId, started_at: Millis) -> Ended {
        let node = self.node();
        self.event(EventType::Warning, "FailedPostStartHook", "PostStartHook failed");
        self.event(EventType::Normal, "Killing", "FailedPostStartHook");
        let spec = self.pod.spec.as_ref();
        let seconds = spec
            .and_then(|s| s.termination_grace_period_seconds)
            .unwrap_or(30);
        let grace = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
        if let Err(error) = node.runtime.stop_container(id, grace).await {
            tracing::warn!(container = %id, error = chain(&error), "container not stopped after its postStart hook");
        }
        let status = node.runtime.container_status(id).ok();
        let message = match &status {
            Some(status) => crate::termination::message(node, status).await,
            None => String::new(),
        };
        Ended::from_exit(
            id.clone(),
            started_at,
            status.and_then(|s| s.exit),
            message,
            node.now(),
        )
    }

    async fn rootfs(&self, image: &Image) -> Result<Rootfs, String> {
        let key = self.rootfs_key(self.wanted.attempt);
        let images = &self.node().images;
        let mut made = images.prepare_rootfs(&key, image).await;
        if let Err(RootFsError::Taken { .. }) = made {
            // Of an attempt whose daemon was killed before there was a container; the name means another image now.
            self.release_rootfs(self.wanted.attempt).await;
            made = images.prepare_rootfs(&key, image).await;
        }
        let made = made.map_err(|e| chain(&e))?;
        Ok(Rootfs {
            lowers: made.lowers,
            upper: made.upper,
            work: made.work,
            readonly: false,
        })
    }

    fn rootfs_key(&self, attempt: u32) -> String {
        format!("{}_{}_{attempt}", self.uid(), self.wanted.name)
    }

    async fn release_rootfs(&self, attempt: u32) {
        let released = self.node().images.release_rootfs(&self.rootfs_key(attempt)).await;
        if let Err(error) = released {
            tracing::debug!(
                container = self.wanted.name,
                error = chain(&error),
                "root file system kept"
            );
        }
    }

    /// The attempt before stays known (`lastState`, `logs --previous`); older ones go, and root file systems of both.
    async fn forget_old_attempts(&self) {
        let Some(last) = self.wanted.attempt.checked_sub(1) else {
            return;
        };
        let node = self.node();
        self.release_rootfs(last).await;
        let containers = node.runtime.containers();
        for old in containers {
            let labels = &old.config.labels;
            let same = labels.get(label::POD_UID).is_some_and(|uid| uid == self.uid())
                && labels.get(label::CONTAINER_NAME) == Some(&self.wanted.name);
            if !same || old.config.attempt >= last {
                continue;
            }
            if let Err(error) = node.runtime.remove_container(&old.id).await {
                tracing::debug!(
                    container = self.wanted.name,
                    error = chain(&error),
                    "old container kept"
                );
            }
            if let Some(path) = &old.config.log_path
                && let Err(error) = std::fs::remove_file(path)
            {
                tracing::debug!(container = self.wanted.name, %error, "old log kept");
            }
        }
        self.forget_empty_sandboxes().await;
    }

    /// A sandbox that was replaced goes with the last container of which something is still told.
    async fn forget_empty_sandboxes(&self) {
        let runtime = &self.node().runtime;
        let mut old = runtime.sandboxes();
        old.retain(|sandbox| {
            let uid = sandbox.config.labels.get(label::POD_UID);
            sandbox.id != self.wanted.sandbox && uid.is_some_and(|uid| uid == self.uid())
        });
        if old.is_empty() {
            return;
        }
        let containers = runtime.containers();
        for sandbox in old {
            if containers.iter().any(|c| c.sandbox == sandbox.id) {
                continue;
            }
            if let Err(error) = runtime.remove_pod_sandbox(&sandbox.id).await {
                tracing::debug!(sandbox = %sandbox.id, error = chain(&error), "old sandbox kept");
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
            self.wanted.pod_ip
        };
        ip.map(|ip| ip.to_string()).unwrap_or_default()
    }

    fn reference(&self) -> ObjectReference {
        ObjectReference {
            field_path: field_path(self.pod, &self.wanted.name),
            ..pod_reference(self.pod)
        }
    }

    fn event(&self, event_type: EventType, reason: &'static str, message: impl Into<String>) {
        self.node()
            .recorder
            .event(self.reference(), event_type, reason, message);
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
