use crate::expect::{check_create, check_update};

fn cron(spec: &str) -> String {
    format!(
        r#"{{"metadata":{{"name":"c"}},"spec":{{{spec},"jobTemplate":{{"spec":{{"template":{{"spec":{{"restartPolicy":"Never",
            "containers":[{{"name":"c","image":"i"}}]}}}}}}}}}}}}"#
    )
}

fn check(spec: &str, expected: &[&str]) {
    check_create("batch", "CronJob", &cron(spec), expected);
}

#[test]
fn a_schedule_is_one_of_cron_without_a_zone() {
    check(r#""schedule":"*/5 * * * *""#, &[]);
    check(r#""schedule":"""#, &["spec.schedule: Required value"]);
    check(
        r#""schedule":"daily""#,
        &["spec.schedule: Invalid value: \"daily\": expected exactly 5 fields, found 1: [daily]"],
    );
    check(
        r#""schedule":"TZ=UTC 0 * * * *""#,
        &[
            "spec.schedule: Invalid value: \"TZ=UTC 0 * * * *\": cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
        ],
    );
    let zone = |zone: &str| format!(r#""schedule":"@daily","timeZone":"{zone}""#);
    check(&zone("Europe/Berlin"), &[]);
    check(
        &zone("../etc"),
        &["spec.timeZone: Invalid value: \"../etc\": unknown time zone ../etc"],
    );
}

#[test]
fn the_jobs_of_a_cron_job_are_checked_as_jobs() {
    check_create(
        "batch",
        "CronJob",
        r#"{"metadata":{"name":"c"},"spec":{"schedule":"@daily","concurrencyPolicy":"Maybe","failedJobsHistoryLimit":-1,
            "jobTemplate":{"spec":{"selector":{},"template":{"spec":{"containers":[{"name":"c","image":"i"}]}}}}}}"#,
        &[
            "spec.concurrencyPolicy: Unsupported value: \"Maybe\": supported values: \"Allow\", \"Forbid\", \"Replace\"",
            "spec.jobTemplate.spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
            "spec.jobTemplate.spec.selector: Invalid value: {}: `selector` will be auto-generated",
            "spec.failedJobsHistoryLimit: Invalid value: -1: must be greater than or equal to 0",
        ],
    );
}

#[test]
fn a_name_leaves_room_for_the_time() {
    let long = cron(r#""schedule":"@daily""#)
        .replace(r#""name":"c"}"#, &format!(r#""name":"{}"}}"#, "x".repeat(53)));
    let why = format!(
        "metadata.name: Invalid value: \"{}\": must be no more than 52 characters",
        "x".repeat(53)
    );
    check_create("batch", "CronJob", &long, &[&why]);
    check_update("batch", "CronJob", &long, &long, &[]);
}
