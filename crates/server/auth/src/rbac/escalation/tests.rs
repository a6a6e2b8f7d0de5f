use super::*;
use crate::attributes::Decision;
use cloudeck_machinery::value;

struct Rbac<'a>(&'a RbacIndex);

impl Authorizer for Rbac<'_> {
    fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        self.0.authorize(attributes)
    }
}

/// `jane` has what `rules` say, cluster-wide.
fn index(rules: Value) -> RbacIndex {
    let mut index = RbacIndex::default();
    index.set_cluster_role("hers", Some(&value!({"rules": (rules)})));
    index.set_cluster_role_binding(
        "hers",
        Some(&value!({
            "roleRef": {"kind": "ClusterRole", "name": "hers"},
            "subjects": [{"kind": "User", "name": "jane"}]
        })),
    );
    index
}

fn jane() -> UserInfo {
    UserInfo {
        groups: vec!["staff".to_owned()],
        ..UserInfo::named("jane")
    }
}

fn check(index: &RbacIndex, resource: &str, old: Option<&Value>, new: &Value) -> Result<(), String> {
    let user = jane();
    let check = GrantCheck {
        user: &user,
        resource,
        namespace: "dev",
        name: "",
        old,
        new,
    };
    check_grant(&check, index, &Rbac(index)).map_err(|error| error.0.message)
}

fn role() -> Value {
    value!({
        "metadata": {"name": "r"},
        "rules": [{"apiGroups": [""], "resources": ["pods", "secrets"], "verbs": ["get", "list"]}]
    })
}

#[test]
fn a_role_with_more_than_ones_own_rights_is_refused_in_upstreams_words() {
    let index = index(value!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]));
    assert_eq!(
        check(&index, "roles", None, &role()).unwrap_err(),
        "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"jane\" (groups=[\"staff\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"list\"]}\n\
         {APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\" \"list\"]}"
    );
}

#[test]
fn a_role_within_ones_own_rights_passes() {
    let index = index(value!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["get", "list"]}]));
    assert_eq!(check(&index, "roles", None, &role()), Ok(()));
}

#[test]
fn the_verb_escalate_and_membership_of_masters_pass() {
    let may = index(
        value!([{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["escalate"]}]),
    );
    assert_eq!(check(&may, "roles", None, &role()), Ok(()));
    assert!(check(&may, "clusterroles", None, &role()).is_err());
    let mut master = jane();
    master.groups.push(groups::MASTERS.to_owned());
    let role = role();
    let check = GrantCheck {
        user: &master,
        resource: "clusterroles",
        namespace: "",
        name: "",
        old: None,
        new: &role,
    };
    assert!(check_grant(&check, &may, &Rbac(&may)).is_ok());
}

#[test]
fn a_binding_needs_the_rights_of_its_role_or_the_verb_bind() {
    let binding = value!({
        "metadata": {"name": "b"},
        "roleRef": {"kind": "ClusterRole", "name": "big"}, "subjects": []
    });
    let mut poor = index(value!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]));
    assert_eq!(
        check(&poor, "rolebindings", None, &binding).unwrap_err(),
        r#"clusterroles.rbac.authorization.k8s.io "big" not found"#
    );
    poor.set_cluster_role("big", Some(&role()));
    assert!(
        check(&poor, "rolebindings", None, &binding)
            .unwrap_err()
            .contains("permissions not currently held")
    );
    let mut binder = index(value!([{
        "apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"], "resourceNames": ["big"], "verbs": ["bind"]
    }]));
    binder.set_cluster_role("big", Some(&role()));
    assert_eq!(check(&binder, "rolebindings", None, &binding), Ok(()));
}

#[test]
fn an_update_that_only_drops_finalizers_passes() {
    let index = index(value!([]));
    let mut old = role();
    old.set_at(&["metadata", "finalizers"], value!(["x"]));
    assert_eq!(check(&index, "roles", Some(&old), &role()), Ok(()));
    let mut more = role();
    more.set_at(
        &["rules"],
        value!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
    );
    assert!(check(&index, "roles", Some(&old), &more).is_err());
}

#[test]
fn an_aggregated_role_needs_every_right() {
    let aggregated = value!({
        "metadata": {"name": "agg"}, "rules": [],
        "aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]}
    });
    let some = index(value!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]));
    assert_eq!(
        check(&some, "clusterroles", None, &aggregated),
        Ok(()),
        "the wildcard includes the verb escalate"
    );
    let few = index(value!([{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}]));
    assert_eq!(
        check(&few, "clusterroles", None, &aggregated).unwrap_err(),
        r#"clusterroles.rbac.authorization.k8s.io "agg" is forbidden: must have cluster-admin privileges to use the aggregationRule"#
    );
}
