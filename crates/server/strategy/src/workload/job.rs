//! Validation of Jobs.
//!
//! Source: `pkg/apis/batch/validation/validation.go`. Absent: the scheduling of gangs, whose feature is off by default.

mod policies;
mod status;

use cloudeck_machinery::{Cause, LabelSelector, Value, names};

use crate::check::{At, Faults, flag, given, number, present, text};
use crate::pod::validate as pod;

pub(super) use status::status;

const SPEC: At<'static> = At::root("spec");
const METADATA: At<'static> = At::root("metadata");

/// The most pods of an indexed job at once.
const MOST_PARALLEL: i64 = 100_000;
/// Beyond this many completions an indexed job with limits per index is bounded more tightly.
const MANY_COMPLETIONS: i64 = 100_000;
const MOST_FAILED: i64 = 100_000;
const MOST_OF_MANY: i64 = 10_000;
const LONGEST_MANAGER: usize = 63;

pub(super) fn create(job: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    generated_selector(job, true, &mut faults);
    whole_spec(job, &mut faults);
    pod_names(job, &mut faults);
    faults.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    whole_spec(new, &mut faults);
    let none = Value::Null;
    let [own, before] = [new, old].map(|job| job.get("spec").unwrap_or(&none));
    completions(own, before, &mut faults);
    let mut same = |field| faults.immutable(&SPEC.field(field), own.get(field), before.get(field));
    same("selector");
    template_update(new, old, &mut faults);
    let mut same = |field| faults.immutable(&SPEC.field(field), own.get(field), before.get(field));
    [
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ]
    .into_iter()
    .for_each(&mut same);
    pod_names(new, &mut faults);
    faults.into_causes()
}

/// The labels and the selector that the server made are those that it would make.
fn generated_selector(job: &Value, prefixed: bool, faults: &mut Faults) {
    let none = Value::Null;
    let spec = job.get("spec").unwrap_or(&none);
    let Some(selector) = present(spec, "selector").filter(|_| !flag(spec, "manualSelector")) else {
        return;
    };
    let of = |field| job.str_at(&["metadata", field]).unwrap_or_default();
    let (uid, name) = (of("uid"), of("name"));
    if uid.is_empty() {
        faults.required(&METADATA.field("uid"), "");
    }
    let template = spec.get("template").unwrap_or(&none);
    let (place, metadata) = (SPEC.field("template"), template.get("metadata").unwrap_or(&none));
    let place = place.field("metadata");
    let place = place.field("labels");
    let wanted = [
        ("controller-uid", uid),
        ("job-name", name),
        ("batch.kubernetes.io/controller-uid", uid),
        ("batch.kubernetes.io/job-name", name),
    ];
    let wanted = if prefixed { &wanted[..] } else { &wanted[..2] };
    for (key, value) in wanted {
        let why = format!("must be '{value}'");
        match metadata.str_at(&["labels", key]) {
            None => faults.required(&place.key(key), &why),
            Some(own) if own != *value => {
                let labels = metadata.get("labels").unwrap_or(&none);
                faults.invalid(&place.key(key), labels, &why);
            }
            Some(_) => {}
        }
    }
    let mut expected = Value::object();
    for (key, value) in wanted {
        expected.set_at(&["metadata", "labels", key], *value);
    }
    let parsed = LabelSelector::from_value(Some(selector));
    if parsed.is_ok_and(|parsed| !parsed.matches_tree(&expected)) {
        faults.invalid(&SPEC.field("selector"), selector, "`selector` not auto-generated");
    }
}

/// The specification of a job, selector included.
fn whole_spec(job: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = job.get("spec").unwrap_or(&none);
    self::spec(spec, &SPEC, faults);
    let selector = present(spec, "selector");
    match selector {
        None => faults.required(&SPEC.field("selector"), ""),
        Some(own) => faults.label_selector(&SPEC.field("selector"), Some(own)),
    }
    let template = spec.get("template").unwrap_or(&none);
    let parsed = LabelSelector::from_value(selector);
    if parsed.is_ok_and(|parsed| !parsed.matches_tree(template)) {
        let at = SPEC.field("template");
        let at = at.field("metadata");
        let labels = template.at(&["metadata", "labels"]).unwrap_or(&none);
        let why = "`selector` does not match template `labels`";
        faults.invalid(&at.field("labels"), labels, why);
    }
}

