//! A further process in a container that runs.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use cloudeck_linux::{mount, ns, process};

use super::{Birth, SetupError, Step, begin, enter_cwd, fail, identity, install, limits, program, terminal};
use crate::protocol::{ExecSpec, Failure, FromInit, send_packet};
use crate::spec::ContainerSpec;

/// Becomes the process. The shim has forked it into the container's pid namespace (and cgroup, on version 2). Does not
/// come back.
pub(crate) fn exec(birth: &Birth<'_>, container: BorrowedFd<'_>, wanted: &ExecSpec) -> ! {
    let prepared = birth
        .keep_alone(Some(container))
        .and_then(|()| prepare(birth, container, wanted));
    let failure = match prepared {
        Ok((spec, identity, filter)) => {
            let env = [spec.config.env.as_slice(), wanted.env.as_slice()].concat();
            program::run_as(
                &wanted.argv,
                &env,
                wanted.terminal.is_some(),
                identity,
                filter.as_deref(),
            )
        }
        Err(error) => Failure::from(error),
    };
    fail(birth.shim, failure)
}

type Ready = (ContainerSpec, identity::Identity, Option<Vec<u8>>);

fn prepare(birth: &Birth<'_>, container: BorrowedFd<'_>, wanted: &ExecSpec) -> Result<Ready, SetupError> {
    let spec_file = birth.container_dir.join(crate::spec::CONTAINER_FILE);
    let spec: ContainerSpec =
        crate::spec::read(&spec_file).step(|| format!("read {}", spec_file.display()))?;
    let (filter, mut degraded) = begin(&spec)?;
    limits::raise(&spec.config.rlimits, &mut degraded)?;
    let kinds = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWNET
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUTS;
    ns::enter(container, kinds).step(|| "enter the container".to_owned())?;
    let root: OwnedFd = mount::open_path("/").step(|| "open the root".to_owned())?;
    let user = wanted.user.as_ref().unwrap_or(&spec.config.user);
    let identity = identity::resolve_user(&root, &spec, user)?;
    process::new_session().step(|| "start a session".to_owned())?;
    let master = wanted
        .terminal
        .map(|size| terminal::open(identity.uid, Some(size), false))
        .transpose()?;
    if master.is_none() {
        birth.stdio.map_or(Ok(()), install)?;
    }
    let cwd = wanted
        .cwd
        .as_deref()
        .or(spec.config.cwd.as_deref())
        .unwrap_or(Path::new("/"));
    enter_cwd(cwd)?;
    let fds: Vec<BorrowedFd<'_>> = master.iter().map(std::os::fd::AsFd::as_fd).collect();
    let ready = FromInit::Ready { degraded, user: None };
    send_packet(birth.shim, &ready, &fds).step(|| "report to the shim".to_owned())?;
    Ok((spec, identity, filter))
}
