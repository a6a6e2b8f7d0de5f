//! The loop: watch events into cache and queue, pods out of the queue, bindings, conditions and the end of those that
//! make room to the API.

mod room;
mod watches;
mod writes;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Change, Client, Informer, InformerConfig, Subscription};
use cloudeck_controller::{EventRecorder, EventType};
use cloudeck_machinery::{Object, ObjectKey, Reason, Status};
use cloudeck_task::Scope;
use cloudeck_telemetry::chain;
use compact_str::CompactString;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::cache::Cache;
use crate::decision::{Decision, Refusal, Search, schedule};
use crate::model::PodInfo;
use crate::plugins::{ClusterEvent, Plugin, default_plugins};
use crate::queue::Queue;
use watches::{Changes, Watches};
use writes::{Unplaced, reference, tell_unplaced, write_binding};

/// The scheduler that pods get when they name none.
const NAME: &str = "default-scheduler";
/// Results of writes that may wait; a full channel only delays those tasks.
const OUTCOMES: usize = 256;
/// How long pods are placed before others have their turn and watch events are looked at again.
const SLICE: Duration = Duration::from_micros(500);
/// How many changes are taken in before others have their turn.
const CHANGES_PER_TURN: usize = 64;
/// The room for so many pods is kept when they go.
const LARGE: usize = 4096;
/// The longest message of an event that the API takes.
const LONGEST_NOTE: usize = 1024;

/// A running scheduler. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pods: Informer,
    nodes: Informer,
    watches: Watches,
}

impl Scheduler {
    /// Resolves when pods and nodes, and what else bears on their places, are known.
    pub async fn ready(&self) {
        self.pods.synced().await;
        self.nodes.synced().await;
        self.watches.synced().await;
    }
}

/// Starts scheduling under the client's identity (`system:kube-scheduler`).
pub fn start(client: Client, scope: &Scope) -> Scheduler {
    let scope = scope.child("scheduler");
    let pods = InformerConfig::all("", "v1", "pods");
    let scheduler = Scheduler {
        pods: Informer::start(&scope, client.clone(), pods),
        nodes: Informer::start(&scope, client.clone(), InformerConfig::all("", "v1", "nodes")),
        watches: Watches::start(&scope, &client),
    };
    let (outcome, outcomes) = mpsc::channel(OUTCOMES);
    let service = Service {
        recorder: EventRecorder::start(&scope, client.clone(), NAME, ""),
        client,
        scope: scope.clone(),
        plugins: default_plugins(),
        cache: Cache::default(),
        queue: Queue::default(),
        known: HashMap::new(),
        preempting: HashSet::new(),
        started: Instant::now(),
        search: Search::default(),
        outcome,
    };
    scope.spawn_until_shutdown("scheduler", service.run(scheduler.clone(), outcomes));
    scheduler
}

/// How something that was begun has ended.
enum Outcome {
    Bound {
        pod: Box<PodInfo>,
        result: Result<(), Status>,
    },
    /// The pod's victims were told to go, or that failed.
    Preempted { uid: CompactString, done: bool },
}

struct Service {
    client: Client,
    recorder: EventRecorder,
    scope: Scope,
    plugins: Vec<Box<dyn Plugin>>,
    cache: Cache,
    queue: Queue,
    /// The uid of each pod that was seen, so that a deletion finds it.
    known: HashMap<ObjectKey, CompactString>,
    /// Pods whose victims are being told to go.
    preempting: HashSet<CompactString>,
    started: Instant,
    search: Search,
    outcome: mpsc::Sender<Outcome>,
}

struct Subscriptions {
    nodes: Subscription,
    pods: Subscription,
    others: Changes,
}

