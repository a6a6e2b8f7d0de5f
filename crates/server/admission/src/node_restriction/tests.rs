use super::*;
use crate::testing::{World, create, nobody, node_user};
use cloudeck_machinery::value;

fn world() -> World {
    World::default()
        .with("nodes", "", "n1", value!({"metadata": {"uid": "node-1"}}))
        .with("pods", "dev", "mine", value!({
            "metadata": {"uid": "pod-1"},
            "spec": {"nodeName": "n1", "volumes": [{"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}, {"serviceAccountToken": {}}]}}]}
        }))
        .with("pods", "dev", "theirs", value!({"metadata": {"uid": "pod-2"}, "spec": {"nodeName": "n2"}}))
}

/// As the agent of `n1`; the reason without the prefix that names the object.
fn ask(change: impl FnOnce(&mut AdmissionRequest<'_>)) -> Result<(), String> {
    let user = node_user("n1");
    let mut request = create(&user, "pods", Value::Null);
    change(&mut request);
    world()
        .run(&NodeRestriction, request)
        .map(drop)
        .map_err(|message| {
            message
                .split_once(" is forbidden: ")
                .map_or(message.clone(), |(_, why)| why.to_owned())
        })
}

fn node_write(operation: Operation, name: &str, new: Value, old: Option<Value>) -> Result<(), String> {
    let name = name.to_owned();
    ask(|request| {
        request.resource = "nodes";
        request.operation = operation;
        request.namespace = "";
        request.name = name.leak();
        request.object = new;
        request.old = old.map(|old| &*Box::leak(Box::new(old)));
    })
}

fn labelled(key: &str) -> Value {
    let mut node = value!({"metadata": {"name": "n1"}});
    node.set_at(&["metadata", "labels", key], "x");
    node
}

#[test]
fn others_are_not_restricted_and_nameless_nodes_are_refused() {
    let user = nobody();
    assert!(
        world()
            .run(&NodeRestriction, create(&user, "pods", value!({})))
            .is_ok()
    );
    let nameless = node_user("");
    let refused = world()
        .run(&NodeRestriction, create(&nameless, "pods", value!({})))
        .unwrap_err();
    assert_eq!(
        refused,
        r#"pods "Unknown" is forbidden: could not determine node from user "system:node:""#
    );
}

#[test]
fn a_node_writes_itself_only_and_not_its_taints() {
    let plain = || value!({"metadata": {"name": "n1"}});
    assert_eq!(node_write(Operation::Create, "n1", plain(), None), Ok(()));
    assert_eq!(
        node_write(Operation::Update, "n2", plain(), Some(plain())).unwrap_err(),
        r#"node "n1" is not allowed to modify node "n2""#
    );
    let tainted = value!({"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "k"}]}});
    assert_eq!(
        node_write(Operation::Update, "n1", plain(), Some(tainted)).unwrap_err(),
        r#"node "n1" is not allowed to modify taints"#
    );
}

#[test]
fn labels_that_steer_pods_are_refused() {
    for allowed in [
        "kubernetes.io/hostname",
        "mine",
        "example.com/x",
        "a.node.kubernetes.io/b",
        "topology.kubernetes.io/zone",
    ] {
        assert_eq!(
            node_write(Operation::Create, "n1", labelled(allowed), None),
            Ok(()),
            "{allowed}"
        );
    }
    for refused in [
        "node-restriction.kubernetes.io/a",
        "x.k8s.io/a",
        "node-role.kubernetes.io/control-plane",
    ] {
        assert_eq!(
            node_write(Operation::Create, "n1", labelled(refused), None).unwrap_err(),
            format!("node \"n1\" is not allowed to set the following labels: {refused}")
        );
        assert_eq!(
            node_write(
                Operation::Update,
                "n1",
                value!({"metadata": {"name": "n1"}}),
                Some(labelled(refused))
            )
            .unwrap_err(),
            format!("is not allowed to modify labels: {refused}")
        );
    }
}

#[test]
fn only_mirror_pods_of_its_own_are_created() {
    let mirror = |owner: Value, spec: Value| {
        let pod = value!({
            "metadata": {"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}, "ownerReferences": (owner)},
            "spec": (spec)
        });
        ask(|request| request.object = pod)
    };
    let owner =
        || value!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-1", "controller": true}]);
    assert_eq!(mirror(owner(), value!({"nodeName": "n1"})), Ok(()));
    assert_eq!(
        ask(|request| request.object = value!({"spec": {"nodeName": "n1"}})).unwrap_err(),
        r#"pod does not have "kubernetes.io/config.mirror" annotation, node "n1" can only create mirror pods"#
    );
    for (owner, spec, why) in [
        (
            owner(),
            value!({"nodeName": "n2"}),
            r#"node "n1" can only create pods with spec.nodeName set to itself"#,
        ),
        (
            value!([]),
            value!({"nodeName": "n1"}),
            r#"node "n1" can only create pods with an owner reference set to itself"#,
        ),
        (
            value!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-1"}]),
            value!({"nodeName": "n1"}),
            r#"node "n1" can only create pods with a controller owner reference set to itself"#,
        ),
        (
            value!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "old", "controller": true}]),
            value!({"nodeName": "n1"}),
            "node n1 UID mismatch: expected old got node-1",
        ),
        (
            owner(),
            value!({"nodeName": "n1", "volumes": [{"configMap": {"name": "c"}}]}),
            r#"node "n1" can not create pods that reference configmaps"#,
        ),
        (
            owner(),
            value!({"nodeName": "n1", "volumes": [{"projected": {"sources": [{"serviceAccountToken": {}}]}}]}),
            r#"node "n1" can not create pods that reference serviceaccounts (via projected volumes)"#,
        ),
    ] {
        assert_eq!(mirror(owner, spec).unwrap_err(), why);
    }
}

#[test]
fn status_eviction_and_deletion_concern_its_own_pods() {
    let own = value!({"metadata": {"name": "mine", "labels": {"a": "b"}}, "spec": {"nodeName": "n1"}});
    let foreign = value!({"metadata": {"name": "theirs"}, "spec": {"nodeName": "n2"}});
    let status = |old: &Value, new: &Value| {
        let (old, new) = (old.clone(), new.clone());
        ask(|request| {
            request.operation = Operation::Update;
            request.subresource = "status";
            request.object = new;
            request.old = Some(Box::leak(Box::new(old)));
        })
    };
    assert_eq!(status(&own, &own), Ok(()));
    assert_eq!(
        status(&foreign, &foreign).unwrap_err(),
        r#"node "n1" can only update pod status for pods with spec.nodeName set to itself"#
    );
    let mut relabelled = own.clone();
    relabelled.set_at(&["metadata", "labels", "a"], "c");
    assert_eq!(
        status(&own, &relabelled).unwrap_err(),
        r#"node "n1" cannot update labels through pod status"#
    );
    let act = |operation, subresource, name| {
        ask(|request| {
            request.operation = operation;
            request.subresource = subresource;
            request.name = name;
        })
    };
    assert_eq!(act(Operation::Delete, "", "mine"), Ok(()));
    assert_eq!(
        act(Operation::Delete, "", "theirs").unwrap_err(),
        r#"node "n1" can only delete pods with spec.nodeName set to itself"#
    );
    assert_eq!(
        act(Operation::Delete, "", "gone").unwrap_err(),
        r#"pods "gone" not found"#
    );
    assert_eq!(act(Operation::Create, "eviction", "mine"), Ok(()));
    assert_eq!(
        act(Operation::Create, "eviction", "theirs").unwrap_err(),
        "node n1 can only evict pods with spec.nodeName set to itself"
    );
    assert_eq!(
        act(Operation::Create, "binding", "mine").unwrap_err(),
        "unexpected pod subresource \"binding\", only 'status' and 'eviction' are allowed"
    );
}

#[test]
fn tokens_are_for_its_pods_and_their_audiences() {
    let token = |pod: &str, uid: &str, audiences: Value| {
        let body = value!({"spec": {
            "audiences": (audiences),
            "boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": (pod), "uid": (uid)}
        }});
        ask(|request| {
            request.resource = "serviceaccounts";
            request.subresource = "token";
            request.name = "bot";
            request.object = body;
        })
    };
    assert_eq!(token("mine", "pod-1", value!(["vault"])), Ok(()));
    assert_eq!(token("mine", "pod-1", value!([])), Ok(()));
    for (pod, uid, audiences, why) in [
        (
            "mine",
            "",
            value!([]),
            "node requested token with a pod binding without a uid",
        ),
        (
            "theirs",
            "pod-2",
            value!([]),
            "node requested token bound to a pod scheduled on a different node",
        ),
        (
            "mine",
            "old",
            value!([]),
            "the UID in the bound object reference (old) does not match the UID in record. The object might have been deleted and then recreated",
        ),
        (
            "mine",
            "pod-1",
            value!(["x"]),
            r#"system:node:n1 is not authorized to request tokens for audience "x""#,
        ),
        (
            "mine",
            "pod-1",
            value!(["vault", "x"]),
            "node may only request 0 or 1 audiences",
        ),
    ] {
        assert_eq!(token(pod, uid, audiences).unwrap_err(), why);
    }
    let unbound = ask(|request| {
        request.resource = "serviceaccounts";
        request.subresource = "token";
        request.object = value!({"spec": {}});
    });
    assert_eq!(unbound.unwrap_err(), "node requested token not bound to a pod");
}

#[test]
fn leases_are_its_own() {
    let lease = |namespace, name: &str| {
        let object = value!({"metadata": {"name": (name)}});
        ask(|request| {
            request.group = "coordination.k8s.io";
            request.resource = "leases";
            request.namespace = namespace;
            request.object = object;
        })
    };
    assert_eq!(lease("kube-node-lease", "n1"), Ok(()));
    assert_eq!(
        lease("kube-node-lease", "n2").unwrap_err(),
        "can only access node lease with the same name as the requesting node"
    );
    assert_eq!(
        lease("dev", "n1").unwrap_err(),
        r#"can only access leases in the "kube-node-lease" system namespace"#
    );
}
