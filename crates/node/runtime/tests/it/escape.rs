//! What keeps a container in. Each invariant of the design has a test here.

use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cloudeck_linux::ns;
use cloudeck_runtime::{
    BindPropagation, Capabilities, ExecRequest, Mount, MountSource, Namespaces, PidMode, SandboxConfig,
    SeccompProfile, Stdio, User,
};

use crate::lab::Lab;

fn status_field(pid: i32, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().to_owned()
}

fn shared_pids() -> SandboxConfig {
    let namespaces = Namespaces {
        pid: PidMode::Pod,
        ..Namespaces::default()
    };
    SandboxConfig {
        namespaces,
        ..Lab::pod()
    }
}

#[tokio::test]
async fn the_infra_process_has_an_empty_read_only_root_and_no_rights() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let pid = lab.runtime().sandbox_status(&sandbox).unwrap().infra_pid;
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let names: Vec<_> = std::fs::read_dir(&root)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert_eq!(names, ["shm"]);
    let error = std::fs::create_dir(root.join("x")).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::EROFS));
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert_eq!(status_field(pid, set), "0000000000000000", "{set}");
    }
    assert_eq!(status_field(pid, "Uid"), "65535\t65535\t65535\t65535");
    assert_eq!(status_field(pid, "NoNewPrivs"), "1");
    assert!(
        std::fs::read_dir(format!("/proc/{pid}/fd"))
            .unwrap()
            .next()
            .is_none(),
        "it has open files"
    );
    // The kernel gives the files of a process that nobody may look into to root.
    assert_eq!(
        std::fs::metadata(format!("/proc/{pid}/environ")).unwrap().uid(),
        0
    );
}

/// What lies at the top of a process's mount namespace, which is where a chroot that is broken out of leads to.
fn top_of(pid: i32) -> Vec<String> {
    let process = cloudeck_linux::pidfd::open(pid).unwrap();
    let look = std::thread::spawn(move || {
        // Only one that shares its place with no other thread may enter.
        ns::leave(libc::CLONE_NEWNS).unwrap();
        ns::enter(process, libc::CLONE_NEWNS).unwrap();
        let entries = std::fs::read_dir("/").unwrap().flatten();
        entries
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect()
    });
    let mut names: Vec<String> = look.join().unwrap();
    names.sort();
    names
}

#[tokio::test]
async fn nothing_of_the_machine_lies_above_the_roots() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let infra = lab.runtime().sandbox_status(&sandbox).unwrap().infra_pid;
    assert_eq!(top_of(infra), ["shm"]);
    let id = lab.start(&sandbox, lab.shell("sleep 1000")).await;
    let pid = lab.runtime().container_status(&id).unwrap().pid;
    assert_eq!(top_of(pid), ["bin", "dev", "etc", "proc", "root", "sys", "tmp"]);
}

#[tokio::test]
async fn with_shared_pids_process_1_is_closed_to_the_containers() {
    let lab = Lab::new().await;
    let sandbox = lab.runtime().run_pod_sandbox(shared_pids()).await.unwrap().id;
    let script = "echo pid $$; ls /proc/1/root/ 2>&1; ls -l /proc/1/exe 2>&1; cat /proc/1/environ 2>&1";
    let (text, _) = lab.run_in(&sandbox, lab.shell(script)).await;
    assert!(!text.contains("pid 1\n"), "the shell is process 1: {text}");
    assert_eq!(text.matches("ermission denied").count(), 3, "{text}");
}

