//! An application behind a Service.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use cloudeck_e2e::{Cluster, eventually};

use crate::manifests::{IDLE, pod, web};

#[test]
fn three_replicas_answer_through_cluster_ip_node_port_and_name() {
    let cluster = Cluster::start();
    cluster.apply(&web("web", 3, "v1"));
    cluster.apply(&pod("client", IDLE));
    cluster
        .kubectl("rollout status deployment/web --timeout=60s")
        .ok();
    cluster
        .kubectl("wait pod/client --for=condition=Ready --timeout=60s")
        .ok();
    let pods: BTreeSet<String> = cluster
        .field("pods -l app=web", "{.items[*].metadata.name}")
        .split(' ')
        .map(str::to_owned)
        .collect();
    assert_eq!(pods.len(), 3);

    let service: Ipv4Addr = cluster.field("service web", "{.spec.clusterIP}").parse().unwrap();
    let node: Ipv4Addr = cluster
        .field(
            "nodes",
            "{.items[0].status.addresses[?(@.type=='InternalIP')].address}",
        )
        .parse()
        .unwrap();
    for (what, address, port) in [
        ("cluster address", service, 80),
        ("node port", node, 30080),
        ("loopback", Ipv4Addr::LOCALHOST, 30080),
    ] {
        all_answer(what, &pods, || {
            cluster.get(address, port).map_err(|error| error.to_string())
        });
    }

    // Debian's busybox resolves names in nslookup only, which tries the search list for names without dots only,
    // and fails when any name of it fails.
    for name in ["web", "web.default.svc.cluster.local"] {
        let answer = cluster.kubectl_words(&["exec", "client", "--", "nslookup", name]);
        let found = format!("Name:\tweb.default.svc.cluster.local\nAddress: {service}");
        assert!(answer.stdout.contains(&found), "{answer}");
    }
    let url = format!("http://{service}/");
    all_answer("a pod", &pods, || {
        let done = cluster.kubectl_words(&["exec", "client", "--", "wget", "-q", "-O", "-", &url]);
        done.says("v1 ")
    });
    let services = cluster.kubectl("exec client -- env").ok();
    assert!(
        services.contains("KUBERNETES_SERVICE_HOST=10.96.0.1"),
        "{services}"
    );
}

/// Asks until each pod has answered.
fn all_answer(way: &str, pods: &BTreeSet<String>, ask: impl Fn() -> Result<String, String>) {
    let mut seen = BTreeSet::new();
    eventually(&format!("all pods to answer through {way}"), || {
        let answer = ask()?;
        let name = answer
            .trim()
            .strip_prefix("v1 ")
            .unwrap_or_else(|| panic!("odd answer {answer:?}"))
            .to_owned();
        assert!(pods.contains(&name), "{name} answers, which is none of {pods:?}");
        seen.insert(name);
        if seen.len() == pods.len() {
            Ok(())
        } else {
            Err(format!("{seen:?}"))
        }
    });
}
