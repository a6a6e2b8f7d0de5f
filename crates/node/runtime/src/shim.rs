//! The shim: one per sandbox, parent of its infra process and containers.
//!
//! One thread, one `poll`, no deadline that it keeps itself: the daemon decides, the shim does and reports. It survives
//! the daemon; requests that are under way when a daemon goes away are finished, and their answers dropped.
//!
//! State machine of a container: *setting up* → *created* → *starting* → *running* → *exited*. An end is written down
//! durably before anybody hears of it. [`Shim::turn`] is the loop; `requests` does what the daemon asks for, `children`
//! what follows from what processes do.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use cloudeck_linux::{clone, fd, process, scm, signal};

use crate::exits::ExitLog;
use crate::protocol::{FromInit, FromShim, receive_packet};
use crate::spec::{SandboxSpec, ShimRecord, VERSION};

mod children;
mod log;
mod peer;
mod requests;

use children::{Container, Exec};
use peer::Peer;

/// The descriptor as which the daemon passes the first connection: standard input, because a spawn that passes no other
/// needs no copy of the daemon's page tables.
const FIRST_CONNECTION: i32 = 0;

/// Nobody ends a shim but by SIGKILL.
pub(crate) const IGNORED: [i32; 5] = [
    libc::SIGPIPE,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGTERM,
    libc::SIGQUIT,
];

/// Everything that the shim knows.
struct Shim {
    dir: PathBuf,
    spec: SandboxSpec,
    signals: OwnedFd,
    listener: UnixListener,
    /// `None` once it has ended.
    infra: Option<Infra>,
    infra_pid: i32,
    /// Its end was asked for; who waits for it: (peer, request).
    stopping: Option<Vec<(u64, u64)>>,
    peers: Vec<Peer>,
    containers: Vec<Container>,
    execs: Vec<Exec>,
    exits: ExitLog,
    /// To come back from a container's.
    own_pid_namespace: File,
    next_key: u64,
    quit: bool,
}

struct Infra {
    pidfd: OwnedFd,
}

/// What a descriptor in the poll set belongs to.
#[derive(Clone, Copy)]
enum Source {
    Signals,
    Listener,
    Peer(u64),
    ContainerSync(u64),
    ExecSync(u64),
    Output(u64, usize),
}

/// Becomes the shim of the sandbox whose directory is the second argument. Returns the exit code.
///
/// To be called first thing in `main`, before any thread is started, when the first argument is [`crate::SHIM_WORD`].
pub fn shim_main() -> i32 {
    let Some(dir) = std::env::args_os().nth(2).map(PathBuf::from) else {
        return 2;
    };
    // What the daemon has open is no business of ours, nor of the containers.
    if fd::close_from(3).is_err() {
        return 2;
    }
    let Ok(connection) = fd::duplicate(FIRST_CONNECTION) else {
        return 2;
    };
    let connection = UnixStream::from(connection);
    let mut shim = match Shim::start(&dir) {
        Ok(shim) => shim,
        Err(error) => {
            let _ = peer::send_now(&connection, &FromShim::Failed(error));
            return 1;
        }
    };
    let _ = shim.greet(connection);
    if shim.peers.iter().all(Peer::is_closed) {
        // The daemon died before it could hear of this sandbox: nobody waits for it. The infra process goes along.
        return 1;
    }
    while !shim.quit {
        if shim.turn().is_err() {
            return 1;
        }
    }
    let _ = std::fs::remove_file(&shim.spec.socket);
    0
}

/// Names a step of the start.
fn at<T>(what: &str, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("{what}: {error}"))
}

impl Shim {
    fn start(dir: &Path) -> Result<Self, String> {
        at("start a session", process::new_session())?;
        let spec: SandboxSpec = at(
            "read sandbox.json",
            crate::spec::read(&dir.join(crate::spec::SANDBOX_FILE)),
        )?;
        at("leave the daemon behind", leave_daemon(&spec))?;
        let own_pid_namespace = at("open own pid namespace", File::open("/proc/self/ns/pid"))?;
        let signals = at("take signals", signal::descriptor(&[libc::SIGCHLD]))?;
        let (infra, infra_pid) = start_infra(&spec)?;
        if let Some(path) = &spec.netns {
            at("pin the network namespace", pin_namespace(infra_pid, path))?;
        }
        let exits = at(
            "open the list of exits",
            ExitLog::open(&dir.join(crate::spec::EXITS_FILE)),
        )?;
        let _ = std::fs::remove_file(&spec.socket);
        let listener = at("listen", UnixListener::bind(&spec.socket))?;
        at("listen", listener.set_nonblocking(true))?;
        at("write shim.json", write_record(dir, infra_pid))?;
        Ok(Self {
            dir: dir.to_owned(),
            spec,
            signals,
            listener,
            infra: Some(infra),
            infra_pid,
            stopping: None,
            peers: Vec::new(),
            containers: Vec::new(),
            execs: Vec::new(),
            exits,
            own_pid_namespace,
            next_key: 1,
            quit: false,
        })
    }

