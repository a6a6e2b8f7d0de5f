//! The picture of one sandbox: what its files say, what its shim has told.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::link::Link;
use super::lock;
use crate::exits::ExitRecord;
use crate::protocol::ContainerReport;
use crate::spec::{ContainerSpec, SandboxSpec};
use crate::status::{
    ContainerId, ContainerState, ContainerStatus, Exit, RunsAs, SandboxState, SandboxStatus,
};

pub(super) struct Sandbox {
    pub(super) spec: SandboxSpec,
    pub(super) dir: PathBuf,
    picture: Mutex<Picture>,
    /// Counts changes of the picture, for those who wait for one.
    changes: watch::Sender<u64>,
}

struct Picture {
    /// `None`: the shim is gone.
    link: Option<Link>,
    shim_pid: i32,
    infra_pid: i32,
    /// Its end was asked for.
    ending: bool,
    containers: BTreeMap<ContainerId, Entry>,
    /// Ends of containers that are not in the picture yet: told between the shim's report or answer and their coming in.
    early: VecDeque<ExitRecord>,
}

/// Such ends are taken in the next moment, but for those of containers whose creation nobody waited for.
const EARLY_MAX: usize = 64;

/// One container.
struct Entry {
    spec: Arc<ContainerSpec>,
    state: ContainerState,
    pid: i32,
    started_at_ns: i64,
    exit: Option<Exit>,
    degraded: Vec<String>,
    user: Option<RunsAs>,
}

impl Sandbox {
    pub(super) fn new(spec: SandboxSpec, dir: PathBuf) -> Self {
        let picture = Picture {
            link: None,
            shim_pid: 0,
            infra_pid: 0,
            ending: false,
            containers: BTreeMap::new(),
            early: VecDeque::new(),
        };
        Self {
            spec,
            dir,
            picture: Mutex::new(picture),
            changes: watch::Sender::new(0),
        }
    }

    fn change<T>(&self, act: impl FnOnce(&mut Picture) -> T) -> T {
        let result = act(&mut lock(&self.picture));
        self.changes.send_modify(|count| *count += 1);
        result
    }

    pub(super) fn set_link(&self, link: Link, shim_pid: i32, infra_pid: i32) {
        self.change(|picture| {
            picture.link = Some(link);
            picture.shim_pid = shim_pid;
            picture.infra_pid = infra_pid;
        });
    }

    pub(super) fn link(&self) -> Option<Link> {
        lock(&self.picture).link.clone()
    }

    /// Notes that the shim is gone; `true` when that was not asked for.
    pub(super) fn on_shim_gone(&self, ends: &[ExitRecord]) -> bool {
        self.change(|picture| {
            picture.link = None;
            picture.shim_pid = 0;
            picture.infra_pid = 0;
            for (id, entry) in &mut picture.containers {
                if entry.state != ContainerState::Exited {
                    entry.end(ends.iter().find(|end| end.container == *id));
                }
            }
            for end in ends {
                picture.keep_early(end.clone());
            }
            !picture.ending
        })
    }

    pub(super) fn on_infra_gone(&self) {
        self.change(|picture| picture.infra_pid = 0);
    }

    /// Notes that from now on ends are no surprise.
    pub(super) fn set_ending(&self) {
        self.change(|picture| picture.ending = true);
    }

    /// Puts a container that was just created into the picture. Returns its end, should that have been told already.
    pub(super) fn add(
        &self,
        spec: ContainerSpec,
        pid: i32,
        degraded: Vec<String>,
        user: Option<RunsAs>,
    ) -> Option<Exit> {
        let state = ContainerState::Created;
        let entry = Entry {
            spec: Arc::new(spec),
            state,
            pid,
            started_at_ns: 0,
            exit: None,
            degraded,
            user,
        };
        self.change(|picture| picture.insert(entry))
    }

    /// Takes a container up that was there before this daemon: as its shim reports it, or as having ended.
    pub(super) fn take_up(
        &self,
        spec: ContainerSpec,
        report: Option<&ContainerReport>,
        end: Option<&ExitRecord>,
    ) {
        let mut entry = Entry {
            spec: Arc::new(spec),
            state: ContainerState::Exited,
            pid: 0,
            started_at_ns: 0,
            exit: None,
            degraded: Vec::new(),
            user: None,
        };
        match report {
            Some(report) => {
                entry.state = report.state;
                entry.pid = report.pid;
                entry.started_at_ns = report.started_at_ns;
                entry.exit = report.exit;
                entry.degraded.clone_from(&report.degraded);
                entry.user.clone_from(&report.user);
            }
            None => entry.end(end),
        }
        self.change(|picture| picture.insert(entry));
    }

    pub(super) fn forget(&self, id: &ContainerId) {
        self.change(|picture| picture.containers.remove(id));
    }

