use std::os::unix::net::UnixStream;

use super::*;
use crate::cgroup::Membership;
use crate::config::{ContainerConfig, SandboxConfig};
use crate::handle::link;
use crate::protocol::Inbox;
use crate::spec::VERSION;
use crate::status::SandboxId;

/// A sandbox that has just been connected with its shim.
fn sandbox() -> Sandbox {
    let spec = SandboxSpec {
        version: VERSION,
        id: SandboxId::random().unwrap(),
        created_at_ns: 1,
        config: SandboxConfig::default(),
        cgroup: String::new(),
        socket: PathBuf::new(),
        netns: None,
        mount_point: PathBuf::new(),
        shim_cgroup: Membership::default(),
    };
    let sandbox = Sandbox::new(spec, PathBuf::new());
    let (ours, _shim) = UnixStream::pair().unwrap();
    ours.set_nonblocking(true).unwrap();
    let ours = tokio::net::UnixStream::from_std(ours).unwrap();
    sandbox.set_link(link::over(ours, Inbox::default()).0, 1, 2);
    sandbox
}

fn container() -> ContainerSpec {
    ContainerSpec {
        version: VERSION,
        id: ContainerId::random().unwrap(),
        created_at_ns: 1,
        config: ContainerConfig::default(),
        cgroup: String::new(),
        membership: Membership::default(),
        cgroup_views: Vec::new(),
        capabilities: 0,
        seccomp: None,
    }
}

fn runs(id: &ContainerId) -> ContainerReport {
    ContainerReport {
        container: id.clone(),
        state: ContainerState::Running,
        pid: 7,
        started_at_ns: 5,
        exit: None,
        degraded: Vec::new(),
        user: None,
    }
}

const EXIT: Exit = Exit {
    code: 3,
    signal: 0,
    oom: false,
    at_ns: 9,
};

/// State, pid, start and end of a container.
fn seen(sandbox: &Sandbox, id: &ContainerId) -> (ContainerState, i32, i64, Option<Exit>) {
    let status = sandbox.container(id).unwrap();
    (status.state, status.pid, status.started_at_ns, status.exit)
}

#[tokio::test]
async fn an_end_that_is_told_before_its_container_is_taken_up_counts() {
    let (sandbox, spec) = (sandbox(), container());
    let id = spec.id.clone();
    let report = runs(&id);
    assert!(!sandbox.on_exited(&id, EXIT));
    sandbox.take_up(spec, Some(&report), None);
    assert_eq!(seen(&sandbox, &id), (ContainerState::Exited, 0, 5, Some(EXIT)));
    sandbox.wait_exited(&id).await;
}

#[tokio::test]
async fn an_end_that_is_told_before_the_answer_to_its_creation_counts() {
    let (sandbox, spec) = (sandbox(), container());
    let id = spec.id.clone();
    assert!(!sandbox.on_exited(&id, EXIT));
    assert_eq!(sandbox.add(spec, 7, Vec::new(), None), Some(EXIT));
    assert_eq!(seen(&sandbox, &id), (ContainerState::Exited, 0, 0, Some(EXIT)));
    // Nobody else has it.
    let other = container();
    let id = other.id.clone();
    assert_eq!(sandbox.add(other, 8, Vec::new(), None), None);
    assert_eq!(seen(&sandbox, &id), (ContainerState::Created, 8, 0, None));
}

#[tokio::test]
async fn no_container_runs_without_the_shim_that_has_reported_it() {
    let (sandbox, known, unknown) = (sandbox(), container(), container());
    let ids = (known.id.clone(), unknown.id.clone());
    let end = ExitRecord {
        container: ids.0.clone(),
        started_at_ns: 6,
        exit: EXIT,
    };
    sandbox.on_shim_gone(&[end]);
    sandbox.take_up(known, Some(&runs(&ids.0)), None);
    sandbox.take_up(unknown, Some(&runs(&ids.1)), None);
    assert_eq!(seen(&sandbox, &ids.0), (ContainerState::Exited, 0, 6, Some(EXIT)));
    assert_eq!(seen(&sandbox, &ids.1), (ContainerState::Exited, 0, 5, None));
}

#[tokio::test]
async fn ends_that_nobody_takes_do_not_pile_up() {
    let sandbox = sandbox();
    for _ in 0..2 * EARLY_MAX {
        sandbox.on_exited(&ContainerId::random().unwrap(), EXIT);
    }
    assert_eq!(lock(&sandbox.picture).early.len(), EARLY_MAX);
}
