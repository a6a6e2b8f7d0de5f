//! The task of one pod: takes news into the memo, decides, begins what is to be done, reports the status.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_machinery::Object;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;

use super::adopt;
use super::decide::{self, Action, Backoff, StopReason};
use super::memo::{Busy, InstanceState, Millis, PodMemo, SandboxMemo, Step, Termination, Waiting};
use super::operations::{Operations, Stop, WantedContainer};
use super::report::{self, ProbeKind, Report};
use super::status::{self, StatusContext};
use super::{decide as plan_for, reporter::Reporter};
use crate::node::Node;
use crate::probe;

/// News that may wait for a worker; senders wait when it is full, which only slows that pod's operations.
pub const INBOX: usize = 64;

const DEFAULT_GRACE_SECONDS: i64 = 30;

/// One pod's worker.
pub struct Worker {
    node: Arc<Node>,
    pod: Arc<Pod>,
    memo: PodMemo,
    inbox: mpsc::Receiver<Report>,
    operations: Operations,
    reporter: Reporter,
    /// Tells starts, by container name, that the pod ends.
    starts: HashMap<String, watch::Sender<bool>>,
    probes: HashMap<String, Vec<(ProbeKind, AbortHandle)>>,
    /// Keeps the volumes up to date, and hears of the pod's changes.
    keeper: Option<(AbortHandle, watch::Sender<Arc<Pod>>)>,
}

impl Worker {
    pub fn new(
        node: Arc<Node>,
        pod: Arc<Pod>,
        outbox: mpsc::Sender<Report>,
        inbox: mpsc::Receiver<Report>,
    ) -> Self {
        let reporter = Reporter::start(&node, &pod);
        let operations = Operations::new(Arc::clone(&node), outbox);
        Self {
            node,
            pod,
            memo: PodMemo::default(),
            inbox,
            operations,
            reporter,
            starts: HashMap::new(),
            probes: HashMap::new(),
            keeper: None,
        }
    }

    /// Runs until nothing of the pod is left on the node.
    pub async fn run(mut self) {
        self.memo = adopt::memo(&self.node, &self.pod).await;
        self.admit().await;
        self.adopt_probes();
        self.look_at_deletion(false);
        loop {
            let now = self.node.now();
            let deadline = self.look_at_deadline(now);
            let mut plan = plan_for(&self.pod, &self.memo, now);
            if let Some(at) = deadline {
                plan.wake(at);
            }
            // First who lives: what is begun below may wait for that to change.
            self.operations.tell_live(self.live());
            for action in plan.actions {
                self.begin(action, now);
            }
            self.publish(now);
            if self.memo.cleaned {
                break;
            }
            self.wait(plan.look_again_at, now).await;
        }
        self.stop_probes(None);
        self.stop_keeper();
        self.reporter.finish().await;
    }

    async fn wait(&mut self, look_again_at: Option<Millis>, now: Millis) {
        let first = match look_again_at {
            None => self.inbox.recv().await,
            Some(at) => {
                let delay = Duration::from_millis(u64::try_from(at - now).unwrap_or(0));
                tokio::time::timeout(delay, self.inbox.recv())
                    .await
                    .unwrap_or(None)
            }
        };
        let mut next = first;
        while let Some(report) = next {
            self.take(report);
            next = self.inbox.try_recv().ok();
        }
    }

