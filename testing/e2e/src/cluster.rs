//! `cloudeck up` on a machine, and clients on the same machine.

use std::fs::File;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command};

use crate::run::{Done, run, run_with};
use crate::{HttpError, Machine, Terminal, eventually, get, image};

/// The instance's name: not the default, as on a machine with several.
const INSTANCE: &str = "e2e";
/// Where `up` keeps everything, on the machine's disk.
const DATA: &str = "data";

/// A running cluster.
pub struct Cluster {
    machine: Machine,
    flags: Vec<String>,
    daemon: Option<Child>,
}

impl Cluster {
    /// Starts one with an image to run, and waits until it is ready.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with further flags of `up`.
    pub fn start_with(flags: &[&str]) -> Self {
        let mut cluster = Self::stopped();
        cluster.flags = flags.iter().map(ToString::to_string).collect();
        cluster.up();
        cluster.import_image();
        cluster
    }

    /// A machine without anything on it.
    pub fn stopped() -> Self {
        Self {
            machine: Machine::start(),
            flags: Vec::new(),
            daemon: None,
        }
    }

    /// Imports [`image::BUSYBOX`].
    pub fn import_image(&self) {
        let archive = self.machine.disk().join("busybox.tar");
        std::fs::write(&archive, image::busybox()).unwrap();
        self.cloudeck(&["image", "import", archive.to_str().unwrap()])
            .ok();
    }

    /// The machine it is on.
    pub fn machine(&self) -> &Machine {
        &self.machine
    }

