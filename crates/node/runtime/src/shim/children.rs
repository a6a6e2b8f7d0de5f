//! What follows from what the processes do: report, start, write, end.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use cloudeck_linux::process::Ended;
use cloudeck_linux::{fd, pidfd, process};

use super::{Shim, log};
use crate::cgroup::{Membership, oom_kills};
use crate::config::PidMode;
use crate::exits::ExitRecord;
use crate::protocol::{Failure, FromInit, FromShim, Outcome, receive_packet};
use crate::status::{ContainerId, Exit, RunsAs};

/// Whom to answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waiter {
    pub(super) peer: u64,
    pub(super) request: u64,
}

/// Where a container is in its life.
pub(super) enum Phase {
    SettingUp(Waiter),
    Created,
    Starting(Waiter),
    Running,
    Exited(Exit),
}

pub(super) struct Container {
    /// Its name in the poll set; a pid could come twice.
    pub(super) key: u64,
    pub(super) id: ContainerId,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) phase: Phase,
    /// Open until the program runs.
    pub(super) sync: Option<OwnedFd>,
    pub(super) started_at_ns: i64,
    pub(super) degraded: Vec<String>,
    pub(super) user: Option<RunsAs>,
    pub(super) membership: Membership,
    pub(super) streams: Vec<log::Stream>,
    /// Held open so that a program that reads waits rather than ends.
    pub(super) _stdin: Option<OwnedFd>,
    pub(super) log: Option<File>,
    /// It could not be set up: forgotten as soon as it has ended.
    pub(super) abandoned: bool,
    pub(super) removers: Vec<Waiter>,
}

impl Container {
    pub(super) fn exit(&self) -> Option<Exit> {
        if let Phase::Exited(exit) = self.phase {
            Some(exit)
        } else {
            None
        }
    }
}

/// A further process in a container.
pub(super) struct Exec {
    pub(super) exec: u64,
    pub(super) pid: i32,
    pub(super) pidfd: OwnedFd,
    pub(super) sync: Option<OwnedFd>,
    /// Who waits for it to run; `None` once it does.
    pub(super) waiter: Option<Waiter>,
    /// Who hears of its end.
    pub(super) peer: u64,
    pub(super) terminal: Vec<OwnedFd>,
}

/// The most that can be unheard of a process when it ends: that it was ready, that it failed, that it closed its end.
const LAST_WORDS: u32 = 3;

/// What there is to hear from a process that is being set up.
enum Heard {
    Nothing,
    Message(FromInit),
    /// Its end is closed: it runs the program, or has ended.
    Closed,
}

fn hear(sync: &OwnedFd, fds: &mut Vec<OwnedFd>) -> Heard {
    match receive_packet(sync, fds) {
        Ok(Some(message)) => Heard::Message(message),
        Ok(None) => Heard::Closed,
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Heard::Nothing,
        Err(error) => Heard::Message(FromInit::Failed(Failure::Refused(format!(
            "hear from the process: {error}"
        )))),
    }
}

impl Shim {
    /// A container that is being set up or started has something to say, or has closed its end: the program runs.
    pub(super) fn on_container_sync(&mut self, key: u64) {
        let Some(container) = self.containers.iter_mut().find(|container| container.key == key) else {
            return;
        };
        let pid = container.pid;
        let Some(sync) = &container.sync else { return };
        let mut fds = Vec::new();
        let heard = hear(sync, &mut fds);
        let (waiter, outcome) = match (heard, &container.phase) {
            (Heard::Nothing, _) => return,
            (Heard::Message(FromInit::Ready { degraded, user }), Phase::SettingUp(waiter)) => {
                let waiter = *waiter;
                container.phase = Phase::Created;
                container.degraded.clone_from(&degraded);
                container.user.clone_from(&user);
                if let Some(master) = fds.pop() {
                    let _ = fd::set_nonblocking(&master);
                    container.streams.push(log::Stream::new(master, "stdout"));
                }
                (waiter, Outcome::Pid { pid, degraded, user })
            }
            (Heard::Message(FromInit::Failed(failure)), Phase::SettingUp(waiter)) => {
                container.abandoned = true;
                container.sync = None;
                (*waiter, Outcome::Failed(failure))
            }
            (Heard::Message(FromInit::Failed(failure)), Phase::Starting(waiter)) => {
                let waiter = *waiter;
                container.phase = Phase::Running;
                container.sync = None;
                (waiter, Outcome::Failed(failure))
            }
            (Heard::Closed, Phase::Starting(waiter)) => {
                let waiter = *waiter;
                container.phase = Phase::Running;
                container.sync = None;
                container.started_at_ns = crate::spec::now_ns();
                (
                    waiter,
                    Outcome::Started {
                        at_ns: container.started_at_ns,
                    },
                )
            }
            (Heard::Closed, Phase::SettingUp(waiter)) => {
                container.abandoned = true;
                container.sync = None;
                (*waiter, Outcome::Failed(Failure::Refused(ended_early(container))))
            }
            _ => {
                container.sync = None;
                return;
            }
        };
        self.reply(waiter, outcome, Vec::new());
    }

