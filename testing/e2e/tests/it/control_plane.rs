//! What the control plane tells of itself, and what it says aside.

use cloudeck_e2e::{Cluster, eventually};

use crate::manifests::web;

#[test]
fn the_control_plane_tells_of_its_parts_its_apis_and_its_node() {
    let cluster = Cluster::start();
    let parts = cluster.kubectl("get componentstatuses").ok();
    for name in ["controller-manager", "etcd-0", "scheduler"] {
        let healthy = |line: &str| line.starts_with(name) && line.contains(" Healthy ");
        assert!(parts.lines().any(healthy), "{parts}");
    }
    let apis = cluster.kubectl("get apiservices --no-headers").ok();
    assert_eq!(apis.lines().count(), 22, "{apis}");
    assert!(
        apis.lines()
            .all(|line| line.contains(" Local ") && line.contains(" True "))
    );
    let registered = "event: Registered Node";
    eventually("the node is registered", || {
        cluster.kubectl("get events").says(registered)
    });
    let lines = cluster
        .kubectl_words(&["get", "--raw", "/api/v1/namespaces/default?pretty=true"])
        .ok();
    assert!(lines.starts_with("{\n  \"kind\": \"Namespace\",\n"), "{lines}");
}

#[test]
fn services_get_addresses_of_a_further_range_until_it_goes() {
    let cluster = Cluster::start();
    cluster.apply(
        r#"{"apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR", "metadata": {"name": "more"},
            "spec": {"cidrs": ["10.200.0.0/28"]}}"#,
    );
    cluster
        .kubectl("wait --for=condition=Ready servicecidr/more --timeout=20s")
        .ok();
    cluster
        .kubectl("create service clusterip far --tcp=80 --clusterip=10.200.0.5")
        .ok();
    let address = cluster.kubectl("get ipaddress 10.200.0.5").ok();
    assert!(address.contains("services/default/far"), "{address}");
    let refused = cluster
        .kubectl("create service clusterip off --tcp=80 --clusterip=10.201.0.5")
        .refused();
    assert!(
        refused.contains("the provided network does not match the current range"),
        "{refused}"
    );
    cluster.kubectl("delete servicecidr more --wait=false").ok();
    cluster.wait_for_field(
        "servicecidr/more",
        "{.status.conditions[0].reason}",
        "Terminating",
    );
    cluster.kubectl("delete service far").ok();
    cluster
        .kubectl("wait --for=delete servicecidr/more --timeout=30s")
        .ok();
}

#[test]
fn what_is_hardly_meant_is_warned_of_once() {
    let cluster = Cluster::start();
    cluster.apply(&web("web", 0, "v1"));
    let warned = |line: &[&str]| {
        let mut command = cluster.kubectl_command();
        let output = command.args(line).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stderr)
            .contains("Warning: spec.template.spec.nodeSelector[beta.kubernetes.io/os]")
    };
    let patch = r#"{"spec":{"template":{"spec":{"nodeSelector":{"beta.kubernetes.io/os":"linux"}}}}}"#;
    assert!(warned(&["patch", "deployment", "web", "-p", patch]));
    assert!(
        !warned(&["label", "deployment", "web", "a=b"]),
        "a label says nothing of the template"
    );
}