    pub(super) fn on_started(&self, id: &ContainerId, at_ns: i64) {
        self.change(|picture| {
            if let Some(entry) = picture.containers.get_mut(id) {
                entry.started_at_ns = at_ns;
                // Its end may already have been told.
                if entry.state == ContainerState::Created {
                    entry.state = ContainerState::Running;
                }
            }
        });
    }

    /// `false` when there is no such container yet: who puts it into the picture finds its end there.
    pub(super) fn on_exited(&self, id: &ContainerId, exit: Exit) -> bool {
        self.change(|picture| {
            let Some(entry) = picture.containers.get_mut(id) else {
                picture.keep_early(ExitRecord {
                    container: id.clone(),
                    started_at_ns: 0,
                    exit,
                });
                return false;
            };
            entry.state = ContainerState::Exited;
            entry.pid = 0;
            entry.exit = Some(exit);
            true
        })
    }

    pub(super) fn replace_spec(&self, spec: ContainerSpec) {
        self.change(|picture| {
            if let Some(entry) = picture.containers.get_mut(&spec.id) {
                entry.spec = Arc::new(spec);
            }
        });
    }

    /// Waits until the container has ended or is gone.
    pub(super) async fn wait_exited(&self, id: &ContainerId) {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let over = self
                .container(id)
                .is_none_or(|status| status.state == ContainerState::Exited);
            if over || changes.changed().await.is_err() {
                return;
            }
        }
    }

    pub(super) fn has_container(&self, id: &ContainerId) -> bool {
        lock(&self.picture).containers.contains_key(id)
    }

    pub(super) fn container_spec(&self, id: &ContainerId) -> Option<Arc<ContainerSpec>> {
        lock(&self.picture)
            .containers
            .get(id)
            .map(|entry| Arc::clone(&entry.spec))
    }

    pub(super) fn container_specs(&self) -> Vec<Arc<ContainerSpec>> {
        lock(&self.picture)
            .containers
            .values()
            .map(|entry| Arc::clone(&entry.spec))
            .collect()
    }

    pub(super) fn container(&self, id: &ContainerId) -> Option<ContainerStatus> {
        lock(&self.picture)
            .containers
            .get(id)
            .map(|entry| self.container_status(entry))
    }

    pub(super) fn containers(&self) -> Vec<ContainerStatus> {
        lock(&self.picture)
            .containers
            .values()
            .map(|entry| self.container_status(entry))
            .collect()
    }

    fn container_status(&self, entry: &Entry) -> ContainerStatus {
        ContainerStatus {
            id: entry.spec.id.clone(),
            sandbox: self.spec.id.clone(),
            state: entry.state,
            config: entry.spec.config.clone(),
            created_at_ns: entry.spec.created_at_ns,
            started_at_ns: entry.started_at_ns,
            pid: entry.pid,
            exit: entry.exit,
            degraded: entry.degraded.clone(),
            user: entry.user.clone(),
        }
    }

    pub(super) fn status(&self) -> SandboxStatus {
        let picture = lock(&self.picture);
        let ready = picture.link.is_some() && picture.infra_pid != 0 && !picture.ending;
        SandboxStatus {
            id: self.spec.id.clone(),
            state: if ready {
                SandboxState::Ready
            } else {
                SandboxState::NotReady
            },
            config: self.spec.config.clone(),
            created_at_ns: self.spec.created_at_ns,
            infra_pid: picture.infra_pid,
            shim_pid: picture.shim_pid,
            netns: self.spec.netns.clone(),
        }
    }
}

impl Picture {
    fn keep_early(&mut self, end: ExitRecord) {
        if self.containers.contains_key(&end.container) {
            return;
        }
        if self.early.len() == EARLY_MAX {
            self.early.pop_front();
        }
        self.early.push_back(end);
    }

    /// Puts a container in, as having ended if that is known by now or its shim is gone. Returns the end if it was told
    /// early.
    fn insert(&mut self, mut entry: Entry) -> Option<Exit> {
        let position = self.early.iter().position(|end| end.container == entry.spec.id);
        let early = position.and_then(|position| self.early.remove(position));
        let orphaned = entry.state != ContainerState::Exited && self.link.is_none();
        if entry.exit.is_none() && (early.is_some() || orphaned) {
            let started_at_ns = entry.started_at_ns;
            entry.end(early.as_ref());
            entry.started_at_ns = entry.started_at_ns.max(started_at_ns);
        }
        self.containers.insert(entry.spec.id.clone(), entry);
        early.map(|end| end.exit)
    }
}

impl Entry {
    fn end(&mut self, record: Option<&ExitRecord>) {
        self.state = ContainerState::Exited;
        self.pid = 0;
        self.exit = record.map(|record| record.exit);
        if let Some(record) = record {
            self.started_at_ns = record.started_at_ns;
        }
    }
}

#[cfg(test)]
mod tests;
