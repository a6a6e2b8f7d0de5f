//! Probes by exec, which need no way into the pod's network.

use cloudeck_machinery::{Value, value};

use crate::lab::{IDLE, Lab, condition, container, shell};

fn exec(script: &str) -> Value {
    value!({
        "exec": {"command": ["sh", "-c", (script)]}, "periodSeconds": 1, "failureThreshold": 1
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_liveness_probe_restarts_the_container() {
    let lab = Lab::new().await;
    let mut made = shell(&format!("touch /tmp/ok; {IDLE}"));
    made.set_at(&["livenessProbe"], exec("cat /tmp/ok"));
    lab.create("p", value!({"containers": [(made)]})).await;
    let pod = lab.until_ready("p").await;
    lab.exec(&pod, "rm /tmp/ok").await;
    let restarted = |pod: &Value| {
        let status = container(pod, "c");
        status.int_at(&["restartCount"]) == Some(1) && status.at(&["state", "running"]).is_some()
    };
    lab.until("p", "the restart", restarted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_started_when_its_start_up_probe_says_so() {
    let lab = Lab::new().await;
    let mut made = shell(IDLE);
    let mut probe = exec("cat /tmp/ok");
    probe.set_at(&["failureThreshold"], 30_i64);
    made.set_at(&["startupProbe"], probe);
    lab.create("p", value!({"containers": [(made)]})).await;
    let runs = |pod: &Value| container(pod, "c").at(&["state", "running"]).is_some();
    let pod = lab.until("p", "a running container", runs).await;
    assert_eq!(container(&pod, "c").bool_at(&["started"]), Some(false));
    lab.exec(&pod, "touch /tmp/ok").await;
    let pod = lab.until_ready("p").await;
    assert_eq!(container(&pod, "c").bool_at(&["started"]), Some(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_asked_until_the_container_is_gone() {
    let lab = Lab::new().await;
    let mut made = shell(
        "touch /tmp/ok; trap 'until test -e /tmp/end; do sleep 0.1; done; exit 0' TERM; sleep 1000 & wait",
    );
    made.set_at(&["readinessProbe"], exec("cat /tmp/ok"));
    lab.create(
        "p",
        value!({"terminationGracePeriodSeconds": 60, "containers": [(made)]}),
    )
    .await;
    lab.until_ready("p").await;
    lab.delete("p", None).await;
    let pod = lab.pod("p").await.unwrap();
    assert_eq!(condition(&pod, "Ready"), Some("True"), "it still answers");
    let unready = |pod: &Value| {
        condition(pod, "Ready") == Some("False") && container(pod, "c").at(&["state", "running"]).is_some()
    };
    lab.exec(&pod, "rm /tmp/ok").await;
    let pod = lab.until("p", "an unready pod that still runs", unready).await;
    lab.exec(&pod, "touch /tmp/end").await;
    lab.until_gone("p").await;
}
