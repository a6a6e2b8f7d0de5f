//! Validation of CronJobs.
//!
//! Source: `pkg/apis/batch/validation/validation.go`, and the schedules of `github.com/robfig/cron/v3`. Absent: whether
//! a time zone exists, which only a database of them knows.

mod schedule;

use cloudeck_machinery::{Cause, Value};

use super::job;
use crate::check::{At, Faults, flag, number, present, text};

const SPEC: At<'static> = At::root("spec");
/// A job's name is its CronJob's with a time of 11 characters behind it, and a label.
const LONGEST_NAME: usize = 52;
const LONGEST_ZONE_PART: usize = 14;

pub(super) fn create(job: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    spec(job, None, &mut faults);
    let name = job.str_at(&["metadata", "name"]).unwrap_or_default();
    if name.len() > LONGEST_NAME {
        let at = At::root("metadata");
        faults.invalid(&at.field("name"), name, "must be no more than 52 characters");
    }
    faults.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    spec(new, old.get("spec"), &mut faults);
    faults.into_causes()
}

fn spec(job: &Value, old: Option<&Value>, faults: &mut Faults) {
    let none = Value::Null;
    let spec = job.get("spec").unwrap_or(&none);
    let zone = present(spec, "timeZone");
    schedule_and_zone(spec, zone.is_some(), old, faults);
    faults.not_negative(
        &SPEC.field("startingDeadlineSeconds"),
        number(spec, "startingDeadlineSeconds"),
    );
    if old.is_none_or(|old| present(old, "timeZone") != zone)
        && let Some(zone) = zone.and_then(Value::as_str)
    {
        time_zone(zone, faults);
    }
    let policy = text(spec, "concurrencyPolicy");
    let policies = ["Allow", "Forbid", "Replace"];
    faults.one_of(&SPEC.field("concurrencyPolicy"), policy, &policies);
    let template = SPEC.field("jobTemplate");
    let at = template.field("spec");
    let own = spec.at(&["jobTemplate", "spec"]).unwrap_or(&none);
    job::spec(own, &at, faults);
    if let Some(selector) = present(own, "selector") {
        faults.invalid(
            &at.field("selector"),
            selector,
            "`selector` will be auto-generated",
        );
    }
    if flag(own, "manualSelector") {
        let shown = Value::from(true);
        faults.not_supported(&at.field("manualSelector"), &shown, &["nil", "false"]);
    }
    for field in ["successfulJobsHistoryLimit", "failedJobsHistoryLimit"] {
        faults.not_negative(&SPEC.field(field), number(spec, field));
    }
}

fn schedule_and_zone(spec: &Value, has_zone: bool, old: Option<&Value>, faults: &mut Faults) {
    let (at, own) = (SPEC.field("schedule"), text(spec, "schedule"));
    if own.is_empty() {
        return faults.required(&at, "");
    }
    if let Err(why) = schedule::check(own) {
        faults.invalid(&at, own, &why);
    }
    let kept = old.is_some_and(|old| text(old, "schedule").contains("TZ"));
    match (own.contains("TZ"), kept) {
        (true, true) if has_zone => {
            let why = "cannot use both timeZone field and TZ or CRON_TZ in schedule";
            faults.invalid(&at, own, why);
        }
        (true, false) => {
            let why = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
            faults.invalid(&at, own, why);
        }
        _ => {}
    }
}

fn time_zone(zone: &str, faults: &mut Faults) {
    let at = SPEC.field("timeZone");
    if zone.is_empty() {
        return faults.invalid(&at, zone, "timeZone must be nil or non-empty string");
    }
    let is_letter = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | '+');
    let is_part = |part: &str| {
        !matches!(part, "" | "." | "..")
            && !part.starts_with('-')
            && part.len() <= LONGEST_ZONE_PART
            && part.chars().all(is_letter)
    };
    if !zone.split('/').all(is_part) {
        return faults.invalid(&at, zone, &format!("unknown time zone {zone}"));
    }
    if zone.eq_ignore_ascii_case("Local") {
        let why = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        faults.invalid(&at, zone, why);
    }
}

#[cfg(test)]
mod tests;
