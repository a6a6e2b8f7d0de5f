use crate::expect::{check_create, check_status, check_update};

fn job(spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"j","uid":"u"}},"spec":{{"manualSelector":true,"selector":{{"matchLabels":{{"a":"b"}}}},
            "template":{{"metadata":{{"labels":{{"a":"b"}}}},"spec":{{"restartPolicy":"Never",
            "containers":[{{"name":"c","image":"i"}}]}}}}{spec}}}}}"#
    )
}

fn check(spec: &str, expected: &[&str]) {
    check_create("batch", "Job", &job(spec), expected);
}

#[test]
fn numbers_of_pods_are_not_negative() {
    check("", &[]);
    check(
        r#","parallelism":-1,"backoffLimit":-2"#,
        &[
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
            "spec.backoffLimit: Invalid value: -2: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn the_pods_of_a_job_end() {
    check_create(
        "batch",
        "Job",
        r#"{"metadata":{"name":"j","uid":"u"},"spec":{"manualSelector":true,"selector":{"matchLabels":{"a":"b"}},
            "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}}"#,
        &["spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\""],
    );
}

#[test]
fn a_selector_that_the_server_did_not_make_needs_to_be_declared() {
    check_create(
        "batch",
        "Job",
        r#"{"metadata":{"name":"j","uid":"u"},"spec":{"selector":{"matchLabels":{"a":"b"}},
            "template":{"metadata":{"labels":{"controller-uid":"u","job-name":"j","batch.kubernetes.io/controller-uid":"u",
            "batch.kubernetes.io/job-name":"j","a":"b"}},"spec":{"restartPolicy":"Never","containers":[{"name":"c","image":"i"}]}}}}"#,
        &["spec.selector: Invalid value: {\"matchLabels\":{\"a\":\"b\"}}: `selector` not auto-generated"],
    );
}

#[test]
fn indexed_jobs_have_bounds_of_their_own() {
    check(r#","completionMode":"Indexed""#, &[]);
    check(
        r#","completionMode":"Indexed","completions":5,"parallelism":200000,"backoffLimitPerIndex":1,"maxFailedIndexes":7"#,
        &[
            "spec.parallelism: Invalid value: 200000: must be less than or equal to 100000 when completion mode is Indexed",
            "spec.maxFailedIndexes: Invalid value: 7: must be less than or equal to completions",
        ],
    );
    check(
        r#","backoffLimitPerIndex":1"#,
        &["spec.backoffLimitPerIndex: Invalid value: 1: requires indexed completion mode"],
    );
}

#[test]
fn rules_of_failure_and_success_are_checked() {
    check(
        r#","podFailurePolicy":{"rules":[{"action":"Stop","onExitCodes":{"operator":"In","values":[2,0]}},{"action":"Ignore"}]}"#,
        &[
            "spec.podFailurePolicy.rules[0].action: Unsupported value: \"Stop\": supported values: \"Count\", \"FailIndex\", \"FailJob\", \"Ignore\"",
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]: Invalid value: 0: must not be 0 for the In operator",
            "spec.podFailurePolicy.rules[0].onExitCodes.values: Invalid value: [2,0]: must be ordered",
            "spec.podFailurePolicy.rules[1]: Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ],
    );
    check(
        r#","completionMode":"Indexed","completions":3,"successPolicy":{"rules":[{"succeededIndexes":"0-9"},{"succeededCount":4}]}"#,
        &[
            "spec.successPolicy.rules[0].succeededIndexes: Invalid value: \"0-9\": error parsing succeededIndexes: too large index: \"9\"",
            "spec.successPolicy.rules[1].succeededCount: Invalid value: 4: must be less than or equal to 3 (the number of specified completions)",
        ],
    );
}

#[test]
fn what_a_job_does_stays() {
    let fixed = "field is immutable";
    check_update(
        "batch",
        "Job",
        &job(r#","completions":1"#),
        &job(r#","completions":2"#),
        &[&format!("spec.completions: Invalid value: 2: {fixed}")],
    );
    let image = job("").replace(r#""image":"i""#, r#""image":"j""#);
    let causes = (crate::strategy("batch", "Job").validate_update)(
        &crate::expect::defaulted("batch", "Job", &image),
        &crate::expect::defaulted("batch", "Job", &job("")),
    );
    assert!(causes[0].field == "spec.template" && causes[0].message.ends_with(fixed));
    let node = r#","nodeSelector":{"a":"b"},"restartPolicy":"Never""#;
    let moved = job(r#","suspend":true"#).replace(r#","restartPolicy":"Never""#, node);
    let moved = moved.replace(
        r#""restartPolicy":"Never","#,
        r#""nodeSelector":{"a":"b"},"restartPolicy":"Never","#,
    );
    check_update("batch", "Job", &job(r#","suspend":true"#), &moved, &[]);
}

#[test]
fn an_end_is_told_once_and_with_reason() {
    let old = r#"{"spec":{},"status":{"active":1,"startTime":"2026-01-01T00:00:00Z"}}"#;
    let ended = |rest: &str| {
        format!(
            r#"{{"spec":{{}},"status":{{"startTime":"2026-01-01T00:00:00Z","conditions":[{{"type":"Complete","status":"True"}}{rest}}}}}"#
        )
    };
    check_status(
        "batch",
        "Job",
        old,
        &ended(r#",{"type":"SuccessCriteriaMet","status":"True"}],"completionTime":"2026-01-01T00:00:01Z""#),
        &[],
    );
    check_status(
        "batch",
        "Job",
        old,
        &ended(r#"],"active":1"#),
        &[
            "status.conditions: Invalid value: cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
            "status.completionTime: Required value: completionTime is required for Complete jobs",
            "status.active: Invalid value: 1: active>0 is invalid for finished job",
        ],
    );
    check_status(
        "batch",
        "Job",
        r#"{"spec":{},"status":{"failed":3}}"#,
        r#"{"spec":{},"status":{"failed":2}}"#,
        &["status.failed: Invalid value: 2: cannot decrease the failed counter"],
    );
}
