use super::*;
use crate::user::{LocalIdentity, UserInfo};
use cloudeck_machinery::{Value, value};

fn pod(node: &str) -> Value {
    value!({
        "metadata": {"name": "p", "namespace": "dev", "uid": "u1"},
        "spec": {
            "nodeName": (node),
            "serviceAccountName": "bot",
            "imagePullSecrets": [{"name": "pull"}],
            "containers": [{
                "envFrom": [{"secretRef": {"name": "env-from"}}],
                "env": [{"valueFrom": {"configMapKeyRef": {"name": "key"}}}]
            }],
            "volumes": [
                {"name": "a", "projected": {"sources": [{"secret": {"name": "projected"}}, {"configMap": {"name": "root-ca"}}]}},
                {"name": "b", "persistentVolumeClaim": {"claimName": "claim"}},
                {"name": "c", "ephemeral": {}}
            ]
        }
    })
}

fn graph() -> NodeGraph {
    let mut graph = NodeGraph::default();
    graph.set_pod("dev", "p", Some(&pod("n1")));
    graph
}

/// Asks as the agent of `n1`; the reason of a refusal, or "allowed".
fn ask(graph: &NodeGraph, build: impl Fn(&UserInfo) -> Attributes<'_>) -> String {
    let identity = LocalIdentity::node("n1");
    let decision = authorize(graph, &[], &build(identity.user()));
    if decision.is_allowed() {
        "allowed".to_owned()
    } else {
        decision.reason
    }
}

const UNRELATED: &str = "no relationship found between node 'n1' and this object";

#[test]
fn a_node_reads_what_its_pods_refer_to_and_nothing_else() {
    let graph = graph();
    for (resource, name, expected) in [
        ("secrets", "pull", "allowed"),
        ("secrets", "env-from", "allowed"),
        ("secrets", "projected", "allowed"),
        ("secrets", "other", UNRELATED),
        ("configmaps", "key", "allowed"),
        ("configmaps", "root-ca", "allowed"),
        ("configmaps", "pull", UNRELATED),
        ("persistentvolumeclaims", "claim", "allowed"),
        ("persistentvolumeclaims", "p-c", "allowed"),
        ("pods", "p", "allowed"),
        ("pods", "q", UNRELATED),
        ("serviceaccounts", "bot", "allowed"),
        ("secrets", "", "No Object name found"),
    ] {
        let asked = ask(&graph, |user| {
            Attributes::resource(user, "get", "", resource)
                .in_namespace("dev")
                .of(name)
        });
        assert_eq!(asked, expected, "{resource} {name}");
    }
    let elsewhere = ask(&graph, |user| {
        Attributes::resource(user, "get", "", "secrets")
            .in_namespace("prod")
            .of("pull")
    });
    assert_eq!(elsewhere, UNRELATED);
}

#[test]
fn tokens_are_made_for_the_accounts_of_its_pods_only() {
    let graph = graph();
    let token = |name: &'static str, verb: &'static str| {
        ask(&graph, |user| {
            Attributes::resource(user, verb, "", "serviceaccounts")
                .in_namespace("dev")
                .of(name)
                .under("token")
        })
    };
    assert_eq!(token("bot", "create"), "allowed");
    assert_eq!(token("default", "create"), UNRELATED);
    assert_eq!(
        token("bot", "get"),
        "can only create tokens for individual service accounts"
    );
}

