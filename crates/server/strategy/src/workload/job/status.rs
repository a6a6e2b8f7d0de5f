//! What a controller may write into the status of a job. Rules about a field hold when the field changes.

use cloudeck_machinery::{Cause, Value};

use super::super::indexes;
use super::{At, Faults, given, has_condition, is_indexed, number, present, text};
use crate::check::list;

const STATUS: At<'static> = At::root("status");

/// Both sides of an update.
struct Change<'a> {
    new: &'a Value,
    old: &'a Value,
    status: &'a Value,
    before: &'a Value,
}

impl Change<'_> {
    fn turned(&self, condition: &str) -> bool {
        has_condition(self.new, condition) != has_condition(self.old, condition)
    }

    fn differs(&self, field: &str) -> bool {
        present(self.status, field) != present(self.before, field)
    }

    fn has(&self, condition: &str) -> bool {
        has_condition(self.new, condition)
    }

    fn ended(&self) -> bool {
        self.has("Complete") || self.has("Failed")
    }

    fn just_ended(&self) -> bool {
        let before = has_condition(self.old, "Complete") || has_condition(self.old, "Failed");
        self.ended() != before
    }
}

pub(in super::super) fn status(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let [status, before] = [new, old].map(|job| job.get("status").unwrap_or(&none));
    let change = Change {
        new,
        old,
        status,
        before,
    };
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        faults.not_negative(&STATUS.field(field), number(status, field));
    }
    uncounted(status, &mut faults);
    conditions(&change, &mut faults);
    times(&change, &mut faults);
    of_ended_jobs(&change, &mut faults);
    index_lists(&change, &mut faults);
    if (change.differs("ready") || change.differs("active"))
        && number(status, "ready") > number(status, "active")
    {
        let ready = number(status, "ready");
        faults.invalid(
            &STATUS.field("ready"),
            &ready,
            "cannot set more ready pods than active",
        );
    }
    monotonic(&change, &mut faults);
    faults.into_causes()
}

