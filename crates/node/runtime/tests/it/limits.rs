//! Cgroups, resource limits, and running out of memory.

use cloudeck_runtime::{Resources, Rlimit};

use crate::lab::Lab;

#[tokio::test]
async fn a_container_that_eats_too_much_memory_is_told_as_such() {
    let lab = Lab::new().await;
    let mut config = lab.shell("tail /dev/zero");
    config.resources.memory_limit_bytes = Some(16 << 20);
    let (_, status) = lab.run(config).await;
    let exit = status.exit.unwrap();
    assert!(exit.oom && exit.code != 0, "{exit:?}");
}

#[tokio::test]
async fn a_neighbour_that_runs_out_of_memory_is_not_blamed_on_the_container() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let innocent = lab.start(&sandbox, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&innocent, "up").await;
    let mut greedy = lab.shell("tail /dev/zero");
    greedy.resources.memory_limit_bytes = Some(16 << 20);
    assert!(lab.run_in(&sandbox, greedy).await.1.exit.unwrap().oom);
    lab.runtime()
        .kill_container(&innocent, libc::SIGKILL)
        .await
        .unwrap();
    let exit = lab.ended(&innocent).await.exit.unwrap();
    assert_eq!((exit.code, exit.oom), (137, false));
}

#[tokio::test]
async fn the_number_of_processes_is_limited() {
    let lab = Lab::new().await;
    // All are there at once, however long it takes to start them; they end with the container.
    let mut config = lab.shell("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done");
    config.resources.pids_limit = Some(4);
    let (text, _) = lab.run(config).await;
    assert!(text.contains("can't fork"), "{text}");
}

#[tokio::test]
async fn limits_are_seen_inside_and_can_be_changed() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let script = "echo up; cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; sleep 1000";
    let mut config = lab.shell(script);
    config.resources = Resources {
        cpu_shares: Some(512),
        cpu_quota: Some(20_000),
        cpu_period: Some(100_000),
        memory_limit_bytes: Some(64 << 20),
        ..config.resources
    };
    let id = lab.start(&sandbox, config).await;
    lab.wrote(&id, "67108864").await;
    let changed = Resources {
        memory_limit_bytes: Some(128 << 20),
        ..Resources::default()
    };
    lab.runtime().update_resources(&id, changed).await.unwrap();
    let look = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; true";
    let argv = ["sh", "-c", look].map(ToOwned::to_owned).to_vec();
    let output = lab
        .runtime()
        .exec_sync(&id, argv, std::time::Duration::from_secs(10))
        .await
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "134217728\n");
    let stats = lab.runtime().stats(&id).await.unwrap();
    assert!(
        stats.cpu_usage_ns > 0 && stats.memory_usage_bytes > 0 && stats.pids >= 1,
        "{stats:?}"
    );
    assert!(
        stats.memory_working_set_bytes <= stats.memory_usage_bytes,
        "{stats:?}"
    );
}

#[tokio::test]
async fn hugepages_fail_by_name() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let mut config = lab.program(&["true"]);
    config.resources.hugepage_limits.insert("2MB".into(), 2 << 20);
    let error = lab
        .runtime()
        .create_container(&sandbox, config)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("hugepages-2MB"), "{error}");
}

#[tokio::test]
async fn resource_limits_and_the_score_are_set_or_clamped_and_told() {
    let lab = Lab::new().await;
    let mut config = lab.shell("ulimit -n; cat /proc/self/oom_score_adj");
    config.rlimits = vec![Rlimit {
        name: "RLIMIT_NOFILE".into(),
        soft: 123,
        hard: 456,
    }];
    config.oom_score_adj = Some(500);
    let (text, status) = lab.run(config).await;
    assert_eq!((text.as_str(), status.degraded.len()), ("123\n500\n", 0));

    // A root without the capability may go no further than it is itself.
    let mut config = lab.shell("cat /proc/self/oom_score_adj");
    config.rlimits = vec![Rlimit {
        name: "memlock".into(),
        soft: u64::MAX,
        hard: u64::MAX,
    }];
    config.oom_score_adj = Some(-998);
    let (text, status) = lab.run(config).await;
    let may = cloudeck_linux::caps::bounding() & (1 << 24) != 0;
    let (_, hard) = cloudeck_linux::process::rlimit(libc::RLIMIT_MEMLOCK).unwrap();
    assert_eq!(status.degraded.contains(&"oom_score_adj".to_owned()), !may);
    assert_eq!(
        status.degraded.contains(&"rlimit memlock".to_owned()),
        !may && hard != u64::MAX
    );
    assert_eq!(text == "-998\n", may);
}

