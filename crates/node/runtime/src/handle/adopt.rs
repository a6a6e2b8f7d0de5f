//! Taking up what was there before this daemon.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::sandbox::Sandbox;
use super::{Inner, blocking, containers, link, lock, purge, sandboxes_dir, spawn};
use crate::error::OpenError;
use crate::exits::{self, ExitRecord};
use crate::protocol::{ContainerReport, FromShim, Operation, Outcome};
use crate::spec::{self, ContainerSpec, SandboxSpec, ShimRecord};
use crate::status::{RuntimeEvent, SandboxId};

/// How long killed processes may take to end.
pub(super) const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Takes up every sandbox of the instance.
pub(super) async fn all(inner: &Arc<Inner>) -> Result<(), OpenError> {
    let dir = sandboxes_dir(&inner.config);
    let boot_id = inner.boot_id.clone();
    let found = blocking(move || find(&dir, &boot_id)).await?;
    for found in found {
        take_up(inner, found).await;
    }
    Ok(())
}

/// What lies in the directory of a sandbox.
struct Found {
    spec: SandboxSpec,
    dir: PathBuf,
    containers: Vec<ContainerSpec>,
    ends: Vec<ExitRecord>,
    /// Of a shim of this boot.
    record: Option<ShimRecord>,
    shim: Option<spawn::Greeted>,
}

fn find(dir: &Path, boot_id: &str) -> Result<Vec<Found>, OpenError> {
    let entries = std::fs::read_dir(dir);
    let entries = entries.map_err(|source| OpenError::Directory {
        path: dir.to_owned(),
        source,
    })?;
    let dirs = entries.flatten().filter(|entry| {
        entry
            .file_name()
            .to_str()
            .is_some_and(|name| SandboxId::parse(name).is_some())
    });
    Ok(dirs
        .filter_map(|entry| find_one(&entry.path(), boot_id))
        .collect())
}

fn find_one(dir: &Path, boot_id: &str) -> Option<Found> {
    let spec: SandboxSpec = match spec::read(&dir.join(spec::SANDBOX_FILE)) {
        Ok(spec) => spec,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A daemon died between making the directory and filling it. The shim comes after that: there is none.
            let _ = std::fs::remove_dir_all(dir);
            return None;
        }
        Err(error) => {
            tracing::warn!(path = %dir.display(), %error, "unreadable sandbox left alone");
            return None;
        }
    };
    let record: Option<ShimRecord> = spec::read(&dir.join(spec::SHIM_FILE)).ok();
    let record = record.filter(|record| record.boot_id == boot_id);
    let shim = record
        .as_ref()
        .and_then(|record| spawn::reach(record, &spec.socket, &spec.id));
    let containers = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let containers = containers.filter_map(|entry| spec::read(&entry.path().join(spec::CONTAINER_FILE)).ok());
    let containers = containers.collect();
    let ends = exits::read(&dir.join(spec::EXITS_FILE)).unwrap_or_default();
    Some(Found {
        spec,
        dir: dir.to_owned(),
        containers,
        ends,
        record,
        shim,
    })
}

async fn take_up(inner: &Arc<Inner>, found: Found) {
    let Found {
        spec,
        dir,
        containers,
        ends,
        record,
        shim,
    } = found;
    let sandbox = Arc::new(Sandbox::new(spec, dir));
    let reports = match shim {
        Some(shim) => connect(inner, &sandbox, shim, true).await,
        None => None,
    };
    let gone = reports.is_none();
    if let Some(record) = record.filter(|_| gone) {
        end_shim(&sandbox, record).await;
    }
    let reports = reports.unwrap_or_default();
    for spec in containers {
        let report = reports.iter().find(|report| report.container == spec.id);
        if report.is_none() && !gone {
            // A shim forgets what it was told to remove, and does not know what it was not yet told to create. Either
            // way a daemon died in between.
            let (inner, owner) = (Arc::clone(inner), Arc::clone(&sandbox));
            let removed = blocking(move || containers::remove_traces(&inner, &owner, &spec)).await;
            if let Err(error) = removed {
                tracing::warn!(sandbox = %sandbox.spec.id, %error, "half-made container not removed");
            }
            continue;
        }
        let end = ends.iter().find(|end| end.container == spec.id);
        sandbox.take_up(spec, report, end);
    }
    if gone {
        kill_rest(inner, &sandbox).await;
    }
    lock(&inner.sandboxes).insert(sandbox.spec.id.clone(), sandbox);
}