#[tokio::test]
async fn the_infra_process_reaps_orphans_and_ends_on_sigterm() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let sandbox = lab.runtime().run_pod_sandbox(shared_pids()).await.unwrap();
    // The inner shell ends at once; the sleep is an orphan, and when it ends nobody but process 1 can reap it.
    let script = "sh -c 'sleep 0.05 & echo $! > /tmp/pid'; p=$(cat /tmp/pid); while test -e /proc/$p; do sleep 0.02; done; echo gone";
    let (text, _) = lab.run_in(&sandbox.id, lab.shell(script)).await;
    assert_eq!(text, "gone\n");
    let infra = cloudeck_linux::pidfd::open(sandbox.infra_pid).unwrap();
    cloudeck_linux::pidfd::send_signal(&infra, libc::SIGTERM).unwrap();
    crate::lab::within("the news", async {
        loop {
            if let cloudeck_runtime::RuntimeEvent::SandboxDied { .. } = events.recv().await.unwrap() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test]
async fn no_descriptor_of_ours_reaches_the_program() {
    let lab = Lab::new().await;
    let (text, _) = lab.run(lab.program(&["sh", "-c", "echo /proc/self/fd/*"])).await;
    // The shell's own: the three, and the directory that it lists.
    let open: Vec<_> = text.split_whitespace().collect();
    assert_eq!(
        open,
        [
            "/proc/self/fd/0",
            "/proc/self/fd/1",
            "/proc/self/fd/2",
            "/proc/self/fd/3"
        ],
        "{text}"
    );
}

#[tokio::test]
async fn a_working_directory_outside_the_root_is_refused() {
    let lab = Lab::new().await;
    // A daemon that leaks a directory of the machine into everything that it starts.
    let machine = std::fs::File::open("/").unwrap();
    let leaked = machine.as_raw_fd();
    // SAFETY: plain fcntl on an open descriptor.
    assert_eq!(unsafe { libc::fcntl(leaked, libc::F_SETFD, 0) }, 0);
    let sandbox = lab.sandbox().await;
    let victim = lab
        .start(&sandbox, lab.shell("echo up; echo /proc/self/fd/*; sleep 1000"))
        .await;
    lab.wrote(&victim, "/proc/self/fd/3\n").await;
    for number in (3..40).chain([leaked]) {
        let cwd = PathBuf::from(format!("/proc/self/fd/{number}"));
        let mut config = lab.program(&["pwd"]);
        config.cwd = Some(cwd.clone());
        let created = lab.runtime().create_container(&sandbox, config).await;
        assert!(created.is_err(), "a container entered {}", cwd.display());
        let stdio = Stdio::Pipes {
            stdin: None,
            stdout: None,
            stderr: None,
        };
        let exec = ExecRequest {
            argv: vec!["pwd".into()],
            env: Vec::new(),
            cwd: Some(cwd.clone()),
            user: None,
            stdio,
        };
        assert!(
            lab.runtime().exec(&victim, exec).await.is_err(),
            "an exec entered {}",
            cwd.display()
        );
    }
}

#[tokio::test]
async fn the_shims_program_cannot_be_written_through_any_process() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let container = lab
        .runtime()
        .create_container(&sandbox, lab.program(&["true"]))
        .await
        .unwrap();
    let status = lab.runtime().sandbox_status(&sandbox).unwrap();
    let waiting = lab.runtime().container_status(&container).unwrap().pid;
    for pid in [status.shim_pid, status.infra_pid, waiting] {
        let path = format!("/proc/{pid}/exe");
        let error = std::fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .unwrap_err();
        // ETXTBSY would pass with the last process; the read-only mount does not.
        assert_eq!(error.raw_os_error(), Some(libc::EROFS), "{path}");
    }
}

#[tokio::test]
async fn links_in_an_image_or_volume_do_not_lead_out() {
    let lab = Lab::new().await;
    let outside = lab.path("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    std::fs::create_dir(lab.path("volume")).unwrap();
    std::fs::write(lab.path("file"), "bound").unwrap();
    std::os::unix::fs::symlink(&outside, lab.path("volume/sub")).unwrap();
    std::os::unix::fs::symlink(&outside, lab.path("image/data")).unwrap();
    let mut config = lab.shell("ls /sub/; cat /data/made");
    config.mounts = vec![
        Mount {
            destination: "/sub".into(),
            source: MountSource::Bind {
                path: lab.path("volume"),
                sub_path: Some("sub".into()),
            },
            readonly: false,
            recursive_readonly: false,
            propagation: BindPropagation::Private,
        },
        Mount {
            destination: "/data/made".into(),
            source: MountSource::Bind {
                path: lab.path("file"),
                sub_path: None,
            },
            readonly: false,
            recursive_readonly: false,
            propagation: BindPropagation::Private,
        },
    ];
    let (text, _) = lab.run(config).await;
    assert_eq!(text, "bound\n", "the sub path led out, or the target did");
    assert!(
        !outside.join("made").exists(),
        "a mount target was made outside the root"
    );
}

#[tokio::test]
async fn an_image_whose_proc_is_a_link_is_refused() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    std::os::unix::fs::symlink("/tmp", lab.path("image/proc")).unwrap();
    let error = lab
        .runtime()
        .create_container(&sandbox, lab.program(&["true"]))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/proc in the image"), "{error}");
}

#[tokio::test]
async fn a_passwd_file_outside_the_image_is_not_read() {
    let lab = Lab::new().await;
    std::fs::write(lab.path("passwd"), "outsider:x:7:7::/:/bin/sh\n").unwrap();
    std::fs::remove_file(lab.path("image/etc/passwd")).unwrap();
    std::os::unix::fs::symlink(lab.path("passwd"), lab.path("image/etc/passwd")).unwrap();
    let sandbox = lab.sandbox().await;
    let mut config = lab.program(&["id"]);
    config.user = User {
        user: "outsider".into(),
        ..User::default()
    };
    let error = lab
        .runtime()
        .create_container(&sandbox, config)
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("unable to find user outsider"),
        "{error}"
    );
}