    /// Starts the daemon and waits until it says that it is ready.
    pub fn up(&mut self) {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log())
            .unwrap();
        let mark = log.metadata().unwrap().len() as usize;
        let mut command = self.command(&["up", "--log", "info"]);
        command
            .args(&self.flags)
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        eventually("the cluster to be ready", || {
            let text = std::fs::read(self.log()).unwrap();
            let text = String::from_utf8_lossy(&text[mark..]).into_owned();
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "`cloudeck up` ended with {ended:?}: {text}");
            if text.contains("The cluster is ready") {
                Ok(())
            } else {
                Err(text)
            }
        });
    }

    /// `kill -9`.
    pub fn kill_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let process = self.machine.process_of(&daemon);
        rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
        daemon.wait().unwrap();
    }

    /// Ends the daemon as Ctrl-C does.
    pub fn stop_daemon(&mut self) {
        let mut daemon = self.daemon.take().expect("the daemon runs");
        let process = self.machine.process_of(&daemon);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        assert!(daemon.wait().unwrap().success(), "the daemon did not end well");
    }

    /// Asks the daemon to end, as a service manager does, and leaves it to the caller to wait for that.
    pub fn ask_daemon_to_end(&mut self) -> Child {
        let daemon = self.daemon.take().expect("the daemon runs");
        let process = self.machine.process_of(&daemon);
        rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
        daemon
    }

    /// Everything ends at once, and the machine boots again. Nothing is started on it.
    pub fn lose_power(&mut self) {
        self.machine.lose_power_and_start();
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.wait();
        }
    }

    /// Runs `cloudeck` on the machine.
    pub fn cloudeck(&self, arguments: &[&str]) -> Done {
        run(&mut self.command(arguments))
    }

    /// `cloudeck` on the machine.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(shipped_binary());
        let data = self.data();
        command
            .args(arguments)
            .args(["--instance", INSTANCE, "--data-dir"])
            .arg(data);
        command
    }

    /// Runs kubectl with the words of `line`.
    pub fn kubectl(&self, line: &str) -> Done {
        self.kubectl_words(&line.split_ascii_whitespace().collect::<Vec<_>>())
    }

    /// Runs kubectl.
    pub fn kubectl_words(&self, words: &[&str]) -> Done {
        run(self.kubectl_command().args(words))
    }

    /// Runs kubectl with a text as its standard input.
    pub fn kubectl_with(&self, line: &str, stdin: &str) -> Done {
        run_with(
            self.kubectl_command().args(line.split_ascii_whitespace()),
            Some(stdin),
        )
    }

    /// Applies the objects of a text.
    pub fn apply(&self, yaml: &str) {
        self.kubectl_with("apply -f -", yaml).ok();
    }

    /// Starts kubectl at a terminal.
    pub fn kubectl_at_terminal(&self, words: &[&str]) -> Terminal {
        let mut command = self.kubectl_command();
        command.args(words);
        Terminal::start(command)
    }

    /// kubectl on the machine, as its administrator.
    pub fn kubectl_command(&self) -> Command {
        let kubectl = program("CLOUDECK_KUBECTL", || {
            let home = PathBuf::from(std::env::var_os("HOME").unwrap_or_default());
            home.join(".cache/cloudeck/kubectl-1.37.2")
        });
        let mut command = self.machine.command(kubectl);
        command.env("KUBECONFIG", self.kubeconfig());
        command
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join("kubeconfig")
    }

    /// Where `up` keeps everything.
    pub fn data(&self) -> PathBuf {
        self.machine.disk().join(DATA)
    }

    /// The names of the nftables tables on the machine.
    pub fn tables(&self) -> Vec<String> {
        let mut socket = cloudeck_net::nftables::NftSocket::open_in(&self.machine.network()).unwrap();
        socket.tables().unwrap()
    }

    /// One field of an object, or nothing when there is no such object.
    pub fn field(&self, what: &str, jsonpath: &str) -> String {
        let output = format!("jsonpath={jsonpath}");
        let words: Vec<&str> = ["get"]
            .into_iter()
            .chain(what.split(' '))
            .chain(["-o", &output])
            .collect();
        let done = self.kubectl_words(&words);
        if done.status.success() {
            done.stdout
        } else {
            String::new()
        }
    }

    /// Waits until a field of an object has a value.
    pub fn wait_for_field(&self, what: &str, jsonpath: &str, value: &str) {
        eventually(&format!("{what} to have {value:?} at {jsonpath}"), || {
            let found = self.field(what, jsonpath);
            if found == value {
                Ok(())
            } else {
                Err(format!("{found:?}"))
            }
        });
    }

    /// `GET /` from the machine itself.
    ///
    /// # Errors
    /// See [`get`].
    pub fn get(&self, address: Ipv4Addr, port: u16) -> Result<String, HttpError> {
        get(&self.machine.network(), address, port)
    }

    fn log(&self) -> PathBuf {
        self.machine.disk().join("up.log")
    }

    fn tell(&self) {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        eprintln!(
            "--- the end of the daemon's log\n{}",
            lines[lines.len().saturating_sub(60)..].join("\n")
        );
        if self.daemon.is_some() {
            for line in [
                "get pods -A -o wide",
                "get deploy,rs,svc,endpointslices -A",
                "get events -A",
            ] {
                let line = format!("{line} --request-timeout=5s");
                eprintln!("--- kubectl {line}\n{}", self.kubectl(&line));
            }
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.tell();
        }
        // The machine goes next, and all its processes with it; of a daemon, only the parent is here.
        if let Some(mut daemon) = self.daemon.take() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

/// The binary that is tested.
pub fn shipped_binary() -> PathBuf {
    program("CLOUDECK_BIN", || {
        let folder = std::env::current_exe()
            .unwrap()
            .parent()
            .and_then(|deps| Some(deps.parent()?.to_owned()));
        folder.unwrap().join("cloudeck")
    })
}

fn program(variable: &str, otherwise: impl Fn() -> PathBuf) -> PathBuf {
    let path = std::env::var_os(variable).map_or_else(otherwise, PathBuf::from);
    assert!(
        path.exists(),
        "{} does not exist; `cargo xtask test e2e` builds what is needed",
        path.display()
    );
    path
}
