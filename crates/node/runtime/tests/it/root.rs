//! The container's file system and its surroundings.

use cloudeck_runtime::{BindPropagation, Mount, MountSource, NetworkMode, PidMode};

use crate::lab::Lab;

fn bind(path: std::path::PathBuf, destination: &str) -> Mount {
    Mount {
        destination: destination.into(),
        source: MountSource::Bind { path, sub_path: None },
        readonly: false,
        recursive_readonly: false,
        propagation: BindPropagation::Private,
    }
}

#[tokio::test]
async fn what_a_container_writes_stays_in_its_upper_layer() {
    let lab = Lab::new().await;
    let config = lab.shell("echo new > /etc/passwd; rm /etc/group; cat /etc/passwd");
    let upper = config.rootfs.upper.clone();
    assert_eq!(lab.run(config).await.0, "new\n");
    assert!(
        std::fs::read_to_string(lab.path("image/etc/passwd"))
            .unwrap()
            .starts_with("root")
    );
    assert_eq!(
        std::fs::read_to_string(upper.join("etc/passwd")).unwrap(),
        "new\n"
    );
}

#[tokio::test]
async fn many_layers_with_long_names_stack_in_order() {
    let lab = Lab::new().await;
    let mut config = lab.shell("cat /which; ls / | grep -c layer");
    for number in 0..60 {
        let dir = lab.path(&format!("layer-{}-{number}:with,odd\\name", "x".repeat(150)));
        std::fs::create_dir_all(dir.join(format!("layer{number}"))).unwrap();
        std::fs::write(dir.join("which"), format!("{number}\n")).unwrap();
        config.rootfs.lowers.insert(0, dir);
    }
    assert_eq!(lab.run(config).await.0, "59\n60\n");
}

#[tokio::test]
async fn a_read_only_root_still_has_its_mounts() {
    let lab = Lab::new().await;
    std::fs::create_dir(lab.path("data")).unwrap();
    let mut config = lab.shell("touch /x; touch /data/y && echo > /dev/shm/z && echo ok; touch /fixed/x");
    config.rootfs.readonly = true;
    config.mounts = vec![
        bind(lab.path("data"), "/data"),
        Mount {
            readonly: true,
            ..bind(lab.path("data"), "/fixed")
        },
    ];
    let (text, _) = lab.run(config).await;
    assert!(
        text.contains("/x: Read-only file system") && text.contains("ok\n"),
        "{text}"
    );
    assert!(text.contains("/fixed/x: Read-only"), "{text}");
    assert!(lab.path("data/y").exists());
}

#[tokio::test]
async fn mounts_come_by_depth_files_and_memory_too() {
    let lab = Lab::new().await;
    std::fs::create_dir_all(lab.path("data")).unwrap();
    std::fs::write(lab.path("hosts"), "127.0.0.1 me\n").unwrap();
    let memory = Mount {
        source: MountSource::Tmpfs {
            size_bytes: Some(1 << 20),
            mode: Some(0o700),
        },
        ..bind(lab.path("data"), "/data/deep/memory")
    };
    let mut config =
        lab.shell("cat /etc/hosts; stat -c '%a' /data/deep/memory; mount | grep memory | grep -c size=1024k");
    config.mounts = vec![
        memory,
        bind(lab.path("hosts"), "/etc/hosts"),
        bind(lab.path("data"), "/data"),
    ];
    let (text, _) = lab.run(config).await;
    assert_eq!(text, "127.0.0.1 me\n700\n1\n");
    assert!(
        lab.path("data/deep/memory").is_dir(),
        "the target lies in the volume"
    );
}

