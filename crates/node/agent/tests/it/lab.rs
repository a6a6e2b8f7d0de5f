//! A node for one test: an API server on the memory store, a pod network in a namespace of its own, and the agent.

use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use cloudeck_agent::{AgentConfig, AgentDeps, ServerConfig};
use cloudeck_auth::LocalIdentity;
use cloudeck_client::{Client, Params, Request, WatchEvent};
use cloudeck_image::{ImageStore, StoreConfig};
use cloudeck_machinery::{GroupVersionResource, Reason, Value, value};
use cloudeck_pki::ServingCertificate;
use cloudeck_runtime::{OpenError, Runtime, RuntimeConfig};
use cloudeck_task::Scope;
use cloudeck_testkit::TestServer;
use futures_util::StreamExt as _;

/// Far longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(20);
/// What the names of all directories and instances of these tests begin with; the test process's number follows.
const PREFIX: &str = "ckag-";
pub(crate) const NODE: &str = "test-node";
pub(crate) const IMAGE: &str = "example.test/busybox:1";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lab {
    pub(crate) admin: Client,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) config: RuntimeConfig,
    server: TestServer,
    network: cloudeck_netlab::Lab,
    images: Option<ImageStore>,
    scope: Scope,
    run_dir: PathBuf,
    dir: tempfile::TempDir,
    /// How far the node's clock is ahead, in seconds.
    ahead: Arc<AtomicI64>,
}

fn core(resource: &str) -> GroupVersionResource {
    GroupVersionResource::new("", "v1", resource)
}

