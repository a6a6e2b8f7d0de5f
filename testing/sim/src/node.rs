//! A machine that only pretends: it registers, renews its lease, "runs" the pods bound to it and ends them.
//!
//! It speaks the public API as `system:node:NAME` and does what a kubelet is seen to do. What runs on the machine
//! survives the agent, not a reboot.

mod pod;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Informer, InformerConfig};
use cloudeck_machinery::{MicroTime, Object, ObjectKey, Reason, Status, Time, Value, value};
use cloudeck_task::Scope;
use tokio::sync::watch;

use crate::dice::Dice;
use crate::kinds;
use crate::network::{Network, lock};

/// How often a kubelet renews its lease and looks at its node object.
const HEARTBEAT: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i64 = 40;
const RETRY: Duration = Duration::from_secs(1);
const STOP: Duration = Duration::from_secs(5);

/// Status, reason and message.
type Readiness = (&'static str, &'static str, &'static str);
const READY: Readiness = ("True", "KubeletReady", "kubelet is posting ready status");
const NOT_READY: Readiness = ("False", "KubeletNotReady", "the node is starting");

/// A machine, whether its agent runs or not.
pub(crate) struct Machine {
    pub(crate) name: String,
    number: usize,
    cpu_millis: i64,
    network: Network,
    seed: u64,
    flickers: bool,
    boots: u64,
    running: Arc<Mutex<Running>>,
    agent: Option<Scope>,
}

/// What runs on the machine, by the pod's uid.
#[derive(Default)]
struct Running {
    pods: HashMap<String, Container>,
}

#[derive(Clone)]
struct Container {
    address: String,
    cpu_millis: i64,
    started: bool,
}

/// What the agent's tasks share.
#[derive(Clone)]
struct Agent {
    name: Arc<str>,
    number: usize,
    cpu_millis: i64,
    client: Client,
    running: Arc<Mutex<Running>>,
    scope: Scope,
    seed: u64,
    flickers: bool,
}

impl Machine {
    pub(crate) fn new(number: usize, cpu_millis: i64, network: &Network, seed: u64, flickers: bool) -> Self {
        Self {
            name: format!("node-{number}"),
            number,
            cpu_millis,
            network: network.clone(),
            seed,
            flickers,
            boots: 0,
            running: Arc::default(),
            agent: None,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.agent.is_some()
    }

    /// Starts the agent.
    pub(crate) fn start(&mut self) {
        self.boots += 1;
        let scope = Scope::root("node");
        let client = self.network.client(LocalIdentity::node(&self.name), &self.name);
        let agent = Agent {
            name: self.name.as_str().into(),
            number: self.number,
            cpu_millis: self.cpu_millis,
            client,
            running: Arc::clone(&self.running),
            scope: scope.clone(),
            seed: self.seed ^ self.boots << 32,
            flickers: self.flickers,
        };
        scope.spawn_until_shutdown("node life", agent.clone().live());
        scope.spawn_until_shutdown("node pods", agent.follow_pods());
        self.agent = Some(scope);
    }

    /// Kills the agent; what runs goes on, unseen.
    pub(crate) async fn stop(&mut self) -> Option<String> {
        let scope = self.agent.take()?;
        scope.shutdown(STOP).await.failure
    }

    /// Forgets all that runs, as a reboot does. The agent is not running.
    pub(crate) fn lose_everything(&self) {
        lock(&self.running).pods.clear();
    }
}

impl Agent {
    /// Registers, then gives signs of life.
    async fn live(self) {
        if self.flickers && Dice::of(self.seed, "begins").below(3) == 0 {
            // What has begun may take a moment until it can run pods, and may say so.
            let outcome = self.say(NOT_READY).await;
            if outcome.is_ok() {
                let pause = Dice::of(self.seed, "ready").millis(0, 50);
                tokio::time::sleep(pause).await;
            }
        }
        loop {
            let pause = match self.beat().await {
                Ok(()) => HEARTBEAT,
                Err(_) => RETRY,
            };
            tokio::time::sleep(pause).await;
        }
    }

    async fn beat(&self) -> Result<(), Status> {
        match self.client.get(&kinds::nodes(), "", &self.name).await {
            Ok(node) if is_ready(&node.tree()) => self.renew(&node.uid).await,
            Ok(node) => {
                self.say(READY).await?;
                self.renew(&node.uid).await
            }
            Err(status) if status.reason == Reason::NotFound => self.register().await,
            Err(status) => Err(status),
        }
    }

    async fn say(&self, readiness: Readiness) -> Result<(), Status> {
        let patch = value!({"status": (self.status(readiness))});
        self.client
            .strategic_patch(&kinds::nodes(), "", &self.name, "status", &patch)
            .await
            .map(drop)
    }

    async fn register(&self) -> Result<(), Status> {
        let mut node = value!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": (&*self.name), "labels": {"kubernetes.io/hostname": (&*self.name)}},
            "spec": {}
        });
        node.set_at(&["status"], self.status(READY));
        let created = self.client.create(&kinds::nodes(), "", &node).await?;
        self.renew(&created.uid).await
    }

    fn status(&self, (ready, reason, message): Readiness) -> Value {
        let now = now();
        let amounts = value!({
            "cpu": (format!("{}m", self.cpu_millis)), "memory": "64Gi", "pods": "110"
        });
        let address = format!("192.168.0.{}", self.number + 1);
        value!({
            "capacity": (amounts.clone()), "allocatable": (amounts),
            "addresses": [{"type": "InternalIP", "address": (address)}],
            "conditions": [{
                "type": "Ready", "status": (ready), "reason": (reason), "message": (message),
                "lastHeartbeatTime": (now.as_str()), "lastTransitionTime": (now.as_str())
            }]
        })
    }

    async fn renew(&self, node_uid: &str) -> Result<(), Status> {
        const NAMESPACE: &str = "kube-node-lease";
        let renewed = MicroTime::from_unix_micros(unix_micros()).to_string();
        let spec = value!({
            "holderIdentity": (&*self.name), "leaseDurationSeconds": (LEASE_SECONDS), "renewTime": (renewed)
        });
        let patch = value!({"spec": (spec.clone())});
        let leases = kinds::leases();
        let patched = self
            .client
            .merge_patch(&leases, NAMESPACE, &self.name, "", &patch);
        match patched.await {
            Err(status) if status.reason == Reason::NotFound => {}
            other => return other.map(drop),
        }
        let lease = value!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {
                "name": (&*self.name), "namespace": (NAMESPACE),
                "ownerReferences": [{
                    "apiVersion": "v1", "kind": "Node", "name": (&*self.name), "uid": (node_uid)
                }]
            },
            "spec": (spec)
        });
        self.client.create(&leases, NAMESPACE, &lease).await.map(drop)
    }

    /// One task for each pod bound to this machine.
    async fn follow_pods(self) {
        let config =
            InformerConfig::all("", "v1", "pods").with_field_selector(format!("spec.nodeName={}", self.name));
        let informer = Informer::start(&self.scope, self.client.clone(), config);
        informer.synced().await;
        self.forget_all_but(&informer.list());
        let mut changes = informer.subscribe();
        let mut workers: HashMap<ObjectKey, (String, watch::Sender<Arc<Object>>, Scope)> = HashMap::new();
        loop {
            let change = changes.next().await;
            let known = workers.get(&change.key);
            match (known, change.new) {
                (Some((uid, latest, _)), Some(object)) if *object.uid == **uid => {
                    latest.send_replace(object);
                }
                (known, new) => {
                    if let Some((uid, _, scope)) = known {
                        scope.request_shutdown();
                        lock(&self.running).pods.remove(uid);
                    }
                    workers.remove(&change.key);
                    let Some(object) = new else { continue };
                    let uid = object.uid.to_string();
                    let (latest, receiver) = watch::channel(object);
                    let scope = self.scope.child("pod");
                    let worker = pod::Worker::new(&self, &uid, receiver);
                    scope.spawn_until_shutdown("pod", worker.run());
                    workers.insert(change.key, (uid, latest, scope));
                }
            }
        }
    }

    fn forget_all_but(&self, present: &[Arc<Object>]) {
        let is_present = |uid: &String| present.iter().any(|object| *object.uid == **uid);
        lock(&self.running).pods.retain(|uid, _| is_present(uid));
    }

    fn dice_for(&self, uid: &str) -> Dice {
        Dice::of(self.seed, uid)
    }
}

fn is_ready(node: &Value) -> bool {
    condition(node, "Ready").and_then(|it| it.str_at(&["status"])) == Some("True")
}

/// The condition of that type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.items_at(&["status", "conditions"]);
    conditions.iter().find(|it| it.str_at(&["type"]) == Some(kind))
}

fn now() -> String {
    Time::from_unix(unix_micros() / 1_000_000).to_string()
}

fn unix_micros() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as i64)
}
