//! An unmodified kubectl, verb by verb.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use cloudeck_e2e::{Cluster, eventually, run};

use crate::manifests::{IDLE, pod, web};

#[test]
fn what_is_served_can_be_listed_and_explained() {
    let cluster = Cluster::start();
    let resources = cluster.kubectl("api-resources").ok();
    for line in [
        "deployments",
        "events.k8s.io/v1",
        "rolebindings",
        "endpointslices",
        "validatingadmissionpolicies",
    ] {
        assert!(resources.contains(line), "{line} is missing in {resources}");
    }
    assert!(cluster.kubectl("api-versions").ok().contains("\napps/v1\n"));
    let explained = cluster
        .kubectl("explain deployment.spec.strategy.rollingUpdate.maxSurge")
        .ok();
    for line in [
        "GROUP:      apps",
        "KIND:       Deployment",
        "VERSION:    v1",
        "FIELD: maxSurge <IntOrString>",
    ] {
        assert!(explained.contains(line), "{line} is missing in {explained}");
    }
    assert!(
        cluster
            .kubectl("explain pods --recursive")
            .ok()
            .contains("terminationGracePeriodSeconds\t<integer>")
    );
    assert!(cluster.kubectl("cluster-info").ok().contains("is running at"));
}

#[test]
fn objects_are_applied_and_compared() {
    let cluster = Cluster::start();
    let manifest = web("web", 1, "v1");
    assert!(
        cluster
            .kubectl_with("apply -f -", &manifest)
            .ok()
            .contains("deployment.apps/web created")
    );
    assert_eq!(
        cluster.kubectl_with("diff -f -", &manifest).ok(),
        "",
        "a diff after an apply is empty"
    );
    assert!(
        cluster
            .kubectl_with("apply -f -", &manifest)
            .ok()
            .contains("deployment.apps/web unchanged")
    );
    cluster
        .kubectl_with("apply --server-side --force-conflicts -f -", &manifest)
        .ok();
    assert_eq!(
        cluster
            .kubectl_with("diff --server-side --force-conflicts -f -", &manifest)
            .ok(),
        ""
    );
    let changed = cluster.kubectl_with("diff -f -", &web("web", 1, "v2"));
    assert_eq!(changed.status.code(), Some(1));
    assert!(changed.stdout.contains("v2"), "{changed}");
}

