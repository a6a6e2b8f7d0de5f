//! What the daemon asks for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use cloudeck_linux::{clone, fd, ns, pidfd, process, scm};

use super::children::{Container, Exec, Phase, Waiter};
use super::{Shim, log};
use crate::config::PidMode;
use crate::init::{self, Birth};
use crate::protocol::{
    ContainerReport, CreateSpec, ExecSpec, Failure, FromShim, Operation, Outcome, Request, send_packet,
};
use crate::status::{ContainerId, ContainerState};

fn refused(what: &str, error: &io::Error) -> Failure {
    Failure::Refused(format!("{what}: {error}"))
}

impl Shim {
    pub(super) fn on_request(&mut self, peer: u64, request: Request, fds: Vec<OwnedFd>) {
        let waiter = Waiter {
            peer,
            request: request.id,
        };
        let result = match request.operation {
            Operation::State => Ok(Some(self.state())),
            Operation::Create(spec) => self.create(waiter, spec),
            Operation::Start { container } => self.start_container(waiter, &container),
            Operation::Kill { container, signal } => self.kill(&container, signal),
            Operation::Remove { container } => Ok(self.remove(waiter, &container)),
            Operation::Exec(spec) => self.exec(waiter, spec, fds),
            Operation::KillExec { exec, signal } => self.kill_exec(exec, signal),
            Operation::Stop => Ok(self.stop(waiter)),
            Operation::Quit => {
                self.quit = true;
                Ok(Some(Outcome::Done))
            }
        };
        match result {
            Ok(Some(outcome)) => self.reply(waiter, outcome, Vec::new()),
            Ok(None) => {}
            Err(failure) => self.reply(waiter, Outcome::Failed(failure), Vec::new()),
        }
    }

    pub(super) fn reply(&mut self, waiter: Waiter, outcome: Outcome, fds: Vec<OwnedFd>) {
        if let Some(peer) = self.peer(waiter.peer) {
            peer.send_with(
                &FromShim::Reply {
                    id: waiter.request,
                    outcome,
                },
                fds,
            );
        }
    }

    fn state(&self) -> Outcome {
        let report = |container: &Container| {
            let state = match container.phase {
                Phase::SettingUp(_) => return None,
                Phase::Created => ContainerState::Created,
                Phase::Starting(_) | Phase::Running => ContainerState::Running,
                Phase::Exited(_) => ContainerState::Exited,
            };
            let exit = container.exit();
            Some(ContainerReport {
                container: container.id.clone(),
                state,
                pid: if exit.is_some() { 0 } else { container.pid },
                started_at_ns: container.started_at_ns,
                exit,
                degraded: container.degraded.clone(),
                user: container.user.clone(),
            })
        };
        Outcome::State {
            infra_alive: self.infra.is_some(),
            containers: self.containers.iter().filter_map(report).collect(),
        }
    }

    fn find(&mut self, id: &ContainerId) -> Result<&mut Container, Failure> {
        let found = self.containers.iter_mut().find(|container| container.id == *id);
        found.ok_or_else(|| Failure::State(format!("no container {id}")))
    }

