//! An instance of the runtime for one test, with an image to run.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use cloudeck_runtime::{
    ContainerConfig, ContainerId, ContainerStatus, Resources, Rootfs, Runtime, RuntimeConfig, SandboxConfig,
    SandboxId,
};
use cloudeck_task::Scope;

/// Far longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the names of all directories of these tests begin with; the number of the test process follows.
const PREFIX: &str = "ckrt-";

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) struct Lab {
    pub(crate) config: RuntimeConfig,
    pub(crate) runtime: Option<Runtime>,
    pub(crate) scope: Scope,
    dir: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        reap_the_dead().await;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir = tempfile::Builder::new().prefix(&prefix).tempdir().unwrap();
        let instance = format!("rt-{}-{number}", std::process::id());
        let mut config = RuntimeConfig::new(&instance, dir.path().join("state"));
        config.run_dir = PathBuf::from(format!("/run/{PREFIX}{}-{number}", std::process::id()));
        config.shim_exe = PathBuf::from(env!("CARGO_BIN_EXE_cloudeck-shimhost"));
        make_image(&dir.path().join("image"));
        let scope = Scope::root("test");
        let runtime = Some(Runtime::open(config.clone(), &scope).await.unwrap());
        Self {
            config,
            runtime,
            scope,
            dir,
        }
    }

    pub(crate) fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("the daemon runs")
    }

    /// What is left of a daemon after `kill -9`: nothing.
    pub(crate) async fn kill_daemon(&mut self) {
        self.runtime = None;
        self.scope.shutdown(PATIENCE).await;
    }

    pub(crate) async fn start_daemon(&mut self) {
        self.scope = Scope::root("test");
        self.runtime = Some(Runtime::open(self.config.clone(), &self.scope).await.unwrap());
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A pod of its own name.
    pub(crate) fn pod() -> SandboxConfig {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        SandboxConfig {
            hostname: Some("pod".to_owned()),
            cgroup_parent: format!("pods/pod{number}"),
            ..SandboxConfig::default()
        }
    }

    pub(crate) async fn sandbox(&self) -> SandboxId {
        self.runtime().run_pod_sandbox(Self::pod()).await.unwrap().id
    }

    /// A container that runs `script` in a shell, with a log.
    pub(crate) fn shell(&self, script: &str) -> ContainerConfig {
        self.program(&["/bin/sh", "-c", script])
    }

    pub(crate) fn program(&self, argv: &[&str]) -> ContainerConfig {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ContainerConfig {
            argv: argv.iter().map(ToString::to_string).collect(),
            rootfs: Rootfs {
                lowers: vec![self.path("image")],
                upper: self.path(&format!("c{number}/upper")),
                work: self.path(&format!("c{number}/work")),
                readonly: false,
            },
            log_path: Some(self.path(&format!("c{number}/log"))),
            resources: Resources {
                pids_limit: Some(200),
                ..Resources::default()
            },
            ..ContainerConfig::default()
        }
    }

    /// Creates and starts.
    pub(crate) async fn start(&self, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
        let id = self.runtime().create_container(sandbox, config).await.unwrap();
        self.runtime().start_container(&id).await.unwrap();
        id
    }

    /// Runs to the end, in a sandbox of its own; returns what it wrote and how it ended.
    pub(crate) async fn run(&self, config: ContainerConfig) -> (String, ContainerStatus) {
        let sandbox = self.sandbox().await;
        self.run_in(&sandbox, config).await
    }

    pub(crate) async fn run_in(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> (String, ContainerStatus) {
        let log = config.log_path.clone();
        let id = self.start(sandbox, config).await;
        let status = self.ended(&id).await;
        (log.map(|log| output(&log)).unwrap_or_default(), status)
    }

    pub(crate) async fn ended(&self, id: &ContainerId) -> ContainerStatus {
        within("the container's end", self.runtime().wait_container(id))
            .await
            .unwrap();
        self.runtime().container_status(id).unwrap()
    }

    /// Waits until the container has written a line with `text` in it.
    pub(crate) async fn wrote(&self, id: &ContainerId, text: &str) {
        let log = self
            .runtime()
            .container_status(id)
            .unwrap()
            .config
            .log_path
            .unwrap();
        within(text, async {
            while !output(&log).contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}

/// Removes what test processes have left that were killed half-way.
async fn reap_the_dead() {
    static DONE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    DONE.get_or_init(async || {
        for (path, rest) in leftovers(Path::new("/run")) {
            let mut config = RuntimeConfig::new(&format!("rt-{rest}"), "/nowhere");
            config.run_dir = path;
            let _ = Runtime::purge(&config, false).await;
        }
        for (path, _) in leftovers(&std::env::temp_dir()) {
            let _ = std::fs::remove_dir_all(path);
        }
    })
    .await;
}

/// The directories in `dir` whose process is gone, and what their names say after the prefix.
fn leftovers(dir: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(rest) = name.strip_prefix(PREFIX) else {
            continue;
        };
        let pid = rest.split('-').next().and_then(|pid| pid.parse::<u32>().ok());
        if pid.is_some_and(|pid| !is_alive(pid)) {
            found.push((entry.path(), rest.to_owned()));
        }
    }
    found
}

/// A zombie is not: whoever should reap it may take its time.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.runtime = None;
        self.scope.request_shutdown();
        let config = self.config.clone();
        let purge = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(Runtime::purge(&config, true))
        });
        let report = purge.join().unwrap();
        assert!(
            std::thread::panicking() || report.left.is_empty(),
            "left behind: {:?}",
            report.left
        );
    }
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// The text of a log, without times and marks, standard output and error alike.
pub(crate) fn output(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines = text.lines().filter_map(|line| {
        let mut fields = line.splitn(4, ' ');
        let (_, stream, tag) = (fields.next()?, fields.next()?, fields.next()?);
        assert!(
            matches!((stream, tag), ("stdout" | "stderr", "F" | "P")),
            "{line}"
        );
        Some(format!("{}\n", fields.next()?))
    });
    lines.collect()
}

fn make_image(root: &Path) {
    for dir in ["bin", "etc", "tmp", "root"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
    }
    let busybox = Path::new("/bin/busybox");
    assert!(busybox.exists(), "these tests need Debian's busybox-static");
    std::fs::copy(busybox, root.join("bin/busybox")).unwrap();
    let commands = "sh cat echo ls id sleep true false grep hostname mount touch mkdir ps kill env pwd readlink dd nc \
                    stat wc head tail tr seq unshare chroot mknod ip ln stty test trap od umount rm tty";
    for name in commands.split_ascii_whitespace() {
        let _ = std::os::unix::fs::symlink("busybox", root.join("bin").join(name));
    }
    std::fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34::/tmp:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(root.join("etc/group"), "root:x:0:\nweb:x:34:\nlogs:x:50:web\n").unwrap();
}
