//! Defaults of the kinds with a pod template.
//!
//! Source: `pkg/apis/{apps,batch,core}/v1/defaults.go`.

use cloudeck_machinery::Value;

use crate::fill;
use crate::pod::defaults as pod;

pub(super) fn deployment(deployment: &mut Value) {
    let Some(spec) = fill::made(deployment, "spec") else {
        return;
    };
    fill::absent(spec, "replicas", || 1.into());
    if let Some(strategy) = fill::made(spec, "strategy") {
        fill::text(strategy, "type", "RollingUpdate");
        if strategy.str_at(&["type"]) == Some("RollingUpdate")
            && let Some(update) = fill::made(strategy, "rollingUpdate")
        {
            fill::absent(update, "maxUnavailable", || "25%".into());
            fill::absent(update, "maxSurge", || "25%".into());
        }
    }
    fill::absent(spec, "revisionHistoryLimit", || 10.into());
    fill::absent(spec, "progressDeadlineSeconds", || 600.into());
    pod::template(spec, "template");
}

/// Annotations are copied to replica sets, so their change counts as one of the specification.
pub(super) fn annotations_raise_generation(new: &mut Value, old: &Value) {
    let annotations = |tree: &Value| tree.at(&["metadata", "annotations"]).cloned();
    if annotations(new) != annotations(old) {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
        new.set_at(&["metadata", "generation"], generation);
    }
}

pub(super) fn replica_set(set: &mut Value) {
    if let Some(spec) = fill::made(set, "spec") {
        fill::absent(spec, "replicas", || 1.into());
        pod::template(spec, "template");
    }
}

pub(super) fn daemon_set(set: &mut Value) {
    let Some(spec) = fill::made(set, "spec") else {
        return;
    };
    if let Some(strategy) = fill::made(spec, "updateStrategy") {
        fill::text(strategy, "type", "RollingUpdate");
        if strategy.str_at(&["type"]) == Some("RollingUpdate")
            && let Some(update) = fill::made(strategy, "rollingUpdate")
        {
            fill::absent(update, "maxUnavailable", || 1.into());
            fill::absent(update, "maxSurge", || 0.into());
        }
    }
    fill::absent(spec, "revisionHistoryLimit", || 10.into());
    pod::template(spec, "template");
}

/// Where apps/v1 keeps the number that older versions had as `spec.templateGeneration`.
const TEMPLATE_GENERATION: [&str; 3] = [
    "metadata",
    "annotations",
    "deprecated.daemonset.template.generation",
];

pub(super) fn first_template_generation(set: &mut Value) {
    let given = set
        .str_at(&TEMPLATE_GENERATION)
        .and_then(|text| text.parse::<i64>().ok());
    if given.is_none_or(|number| number < 1) {
        set.set_at(&TEMPLATE_GENERATION, "1");
    }
}

pub(super) fn raise_template_generation(new: &mut Value, old: &Value) {
    let before: i64 = old
        .str_at(&TEMPLATE_GENERATION)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0);
    let changed = new.at(&["spec", "template"]) != old.at(&["spec", "template"]);
    // As Go counts: the annotation is the client's.
    let number = before.wrapping_add(i64::from(changed));
    if number > 0 {
        new.set_at(&TEMPLATE_GENERATION, number.to_string());
    }
}

