//! The node's own objects: its registration, its status, its lease.
//!
//! Source: `pkg/kubelet/kubelet_node_status.go`, KEP-589 (node leases). The status is sent when it changes, when others
//! have made something else of it (a machine that slept is taken for silent), and every five minutes; the lease says
//! that the node lives.

use std::sync::Arc;
use std::time::Duration;

use cloudeck_client::{Informer, InformerConfig};
use cloudeck_controller::{EventType, ObjectReference};
use cloudeck_machinery::time::{MicroTime, Time};
use cloudeck_machinery::{GroupVersionResource, Reason, Status, Value, value};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::machine::MachineInfo;
use crate::node::Node;

/// Upstream's `nodeStatusReportFrequency`.
const STATUS_INTERVAL: Duration = Duration::from_mins(5);
/// Upstream's `nodeLeaseDurationSeconds`.
const LEASE_SECONDS: i32 = 40;
/// After the first failure; doubled with every further one.
const RETRY: Duration = Duration::from_millis(200);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// How long a node that is known already is not spoken of until its agent is ready again: what runs on it has never
/// stopped, and one word of "not ready" takes its pods out of their Services.
const RETURN: Duration = Duration::from_secs(20);

/// Registers the node and keeps its status and lease fresh until the scope shuts down. A node that is deleted while its
/// agent runs is registered once more; upstream's stays away until its kubelet starts again.
///
/// `ready` turns true once pods can run. Until then a node that stood in the API before keeps its status for a while.
pub(crate) async fn run(node: Arc<Node>, port: u16, ready: watch::Receiver<bool>) {
    let own = format!("metadata.name={}", node.config.node_name);
    let own = InformerConfig::all("", "v1", "nodes").with_field_selector(own);
    let mut sights = Informer::start(&node.scope, node.client.clone(), own).subscribe();
    let mut keeper = Keeper {
        info: MachineInfo::read(),
        node,
        port,
        ready,
        said: None,
        status: Timer::now(),
        lease: Timer::now(),
    };
    let is_new = register(&keeper.node, &keeper.info, port).await;
    tell(&keeper.node, "Starting", "Starting kubelet.".to_owned());
    if !is_new && !*keeper.ready.borrow() {
        keeper.status.due = Instant::now() + RETURN;
    }
    loop {
        keeper.send_what_is_due().await;
        let due = keeper.status.due.min(keeper.lease.due);
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            sight = sights.next() => {
                let there = sight.new.map(|object| object.tree());
                if keeper.wants_to_speak(there.as_ref()) {
                    keeper.status.due = Instant::now();
                }
            }
            changed = keeper.ready.changed() => {
                if changed.is_err() {
                    // Nothing will change any more; only the timers go on.
                    tokio::time::sleep_until(due).await;
                } else {
                    keeper.status.due = Instant::now();
                }
            }
        }
    }
}

/// What is said of the node, and when it is said again.
struct Keeper {
    node: Arc<Node>,
    info: MachineInfo,
    port: u16,
    ready: watch::Receiver<bool>,
    /// Whether the node was said to be ready, once something was said.
    said: Option<bool>,
    status: Timer,
    lease: Timer,
}

/// When something is sent next, and how long it waits after the next failure.
struct Timer {
    due: Instant,
    retry: Duration,
}

impl Timer {
    fn now() -> Self {
        Self {
            due: Instant::now(),
            retry: RETRY,
        }
    }

    fn is_due(&self) -> bool {
        self.due <= Instant::now()
    }

    fn succeeded(&mut self, interval: Duration) {
        self.due = Instant::now() + interval;
        self.retry = RETRY;
    }

    fn failed(&mut self) {
        self.due = Instant::now() + self.retry;
        self.retry = (self.retry * 2).min(LONGEST_RETRY);
    }
}

impl Keeper {
    async fn send_what_is_due(&mut self) {
        if self.status.is_due() {
            let ready = *self.ready.borrow_and_update();
            match send_status(&self.node, &self.info, self.port, ready).await {
                Ok(()) => {
                    self.said = Some(ready);
                    self.status.succeeded(STATUS_INTERVAL);
                }
                Err(status) if status.reason == Reason::NotFound => {
                    self.come_back().await;
                    self.status.failed();
                }
                Err(error) => {
                    tracing::warn!(%error, "node status not taken");
                    self.status.failed();
                }
            }
        }
        if self.lease.is_due() {
            match renew_lease(&self.node).await {
                Ok(()) => self.lease.succeeded(self.node.config.lease_interval),
                Err(status) if status.reason == Reason::NotFound => {
                    self.come_back().await;
                    self.status.due = Instant::now();
                    self.lease.failed();
                }
                Err(error) => {
                    tracing::warn!(%error, "node lease not renewed");
                    self.lease.failed();
                }
            }
        }
    }

