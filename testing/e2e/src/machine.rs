//! A machine of its own: namespaces and control groups, with a disk that outlives it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use cloudeck_net::NetNamespace;

use crate::eventually;
use crate::leftovers::{self, Disk};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A running machine. Dropped, it loses power: everything in it ends at once.
pub struct Machine {
    name: String,
    disk: Disk,
    power: Option<Power>,
}

/// What keeps it running.
struct Power {
    outer: Child,
    /// Its end is the machine's end, even when this process is killed.
    _stdin: ChildStdin,
    pid: u32,
}

impl Machine {
    /// Switches a new machine on.
    pub fn start() -> Self {
        let name = format!(
            "{}{}-{}",
            leftovers::PREFIX,
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let disk = Disk::create(&name);
        let script = disk.path().join("machine.sh");
        std::fs::write(&script, include_str!("machine.sh")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut machine = Self {
            name,
            disk,
            power: None,
        };
        machine.switch_on();
        machine
    }

    /// What is here survives the loss of power.
    pub fn disk(&self) -> &Path {
        self.disk.path()
    }

    /// Its host name, and that of its control groups on the host.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Ends everything in it, and starts it anew with the same disk.
    pub fn lose_power_and_start(&mut self) {
        self.switch_off();
        self.switch_on();
    }

    fn switch_on(&mut self) {
        let script = self.disk.path().join("machine.sh");
        // A shell gives background programs an empty standard input, so the pipe goes in a second time as 3.
        let mut outer = Command::new("/bin/sh")
            .args(["-c", "exec \"$0\" \"$1\" 3<&0"])
            .arg(&script)
            .arg(&self.name)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(self.disk.path().join("machine.log")).unwrap())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(
            line, "ready\n",
            "the machine did not start: needs root, util-linux and busybox-static"
        );
        let pid = only_child(outer.id()).expect("the machine has a first process");
        self.power = Some(Power {
            _stdin: outer.stdin.take().unwrap(),
            outer,
            pid,
        });
    }

    fn switch_off(&mut self) {
        let Some(mut power) = self.power.take() else {
            return;
        };
        let first = rustix::process::Pid::from_raw(power.pid as i32).unwrap();
        let _ = rustix::process::kill_process(first, rustix::process::Signal::KILL);
        let _ = power.outer.wait();
        // The group is empty once the kernel has done with the last of them.
        eventually("the end of all processes of the machine", || {
            leftovers::remove_groups(&self.name)
        });
    }

    fn pid(&self) -> u32 {
        self.power.as_ref().expect("it is switched on").pid
    }

    /// A command to be run on the machine.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let pid = self.pid().to_string();
        command
            .args([
                "--target", &pid, "--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--",
            ])
            .arg(program);
        command
            .env_remove("KUBECONFIG")
            .env("HOME", self.disk.path())
            .stdin(Stdio::null());
        command
    }

    /// The process that a command became, as seen from here: `nsenter` is only its parent.
    pub fn process_of(&self, child: &Child) -> rustix::process::Pid {
        let pid = eventually("a process on the machine", || {
            only_child(child.id()).ok_or_else(String::new)
        });
        rustix::process::Pid::from_raw(pid as i32).unwrap()
    }

    /// Its network, to open sockets in.
    pub fn network(&self) -> NetNamespace {
        NetNamespace::open(&PathBuf::from(format!("/proc/{}/ns/net", self.pid()))).unwrap()
    }

    /// Runs a shell script on it and returns what it wrote.
    pub fn shell(&self, script: &str) -> String {
        let mut command = self.command("/bin/sh");
        crate::run(command.args(["-c", script])).ok()
    }

    /// A file on the machine, as seen from here.
    pub fn path(&self, absolute: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{absolute}", self.pid()))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.switch_off();
    }
}

fn only_child(pid: u32) -> Option<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    children.split_ascii_whitespace().next()?.parse().ok()
}