pub(super) fn stateful_set(set: &mut Value) {
    let Some(spec) = fill::made(set, "spec") else {
        return;
    };
    fill::text(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = fill::made(spec, "updateStrategy") {
        if fill::is_empty(strategy.get("type")) {
            fill::text(strategy, "type", "RollingUpdate");
            fill::made(strategy, "rollingUpdate");
        }
        if strategy.str_at(&["type"]) == Some("RollingUpdate")
            && let Some(update) = fill::member(strategy, "rollingUpdate")
        {
            fill::absent(update, "partition", || 0.into());
            fill::absent(update, "maxUnavailable", || 1.into());
        }
    }
    if let Some(policy) = fill::made(spec, "persistentVolumeClaimRetentionPolicy") {
        fill::text(policy, "whenDeleted", "Retain");
        fill::text(policy, "whenScaled", "Retain");
    }
    fill::absent(spec, "replicas", || 1.into());
    fill::absent(spec, "revisionHistoryLimit", || 10.into());
    for claim in fill::each(spec, "volumeClaimTemplates") {
        // Upstream reads each as a whole claim, which has a phase.
        fill::text(claim, "kind", "PersistentVolumeClaim");
        fill::text(claim, "apiVersion", "v1");
        if let Some(spec) = fill::made(claim, "spec") {
            pod::claim_spec(spec);
        }
        if let Some(status) = fill::made(claim, "status") {
            fill::text(status, "phase", "Pending");
        }
    }
    pod::template(spec, "template");
}

pub(super) fn replication_controller(controller: &mut Value) {
    let Some(spec) = fill::made(controller, "spec") else {
        return;
    };
    fill::absent(spec, "replicas", || 1.into());
    if spec.get("template").is_some_and(|template| !template.is_null()) {
        pod::template(spec, "template");
    }
    let labels = spec.at(&["template", "metadata", "labels"]).cloned();
    let Some(labels) = labels.filter(|labels| !fill::is_empty(Some(labels))) else {
        return;
    };
    if fill::is_empty(spec.get("selector")) {
        spec.set_at(&["selector"], labels.clone());
    }
    if fill::is_empty(controller.at(&["metadata", "labels"])) {
        controller.set_at(&["metadata", "labels"], labels);
    }
}

pub(super) fn job(job: &mut Value) {
    let Some(spec) = fill::made(job, "spec") else {
        return;
    };
    job_spec(spec);
    let labels = spec.at(&["template", "metadata", "labels"]).cloned();
    if let Some(labels) = labels
        && fill::is_empty(job.at(&["metadata", "labels"]))
        && !fill::is_empty(Some(&labels))
    {
        job.set_at(&["metadata", "labels"], labels);
    }
}

fn job_spec(spec: &mut Value) {
    let unset = |spec: &Value, key: &str| spec.get(key).is_none_or(Value::is_null);
    if unset(spec, "completions") && unset(spec, "parallelism") {
        spec.set_at(&["completions"], 1);
    }
    fill::absent(spec, "parallelism", || 1.into());
    let by_index = !unset(spec, "backoffLimitPerIndex");
    fill::absent(spec, "backoffLimit", || {
        if by_index { i32::MAX.into() } else { 6.into() }
    });
    fill::absent(spec, "completionMode", || "NonIndexed".into());
    fill::absent(spec, "suspend", || false.into());
    let policy = if unset(spec, "podFailurePolicy") {
        "TerminatingOrFailed"
    } else {
        "Failed"
    };
    fill::absent(spec, "podReplacementPolicy", || policy.into());
    fill::absent(spec, "manualSelector", || false.into());
    failure_policy(spec);
    pod::template(spec, "template");
}

fn failure_policy(spec: &mut Value) {
    let Some(policy) = fill::member(spec, "podFailurePolicy") else {
        return;
    };
    for rule in fill::each(policy, "rules") {
        for pattern in fill::each(rule, "onPodConditions") {
            fill::text(pattern, "status", "True");
        }
    }
}

/// The selector and labels by which a job knows its pods, made from its uid unless the client chose its own.
///
/// Source: `generateSelector` in `pkg/registry/batch/job/strategy.go`.
pub(super) fn job_selector(job: &mut Value) {
    if job.bool_at(&["spec", "manualSelector"]) == Some(true) {
        return;
    }
    let text = |path: &[&str]| job.str_at(path).unwrap_or_default().to_owned();
    let (name, uid) = (text(&["metadata", "name"]), text(&["metadata", "uid"]));
    for (key, value) in [
        ("controller-uid", &uid),
        ("job-name", &name),
        ("batch.kubernetes.io/controller-uid", &uid),
        ("batch.kubernetes.io/job-name", &name),
    ] {
        let path = ["spec", "template", "metadata", "labels", key];
        if job.at(&path).is_none() {
            job.set_at(&path, value.as_str());
        }
    }
    let path = [
        "spec",
        "selector",
        "matchLabels",
        "batch.kubernetes.io/controller-uid",
    ];
    if job.at(&path).is_none() {
        job.set_at(&path, uid.as_str());
    }
}

pub(super) fn cron_job(job: &mut Value) {
    let Some(spec) = fill::made(job, "spec") else {
        return;
    };
    fill::text(spec, "concurrencyPolicy", "Allow");
    fill::absent(spec, "suspend", || false.into());
    fill::absent(spec, "successfulJobsHistoryLimit", || 3.into());
    fill::absent(spec, "failedJobsHistoryLimit", || 1.into());
    let template = fill::made(spec, "jobTemplate").and_then(|template| fill::made(template, "spec"));
    if let Some(template) = template {
        failure_policy(template);
        pod::template(template, "template");
    }
}
