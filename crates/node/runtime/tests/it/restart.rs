//! Everything may die at any time.

use std::path::Path;
use std::time::Duration;

use cloudeck_runtime::{ContainerState, OpenError, Runtime, RuntimeEvent, SandboxState};

use crate::lab::{Lab, is_alive, within};

fn kill(pid: i32) {
    let process = cloudeck_linux::pidfd::open(pid).unwrap();
    cloudeck_linux::pidfd::send_signal(&process, libc::SIGKILL).unwrap();
}

async fn gone(pid: i32) {
    within("the end of a process", async {
        while is_alive(pid as u32) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn containers_outlive_the_daemon_and_are_taken_up_again() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let config = lab.shell("echo up; while ! test -e /tmp/go; do sleep 0.02; done; echo done; exit 4");
    let id = lab.start(&sandbox, config).await;
    lab.wrote(&id, "up").await;
    let waiting = lab
        .runtime()
        .create_container(&sandbox, lab.shell("echo started; exit 6"))
        .await
        .unwrap();
    let before = (lab.runtime().sandboxes(), lab.runtime().containers());
    for _ in 0..3 {
        lab.kill_daemon().await;
        lab.start_daemon().await;
        assert_eq!((lab.runtime().sandboxes(), lab.runtime().containers()), before);
    }
    lab.runtime().start_container(&waiting).await.unwrap();
    assert_eq!(lab.ended(&waiting).await.exit.unwrap().code, 6);
    let argv = ["touch", "/tmp/go"].map(ToOwned::to_owned).to_vec();
    lab.runtime()
        .exec_sync(&id, argv, Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(lab.ended(&id).await.exit.unwrap().code, 4);
    lab.wrote(&id, "done").await;
}

#[tokio::test]
async fn an_end_while_the_daemon_is_away_is_not_lost() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let id = lab
        .start(
            &sandbox,
            lab.shell("echo up; while ! test -e /dev/shm/go; do sleep 0.02; done; exit 42"),
        )
        .await;
    lab.wrote(&id, "up").await;
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    lab.kill_daemon().await;
    std::fs::write(format!("/proc/{}/root/shm/go", status.infra_pid), "").unwrap();
    gone(pid).await;
    // With the shim gone as well, only the disk knows. The end is on it before anybody hears of it; wait until it is.
    let exits = lab.path("state/sandboxes").join(sandbox.as_str()).join("exits");
    within("the record", async {
        while !std::fs::read_to_string(&exits).unwrap().contains(id.as_str()) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    kill(status.shim_pid);
    gone(status.shim_pid).await;
    lab.start_daemon().await;
    let after = lab.runtime().container_status(&id).unwrap();
    assert_eq!(
        (after.state, after.exit.unwrap().code),
        (ContainerState::Exited, 42)
    );
    assert!(after.started_at_ns > 0);
    assert_eq!(
        lab.runtime().sandbox_status(&sandbox).unwrap().state,
        SandboxState::NotReady
    );
    lab.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_dead_shim_takes_its_containers_along_and_leaves_known_ends() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let sandbox = lab.sandbox().await;
    let (_, known) = lab.run_in(&sandbox, lab.shell("exit 3")).await;
    let id = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&id, "up").await;
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    kill(status.shim_pid);
    within("the news", async {
        while !matches!(events.recv().await.unwrap(), RuntimeEvent::ShimDied { sandbox: id } if id == sandbox)
        {
        }
    })
    .await;
    gone(pid).await;
    gone(status.infra_pid).await;
    let after = lab.runtime().container_status(&id).unwrap();
    assert_eq!((after.state, after.exit), (ContainerState::Exited, None));
    assert_eq!(
        lab.runtime().container_status(&known.id).unwrap().exit,
        known.exit
    );
    assert_eq!(
        lab.runtime().sandbox_status(&sandbox).unwrap().state,
        SandboxState::NotReady
    );
    lab.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(!Path::new(&status.netns.unwrap()).exists());
}

#[tokio::test]
async fn the_death_of_a_shim_is_noticed_while_a_container_waits_to_be_started() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let sandbox = lab.sandbox().await;
    let created = lab.runtime().create_container(&sandbox, lab.shell("true"));
    let id = created.await.unwrap();
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    kill(status.shim_pid);
    within("the news", async {
        while !matches!(events.recv().await.unwrap(), RuntimeEvent::ShimDied { sandbox: id } if id == sandbox)
        {
        }
    })
    .await;
    gone(pid).await;
    let after = lab.runtime().container_status(&id).unwrap();
    assert_eq!((after.state, after.exit), (ContainerState::Exited, None));
}

#[tokio::test]
async fn an_infra_process_does_not_outlive_a_shim_that_dies_while_it_is_set_up() {
    let lab = Lab::new().await;
    let model = lab.sandbox().await;
    let sandboxes = lab.path("state/sandboxes");
    let text = std::fs::read_to_string(sandboxes.join(model.as_str()).join("sandbox.json")).unwrap();
    for number in 0..5 {
        let other = format!("{number}").repeat(64);
        let dir = sandboxes.join(&other);
        std::fs::create_dir(&dir).unwrap();
        let text = text
            .replace(model.as_str(), &other)
            .replace(&model.as_str()[..16], &other[..16]);
        std::fs::write(dir.join("sandbox.json"), text).unwrap();
        let (_daemon, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut shim = std::process::Command::new(&lab.config.shim_exe)
            .arg(cloudeck_runtime::SHIM_WORD)
            .arg(&dir)
            .stdin(std::os::fd::OwnedFd::from(theirs))
            .spawn()
            .unwrap();
        let children = format!("/proc/{0}/task/{0}/children", shim.id());
        let infra = loop {
            let text = std::fs::read_to_string(&children).unwrap();
            if let Some(child) = text.split_ascii_whitespace().next() {
                break child.parse().unwrap();
            }
        };
        shim.kill().unwrap();
        shim.wait().unwrap();
        gone(infra).await;
    }
}

#[tokio::test]
async fn a_shim_that_cannot_be_reached_is_ended_with_its_sandbox() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let id = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&id, "up").await;
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    lab.kill_daemon().await;
    let file = lab
        .path("state/sandboxes")
        .join(sandbox.as_str())
        .join("sandbox.json");
    let spec: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
    std::fs::remove_file(spec["socket"].as_str().unwrap()).unwrap();
    lab.start_daemon().await;
    for pid in [pid, status.infra_pid, status.shim_pid] {
        gone(pid).await;
    }
    let after = lab.runtime().container_status(&id).unwrap();
    assert_eq!((after.state, after.exit), (ContainerState::Exited, None));
    lab.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
}

#[tokio::test]
async fn a_dead_infra_process_ends_the_pod() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let sandbox = lab.sandbox().await;
    let id = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&id, "up").await;
    kill(lab.runtime().sandbox_status(&sandbox).unwrap().infra_pid);
    within("the news", async {
        while !matches!(events.recv().await.unwrap(), RuntimeEvent::SandboxDied { sandbox: id } if id == sandbox) {}
    })
    .await;
    assert_eq!(lab.ended(&id).await.exit.unwrap().code, 137);
    assert_eq!(
        lab.runtime().sandbox_status(&sandbox).unwrap().state,
        SandboxState::NotReady
    );
    let error = lab
        .runtime()
        .create_container(&sandbox, lab.program(&["true"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("not ready"), "{error}");
}

#[tokio::test]
async fn a_shim_of_another_boot_is_not_taken_for_ours() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let id = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&id, "up").await;
    let shim = lab.runtime().sandbox_status(&sandbox).unwrap().shim_pid;
    lab.kill_daemon().await;
    let path = lab
        .path("state/sandboxes")
        .join(sandbox.as_str())
        .join("shim.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let boot = cloudeck_linux::process::boot_id().unwrap();
    std::fs::write(&path, text.replace(&boot, "00000000-0000-0000-0000-000000000000")).unwrap();
    lab.start_daemon().await;
    let after = lab.runtime().container_status(&id).unwrap();
    assert_eq!((after.state, after.exit), (ContainerState::Exited, None));
    kill(shim);
}