/// The specification of a job or of the jobs of a CronJob, whose path is `at`.
pub(super) fn spec(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        faults.not_negative(&at.field(field), number(spec, field));
    }
    let by_index = given(spec, "backoffLimitPerIndex");
    let most_failed = given(spec, "maxFailedIndexes");
    if most_failed.is_some() && by_index.is_none() {
        let why = "when maxFailedIndexes is specified";
        faults.required(&at.field("backoffLimitPerIndex"), why);
    }
    if let Some(manager) = spec.str_at(&["managedBy"]) {
        let place = at.field("managedBy");
        faults.all_invalid(&place, manager, names::domain_prefixed_path(manager));
        if manager.len() > LONGEST_MANAGER {
            faults.too_long(&place, LONGEST_MANAGER);
        }
    }
    completion_mode(spec, at, faults);
    if let Some(policy) = present(spec, "podFailurePolicy") {
        policies::failure(policy, spec, &at.field("podFailurePolicy"), faults);
    }
    if let Some(policy) = present(spec, "successPolicy") {
        let place = at.field("successPolicy");
        if is_indexed(spec) {
            policies::success(policy, number(spec, "completions"), &place, faults);
        } else {
            faults.invalid(&place, policy, "requires indexed completion mode");
        }
    }
    replacement(spec, at, faults);
    let none = Value::Null;
    let template = spec.get("template").unwrap_or(&none);
    pod::template(template, &at.field("template"), faults);
    restart_policy(spec, template, at, faults);
}

fn is_indexed(spec: &Value) -> bool {
    text(spec, "completionMode") == "Indexed"
}

fn completion_mode(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let mode = text(spec, "completionMode");
    if !matches!(mode, "" | "NonIndexed" | "Indexed") {
        let place = at.field("completionMode");
        faults.not_supported(&place, mode, &["NonIndexed", "Indexed"]);
    }
    if mode == "Indexed" {
        return indexed(spec, at, faults);
    }
    for field in ["backoffLimitPerIndex", "maxFailedIndexes"] {
        if let Some(value) = given(spec, field).filter(|_| matches!(mode, "" | "NonIndexed")) {
            faults.invalid(&at.field(field), &value, "requires indexed completion mode");
        }
    }
}

fn indexed(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let completions = given(spec, "completions");
    let (parallel, failed) = (number(spec, "parallelism"), given(spec, "maxFailedIndexes"));
    let (parallel_at, failed_at) = (at.field("parallelism"), at.field("maxFailedIndexes"));
    if completions.is_none() {
        faults.required(&at.field("completions"), "when completion mode is Indexed");
    }
    at_most(
        &parallel_at,
        parallel,
        MOST_PARALLEL,
        " when completion mode is Indexed",
        faults,
    );
    let (all, most) = (completions.unwrap_or(i64::MAX), failed.unwrap_or(0));
    if most > all {
        faults.invalid(&failed_at, &most, "must be less than or equal to completions");
    }
    at_most(&failed_at, most, MOST_FAILED, "", faults);
    let many = completions.is_some_and(|count| count > MANY_COMPLETIONS);
    if !many || given(spec, "backoffLimitPerIndex").is_none() {
        return;
    }
    if failed.is_none() {
        let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
        faults.required(&failed_at, &why);
    }
    let when =
        format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
    at_most(&parallel_at, parallel, MOST_OF_MANY, &when, faults);
    at_most(&failed_at, most, MOST_OF_MANY, &when, faults);
}

fn at_most(at: &At<'_>, value: i64, most: i64, when: &str, faults: &mut Faults) {
    if value > most {
        let why = format!("must be less than or equal to {most}{when}");
        faults.invalid(at, &value, &why);
    }
}

fn replacement(spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let Some(policy) = spec.str_at(&["podReplacementPolicy"]) else {
        return;
    };
    let known: &[&str] = if present(spec, "podFailurePolicy").is_some() {
        &["Failed"]
    } else {
        &["Failed", "TerminatingOrFailed"]
    };
    if !known.contains(&policy) {
        faults.not_supported(&at.field("podReplacementPolicy"), policy, known);
    }
}

