use super::*;

const V1: &[u8] = b"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
37 31 0:34 / /sys/fs/cgroup/freezer rw - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

#[test]
fn a_hybrid_machine_is_version_1() {
    let cgroups = Cgroups::from_mounts(&MountTable::parse(V1)).unwrap();
    assert!(!cgroups.is_v2());
    let views: Vec<_> = cgroups.views().into_iter().map(|(name, _)| name).collect();
    assert_eq!(views, ["cpu,cpuacct", "memory", "freezer"]);
}

#[test]
fn a_unified_machine_is_version_2() {
    let table = MountTable::parse(b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    assert!(Cgroups::from_mounts(&table).unwrap().is_v2());
}

#[test]
fn a_machine_without_cgroups_is_refused() {
    assert!(matches!(
        Cgroups::from_mounts(&MountTable::default()),
        Err(CgroupError::NotMounted)
    ));
}

#[test]
fn shares_become_weights_as_in_kubernetes() {
    let cases = [(2, 1), (1024, 39), (262_144, 10_000), (0, 1), (u64::MAX, 10_000)];
    for (shares, weight) in cases {
        assert_eq!(v2::weight(shares), weight, "{shares}");
    }
}

#[test]
fn hugepages_are_refused_by_name() {
    let mut resources = Resources::default();
    resources.hugepage_limits.insert("2MB".to_owned(), 1);
    let cgroups = Cgroups::from_mounts(&MountTable::parse(V1)).unwrap();
    let error = cgroups.update("nowhere", &resources).unwrap_err();
    assert_eq!(
        error.to_string(),
        "limit hugepages-2MB is not supported on this machine"
    );
}

#[test]
fn keys_are_whole_words() {
    let text = "low 1\noom 2\noom_kill 3\noom_group_kill 4\n";
    assert_eq!(keyed(text, "oom_kill"), 3);
    assert_eq!(keyed(text, "missing"), 0);
}
