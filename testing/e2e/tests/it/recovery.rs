//! Nothing that was promised is lost, whatever ends when.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Output, Stdio};

use cloudeck_e2e::{Cluster, eventually};

use crate::manifests::{IDLE, pod, web};

#[test]
fn ten_kills_during_rolling_updates_lose_and_duplicate_nothing() {
    let mut cluster = Cluster::start();
    cluster.apply(&web("web", 3, "v0"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    let service: Ipv4Addr = cluster.field("service web", "{.spec.clusterIP}").parse().unwrap();
    for round in 1..=10 {
        let version = format!("v{round}");
        cluster
            .kubectl(&format!("set env deployment/web VERSION={version}"))
            .ok();
        eventually("the update to have begun", || {
            let updated = cluster.field("deployment web", "{.status.updatedReplicas}");
            if updated.is_empty() { Err(updated) } else { Ok(()) }
        });
        cluster.kill_daemon();
        for _ in 0..10 {
            eventually("an answer while the daemon is dead", || {
                cluster.get(service, 80).map_err(|e| e.to_string())
            });
        }
        cluster.up();
        cluster
            .kubectl("rollout status deployment/web --timeout=60s")
            .ok();
        eventually("three pods of the new version and no others", || {
            let versions = cluster.field("pods -l app=web", "{.items[*].spec.containers[0].env[0].value}");
            let expected = format!("{version} {version} {version}");
            if versions == expected {
                Ok(())
            } else {
                Err(versions)
            }
        });
        let restarts = cluster.field(
            "pods -l app=web",
            "{.items[*].status.containerStatuses[0].restartCount}",
        );
        assert_eq!(restarts, "0 0 0", "no container was restarted");
        let ours = cluster
            .machine()
            .shell("ps axo args | grep -c '^httpd -f' || true");
        assert_eq!(ours.trim(), "3", "as many servers run as there are pods");
        eventually("the new version to answer", || {
            let answer = cluster.get(service, 80).map_err(|error| error.to_string())?;
            if answer.starts_with(&format!("{version} ")) {
                Ok(())
            } else {
                Err(answer)
            }
        });
    }
}

#[test]
fn containers_outlive_the_daemon_and_are_found_again() {
    let mut cluster = Cluster::start();
    cluster.apply(&pod("one", IDLE));
    cluster.apply(&pod("short", "sleep 2; exit 7"));
    cluster
        .kubectl("wait pod/one pod/short --for=condition=Ready --timeout=60s")
        .ok();
    let id = cluster.field("pod one", "{.status.containerStatuses[0].containerID}");
    cluster.stop_daemon();
    // Its exit code waits for the next daemon.
    eventually("the short container's end", || {
        let running = cluster
            .machine()
            .shell("ps axo args | grep -c '^sleep 2$' || true");
        if running.trim() == "0" {
            Ok(())
        } else {
            Err(running)
        }
    });
    cluster.up();
    eventually("the exit code of the time without a daemon", || {
        let code = cluster.field(
            "pod short",
            "{.status.containerStatuses[0].lastState.terminated.exitCode}",
        );
        if code == "7" { Ok(()) } else { Err(code) }
    });
    assert_eq!(
        cluster.field("pod one", "{.status.containerStatuses[0].containerID}"),
        id
    );
    assert_eq!(
        cluster.field("pod one", "{.status.containerStatuses[0].restartCount}"),
        "0"
    );
    assert_eq!(
        cluster.kubectl("exec one -- echo still here").ok(),
        "still here\n"
    );
}

#[test]
fn after_a_loss_of_power_objects_are_there_and_pods_run_again() {
    let mut cluster = Cluster::start();
    cluster.apply(&web("web", 2, "v1"));
    cluster.kubectl("create configmap kept --from-literal=a=b").ok();
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    let service: Ipv4Addr = cluster.field("service web", "{.spec.clusterIP}").parse().unwrap();
    cluster.lose_power();
    cluster.up();
    assert_eq!(cluster.field("configmap kept", "{.data.a}"), "b");
    eventually("an answer after the reboot", || {
        cluster.get(service, 80).map_err(|error| error.to_string())
    });
    cluster.wait_for_field("deployment web", "{.status.readyReplicas}", "2");
    let servers = cluster
        .machine()
        .shell("ps axo args | grep -c '^httpd -f' || true");
    assert_eq!(servers.trim(), "2");
}

#[test]
fn a_second_up_reports_the_running_one() {
    let cluster = Cluster::start();
    let done = cluster.cloudeck(&["up"]);
    assert!(
        done.status.success() && done.stderr.contains("runs already"),
        "{done}"
    );
    let done = cluster.cloudeck(&["up", "-d"]);
    assert!(
        done.status.success() && done.stderr.contains("runs already"),
        "{done}"
    );
    assert!(cluster.cloudeck(&["status"]).status.success());
}

#[test]
fn an_up_after_the_end_was_asked_for_starts_a_cluster_anew() {
    let mut cluster = Cluster::start();
    let network = cluster.machine().network();
    // A client that never says a word is waited for at the end, so that the end takes long.
    let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, 6443));
    let silent = network.run(connect).unwrap().unwrap();
    // Connections are accepted one after the other: with this one, the silent one is.
    cluster.kubectl("get --raw /readyz").ok();
    let mut old = cluster.ask_daemon_to_end();
    eventually("the old daemon to serve no more", || {
        match network.run(connect).unwrap() {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    assert!(
        old.try_wait().unwrap().is_none(),
        "the end was too quick to tell anything"
    );
    let status = cluster.cloudeck(&["status"]);
    assert_eq!(
        status.status.code(),
        Some(3),
        "what is ending does not run: {status}"
    );
    let done = cluster.cloudeck(&["up", "-d"]);
    assert!(done.status.success(), "{done}");
    assert!(old.wait().unwrap().success(), "the old daemon did not end well");
    drop(silent);
    let ready = cluster.kubectl("get --raw /readyz");
    assert!(ready.status.success(), "`up` said {done}, but {ready}");
}

#[test]
fn of_two_ups_at_once_both_succeed_and_one_cluster_runs() {
    let cluster = Cluster::stopped();
    let mut both: Vec<_> = (0..2)
        .map(|_| {
            let mut command = cluster.command(&["up", "-d"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    let ends: Vec<_> = both.drain(..).map(|up| up.wait_with_output().unwrap()).collect();
    let all_well = ends.iter().all(|end| end.status.success());
    assert!(all_well, "{ends:?}");
    let said = |words: &str| {
        let says = |end: &&Output| String::from_utf8_lossy(&end.stderr).contains(words);
        ends.iter().filter(says).count()
    };
    assert_eq!(
        (said("The cluster is ready"), said(" already on ")),
        (1, 1),
        "{ends:?}"
    );
    cluster.kubectl("get --raw /readyz").ok();
}
