//! The loop: watch events into cache and queue, pods out of the queue, bindings and conditions to the API.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Change, Client, Informer, InformerConfig};
use cloudeck_controller::{EventRecorder, EventType, ObjectReference};
use cloudeck_machinery::{GroupVersionResource, Object, ObjectKey, Reason, Status, Value, value};
use cloudeck_task::Scope;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::decision::{Decision, Refusal, schedule};
use crate::model::PodInfo;
use crate::plugins::{ClusterEvent, Plugin, default_plugins};
use crate::queue::Queue;

/// The scheduler that pods get when they name none.
const NAME: &str = "default-scheduler";
/// Results of writes that may wait; a full channel only delays those tasks.
const OUTCOMES: usize = 256;
/// How many pods are placed before watch events are looked at again.
const BURST: usize = 64;

/// A running scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pods: Informer,
    nodes: Informer,
}

impl Scheduler {
    /// Resolves when pods and nodes are known.
    pub async fn ready(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
    }
}

/// Starts scheduling under the client's identity (`system:kube-scheduler`).
pub fn start(client: Client, scope: &Scope) -> Scheduler {
    let scope = scope.child("scheduler");
    let pods = InformerConfig::all("", "v1", "pods");
    let pods = Informer::start(&scope, client.clone(), pods);
    let nodes = Informer::start(&scope, client.clone(), InformerConfig::all("", "v1", "nodes"));
    let (outcome, outcomes) = mpsc::channel(OUTCOMES);
    let service = Service {
        recorder: EventRecorder::start(&scope, client.clone(), NAME, ""),
        client,
        scope: scope.clone(),
        plugins: default_plugins(),
        cache: Cache::default(),
        queue: Queue::default(),
        known: HashMap::new(),
        started: Instant::now(),
        turn: 0,
        outcome,
    };
    let scheduler = Scheduler {
        pods: pods.clone(),
        nodes: nodes.clone(),
    };
    scope.spawn_until_shutdown("scheduler", service.run(pods, nodes, outcomes));
    scheduler
}

/// How a binding ended.
struct Bound {
    pod: PodInfo,
    result: Result<(), Status>,
}

struct Service {
    client: Client,
    recorder: EventRecorder,
    scope: Scope,
    plugins: Vec<Box<dyn Plugin>>,
    cache: Cache,
    queue: Queue,
    /// The uid of each pod that was seen, so that a deletion finds it.
    known: HashMap<ObjectKey, String>,
    started: Instant,
    turn: usize,
    outcome: mpsc::Sender<Bound>,
}

impl Service {
    async fn run(mut self, pods: Informer, nodes: Informer, mut outcomes: mpsc::Receiver<Bound>) {
        nodes.synced().await;
        pods.synced().await;
        let (mut node_changes, mut pod_changes) = (nodes.subscribe(), pods.subscribe());
        loop {
            while let Some(change) = node_changes.try_next() {
                self.node_changed(&change);
            }
            while let Some(change) = pod_changes.try_next() {
                self.pod_changed(change);
            }
            while let Ok(bound) = outcomes.try_recv() {
                self.bound(bound);
            }
            if self.place_some() {
                // More are waiting: let others run, then go on.
                tokio::task::yield_now().await;
                continue;
            }
            let due = self
                .queue
                .next_due()
                .map(|at| self.started + Duration::from_millis(at));
            tokio::select! {
                change = node_changes.next() => self.node_changed(&change),
                change = pod_changes.next() => self.pod_changed(change),
                Some(bound) = outcomes.recv() => self.bound(bound),
                () = sleep_until(due) => {}
            }
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn node_changed(&mut self, change: &Change) {
        let Some(object) = &change.new else {
            return self.cache.remove_node(&change.key.name);
        };
        match self.cache.set_node(object) {
            Ok(events) => {
                let now = self.now();
                for event in events {
                    self.queue.happened(event, now);
                }
            }
            Err(error) => tracing::warn!(error = chain(&error), "node left out"),
        }
    }

    fn pod_changed(&mut self, change: Change) {
        let Change { key, new, .. } = change;
        let before = self.known.get(&key).cloned();
        if let Some(uid) = &before
            && new.as_ref().is_none_or(|object| object.uid != *uid)
        {
            self.gone(uid);
            self.known.remove(&key);
        }
        let Some(object) = new else { return };
        self.known.insert(key, object.uid.to_string());
        match PodInfo::read(&object) {
            Ok(pod) => self.pod_seen(pod, &object),
            Err(error) => tracing::warn!(error = chain(&error), "pod left out"),
        }
    }

    fn pod_seen(&mut self, pod: PodInfo, object: &Arc<Object>) {
        if pod.terminal {
            return self.gone(&pod.uid);
        }
        if !pod.node_name.is_empty() {
            self.queue.remove(&pod.uid);
            return self.cache.set_pod(pod);
        }
        let ours = pod.scheduler_name == NAME && !pod.deleting;
        if !ours {
            return self.queue.remove(&pod.uid);
        }
        if !pod.gates.is_empty() {
            self.say_gated(object);
        }
        if !self.cache.is_assumed(&pod.uid) {
            self.queue.add(pod);
        }
    }

    fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        if self.cache.remove_pod(uid) {
            let now = self.now();
            self.queue.happened(ClusterEvent::AssignedPodGone, now);
        }
    }

    /// Tries waiting pods. True when more are waiting.
    fn place_some(&mut self) -> bool {
        for _ in 0..BURST {
            let now = self.now();
            let Some(pod) = self.queue.pop(now) else {
                return false;
            };
            self.turn = self.turn.wrapping_add(1);
            match schedule(&pod, self.cache.nodes(), &self.plugins, self.turn) {
                Decision::Node(node) => self.bind(pod, &node),
                Decision::Nowhere(refusal) => self.refuse(&pod, refusal, now),
            }
        }
        true
    }

    fn bind(&mut self, pod: PodInfo, node: &str) {
        self.cache.assume(pod.clone(), node);
        let (client, outcome, node) = (self.client.clone(), self.outcome.clone(), node.to_owned());
        let recorder = self.recorder.clone();
        self.scope.spawn_until_shutdown("bind", async move {
            let result = write_binding(&client, &pod, &node).await;
            if result.is_ok() {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                recorder.event(reference(&pod), EventType::Normal, "Scheduled", message);
            }
            // The scheduler is gone only at shutdown.
            let _ = outcome.send(Bound { pod, result }).await;
        });
    }

    fn bound(&mut self, bound: Bound) {
        let Bound { pod, result } = bound;
        let Err(status) = result else { return };
        self.cache.forget(&pod.uid);
        if status.reason == Reason::NotFound {
            return self.queue.remove(&pod.uid);
        }
        tracing::debug!(pod = %pod.key, error = %status, "binding refused; trying again");
        let now = self.now();
        self.queue.back_off(&pod.uid, now);
    }

    fn refuse(&mut self, pod: &PodInfo, refusal: Refusal, now: u64) {
        let message = refusal.message();
        self.recorder.event(
            reference(pod),
            EventType::Warning,
            "FailedScheduling",
            message.clone(),
        );
        self.write_condition(pod.key.clone(), pod.uid.clone(), "Unschedulable", message);
        self.queue.refuse(&pod.uid, refusal, now);
    }

    fn say_gated(&self, object: &Arc<Object>) {
        let tree = object.tree();
        let said = tree.items_at(&["status", "conditions"]).iter().any(|c| {
            c.str_at(&["type"]) == Some("PodScheduled") && c.str_at(&["reason"]) == Some("SchedulingGated")
        });
        if !said {
            let message = "Scheduling is blocked due to non-empty scheduling gates".to_owned();
            self.write_condition(
                object.key.clone(),
                object.uid.to_string(),
                "SchedulingGated",
                message,
            );
        }
    }

    fn write_condition(&self, key: ObjectKey, uid: String, reason: &'static str, message: String) {
        let client = self.client.clone();
        self.scope.spawn_until_shutdown("pod condition", async move {
            if let Err(status) = set_condition(&client, &key, &uid, reason, &message).await {
                tracing::debug!(pod = %key, error = %status, "pod condition not written");
            }
        });
    }
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn pods() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "pods")
}

