use super::*;
use crate::attributes::Verdict;
use cloudeck_machinery::value;

fn role(verb: &str, resource: &str) -> Value {
    value!({"rules": [{"verbs": [(verb)], "apiGroups": [""], "resources": [(resource)]}]})
}

fn binding(role_kind: &str, role_name: &str, subjects: Value) -> Value {
    value!({"roleRef": {"kind": (role_kind), "name": (role_name)}, "subjects": (subjects)})
}

fn index() -> RbacIndex {
    let mut index = RbacIndex::default();
    index.set_cluster_role("reader", Some(&role("get", "pods")));
    index.set_role("dev", "writer", Some(&role("create", "pods")));
    index.set_cluster_role_binding(
        "readers",
        Some(&binding(
            "ClusterRole",
            "reader",
            value!([{"kind": "Group", "name": "staff"}, {"kind": "User", "name": "jane"}]),
        )),
    );
    index.set_role_binding(
        "dev",
        "writers",
        Some(&binding(
            "Role",
            "writer",
            value!([{"kind": "ServiceAccount", "name": "bot"}, {"kind": "User", "name": "jane"}]),
        )),
    );
    index
}

fn ask(index: &RbacIndex, user: &UserInfo, verb: &str, namespace: &str) -> Decision {
    index.authorize(&Attributes::resource(user, verb, "", "pods").in_namespace(namespace))
}

#[test]
fn users_groups_and_service_accounts_get_the_rules_of_their_bindings() {
    let index = index();
    let jane = UserInfo::named("jane");
    let staff = UserInfo {
        groups: vec!["staff".into()],
        ..UserInfo::named("x")
    };
    let bot = UserInfo::service_account("dev", "bot", "");
    for (user, verb, namespace, reason) in [
        (
            &jane,
            "get",
            "",
            r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to User "jane""#,
        ),
        (
            &staff,
            "get",
            "any",
            r#"RBAC: allowed by ClusterRoleBinding "readers" of ClusterRole "reader" to Group "staff""#,
        ),
        (
            &jane,
            "create",
            "dev",
            r#"RBAC: allowed by RoleBinding "writers/dev" of Role "writer" to User "jane""#,
        ),
        (
            &bot,
            "create",
            "dev",
            r#"RBAC: allowed by RoleBinding "writers/dev" of Role "writer" to ServiceAccount "bot/dev""#,
        ),
    ] {
        assert_eq!(ask(&index, user, verb, namespace), Decision::allow(reason));
    }
    for (user, verb, namespace) in [
        (&jane, "create", ""),
        (&jane, "create", "prod"),
        (&bot, "get", "dev"),
        (&staff, "create", "dev"),
    ] {
        assert_eq!(
            ask(&index, user, verb, namespace),
            Decision::no_opinion(""),
            "{user:?} {verb} {namespace}"
        );
    }
}

#[test]
fn a_change_takes_effect_at_once_and_leaves_no_trace() {
    let mut index = index();
    let jane = UserInfo::named("jane");
    index.set_cluster_role_binding(
        "readers",
        Some(&binding(
            "ClusterRole",
            "reader",
            value!([{"kind": "User", "name": "joe"}]),
        )),
    );
    assert!(!ask(&index, &jane, "get", "").is_allowed());
    assert!(ask(&index, &UserInfo::named("joe"), "get", "").is_allowed());
    index.set_cluster_role("reader", Some(&role("list", "pods")));
    assert!(ask(&index, &UserInfo::named("joe"), "list", "").is_allowed());
    index.set_cluster_role_binding("readers", None);
    index.set_role_binding("dev", "writers", None);
    index.set_role("dev", "writer", None);
    assert!(!ask(&index, &UserInfo::named("joe"), "list", "").is_allowed());
    assert!(index.cluster_bindings.by_user.is_empty() && index.cluster_bindings.by_group.is_empty());
    assert!(index.bindings.is_empty() && index.roles.is_empty());
}

#[test]
fn a_missing_role_is_named_in_the_reason() {
    let mut index = index();
    index.set_cluster_role("reader", None);
    index.set_role("dev", "writer", None);
    let refused = ask(&index, &UserInfo::named("jane"), "get", "dev");
    assert_eq!(refused.verdict, Verdict::NoOpinion);
    assert_eq!(
        refused.reason,
        r#"RBAC: [clusterrole.rbac.authorization.k8s.io "reader" not found, role.rbac.authorization.k8s.io "writer" not found]"#
    );
}

#[test]
fn a_role_binding_to_a_cluster_role_grants_in_its_namespace_only() {
    let mut index = index();
    index.set_role_binding(
        "prod",
        "r",
        Some(&binding(
            "ClusterRole",
            "reader",
            value!([{"kind": "User", "name": "max"}]),
        )),
    );
    let max = UserInfo::named("max");
    assert!(ask(&index, &max, "get", "prod").is_allowed());
    assert!(!ask(&index, &max, "get", "dev").is_allowed());
    assert!(!ask(&index, &max, "get", "").is_allowed());
}

#[test]
fn the_rules_of_a_user_count_each_binding_once() {
    let index = index();
    let jane = UserInfo {
        groups: vec!["staff".into()],
        ..UserInfo::named("jane")
    };
    let (rules, errors) = index.rules_for(&jane, "dev");
    assert_eq!((rules.len(), errors.len()), (2, 0));
}
