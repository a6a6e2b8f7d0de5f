use super::*;
use crate::attributes::{Attributes, Authorizer};
use crate::chain::{ClusterAuthorizer, Watched};
use crate::user::{LocalIdentity, UserInfo};

fn cluster() -> ClusterAuthorizer {
    let authorizer = ClusterAuthorizer::new();
    for object in objects() {
        let watched = Watched::of(GROUP, object.resource).unwrap();
        authorizer.observe(watched, &object.namespace, &object.name, Some(&object.tree));
    }
    authorizer
}

fn find(resource: &str, name: &str) -> Value {
    objects()
        .into_iter()
        .find(|object| object.resource == resource && object.name == name)
        .unwrap()
        .tree
}

#[test]
fn all_default_objects_are_there_roles_first() {
    let objects = objects();
    let count = |resource| {
        objects
            .iter()
            .filter(|object| object.resource == resource)
            .count()
    };
    assert_eq!(
        ["clusterroles", "roles", "clusterrolebindings", "rolebindings"].map(count),
        [73, 7, 55, 7]
    );
    let first_binding = objects
        .iter()
        .position(|object| object.resource.ends_with("bindings"))
        .unwrap();
    assert!(
        objects[first_binding..]
            .iter()
            .all(|object| object.resource.ends_with("bindings"))
    );
}

#[test]
fn every_binding_refers_to_a_default_role() {
    let objects = objects();
    for binding in objects
        .iter()
        .filter(|object| object.resource.ends_with("bindings"))
    {
        let kind = binding.tree.str_at(&["roleRef", "kind"]).unwrap();
        let resource = if kind == "Role" { "roles" } else { "clusterroles" };
        let name = binding.tree.str_at(&["roleRef", "name"]).unwrap();
        let found = objects.iter().any(|object| {
            object.resource == resource
                && object.name == name
                && (kind == "ClusterRole" || object.namespace == binding.namespace)
        });
        assert!(found, "{}: {kind} {name}", binding.name);
    }
}

#[test]
fn objects_have_upstreams_form() {
    assert_eq!(
        find("clusterrolebindings", "system:node-proxier").to_string(),
        concat!(
            r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRoleBinding","metadata":{"#,
            r#""annotations":{"rbac.authorization.kubernetes.io/autoupdate":"true"},"#,
            r#""labels":{"kubernetes.io/bootstrapping":"rbac-defaults"},"name":"system:node-proxier"},"#,
            r#""roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"system:node-proxier"},"#,
            r#""subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"system:kube-proxy"}]}"#
        )
    );
    let admin = find("clusterroles", "admin");
    assert_eq!(
        admin.at(&["aggregationRule"]).unwrap().to_string(),
        r#"{"clusterRoleSelectors":[{"matchLabels":{"rbac.authorization.k8s.io/aggregate-to-admin":"true"}}]}"#
    );
    let label = "rbac.authorization.k8s.io/aggregate-to-admin";
    assert_eq!(
        find("clusterroles", "edit").str_at(&["metadata", "labels", label]),
        Some("true")
    );
    assert_eq!(
        find("rolebindings", "system::leader-locking-kube-scheduler").str_at(&["metadata", "namespace"]),
        Some("kube-system")
    );
}

#[test]
fn the_user_facing_roles_work_from_the_first_moment() {
    let (admin, edit, view) = (
        find("clusterroles", "admin"),
        find("clusterroles", "edit"),
        find("clusterroles", "view"),
    );
    let may = |role: &Value, verb: &str, group: &str, resource: &str| {
        let user = UserInfo::named("u");
        PolicyRule::all_of(role)
            .iter()
            .any(|rule| rule.allows(&Attributes::resource(&user, verb, group, resource)))
    };
    assert!(
        may(&view, "get", "", "pods")
            && !may(&view, "get", "", "secrets")
            && !may(&view, "create", "", "pods")
    );
    assert!(may(&edit, "create", "", "pods") && may(&edit, "get", "", "secrets"));
    assert!(!may(&edit, "create", "rbac.authorization.k8s.io", "roles"));
    assert!(may(&admin, "create", "rbac.authorization.k8s.io", "roles") && may(&admin, "list", "", "pods"));
}

#[test]
fn components_have_their_rights_and_no_more() {
    let authorizer = cluster();
    let may =
        |identity: &LocalIdentity, verb: &str, group: &str, resource: &str, namespace: &str, name: &str| {
            let attributes = Attributes::resource(identity.user(), verb, group, resource);
            authorizer
                .authorize(&attributes.in_namespace(namespace).of(name))
                .is_allowed()
        };
    let scheduler = LocalIdentity::component("system:kube-scheduler");
    assert!(may(&scheduler, "list", "", "pods", "", ""));
    assert!(may(
        &scheduler,
        "update",
        "coordination.k8s.io",
        "leases",
        "kube-system",
        "kube-scheduler"
    ));
    assert!(!may(&scheduler, "get", "", "secrets", "default", "s"));
    let replicas = LocalIdentity::controller("replicaset-controller");
    assert!(may(&replicas, "create", "", "pods", "any", ""));
    assert!(!may(&replicas, "create", "apps", "deployments", "any", ""));
    let node = LocalIdentity::node("n1");
    assert!(
        may(&node, "watch", "", "services", "", ""),
        "the common rules of nodes"
    );
    assert!(may(&node, "create", "", "events", "default", ""));
    assert!(!may(&node, "list", "", "secrets", "", ""));
    let master = LocalIdentity::api_server();
    assert!(may(&master, "delete", "anything.example", "widgets", "x", "y"));
}

#[test]
fn everybody_with_a_credential_may_discover_and_nobody_else_more_than_the_version() {
    let authorizer = cluster();
    let path = |user: &UserInfo, path: &str| {
        authorizer
            .authorize(&Attributes::path(user, "get", path))
            .is_allowed()
    };
    let somebody = UserInfo::named("x").authenticated();
    assert!(path(&somebody, "/apis/apps") && path(&somebody, "/version") && path(&somebody, "/openapi/v3"));
    assert!(!path(&somebody, "/metrics"));
    let anonymous = UserInfo::anonymous();
    assert!(path(&anonymous, "/version") && path(&anonymous, "/livez"));
    assert!(!path(&anonymous, "/apis"));
}

#[test]
fn the_api_servers_own_client_may_use_node_agents_and_nothing_else() {
    let authorizer = cluster();
    let user = UserInfo::named("kube-apiserver-kubelet-client").authenticated();
    let may = |verb: &str, resource: &str, subresource: &str| {
        authorizer
            .authorize(&Attributes::resource(&user, verb, "", resource).under(subresource))
            .is_allowed()
    };
    assert!(may("create", "nodes", "proxy") && may("get", "nodes", "log"));
    assert!(!may("get", "pods", "") && !may("get", "secrets", ""));
}
