use crate::expect::{check_create, check_status, check_update};

fn set(labels: &str, rest: &str) -> String {
    format!(
        r#"{{"spec":{{"selector":{{"matchLabels":{{"app":"x"}}}},"template":{{"metadata":{{"labels":{{{labels}}}}},
            "spec":{{"containers":[{{"name":"c","image":"i","volumeMounts":[{{"name":"data","mountPath":"/data"}}]}}],
            "volumes":[{{"name":"data","emptyDir":{{}}}}]}}}}{rest}}}}}"#
    )
}

const APP: &str = r#""app":"x""#;

#[test]
fn a_stateful_set_has_a_sound_strategy_and_claims() {
    check_create("apps", "StatefulSet", &set(APP, ""), &[]);
    let claims = r#","volumeClaimTemplates":[{"metadata":{"name":"data"},"spec":{"accessModes":["ReadWriteOnce"],
        "resources":{"requests":{"storage":"1Gi"}}}}]"#;
    let without = set(APP, claims).replace(r#","volumes":[{"name":"data","emptyDir":{}}]"#, "");
    check_create("apps", "StatefulSet", &without, &[]);
    check_create(
        "apps",
        "StatefulSet",
        &set(
            r#""app":"y""#,
            r#","replicas":-1,"podManagementPolicy":"Any","serviceName":"A_b","updateStrategy":{"type":"Later"},"volumeClaimTemplates":[{"metadata":{"name":"d"},"spec":{}}]"#,
        ),
        &[
            "spec.podManagementPolicy: Invalid value: \"Any\": must be 'OrderedReady' or 'Parallel'",
            "spec.updateStrategy: Invalid value: {\"type\":\"Later\"}: must be 'RollingUpdate' or 'OnDelete'",
            "spec.volumeClaimTemplates[0].spec.accessModes: Required value: at least 1 access mode is required",
            "spec.volumeClaimTemplates[0].spec.resources[storage]: Required value",
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.serviceName: Invalid value: \"A_b\": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')",
            "spec.template.metadata.labels: Invalid value: {\"app\":\"y\"}: `selector` does not match template `labels`",
        ],
    );
}

#[test]
fn what_a_stateful_set_is_known_by_stays() {
    check_update(
        "apps",
        "StatefulSet",
        &set(APP, r#","serviceName":"a""#),
        &set(APP, r#","serviceName":"b","replicas":3"#),
        &["spec.serviceName: Invalid value: \"b\": field is immutable"],
    );
}

#[test]
fn a_daemon_set_replaces_or_surges_but_not_both() {
    let rolling = |update: &str| {
        set(
            APP,
            &format!(r#","updateStrategy":{{"rollingUpdate":{{{update}}}}}"#),
        )
    };
    check_create("apps", "DaemonSet", &set(APP, ""), &[]);
    check_create(
        "apps",
        "DaemonSet",
        &rolling(r#""maxSurge":1,"maxUnavailable":1"#),
        &[
            "spec.updateStrategy.rollingUpdate.maxSurge: Invalid value: 1: may not be set when maxUnavailable is non-zero",
        ],
    );
    check_create(
        "apps",
        "DaemonSet",
        &rolling(r#""maxSurge":0,"maxUnavailable":0"#),
        &["spec.updateStrategy.rollingUpdate.maxUnavailable: Required value: cannot be 0 when maxSurge is 0"],
    );
    check_create(
        "apps",
        "DaemonSet",
        r#"{"spec":{"selector":{},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
        &[
            "spec.selector: Invalid value: {}: empty selector is invalid for daemonset",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
}

#[test]
fn counts_of_pods_fit_together() {
    check_status(
        "apps",
        "StatefulSet",
        r#"{"status":{"collisionCount":2}}"#,
        r#"{"status":{"replicas":1,"readyReplicas":2,"collisionCount":1}}"#,
        &[
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ],
    );
}

#[test]
fn a_revision_keeps_its_data() {
    check_create(
        "apps",
        "ControllerRevision",
        r#"{"revision":-1}"#,
        &[
            "revision: Invalid value: -1: must be greater than or equal to 0",
            "data: Required value: data is mandatory",
        ],
    );
    check_update(
        "apps",
        "ControllerRevision",
        r#"{"revision":1,"data":{"a":1}}"#,
        r#"{"revision":2,"data":{"a":2}}"#,
        &["data: Invalid value: {\"a\":2}: field is immutable"],
    );
}
