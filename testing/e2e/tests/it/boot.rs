//! From nothing to a cluster, and back to nothing.

use cloudeck_e2e::{Cluster, Machine};

#[test]
fn a_machine_has_its_own_network_processes_and_groups_and_keeps_its_disk() {
    let mut machine = Machine::start();
    assert_eq!(machine.shell("hostname").trim(), machine.name());
    assert_eq!(
        machine
            .shell("cat /proc/self/cgroup | grep -c ck-e2e || true")
            .trim(),
        "0"
    );
    assert!(machine.shell("cat /proc/net/dev").contains("lo:"));
    std::fs::write(machine.disk().join("kept"), "x").unwrap();
    let boot = machine.shell("cat /proc/sys/kernel/random/boot_id");
    machine.shell("sleep 1000 >/dev/null 2>&1 & touch /run/gone");
    machine.lose_power_and_start();
    assert_ne!(machine.shell("cat /proc/sys/kernel/random/boot_id"), boot);
    assert!(machine.disk().join("kept").exists());
    assert!(!machine.shell("ls /run").contains("gone"));
    assert!(!machine.shell("ps ax").contains("sleep 1000"));
}

#[test]
fn a_cluster_becomes_ready_and_serves_kubectl() {
    let cluster = Cluster::start();
    let nodes = cluster.kubectl("get nodes").ok();
    assert!(nodes.contains(" Ready "), "{nodes}");
    let version = cluster.kubectl("version").ok();
    assert!(version.contains("Server Version: v1.37"), "{version}");
    let namespaces = cluster.kubectl("get namespaces -o name").ok();
    for name in ["default", "kube-node-lease", "kube-public", "kube-system"] {
        assert!(
            namespaces.contains(&format!("namespace/{name}\n")),
            "{namespaces}"
        );
    }
}