    /// As for a container; an exec is let go on at once.
    pub(super) fn on_exec_sync(&mut self, key: u64) {
        let Some(exec) = self.execs.iter_mut().find(|exec| exec.exec == key) else {
            return;
        };
        let pid = exec.pid;
        let Some(sync) = &exec.sync else { return };
        let heard = hear(sync, &mut exec.terminal);
        let outcome = match heard {
            Heard::Nothing | Heard::Message(FromInit::Ready { .. }) => return,
            Heard::Message(FromInit::Failed(failure)) => Outcome::Failed(failure),
            Heard::Closed => Outcome::Pid {
                pid,
                degraded: Vec::new(),
                user: None,
            },
        };
        exec.sync = None;
        let mut fds = std::mem::take(&mut exec.terminal);
        if matches!(outcome, Outcome::Failed(_)) {
            // Its end is part of the answer, and a terminal nothing that the daemon would look for.
            exec.peer = 0;
            fds.clear();
        }
        if let Some(waiter) = exec.waiter.take() {
            self.reply(waiter, outcome, fds);
        }
    }

    pub(super) fn on_output(&mut self, key: u64, index: usize) {
        let Some(container) = self.containers.iter_mut().find(|container| container.key == key) else {
            return;
        };
        let Some(stream) = container.streams.get_mut(index) else {
            return;
        };
        if !stream.pump(container.log.as_mut(), false) {
            container.streams.remove(index);
        }
    }

    pub(super) fn on_end(&mut self, ended: Ended) {
        let is_it = |container: &&Container| container.pid == ended.pid && container.exit().is_none();
        if ended.pid == self.infra_pid && self.infra.is_some() {
            self.on_infra_end();
        } else if let Some(key) = self.containers.iter().find(is_it).map(|container| container.key) {
            // Whatever it said comes before.
            (0..LAST_WORDS).for_each(|_| self.on_container_sync(key));
            self.on_container_end(key, ended);
        } else if let Some(key) = self
            .execs
            .iter()
            .find(|exec| exec.pid == ended.pid)
            .map(|exec| exec.exec)
        {
            (0..LAST_WORDS).for_each(|_| self.on_exec_sync(key));
            self.on_exec_end(ended);
        }
    }

    fn on_infra_end(&mut self) {
        self.infra = None;
        if let Some(waiters) = self.stopping.take() {
            for (peer, request) in waiters {
                self.reply(Waiter { peer, request }, Outcome::Done, Vec::new());
            }
            return;
        }
        // A pod's life is its sandbox's.
        for container in self
            .containers
            .iter()
            .filter(|container| container.exit().is_none())
        {
            let _ = pidfd::send_signal(&container.pidfd, libc::SIGKILL);
        }
        self.broadcast(&FromShim::InfraExited);
    }

    fn on_container_end(&mut self, key: u64, ended: Ended) {
        let shares_pids = self.spec.config.namespaces.pid != PidMode::Container;
        let index = self.containers.iter().position(|container| container.key == key);
        let Some(index) = index else { return };
        let container = &mut self.containers[index];
        if shares_pids {
            kill_rest(&container.membership);
        }
        let log = &mut container.log;
        container
            .streams
            .retain_mut(|stream| stream.pump(log.as_mut(), true));
        let oom = container
            .membership
            .oom_events
            .as_deref()
            .is_some_and(|events| oom_kills(events) > 0);
        let exit = Exit {
            code: ended.code,
            signal: ended.signal,
            oom: oom && ended.code != 0,
            at_ns: crate::spec::now_ns(),
        };
        let id = container.id.clone();
        let waiters = std::mem::take(&mut container.removers);
        if container.abandoned {
            self.containers.remove(index);
        } else {
            container.phase = Phase::Exited(exit);
            let record = ExitRecord {
                container: id.clone(),
                started_at_ns: container.started_at_ns,
                exit,
            };
            // A disk that takes nothing must not hide the end from a daemon that is there.
            let _ = self.exits.append(&record);
            self.broadcast(&FromShim::Exited {
                container: id.clone(),
                exit,
            });
        }
        if !waiters.is_empty() {
            self.containers.retain(|container| container.id != id);
        }
        for waiter in waiters {
            self.reply(waiter, Outcome::Done, Vec::new());
        }
        // What its output has needed.
        process::trim_heap();
    }

    fn on_exec_end(&mut self, ended: Ended) {
        let Some(index) = self.execs.iter().position(|exec| exec.pid == ended.pid) else {
            return;
        };
        let exec = self.execs.swap_remove(index);
        if let Some(peer) = self.peer(exec.peer) {
            peer.send(&FromShim::ExecExited {
                exec: exec.exec,
                code: ended.code,
            });
        }
    }
}

fn ended_early(container: &Container) -> String {
    let oom = container
        .membership
        .oom_events
        .as_deref()
        .is_some_and(|events| oom_kills(events) > 0);
    let why = if oom { ": its memory limit is too low" } else { "" };
    format!("the container's process ended while it was set up{why}")
}

/// Kills what the first process of a container has left behind where no pid namespace does.
fn kill_rest(membership: &Membership) {
    /// A process may fork between the reading and the killing; its child is found the next time.
    const ROUNDS: u32 = 3;
    for _ in 0..ROUNDS {
        let text = std::fs::read_to_string(membership.processes.join("cgroup.procs")).unwrap_or_default();
        let victims = text
            .lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0);
        for victim in victims.filter_map(|pid| pidfd::open(pid).ok()) {
            let _ = pidfd::send_signal(victim, libc::SIGKILL);
        }
    }
}