    /// The node was deleted: registers it again. What could not be said is said again like after any failure: should
    /// something be missing that a registration does not bring, this would not end.
    async fn come_back(&self) {
        tracing::warn!("node object is gone; registering it again");
        register(&self.node, &self.info, self.port).await;
    }

    /// Whether what is there of the node calls for a word: others have made something else of it, or it is gone.
    fn wants_to_speak(&self, there: Option<&Value>) -> bool {
        match (self.said, there) {
            (Some(said), Some(there)) => !stands(there, said),
            (Some(_), None) => true,
            (None, _) => false,
        }
    }
}

fn nodes() -> GroupVersionResource {
    GroupVersionResource::new("", "v1", "nodes")
}

/// Whether the node was not there before.
async fn register(node: &Node, info: &MachineInfo, port: u16) -> bool {
    let name = &node.config.node_name;
    let mut retry = RETRY;
    loop {
        let mut object = value!({
            "apiVersion": "v1", "kind": "Node",
            "metadata": {"name": (name.as_str())},
            "spec": {}
        });
        object.set_at(&["metadata", "labels"], labels(node));
        object.set_at(&["status"], status(node, info, port, false, None));
        match node.client.create(&nodes(), "", &object).await {
            Ok(_) => return true,
            Err(status) if status.reason == Reason::AlreadyExists => {
                relabel(node).await;
                return false;
            }
            Err(status) => {
                tracing::debug!(error = %status, "node not registered; trying again");
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(LONGEST_RETRY);
            }
        }
    }
}

/// Sets the labels that belong to the node on an object that stands already.
async fn relabel(node: &Node) {
    let patch = value!({"metadata": {"labels": (labels(node))}});
    if let Err(error) = node
        .client
        .merge_patch(&nodes(), "", &node.config.node_name, "", &patch)
        .await
    {
        tracing::warn!(%error, "node labels not set");
    }
}

fn labels(node: &Node) -> Value {
    let mut labels = value!({
        "kubernetes.io/arch": (architecture()), "kubernetes.io/os": "linux",
        "beta.kubernetes.io/arch": (architecture()), "beta.kubernetes.io/os": "linux",
        "kubernetes.io/hostname": (node.config.node_name.as_str())
    });
    for (name, value) in &node.config.labels {
        labels.set_at(&[name], value.as_str());
    }
    labels
}

/// Go's name of the architecture.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

async fn send_status(node: &Node, info: &MachineInfo, port: u16, ready: bool) -> Result<(), Status> {
    let name = &node.config.node_name;
    let current = node.client.get(&nodes(), "", name).await?;
    let before = current.tree();
    let patch = value!({"status": (status(node, info, port, ready, Some(&before)))});
    node.client
        .strategic_patch(&nodes(), "", name, "status", &patch)
        .await?;
    let was_ready = condition(&before, "Ready").and_then(|c| c.str_at(&["status"])) == Some("True");
    if ready && !was_ready {
        let news = [
            "NodeHasSufficientMemory",
            "NodeHasNoDiskPressure",
            "NodeHasSufficientPID",
            "NodeReady",
        ];
        for reason in news {
            tell(node, reason, format!("Node {name} status is now: {reason}"));
        }
    }
    Ok(())
}

fn condition<'a>(node: &'a Value, kind: &str) -> Option<&'a Value> {
    node.items_at(&["status", "conditions"])
        .iter()
        .find(|c| c.str_at(&["type"]) == Some(kind))
}

/// Whether what was said of the node stands there.
fn stands(there: &Value, ready: bool) -> bool {
    let is = |kind, status| condition(there, kind).and_then(|c| c.str_at(&["status"])) == Some(status);
    let pressures = ["MemoryPressure", "DiskPressure", "PIDPressure"];
    is("Ready", if ready { "True" } else { "False" }) && pressures.iter().all(|kind| is(kind, "False"))
}