async fn write_binding(client: &Client, pod: &PodInfo, node: &str) -> Result<(), Status> {
    let binding = value!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": (pod.key.name.as_str()), "namespace": (pod.key.namespace.as_str()), "uid": (pod.uid.as_str())},
        "target": {"kind": "Node", "name": (node)}
    });
    client
        .create_subresource(&pods(), &pod.key.namespace, &pod.key.name, "binding", &binding)
        .await
        .map(drop)
}

/// `PodScheduled: False`; the transition time holds while the status does.
async fn set_condition(
    client: &Client,
    key: &ObjectKey,
    uid: &str,
    reason: &str,
    message: &str,
) -> Result<(), Status> {
    let current = client.get(&pods(), &key.namespace, &key.name).await?.tree();
    let mut conditions = current.items_at(&["status", "conditions"]).to_vec();
    let same = |c: &Value| c.str_at(&["type"]) == Some("PodScheduled");
    let before = conditions.iter().find(|c| same(c)).cloned();
    let text = |c: &Value, name: &str| c.str_at(&[name]).unwrap_or_default().to_owned();
    if before.as_ref().is_some_and(|c| {
        text(c, "status") == "False" && text(c, "reason") == reason && text(c, "message") == message
    }) {
        return Ok(());
    }
    let since = before
        .as_ref()
        .filter(|c| text(c, "status") == "False")
        .and_then(|c| c.get("lastTransitionTime").cloned());
    let since = since.unwrap_or_else(|| Value::from(now_text()));
    conditions.retain(|c| !same(c));
    let mut condition = value!({
        "type": "PodScheduled", "status": "False", "reason": (reason), "message": (message),
        "lastProbeTime": null, "lastTransitionTime": (since)
    });
    if let Some(generation) = current.int_at(&["metadata", "generation"]) {
        condition.set_at(&["observedGeneration"], generation);
    }
    conditions.push(condition);
    let patch = value!({"metadata": {"uid": (uid)}, "status": {"conditions": (conditions)}});
    client
        .merge_patch(&pods(), &key.namespace, &key.name, "status", &patch)
        .await
        .map(drop)
}

fn now_text() -> String {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    cloudeck_machinery::time::Time::from_unix(i64::try_from(since.as_secs()).unwrap_or(i64::MAX)).to_string()
}

fn reference(pod: &PodInfo) -> ObjectReference {
    ObjectReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        namespace: pod.key.namespace.to_string(),
        name: pod.key.name.to_string(),
        uid: pod.uid.clone(),
        resource_version: pod.revision.to_string(),
        field_path: String::new(),
    }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