    fn create(&mut self, waiter: Waiter, spec: CreateSpec) -> Result<Option<Outcome>, Failure> {
        if self
            .containers
            .iter()
            .any(|container| container.id == spec.container)
        {
            return Err(Failure::State(format!(
                "container {} is there already",
                spec.container
            )));
        }
        let dir = crate::spec::container_dir(&self.dir, spec.container.as_str());
        let log = spec.log_path.as_deref().map(log::open).transpose();
        let log = log.map_err(|error| refused("open the log", &error))?;
        let (sync, theirs) = scm::packet_pair().map_err(|error| refused("make a socket", &error))?;
        let pipes = Pipes::new(&spec).map_err(|error| refused("make pipes", &error))?;
        let infra = self
            .infra
            .as_ref()
            .ok_or_else(|| Failure::State("the sandbox is stopped".to_owned()))?;
        let shares_pids = self.spec.config.namespaces.pid == PidMode::Pod;
        let birth = Birth {
            sandbox: &self.spec,
            container_dir: &dir,
            infra: infra.pidfd.as_fd(),
            shim: theirs.as_fd(),
            stdio: pipes.theirs(),
        };
        let namespace = shares_pids.then(|| infra.pidfd.as_fd());
        let flags = init::clone_flags(&self.spec);
        let born = self.fork(namespace, flags, &spec.membership, || init::container(&birth))?;
        let (streams, stdin) = pipes.ours;
        fd::set_nonblocking(&sync).map_err(|error| refused("set up a socket", &error))?;
        let key = self.next_key;
        self.next_key += 1;
        self.containers.push(Container {
            key,
            id: spec.container,
            pid: born.0,
            pidfd: born.1,
            phase: Phase::SettingUp(waiter),
            sync: Some(sync),
            started_at_ns: 0,
            degraded: Vec::new(),
            user: None,
            membership: spec.membership,
            streams,
            _stdin: stdin,
            log,
            abandoned: false,
            removers: Vec::new(),
        });
        Ok(None)
    }

    /// Forks into the group and, if one is given, into the pid namespace of a process. The child runs `child`, and ends
    /// should that come back.
    fn fork(
        &self,
        namespace: Option<BorrowedFd<'_>>,
        flags: i32,
        membership: &crate::cgroup::Membership,
        child: impl FnOnce(),
    ) -> Result<(i32, OwnedFd), Failure> {
        let cgroup = membership.birth.as_ref().map(File::open).transpose();
        let cgroup = cgroup.map_err(|error| refused("open the cgroup", &error))?;
        if let Some(process) = namespace {
            // Takes effect for children only.
            ns::enter(process, libc::CLONE_NEWPID)
                .map_err(|error| refused("enter the pid namespace", &error))?;
        }
        let args = clone::CloneArgs {
            flags,
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
        };
        // SAFETY: the shim has one thread; the child never returns from `child`.
        let forked = unsafe { clone::fork(args) };
        if matches!(forked, Ok(clone::Forked::Child)) {
            child();
            process::exit_now(1);
        }
        if namespace.is_some() {
            let back = ns::enter(&self.own_pid_namespace, libc::CLONE_NEWPID);
            back.expect("a process may always go back to its own pid namespace");
        }
        match forked {
            Ok(clone::Forked::Parent { pid, pidfd }) => Ok((pid, pidfd)),
            Ok(clone::Forked::Child) => unreachable!("the child does not come back"),
            Err(error) => Err(refused("start a process", &error)),
        }
    }

    fn start_container(&mut self, waiter: Waiter, id: &ContainerId) -> Result<Option<Outcome>, Failure> {
        let container = self.find(id)?;
        let (Phase::Created, Some(sync)) = (&container.phase, &container.sync) else {
            return Err(Failure::State(format!(
                "container {id} is not waiting to be started"
            )));
        };
        send_packet(sync, &(), &[]).map_err(|error| refused("start the container", &error))?;
        container.phase = Phase::Starting(waiter);
        Ok(None)
    }

    fn kill(&mut self, id: &ContainerId, signal: i32) -> Result<Option<Outcome>, Failure> {
        let container = self.find(id)?;
        if container.exit().is_some() {
            return Err(Failure::State(format!("container {id} has ended")));
        }
        pidfd::send_signal(&container.pidfd, signal).map_err(|error| refused("send a signal", &error))?;
        Ok(Some(Outcome::Done))
    }

    fn remove(&mut self, waiter: Waiter, id: &ContainerId) -> Option<Outcome> {
        let Ok(container) = self.find(id) else {
            return Some(Outcome::Done);
        };
        if container.exit().is_none() {
            let _ = pidfd::send_signal(&container.pidfd, libc::SIGKILL);
            container.removers.push(waiter);
            return None;
        }
        self.containers.retain(|container| container.id != *id);
        Some(Outcome::Done)
    }

