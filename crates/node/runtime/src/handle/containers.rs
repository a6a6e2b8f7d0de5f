//! Requests about containers.

use std::sync::Arc;
use std::time::Duration;

use super::adopt::KILL_LIMIT;
use super::sandbox::Sandbox;
use super::{Inner, Runtime, blocking};
use crate::capability;
use crate::cgroup::devices::{DeviceRule, USUAL};
use crate::config::{ContainerConfig, Resources};
use crate::error::RequestError;
use crate::protocol::{CreateSpec, Failure, Operation, Outcome};
use crate::spec::{self, ContainerSpec, VERSION};
use crate::status::{ContainerId, ContainerState, RuntimeEvent, SandboxId, SandboxState, Stats};

impl From<Failure> for RequestError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(reason) => Self::Refused(reason),
            Failure::State(reason) => Self::State(reason),
            Failure::Start(error) => Self::Start(error),
        }
    }
}

impl Runtime {
    /// Sets a container up, to the point where only its program has to be started.
    pub async fn create_container(
        &self,
        sandbox: &SandboxId,
        config: ContainerConfig,
    ) -> Result<ContainerId, RequestError> {
        let sandbox = self.inner.sandbox(sandbox)?;
        if sandbox.status().state != SandboxState::Ready {
            return Err(RequestError::NotReady(sandbox.spec.id.clone()));
        }
        let (inner, owner) = (Arc::clone(&self.inner), Arc::clone(&sandbox));
        let spec = blocking(move || prepare(&inner, &owner, config)).await?;
        let id = spec.id.clone();
        let create = CreateSpec {
            container: id.clone(),
            tty: spec.config.tty,
            stdin: spec.config.stdin,
            log_path: spec.config.log_path.clone(),
            membership: spec.membership.clone(),
        };
        let created = self.ask(&sandbox, Operation::Create(create)).await;
        match created {
            Ok(Outcome::Pid { pid, degraded, user }) => {
                if let Some(exit) = sandbox.add(spec, pid, degraded, user) {
                    let (sandbox, container) = (sandbox.spec.id.clone(), id.clone());
                    self.inner.emit(RuntimeEvent::ContainerExited {
                        sandbox,
                        container,
                        exit,
                    });
                }
                Ok(id)
            }
            other => {
                // A process that could not be set up is just ending: the shim says when it has.
                let _ = self
                    .ask(
                        &sandbox,
                        Operation::Remove {
                            container: id.clone(),
                        },
                    )
                    .await;
                let inner = Arc::clone(&self.inner);
                blocking(move || remove_traces(&inner, &sandbox, &spec)).await?;
                Err(unexpected(other))
            }
        }
    }

    /// Runs the program of a container that was created.
    ///
    /// # Errors
    /// [`RequestError::Start`] when it cannot be run; the container then ends with 126 or 127.
    pub async fn start_container(&self, id: &ContainerId) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        match self
            .ask(
                &sandbox,
                Operation::Start {
                    container: id.clone(),
                },
            )
            .await
        {
            Ok(Outcome::Started { at_ns }) => {
                sandbox.on_started(id, at_ns);
                let (sandbox, container) = (sandbox.spec.id.clone(), id.clone());
                self.inner
                    .emit(RuntimeEvent::ContainerStarted { sandbox, container });
                Ok(())
            }
            other => Err(unexpected(other)),
        }
    }

    /// Sends the stop signal, waits up to `timeout`, then kills. Returns when the container has ended.
    pub async fn stop_container(&self, id: &ContainerId, timeout: Duration) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        let Some(status) = sandbox
            .container(id)
            .filter(|status| status.state != ContainerState::Exited)
        else {
            return Ok(());
        };
        if !timeout.is_zero() {
            let signal = status.config.stop_signal.unwrap_or(libc::SIGTERM);
            // It may have ended meanwhile, which is what is wanted.
            let _ = self
                .ask(
                    &sandbox,
                    Operation::Kill {
                        container: id.clone(),
                        signal,
                    },
                )
                .await;
            if tokio::time::timeout(timeout, sandbox.wait_exited(id))
                .await
                .is_ok()
            {
                return Ok(());
            }
        }
        self.end_now(&sandbox, id).await;
        Ok(())
    }

    /// Kills a container and waits for its end.
    pub(super) async fn end_now(&self, sandbox: &Arc<Sandbox>, id: &ContainerId) {
        let signal = libc::SIGKILL;
        let _ = self
            .ask(
                sandbox,
                Operation::Kill {
                    container: id.clone(),
                    signal,
                },
            )
            .await;
        sandbox.wait_exited(id).await;
    }

    /// Signals the first process of a container.
    pub async fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        match self
            .ask(
                &sandbox,
                Operation::Kill {
                    container: id.clone(),
                    signal,
                },
            )
            .await
        {
            Ok(Outcome::Done) => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Waits until a container has ended.
    pub async fn wait_container(&self, id: &ContainerId) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        sandbox.wait_exited(id).await;
        Ok(())
    }

    /// Removes a container, killing it if it runs. That there is none is fine. Its log and the directories of its root
    /// are the caller's.
    pub async fn remove_container(&self, id: &ContainerId) -> Result<(), RequestError> {
        let Ok(sandbox) = self.inner.sandbox_of(id) else {
            return Ok(());
        };
        match self
            .ask(
                &sandbox,
                Operation::Remove {
                    container: id.clone(),
                },
            )
            .await
        {
            Ok(Outcome::Done) | Err(RequestError::ShimGone(_)) => {}
            other => return Err(unexpected(other)),
        }
        if let Some(spec) = sandbox.container_spec(id) {
            let (inner, owner) = (Arc::clone(&self.inner), Arc::clone(&sandbox));
            blocking(move || remove_traces(&inner, &owner, &spec)).await?;
        }
        sandbox.forget(id);
        Ok(())
    }

    /// Changes the limits of a container that exists.
    pub async fn update_resources(&self, id: &ContainerId, resources: Resources) -> Result<(), RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        let spec = sandbox
            .container_spec(id)
            .ok_or_else(|| RequestError::NoContainer(id.clone()))?;
        let mut spec = (*spec).clone();
        let inner = Arc::clone(&self.inner);
        let dir = spec::container_dir(&sandbox.dir, id.as_str());
        let spec = blocking(move || {
            inner.cgroups.update(&spec.cgroup, &resources)?;
            spec.config.resources = resources;
            let written = spec::write(&dir.join(spec::CONTAINER_FILE), &spec);
            written.map_err(RequestError::io("write container.json"))?;
            Ok::<_, RequestError>(spec)
        });
        sandbox.replace_spec(spec.await?);
        Ok(())
    }

    /// What a container uses.
    pub async fn stats(&self, id: &ContainerId) -> Result<Stats, RequestError> {
        let sandbox = self.inner.sandbox_of(id)?;
        let spec = sandbox
            .container_spec(id)
            .ok_or_else(|| RequestError::NoContainer(id.clone()))?;
        let inner = Arc::clone(&self.inner);
        Ok(blocking(move || inner.cgroups.stats(&spec.cgroup)).await?)
    }

    /// What the pod as a whole uses.
    pub async fn sandbox_stats(&self, id: &SandboxId) -> Result<Stats, RequestError> {
        let sandbox = self.inner.sandbox(id)?;
        let inner = Arc::clone(&self.inner);
        Ok(blocking(move || inner.cgroups.stats(&sandbox.spec.cgroup)).await?)
    }

    /// Asks the shim; a failure that it reports is an answer here.
    async fn ask(&self, sandbox: &Sandbox, operation: Operation) -> Result<Outcome, RequestError> {
        let gone = || RequestError::ShimGone(sandbox.spec.id.clone());
        let link = sandbox.link().ok_or_else(gone)?;
        let (outcome, _) = link.ask(operation).await.map_err(|_| gone())?;
        Ok(outcome)
    }
}

