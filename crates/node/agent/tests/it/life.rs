//! Starts, ends, restarts.

use cloudeck_machinery::{Value, value};

use crate::lab::{IDLE, IMAGE, Lab, NODE, condition, container, eventually, shell};

fn reason<'a>(status: &'a Value, state: &str) -> Option<&'a str> {
    status.str_at(&["state", state, "reason"])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_and_leaves_nothing_when_it_is_deleted() {
    let lab = Lab::new().await;
    lab.create("p", value!({"containers": [(shell(IDLE))]})).await;
    let pod = lab.until_ready("p").await;
    assert_eq!(pod.str_at(&["status", "phase"]), Some("Running"));
    let ip = pod.str_at(&["status", "podIP"]).unwrap();
    assert!(ip.starts_with("10.244.0."), "{ip}");
    assert_eq!(
        pod.str_at(&["status", "hostIP"]),
        Some(cloudeck_netlab::NODE.to_string().as_str())
    );
    lab.delete("p", None).await;
    lab.until_gone("p").await;
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_fails_is_started_again_and_then_backs_off() {
    let lab = Lab::new().await;
    lab.create("p", value!({"containers": [(shell("exit 3"))]})).await;
    let backs_off = |pod: &Value| reason(container(pod, "c"), "waiting") == Some("CrashLoopBackOff");
    let pod = lab.until("p", "the back-off", backs_off).await;
    let status = container(&pod, "c");
    assert_eq!(status.int_at(&["restartCount"]), Some(1));
    assert_eq!(status.int_at(&["lastState", "terminated", "exitCode"]), Some(3));
    assert_eq!(condition(&pod, "Ready"), Some("False"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_never_restarts_ends_with_its_containers() {
    let lab = Lab::new().await;
    for (name, code, phase) in [("good", 0, "Succeeded"), ("bad", 4, "Failed")] {
        let container = shell(&format!("echo word > /dev/termination-log; exit {code}"));
        lab.create(
            name,
            value!({"restartPolicy": "Never", "containers": [(container)]}),
        )
        .await;
        let over = |pod: &Value| pod.str_at(&["status", "phase"]) == Some(phase);
        let pod = lab.until(name, phase, over).await;
        let end = crate::lab::container(&pod, "c")
            .at(&["state", "terminated"])
            .unwrap();
        assert_eq!(end.int_at(&["exitCode"]), Some(code));
        assert_eq!(end.str_at(&["message"]), Some("word\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sidecars_start_first_and_end_last() {
    let lab = Lab::new().await;
    let note = |name: &str| {
        format!("trap 'echo {name} >> /v/ends; exit 0' TERM; echo {name} >> /v/starts; sleep 1000 & wait")
    };
    let mount = value!([{"name": "v", "mountPath": "/v"}]);
    let with = |name: &str, restart: bool| {
        let mut made = shell(&note(name));
        made.set_at(&["name"], name);
        made.set_at(&["volumeMounts"], mount.clone());
        if restart {
            made.set_at(&["restartPolicy"], "Always");
        }
        made
    };
    let dir = tempfile::tempdir().unwrap();
    lab.create(
        "p",
        value!({
            "terminationGracePeriodSeconds": 20,
            "initContainers": [(with("one", true)), (with("two", true))],
            "containers": [(with("c", false))],
            "volumes": [{"name": "v", "hostPath": {"path": (dir.path().to_str().unwrap())}}]
        }),
    )
    .await;
    lab.until_ready("p").await;
    lab.delete("p", None).await;
    lab.until_gone("p").await;
    let text = |file: &str| std::fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(text("starts"), "one\ntwo\nc\n");
    assert_eq!(text("ends"), "c\ntwo\none\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stubborn_process_is_killed_when_its_grace_is_over_and_a_shorter_grace_reaches_it() {
    let lab = Lab::new().await;
    let spec = value!({
        "terminationGracePeriodSeconds": 300, "containers": [(shell("trap '' TERM; sleep 1000"))]
    });
    lab.create("p", spec).await;
    lab.until_ready("p").await;
    lab.delete("p", None).await;
    lab.until("p", "the end's beginning", |pod| {
        pod.at(&["metadata", "deletionTimestamp"]).is_some()
    })
    .await;
    lab.delete("p", Some(1)).await;
    lab.until_gone("p").await;
    assert_eq!(lab.left(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_deleted_by_force_is_ended_by_the_node_all_the_same() {
    let lab = Lab::new().await;
    lab.create("p", value!({"containers": [(shell(IDLE))]})).await;
    lab.until_ready("p").await;
    lab.delete("p", Some(0)).await;
    assert!(lab.pod("p").await.is_none());
    eventually("an empty node", async || lab.left().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_node_cannot_do_is_refused_by_name() {
    let lab = Lab::new().await;
    let sysctls = value!({"sysctls": [{"name": "kernel.msgmax", "value": "1"}]});
    let pods = [
        ("s", value!({"securityContext": (sysctls)}), "SysctlForbidden"),
        ("u", value!({"hostUsers": false}), "PodFeatureUnsupported"),
    ];
    for (name, mut spec, wanted) in pods {
        spec.set_at(&["containers"], vec![shell(IDLE)]);
        lab.create(name, spec).await;
        let failed = |pod: &Value| pod.str_at(&["status", "phase"]) == Some("Failed");
        let pod = lab.until(name, "the refusal", failed).await;
        assert_eq!(pod.str_at(&["status", "reason"]), Some(wanted));
    }
    let image = value!({"name": "c", "image": "example.test/none:1", "imagePullPolicy": "Never"});
    lab.create("i", value!({"containers": [(image)]})).await;
    let waits = |pod: &Value| reason(container(pod, "c"), "waiting") == Some("ErrImageNeverPull");
    lab.until("i", "ErrImageNeverPull", waits).await;
    assert_ne!(IMAGE, "example.test/none:1");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_tells_whom_a_container_runs_as() {
    let lab = Lab::new().await;
    let context = value!({"runAsUser": 7, "runAsGroup": 8, "supplementalGroups": [9]});
    lab.create(
        "p",
        value!({"securityContext": (context), "containers": [(shell(IDLE))]}),
    )
    .await;
    let pod = lab.until_ready("p").await;
    let user = container(&pod, "c").at(&["user", "linux"]).unwrap().clone();
    assert_eq!(user.int_at(&["uid"]), Some(7));
    assert_eq!(user.int_at(&["gid"]), Some(8));
    let groups: Vec<_> = user.items_at(&["supplementalGroups"]).to_vec();
    assert_eq!(groups, [Value::from(8_i64), Value::from(9_i64)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seccomp_profile_of_the_nodes_own_is_found_and_holds() {
    let lab = Lab::new().await;
    let profiles = lab.data().join("seccomp/profiles");
    std::fs::create_dir_all(&profiles).unwrap();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    std::fs::write(profiles.join("no-mkdir.json"), profile).unwrap();
    let of = |path: &str| {
        let context = value!({"seccompProfile": {"type": "Localhost", "localhostProfile": (path)}});
        value!({"securityContext": (context), "containers": [(shell(IDLE))]})
    };
    lab.create("p", of("profiles/no-mkdir.json")).await;
    let pod = lab.until_ready("p").await;
    let said = lab.exec(&pod, "busybox mkdir /x; echo $?").await;
    assert!(
        said.starts_with("1\n") && said.contains("not permitted"),
        "{said}"
    );
    lab.create("q", of("profiles/none.json")).await;
    let waits = |pod: &Value| reason(container(pod, "c"), "waiting") == Some("CreateContainerError");
    lab.until("q", "an error that names the profile", waits).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runtime_that_the_node_does_not_have_runs_nothing() {
    let lab = Lab::new().await;
    for name in ["runsc", "cloudeck"] {
        lab.runtime_class(name).await;
        let spec = value!({"runtimeClassName": (name), "containers": [(shell(IDLE))]});
        lab.create(name, spec).await;
    }
    lab.until_ready("cloudeck").await;
    let pod = lab.pod("runsc").await.unwrap();
    assert_eq!(pod.str_at(&["status", "phase"]), Some("Pending"));
    assert_eq!(lab.runtime().sandboxes().len(), 1);
    lab.delete("runsc", None).await;
    lab.until_gone("runsc").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_could_not_be_created_is_created_from_the_image_that_its_name_means_later() {
    const NAME: &str = "example.test/moving:1";
    let lab = Lab::new().await;
    lab.import(NAME, "nobody-here").await;
    let mut made = shell(IDLE);
    made.set_at(&["image"], NAME);
    lab.create("p", value!({"containers": [(made)]})).await;
    let fails = |pod: &Value| reason(container(pod, "c"), "waiting") == Some("CreateContainerError");
    lab.until("p", "the failure", fails).await;
    lab.import(NAME, "").await;
    // The next attempt is due; the change of the pod has the agent look at the clock.
    lab.pass(60);
    lab.patch("pods", "p", value!({"metadata": {"labels": {"a": "1"}}}))
        .await;
    lab.until_ready("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_file_system_that_a_killed_daemon_prepared_does_not_hold_up_another_image() {
    const NAME: &str = "example.test/moving:1";
    let lab = Lab::new().await;
    lab.import(NAME, "nobody-here").await;
    let mut made = shell(IDLE);
    made.set_at(&["image"], NAME);
    let volume = value!({"name": "v", "secret": {"secretName": "s"}});
    lab.create("p", value!({"containers": [(made)], "volumes": [(volume)]}))
        .await;
    let pod = lab.until("p", "a pod", |_| true).await;
    let key = format!("{}_c_0", pod.str_at(&["metadata", "uid"]).unwrap());
    let before = lab.images().get(NAME).unwrap().unwrap();
    lab.images().prepare_rootfs(&key, &before).await.unwrap();
    lab.import(NAME, "").await;
    lab.put("secrets", value!({"metadata": {"name": "s"}})).await;
    lab.until_ready("p").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_deleted_registers_again() {
    let lab = Lab::new().await;
    let ready = |node: &Value| condition(node, "Ready") == Some("True");
    let first = lab.until_node("a ready node", ready).await;
    lab.remove("nodes", NODE).await;
    let uid = |node: &Value| node.str_at(&["metadata", "uid"]).map(str::to_owned);
    let again = |node: &Value| ready(node) && uid(node) != uid(&first);
    let second = lab.until_node("the node once more", again).await;
    assert_eq!(
        second.at(&["metadata", "labels"]),
        first.at(&["metadata", "labels"])
    );
}