    fn take(&mut self, report: Report) {
        let now = self.node.now();
        match report {
            Report::Object(object) => self.object_changed(object.as_deref()),
            Report::Started { name, instance } => {
                self.starts.remove(&name);
                let id = instance.id.clone();
                report::take(
                    &mut self.memo,
                    &self.pod,
                    Report::Started {
                        name: name.clone(),
                        instance,
                    },
                    now,
                );
                self.start_probes(&name, id);
            }
            Report::StartAbandoned { ref name } | Report::StartFailed { ref name, .. } => {
                self.starts.remove(name);
                report::take(&mut self.memo, &self.pod, report, now);
            }
            Report::Exited { id, exit, message } => {
                if let Some(name) = self.name_of(&id) {
                    self.stop_probes(Some(&name));
                }
                report::take(
                    &mut self.memo,
                    &self.pod,
                    Report::Exited { id, exit, message },
                    now,
                );
            }
            Report::SandboxDied { id, ends } => {
                for end in &ends {
                    if let Some(name) = self.name_of(&end.id) {
                        self.stop_probes(Some(&name));
                    }
                }
                report::take(&mut self.memo, &self.pod, Report::SandboxDied { id, ends }, now);
            }
            Report::Probed { .. } => self.probed(report, now),
            Report::VolumesReady => {
                self.stop_keeper();
                let (forms, seen) = watch::channel(Arc::clone(&self.pod));
                let keep = crate::volumes::keep(Arc::clone(&self.node), seen);
                let keeper = self.node.scope.spawn_until_shutdown("keep volumes", keep);
                self.keeper = Some((keeper, forms));
                report::take(&mut self.memo, &self.pod, Report::VolumesReady, now);
            }
            other => report::take(&mut self.memo, &self.pod, other, now),
        }
    }

    /// A passed start-up probe gives way to the others.
    fn probed(&mut self, report: Report, now: Millis) {
        let Report::Probed { name, id, .. } = &report else {
            return;
        };
        let (name, id) = (name.clone(), id.clone());
        let is_started = |memo: &PodMemo| memo.containers.get(&name).is_some_and(|c| c.started);
        let before = is_started(&self.memo);
        report::take(&mut self.memo, &self.pod, report, now);
        if is_started(&self.memo) && !before {
            self.start_probes(&name, id);
        }
    }

