//! Daemons that end and come back, sandboxes that die.

use cloudeck_machinery::{GroupVersionResource, Value, value};
use cloudeck_runtime::ContainerState;

use crate::lab::{IDLE, Lab, NODE, condition, container, revision, shell};

fn id(pod: &Value) -> String {
    container(pod, "c").str_at(&["containerID"]).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_container_is_found_again_by_the_next_daemon() {
    let mut lab = Lab::new().await;
    lab.create("p", value!({"containers": [(shell(IDLE))]})).await;
    let before = lab.until_ready("p").await;
    lab.kill_daemon().await;
    lab.start_daemon().await;
    // Word of a new pod comes after that of the old one.
    lab.create("q", value!({"containers": [(shell(IDLE))]})).await;
    lab.until_ready("q").await;
    let after = lab.until_ready("p").await;
    assert_eq!(id(&after), id(&before));
    assert_eq!(container(&after, "c").int_at(&["restartCount"]), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_becomes_unready_because_the_daemon_comes_back() {
    let mut lab = Lab::new().await;
    let mut probed = shell(&format!("touch /tmp/ok; {IDLE}"));
    let probe = value!({
        "exec": {"command": ["cat", "/tmp/ok"]}, "periodSeconds": 1, "failureThreshold": 1,
        "initialDelaySeconds": 1
    });
    probed.set_at(&["readinessProbe"], probe);
    lab.create("p", value!({"containers": [(probed)]})).await;
    let begun_pod = lab.until_ready("p").await;
    let begun = lab.until_node("a ready node", is_ready).await;
    lab.kill_daemon().await;
    lab.start_daemon().await;
    let told = |node: &Value| revision(node) > revision(&begun) && is_ready(node);
    let node = lab.until_node("the new agent's status", told).await;
    let seen = lab.history("nodes", &begun, &node).await;
    assert!(seen.iter().all(is_ready), "{seen:?}");

    // What was believed of the container holds until its probe says otherwise, and no longer.
    let pod = lab.pod("p").await.unwrap();
    lab.exec(&pod, "rm /tmp/ok").await;
    let pod = lab.until("p", "the probe's word", |pod| !is_ready(pod)).await;
    let seen = lab.history("pods", &begun_pod, &pod).await;
    assert_eq!(seen.iter().filter(|pod| !is_ready(pod)).count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_make_of_the_node_is_put_right() {
    let lab = Lab::new().await;
    lab.until_node("a ready node", is_ready).await;
    // As the node controller does with one that it takes for silent.
    let unknown = value!({"status": {"conditions": [
        {"type": "MemoryPressure", "status": "Unknown"}, {"type": "Ready", "status": "Unknown"}
    ]}});
    let nodes = GroupVersionResource::new("", "v1", "nodes");
    lab.admin
        .strategic_patch(&nodes, "", NODE, "status", &unknown)
        .await
        .unwrap();
    let right = |node: &Value| is_ready(node) && condition(node, "MemoryPressure") == Some("False");
    lab.until_node("a ready node once more", right).await;
}

fn is_ready(object: &Value) -> bool {
    condition(object, "Ready") == Some("True")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_while_no_daemon_ran_is_ended_by_the_next_one() {
    let mut lab = Lab::new().await;
    for name in ["polite", "forced"] {
        lab.create(name, value!({"containers": [(shell(IDLE))]})).await;
        lab.until_ready(name).await;
    }
    lab.kill_daemon().await;
    lab.delete("polite", None).await;
    lab.delete("forced", Some(0)).await;
    lab.start_daemon().await;
    lab.until_gone("polite").await;
    crate::lab::eventually("an empty node", async || lab.left().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_was_cut_off_leaves_no_second_container() {
    let mut lab = Lab::new().await;
    // The hook holds the start up while the daemon dies; a second container is created and not started.
    lab.create("p", value!({"containers": [(shell(IDLE))]})).await;
    let before = lab.until_ready("p").await;
    let made = lab.runtime().containers().remove(0);
    lab.runtime()
        .stop_container(&made.id, std::time::Duration::ZERO)
        .await
        .unwrap();
    let restarted = |pod: &Value| container(pod, "c").int_at(&["restartCount"]) == Some(1);
    lab.until("p", "the restart", restarted).await;
    let running = lab
        .runtime()
        .containers()
        .into_iter()
        .find(|c| c.state == ContainerState::Running);
    let running = running.unwrap();
    let mut next = running.config.clone();
    next.attempt = 2;
    next.rootfs.upper = next.rootfs.upper.with_extension("next");
    next.rootfs.work = next.rootfs.work.with_extension("next");
    let sandbox = running.sandbox.clone();
    lab.runtime().create_container(&sandbox, next).await.unwrap();
    lab.runtime()
        .stop_container(&running.id, std::time::Duration::ZERO)
        .await
        .unwrap();
    lab.kill_daemon().await;
    lab.start_daemon().await;
    let again = |pod: &Value| {
        let status = container(pod, "c");
        status.int_at(&["restartCount"]) == Some(2) && status.at(&["state", "running"]).is_some()
    };
    let after = lab.until("p", "the third attempt", again).await;
    assert_ne!(id(&after), id(&before));
    let left = lab.runtime().containers();
    let unstarted = left.iter().filter(|c| c.state == ContainerState::Created);
    assert_eq!(unstarted.count(), 0, "{left:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sandbox_is_replaced_without_a_failed_start() {
    let lab = Lab::new().await;
    let mut other = shell(IDLE);
    other.set_at(&["name"], "d");
    lab.create("p", value!({"containers": [(shell(IDLE)), (other)]}))
        .await;
    lab.until_ready("p").await;
    let sandbox = lab.runtime().sandboxes().remove(0);
    let infra = rustix::process::Pid::from_raw(sandbox.infra_pid).unwrap();
    rustix::process::kill_process(infra, rustix::process::Signal::KILL).unwrap();
    let back = |pod: &Value| {
        ["c", "d"].iter().all(|name| {
            let status = container(pod, name);
            status.int_at(&["restartCount"]) == Some(1) && status.at(&["state", "running"]).is_some()
        })
    };
    let pod = lab.until("p", "a new sandbox", back).await;
    let last = container(&pod, "c").at(&["lastState", "terminated"]).unwrap();
    assert_eq!(last.int_at(&["exitCode"]), Some(137));
}