impl Service {
    async fn run(mut self, scheduler: Scheduler, mut outcomes: mpsc::Receiver<Outcome>) {
        scheduler.ready().await;
        let mut seen = Subscriptions {
            nodes: scheduler.nodes.subscribe(),
            pods: scheduler.pods.subscribe(),
            others: scheduler.watches.subscribe(),
        };
        loop {
            self.catch_up(&mut seen, &mut outcomes).await;
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
                change = seen.nodes.next() => self.node_changed(&change),
                change = seen.pods.next() => self.pod_changed(change),
                () = seen.others.take_next(&mut self.cache.surroundings) => {}
                Some(outcome) = outcomes.recv() => self.ended(outcome),
                () = sleep_until(due) => {}
            }
        }
    }

    async fn catch_up(&mut self, seen: &mut Subscriptions, outcomes: &mut mpsc::Receiver<Outcome>) {
        let mut turns = 0_usize;
        let mut is_over = || {
            turns += 1;
            turns.is_multiple_of(CHANGES_PER_TURN)
        };
        seen.others.take_all(&mut self.cache.surroundings);
        while let Some(change) = seen.nodes.try_next() {
            self.node_changed(&change);
            if is_over() {
                tokio::task::yield_now().await;
            }
        }
        while let Some(change) = seen.pods.try_next() {
            self.pod_changed(change);
            if is_over() {
                tokio::task::yield_now().await;
            }
        }
        while let Ok(outcome) = outcomes.try_recv() {
            self.ended(outcome);
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn node_changed(&mut self, change: &Change) {
        let name = &change.key.name;
        let before = match &change.new {
            None => self.cache.remove_node(name),
            Some(object) => match self.cache.set_node(object) {
                Ok(before) => before,
                Err(error) => {
                    return tracing::warn!(error = chain(&error), "node left out");
                }
            },
        };
        let (before, now) = (before.as_ref(), self.cache.node(name));
        let at = self.now();
        self.queue
            .happened(ClusterEvent::Node { before, now }, &self.plugins, at);
    }

    fn pod_changed(&mut self, change: Change) {
        let Change { key, new, .. } = change;
        let before = self.known.get(&key).cloned();
        if let Some(uid) = &before
            && new.as_ref().is_none_or(|object| object.uid != *uid)
        {
            self.gone(uid);
            self.known.remove(&key);
            if self.known.capacity() > LARGE && self.known.len() < self.known.capacity() / 8 {
                self.known.shrink_to_fit();
            }
        }
        let Some(object) = new else { return };
        self.known.insert(key, object.uid.clone());
        let waits = object.field("spec.nodeName") == Some("");
        if waits
            && object
                .field("spec.schedulerName")
                .is_some_and(|name| name != NAME)
        {
            // Another scheduler's: no need to look into it.
            self.cache.forget_nomination(&object.uid);
            return self.queue.remove(&object.uid);
        }
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
            self.cache.forget_nomination(&pod.uid);
            return self.placed(pod);
        }
        let ours = pod.scheduler_name == NAME && !pod.deleting;
        if !ours {
            self.cache.forget_nomination(&pod.uid);
            return self.queue.remove(&pod.uid);
        }
        if !pod.gates.is_empty() {
            self.say_gated(object);
        }
        if !self.cache.is_assumed(&pod.uid) {
            let pod = self.queue.add(pod);
            self.cache.nominate(&pod, &pod.nominated_node);
        }
    }

    fn placed(&mut self, pod: PodInfo) {
        let before = self.cache.set_pod(pod.clone());
        let event = ClusterEvent::Pod {
            before: before.as_deref(),
            now: Some(&pod),
        };
        let now = self.now();
        self.queue.happened(event, &self.plugins, now);
    }

    fn gone(&mut self, uid: &str) {
        self.queue.remove(uid);
        self.cache.forget_nomination(uid);
        let counted = self.cache.remove_pod(uid);
        self.made_room(counted.as_deref());
    }

    fn made_room(&mut self, gone: Option<&PodInfo>) {
        if gone.is_some() {
            let event = ClusterEvent::Pod {
                before: gone,
                now: None,
            };
            let now = self.now();
            self.queue.happened(event, &self.plugins, now);
        }
    }

    /// Tries waiting pods. True when more are waiting.
    fn place_some(&mut self) -> bool {
        let began = Instant::now();
        while began.elapsed() < SLICE {
            let now = self.now();
            let Some(pod) = self.queue.pop(now) else {
                return false;
            };
            match schedule(&pod, &self.cache, &self.plugins, &mut self.search) {
                Decision::Node(node) => self.bind(pod, node),
                Decision::Nowhere(refusal) => self.refuse(&pod, refusal, now),
            }
        }
        true
    }

    fn bind(&mut self, pod: PodInfo, node: CompactString) {
        self.cache.forget_nomination(&pod.uid);
        self.cache.assume(pod.clone(), &node);
        let (client, outcome) = (self.client.clone(), self.outcome.clone());
        let recorder = self.recorder.clone();
        self.scope.spawn_until_shutdown("bind", async move {
            let result = write_binding(&client, &pod, &node).await;
            if result.is_ok() {
                let message = format!("Successfully assigned {} to {node}", pod.key);
                recorder.event(reference(&pod), EventType::Normal, "Scheduled", message);
            }
            // The scheduler is gone only at shutdown.
            let pod = Box::new(pod);
            let _ = outcome.send(Outcome::Bound { pod, result }).await;
        });
    }

    fn ended(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Bound { pod, result } => {
                if let Err(status) = result {
                    self.binding_refused(&pod, &status);
                }
            }
            Outcome::Preempted { uid, done } => {
                self.preempting.remove(&uid);
                if !done {
                    self.queue.activate(&uid);
                }
            }
        }
    }

    fn binding_refused(&mut self, pod: &PodInfo, status: &Status) {
        let counted = self.cache.forget(&pod.uid);
        self.made_room(counted.as_deref());
        if status.reason == Reason::NotFound {
            return self.queue.remove(&pod.uid);
        }
        tracing::debug!(pod = %pod.key, error = %status, "binding refused; trying again");
        let now = self.now();
        self.queue.back_off(&pod.uid, now);
    }

    fn refuse(&mut self, pod: &PodInfo, mut refusal: Refusal, now: u64) {
        let kept = self.make_room(pod, &mut refusal);
        let message = refusal.message();
        let note = truncated(&message);
        self.recorder
            .event(reference(pod), EventType::Warning, "FailedScheduling", note);
        self.tell_unplaced(Unplaced {
            key: pod.key.clone(),
            uid: pod.uid.to_string(),
            reason: "Unschedulable",
            message,
            nominated: kept.as_ref().map(ToString::to_string),
        });
        if let Some(kept) = &kept {
            self.cache.nominate(pod, kept);
        }
        self.queue.refuse(&pod.uid, refusal, kept.as_deref(), now);
    }

    fn say_gated(&self, object: &Arc<Object>) {
        let tree = object.tree();
        let said = tree.items_at(&["status", "conditions"]).iter().any(|c| {
            c.str_at(&["type"]) == Some("PodScheduled") && c.str_at(&["reason"]) == Some("SchedulingGated")
        });
        if !said {
            self.tell_unplaced(Unplaced {
                key: object.key.clone(),
                uid: object.uid.to_string(),
                reason: "SchedulingGated",
                message: "Scheduling is blocked due to non-empty scheduling gates".to_owned(),
                nominated: None,
            });
        }
    }

    fn tell_unplaced(&self, unplaced: Unplaced) {
        let client = self.client.clone();
        self.scope.spawn_until_shutdown("pod condition", async move {
            if let Err(status) = tell_unplaced(&client, &unplaced).await {
                tracing::debug!(pod = %unplaced.key, error = %status, "pod condition not written");
            }
        });
    }
}

/// As long as an event's note may be.
fn truncated(message: &str) -> String {
    const SUFFIX: &str = " ...";
    if message.len() <= LONGEST_NOTE {
        return message.to_owned();
    }
    let end = message.floor_char_boundary(LONGEST_NOTE - SUFFIX.len());
    format!("{}{SUFFIX}", &message[..end])
}

async fn sleep_until(due: Option<Instant>) {
    match due {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