#[tokio::test]
async fn mounts_travel_only_where_asked() {
    let lab = Lab::new().await;
    let shared = lab.path("shared");
    std::fs::create_dir_all(shared.join("in")).unwrap();
    // A mount of its own with a peer group of its own, as an operator would prepare it.
    cloudeck_linux::mount::bind(&shared, &shared).unwrap();
    cloudeck_linux::mount::change(&shared, libc::MS_SHARED).unwrap();
    let propagations = [
        BindPropagation::Private,
        BindPropagation::HostToContainer,
        BindPropagation::Bidirectional,
    ];
    let mut seen = Vec::new();
    for propagation in propagations {
        let mut config = lab.shell("grep ' /shared ' /proc/self/mountinfo; mkdir -p /shared/out; mount -t tmpfs out /shared/out; echo mounted; while ! test -e /shared/in/file; do test -e /shared/stop && { test -e /shared/in/file; exit; }; sleep 0.02; done");
        config.security.privileged = true;
        config.mounts = vec![Mount {
            propagation,
            ..bind(shared.clone(), "/shared")
        }];
        let sandbox = lab.sandbox().await;
        let id = lab.start(&sandbox, config).await;
        lab.wrote(&id, "mounted").await;
        let out = std::fs::read_to_string("/proc/self/mountinfo")
            .unwrap()
            .contains(shared.join("out").to_str().unwrap());
        let input = std::ffi::CString::new(shared.join("in").to_str().unwrap()).unwrap();
        let place = cloudeck_linux::mount::open_path(shared.join("in")).unwrap();
        cloudeck_linux::mount::mount_on("in", place, "tmpfs", 0, "").unwrap();
        std::fs::write(shared.join("in/file"), "").unwrap();
        std::fs::write(shared.join("stop"), "").unwrap();
        seen.push((out, lab.ended(&id).await.exit.unwrap().code == 0));
        let _ = cloudeck_linux::mount::detach(std::path::Path::new(input.to_str().unwrap()));
        let _ = cloudeck_linux::mount::detach(shared.join("out"));
        std::fs::remove_file(shared.join("stop")).unwrap();
    }
    cloudeck_linux::mount::detach(&shared).unwrap();
    assert_eq!(seen, [(false, false), (false, true), (true, true)]);
}

#[tokio::test]
async fn a_pod_on_the_machines_namespaces_sees_the_machine() {
    let lab = Lab::new().await;
    let mut pod = Lab::pod();
    pod.namespaces.network = NetworkMode::Host;
    pod.namespaces.pid = PidMode::Host;
    pod.namespaces.host_ipc = true;
    let status = lab.runtime().run_pod_sandbox(pod).await.unwrap();
    assert_eq!(status.netns, None);
    let script = "for kind in net pid ipc uts; do readlink /proc/self/ns/$kind; done";
    let (text, _) = lab.run_in(&status.id, lab.shell(script)).await;
    let ours = ["net", "pid", "ipc", "uts"].map(|kind| {
        std::fs::read_link(format!("/proc/self/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    });
    assert_eq!(text.lines().collect::<Vec<_>>(), ours);
}

#[tokio::test]
async fn a_container_with_a_terminal_logs_it_and_has_a_console() {
    let lab = Lab::new().await;
    let mut config = lab.shell("test -t 0 && echo tty; echo $TERM; tty; echo out > /dev/console");
    config.tty = true;
    let (text, status) = lab.run(config).await;
    assert_eq!(text.replace('\r', ""), "tty\nxterm\n/dev/pts/0\nout\n");
    assert_eq!(status.exit.unwrap().code, 0);
}

#[tokio::test]
async fn open_standard_input_waits_and_closed_one_ends() {
    let lab = Lab::new().await;
    let (text, _) = lab.run(lab.shell("cat; echo end")).await;
    assert_eq!(text, "end\n");
    let sandbox = lab.sandbox().await;
    let mut config = lab.shell("echo up; cat; echo end");
    config.stdin = true;
    let id = lab.start(&sandbox, config).await;
    lab.wrote(&id, "up").await;
    lab.runtime()
        .stop_container(&id, std::time::Duration::ZERO)
        .await
        .unwrap();
    assert_eq!(lab.ended(&id).await.exit.unwrap().code, 137);
}

#[tokio::test]
async fn a_working_directory_is_made_and_entered() {
    let lab = Lab::new().await;
    let mut config = lab.program(&["pwd"]);
    config.cwd = Some("/srv/app/deep".into());
    assert_eq!(lab.run(config).await.0, "/srv/app/deep\n");
}