fn uncounted(status: &Value, faults: &mut Faults) {
    let Some(pods) = present(status, "uncountedTerminatedPods") else {
        return;
    };
    let at = STATUS.field("uncountedTerminatedPods");
    let mut seen: Vec<&str> = Vec::new();
    for field in ["succeeded", "failed"] {
        let at = at.field(field);
        for (i, uid) in list(pods, field).iter().enumerate() {
            let uid = uid.as_str().unwrap_or_default();
            if uid.is_empty() {
                faults.invalid(&at.index(i), uid, "must not be empty");
            } else if seen.contains(&uid) {
                faults.duplicate(&at.index(i), uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

fn conditions(change: &Change<'_>, faults: &mut Faults) {
    let at = STATUS.field("conditions");
    let (complete, failed) = (change.has("Complete"), change.has("Failed"));
    let (met, target) = (change.has("SuccessCriteriaMet"), change.has("FailureTarget"));
    let turned = |kind| change.turned(kind);
    let new_indexes = change.differs("failedIndexes");
    let with_policy = change.new.at(&["spec", "successPolicy"]).is_some();
    let rules = [
        (
            (turned("Complete") || turned("Failed")) && complete && failed,
            "cannot set Complete=True and Failed=true conditions",
        ),
        (
            (turned("Complete") || turned("FailureTarget")) && complete && target,
            "cannot set Complete=True and FailureTarget=true conditions",
        ),
        (
            (turned("Failed") || new_indexes) && failed && !target,
            "cannot set Failed=True condition without the FailureTarget=true condition",
        ),
        (
            (turned("Complete") || turned("SuccessCriteriaMet")) && complete && !met,
            "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
        ),
        (
            met && failed,
            "cannot set SuccessCriteriaMet=True and Failed=true conditions",
        ),
        (
            met && target,
            "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions",
        ),
        (
            with_policy && !met && complete,
            "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
        ),
    ];
    for (_, why) in rules.into_iter().filter(|(broken, _)| *broken) {
        faults.invalid_whole(&at, why);
    }
}

fn times(change: &Change<'_>, faults: &mut Faults) {
    let (start, end) = (STATUS.field("startTime"), STATUS.field("completionTime"));
    let [started, ended] =
        ["startTime", "completionTime"].map(|field| change.status.get(field).and_then(Value::as_str));
    let complete = change.has("Complete");
    if change.turned("Complete") || change.differs("completionTime") {
        match ended {
            Some(time) if !complete => {
                let why = "cannot set completionTime when there is no Complete=True condition";
                faults.invalid(&end, time, why);
            }
            None if complete => faults.required(&end, "completionTime is required for Complete jobs"),
            _ => {}
        }
    }
    // Times of seconds in UTC compare as their texts do.
    if let (Some(started), Some(ended)) = (started, ended)
        && (change.differs("startTime") || change.differs("completionTime"))
        && ended < started
    {
        faults.invalid(&end, ended, "must be equal to or after `startTime`");
    }
    let before = text(change.before, "completionTime");
    if let Some(ended) = ended.filter(|ended| !before.is_empty() && *ended != before) {
        faults.invalid(&end, ended, "field is immutable");
    }
    let resumes = has_condition(change.old, "Suspended")
        && crate::table::has_condition(change.new, "Suspended", "False");
    let suspended = change.new.bool_at(&["spec", "suspend"]) == Some(true);
    let had = present(change.before, "startTime").is_some();
    if change.differs("startTime") && had && !resumes && !suspended {
        let shown = change.status.get("startTime").unwrap_or(&Value::Null);
        faults.invalid(&start, shown, "field is immutable for unsuspended job once set");
    }
}

fn of_ended_jobs(change: &Change<'_>, faults: &mut Faults) {
    if !change.ended() {
        return;
    }
    let just = change.just_ended();
    let spec = |field| change.new.at(&["spec", field]);
    let never_ran = spec("suspend").and_then(Value::as_bool) == Some(true)
        && spec("completions").and_then(Value::as_int) == Some(0);
    for field in ["active", "terminating"] {
        let count = number(change.status, field);
        if count > 0 && (just || change.differs(field)) {
            let why = format!("{field}>0 is invalid for finished job");
            faults.invalid(&STATUS.field(field), &count, &why);
        }
    }
    if (just || change.differs("startTime")) && !never_ran && present(change.status, "startTime").is_none() {
        faults.required(
            &STATUS.field("startTime"),
            "startTime is required for finished job",
        );
    }
    let field = "uncountedTerminatedPods";
    let Some(pods) = present(change.status, field).filter(|_| just || change.differs(field)) else {
        return;
    };
    if !list(pods, "succeeded").is_empty() || !list(pods, "failed").is_empty() {
        faults.invalid(&STATUS.field(field), pods, "must be empty for finished job");
    }
}

fn index_lists(change: &Change<'_>, faults: &mut Faults) {
    let none = Value::Null;
    let spec = change.new.get("spec").unwrap_or(&none);
    let (completions, by_index) = (given(spec, "completions"), given(spec, "backoffLimitPerIndex"));
    let [done_at, failed_at] = ["completedIndexes", "failedIndexes"].map(|field| STATUS.field(field));
    let done = text(change.status, "completedIndexes");
    let failed = change.status.str_at(&["failedIndexes"]);
    let (new_done, new_failed) = (
        change.differs("completedIndexes"),
        change.differs("failedIndexes"),
    );
    if let Some(count) = completions {
        if let Some(why) = indexes::total(done, count).err().filter(|_| new_done) {
            faults.invalid(&done_at, done, &format!("error parsing completedIndexes: {why}"));
        }
        if let (Some(failed), Some(_), true) = (failed, by_index, new_failed)
            && let Err(why) = indexes::total(failed, count)
        {
            faults.invalid(&failed_at, failed, &format!("error parsing failedIndexes: {why}"));
        }
    }
    if new_done && !done.is_empty() && !is_indexed(spec) {
        let why = "cannot set non-empty completedIndexes when non-indexed completion mode";
        faults.invalid(&done_at, done, why);
    }
    let Some(failed) = failed else { return };
    if new_failed && by_index.is_none() {
        let why = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        faults.invalid(&failed_at, failed, why);
    }
    if let Some(count) = completions.filter(|_| new_failed || new_done)
        && let Some(index) = indexes::overlap(done, failed, count)
    {
        let why = format!("failedIndexes and completedIndexes overlap at index: {index}");
        faults.invalid(&failed_at, failed, &why);
    }
}

/// What never goes back.
fn monotonic(change: &Change<'_>, faults: &mut Faults) {
    let at = STATUS.field("conditions");
    let dropped = |kind| has_condition(change.old, kind) && !change.has(kind);
    for kind in ["Failed", "Complete", "FailureTarget"]
        .into_iter()
        .filter(|kind| dropped(kind))
    {
        faults.invalid_whole(&at, &format!("cannot disable the terminal {kind}=True condition"));
    }
    let none = Value::Null;
    let spec = change.new.get("spec").unwrap_or(&none);
    // An indexed job that runs all its pods at once can be scaled down.
    let elastic = is_indexed(spec) && given(spec, "completions") == given(spec, "parallelism");
    for (field, free) in [("failed", false), ("succeeded", elastic)] {
        let count = number(change.status, field);
        if !free && count < number(change.before, field) {
            faults.invalid(
                &STATUS.field(field),
                &count,
                &format!("cannot decrease the {field} counter"),
            );
        }
    }
    if dropped("SuccessCriteriaMet") {
        faults.invalid_whole(&at, "cannot disable the SuccessCriteriaMet=True condition");
    }
    let late = has_condition(change.old, "Complete") && !has_condition(change.old, "SuccessCriteriaMet");
    if late && change.has("SuccessCriteriaMet") {
        faults.invalid_whole(
            &at,
            "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
        );
    }
}
