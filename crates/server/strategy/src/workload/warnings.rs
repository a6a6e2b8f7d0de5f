//! What upstream warns of in kinds that make pods from a template.
//!
//! Source: the strategies in `pkg/registry/{apps,batch,core}`, `pkg/api/job/warnings.go`.

use cloudeck_machinery::Value;

use crate::check::{At, number, text};
use crate::pod::warnings::{name, under};
use crate::storage;

const SPEC: At<'static> = At::root("spec");
const USE_OF_NAME: &str = "this is used in Pod names and hostnames, which can result in surprising behavior";

/// Warnings on a pod template in an object's specification. Of an update only one that means something is looked at.
pub(super) fn template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if is_looked_at(object, old) {
        under(object, &["spec", "template"], &SPEC.field("template"), &mut found);
    }
    found
}

/// As [`template`], where the names of pods follow from the object's own.
pub(super) fn naming_template(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        name(object, USE_OF_NAME, &mut found);
    }
    found.extend(template(object, old));
    found
}

/// Of DaemonSets only another template means something.
pub(super) fn daemon_set(set: &Value, old: Option<&Value>) -> Vec<String> {
    let template_of = |set: &Value| set.at(&["spec", "template"]).cloned();
    let mut found = Vec::new();
    if old.is_none_or(|old| template_of(old) != template_of(set)) {
        under(set, &["spec", "template"], &SPEC.field("template"), &mut found);
    }
    found
}

pub(super) fn stateful_set(set: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = template(set, old);
    let claims = SPEC.field("volumeClaimTemplates");
    for (i, claim) in set.items_at(&["spec", "volumeClaimTemplates"]).iter().enumerate() {
        // Upstream's paths differ in this.
        let at = claims.index(i);
        let within = at.field("Spec");
        let at = if old.is_some() { &within } else { &at };
        storage::claim_spec_warnings(claim.get("spec").unwrap_or(&Value::Null), at, &mut found);
    }
    if set
        .int_at(&["spec", "revisionHistoryLimit"])
        .is_some_and(|limit| limit < 0)
    {
        let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
        found.push(format!("spec.revisionHistoryLimit: {why}"));
    }
    found
}

pub(super) fn job(job: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        name(job, USE_OF_NAME, &mut found);
    }
    if is_looked_at(job, old) {
        job_spec(job, &["spec"], &SPEC, &mut found);
    }
    found
}

/// The same of a CronJob, whose specification has that of its jobs in it.
pub(super) fn cron_job(object: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() {
        name(object, USE_OF_NAME, &mut found);
    }
    if is_looked_at(object, old) {
        let at = SPEC.field("jobTemplate");
        job_spec(
            object,
            &["spec", "jobTemplate", "spec"],
            &at.field("spec"),
            &mut found,
        );
    }
    let schedule = object.str_at(&["spec", "schedule"]).unwrap_or_default();
    if old.is_some() && schedule.contains("TZ") {
        let more = "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/";
        found.push(format!(
            "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see {more} for more details"
        ));
    }
    found
}

fn job_spec(object: &Value, path: &[&str], at: &At<'_>, found: &mut Vec<String>) {
    let spec = object.at(path).unwrap_or(&Value::Null);
    let many = number(spec, "completions") > 100_000 && number(spec, "parallelism") > 10_000;
    if text(spec, "completionMode") == "Indexed" && many {
        let why = "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, \
                   Kubernetes might not be able to track completedIndexes when a big number of indexes fail";
        found.push(format!("{at}: {why}"));
    }
    under(spec, &["template"], &at.field("template"), found);
}

/// Whether a write is new, or raises the generation.
fn is_looked_at(new: &Value, old: Option<&Value>) -> bool {
    let generation = |object: &Value| object.int_at(&["metadata", "generation"]);
    old.is_none_or(|old| generation(old) != generation(new))
}