fn restart_policy(spec: &Value, template: &Value, at: &At<'_>, faults: &mut Faults) {
    let at = at.field("template");
    let at = at.field("spec");
    let at = at.field("restartPolicy");
    let policy = template.str_at(&["spec", "restartPolicy"]).unwrap_or_default();
    match policy {
        // Defaulting made it "Always" where the client said nothing.
        "" | "Always" => faults.required(&at, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" | "Never" => {
            if policy != "Never" && present(spec, "podFailurePolicy").is_some() {
                let why = "only \"Never\" is supported when podFailurePolicy is specified";
                faults.invalid(&at, policy, why);
            }
        }
        other => faults.not_supported(&at, other, &["OnFailure", "Never"]),
    }
}

/// Pods of an indexed job are named after it and their index.
fn pod_names(job: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = job.get("spec").unwrap_or(&none);
    let completions = number(spec, "completions");
    if !is_indexed(spec) || completions <= 0 {
        return;
    }
    let name = job.str_at(&["metadata", "name"]).unwrap_or_default();
    let last = format!("{name}-{}", completions - 1);
    if !names::dns1123_label(&last).is_empty() {
        let why = format!("will not able to create pod with invalid DNS label: {last}");
        faults.invalid(&METADATA.field("name"), name, &why);
    }
}

/// Fixed but for indexed jobs, where completions and parallelism change together.
fn completions(new: &Value, old: &Value, faults: &mut Faults) {
    let at = SPEC.field("completions");
    let [own, before] = [new, old].map(|spec| spec.get("completions"));
    if !is_indexed(new) {
        return faults.immutable(&at, own, before);
    }
    let parallel = number(new, "parallelism");
    if let Some(count) = given(new, "completions").filter(|count| own != before && *count != parallel) {
        faults.invalid(
            &at,
            &count,
            "can only be modified in tandem with spec.parallelism",
        );
    }
}

/// The template is fixed; while a job is suspended and nothing of it runs, where and with what its pods run is not.
fn template_update(new: &Value, old: &Value, faults: &mut Faults) {
    let free = old.bool_at(&["spec", "suspend"]) == Some(true)
        && (old.at(&["status", "startTime"]).is_none() || has_condition(old, "Suspended"))
        && old.int_at(&["status", "active"]).unwrap_or(0) == 0;
    let none = Value::Null;
    let [own, before] = [new, old].map(|job| job.at(&["spec", "template"]).unwrap_or(&none));
    let at = SPEC.field("template");
    if !free {
        return faults.immutable(&at, Some(own), Some(before));
    }
    let mut allowed = before.clone();
    for path in [
        &["spec", "affinity", "nodeAffinity"][..],
        &["spec", "nodeSelector"],
        &["spec", "tolerations"],
        &["spec", "schedulingGates"],
    ] {
        match own.at(path) {
            Some(value) => allowed.set_at(path, value.clone()),
            None => allowed.remove_at(path).is_some(),
        };
    }
    if own.at(&["spec", "affinity"]).is_none() && entries_at(&allowed, "affinity") == 0 {
        allowed.remove_at(&["spec", "affinity"]);
    }
    for containers in ["containers", "initContainers"] {
        take_resources(&mut allowed, own, containers);
    }
    let [own, before] = [own, &allowed].map(|template| template.get("spec"));
    faults.immutable(&at.field("spec"), own, before);
}

fn entries_at(template: &Value, field: &str) -> usize {
    template
        .get("spec")
        .and_then(|spec| spec.get(field))
        .map_or(0, |value| {
            value.as_object().map_or(0, cloudeck_machinery::Map::len)
        })
}

fn take_resources(into: &mut Value, from: &Value, containers: &str) {
    let wanted = from.items_at(&["spec", containers]);
    let Some(own) = into
        .at_mut(&["spec", containers])
        .and_then(Value::as_array_mut)
        .filter(|own| own.len() == wanted.len())
    else {
        return;
    };
    for (own, wanted) in own.iter_mut().zip(wanted) {
        if own.get("name") != wanted.get("name") {
            continue;
        }
        match wanted.get("resources") {
            Some(resources) => own.set_at(&["resources"], resources.clone()),
            None => own.remove_at(&["resources"]).is_some(),
        };
    }
}

fn has_condition(job: &Value, kind: &str) -> bool {
    crate::table::has_condition(job, kind, "True")
}

#[cfg(test)]
mod tests;
