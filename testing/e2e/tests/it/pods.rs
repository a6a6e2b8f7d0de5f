//! What a pod's user and a pod's node see at moments when something goes wrong.

use std::time::Duration;

use cloudeck_e2e::{Cluster, eventually};

use crate::manifests::{IDLE, pod};

/// Four pods with an init container each, which all hold a process of the test's own number.
fn burst(name: &str, sleep: &str) -> String {
    format!(
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: 4
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      initContainers: [{{name: i, image: "example.test/busybox:1", command: ["true"]}}]
      containers:
      - name: c
        image: example.test/busybox:1
        command: [sh, -c, 'trap "exit 0" TERM; sleep {sleep} & wait']
"#
    )
}

#[test]
fn a_daemon_killed_while_pods_start_starts_nothing_twice_and_leaves_nothing() {
    let mut cluster = Cluster::start();
    // From before the first sandbox to after the last start.
    for (round, moment) in [0, 40, 80, 120, 160, 240].into_iter().enumerate() {
        let (name, sleep) = (format!("burst{round}"), format!("7700{round}"));
        cluster.apply(&burst(&name, &sleep));
        std::thread::sleep(Duration::from_millis(moment));
        cluster.kill_daemon();
        cluster.up();
        cluster
            .kubectl(&format!("rollout status deployment/{name} --timeout=60s"))
            .ok();
        let count = |script: &str| cluster.machine().shell(script).trim().to_owned();
        // A shell that runs may not have begun its program yet; one too many would stay.
        eventually(&format!("four processes after {moment} ms"), || {
            let found = count(&format!("ps axo args | grep -c '^sleep {sleep}$' || true"));
            if found == "4" { Ok(()) } else { Err(found) }
        });
        let restarts = cluster.field(
            &format!("pods -l app={name}"),
            "{.items[*].status.containerStatuses[0].restartCount}",
        );
        assert_eq!(restarts, "0 0 0 0", "after {moment} ms");
        let sandboxes = cluster.data().join("runtime/sandboxes");
        let made = count(&format!(
            "find {} -name container.json | wc -l",
            sandboxes.display()
        ));
        assert_eq!(made, "8", "containers after {moment} ms: one of each kind a pod");
        cluster
            .kubectl(&format!("delete deployment {name} --cascade=foreground"))
            .ok();
        eventually("an empty node", || {
            let left = std::fs::read_dir(&sandboxes).unwrap().count();
            if left == 0 { Ok(()) } else { Err(left.to_string()) }
        });
    }
}

#[test]
fn a_container_without_a_log_says_why() {
    let cluster = Cluster::start();
    let manifest = pod("none", IDLE).replace(
        "image: example.test/busybox:1",
        "image: example.test/none:1\n    imagePullPolicy: Never",
    );
    cluster.apply(&manifest);
    cluster.wait_for_field(
        "pod none",
        "{.status.containerStatuses[0].state.waiting.reason}",
        "ErrImageNeverPull",
    );
    let done = cluster.kubectl("logs none");
    let wanted = "container \"none\" in pod \"none\" is waiting to start: ErrImageNeverPull";
    assert!(done.stderr.contains(wanted), "{done}");
    cluster.apply(&pod("one", IDLE));
    cluster
        .kubectl("wait pod/one --for=condition=Ready --timeout=60s")
        .ok();
    let done = cluster.kubectl("logs one --previous");
    let wanted = "previous terminated container \"one\" in pod \"one\" not found";
    assert!(done.stderr.contains(wanted), "{done}");
}

#[test]
fn a_client_that_vanishes_takes_its_terminals_program_along() {
    let cluster = Cluster::start();
    cluster.apply(&pod("one", IDLE));
    cluster
        .kubectl("wait pod/one --for=condition=Ready --timeout=60s")
        .ok();
    let running = || {
        let found = cluster
            .machine()
            .shell("ps axo args | grep -c '^sleep 88001$' || true");
        found.trim().to_owned()
    };
    let _terminal = cluster.kubectl_at_terminal(&["exec", "-it", "one", "--", "sleep", "88001"]);
    eventually("the program", || {
        if running() == "1" { Ok(()) } else { Err(running()) }
    });
    // The client itself, told from its program by its other words.
    let client = "ps axo pid,args | grep 'exec -it one' | grep -v grep";
    cluster
        .machine()
        .shell(&format!("kill -9 $({client} | sed 's/^ *//; s/ .*//')"));
    eventually("the program's end", || {
        if running() == "0" { Ok(()) } else { Err(running()) }
    });
}