#[tokio::test]
async fn a_second_daemon_is_refused() {
    let lab = Lab::new().await;
    let error = Runtime::open(lab.config.clone(), &lab.scope).await.err();
    assert!(matches!(error, Some(OpenError::Locked(_))), "{error:?}");
}

#[tokio::test]
async fn purge_finds_everything_with_the_daemon_dead() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let id = lab
        .start(
            &sandbox,
            lab.shell("trap '' TERM; echo up; sleep 1000 & sleep 1000"),
        )
        .await;
    lab.wrote(&id, "up").await;
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    lab.kill_daemon().await;
    // Also without the files that would tell.
    std::fs::remove_dir_all(lab.path("state/sandboxes")).unwrap();
    let report = Runtime::purge(&lab.config, true).await;
    assert_eq!(report.left, Vec::<String>::new());
    for pid in [pid, status.infra_pid, status.shim_pid] {
        gone(pid).await;
    }
    assert!(!lab.config.run_dir.exists());
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!mounts.contains(lab.config.run_dir.to_str().unwrap()));
    let cgroups = cloudeck_runtime::cgroup::Cgroups::discover().unwrap();
    assert!(cgroups.dirs(&lab.config.cgroup_parent).is_empty());
    assert!(!lab.path("state/seccomp").exists());
}

#[tokio::test]
async fn what_a_dead_daemon_left_half_made_is_cleared_away() {
    let mut lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let id = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&id, "up").await;
    lab.kill_daemon().await;
    let sandboxes = lab.path("state/sandboxes");
    let empty = sandboxes.join("a".repeat(64));
    std::fs::create_dir(&empty).unwrap();
    // A container that the shim was never told of.
    let half = sandboxes.join(sandbox.as_str()).join("b".repeat(64));
    std::fs::create_dir(&half).unwrap();
    let whole = sandboxes
        .join(sandbox.as_str())
        .join(id.as_str())
        .join("container.json");
    let text = std::fs::read_to_string(whole)
        .unwrap()
        .replace(id.as_str(), &"b".repeat(64));
    std::fs::write(half.join("container.json"), text).unwrap();
    lab.start_daemon().await;
    assert!(!empty.exists() && !half.exists());
    let ids: Vec<_> = lab
        .runtime()
        .containers()
        .into_iter()
        .map(|status| status.id)
        .collect();
    assert_eq!(ids, [id]);
}
