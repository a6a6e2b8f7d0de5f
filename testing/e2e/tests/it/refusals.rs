//! What is refused, and in which words.

use std::net::Ipv4Addr;

use cloudeck_e2e::{Cluster, eventually};

use crate::foreign;
use crate::manifests::pod;

/// kubectl with other credentials than the administrator's.
fn with_token(cluster: &Cluster, token: &str, line: &str) -> cloudeck_e2e::Done {
    let server = format!("--server={}", foreign::server(cluster));
    let token = format!("--token={token}");
    let mut words = vec![
        "--kubeconfig=/dev/null",
        "--insecure-skip-tls-verify",
        &server,
        &token,
    ];
    words.extend(line.split(' '));
    cluster.kubectl_words(&words)
}

#[test]
fn without_credentials_or_rights_nothing_is_told() {
    let cluster = Cluster::start();
    let refused = with_token(&cluster, "bad", "get pods").refused();
    assert!(
        refused.contains("You must be logged in to the server"),
        "{refused}"
    );
    // Without any there is health and version, and nothing else.
    let api = foreign::server(&cluster);
    assert_eq!(
        foreign::anonymous_status(&cluster, &api, "/api/v1/namespaces/default/pods"),
        401
    );
    assert_eq!(foreign::anonymous_status(&cluster, &api, "/livez"), 200);
    let node: Ipv4Addr = cluster
        .field(
            "nodes",
            "{.items[0].status.addresses[?(@.type=='InternalIP')].address}",
        )
        .parse()
        .unwrap();
    assert_eq!(
        foreign::anonymous_status(&cluster, &format!("https://{node}:10250"), "/pods"),
        401
    );
    let token = cluster.kubectl("create token default").ok();
    assert!(
        with_token(&cluster, token.trim(), "auth whoami")
            .ok()
            .contains("system:serviceaccount:default:default")
    );
    let refused = with_token(&cluster, token.trim(), "get pods -n default").refused();
    let words = "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API \
                 group \"\" in the namespace \"default\"";
    assert!(refused.contains(words), "{refused}");
}

#[test]
fn unknown_fields_are_rejected_warned_of_or_ignored() {
    let cluster = Cluster::start();
    let manifest = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dota: {a: b}}";
    let refused = cluster
        .kubectl_with("create --validate=strict -f -", manifest)
        .refused();
    assert!(refused.contains("unknown field \"dota\""), "{refused}");
    let warned = cluster.kubectl_with("create --validate=warn -f -", manifest);
    assert!(
        warned.status.success() && warned.stderr.contains("Warning: unknown field \"dota\""),
        "{warned}"
    );
    cluster.kubectl("delete configmap x").ok();
    let ignored = cluster.kubectl_with("create --validate=ignore -f -", manifest);
    assert!(ignored.status.success() && ignored.stderr.is_empty(), "{ignored}");
}

#[test]
fn invalid_objects_are_refused_with_causes_and_stale_ones_with_a_conflict() {
    let cluster = Cluster::start();
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {selector: {matchLabels: \
                      {a: b}}, template: {metadata: {labels: {a: c}}, spec: {containers: [{name: X, image: i}]}}}}";
    let refused = cluster.kubectl_with("create -f -", deployment).refused();
    for words in [
        "The Deployment \"x\" is invalid",
        "spec.template.metadata.labels: Invalid value",
        "spec.template.spec.containers[0].name",
    ] {
        assert!(refused.contains(words), "{words} is missing in {refused}");
    }
    cluster.kubectl("create configmap x").ok();
    let stale = "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, resourceVersion: '1'}}";
    let refused = cluster.kubectl_with("replace -f -", stale).refused();
    assert!(refused.contains("the object has been modified"), "{refused}");
    assert!(
        cluster
            .kubectl("create configmap x")
            .refused()
            .contains("already exists")
    );
}

#[test]
fn a_read_of_too_long_ago_and_its_continuation_are_told_that_it_is_gone() {
    let cluster = Cluster::start_with(&["--api-horizon", "1s"]);
    let path = "/api/v1/namespaces/default/configmaps";
    cluster.kubectl("create configmap x").ok();
    cluster.kubectl("create configmap y").ok();
    let old = cluster.field("configmap x", "{.metadata.resourceVersion}");
    let first: serde_json::Value = {
        let page = cluster
            .kubectl_words(&["get", "--raw", &format!("{path}?limit=1")])
            .ok();
        serde_json::from_str(&page).unwrap()
    };
    let token = first["metadata"]["continue"].as_str().unwrap();
    for url in [
        format!("{path}?resourceVersion={old}&resourceVersionMatch=Exact"),
        format!("{path}?limit=1&continue={token}"),
    ] {
        eventually("the horizon to pass", || {
            cluster.kubectl("annotate --overwrite configmap x at=a").ok();
            cluster.kubectl("annotate --overwrite configmap x at=b").ok();
            let done = cluster.kubectl_words(&["get", "--raw", &url]);
            let is_gone = ["too old resource version", "Expired", "Gone"]
                .iter()
                .any(|word| done.stderr.contains(word));
            if is_gone { Ok(()) } else { Err(done.to_string()) }
        });
    }
}

#[test]
fn pods_that_cannot_run_show_why() {
    let cluster = Cluster::start();
    cluster
        .kubectl("run unpullable --image=127.0.0.1:1/nothing:1")
        .ok();
    cluster.apply(&pod("crashing", "exit 3"));
    let greedy =
        r#"{"spec":{"containers":[{"name":"greedy","image":"i","resources":{"requests":{"cpu":"1000"}}}]}}"#;
    cluster
        .kubectl_words(&["run", "greedy", "--image=i", &format!("--overrides={greedy}")])
        .ok();

    let condition = "{.status.conditions[?(@.type=='PodScheduled')].reason}";
    cluster.wait_for_field("pod greedy", condition, "Unschedulable");
    let events = cluster.kubectl("events --for=pod/greedy").ok();
    assert!(
        events.contains("FailedScheduling") && events.contains("0/1 nodes are available: 1 Insufficient cpu"),
        "{events}"
    );

    let reason = "{.status.containerStatuses[0].state.waiting.reason}";
    cluster.wait_for_field("pod crashing", reason, "CrashLoopBackOff");
    assert_eq!(
        cluster.field(
            "pod crashing",
            "{.status.containerStatuses[0].lastState.terminated.exitCode}"
        ),
        "3"
    );
    assert!(
        cluster
            .kubectl("events --for=pod/crashing")
            .ok()
            .contains("BackOff")
    );
    let table = cluster.kubectl("get pod crashing").ok();
    assert!(
        table.contains("CrashLoopBackOff") || table.contains("Error"),
        "{table}"
    );

    cluster.wait_for_field("pod unpullable", reason, "ImagePullBackOff");
    let events = cluster.kubectl("events --for=pod/unpullable").ok();
    for words in ["Pulling image", "Failed to pull image", "ErrImagePull"] {
        assert!(events.contains(words), "{words} is missing in {events}");
    }
}