    fn live(&self) -> BTreeSet<String> {
        let containers = self.memo.containers.iter();
        containers
            .filter(|(_, known)| known.is_live())
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn name_of(&self, id: &cloudeck_runtime::ContainerId) -> Option<String> {
        let holds = |c: &super::ContainerMemo| c.current.as_ref().is_some_and(|i| i.id == *id);
        self.memo
            .containers
            .iter()
            .find(|(_, c)| holds(c))
            .map(|(name, _)| name.clone())
    }

    fn object_changed(&mut self, object: Option<&Object>) {
        match object.map(|o| cloudeck_objects::pod(&o.json)) {
            Some(Ok(pod)) => {
                if let Some(status) = &pod.status {
                    self.reporter.seen(status);
                }
                self.pod = Arc::new(pod);
                self.tell_keeper();
                self.look_at_deletion(false);
            }
            Some(Err(error)) => tracing::warn!(%error, "pod not readable; keeping its last form"),
            // Gone without waiting for us.
            None => self.look_at_deletion(true),
        }
    }

    /// Begins or shortens termination. A pod whose object is gone (deleted by force) ends as its spec says.
    ///
    /// Source: `pkg/kubelet/pod_workers.go` (`calculateEffectiveGracePeriod`).
    fn look_at_deletion(&mut self, gone: bool) {
        let meta = &self.pod.metadata;
        if !gone && meta.deletion_timestamp.is_none() {
            return;
        }
        let own = || self.pod.spec.as_ref()?.termination_grace_period_seconds;
        let grace = meta.deletion_grace_period_seconds.or_else(own);
        let grace = grace.unwrap_or(DEFAULT_GRACE_SECONDS).max(1);
        let now = self.node.now();
        let since = self.memo.termination.as_ref().map_or(now, |t| t.since);
        let shorter = self
            .memo
            .termination
            .as_ref()
            .is_some_and(|t| grace < t.grace_seconds);
        if self.memo.termination.is_none() {
            self.abandon_starts();
            self.stop_all_but_readiness(None);
        }
        // A container that is being stopped already (a probe failed) gets no more time than the pod.
        let stops = self.memo.termination.is_none() && self.memo.containers.values().any(decide::is_stopping);
        if shorter || stops {
            self.operations
                .hurry(Duration::from_secs(u64::try_from(grace).unwrap_or(0)));
        }
        self.memo.termination = Some(Termination {
            since,
            grace_seconds: grace,
        });
    }

    /// Starts that wait for an image or a hook give up and report; what they have made by then is ended in due form.
    fn abandon_starts(&mut self) {
        for start in self.starts.values() {
            start.send_replace(true);
        }
    }

    /// Ends a pod whose time is over; else says when that will be.
    fn look_at_deadline(&mut self, now: Millis) -> Option<Millis> {
        let seconds = self.pod.spec.as_ref()?.active_deadline_seconds?;
        if self.memo.deadline_exceeded || self.memo.termination.is_some() || self.memo.settled_phase.is_some()
        {
            return None;
        }
        // The API keeps the start in whole seconds.
        let deadline = self
            .memo
            .started_at
            .div_euclid(1000)
            .saturating_add(seconds)
            .saturating_mul(1000);
        if now < deadline {
            return Some(deadline);
        }
        self.memo.deadline_exceeded = true;
        self.abandon_starts();
        self.stop_all_but_readiness(None);
        self.node.recorder.event(
            pod_reference(&self.pod),
            EventType::Normal,
            status::DEADLINE_REASON,
            status::DEADLINE_MESSAGE,
        );
        None
    }

    /// Refuses a pod that the machine cannot take. One that runs here already has been admitted before.
    async fn admit(&mut self) {
        let is_new = self.memo.sandbox == SandboxMemo::None && self.memo.settled_phase.is_none();
        if !is_new || self.pod.metadata.deletion_timestamp.is_some() {
            if self.memo.settled_phase.is_none() {
                self.node.admitted.keep(&self.pod);
            }
            return;
        }
        if let Some(rejection) = crate::admission::check(&self.node, &self.pod).await {
            self.node.recorder.event(
                pod_reference(&self.pod),
                EventType::Warning,
                rejection.reason,
                rejection.message.clone(),
            );
            self.memo.rejected = Some(rejection);
        }
    }

    fn begin(&mut self, action: Action, now: Millis) {
        match action {
            Action::PrepareVolumes => {
                self.memo.volumes = Step::Running;
                self.operations.prepare_volumes(&self.pod);
            }
            Action::CreateSandbox => {
                self.memo.sandbox = SandboxMemo::Creating;
                self.operations.create_sandbox(&self.pod);
            }
            Action::StartContainer { name, attempt } => self.begin_start(name, attempt),
            Action::AwaitBackoff {
                name,
                kind: Backoff::Crash,
                delay_ms,
            } => self.say_backoff(name, delay_ms),
            Action::AwaitBackoff {
                name,
                kind: Backoff::ImagePull,
                ..
            } => self.say_pull_backoff(&name),
            Action::StopContainer {
                name,
                grace_ms,
                after,
                why,
            } => self.begin_stop(name, grace_ms, after, why),
            Action::StopSandbox => {
                self.tell_new_sandbox();
                if let SandboxMemo::Ready { id } | SandboxMemo::Dead { id } = &self.memo.sandbox {
                    let id = id.clone();
                    self.memo.sandbox = SandboxMemo::Stopping { id: id.clone() };
                    self.operations.stop_sandbox(&self.pod, id);
                }
            }
            Action::CleanUp => {
                self.stop_keeper();
                self.memo.volumes = Step::Running;
                self.operations.clean_up(&self.pod);
            }
        }
        let _ = now;
    }

    fn begin_start(&mut self, name: String, attempt: u32) {
        let Some(sandbox) = self.memo.sandbox.ready().cloned() else {
            return;
        };
        let known = self.memo.containers.entry(name.clone()).or_default();
        known.busy = Some(Busy::Starting);
        known.retry_at = None;
        let current = known.current.as_ref();
        let unstarted = current.filter(|instance| instance.state == InstanceState::Created);
        let wanted = WantedContainer {
            sandbox,
            name: name.clone(),
            attempt,
            pod_ip: self.memo.pod_ip,
            unstarted: unstarted.map(|instance| instance.id.clone()),
        };
        let cancel = self.operations.start_container(&self.pod, wanted);
        self.starts.insert(name, cancel);
    }

    fn begin_stop(&mut self, name: String, grace_ms: i64, after: Vec<String>, why: StopReason) {
        self.stop_all_but_readiness(Some(&name));
        let Some(known) = self.memo.containers.get_mut(&name) else {
            return;
        };
        let Some(instance) = &known.current else { return };
        known.busy = Some(Busy::Stopping);
        let grace = match why {
            StopReason::Unhealthy | StopReason::NotStarted => probe_grace(&self.pod, &name, why),
            StopReason::PodEnds | StopReason::SandboxDied => {
                Duration::from_millis(u64::try_from(grace_ms).unwrap_or(0))
            }
        };
        let stop = Stop {
            id: instance.id.clone(),
            name,
            grace,
            after,
            why,
        };
        self.operations.stop_container(&self.pod, stop);
    }

    fn say_backoff(&mut self, name: String, delay_ms: i64) {
        let meta = &self.pod.metadata;
        let (pod, namespace) = (
            meta.name.as_deref().unwrap_or_default(),
            meta.namespace.as_deref().unwrap_or_default(),
        );
        let uid = meta.uid.as_deref().unwrap_or_default();
        let delay = if delay_ms >= 60_000 {
            format!("{}m{}s", delay_ms / 60_000, delay_ms / 1000 % 60)
        } else {
            format!("{}s", delay_ms / 1000)
        };
        let message =
            format!("back-off {delay} restarting failed container={name} pod={pod}_{namespace}({uid})");
        let reference = ObjectReference {
            field_path: field_path(&self.pod, &name),
            ..pod_reference(&self.pod)
        };
        let event = format!("Back-off restarting failed container {name} in pod {pod}_{namespace}({uid})");
        self.node
            .recorder
            .event(reference, EventType::Warning, "BackOff", event);
        if let Some(known) = self.memo.containers.get_mut(&name) {
            known.waiting = Some(Waiting {
                reason: "CrashLoopBackOff".to_owned(),
                message,
            });
        }
    }

    /// A dead sandbox of a pod that goes on is replaced: that is an event, the end of a finished pod's is none.
    fn tell_new_sandbox(&self) {
        let goes_on = self.memo.termination.is_none() && self.memo.settled_phase.is_none();
        if goes_on && matches!(self.memo.sandbox, SandboxMemo::Dead { .. }) {
            self.node.recorder.event(
                pod_reference(&self.pod),
                EventType::Normal,
                "SandboxChanged",
                "Pod sandbox changed, it will be killed and re-created.",
            );
        }
    }

    fn say_pull_backoff(&mut self, name: &str) {
        let spec = self.pod.spec.as_ref();
        let container = spec
            .into_iter()
            .flat_map(decide::all_containers)
            .find(|c| c.name == name);
        let image = container.and_then(|c| c.image.clone()).unwrap_or_default();
        let text = format!("Back-off pulling image \"{image}\"");
        let reference = ObjectReference {
            field_path: field_path(&self.pod, name),
            ..pod_reference(&self.pod)
        };
        self.node
            .recorder
            .event(reference, EventType::Normal, "BackOff", text.clone());
        if let Some(known) = self.memo.containers.get_mut(name) {
            let before = known.waiting.take().unwrap_or_default();
            known.waiting = Some(Waiting {
                reason: "ImagePullBackOff".to_owned(),
                message: format!("{text}: {}: {}", before.reason, before.message),
            });
        }
    }

    fn publish(&mut self, now: Millis) {
        let spec = self.pod.spec.as_ref();
        let context = StatusContext {
            host_ip: self.node.address(),
            host_network: spec.and_then(|s| s.host_network) == Some(true),
        };
        if self.memo.settled_phase.is_none() {
            let phase = spec.map(|spec| status::phase(spec, &self.memo));
            let still = self.memo.containers.values().any(super::ContainerMemo::is_live);
            self.memo.settled_phase = phase.filter(|p| p.is_terminal() && !still);
            if self.memo.settled_phase.is_some() || self.memo.cleaned {
                self.node.admitted.forget(&self.pod);
            }
        }
        let status = status::generate(&self.pod, &self.memo, &context, now);
        self.reporter.publish(status);
        if self.memo.cleaned {
            self.reporter.delete_object();
        }
    }

    /// Starts what the container's state asks for: the start-up probe alone until it passed, then the others.
    fn start_probes(&mut self, name: &str, id: cloudeck_runtime::ContainerId) {
        self.stop_probes(Some(name));
        let Some(spec) = &self.pod.spec else { return };
        let Some(container) = decide::all_containers(spec).find(|c| c.name == name) else {
            return;
        };
        let known = self.memo.containers.get(name);
        let Some((known, InstanceState::Running { started_at })) =
            known.and_then(|known| Some((known, &known.running()?.state)))
        else {
            // It has ended before its start was known.
            return;
        };
        let target = probe::Target {
            pod: Arc::clone(&self.pod),
            container: container.clone(),
            id,
            pod_ip: self.memo.pod_ip,
            begun_at: *started_at,
            started: known.started,
            ready: known.ready,
        };
        let handles = probe::start(&self.node, target, self.operations.outbox());
        self.probes.insert(name.to_owned(), handles);
        if self.memo.termination.is_some() || self.memo.deadline_exceeded {
            self.stop_all_but_readiness(Some(name));
        }
    }

    /// A container that ends is asked whether it is ready until it is gone: Services may fall back on it.
    fn stop_all_but_readiness(&mut self, name: Option<&str>) {
        let of = self
            .probes
            .iter_mut()
            .filter(|(own, _)| name.is_none_or(|name| name == own.as_str()));
        for (_, probes) in of {
            probes.retain(|(kind, probe)| {
                let stays = *kind == ProbeKind::Readiness;
                if !stays {
                    probe.abort();
                }
                stays
            });
        }
    }

    fn stop_probes(&mut self, name: Option<&str>) {
        match name {
            Some(name) => self
                .probes
                .remove(name)
                .into_iter()
                .flatten()
                .for_each(|(_, probe)| probe.abort()),
            None => self
                .probes
                .drain()
                .flat_map(|(_, probes)| probes)
                .for_each(|(_, probe)| probe.abort()),
        }
    }

    /// Only what a volume can show matters to it; most changes of a pod are of its status.
    fn tell_keeper(&self) {
        if let Some((_, forms)) = &self.keeper {
            forms.send_if_modified(|last| {
                let (was, is) = (&last.metadata, &self.pod.metadata);
                let changed = was.labels != is.labels || was.annotations != is.annotations;
                *last = Arc::clone(&self.pod);
                changed
            });
        }
    }

    fn stop_keeper(&mut self) {
        if let Some((keeper, _)) = self.keeper.take() {
            keeper.abort();
        }
    }

    fn adopt_probes(&mut self) {
        let running: Vec<_> = self
            .memo
            .containers
            .iter()
            .filter_map(|(name, known)| known.running().map(|i| (name.clone(), i.id.clone())))
            .collect();
        for (name, id) in running {
            self.start_probes(&name, id);
        }
    }
}

/// The time that a container has after a failed probe: the probe's own, else the pod's.
fn probe_grace(pod: &Pod, name: &str, why: StopReason) -> Duration {
    let spec = pod.spec.as_ref();
    let container = spec
        .into_iter()
        .flat_map(decide::all_containers)
        .find(|c| c.name == name);
    let probe = container.and_then(|c| match why {
        StopReason::NotStarted => c.startup_probe.as_ref(),
        _ => c.liveness_probe.as_ref(),
    });
    let own = probe.and_then(|p| p.termination_grace_period_seconds);
    let seconds = own
        .or_else(|| spec?.termination_grace_period_seconds)
        .unwrap_or(DEFAULT_GRACE_SECONDS);
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

/// The pod as events name it.
pub fn pod_reference(pod: &Pod) -> ObjectReference {
    let meta = &pod.metadata;
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        resource_version: meta.resource_version.clone().unwrap_or_default(),
        field_path: String::new(),
    }
}

/// `spec.containers{name}` or `spec.initContainers{name}`.
pub fn field_path(pod: &Pod, container: &str) -> String {
    let init = pod.spec.as_ref().and_then(|s| s.init_containers.as_ref());
    let is_init = init.is_some_and(|list| list.iter().any(|c| c.name == container));
    if is_init {
        format!("spec.initContainers{{{container}}}")
    } else {
        format!("spec.containers{{{container}}}")
    }
}