/// The error in an answer that is not the one hoped for.
pub(super) fn unexpected(answer: Result<Outcome, RequestError>) -> RequestError {
    match answer {
        Err(error) => error,
        Ok(Outcome::Failed(failure)) => failure.into(),
        Ok(other) => RequestError::State(format!("the shim gave an answer that does not fit: {other:?}")),
    }
}

/// Decides what can be decided outside, makes the cgroup, writes the files.
fn prepare(inner: &Inner, sandbox: &Sandbox, config: ContainerConfig) -> Result<ContainerSpec, RequestError> {
    let id = ContainerId::random().map_err(RequestError::io("make a name"))?;
    let capabilities = capability::for_container(&config.security);
    let capabilities = capabilities.map_err(|error| RequestError::Refused(error.to_string()))?;
    let seccomp = inner.filters.file_for(&config.security, capabilities)?;
    let rules = device_rules(&config)?;
    let cgroup = format!("{}/{id}", sandbox.spec.cgroup);
    let membership = inner
        .cgroups
        .create_leaf(&cgroup, &config.resources, rules.as_deref());
    let membership = membership.inspect_err(|_| drop(inner.cgroups.remove(&cgroup)))?;
    let spec = ContainerSpec {
        version: VERSION,
        created_at_ns: spec::now_ns(),
        cgroup,
        membership,
        cgroup_views: inner.cgroups.views(),
        capabilities,
        seccomp,
        config,
        id,
    };
    let dir = spec::container_dir(&sandbox.dir, spec.id.as_str());
    let written =
        std::fs::create_dir(&dir).and_then(|()| spec::write(&dir.join(spec::CONTAINER_FILE), &spec));
    if let Err(source) = written {
        let _ = remove_traces(inner, sandbox, &spec);
        return Err(RequestError::Io {
            what: "write container.json".to_owned(),
            source,
        });
    }
    Ok(spec)
}

/// `None`: all devices.
fn device_rules(config: &ContainerConfig) -> Result<Option<Vec<DeviceRule>>, RequestError> {
    if config.security.privileged {
        return Ok(None);
    }
    let mut rules = USUAL.to_vec();
    for device in &config.devices {
        let rule = DeviceRule::for_node(&device.host_path, &device.permissions);
        let what = format!("give device {}", device.host_path.display());
        rules.push(rule.map_err(RequestError::io(what))?);
    }
    Ok(Some(rules))
}

/// Removes the cgroup and the files of a container, killing what may still be in the former.
pub(super) fn remove_traces(
    inner: &Inner,
    sandbox: &Sandbox,
    spec: &ContainerSpec,
) -> Result<(), RequestError> {
    inner.cgroups.kill(&spec.cgroup, KILL_LIMIT)?;
    inner.cgroups.remove(&spec.cgroup)?;
    match std::fs::remove_dir_all(spec::container_dir(&sandbox.dir, spec.id.as_str())) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(RequestError::Io {
            what: "remove the container's directory".to_owned(),
            source,
        }),
        _ => Ok(()),
    }
}