fn status(node: &Node, info: &MachineInfo, port: u16, ready: bool, before: Option<&Value>) -> Value {
    let capacity = &node.capacity;
    let amounts = value!({
        "cpu": (capacity.cpus.to_string()),
        "memory": (format!("{}Ki", capacity.memory_bytes / 1024)),
        "ephemeral-storage": (format!("{}Ki", capacity.disk_bytes / 1024)),
        "pods": (capacity.pods.to_string()),
        "hugepages-1Gi": "0", "hugepages-2Mi": "0"
    });
    value!({
        "capacity": (amounts.clone()), "allocatable": (amounts),
        "addresses": [
            {"type": "InternalIP", "address": (node.address().to_string())},
            {"type": "Hostname", "address": (node.config.node_name.as_str())}
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": (i64::from(port))}},
        "nodeInfo": {
            "machineID": (info.machine_id.as_str()), "systemUUID": (info.system_uuid.as_str()),
            "bootID": (info.boot_id.as_str()), "kernelVersion": (info.kernel_version.as_str()),
            "osImage": (info.os_image.as_str()), "operatingSystem": "linux", "architecture": (architecture()),
            "containerRuntimeVersion": (format!("cloudeck://{}", env!("CARGO_PKG_VERSION"))),
            "kubeletVersion": (node.config.version.as_str()), "kubeProxyVersion": ""
        },
        "images": (images(node)),
        "features": {"supplementalGroupsPolicy": true},
        "runtimeHandlers": [(handler("")), (handler("cloudeck"))],
        "conditions": (conditions(node, ready, before))
    })
}

fn handler(name: &str) -> Value {
    value!({"name": (name), "features": {"recursiveReadOnlyMounts": true, "userNamespaces": false}})
}

fn conditions(node: &Node, ready: bool, before: Option<&Value>) -> Value {
    let now = Time::from_unix(node.now() / 1000).to_string();
    let (ready_status, reason, message) = if ready {
        ("True", "KubeletReady", "kubelet is posting ready status")
    } else {
        ("False", "KubeletNotReady", "the node is starting")
    };
    let all = [
        (
            "MemoryPressure",
            "False",
            "KubeletHasSufficientMemory",
            "kubelet has sufficient memory available",
        ),
        (
            "DiskPressure",
            "False",
            "KubeletHasNoDiskPressure",
            "kubelet has no disk pressure",
        ),
        (
            "PIDPressure",
            "False",
            "KubeletHasSufficientPID",
            "kubelet has sufficient PID available",
        ),
        ("Ready", ready_status, reason, message),
    ];
    let render = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let same = before
            .and_then(|b| condition(b, kind))
            .filter(|c| c.str_at(&["status"]) == Some(status));
        let since = same
            .and_then(|c| c.str_at(&["lastTransitionTime"]))
            .unwrap_or(&now);
        value!({
            "type": (kind), "status": (status), "reason": (reason), "message": (message),
            "lastHeartbeatTime": (now.as_str()), "lastTransitionTime": (since)
        })
    };
    Value::Array(all.into_iter().map(render).collect())
}

/// At most 50 images, the largest first, as upstream reports them.
fn images(node: &Node) -> Value {
    const REPORTED: usize = 50;
    let mut images = node.images.list().unwrap_or_default();
    images.sort_by_key(|image| std::cmp::Reverse(image.size_bytes));
    let render = |image: &Arc<cloudeck_image::Image>| {
        let names = image
            .repo_digests
            .iter()
            .chain(&image.names)
            .map(|name| Value::from(name.as_str()));
        let size = i64::try_from(image.size_bytes).unwrap_or(i64::MAX);
        value!({"names": (names.collect::<Vec<_>>()), "sizeBytes": (size)})
    };
    Value::Array(images.iter().take(REPORTED).map(render).collect())
}

async fn renew_lease(node: &Node) -> Result<(), Status> {
    const NAMESPACE: &str = "kube-node-lease";
    let leases = GroupVersionResource::new("coordination.k8s.io", "v1", "leases");
    let name = node.config.node_name.as_str();
    let now = MicroTime::from_unix_micros(node.now() * 1000).to_string();
    let spec = value!({
        "holderIdentity": (name), "leaseDurationSeconds": (LEASE_SECONDS), "renewTime": (now)
    });
    let patch = value!({"spec": (spec.clone())});
    match node
        .client
        .merge_patch(&leases, NAMESPACE, name, "", &patch)
        .await
    {
        Err(status) if status.reason == Reason::NotFound => {}
        other => return other.map(drop),
    }
    let owner = node.client.get(&nodes(), "", name).await?;
    let lease = value!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {
            "name": (name), "namespace": (NAMESPACE),
            "ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": (name), "uid": (owner.uid.as_str())}]
        },
        "spec": (spec)
    });
    node.client.create(&leases, NAMESPACE, &lease).await.map(drop)
}

fn tell(node: &Node, reason: &'static str, message: String) {
    let name = node.config.node_name.clone();
    // Events about nodes carry the name as uid, as upstream has it.
    let reference = ObjectReference {
        kind: "Node".to_owned(),
        uid: name.clone(),
        name,
        ..ObjectReference::default()
    };
    node.recorder.event(reference, EventType::Normal, reason, message);
}
