//! From create to remove.

use std::time::Duration;

use cloudeck_runtime::{ContainerState, Device, RequestError, RuntimeEvent, SandboxState, StartError};

use crate::lab::{Lab, within};

#[tokio::test]
async fn a_container_runs_logs_and_ends() {
    let lab = Lab::new().await;
    let (text, status) = lab.run(lab.shell("echo out; echo err >&2; exit 7")).await;
    assert_eq!(text.lines().collect::<Vec<_>>().len(), 2, "{text}");
    assert!(text.contains("out\n") && text.contains("err\n"));
    let exit = status.exit.unwrap();
    assert_eq!(
        (status.state, exit.code, exit.signal, exit.oom),
        (ContainerState::Exited, 7, 0, false)
    );
    assert!(status.created_at_ns <= status.started_at_ns && status.started_at_ns <= exit.at_ns);
}

#[tokio::test]
async fn events_tell_start_and_end() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let sandbox = lab.sandbox().await;
    let container = lab.start(&sandbox, lab.program(&["true"])).await;
    let mut started = false;
    within("the end", async {
        loop {
            match events.recv().await.unwrap() {
                RuntimeEvent::ContainerStarted { container: id, .. } if id == container => started = true,
                RuntimeEvent::ContainerExited {
                    container: id, exit, ..
                } => {
                    assert_eq!((id, exit.code), (container.clone(), 0));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
    })
    .await;
    assert!(started || lab.runtime().container_status(&container).unwrap().started_at_ns > 0);
}

#[tokio::test]
async fn containers_of_a_pod_share_network_host_name_and_memory_but_not_processes() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let server = lab.shell("echo shared > /dev/shm/x; echo pid $$; while :; do echo hi | nc -l -p 80; done");
    let server = lab.start(&sandbox, server).await;
    lab.wrote(&server, "pid 1").await;
    let client = "hostname; until nc 127.0.0.1 80 </dev/null | grep hi; do sleep 0.02; done; cat /dev/shm/x; echo pid $$";
    let (text, status) = lab.run_in(&sandbox, lab.shell(client)).await;
    assert_eq!(text, "pod\nhi\nshared\npid 1\n");
    assert_eq!(status.exit.unwrap().code, 0);
}

#[tokio::test]
async fn stop_is_polite_then_not() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let polite = lab.shell("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done");
    let polite = lab.start(&sandbox, polite).await;
    lab.wrote(&polite, "ready").await;
    lab.runtime()
        .stop_container(&polite, Duration::from_secs(15))
        .await
        .unwrap();
    assert_eq!(lab.ended(&polite).await.exit.unwrap().code, 3);

    let deaf = lab
        .start(
            &sandbox,
            lab.shell("trap '' TERM; echo ready; while :; do sleep 0.01; done"),
        )
        .await;
    lab.wrote(&deaf, "ready").await;
    lab.runtime()
        .stop_container(&deaf, Duration::from_millis(100))
        .await
        .unwrap();
    let exit = lab.ended(&deaf).await.exit.unwrap();
    assert_eq!((exit.code, exit.signal, exit.oom), (137, 9, false));
}

#[tokio::test]
async fn programs_that_cannot_run_are_told_in_known_words() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    std::fs::write(lab.path("image/bin/plain"), "no program").unwrap();
    std::fs::write(lab.path("image/tmp/data"), "").unwrap();
    let cases: [(&str, StartError, &str); 3] = [
        (
            "nope",
            StartError::NotInPath("nope".into()),
            "exec: \"nope\": executable file not found in $PATH",
        ),
        (
            "/nope",
            StartError::NoSuchFile("/nope".into()),
            "exec: \"/nope\": no such file or directory",
        ),
        (
            "/tmp/data",
            StartError::PermissionDenied("/tmp/data".into()),
            "exec: \"/tmp/data\": permission denied",
        ),
    ];
    for (program, expected, words) in cases {
        let id = lab
            .runtime()
            .create_container(&sandbox, lab.program(&[program]))
            .await
            .unwrap();
        match lab.runtime().start_container(&id).await {
            Err(RequestError::Start(error)) => {
                assert_eq!(error, expected);
                assert_eq!(error.to_string(), words);
            }
            other => panic!("{program}: {other:?}"),
        }
        assert_eq!(lab.ended(&id).await.exit.unwrap().code, expected.exit_code());
    }
}

#[tokio::test]
async fn what_cannot_be_set_up_fails_by_name_and_leaves_nothing() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let device = Device {
        host_path: "/dev/nope".into(),
        container_path: "/dev/x".into(),
        permissions: "r".into(),
    };
    let mut no_device = lab.program(&["true"]);
    no_device.devices.push(device);
    let mut no_user = lab.program(&["true"]);
    no_user.user.user = "ghost".to_owned();
    let mut no_layer = lab.program(&["true"]);
    no_layer.rootfs.lowers = vec![lab.path("missing")];
    let cases = [
        (no_device, "/dev/nope"),
        (no_user, "user ghost"),
        (no_layer, "missing"),
    ];
    for (config, words) in cases {
        let error = lab
            .runtime()
            .create_container(&sandbox, config)
            .await
            .unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(lab.runtime().containers().is_empty());
    let dir = lab.path("state/sandboxes").join(sandbox.as_str());
    let left: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .filter(|e| e.path().is_dir())
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_removed_pod_leaves_no_trace() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    lab.start(&sandbox, lab.shell("sleep 1000 & sleep 1000")).await;
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    assert_eq!(status.state, SandboxState::Ready);
    assert!(status.netns.as_ref().unwrap().exists());
    lab.runtime().remove_pod_sandbox(&sandbox).await.unwrap();
    assert!(!status.netns.unwrap().exists());
    assert!(!lab.path("state/sandboxes").join(sandbox.as_str()).exists());
    assert!(lab.runtime().sandboxes().is_empty() && lab.runtime().containers().is_empty());
    let cgroup = format!("{}/{}", lab.config.cgroup_parent, status.config.cgroup_parent);
    assert!(
        cloudeck_runtime::cgroup::Cgroups::discover()
            .unwrap()
            .dirs(&cgroup)
            .is_empty()
    );
    within("the end of the shim", async {
        while std::path::Path::new(&format!("/proc/{}", status.shim_pid)).exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_sandbox_that_cannot_be_made_leaves_no_cgroup() {
    let lab = Lab::new().await;
    let mut config = Lab::pod();
    config.sysctls.insert("vm.swappiness".to_owned(), "1".to_owned());
    let path = format!("{}/{}", lab.config.cgroup_parent, config.cgroup_parent);
    let error = lab.runtime().run_pod_sandbox(config).await.unwrap_err();
    assert!(error.to_string().contains("vm.swappiness"), "{error}");
    let cgroups = cloudeck_runtime::cgroup::Cgroups::discover().unwrap();
    assert!(cgroups.dirs(&path).is_empty());
}