#[tokio::test]
async fn the_root_is_mounted_in_the_containers_namespace_only() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let config = lab.shell("echo up; sleep 1000");
    let upper = config.rootfs.upper.display().to_string();
    let id = lab.start(&sandbox, config).await;
    lab.wrote(&id, "up").await;
    let ours = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!ours.contains(&upper) && !ours.contains(lab.config.run_dir.join("root").to_str().unwrap()));
    let theirs = lab.runtime().container_status(&id).unwrap().pid;
    let theirs = std::fs::read_to_string(format!("/proc/{theirs}/mountinfo")).unwrap();
    assert!(theirs.contains(" - overlay "), "{theirs}");
    // Nothing of the machine's tree is left in it.
    assert!(
        !theirs.contains(" / / rw")
            || theirs
                .lines()
                .filter(|l| l.contains(" / / "))
                .all(|l| l.contains("overlay"))
    );
}

#[tokio::test]
async fn the_network_namespace_is_pinned_until_the_pod_is_stopped() {
    let lab = Lab::new().await;
    let status = lab.runtime().run_pod_sandbox(Lab::pod()).await.unwrap();
    let pinned = std::fs::metadata(status.netns.as_ref().unwrap()).unwrap().ino();
    let infra = std::fs::metadata(format!("/proc/{}/ns/net", status.infra_pid))
        .unwrap()
        .ino();
    assert_eq!(pinned, infra);
    assert_ne!(pinned, std::fs::metadata("/proc/self/ns/net").unwrap().ino());
    lab.runtime().stop_pod_sandbox(&status.id).await.unwrap();
    assert!(!status.netns.unwrap().exists());
}

#[tokio::test]
async fn the_default_filter_and_capabilities_are_on() {
    let lab = Lab::new().await;
    let script = "grep -E '^(Seccomp|CapEff|CapBnd|CapInh|CapAmb|NoNewPrivs):' /proc/self/status; unshare -U true; mount -t tmpfs x /tmp";
    let (text, status) = lab.run(lab.shell(script)).await;
    assert!(
        text.contains("Seccomp:\t2") && text.contains("NoNewPrivs:\t0"),
        "{text}"
    );
    assert!(
        text.contains("CapEff:\t00000000a80425fb") && text.contains("CapBnd:\t00000000a80425fb"),
        "{text}"
    );
    assert!(
        text.contains("CapInh:\t0000000000000000") && text.contains("CapAmb:\t0000000000000000"),
        "{text}"
    );
    assert_eq!(
        text.matches("not permitted").count() + text.matches("ermission denied").count(),
        2,
        "{text}"
    );
    assert_ne!(status.exit.unwrap().code, 0);
}

