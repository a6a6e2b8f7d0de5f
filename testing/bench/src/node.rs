//! A machine of its own with the product on it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use cloudeck_e2e::{Machine, image};

use crate::api::Api;
use crate::processes;

const INSTANCE: &str = "bench";

/// A machine, and `cloudeck up` on it. Dropped, it is gone.
pub(crate) struct Node {
    machine: Machine,
    program: PathBuf,
    daemon: Option<Child>,
}

impl Node {
    /// A machine with the test image and nothing else.
    pub(crate) fn new(program: &Path) -> Result<Self> {
        let node = Self {
            machine: Machine::start(),
            program: program.to_owned(),
            daemon: None,
        };
        let archive = node.machine.disk().join("busybox.tar");
        std::fs::write(&archive, image::busybox())?;
        let mut import = node.cloudeck(&["image", "import"]);
        let done = import.arg(&archive).output().context("import the image")?;
        ensure!(
            done.status.success(),
            "the import failed: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        Ok(node)
    }

    /// The same, running.
    pub(crate) fn started(program: &Path) -> Result<Self> {
        let mut node = Self::new(program)?;
        node.up()?;
        node.run(async |api: Api| {
            api.namespace("default").await?;
            crate::start::node_ready(&api).await
        })?;
        Ok(node)
    }

    /// Starts the daemon. The time it was started.
    pub(crate) fn up(&mut self) -> Result<Instant> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = self.cloudeck(&["up"]);
        command.stdout(log.try_clone()?).stderr(log);
        let begin = Instant::now();
        self.daemon = Some(command.spawn().context("start cloudeck")?);
        Ok(begin)
    }

    /// Everything ends at once, and the machine boots again without anything on it.
    pub(crate) fn lose_power(&mut self) {
        self.machine.lose_power_and_start();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
    }

    /// Does something on the machine's network, on one thread.
    pub(crate) fn run<T: Send>(&mut self, work: impl AsyncFnOnce(Api) -> Result<T> + Send) -> Result<T> {
        let kubeconfig = self.data().join("kubeconfig");
        // The daemon writes it when it serves. Nothing tells of that but the file itself.
        let deadline = Instant::now() + Duration::from_secs(30);
        while !kubeconfig.exists() {
            if let Some(status) = self
                .daemon
                .as_mut()
                .and_then(|daemon| daemon.try_wait().ok().flatten())
            {
                bail!("`cloudeck up` ended with {status}: {}", self.tail());
            }
            ensure!(
                Instant::now() < deadline,
                "no kubeconfig appeared: {}",
                self.tail()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
        let api = Api::of(&kubeconfig)?;
        let worked = self.machine.network().run(|| {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(work(api))
        });
        let worked = worked.context("enter the machine's network")?;
        worked.map_err(|error| anyhow::anyhow!("{error:#}; the log ends with {:?}", self.tail()))
    }

    /// A command of ours on the machine.
    pub(crate) fn cloudeck(&self, words: &[&str]) -> Command {
        let mut command = self.machine.command(&self.program);
        command
            .args(["--instance", INSTANCE, "--data-dir"])
            .arg(self.data())
            .args(words);
        command
    }

    /// All its processes that are ours; the daemon's is the first.
    pub(crate) fn processes(&self) -> Result<Vec<u32>> {
        let daemon = self.daemon();
        let mut pids = processes::ours(&self.machine, daemon)?;
        pids.sort_by_key(|pid| *pid != daemon);
        Ok(pids)
    }

    /// What its processes have used of the processors so far.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        Ok(Duration::from_nanos(processes::processor_time(
            &self.processes()?,
        )))
    }

    fn daemon(&self) -> u32 {
        let daemon = self.daemon.as_ref().expect("it was started");
        self.machine
            .process_of(daemon)
            .as_raw_nonzero()
            .get()
            .unsigned_abs()
    }

    fn data(&self) -> PathBuf {
        self.machine.disk().join("data")
    }

    fn log(&self) -> PathBuf {
        self.machine.disk().join("up.log")
    }

    /// The end of the daemon's log.
    fn tail(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let from = text.char_indices().rev().nth(600).map_or(0, |(at, _)| at);
        text[from..].to_owned()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut daemon) = self.daemon.take() {
            let process = self.machine.process_of(&daemon);
            let _ = rustix::process::kill_process(process, rustix::process::Signal::KILL);
            let _ = daemon.wait();
        }
    }
}
