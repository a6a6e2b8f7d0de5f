//! The long steps of a pod, each a task of its own that reports back to the worker.

mod mounts;
mod start;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_machinery::GroupVersionResource;
use cloudeck_network::{AttachRequest, HostPort};
use cloudeck_runtime::{ContainerId, ContainerState, SandboxId};
use cloudeck_telemetry::chain;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use tokio::sync::{mpsc, watch};

use super::convert::{self, label};
use super::decide::StopReason;
use super::names::PodNames;
use super::report::Report;
use super::worker::{field_path, pod_reference};
use crate::node::Node;
use crate::{hooks, volumes};

/// What RuntimeClasses call the node's own runtime.
const RUNTIME_HANDLER: &str = "cloudeck";
/// The wait after a stop that failed, before it is tried again.
const STOP_RETRY: Duration = Duration::from_secs(1);
/// Every process has this long between the signal and the kill, whatever grace is left (upstream's
/// `minimumGracePeriodInSeconds`).
const LEAST_GRACE: Duration = Duration::from_secs(2);

/// Begins operations for one pod.
#[derive(Clone)]
pub struct Operations {
    node: Arc<Node>,
    outbox: mpsc::Sender<Report>,
    /// Containers that are being stopped, so that a shortened grace reaches them.
    stopping: Arc<Mutex<Vec<ContainerId>>>,
    /// The shortened grace, once there is one.
    hurried: Arc<watch::Sender<Option<Duration>>>,
    /// Containers that live.
    live: Arc<watch::Sender<BTreeSet<String>>>,
}

/// A container to be started.
pub struct WantedContainer {
    pub sandbox: SandboxId,
    pub name: String,
    pub attempt: u32,
    pub pod_ip: Option<IpAddr>,
    /// What an earlier life of the agent made for this attempt and did not start.
    pub unstarted: Option<ContainerId>,
}

/// A container to be stopped.
pub struct Stop {
    pub id: ContainerId,
    pub name: String,
    pub grace: Duration,
    /// Those whose ends the signal waits for.
    pub after: Vec<String>,
    pub why: StopReason,
}

impl Operations {
    pub fn new(node: Arc<Node>, outbox: mpsc::Sender<Report>) -> Self {
        Self {
            node,
            outbox,
            stopping: Arc::default(),
            hurried: Arc::new(watch::channel(None).0),
            live: Arc::new(watch::channel(BTreeSet::new()).0),
        }
    }

    pub fn outbox(&self) -> mpsc::Sender<Report> {
        self.outbox.clone()
    }

    async fn report(&self, report: Report) {
        // The worker is gone only when the pod is, or at shutdown: then nobody needs the news.
        let _ = self.outbox.send(report).await;
    }

    pub fn prepare_volumes(&self, pod: &Arc<Pod>) {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        self.node
            .scope
            .spawn_until_shutdown("set up volumes", async move {
                let report = match volumes::prepare(&this.node, &pod).await {
                    Ok(()) => Report::VolumesReady,
                    Err(error) => {
                        let message = chain(&error);
                        this.node.recorder.event(
                            pod_reference(&pod),
                            EventType::Warning,
                            "FailedMount",
                            message.clone(),
                        );
                        Report::VolumesFailed { message }
                    }
                };
                this.report(report).await;
            });
    }

    pub fn create_sandbox(&self, pod: &Arc<Pod>) {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        self.node
            .scope
            .spawn_until_shutdown("create sandbox", async move {
                let report = match this.sandbox(&pod).await {
                    Ok((id, ip)) => Report::SandboxReady { id, ip },
                    Err(message) => {
                        let text = format!("Failed to create pod sandbox: {message}");
                        this.node.recorder.event(
                            pod_reference(&pod),
                            EventType::Warning,
                            "FailedCreatePodSandBox",
                            text,
                        );
                        Report::SandboxFailed { message }
                    }
                };
                this.report(report).await;
            });
    }

