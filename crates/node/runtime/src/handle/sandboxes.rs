//! Requests about sandboxes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::open::{MOUNT_POINT, NETWORKS, SOCKETS};
use super::sandbox::Sandbox;
use super::spawn::{self, ShimError};
use super::{Inner, Runtime, adopt, blocking, lock};
use crate::config::{NetworkMode, Resources, SandboxConfig};
use crate::error::RequestError;
use crate::protocol::{Operation, Outcome};
use crate::spec::{self, SandboxSpec, VERSION};
use crate::status::{ContainerState, SandboxId, SandboxStatus};

impl Runtime {
    /// Makes a sandbox: its cgroup, its shim, its namespaces.
    pub async fn run_pod_sandbox(&self, config: SandboxConfig) -> Result<SandboxStatus, RequestError> {
        let inner = &self.inner;
        let id = SandboxId::random().map_err(RequestError::io("make a name"))?;
        check_cgroup_path(&config.cgroup_parent)?;
        let run_dir = &inner.config.run_dir;
        let netns =
            (config.namespaces.network == NetworkMode::Pod).then(|| run_dir.join(NETWORKS).join(id.short()));
        let spec = SandboxSpec {
            version: VERSION,
            id: id.clone(),
            created_at_ns: spec::now_ns(),
            cgroup: format!("{}/{}", inner.config.cgroup_parent, config.cgroup_parent),
            socket: run_dir.join(SOCKETS).join(format!("{}.sock", id.short())),
            netns,
            mount_point: run_dir.join(MOUNT_POINT),
            shim_cgroup: inner.shim_cgroup.clone(),
            config,
        };
        let dir = inner.sandbox_dir(&id);
        let sandbox = Arc::new(Sandbox::new(spec, dir));
        let (shared, made) = (Arc::clone(inner), Arc::clone(&sandbox));
        let started = blocking(move || start(&shared, &made)).await;
        let shim = match started {
            Ok(shim) => shim,
            Err(error) => {
                let made = Arc::clone(&sandbox);
                blocking(move || remove_traces(&made)).await;
                if let Err(left) = self.forget_cgroup(&sandbox).await {
                    tracing::warn!(sandbox = %id, error = %left, "cgroup of a sandbox that was not made not removed");
                }
                return Err(error);
            }
        };
        adopt::connect(inner, &sandbox, shim, false).await;
        lock(&inner.sandboxes).insert(id, Arc::clone(&sandbox));
        Ok(sandbox.status())
    }

