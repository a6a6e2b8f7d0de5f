use crate::expect::{check_create, check_update};

const GROUP: &str = "rbac.authorization.k8s.io";

#[test]
fn rules_name_verbs_and_either_resources_or_paths() {
    check_create(
        GROUP,
        "ClusterRole",
        r#"{"rules":[{"verbs":["get"],"nonResourceURLs":["/healthz"]},{"verbs":["*"],"apiGroups":[""],"resources":["pods"]}]}"#,
        &[],
    );
    check_create(
        GROUP,
        "Role",
        r#"{"rules":[{},{"verbs":["get"],"nonResourceURLs":["/x"],"resources":["pods"]}]}"#,
        &[
            "rules[0].verbs: Required value: verbs must contain at least one value",
            "rules[0].apiGroups: Required value: resource rules must supply at least one api group",
            "rules[0].resources: Required value: resource rules must supply at least one resource",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: namespaced rules cannot apply to non-resource URLs",
            "rules[1].nonResourceURLs: Invalid value: [\"/x\"]: rules cannot apply to both regular resources and non-resource URLs",
        ],
    );
}

#[test]
fn bindings_grant_one_role_for_good() {
    let binding = |role: &str| {
        format!(
            r#"{{"roleRef":{{"kind":"ClusterRole","name":"{role}"}},"subjects":[{{"kind":"User","name":"u"}}]}}"#
        )
    };
    check_create(GROUP, "ClusterRoleBinding", &binding("a"), &[]);
    check_update(
        GROUP,
        "ClusterRoleBinding",
        &binding("a"),
        &binding("b"),
        &[
            "roleRef: Invalid value: {\"apiGroup\":\"rbac.authorization.k8s.io\",\"kind\":\"ClusterRole\",\"name\":\"b\"}: field is immutable",
        ],
    );
    check_create(
        GROUP,
        "ClusterRoleBinding",
        r#"{"roleRef":{"kind":"Role","name":""},"subjects":[{"kind":"ServiceAccount","name":"s"},{"kind":"Robot","name":"r"}]}"#,
        &[
            "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            "roleRef.name: Required value",
            "subjects[0].namespace: Required value",
            "subjects[1].kind: Unsupported value: \"Robot\": supported values: \"ServiceAccount\", \"User\", \"Group\"",
        ],
    );
}
