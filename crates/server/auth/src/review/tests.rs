use super::*;
use crate::chain::Watched;
use cloudeck_machinery::value;

fn authorizer() -> ClusterAuthorizer {
    let authorizer = ClusterAuthorizer::new();
    let role = value!({"rules": [
        {"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]},
        {"verbs": ["get"], "nonResourceURLs": ["/metrics"]}
    ]});
    let binding = value!({
        "roleRef": {"kind": "ClusterRole", "name": "r"}, "subjects": [{"kind": "Group", "name": "staff"}]
    });
    authorizer.observe(Watched::ClusterRole, "", "r", Some(&role));
    authorizer.observe(Watched::ClusterRoleBinding, "", "b", Some(&binding));
    authorizer
}

fn jane() -> UserInfo {
    UserInfo {
        groups: vec!["staff".to_owned()],
        ..UserInfo::named("jane")
    }
}

fn own(spec: Value) -> Result<String, String> {
    let body = value!({"spec": (spec)});
    let answer =
        review_access(AccessReview::OwnAccess(&jane()), &body, &authorizer()).map_err(|s| s.message)?;
    assert_eq!(answer.str_at(&["kind"]), Some("SelfSubjectAccessReview"));
    Ok(answer.get("status").unwrap().to_string())
}

#[test]
fn own_access_is_answered_with_its_reason() {
    assert_eq!(
        own(value!({"resourceAttributes": {"verb": "list", "resource": "pods", "namespace": "dev"}}))
            .unwrap(),
        r#"{"allowed":true,"reason":"RBAC: allowed by ClusterRoleBinding \"b\" of ClusterRole \"r\" to Group \"staff\""}"#
    );
    assert_eq!(
        own(value!({"resourceAttributes": {"verb": "delete", "resource": "pods"}})).unwrap(),
        r#"{"allowed":false}"#
    );
    assert!(
        own(value!({"nonResourceAttributes": {"verb": "get", "path": "/metrics"}}))
            .unwrap()
            .starts_with(r#"{"allowed":true"#)
    );
}

#[test]
fn a_review_asks_about_exactly_one_thing() {
    let expected = "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified";
    assert_eq!(own(value!({})).unwrap_err(), expected);
}

#[test]
fn anothers_access_is_that_of_the_user_in_the_spec() {
    let ask = |spec: Value| {
        review_access(AccessReview::Subject, &value!({"spec": (spec)}), &authorizer())
            .map(|answer| answer.bool_at(&["status", "allowed"]).unwrap())
            .map_err(|status| status.message)
    };
    let pods = || value!({"verb": "get", "resource": "pods"});
    assert_eq!(
        ask(value!({"user": "x", "groups": ["staff"], "resourceAttributes": (pods())})),
        Ok(true)
    );
    assert_eq!(
        ask(value!({"user": "jane", "resourceAttributes": (pods())})),
        Ok(false)
    );
    assert_eq!(
        ask(value!({"groups": ["system:masters"], "resourceAttributes": (pods())})),
        Ok(true)
    );
    assert_eq!(
        ask(value!({"resourceAttributes": (pods())})).unwrap_err(),
        "SubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.user: Invalid value: \"\": at least one of user or group must be specified"
    );
}

#[test]
fn a_local_review_stays_in_its_namespace() {
    let body = value!({"spec": {"user": "x", "resourceAttributes": {"namespace": "a", "verb": "get", "resource": "pods"}}});
    assert!(review_access(AccessReview::LocalSubject("a"), &body, &authorizer()).is_ok());
    let refused = review_access(AccessReview::LocalSubject("b"), &body, &authorizer()).unwrap_err();
    assert_eq!(
        refused.message,
        "spec.resourceAttributes.namespace must match namespace: b, got a"
    );
}

#[test]
fn a_field_selector_reaches_the_authoriser() {
    let body = |selector: Value| {
        value!({"spec": {"user": "system:node:n1", "groups": ["system:nodes"], "resourceAttributes": {
            "verb": "list", "resource": "pods", "fieldSelector": (selector)
        }}})
    };
    let allowed = |selector: Value| {
        let answer = review_access(AccessReview::Subject, &body(selector), &authorizer()).unwrap();
        answer.bool_at(&["status", "allowed"]).unwrap()
    };
    assert!(allowed(value!({"rawSelector": "spec.nodeName=n1"})));
    assert!(allowed(
        value!({"requirements": [{"key": "spec.nodeName", "operator": "In", "values": ["n1"]}]})
    ));
    assert!(!allowed(
        value!({"requirements": [{"key": "spec.nodeName", "operator": "NotIn", "values": ["n1"]}]})
    ));
}

#[test]
fn the_rules_of_the_one_who_asks_are_listed_by_kind() {
    let answer = review_rules(&jane(), &value!({"spec": {"namespace": "dev"}}), &authorizer()).unwrap();
    assert_eq!(
        answer.get("status").unwrap().to_string(),
        concat!(
            r#"{"incomplete":false,"nonResourceRules":[{"nonResourceURLs":["/metrics"],"verbs":["get"]}],"#,
            r#""resourceRules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]}]}"#
        )
    );
    let refused = review_rules(&jane(), &value!({}), &authorizer()).unwrap_err();
    assert_eq!(refused.message, "no namespace on request");
}

#[test]
fn who_am_i_tells_user_and_groups() {
    let answer = review_self(&jane(), SystemTime::UNIX_EPOCH);
    assert_eq!(
        answer.to_string(),
        concat!(
            r#"{"apiVersion":"authentication.k8s.io/v1","kind":"SelfSubjectReview","#,
            r#""metadata":{"creationTimestamp":"1970-01-01T00:00:00Z"},"spec":{},"#,
            r#""status":{"userInfo":{"groups":["staff"],"username":"jane"}}}"#
        )
    );
}