impl Lab {
    pub(crate) async fn new() -> Self {
        reap_the_dead().await;
        let name = format!(
            "{PREFIX}{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::Builder::new().prefix(&name).tempdir().unwrap();
        let mut config = RuntimeConfig::new(&name, dir.path().join("runtime"));
        config.run_dir = PathBuf::from("/run").join(&name);
        config.shim_exe = PathBuf::from(env!("CARGO_BIN_EXE_cloudeck-agent-shimhost"));
        let server = TestServer::start().await.unwrap();
        let admin = server.admin();
        let account = value!({"metadata": {"name": "default"}});
        admin
            .create(&core("serviceaccounts"), "default", &account)
            .await
            .unwrap();
        let mut lab = Self {
            admin,
            runtime: None,
            run_dir: config.run_dir.join("agent"),
            config,
            server,
            network: cloudeck_netlab::Lab::new(&name),
            images: None,
            scope: Scope::root("test"),
            dir,
            ahead: Arc::default(),
        };
        lab.start_daemon().await;
        lab
    }

    /// What is left of a daemon after `kill -9`: nothing.
    pub(crate) async fn kill_daemon(&mut self) {
        self.runtime = None;
        self.images = None;
        self.scope.shutdown(PATIENCE).await;
    }

    pub(crate) async fn start_daemon(&mut self) {
        self.scope = Scope::root("test");
        let runtime = self.open_runtime().await;
        let images = self.dir.path().join("images");
        let images = ImageStore::open(&images, StoreConfig::default(), &self.scope).unwrap();
        self.images = Some(images.clone());
        if images.get(IMAGE).unwrap().is_none() {
            self.import(IMAGE, "").await;
        }
        let ahead = Arc::clone(&self.ahead);
        let deps = AgentDeps {
            client: self.server.client(LocalIdentity::node(NODE)),
            runtime: runtime.clone(),
            images,
            network: self.network.start_network().await,
            server: ServerConfig {
                certificate: Arc::new(ServingCertificate::new(&self.server.pki.kubelet).unwrap()),
                client_authority: self.server.pki.client_authority.certificate().clone(),
            },
            clock: Arc::new(move || {
                let seconds = ahead.load(Ordering::Relaxed).unsigned_abs();
                SystemTime::now() + Duration::from_secs(seconds)
            }),
        };
        self.runtime = Some(runtime);
        let agent = cloudeck_agent::start(self.agent_config(), deps, &self.scope)
            .await
            .unwrap();
        agent.ready().await;
    }

    /// Gives the name to an image with busybox that runs as `user`.
    pub(crate) async fn import(&self, name: &str, user: &str) {
        let archive = self.dir.path().join("image.tar");
        std::fs::write(&archive, busybox(name, user)).unwrap();
        self.images().import(archive, None).await.unwrap();
    }

    pub(crate) fn images(&self) -> &ImageStore {
        self.images.as_ref().expect("the daemon runs")
    }

    /// The tasks of the daemon before let go of the runtime one by one.
    async fn open_runtime(&self) -> Runtime {
        let mut opened = None;
        eventually("the end of the daemon before", async || {
            match Runtime::open(self.config.clone(), &self.scope).await {
                Err(OpenError::Locked(_)) => {}
                other => opened = Some(other.unwrap()),
            }
            opened.is_some()
        })
        .await;
        opened.unwrap()
    }

    fn agent_config(&self) -> AgentConfig {
        AgentConfig {
            node_name: NODE.to_owned(),
            node_ip: IpAddr::V4(cloudeck_netlab::NODE),
            instance: self.config.instance.clone(),
            data_dir: self.data(),
            run_dir: self.run_dir.clone(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            cluster_domain: "cluster.local".to_owned(),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            max_pods: 110,
            lease_interval: Duration::from_secs(10),
            labels: std::collections::BTreeMap::new(),
            version: "v1.37.0".to_owned(),
        }
    }

    /// The agent's own directory.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Sets the node's clock forward.
    pub(crate) fn pass(&self, seconds: i64) {
        self.ahead.fetch_add(seconds, Ordering::Relaxed);
    }

    /// Creates a pod on the node; `spec` lacks what all pods here have in common.
    pub(crate) async fn create(&self, name: &str, mut spec: Value) {
        spec.set_at(&["nodeName"], NODE);
        if spec.at(&["terminationGracePeriodSeconds"]).is_none() {
            spec.set_at(&["terminationGracePeriodSeconds"], 1_i64);
        }
        spec.set_at(&["automountServiceAccountToken"], false);
        let pod = value!({"metadata": {"name": (name)}, "spec": (spec)});
        self.admin.create(&core("pods"), "default", &pod).await.unwrap();
    }

    pub(crate) async fn put(&self, resource: &str, object: Value) {
        self.admin
            .create(&core(resource), "default", &object)
            .await
            .unwrap();
    }

    /// Creates a RuntimeClass with a handler of the same name.
    pub(crate) async fn runtime_class(&self, name: &str) {
        let classes = GroupVersionResource::new("node.k8s.io", "v1", "runtimeclasses");
        let class = value!({"metadata": {"name": (name)}, "handler": (name)});
        self.admin.create(&classes, "", &class).await.unwrap();
    }

    pub(crate) async fn patch(&self, resource: &str, name: &str, patch: Value) {
        self.admin
            .merge_patch(&core(resource), "default", name, "", &patch)
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, name: &str, grace_seconds: Option<i64>) {
        let mut options = value!({"kind": "DeleteOptions", "apiVersion": "v1"});
        if let Some(seconds) = grace_seconds {
            options.set_at(&["gracePeriodSeconds"], seconds);
        }
        self.admin
            .delete(&core("pods"), "default", name, &options)
            .await
            .unwrap();
    }

    /// Removes an object that is no pod.
    pub(crate) async fn remove(&self, resource: &str, name: &str) {
        let namespace = if resource == "nodes" { "" } else { "default" };
        let options = value!({"kind": "DeleteOptions", "apiVersion": "v1"});
        self.admin
            .delete(&core(resource), namespace, name, &options)
            .await
            .unwrap();
    }

    pub(crate) async fn pod(&self, name: &str) -> Option<Value> {
        match self.admin.get(&core("pods"), "default", name).await {
            Ok(object) => Some(object.tree()),
            Err(status) if status.reason == Reason::NotFound => None,
            Err(status) => panic!("{status}"),
        }
    }

    /// Waits until a pod is as `holds` wants it, and returns it.
    pub(crate) async fn until(&self, name: &str, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let pod = self.pod(name).await;
            if let Some(pod) = pod.as_ref().filter(|pod| holds(pod)) {
                return pod.clone();
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "waited in vain for {what}: {pod:?}"
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the node is as `holds` wants it, and returns it.
    pub(crate) async fn until_node(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let mut found = None;
        eventually(what, async || {
            let node = self.admin.get(&core("nodes"), "", NODE).await;
            found = node.ok().map(|node| node.tree()).filter(&holds);
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// All that objects of a kind were after one revision and up to another, which is one of them.
    pub(crate) async fn history(&self, resource: &str, after: &Value, last: &Value) -> Vec<Value> {
        let params = Params {
            resource_version: revision(after).to_string(),
            ..Params::default()
        };
        let request = Request::watch(&core(resource), "").with_params(params);
        let mut events = self.admin.watch(request).await.unwrap();
        let mut seen = Vec::new();
        while seen.last().is_none_or(|object| revision(object) < revision(last)) {
            match events.next().await.expect("the last object is among the events") {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => seen.push(object.tree()),
                WatchEvent::Error(status) => panic!("{status}"),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark { .. } => {}
            }
        }
        seen
    }

    pub(crate) async fn until_ready(&self, name: &str) -> Value {
        let ready = |pod: &Value| condition(pod, "Ready") == Some("True");
        self.until(name, "a ready pod", ready).await
    }

    pub(crate) async fn until_gone(&self, name: &str) {
        eventually(&format!("the end of {name}"), async || {
            self.pod(name).await.is_none()
        })
        .await;
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the daemon runs")
    }

    /// Everything that the agent keeps for pods: directories of volumes and logs, sandboxes.
    pub(crate) fn left(&self) -> Vec<String> {
        let data = self.data();
        let mut left = Vec::new();
        for dir in [data.join("pods"), data.join("logs"), self.run_dir.join("pods")] {
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            left.extend(entries.map(|entry| entry.path().display().to_string()));
        }
        left.extend(self.runtime().sandboxes().into_iter().map(|s| s.id.to_string()));
        left
    }

    /// What a program in the pod's container `c` writes.
    pub(crate) async fn exec(&self, pod: &Value, script: &str) -> String {
        let uid = pod.str_at(&["metadata", "uid"]).unwrap().to_owned();
        let containers = self.runtime().containers();
        let id = containers.into_iter().find(|c| {
            c.state == cloudeck_runtime::ContainerState::Running
                && c.config.name == "c"
                && c.config.labels.values().any(|label| *label == uid)
        });
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let id = id.expect("a running container").id;
        let output = self.runtime().exec_sync(&id, argv, PATIENCE).await.unwrap();
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let (config, scope) = (self.config.clone(), self.scope.clone());
        // A runtime of its own: the test's may be the one that is being dropped from.
        let purge = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                scope.request_shutdown();
                Runtime::purge(&config, true).await
            })
        });
        let report = purge.join().unwrap();
        assert!(
            std::thread::panicking() || report.left.is_empty(),
            "left behind: {:?}",
            report.left
        );
        let _ = std::fs::remove_dir_all(&self.config.run_dir);
    }
}

/// Removes what tests that were killed left.
async fn reap_the_dead() {
    for entry in std::fs::read_dir("/run").unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next().map(str::to_owned));
        let Some(owner) = owner else { continue };
        if !std::path::Path::new("/proc").join(owner).exists() {
            let mut config = RuntimeConfig::new(&name, std::env::temp_dir().join(&name));
            config.run_dir = entry.path();
            Runtime::purge(&config, true).await;
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

pub(crate) fn revision(object: &Value) -> u64 {
    let text = object.str_at(&["metadata", "resourceVersion"]);
    text.unwrap().parse().unwrap()
}

pub(crate) fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a str> {
    let conditions = pod.items_at(&["status", "conditions"]);
    let found = conditions.iter().find(|c| c.str_at(&["type"]) == Some(kind));
    found?.str_at(&["status"])
}

static NONE: Value = Value::Null;

/// The status of a container, by its name; nothing at all before the agent has told of it.
pub(crate) fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    let all = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = all.iter().flat_map(|list| pod.items_at(&["status", list]));
    statuses
        .find(|status| status.str_at(&["name"]) == Some(name))
        .unwrap_or(&NONE)
}

/// A container `c` that runs a script.
pub(crate) fn shell(script: &str) -> Value {
    value!({"name": "c", "image": (IMAGE), "command": ["sh", "-c", (script)]})
}

/// Does nothing, and ends when it is told to.
pub(crate) const IDLE: &str = "trap 'exit 0' TERM; sleep 1000 & wait";

pub(crate) async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(
            tokio::time::Instant::now() < deadline,
            "waited in vain for {what}"
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Debian's static busybox, as `docker save` writes it.
fn busybox(name: &str, user: &str) -> Vec<u8> {
    let program = std::fs::read("/bin/busybox").expect("these tests need Debian's busybox-static");
    let mut layer = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    for folder in ["bin/", "etc/", "tmp/"] {
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        layer.append_data(&mut header, folder, &b""[..]).unwrap();
    }
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(program.len() as u64);
    layer
        .append_data(&mut header, "bin/busybox", &program[..])
        .unwrap();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    for name in "sh sleep cat ls rm touch echo false true id stat".split(' ') {
        layer
            .append_link(&mut header, format!("bin/{name}"), "busybox")
            .unwrap();
    }
    let layer = layer.into_inner().unwrap();
    let config = serde_json::json!({"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"], "User": user});
    cloudeck_testkit::image::docker_archive(name, &[layer], &config)
}
