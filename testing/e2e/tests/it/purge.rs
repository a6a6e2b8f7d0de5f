//! What is left of a cluster when it has been removed: nothing.

use cloudeck_e2e::Cluster;
use cloudeck_net::conntrack::ConntrackSocket;

use crate::manifests::web;

/// The protocol's number.
const TCP: u8 = 6;

/// Everything that a cluster could leave on its machine, one thing per line. The machine's own two processes may still
/// be getting ready when it is looked at first.
const INVENTORY: &str = r#"
echo "== processes"; ps axo pid,args | grep -v -e 'ps axo' -e 'grep -v' -e 'sh -c' -e 'machine.sh inside' -e ' cat$'
echo "== mounts"; cut -d' ' -f1-3 /proc/mounts | sort
echo "== links"; busybox ip -o link | sed 's/^[0-9]*: //'
echo "== addresses"; busybox ip -o address
echo "== routes"; busybox ip route show table all | grep -v -e broadcast
echo "== groups"; find /sys/fs/cgroup -type d | sort
echo "== run"; find /run | sort
echo "== settings"; grep -r . /proc/sys/net/ipv4 /proc/sys/net/ipv6 /proc/sys/net/netfilter /proc/sys/kernel /proc/sys/vm 2>/dev/null |
    grep -v -e /random/ -e nr_open -e conntrack_count -e ns_last_pid -e pty/nr -e /kernel/osrelease -e perf_ -e ipv6/conf/veth -e ipv4/conf/veth |
    sort
"#;

#[test]
fn nothing_is_left_after_a_purge() {
    nothing_left(|cluster| cluster.cloudeck(&["down", "--purge"]).ok());
}

#[test]
fn nothing_is_left_after_a_purge_of_a_killed_daemon() {
    nothing_left(|cluster| {
        cluster.kill_daemon();
        cluster.cloudeck(&["down", "--purge"]).ok()
    });
}

fn nothing_left(end: impl FnOnce(&mut Cluster) -> String) {
    let mut cluster = Cluster::stopped();
    // What asks for connections first has the kernel load their part, whose settings are then everywhere and stay.
    let mut connections = ConntrackSocket::open_in(&cluster.machine().network()).unwrap();
    connections.list(TCP).unwrap();
    let before = cluster.machine().shell(INVENTORY);
    let (rules, data) = (cluster.tables(), cluster.data());
    assert!(!data.exists());
    cluster.up();
    cluster.import_image();
    cluster.apply(&web("web", 2, "v1"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    assert_ne!(cluster.tables(), rules, "a cluster has rules");
    end(&mut cluster);
    let after = cluster.machine().shell(INVENTORY);
    let left: Vec<&str> = after
        .lines()
        .filter(|line| !before.lines().any(|old| old == *line))
        .collect();
    let lost: Vec<&str> = before
        .lines()
        .filter(|line| !after.lines().any(|new| new == *line))
        .collect();
    assert!(
        left.is_empty() && lost.is_empty(),
        "left: {left:#?}\nlost: {lost:#?}"
    );
    assert_eq!(cluster.tables(), rules);
    assert!(!data.exists(), "{} is left", data.display());
}