    /// Waits for something to happen and deals with it.
    fn turn(&mut self) -> io::Result<()> {
        let (mut entries, sources) = self.poll_set();
        // SAFETY: pointer and length describe the entries.
        let ready = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, -1) };
        if ready < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::Interrupted {
                Ok(())
            } else {
                Err(error)
            };
        }
        for (entry, source) in entries.iter().zip(sources) {
            if entry.revents != 0 {
                self.handle(source, entry.revents);
            }
        }
        self.peers.retain(|peer| !peer.is_closed());
        Ok(())
    }

    fn poll_set(&self) -> (Vec<libc::pollfd>, Vec<Source>) {
        let (mut entries, mut sources) = (Vec::new(), Vec::new());
        let mut add = |fd: &dyn AsRawFd, events: i16, source: Source| {
            entries.push(libc::pollfd {
                fd: fd.as_raw_fd(),
                events,
                revents: 0,
            });
            sources.push(source);
        };
        // What processes say comes before their end: a program's last words, a failed exec's reason.
        for container in &self.containers {
            if let Some(sync) = &container.sync {
                add(sync, libc::POLLIN, Source::ContainerSync(container.key));
            }
            for (index, stream) in container.streams.iter().enumerate() {
                add(&stream.fd, libc::POLLIN, Source::Output(container.key, index));
            }
        }
        for exec in &self.execs {
            if let Some(sync) = &exec.sync {
                add(sync, libc::POLLIN, Source::ExecSync(exec.exec));
            }
        }
        add(&self.signals, libc::POLLIN, Source::Signals);
        add(&self.listener, libc::POLLIN, Source::Listener);
        for peer in &self.peers {
            let out = if peer.has_output() { libc::POLLOUT } else { 0 };
            add(&peer.stream, libc::POLLIN | out, Source::Peer(peer.key));
        }
        (entries, sources)
    }

    fn handle(&mut self, source: Source, events: i16) {
        match source {
            Source::ContainerSync(key) => self.on_container_sync(key),
            Source::ExecSync(exec) => self.on_exec_sync(exec),
            Source::Output(key, index) => self.on_output(key, index),
            Source::Signals => {
                while signal::next(&self.signals).is_some() {}
                while let Some(ended) = process::reap_one() {
                    self.on_end(ended);
                }
            }
            Source::Listener => {
                if let Ok((stream, _)) = self.listener.accept() {
                    let _ = self.greet(stream);
                }
            }
            Source::Peer(key) => self.on_peer(key, events),
        }
    }

    /// Takes a daemon's connection on.
    fn greet(&mut self, stream: UnixStream) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        let mut peer = Peer::new(self.next_key, stream);
        self.next_key += 1;
        peer.send(&FromShim::Hello {
            version: VERSION,
            sandbox: self.spec.id.clone(),
            pid: std::process::id() as i32,
            infra_pid: self.infra_pid,
        });
        self.peers.push(peer);
        Ok(())
    }

    fn on_peer(&mut self, key: u64, events: i16) {
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.key == key) else {
            return;
        };
        if events & libc::POLLOUT != 0 {
            peer.flush();
        }
        if events & (libc::POLLIN | libc::POLLHUP | libc::POLLERR) == 0 {
            return;
        }
        let requests = peer.receive();
        for (request, fds) in requests {
            self.on_request(key, request, fds);
        }
    }

    fn broadcast(&mut self, message: &FromShim) {
        for peer in &mut self.peers {
            peer.send(message);
        }
    }

    fn peer(&mut self, key: u64) -> Option<&mut Peer> {
        self.peers.iter_mut().find(|peer| peer.key == key)
    }
}

/// Cuts what would tie the shim to the daemon that started it, or show it to those that it starts.
fn leave_daemon(spec: &SandboxSpec) -> io::Result<()> {
    spec.shim_cgroup.enter()?;
    for ignored in IGNORED {
        signal::ignore(ignored);
    }
    process::set_dumpable(false)?;
    process::become_subreaper()?;
    process::set_name("cloudeck-shim")?;
    std::env::set_current_dir("/")?;
    process::set_umask(0o022);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for number in 0..3 {
        fd::install_stdio(&null, number)?;
    }
    Ok(())
}

fn start_infra(spec: &SandboxSpec) -> Result<(Infra, i32), String> {
    let (ours, theirs) = at("make a socket", scm::packet_pair())?;
    let args = clone::CloneArgs {
        flags: crate::init::infra::clone_flags(spec),
        cgroup: None,
    };
    // SAFETY: the shim has one thread; the child never returns from `infra`.
    let (pid, pidfd) = match unsafe { clone::fork(args) } {
        Ok(clone::Forked::Child) => crate::init::infra::infra(spec, theirs.as_fd()),
        Ok(clone::Forked::Parent { pid, pidfd }) => (pid, pidfd),
        Err(error) => return Err(format!("start the infra process: {error}")),
    };
    drop(theirs);
    match receive_packet::<FromInit>(&ours, &mut Vec::new()) {
        Ok(Some(FromInit::Ready { .. })) => {
            // It closes its end with everything else that it has open; only then is it what it shall be.
            let _ = receive_packet::<FromInit>(&ours, &mut Vec::new());
            Ok((Infra { pidfd }, pid))
        }
        Ok(Some(FromInit::Failed(failure))) => Err(match failure {
            crate::protocol::Failure::Refused(text) | crate::protocol::Failure::State(text) => text,
            crate::protocol::Failure::Start(error) => error.to_string(),
        }),
        Ok(None) => Err("the infra process ended while it was set up".to_owned()),
        Err(error) => Err(format!("hear from the infra process: {error}")),
    }
}

/// Keeps the network namespace of the process alive under a name.
fn pin_namespace(pid: i32, path: &Path) -> io::Result<()> {
    File::create(path)?;
    cloudeck_linux::mount::bind(format!("/proc/{pid}/ns/net"), path)
}

fn write_record(dir: &Path, infra_pid: i32) -> io::Result<()> {
    let pid = std::process::id() as i32;
    let record = ShimRecord {
        version: VERSION,
        boot_id: process::boot_id()?,
        pid,
        start_time: process::start_time(pid)?,
        infra_pid,
    };
    crate::spec::write(&dir.join(crate::spec::SHIM_FILE), &record)
}