/// Ends a shim that cannot be talked to, should it live: its sandbox counts as dead from now on. Its infra process goes
/// along.
async fn end_shim(sandbox: &Sandbox, record: ShimRecord) {
    if let Err(error) = blocking(move || purge::kill_shim(&record)).await {
        tracing::warn!(sandbox = %sandbox.spec.id, %error, "shim that does not answer not killed");
    }
}

/// Connects the picture with its shim. With `ask`, returns what runs there; `None` when the shim is gone.
pub(super) async fn connect(
    inner: &Arc<Inner>,
    sandbox: &Arc<Sandbox>,
    shim: spawn::Greeted,
    ask: bool,
) -> Option<Vec<ContainerReport>> {
    let spawn::Greeted {
        stream,
        inbox,
        pid,
        infra_pid,
        child,
    } = shim;
    let stream = tokio::net::UnixStream::from_std(stream).ok()?;
    let (link, wire) = link::over(stream, inbox);
    sandbox.set_link(link.clone(), pid, infra_pid);
    let (weak, seen) = (Arc::downgrade(inner), Arc::clone(sandbox));
    inner.scope.spawn_until_shutdown("shim-link", async move {
        let news = |message| {
            if let Some(inner) = weak.upgrade() {
                on_news(&inner, &seen, message);
            }
        };
        wire.run(news).await;
        if let Some(pid) = child {
            // It has closed its socket as its last act.
            blocking(move || cloudeck_linux::process::reap(pid)).await;
        }
        if let Some(inner) = weak.upgrade() {
            on_gone(&inner, &seen).await;
        }
    });
    if !ask {
        return Some(Vec::new());
    }
    match tokio::time::timeout(spawn::GREETING_LIMIT, link.ask(Operation::State)).await {
        Ok(Ok((
            Outcome::State {
                infra_alive,
                containers,
            },
            _,
        ))) => {
            if !infra_alive {
                sandbox.on_infra_gone();
            }
            Some(containers)
        }
        _ => None,
    }
}

fn on_news(inner: &Inner, sandbox: &Sandbox, message: FromShim) {
    let id = sandbox.spec.id.clone();
    match message {
        FromShim::Exited { container, exit } if sandbox.on_exited(&container, exit) => {
            inner.emit(RuntimeEvent::ContainerExited {
                sandbox: id,
                container,
                exit,
            });
        }
        FromShim::InfraExited => {
            sandbox.on_infra_gone();
            inner.emit(RuntimeEvent::SandboxDied { sandbox: id });
        }
        _ => {}
    }
}

/// The shim has ended. Its containers have lost their parent: they are killed, and the ends that are on record told.
async fn on_gone(inner: &Arc<Inner>, sandbox: &Arc<Sandbox>) {
    kill_rest(inner, sandbox).await;
    let path = sandbox.dir.join(spec::EXITS_FILE);
    let ends = blocking(move || exits::read(&path)).await.unwrap_or_default();
    if sandbox.on_shim_gone(&ends) {
        tracing::warn!(sandbox = %sandbox.spec.id, "shim died");
        inner.emit(RuntimeEvent::ShimDied {
            sandbox: sandbox.spec.id.clone(),
        });
    }
}

/// Kills whatever is left in the cgroups of the sandbox's containers.
pub(super) async fn kill_rest(inner: &Arc<Inner>, sandbox: &Arc<Sandbox>) {
    let (cgroups, specs) = (inner.cgroups.clone(), sandbox.container_specs());
    let failed = blocking(move || {
        specs
            .iter()
            .filter_map(|spec| cgroups.kill(&spec.cgroup, KILL_LIMIT).err())
            .collect::<Vec<_>>()
    });
    for error in failed.await {
        tracing::warn!(%error, sandbox = %sandbox.spec.id, "container of a dead shim not killed");
    }
}