#[tokio::test]
async fn an_unknown_rlimit_fails_by_name() {
    let lab = Lab::new().await;
    let sandbox = lab.sandbox().await;
    let mut config = lab.program(&["true"]);
    config.rlimits = vec![Rlimit {
        name: "RLIMIT_LUCK".into(),
        soft: 1,
        hard: 1,
    }];
    let error = lab
        .runtime()
        .create_container(&sandbox, config)
        .await
        .unwrap_err();
    assert!(error.to_string().contains("RLIMIT_LUCK"), "{error}");
}

#[tokio::test]
async fn what_the_first_process_leaves_behind_dies_with_it_where_pids_are_shared() {
    let lab = Lab::new().await;
    let mut pod = Lab::pod();
    pod.namespaces.pid = cloudeck_runtime::PidMode::Pod;
    let sandbox = lab.runtime().run_pod_sandbox(pod).await.unwrap().id;
    let watcher = lab.start(&sandbox, lab.shell("echo up; while ps | grep -q 'sleep 4[2]42' || ! test -e /dev/shm/go; do sleep 0.02; done; echo alone")).await;
    lab.wrote(&watcher, "up").await;
    let (_, status) = lab
        .run_in(&sandbox, lab.shell("sleep 4242 & echo > /dev/shm/go"))
        .await;
    assert_eq!(status.exit.unwrap().code, 0);
    lab.wrote(&watcher, "alone").await;
}

#[tokio::test]
async fn a_fork_bomb_on_the_machines_pids_does_not_outlive_its_shim() {
    let lab = Lab::new().await;
    let mut events = lab.runtime().events();
    let mut pod = Lab::pod();
    pod.namespaces.pid = cloudeck_runtime::PidMode::Host;
    let status = lab.runtime().run_pod_sandbox(pod).await.unwrap();
    let mut config = lab.shell("echo up; bomb() { while :; do (bomb) & done; }; bomb 2>/dev/null");
    config.resources.pids_limit = Some(60);
    let id = lab.start(&status.id, config).await;
    lab.wrote(&id, "up").await;
    let shim = cloudeck_linux::pidfd::open(status.shim_pid).unwrap();
    cloudeck_linux::pidfd::send_signal(shim, libc::SIGKILL).unwrap();
    crate::lab::within("the news", async {
        while !matches!(
            events.recv().await.unwrap(),
            cloudeck_runtime::RuntimeEvent::ShimDied { .. }
        ) {}
    })
    .await;
    let cgroup = format!(
        "{}/{}/{id}",
        lab.config.cgroup_parent, status.config.cgroup_parent
    );
    for dir in cloudeck_runtime::cgroup::Cgroups::discover()
        .unwrap()
        .dirs(&cgroup)
    {
        assert_eq!(
            std::fs::read_to_string(dir.join("cgroup.procs")).unwrap(),
            "",
            "{}",
            dir.display()
        );
    }
    lab.runtime().remove_pod_sandbox(&status.id).await.unwrap();
}

/// The memory that is a process's own, in kB.
fn private_kb(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("Anonymous:"))
        .unwrap();
    line.trim().trim_end_matches("kB").trim().parse().unwrap()
}

#[tokio::test]
async fn shim_and_infra_stay_small_whatever_goes_through_them() {
    let lab = Lab::new().await;
    let status = lab.runtime().run_pod_sandbox(Lab::pod()).await.unwrap();
    // Much configuration, many lines, long lines, many containers.
    for round in 0..6 {
        let mut config = lab.shell("seq 1 20000; head -c 300000 /dev/zero | tr '\\0' x; echo");
        config.env = (0..8)
            .map(|number| format!("LARGE{number}={}", "x".repeat(60_000)))
            .collect();
        let (text, ended) = lab.run_in(&status.id, config).await;
        assert_eq!(ended.exit.unwrap().code, 0);
        assert!(text.len() > 400_000, "round {round}: {}", text.len());
        lab.runtime().remove_container(&ended.id).await.unwrap();
    }
    let running = lab.start(&status.id, lab.shell("echo up; sleep 1000")).await;
    lab.wrote(&running, "up").await;
    let (shim, infra) = (private_kb(status.shim_pid), private_kb(status.infra_pid));
    println!("shim {shim} kB, infra {infra} kB");
    assert!(shim + infra <= 300, "shim {shim} kB, infra {infra} kB");
}
