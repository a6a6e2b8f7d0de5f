//! The daemon's side: what the node agent calls.
//!
//! [`Runtime`] keeps a picture of every sandbox and container, fed by the shims; statuses are answered from it without
//! asking anybody. Whatever blocks (files, cgroups, spawning) runs on the blocking pool.
//!
//! # Cancel safety
//! A request whose future is dropped goes on in the shim; its effect shows in the statuses.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cloudeck_linux::lock::FileLock;
use cloudeck_task::Scope;
use tokio::sync::broadcast;

use crate::cgroup::Cgroups;
use crate::config::RuntimeConfig;
use crate::error::{OpenError, RequestError};
use crate::status::{ContainerId, ContainerStatus, RuntimeEvent, SandboxId, SandboxStatus};

mod adopt;
mod containers;
mod exec;
mod filters;
mod link;
mod open;
mod purge;
mod sandbox;
mod sandboxes;
mod spawn;

pub use exec::ExecHandle;
pub use purge::PurgeReport;

use sandbox::Sandbox;

/// Events that a slow listener may be behind before it misses some and has to look for itself.
const EVENTS: usize = 1024;

/// Sandboxes and containers of one instance. Cheap to clone; clones are the same runtime.
#[derive(Clone)]
pub struct Runtime {
    inner: Arc<Inner>,
}

struct Inner {
    config: RuntimeConfig,
    cgroups: Cgroups,
    shim_cgroup: crate::cgroup::Membership,
    /// The shim's program, on a mount of its own that nobody can write through.
    program: std::os::fd::OwnedFd,
    boot_id: String,
    scope: Scope,
    sandboxes: Mutex<HashMap<SandboxId, Arc<Sandbox>>>,
    filters: filters::Filters,
    events: broadcast::Sender<RuntimeEvent>,
    next_exec: AtomicU64,
    _lock: FileLock,
}

impl Runtime {
    /// Opens the instance, and takes up every sandbox of it whose shim lives. Tasks run in `scope`.
    ///
    /// # Errors
    /// Fails while another process has the same instance open.
    pub async fn open(config: RuntimeConfig, scope: &Scope) -> Result<Self, OpenError> {
        open::open(config, scope).await
    }

    /// What happens from now on. A receiver that lags behind misses events and must list.
    pub fn events(&self) -> broadcast::Receiver<RuntimeEvent> {
        self.inner.events.subscribe()
    }

    /// All sandboxes, oldest first.
    pub fn sandboxes(&self) -> Vec<SandboxStatus> {
        let mut all: Vec<_> = self.inner.all().iter().map(|sandbox| sandbox.status()).collect();
        all.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        all
    }

    /// All containers, oldest first.
    pub fn containers(&self) -> Vec<ContainerStatus> {
        let mut all: Vec<_> = self
            .inner
            .all()
            .iter()
            .flat_map(|sandbox| sandbox.containers())
            .collect();
        all.sort_by(|a, b| (a.created_at_ns, &a.id).cmp(&(b.created_at_ns, &b.id)));
        all
    }

    pub fn sandbox_status(&self, id: &SandboxId) -> Result<SandboxStatus, RequestError> {
        self.inner.sandbox(id).map(|sandbox| sandbox.status())
    }

    pub fn container_status(&self, id: &ContainerId) -> Result<ContainerStatus, RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        sandbox
            .container(id)
            .ok_or_else(|| RequestError::NoContainer(id.clone()))
    }

    /// Whether the machine's cgroups are version 2.
    pub fn is_cgroup_v2(&self) -> bool {
        self.inner.cgroups.is_v2()
    }

    /// How the runtime was set up.
    pub fn config(&self) -> &RuntimeConfig {
        &self.inner.config
    }
}

impl Inner {
    fn all(&self) -> Vec<Arc<Sandbox>> {
        lock(&self.sandboxes).values().cloned().collect()
    }

    fn sandbox(&self, id: &SandboxId) -> Result<Arc<Sandbox>, RequestError> {
        lock(&self.sandboxes)
            .get(id)
            .cloned()
            .ok_or_else(|| RequestError::NoSandbox(id.clone()))
    }

    fn sandbox_of(&self, id: &ContainerId) -> Result<Arc<Sandbox>, RequestError> {
        let found = lock(&self.sandboxes)
            .values()
            .find(|sandbox| sandbox.has_container(id))
            .cloned();
        found.ok_or_else(|| RequestError::NoContainer(id.clone()))
    }

    fn sandbox_dir(&self, id: &SandboxId) -> PathBuf {
        sandboxes_dir(&self.config).join(id.as_str())
    }

    /// Tells who listens; that nobody does is fine.
    fn emit(&self, event: RuntimeEvent) {
        let _ = self.events.send(event);
    }
}

fn sandboxes_dir(config: &RuntimeConfig) -> PathBuf {
    config.state_dir.join("sandboxes")
}

/// Runs what blocks where it may.
async fn blocking<T: Send + 'static>(act: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(act).await {
        Ok(value) => value,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is shutting down, and with it whoever waits here.
            Err(_cancelled) => std::future::pending().await,
        },
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