    /// Ends all processes of the sandbox and lets go of its network namespace. Its statuses stay. Done twice, the second
    /// time does nothing.
    pub async fn stop_pod_sandbox(&self, id: &SandboxId) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox(id)?;
        self.stop(&sandbox).await
    }

    async fn stop(&self, sandbox: &Arc<Sandbox>) -> Result<(), RequestError> {
        sandbox.set_ending();
        for container in sandbox.containers() {
            if container.state != ContainerState::Exited {
                self.end_now(sandbox, &container.id).await;
            }
        }
        if let Some(link) = sandbox.link()
            && let Ok((Outcome::Failed(failure), _)) = link.ask(Operation::Stop).await
        {
            return Err(failure.into());
        }
        sandbox.on_infra_gone();
        if let Some(netns) = sandbox.spec.netns.clone() {
            blocking(move || unpin(&netns))
                .await
                .map_err(RequestError::io("let go of the network namespace"))?;
        }
        Ok(())
    }

    /// Stops the sandbox if need be, and removes its containers and every trace of it.
    pub async fn remove_pod_sandbox(&self, id: &SandboxId) -> Result<(), RequestError> {
        let Ok(sandbox) = self.inner.sandbox(id) else {
            return Ok(());
        };
        self.stop(&sandbox).await?;
        for container in sandbox.containers() {
            self.remove_container(&container.id).await?;
        }
        if let Some(link) = sandbox.link() {
            // Whether it answers or is gone already is the same here.
            let _ = link.ask(Operation::Quit).await;
        }
        let gone = Arc::clone(&sandbox);
        blocking(move || remove_traces(&gone)).await;
        lock(&self.inner.sandboxes).remove(id);
        self.forget_cgroup(&sandbox).await
    }

    /// Removes the pod's cgroup unless another sandbox of the same pod uses it.
    async fn forget_cgroup(&self, sandbox: &Arc<Sandbox>) -> Result<(), RequestError> {
        if self
            .inner
            .all()
            .iter()
            .any(|other| other.spec.cgroup == sandbox.spec.cgroup)
        {
            return Ok(());
        }
        let (inner, path) = (Arc::clone(&self.inner), sandbox.spec.cgroup.clone());
        blocking(move || inner.cgroups.remove(&path)).await?;
        Ok(())
    }

    /// Makes or changes a cgroup that holds pods (`kubepods/burstable`), relative to the instance's.
    pub async fn ensure_cgroup(&self, path: &str, resources: Resources) -> Result<(), RequestError> {
        check_cgroup_path(path)?;
        let inner = Arc::clone(&self.inner);
        let path = format!("{}/{path}", inner.config.cgroup_parent);
        blocking(move || inner.cgroups.create_inner(&path, &resources)).await?;
        Ok(())
    }

    /// Removes a cgroup made by [`Runtime::ensure_cgroup`] that is empty by now.
    pub async fn remove_cgroup(&self, path: &str) -> Result<(), RequestError> {
        check_cgroup_path(path)?;
        let inner = Arc::clone(&self.inner);
        let path = format!("{}/{path}", inner.config.cgroup_parent);
        blocking(move || inner.cgroups.remove(&path)).await?;
        Ok(())
    }

    /// Changes the limits of the pod's cgroup.
    pub async fn update_sandbox_resources(
        &self,
        id: &SandboxId,
        resources: Resources,
    ) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox(id)?;
        let inner = Arc::clone(&self.inner);
        blocking(move || inner.cgroups.update(&sandbox.spec.cgroup, &resources)).await?;
        Ok(())
    }
}

/// A relative path that stays where it is put.
fn check_cgroup_path(path: &str) -> Result<(), RequestError> {
    let good = !path.is_empty()
        && path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..");
    if good {
        Ok(())
    } else {
        Err(RequestError::Refused(format!("{path:?} is no path for a cgroup")))
    }
}

fn start(inner: &Inner, sandbox: &Sandbox) -> Result<spawn::Greeted, RequestError> {
    let Sandbox { spec, dir, .. } = sandbox;
    inner.cgroups.create_inner(&spec.cgroup, &spec.config.resources)?;
    std::fs::create_dir(dir).map_err(RequestError::io("make the sandbox's directory"))?;
    spec::write(&dir.join(spec::SANDBOX_FILE), spec).map_err(RequestError::io("write sandbox.json"))?;
    spawn::start(&inner.program, dir, &spec.id, &spec.shim_cgroup).map_err(|error| match error {
        ShimError::Refused(reason) => RequestError::Refused(reason),
        ShimError::Io { what, source } => RequestError::Io {
            what: what.to_owned(),
            source,
        },
    })
}

/// Removes the files of a sandbox whose processes have ended.
fn remove_traces(sandbox: &Sandbox) {
    let Sandbox { spec, dir, .. } = sandbox;
    if let Some(netns) = &spec.netns {
        let _ = unpin(netns);
    }
    let _ = std::fs::remove_file(&spec.socket);
    let _ = std::fs::remove_dir_all(dir);
}

/// Lets go of a pinned namespace; that it is not pinned is fine.
fn unpin(path: &Path) -> std::io::Result<()> {
    match cloudeck_linux::mount::detach(path) {
        Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            return Err(error);
        }
        _ => {}
    }
    match std::fs::remove_file(PathBuf::from(path)) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
