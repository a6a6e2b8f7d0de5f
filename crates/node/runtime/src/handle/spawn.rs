//! Starting a shim, and finding one that runs.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use cloudeck_linux::mount::{self, attribute};
use cloudeck_linux::{clone, pidfd, process, scm};

use crate::cgroup::Membership;
use crate::protocol::{FromShim, Inbox};
use crate::spec::{ShimRecord, VERSION};
use crate::status::SandboxId;

/// A shim that has greeted.
pub(super) struct Greeted {
    pub(super) stream: UnixStream,
    pub(super) inbox: Inbox,
    pub(super) pid: i32,
    pub(super) infra_pid: i32,
    /// To be waited for once it has ended, where it is this daemon's child.
    pub(super) child: Option<i32>,
}

/// A shim could not be started or reached.
#[derive(Debug, thiserror::Error)]
pub(super) enum ShimError {
    #[error("{0}")]
    Refused(String),
    #[error("{what}")]
    Io { what: &'static str, source: io::Error },
}

fn at(what: &'static str) -> impl FnOnce(io::Error) -> ShimError {
    move |source| ShimError::Io { what, source }
}

/// How long a shim may take to set its sandbox up, or a living one to greet: far beyond what it needs, for a machine that
/// is very busy.
pub(super) const GREETING_LIMIT: Duration = Duration::from_secs(20);

/// The program at `path` on a mount of its own that is read-only: through `/proc/<pid>/exe` of a shim or of a container
/// that is being made, nobody can open it for writing (CVE-2019-5736).
pub(super) fn sealed_program(path: &Path) -> io::Result<OwnedFd> {
    let tree = mount::clone_tree(mount::open_path(path)?, false)?;
    mount::set_attributes(
        &tree,
        attribute::READ_ONLY | attribute::NO_SUID,
        libc::MS_PRIVATE,
        false,
    )?;
    Ok(tree)
}

/// Starts the shim of the sandbox in `dir`. Blocks until it has set the sandbox up.
pub(super) fn start(
    program: &OwnedFd,
    dir: &Path,
    id: &SandboxId,
    cgroup: &Membership,
) -> Result<Greeted, ShimError> {
    let (ours, theirs) = UnixStream::pair().map_err(at("make a socket"))?;
    let program = format!("/proc/self/fd/{}", program.as_raw_fd());
    let spawned = match &cgroup.birth {
        None => spawn(&program, dir, theirs),
        Some(group) => spawn_into(&program, dir, &theirs, group),
    };
    let child = spawned.map_err(at("start the shim"))?;
    match greeting(ours, id) {
        Ok(greeted) => Ok(Greeted {
            child: Some(child),
            ..greeted
        }),
        Err(error) => {
            // It is about to end by itself, unless it hangs.
            let _ = pidfd::open(child).and_then(|child| pidfd::send_signal(child, libc::SIGKILL));
            process::reap(child);
            Err(error)
        }
    }
}

/// Starts a shim that enters its cgroup itself. It is waited for by its pid.
fn spawn(program: &str, dir: &Path, socket: UnixStream) -> io::Result<i32> {
    let child = Command::new(program)
        .arg0("cloudeck")
        .args([crate::SHIM_WORD.as_ref(), dir.as_os_str()])
        .env_clear()
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(child.id() as i32)
}

/// Starts a shim in a cgroup of version 2.
fn spawn_into(program: &str, dir: &Path, socket: &UnixStream, cgroup: &Path) -> io::Result<i32> {
    let argv = [
        b"cloudeck".as_slice(),
        crate::SHIM_WORD.as_bytes(),
        dir.as_os_str().as_bytes(),
    ];
    let argv = argv
        .into_iter()
        .map(CString::new)
        .collect::<Result<Vec<_>, _>>()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    let group = File::open(cgroup)?;
    let program = CString::new(program)?;
    clone::spawn_into_cgroup(&program, &argv, socket.as_fd(), null.as_fd(), group.as_fd())
}

/// Reaches the shim that `record`, which is of this boot, tells of; `None` when it is gone or cannot be talked to.
pub(super) fn reach(record: &ShimRecord, socket: &Path, id: &SandboxId) -> Option<Greeted> {
    let is_same = |pid: i32| process::start_time(pid).is_ok_and(|time| time == record.start_time);
    if record.version > VERSION || !is_same(record.pid) {
        return None;
    }
    let stream = UnixStream::connect(socket).ok()?;
    // The pid may have passed to another process since it was looked at; the socket's owner is asked of the kernel.
    if scm::peer_pid(&stream).ok()? != record.pid || !is_same(record.pid) {
        return None;
    }
    greeting(stream, id).ok()
}

fn greeting(stream: UnixStream, id: &SandboxId) -> Result<Greeted, ShimError> {
    stream
        .set_read_timeout(Some(GREETING_LIMIT))
        .map_err(at("set up the socket"))?;
    let mut inbox = Inbox::default();
    let first = loop {
        if let Some(message) = inbox.next().map_err(at("understand the shim"))? {
            break message;
        }
        if !inbox.fill(&stream).map_err(at("hear from the shim"))? {
            return Err(ShimError::Refused(
                "the shim ended while it set the sandbox up".to_owned(),
            ));
        }
    };
    match first {
        FromShim::Hello {
            version,
            sandbox,
            pid,
            infra_pid,
        } if version <= VERSION && sandbox == *id => {
            stream.set_nonblocking(true).map_err(at("set up the socket"))?;
            Ok(Greeted {
                stream,
                inbox,
                pid,
                infra_pid,
                child: None,
            })
        }
        FromShim::Hello { version, sandbox, .. } => Err(ShimError::Refused(format!(
            "the shim is of version {version} and sandbox {sandbox}"
        ))),
        FromShim::Failed(reason) => Err(ShimError::Refused(reason)),
        _ => Err(ShimError::Refused("the shim did not greet".to_owned())),
    }
}
