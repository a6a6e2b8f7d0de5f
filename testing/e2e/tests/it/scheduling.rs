//! Where pods go, and who makes room for whom, as kubectl shows it.

use cloudeck_e2e::{Cluster, eventually};

use crate::manifests::IDLE;

/// A second node that somebody registered: no agent runs there, so pods that go there stay Pending with its name.
const FAR: &str = r"
apiVersion: v1
kind: Node
metadata: {name: far, labels: {kubernetes.io/hostname: far, topology.kubernetes.io/zone: east}}
";
const FAR_STATUS: &str = r#"{"status":{"capacity":{"cpu":"4","memory":"8Gi","pods":"20"},
    "allocatable":{"cpu":"4","memory":"8Gi","pods":"20"},
    "conditions":[{"type":"Ready","status":"True","reason":"Test","message":"","lastHeartbeatTime":"2020-01-01T00:00:00Z","lastTransitionTime":"2020-01-01T00:00:00Z"}]}}"#;

/// `placement` is YAML of the pod's spec.
fn deployment(name: &str, replicas: u32, placement: &str) -> String {
    format!(
        r"
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {{name: c, image: 'example.test/busybox:1', command: [/bin/sh, -c, '{IDLE}']}}
      {placement}
"
    )
}

/// The nodes of the application's pods, sorted; `-` stands for none.
fn nodes_of(cluster: &Cluster, app: &str) -> Vec<String> {
    let lines = cluster
        .kubectl_words(&[
            "get",
            "pods",
            "-l",
            &format!("app={app}"),
            "-o",
            r#"jsonpath={range .items[*]}{.spec.nodeName}{"-\n"}{end}"#,
        ])
        .ok();
    let mut nodes: Vec<String> = lines.lines().map(str::to_owned).collect();
    nodes.sort();
    nodes
}

#[track_caller]
fn until_on(cluster: &Cluster, app: &str, wanted: &[&str]) {
    let mut wanted = wanted.to_vec();
    wanted.sort_unstable();
    eventually(&format!("the pods of {app} to be on {wanted:?}"), || {
        let found = nodes_of(cluster, app);
        if found == wanted {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    });
}

#[test]
fn replicas_keep_apart_and_spread_over_nodes() {
    let cluster = Cluster::start();
    let here = format!("{}-", cluster.field("nodes", "{.items[0].metadata.name}"));
    let apart = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
                 kubernetes.io/hostname, labelSelector: {matchLabels: {app: apart}}}]}}";
    cluster.apply(&deployment("apart", 2, apart));
    let why = "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules. preemption: 0/1 nodes are available: 1 No \
               preemption victims found for incoming pod.";
    eventually("the second replica to be refused", || {
        let told = cluster
            .kubectl("get events --field-selector reason=FailedScheduling")
            .ok();
        if told.contains(why) { Ok(()) } else { Err(told) }
    });
    until_on(&cluster, "apart", &["-", &here]);
    cluster.apply(FAR);
    cluster
        .kubectl_words(&["patch", "node", "far", "--subresource=status", "-p", FAR_STATUS])
        .ok();
    // The pod that was refused wakes when the node's taint goes.
    until_on(&cluster, "apart", &["far-", &here]);
    let near = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
                topology.kubernetes.io/zone, labelSelector: {matchLabels: {app: apart}}}]}}";
    cluster.apply(&deployment("near", 2, near));
    until_on(&cluster, "near", &["far-", "far-"]);
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, \
                  labelSelector: {matchLabels: {app: spread}}, matchLabelKeys: [pod-template-hash]}]";
    cluster.apply(&deployment("spread", 4, spread));
    until_on(&cluster, "spread", &["far-", "far-", &here, &here]);
}

#[test]
fn an_important_pod_takes_the_place_of_another() {
    let cluster = Cluster::start();
    let all = cluster.field("nodes", "{.items[0].status.allocatable.cpu}");
    let pod = |name: &str, class: &str| {
        format!(
            r"
apiVersion: v1
kind: Pod
metadata: {{name: {name}}}
spec:
  terminationGracePeriodSeconds: 1
  {class}
  containers:
  - name: c
    image: example.test/busybox:1
    command: [/bin/sh, -c, '{IDLE}']
    resources: {{requests: {{cpu: '{all}'}}}}
"
        )
    };
    for class in [
        "important --value=1000",
        "polite --value=2000 --preemption-policy=Never",
    ] {
        cluster
            .kubectl(&format!("create priorityclass {class} --description=test"))
            .ok();
    }
    cluster.apply(&pod("lesser", ""));
    cluster.wait_for_field("pod lesser", "{.status.phase}", "Running");
    cluster.apply(&pod("waiting", "priorityClassName: polite"));
    let message = "{.status.conditions[?(@.type=='PodScheduled')].message}";
    cluster.wait_for_field(
        "pod waiting",
        message,
        "0/1 nodes are available: 1 Insufficient cpu. preemption: not eligible due to preemptionPolicy=Never.",
    );
    cluster.kubectl("delete pod waiting").ok();
    cluster.apply(&pod("important", "priorityClassName: important"));
    cluster.wait_for_field("pod important", "{.status.phase}", "Running");
    assert!(cluster.kubectl("get pod lesser").refused().contains("not found"));
    let events = cluster.kubectl("get events").ok();
    for words in [
        "preemption: found a potential placement for pod on node",
        "Preempted by pod ",
    ] {
        assert!(events.contains(words), "{words} is missing in {events}");
    }
}

#[test]
fn a_drain_stops_at_a_budget_and_a_quota_tells_what_is_used() {
    let cluster = Cluster::start();
    let node = cluster.field("nodes", "{.items[0].metadata.name}");
    cluster
        .kubectl("create quota all --hard=pods=5,count/deployments.apps=3")
        .ok();
    cluster.apply(&deployment("kept", 1, ""));
    cluster
        .kubectl("create poddisruptionbudget kept --selector=app=kept --min-available=1")
        .ok();
    let quota = "resourcequota all";
    cluster.wait_for_field(quota, "{.status.used.pods}", "1");
    cluster.wait_for_field(quota, "{.status.used.count/deployments\\.apps}", "1");
    cluster.wait_for_field("pdb kept", "{.status.currentHealthy}", "1");
    cluster.wait_for_field("pdb kept", "{.status.conditions[0].reason}", "InsufficientPods");
    let drain = format!("drain {node} --ignore-daemonsets --timeout=2s");
    let refused = cluster.kubectl(&drain).refused();
    assert!(
        refused.contains("Cannot evict pod as it would violate the pod's disruption budget."),
        "{refused}"
    );
    cluster.kubectl("delete pdb kept").ok();
    cluster
        .kubectl(&format!("drain {node} --ignore-daemonsets --timeout=60s"))
        .ok();
    let message = "{.items[0].status.conditions[?(@.type=='PodScheduled')].message}";
    cluster.wait_for_field(
        "pods -l app=kept",
        message,
        "0/1 nodes are available: 1 node(s) were unschedulable. preemption: 0/1 nodes are available: 1 Preemption is not helpful \
         for scheduling.",
    );
    cluster.kubectl(&format!("uncordon {node}")).ok();
    cluster.wait_for_field("pods -l app=kept", "{.items[0].status.phase}", "Running");
}
