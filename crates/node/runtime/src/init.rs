//! What a container's first process does between its birth and its `exec`: it makes itself a container.
//!
//! Runs in the forked child of the shim, which has one thread, so ordinary code is fine here; its memory goes with the
//! `exec`. The order matters and is told in [`container`]. Every step that fails is named, and ends the process: nothing
//! that was asked for is skipped.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use cloudeck_linux::{fd, inroot, lo, mount, ns, process};

use crate::config::{ContainerConfig, NetworkMode, PidMode};
use crate::protocol::{Failure, FromInit, receive_packet, send_packet};
use crate::spec::{ContainerSpec, SandboxSpec};

mod devices;
pub(crate) mod exec;
mod identity;
pub(crate) mod infra;
mod limits;
mod mounts;
mod passwd;
mod program;
mod rootfs;
mod terminal;

/// A step that failed, and its name.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SetupError {
    #[error("{what}: {source}")]
    Step { what: String, source: io::Error },
    #[error("{0}")]
    Refused(String),
}

impl From<SetupError> for Failure {
    fn from(error: SetupError) -> Self {
        // Short enough for one packet, whatever paths are in it.
        Self::Refused(error.to_string().chars().take(1_500).collect())
    }
}

/// Names a step for the case that it fails.
trait Step<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError>;
}

impl<T> Step<T> for io::Result<T> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, SetupError> {
        self.map_err(|source| SetupError::Step { what: what(), source })
    }
}

/// What a new process has of its parent.
pub(crate) struct Birth<'shim> {
    pub(crate) sandbox: &'shim SandboxSpec,
    pub(crate) container_dir: &'shim Path,
    /// The infra process, whose namespaces are the pod's.
    pub(crate) infra: BorrowedFd<'shim>,
    /// To the shim, packet by packet.
    pub(crate) shim: BorrowedFd<'shim>,
    /// Standard input, output and error; none with a terminal.
    pub(crate) stdio: Option<[BorrowedFd<'shim>; 3]>,
}

impl Birth<'_> {
    /// Lets go of everything of the shim's that is not meant for this process. Among it are the other ends of what is
    /// meant for it, and the daemon's connection: as long as they are open here, nobody hears that the shim has died.
    fn keep_alone(&self, more: Option<BorrowedFd<'_>>) -> Result<(), SetupError> {
        let stdio = self.stdio.into_iter().flatten();
        let kept: Vec<_> = [self.infra, self.shim]
            .into_iter()
            .chain(stdio)
            .chain(more)
            .collect();
        fd::close_all_but(&kept).step(|| "close descriptors".to_owned())
    }
}

/// Becomes the container. Does not come back.
pub(crate) fn container(birth: &Birth<'_>) -> ! {
    let failure = match birth.keep_alone(None).and_then(|()| prepare(birth)) {
        Ok((spec, limits)) => {
            let mut none = Vec::new();
            match receive_packet::<()>(birth.shim, &mut none) {
                // Told to go on.
                Ok(Some(())) => program::run(&spec.config, limits.identity, limits.filter.as_deref()),
                // The shim has ended, and with it the wish for this container.
                _ => process::exit_now(1),
            }
        }
        Err(error) => error.into(),
    };
    fail(birth.shim, failure)
}

/// Tells the shim why it did not work, and ends.
fn fail(shim: BorrowedFd<'_>, failure: Failure) -> ! {
    let code = match &failure {
        Failure::Start(error) => error.exit_code(),
        _ => 128,
    };
    let _ = send_packet(shim, &FromInit::Failed(failure), &[]);
    process::exit_now(code)
}

/// What is decided before the root changes, and done at the very end.
struct Prepared {
    identity: identity::Identity,
    filter: Option<Vec<u8>>,
}

fn prepare(birth: &Birth<'_>) -> Result<(ContainerSpec, Prepared), SetupError> {
    let spec_file = birth.container_dir.join(crate::spec::CONTAINER_FILE);
    let spec: ContainerSpec =
        crate::spec::read(&spec_file).step(|| format!("read {}", spec_file.display()))?;
    let config = &spec.config;
    let (filter, mut degraded) = begin(&spec)?;
    limits::raise(&config.rlimits, &mut degraded)?;

    let shared_memory = enter_pod(birth)?;
    ns::leave(libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP).step(|| "make namespaces".to_owned())?;
    // The sources first: once the root is a slave, a clone of it could no longer pass mounts back to the machine.
    let mut attachments = mounts::collect(&config.mounts)?;
    mount::enslave_all().step(|| "detach mounts from the machine's".to_owned())?;

    let root = rootfs::mount(&config.rootfs, &birth.sandbox.mount_point)?;
    mounts::system(&root, &spec, shared_memory.as_ref())?;
    devices::make(&root, config)?;
    mounts::attach_all(&root, &mut attachments)?;
    let cwd = config.cwd.as_deref().unwrap_or(Path::new("/"));
    inroot::open_or_make_dir(&root, cwd, 0o755)
        .step(|| format!("make working directory {}", cwd.display()))?;
    let identity = identity::resolve(&root, &spec)?;

    std::env::set_current_dir(&birth.sandbox.mount_point).step(|| "enter the root".to_owned())?;
    ns::pivot_to_current_dir().step(|| "change the root".to_owned())?;
    mounts::restrict(config)?;
    process::new_session().step(|| "start a session".to_owned())?;
    let master = connect_stdio(birth, config, &identity)?;
    rootfs::seal(&config.rootfs)?;
    enter_cwd(cwd)?;

    let fds: Vec<BorrowedFd<'_>> = master.iter().map(std::os::fd::AsFd::as_fd).collect();
    let ready = FromInit::Ready {
        degraded,
        user: Some(identity.runs_as()),
    };
    send_packet(birth.shim, &ready, &fds).step(|| "report to the shim".to_owned())?;
    Ok((spec, Prepared { identity, filter }))
}