    async fn sandbox(&self, pod: &Pod) -> Result<(SandboxId, Option<IpAddr>), String> {
        let spec = pod.spec.as_ref().ok_or("the pod has no spec")?;
        let host_ports = host_ports(spec);
        if spec.host_network != Some(true) && !host_ports.is_empty() {
            return Err("hostPort is not supported; use a NodePort Service or hostNetwork".to_owned());
        }
        if let Some(handler) = self.foreign_runtime(spec).await? {
            return Err(format!("no runtime for \"{handler}\" is configured"));
        }
        let names = PodNames::of(pod, spec, &self.node.config.cluster_domain);
        let hostname = names.of_kernel(spec).map_err(|e| e.to_string())?;
        let status = self
            .node
            .runtime
            .run_pod_sandbox(convert::sandbox_config(pod, spec, hostname))
            .await
            .map_err(|e| chain(&e))?;
        let Some(netns) = &status.netns else {
            return Ok((status.id, None));
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let request = AttachRequest {
            netns,
            pod_uid: uid,
            requested: None,
            host_ports: &[],
        };
        match self.node.network.attach(request).await {
            Ok(address) => Ok((status.id, Some(IpAddr::V4(address.ip)))),
            Err(error) => {
                let message = format!("failed to set up the pod's network: {}", chain(&error));
                self.discard(&status.id).await;
                Err(message)
            }
        }
    }

    /// The handler of the pod's RuntimeClass, if it is not this node's own runtime.
    async fn foreign_runtime(&self, spec: &PodSpec) -> Result<Option<String>, String> {
        let Some(name) = spec.runtime_class_name.as_deref().filter(|name| !name.is_empty()) else {
            return Ok(None);
        };
        let classes = GroupVersionResource::new("node.k8s.io", "v1", "runtimeclasses");
        let class = self.node.client.get(&classes, "", name).await;
        let class = class.map_err(|e| format!("failed to get RuntimeClass \"{name}\": {e}"))?;
        let handler = class.tree().str_at(&["handler"]).unwrap_or_default().to_owned();
        let own = handler.is_empty() || handler == RUNTIME_HANDLER;
        Ok((!own).then_some(handler))
    }

    /// Removes a sandbox that will not be used.
    async fn discard(&self, id: &SandboxId) {
        let runtime = &self.node.runtime;
        let stopped = runtime.stop_pod_sandbox(id).await;
        if let Err(error) = match stopped {
            Ok(()) => runtime.remove_pod_sandbox(id).await,
            failed => failed,
        } {
            tracing::warn!(sandbox = %id, error = chain(&error), "sandbox not removed");
        }
    }

    /// Pulls, creates, starts. `true` sent to what it gives makes it stop waiting for the image or a postStart hook; it
    /// reports in any case.
    pub fn start_container(&self, pod: &Arc<Pod>, wanted: WantedContainer) -> watch::Sender<bool> {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        let (cancel, cancelled) = watch::channel(false);
        self.node
            .scope
            .spawn_until_shutdown("start container", async move {
                let name = wanted.name.clone();
                let start = start::Start {
                    operations: &this,
                    pod: &pod,
                    wanted,
                    cancelled,
                };
                let report = match start.run().await {
                    Ok(instance) => Report::Started { name, instance },
                    Err(start::NotStarted::Abandoned) => Report::StartAbandoned { name },
                    Err(start::NotStarted::Failed(failure)) => Report::StartFailed {
                        name,
                        failure: *failure,
                    },
                };
                this.report(report).await;
            });
        cancel
    }

    /// preStop at once, the signal in its turn, the end by force when the grace is over.
    pub fn stop_container(&self, pod: &Arc<Pod>, stop: Stop) {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        self.node
            .scope
            .spawn_until_shutdown("stop container", async move {
                let Stop { id, name, why, .. } = &stop;
                let reference = ObjectReference {
                    field_path: field_path(&pod, name),
                    ..pod_reference(&pod)
                };
                this.node
                    .recorder
                    .event(reference, EventType::Normal, "Killing", why.message(name));
                let grace = this.wait_for_signal(&pod, &stop).await;
                this.stopping().push(id.clone());
                // A hurry from now on reaches it by that list, one before is in the value.
                let grace = this.hurried_to(grace).max(LEAST_GRACE.min(grace));
                if let Err(error) = this.node.runtime.stop_container(id, grace).await {
                    tracing::warn!(container = name, error = chain(&error), "container not stopped");
                    // The worker tries again at once when it is told.
                    tokio::time::sleep(STOP_RETRY).await;
                }
                this.stopping().retain(|other| other != id);
                this.settle(id).await;
                this.report(Report::Stopped { name: stop.name }).await;
            });
    }

    /// Waits for the container's hook and its turn, and gives what is left of the grace then.
    async fn wait_for_signal(&self, pod: &Pod, stop: &Stop) -> Duration {
        let mut hurried = self.hurried.subscribe();
        let begun = tokio::time::Instant::now();
        let in_turn = async {
            let rest = hooks::pre_stop(&self.node, pod, &stop.name, &stop.id, stop.grace).await;
            self.wait_for_turn(&stop.after, rest).await
        };
        let shortened = async {
            // It ends with the worker at the latest, and this with it.
            let _ = hurried
                .wait_for(|hurried| hurried.is_some_and(|grace| grace < stop.grace))
                .await;
        };
        let rest = tokio::select! {
            rest = in_turn => rest,
            // The hook runs on in the container, as long as that lives.
            () = shortened => {
                let left = stop.grace.saturating_sub(begun.elapsed());
                self.wait_for_turn(&stop.after, self.hurried_to(left)).await
            }
        };
        if stop.why == StopReason::SandboxDied {
            rest
        } else {
            rest.max(LEAST_GRACE)
        }
    }

    fn hurried_to(&self, grace: Duration) -> Duration {
        self.hurried.borrow().map_or(grace, |hurried| hurried.min(grace))
    }

    async fn wait_for_turn(&self, after: &[String], grace: Duration) -> Duration {
        if after.is_empty() || grace.is_zero() {
            return grace;
        }
        let begun = tokio::time::Instant::now();
        let mut live = self.live.subscribe();
        let turn = live.wait_for(|live| after.iter().all(|name| !live.contains(name)));
        // Neither the end of the grace nor that of the worker lets anybody wait longer.
        let _ = tokio::time::timeout(grace, turn).await;
        grace.saturating_sub(begun.elapsed())
    }

    /// Tells which containers live, for those that end after them.
    pub fn tell_live(&self, names: BTreeSet<String>) {
        self.live.send_if_modified(|live| {
            let changed = *live != names;
            *live = names;
            changed
        });
    }

    /// Tells the end of a container before saying that it was stopped, so that the worker never sees it alive after that.
    async fn settle(&self, id: &ContainerId) {
        if let Ok(status) = self.node.runtime.container_status(id)
            && status.state == ContainerState::Exited
        {
            let message = crate::termination::message(&self.node, &status).await;
            self.report(Report::Exited {
                id: id.clone(),
                exit: status.exit,
                message,
            })
            .await;
        }
    }

    /// Gives containers that are being stopped no more than this from now on.
    pub fn hurry(&self, grace: Duration) {
        self.hurried.send_replace(Some(grace));
        for id in self.stopping().clone() {
            let this = self.clone();
            let grace = grace.max(LEAST_GRACE);
            self.node
                .scope
                .spawn_until_shutdown("hurry container", async move {
                    if let Err(error) = this.node.runtime.stop_container(&id, grace).await {
                        tracing::debug!(container = %id, error = chain(&error), "container not hurried");
                    }
                });
        }
    }

    fn stopping(&self) -> std::sync::MutexGuard<'_, Vec<ContainerId>> {
        self.stopping.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn stop_sandbox(&self, pod: &Arc<Pod>, id: SandboxId) {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        self.node.scope.spawn_until_shutdown("stop sandbox", async move {
            // One that nothing ran in has nothing to tell any more.
            if this.node.runtime.containers().iter().any(|c| c.sandbox == id) {
                if let Err(error) = this.node.runtime.stop_pod_sandbox(&id).await {
                    tracing::warn!(sandbox = %id, error = chain(&error), "sandbox not stopped");
                }
            } else {
                this.discard(&id).await;
            }
            detach(&this.node, pod.metadata.uid.as_deref().unwrap_or_default()).await;
            this.report(Report::SandboxStopped).await;
        });
    }

    /// Removes sandboxes, containers, root file systems, volumes and logs of the pod.
    pub fn clean_up(&self, pod: &Arc<Pod>) {
        let (this, pod) = (self.clone(), Arc::clone(pod));
        self.node.scope.spawn_until_shutdown("clean up pod", async move {
            let uid = pod.metadata.uid.clone().unwrap_or_default();
            clean_up(&this.node, &uid, &log_dir(&this.node, &pod)).await;
            this.report(Report::CleanedUp).await;
        });
    }
}

/// Removes whatever a pod left on the node; what cannot be removed is logged and tried again at the next start.
///
/// The parts do not depend on each other once the containers are dead, and each waits for the kernel: side by side.
pub async fn clean_up(node: &Arc<Node>, uid: &str, log_dir: &Path) {
    let begun = tokio::time::Instant::now();
    node.tokens.forget(uid);
    tokio::join!(
        remove_sandboxes(node, uid),
        detach(node, uid),
        release_rootfs(node, uid),
        remove_files(node, uid, log_dir),
    );
    tracing::debug!(
        pod = uid,
        elapsed_ms = begun.elapsed().as_millis(),
        "pod cleaned up"
    );
}

async fn remove_sandboxes(node: &Node, uid: &str) {
    let sandboxes = node.runtime.sandboxes();
    let own = |labels: &BTreeMap<String, String>| labels.get(label::POD_UID).is_some_and(|u| u == uid);
    for sandbox in sandboxes.iter().filter(|s| own(&s.config.labels)) {
        let stopped = node.runtime.stop_pod_sandbox(&sandbox.id).await;
        if let Err(error) = match stopped {
            Ok(()) => node.runtime.remove_pod_sandbox(&sandbox.id).await,
            failed => failed,
        } {
            tracing::warn!(pod = uid, error = chain(&error), "sandbox not removed");
        }
    }
}

async fn detach(node: &Node, uid: &str) {
    if let Err(error) = node.network.detach(uid).await {
        tracing::warn!(pod = uid, error = chain(&error), "pod not disconnected");
    }
}

async fn release_rootfs(node: &Node, uid: &str) {
    let prefix = format!("{uid}_");
    let keys = node.images.rootfs_keys().unwrap_or_default();
    for key in keys.iter().filter(|key| key.starts_with(&prefix)) {
        if let Err(error) = node.images.release_rootfs(key).await {
            tracing::warn!(pod = uid, error = chain(&error), "root file system not removed");
        }
    }
}

/// Volumes and logs.
async fn remove_files(node: &Arc<Node>, uid: &str, log_dir: &Path) {
    let (node, uid, log_dir) = (Arc::clone(node), uid.to_owned(), log_dir.to_owned());
    let removal = tokio::task::spawn_blocking(move || {
        if let Err(error) = volumes::remove(&node, &uid) {
            tracing::warn!(pod = uid, %error, "volumes not removed");
        }
        if let Err(error) = std::fs::remove_dir_all(log_dir)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(pod = uid, %error, "logs not removed");
        }
    });
    if let Err(error) = removal.await {
        tracing::warn!(%error, "removal of a pod's files ended early");
    }
}

fn host_ports(spec: &PodSpec) -> Vec<HostPort> {
    let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
    ports
        .filter_map(|port| {
            let host_port = u16::try_from(port.host_port?).ok()?;
            Some(HostPort {
                host_port,
                container_port: u16::try_from(port.container_port).ok()?,
            })
        })
        .collect()
}

/// `<namespace>_<name>_<uid>` below the logs directory.
pub fn log_dir(node: &Node, pod: &Pod) -> PathBuf {
    let meta = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    node.config.logs_dir().join(format!(
        "{}_{}_{}",
        part(&meta.namespace),
        part(&meta.name),
        part(&meta.uid)
    ))
}