    fn exec(
        &mut self,
        waiter: Waiter,
        spec: ExecSpec,
        fds: Vec<OwnedFd>,
    ) -> Result<Option<Outcome>, Failure> {
        let dir = crate::spec::container_dir(&self.dir, spec.container.as_str());
        let container = self
            .containers
            .iter()
            .find(|container| container.id == spec.container);
        let container =
            container.ok_or_else(|| Failure::State(format!("no container {}", spec.container)))?;
        if !matches!(container.phase, Phase::Running) {
            return Err(Failure::State(format!(
                "container {} is not running",
                spec.container
            )));
        }
        let infra = self
            .infra
            .as_ref()
            .ok_or_else(|| Failure::State("the sandbox is stopped".to_owned()))?;
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = OwnedFd::from(null.map_err(|error| refused("open /dev/null", &error))?);
        let (sync, theirs) = scm::packet_pair().map_err(|error| refused("make a socket", &error))?;
        let mut given = fds.iter();
        let streams = spec.streams.map(|present| {
            let fd = if present { given.next() } else { None };
            fd.unwrap_or(&null).as_fd()
        });
        let birth = Birth {
            sandbox: &self.spec,
            container_dir: &dir,
            infra: infra.pidfd.as_fd(),
            shim: theirs.as_fd(),
            stdio: Some(streams),
        };
        let target = container.pidfd.as_fd();
        let child = || init::exec::exec(&birth, target, &spec);
        let (pid, pidfd) = self.fork(Some(target), 0, &container.membership, child)?;
        fd::set_nonblocking(&sync).map_err(|error| refused("set up a socket", &error))?;
        self.execs.push(Exec {
            exec: spec.exec,
            pid,
            pidfd,
            sync: Some(sync),
            waiter: Some(waiter),
            peer: waiter.peer,
            terminal: Vec::new(),
        });
        Ok(None)
    }

    fn kill_exec(&mut self, exec: u64, signal: i32) -> Result<Option<Outcome>, Failure> {
        let found = self.execs.iter().find(|known| known.exec == exec);
        let found = found.ok_or_else(|| Failure::State("the process has ended".to_owned()))?;
        pidfd::send_signal(&found.pidfd, signal).map_err(|error| refused("send a signal", &error))?;
        Ok(Some(Outcome::Done))
    }

    fn stop(&mut self, waiter: Waiter) -> Option<Outcome> {
        let Some(infra) = &self.infra else {
            return Some(Outcome::Done);
        };
        let _ = pidfd::send_signal(&infra.pidfd, libc::SIGTERM);
        self.stopping
            .get_or_insert_default()
            .push((waiter.peer, waiter.request));
        None
    }
}

/// The ends of the standard streams of a container.
struct Pipes {
    theirs: Option<[OwnedFd; 3]>,
    ours: (Vec<log::Stream>, Option<OwnedFd>),
}

impl Pipes {
    fn new(config: &CreateSpec) -> io::Result<Self> {
        if config.tty {
            return Ok(Self {
                theirs: None,
                ours: (Vec::new(), None),
            });
        }
        let null = || {
            File::options()
                .read(true)
                .write(true)
                .open("/dev/null")
                .map(OwnedFd::from)
        };
        let (stdin, stdin_end) = if config.stdin {
            let (read, write) = fd::pipe()?;
            (read, Some(write))
        } else {
            (null()?, None)
        };
        if config.log_path.is_none() {
            return Ok(Self {
                theirs: Some([stdin, null()?, null()?]),
                ours: (Vec::new(), stdin_end),
            });
        }
        let (out, out_end) = fd::pipe()?;
        let (err, err_end) = fd::pipe()?;
        fd::set_nonblocking(&out)?;
        fd::set_nonblocking(&err)?;
        let streams = vec![log::Stream::new(out, "stdout"), log::Stream::new(err, "stderr")];
        Ok(Self {
            theirs: Some([stdin, out_end, err_end]),
            ours: (streams, stdin_end),
        })
    }

    fn theirs(&self) -> Option<[BorrowedFd<'_>; 3]> {
        self.theirs
            .as_ref()
            .map(|fds| [fds[0].as_fd(), fds[1].as_fd(), fds[2].as_fd()])
    }
}