#[test]
fn objects_are_shown_labelled_and_edited() {
    let cluster = Cluster::start();
    cluster.apply(&web("web", 1, "v1"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    let wide = cluster.kubectl("get deployments,pods,services -o wide").ok();
    for column in [
        "UP-TO-DATE",
        "SELECTOR",
        "NOMINATED NODE",
        "CLUSTER-IP",
        "example.test/busybox:1",
    ] {
        assert!(wide.contains(column), "{column} is missing in {wide}");
    }
    assert!(
        cluster
            .kubectl("get deployment web -o yaml")
            .ok()
            .contains("kind: Deployment\n")
    );
    assert_eq!(cluster.field("deployment web", "{.status.readyReplicas}"), "1");
    let described = cluster.kubectl("describe deployment web").ok();
    for line in [
        "StrategyType:",
        "1 desired | 1 updated | 1 total | 1 available | 0 unavailable",
        "ScalingReplicaSet",
    ] {
        assert!(described.contains(line), "{line} is missing in {described}");
    }
    let described = cluster.kubectl("describe pods -l app=web").ok();
    for line in [
        "Scheduled",
        "Started",
        "QoS Class:",
        "Container ID:",
        "kube-api-access",
    ] {
        assert!(described.contains(line), "{line} is missing in {described}");
    }
    cluster.kubectl("describe node").ok();

    cluster.kubectl("label deployment web tier=front").ok();
    assert_eq!(
        cluster.kubectl("get deployments -l tier=front -o name").ok(),
        "deployment.apps/web\n"
    );
    cluster.kubectl("annotate deployment web note=x").ok();
    let editor = cluster.machine().disk().join("editor.sh");
    std::fs::write(&editor, "#!/bin/sh\nsed -i 's/tier: front/tier: back/' \"$1\"\n").unwrap();
    cluster.machine().shell(&format!("chmod +x {}", editor.display()));
    let mut edit = cluster.kubectl_command();
    run(edit.args(["edit", "deployment", "web"]).env("EDITOR", &editor)).ok();
    assert_eq!(cluster.field("deployment web", "{.metadata.labels.tier}"), "back");
    cluster
        .kubectl_words(&[
            "patch",
            "deployment",
            "web",
            "-p",
            r#"{"spec":{"minReadySeconds":1}}"#,
        ])
        .ok();
    assert_eq!(cluster.field("deployment web", "{.spec.minReadySeconds}"), "1");
}

#[test]
fn a_watch_tells_of_changes_as_they_come() {
    let cluster = Cluster::start();
    let mut watch = cluster.kubectl_command();
    watch.args([
        "get",
        "configmaps",
        "--field-selector=metadata.name=x",
        "-w",
        "-o",
        "name",
    ]);
    let mut watch = watch.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    cluster.kubectl("create configmap x --from-literal=a=b").ok();
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/x");
    cluster.kubectl("label configmap x a=b").ok();
    assert_eq!(lines.next().unwrap().unwrap(), "configmap/x");
    let process = cluster.machine().process_of(&watch);
    rustix::process::kill_process(process, rustix::process::Signal::KILL).unwrap();
    watch.wait().unwrap();
}

#[test]
fn logs_are_followed_and_containers_entered() {
    let cluster = Cluster::start();
    cluster.apply(&pod(
        "talker",
        r#"trap "exit 0" TERM; n=0; while true; do n=$((n+1)); echo line $n; sleep 0.2; done"#,
    ));
    cluster
        .kubectl("wait pod/talker --for=condition=Ready --timeout=60s")
        .ok();
    let mut follow = cluster.kubectl_command();
    let mut follow = follow
        .args(["logs", "-f", "talker"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap())
        .lines()
        .map(Result::unwrap);
    assert!(lines.any(|line| line == "line 5"));
    assert_eq!(cluster.kubectl("logs talker --tail=1").ok().lines().count(), 1);
    assert!(
        cluster
            .kubectl("logs talker --timestamps")
            .ok()
            .contains("Z line 1\n")
    );

    assert_eq!(
        cluster
            .kubectl_words(&["exec", "talker", "--", "sh", "-c", "echo out; exit 3"])
            .status
            .code(),
        Some(3)
    );
    let echoed = cluster
        .kubectl_with("exec -i talker -- cat", "through standard input")
        .ok();
    assert_eq!(echoed, "through standard input");
    let mut shell = cluster.kubectl_at_terminal(&["exec", "-it", "talker", "--", "/bin/sh"]);
    shell.types("tty && echo is-$((6*7))\n");
    shell.shows("/dev/pts/");
    shell.shows("is-42");
    shell.resize(100, 30);
    eventually("the container's terminal to be resized", || {
        shell.types("stty size; echo e''nd\n");
        shell.shows("\nend");
        let shown = shell.last_shown();
        if shown.contains("30 100") {
            Ok(())
        } else {
            Err(shown.to_owned())
        }
    });
    shell.types("exit 5\n");
    assert_eq!(shell.ends().code(), Some(5));

    cluster.kubectl("delete pod talker").ok();
    assert!(lines.last().is_some(), "the log ends with the pod");
    assert!(follow.wait().unwrap().success());
}

#[test]
fn deployments_are_scaled_rolled_out_paused_and_rolled_back() {
    let cluster = Cluster::start();
    cluster.apply(&web("web", 1, "v1"));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    cluster.kubectl("scale deployment/web --replicas=3").ok();
    cluster.wait_for_field("deployment web", "{.status.readyReplicas}", "3");
    cluster.kubectl("set env deployment/web VERSION=v2").ok();
    let told = cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    assert!(told.contains("successfully rolled out"), "{told}");
    let history = cluster.kubectl("rollout history deployment/web").ok();
    assert!(history.contains("\n1 ") && history.contains("\n2 "), "{history}");
    assert!(
        cluster
            .kubectl("rollout history deployment/web --revision=2")
            .ok()
            .contains("VERSION:\tv2")
    );
    cluster.kubectl("rollout undo deployment/web").ok();
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    let version = "{.spec.template.spec.containers[0].env[0].value}";
    assert_eq!(cluster.field("deployment web", version), "v1");
    cluster.kubectl("rollout restart deployment/web").ok();
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    cluster.kubectl("rollout pause deployment/web").ok();
    cluster.kubectl("set env deployment/web VERSION=v3").ok();
    cluster.kubectl("rollout resume deployment/web").ok();
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    assert_eq!(
        cluster.field("pods -l app=web", "{.items[*].spec.containers[0].env[0].value}"),
        "v3 v3 v3"
    );
    cluster.kubectl("delete deployment web").ok();
    eventually("the pods to go with their deployment", || {
        let left = cluster.kubectl("get pods,replicasets -o name").ok();
        if left.is_empty() { Ok(()) } else { Err(left) }
    });
}

#[test]
fn pods_are_run_exposed_waited_for_and_deleted() {
    let cluster = Cluster::start();
    let labels = "--labels=app=one";
    cluster
        .kubectl_words(&[
            "run",
            "one",
            "--image=example.test/busybox:1",
            labels,
            "--command",
            "--",
            "sh",
            "-c",
            IDLE,
        ])
        .ok();
    cluster
        .kubectl("wait pod/one --for=condition=Ready --timeout=60s")
        .ok();
    cluster
        .kubectl("wait pod/one --for=jsonpath={.status.phase}=Running --timeout=60s")
        .ok();
    cluster
        .kubectl("expose pod one --port=80 --target-port=8080")
        .ok();
    cluster.wait_for_field("endpoints one", "{.subsets[0].ports[0].port}", "8080");
    let events = cluster.kubectl("events --for=pod/one").ok();
    for reason in ["Scheduled", "Created", "Started"] {
        assert!(events.contains(reason), "{reason} is missing in {events}");
    }
    assert!(cluster.kubectl("get events").ok().contains("Started"));
    let told = cluster.kubectl("delete pod/one service/one").ok();
    assert!(told.contains("pod \"one\" deleted"), "{told}");
    assert!(cluster.kubectl("get pod one").refused().contains("NotFound"));

    let echoed = cluster.kubectl_words(&[
        "run",
        "two",
        "--image=example.test/busybox:1",
        "--restart=Never",
        "--command",
        "--",
        "echo",
        "hello",
    ]);
    echoed.ok();
    cluster
        .kubectl("wait pod/two --for=jsonpath={.status.phase}=Succeeded --timeout=60s")
        .ok();
    assert_eq!(cluster.kubectl("logs two").ok(), "hello\n");

    cluster.kubectl("create namespace gone").ok();
    cluster.kubectl("create configmap x -n gone").ok();
    cluster.kubectl("delete namespace gone --timeout=60s").ok();
    assert!(
        cluster
            .kubectl("get namespace gone")
            .refused()
            .contains("NotFound")
    );
}

#[test]
fn one_may_ask_who_one_is_and_what_one_may() {
    let cluster = Cluster::start();
    let who = cluster.kubectl("auth whoami").ok();
    assert!(
        who.contains("system:masters") || who.contains("kubeadm:cluster-admins"),
        "{who}"
    );
    assert_eq!(cluster.kubectl("auth can-i delete nodes").ok().trim(), "yes");
    let no = cluster.kubectl("auth can-i list secrets --as=system:serviceaccount:default:default");
    assert_eq!((no.stdout.trim(), no.status.code()), ("no", Some(1)));
    assert!(cluster.kubectl("auth can-i --list").ok().contains("*.*"));
}

#[test]
fn an_older_kubectl_works_as_well() {
    let old = std::path::Path::new("/usr/bin/kubectl");
    if !old.exists() {
        // Which machine has which kubectl is not ours to say; the one built from its module is used everywhere else.
        return;
    }
    let cluster = Cluster::start();
    let kubectl = |line: &str| {
        let mut command = cluster.machine().command(old);
        command
            .env("KUBECONFIG", cluster.kubeconfig())
            .args(line.split(' '));
        run(&mut command)
    };
    cluster.apply(&pod("one", IDLE));
    kubectl("wait pod/one --for=condition=Ready --timeout=60s").ok();
    assert!(kubectl("get pods -o wide").ok().contains("Running"));
    assert_eq!(kubectl("exec one -- echo in").ok(), "in\n");
    kubectl("create deployment x --image=example.test/busybox:1 --replicas=0").ok();
    kubectl("describe deployment x").ok();
    kubectl("auth can-i list pods").ok();
    kubectl("delete pod/one deployment/x").ok();
}
