use crate::expect::{check_create, check_status, check_update};

fn deployment(labels: &str, rest: &str) -> String {
    format!(
        r#"{{"spec":{{"selector":{{"matchLabels":{{"app":"x"}}}},"template":{{"metadata":{{"labels":{{{labels}}}}},
            "spec":{{"containers":[{{"name":"c","image":"i"}}]}}}}{rest}}}}}"#
    )
}

fn check(labels: &str, rest: &str, expected: &[&str]) {
    check_create("apps", "Deployment", &deployment(labels, rest), expected);
}

#[test]
fn the_selector_matches_the_template() {
    check(r#""app":"x""#, "", &[]);
    check(
        r#""app":"y""#,
        "",
        &[
            "spec.template.metadata.labels: Invalid value: {\"app\":\"y\"}: `selector` does not match template `labels`",
        ],
    );
    check_create(
        "apps",
        "ReplicaSet",
        r#"{"spec":{"selector":{},"template":{"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
        &[
            "spec.selector: Invalid value: {}: empty selector is invalid for deployment",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ],
    );
    check_create(
        "apps",
        "Deployment",
        r#"{"spec":{"template":{"spec":{"containers":[]}}}}"#,
        &[
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
            "spec.template.spec.containers: Required value",
        ],
    );
}

#[test]
fn strategies_leave_room_to_move() {
    let app = r#""app":"x""#;
    let rolling = |update: &str| format!(r#","strategy":{{"rollingUpdate":{{{update}}}}}"#);
    check(app, &rolling(r#""maxSurge":1,"maxUnavailable":0"#), &[]);
    check(
        app,
        &rolling(r#""maxSurge":0,"maxUnavailable":"0%""#),
        &[
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ],
    );
    check(
        app,
        &rolling(r#""maxSurge":"x","maxUnavailable":"101%""#),
        &[
            "spec.strategy.rollingUpdate.maxSurge: Invalid value: \"x\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"101%\": must not be greater than 100%",
        ],
    );
    check(
        app,
        r#","strategy":{"type":"Recreate","rollingUpdate":{}}"#,
        &["spec.strategy.rollingUpdate: Forbidden: may not be specified when strategy `type` is 'Recreate'"],
    );
    check(
        app,
        r#","replicas":-1,"minReadySeconds":600"#,
        &[
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.progressDeadlineSeconds: Invalid value: 600: must be greater than minReadySeconds",
        ],
    );
}

#[test]
fn the_selector_stays() {
    let old = deployment(r#""app":"x","b":"c""#, "");
    let new = old.replace(r#""matchLabels":{"app":"x"}"#, r#""matchLabels":{"b":"c"}"#);
    for kind in ["Deployment", "ReplicaSet"] {
        check_update("apps", kind, &old, &old, &[]);
        check_update(
            "apps",
            kind,
            &old,
            &new,
            &["spec.selector: Invalid value: {\"matchLabels\":{\"b\":\"c\"}}: field is immutable"],
        );
    }
}

#[test]
fn a_status_counts_no_more_than_there_are() {
    check_status(
        "apps",
        "Deployment",
        r#"{"status":{"collisionCount":2}}"#,
        r#"{"status":{"replicas":1,"readyReplicas":2,"availableReplicas":1,"collisionCount":1}}"#,
        &[
            "status.readyReplicas: Invalid value: 2: cannot be greater than status.replicas",
            "status.collisionCount: Invalid value: 1: cannot be decremented",
        ],
    );
}