#[test]
fn a_node_sees_its_own_node_lease_and_pods() {
    let graph = graph();
    let verdict =
        |verb: &'static str, resource: &'static str, namespace: &'static str, name: &'static str| {
            let group = if resource == "leases" {
                "coordination.k8s.io"
            } else {
                ""
            };
            ask(&graph, |user| {
                Attributes::resource(user, verb, group, resource)
                    .in_namespace(namespace)
                    .of(name)
            })
        };
    assert_eq!(verdict("get", "nodes", "", "n1"), "allowed");
    assert_eq!(
        verdict("get", "nodes", "", "n2"),
        "node 'n1' cannot read 'n2', only its own Node object"
    );
    assert_eq!(
        verdict("list", "nodes", "", ""),
        "node 'n1' cannot read all nodes, only its own Node object"
    );
    assert_eq!(verdict("delete", "nodes", "", "n1"), "");
    assert_eq!(verdict("update", "leases", "kube-node-lease", "n1"), "allowed");
    assert_eq!(
        verdict("update", "leases", "kube-node-lease", "n2"),
        "can only access node lease with the same name as the requesting node"
    );
    assert_eq!(
        verdict("get", "leases", "kube-system", "n1"),
        "can only access leases in the \"kube-node-lease\" system namespace"
    );
    assert_eq!(
        verdict("list", "pods", "", ""),
        "can only list/watch pods with spec.nodeName field selector"
    );
    let selected = ask(&graph, |user| {
        let mut attributes = Attributes::resource(user, "watch", "", "pods");
        attributes.field_selector = "spec.nodeName=n1";
        attributes
    });
    assert_eq!(selected, "allowed");
}

#[test]
fn access_ends_with_the_pod_and_leaves_no_trace() {
    let mut graph = graph();
    graph.set_pod("dev", "q", Some(&pod("n2")));
    graph.set_pod("dev", "p", None);
    let secret = Reference::new(Kind::Secret, "dev", "pull");
    assert!(!graph.leads_to(&secret, "n1") && graph.leads_to(&secret, "n2"));
    graph.set_pod("dev", "q", None);
    assert!(graph.is_empty());
}

#[test]
fn a_pod_of_the_same_name_on_another_node_takes_the_access_with_it() {
    let mut graph = graph();
    let mut moved = pod("n2");
    moved.set_at(&["metadata", "uid"], "u2");
    graph.set_pod("dev", "p", Some(&moved));
    let secret = Reference::new(Kind::Secret, "dev", "pull");
    assert!(!graph.leads_to(&secret, "n1") && graph.leads_to(&secret, "n2"));
}

#[test]
fn a_mirror_pod_gives_no_access_but_to_itself() {
    let mut graph = NodeGraph::default();
    let mut mirror = pod("n1");
    mirror.set_at(&["metadata", "annotations", "kubernetes.io/config.mirror"], "x");
    graph.set_pod("dev", "p", Some(&mirror));
    assert!(graph.leads_to(&Reference::new(Kind::Pod, "dev", "p"), "n1"));
    assert!(!graph.leads_to(&Reference::new(Kind::Secret, "dev", "pull"), "n1"));
}

#[test]
fn a_volume_and_its_secret_follow_the_claim() {
    let mut graph = graph();
    let volume = value!({"spec": {
        "claimRef": {"namespace": "dev", "name": "claim"},
        "csi": {"nodePublishSecretRef": {"namespace": "vault", "name": "mount"}}
    }});
    graph.set_volume("pv", Some(&volume));
    let (pv, secret) = (
        Reference::new(Kind::PersistentVolume, "", "pv"),
        Reference::new(Kind::Secret, "vault", "mount"),
    );
    assert!(graph.leads_to(&pv, "n1") && graph.leads_to(&secret, "n1"));
    assert!(!graph.leads_to(&pv, "n2") && !graph.leads_to(&secret, "n2"));
    graph.set_pod("dev", "p", None);
    assert!(!graph.leads_to(&pv, "n1") && !graph.leads_to(&secret, "n1"));
    graph.set_volume("pv", None);
    assert!(graph.is_empty());
}

#[test]
fn only_node_agents_are_judged() {
    let graph = graph();
    let impostor = UserInfo::named("system:node:n1");
    let attributes = Attributes::resource(&impostor, "get", "", "nodes").of("n1");
    assert_eq!(authorize(&graph, &[], &attributes), Decision::no_opinion(""));
    let nameless = LocalIdentity::node("");
    let attributes = Attributes::resource(nameless.user(), "get", "", "nodes").of("n1");
    assert_eq!(
        authorize(&graph, &[], &attributes).reason,
        "unknown node for user \"system:node:\""
    );
}