#[tokio::test]
async fn a_user_who_is_not_root_has_no_capabilities() {
    let lab = Lab::new().await;
    let mut config =
        lab.shell("id; grep -E '^Cap(Eff|Prm):' /proc/self/status; grep NoNew /proc/self/status; echo $HOME");
    config.user = User {
        user: "web".into(),
        additional_gids: vec![70],
        ..User::default()
    };
    config.security.no_new_privileges = true;
    let (text, _) = lab.run(config).await;
    assert!(
        text.contains("uid=33(web) gid=34(web) groups=34(web),50(logs),70\n"),
        "{text}"
    );
    assert!(
        text.contains("CapEff:\t0000000000000000") && text.contains("CapPrm:\t0000000000000000"),
        "{text}"
    );
    assert!(
        text.contains("NoNewPrivs:\t1") && text.ends_with("/tmp\n"),
        "{text}"
    );
}

#[tokio::test]
async fn all_dropped_and_one_added_is_just_one() {
    let lab = Lab::new().await;
    let mut config = lab.shell("grep CapEff /proc/self/status");
    config.security.capabilities = Capabilities {
        add: vec!["NET_ADMIN".into()],
        drop: vec!["ALL".into()],
    };
    assert_eq!(lab.run(config).await.0, "CapEff:\t0000000000001000\n");
}

#[tokio::test]
async fn a_profile_from_a_file_is_obeyed() {
    let lab = Lab::new().await;
    let profile = r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}"#;
    std::fs::write(lab.path("profile.json"), profile).unwrap();
    for no_new_privileges in [false, true] {
        let mut config = lab.shell("mkdir /x; grep Seccomp: /proc/self/status");
        config.security.seccomp = SeccompProfile::Localhost(lab.path("profile.json"));
        config.security.no_new_privileges = no_new_privileges;
        let (text, _) = lab.run(config).await;
        assert!(
            text.contains("No space left") && text.contains("Seccomp:\t2"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_is_masked_is_empty_and_what_is_protected_is_read_only() {
    let lab = Lab::new().await;
    let script = "wc -c < /proc/interrupts; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/panic; echo 1 > /proc/irq/default_smp_affinity; touch /sys/x; mkdir /sys/fs/cgroup/memory/x || mkdir /sys/fs/cgroup/x";
    let before = std::fs::read_to_string("/proc/sys/kernel/panic").unwrap();
    let (text, _) = lab.run(lab.shell(script)).await;
    assert!(text.starts_with("0\n0\n"), "{text}");
    let expected = if lab.runtime().is_cgroup_v2() { 4 } else { 5 };
    assert_eq!(text.matches("ead-only file system").count(), expected, "{text}");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/panic").unwrap(), before);
}

#[tokio::test]
async fn devices_of_the_machine_are_closed_unless_given() {
    let lab = Lab::new().await;
    let script = "ls /dev | tr '\\n' ' '; echo; mknod /tmp/mem c 1 1 && head -c 1 /tmp/mem";
    let (text, _) = lab.run(lab.shell(script)).await;
    let first = text.lines().next().unwrap();
    assert_eq!(
        first, "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero ",
        "{text}"
    );
    assert!(text.contains("not permitted"), "{text}");
}

#[tokio::test]
async fn a_privileged_container_may_do_it_all() {
    let lab = Lab::new().await;
    let mut config = lab.shell("grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp && echo mounted; test -w /proc/sys/kernel/panic && echo sys; ls /dev/null");
    config.security.privileged = true;
    let (text, _) = lab.run(config).await;
    assert_eq!(text, "Seccomp:\t0\nmounted\nsys\n/dev/null\n");
}

#[tokio::test]
async fn sysctls_of_the_machine_are_refused_and_those_of_the_pod_are_set() {
    let lab = Lab::new().await;
    let with = |name: &str, value: &str| SandboxConfig {
        sysctls: [(name.to_owned(), value.to_owned())].into(),
        ..Lab::pod()
    };
    let good = lab
        .runtime()
        .run_pod_sandbox(with("net.ipv4.ip_unprivileged_port_start", "0"))
        .await
        .unwrap();
    let (text, _) = lab
        .run_in(
            &good.id,
            lab.shell("cat /proc/sys/net/ipv4/ip_unprivileged_port_start"),
        )
        .await;
    assert_eq!(text, "0\n");
    for name in [
        "kernel.panic",
        "vm.swappiness",
        "net.../kernel.panic",
        "net.ipv4/../../kernel/panic",
    ] {
        let error = lab.runtime().run_pod_sandbox(with(name, "1")).await.unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    assert!(!Path::new("/proc/sys/net/ipv4/nope").exists());
}