/// What needs the machine's files, and so comes before all else: the filter's bytes, the cgroup, the score.
fn begin(spec: &ContainerSpec) -> Result<(Option<Vec<u8>>, Vec<String>), SetupError> {
    // Until the exec this process is a copy of the shim: nobody may look into it.
    process::set_dumpable(false).step(|| "hide from tracers".to_owned())?;
    spec.membership
        .enter()
        .step(|| format!("enter cgroup {}", spec.cgroup))?;
    let filter = spec
        .seccomp
        .as_ref()
        .map(|path| std::fs::read(path).step(|| format!("read seccomp filter {}", path.display())));
    let mut degraded = Vec::new();
    if let Some(score) = spec.config.oom_score_adj {
        limits::set_oom_score(score, &mut degraded)?;
    }
    Ok((filter.transpose()?, degraded))
}

/// Enters the pod's namespaces. Returns the pod's shared memory, to be attached in the container's root.
fn enter_pod(birth: &Birth<'_>) -> Result<Option<OwnedFd>, SetupError> {
    let config = &birth.sandbox.config;
    let mut shared = None;
    let mut kinds = 0;
    if !config.namespaces.host_ipc {
        kinds |= libc::CLONE_NEWIPC;
        let here = ns::Whereabouts::remember().step(|| "open own mount namespace".to_owned())?;
        ns::enter(birth.infra, libc::CLONE_NEWNS).step(|| "enter the pod's mount namespace".to_owned())?;
        let tree = mount::open_path(infra::SHARED_MEMORY).and_then(|path| mount::clone_tree(path, false));
        shared = Some(tree.step(|| "find the pod's shared memory".to_owned())?);
        here.go_back()
            .step(|| "leave the pod's mount namespace".to_owned())?;
    }
    if config.namespaces.network == NetworkMode::Pod {
        kinds |= libc::CLONE_NEWNET | libc::CLONE_NEWUTS;
    }
    if kinds != 0 {
        ns::enter(birth.infra, kinds).step(|| "enter the pod's namespaces".to_owned())?;
    }
    Ok(shared)
}

/// Puts standard input, output and error in their places. With a terminal, returns its master.
fn connect_stdio(
    birth: &Birth<'_>,
    config: &ContainerConfig,
    identity: &identity::Identity,
) -> Result<Option<OwnedFd>, SetupError> {
    if config.tty {
        return terminal::open(identity.uid, None, true).map(Some);
    }
    if let Some(streams) = birth.stdio {
        install(streams)?;
        // The process may open its standard streams by name, whoever made them.
        for stream in streams {
            let _ = chown_pipe(stream, identity.uid);
        }
    }
    Ok(None)
}

fn install(streams: [BorrowedFd<'_>; 3]) -> Result<(), SetupError> {
    for (number, stream) in (0..).zip(streams) {
        fd::install_stdio(stream, number).step(|| format!("set standard stream {number}"))?;
    }
    Ok(())
}

/// Gives a pipe to `uid`. Files and devices are left as they are: they are not ours alone.
fn chown_pipe(stream: BorrowedFd<'_>, uid: u32) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    let file = std::fs::File::from(stream.try_clone_to_owned()?);
    if file.metadata()?.file_type().is_fifo() {
        std::os::unix::fs::fchown(&file, Some(uid), None)?;
    }
    Ok(())
}

/// Enters the working directory. It must lie inside the root: a directory of the machine that is open in this process must
/// not become it (CVE-2024-21626). So `/proc/self/fd/7` and its like are not followed, and what was entered is looked at.
fn enter_cwd(cwd: &Path) -> Result<(), SetupError> {
    let step = || format!("enter working directory {}", cwd.display());
    let root = mount::open_path("/").step(step)?;
    let dir = inroot::open(root, cwd, libc::O_PATH | libc::O_DIRECTORY).step(step)?;
    fd::enter_dir(dir).step(step)?;
    match std::env::current_dir() {
        Ok(path) if path.is_absolute() => Ok(()),
        _ => Err(SetupError::Refused(format!(
            "working directory {} is outside the root",
            cwd.display()
        ))),
    }
}

/// The flags with which a container's process of this sandbox is cloned.
pub(crate) fn clone_flags(sandbox: &SandboxSpec) -> i32 {
    match sandbox.config.namespaces.pid {
        PidMode::Container => libc::CLONE_NEWPID,
        PidMode::Pod | PidMode::Host => 0,
    }
}

/// Brings up what a fresh network namespace needs to talk to itself.
fn bring_up_loopback() -> Result<(), SetupError> {
    lo::bring_up().step(|| "bring up lo".to_owned())
}
