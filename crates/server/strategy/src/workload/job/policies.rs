//! When a job fails or succeeds by rules of its own.

use cloudeck_machinery::{Value, names};

use super::super::indexes;
use crate::check::{At, Faults, given, list, present, text};

const MOST_RULES: usize = 20;
const MOST_CODES: usize = 255;
const MOST_PATTERNS: usize = 20;
const LONGEST_INDEXES: usize = 64 * 1024;

const ACTIONS: [&str; 4] = ["Count", "FailIndex", "FailJob", "Ignore"];
const OPERATORS: [&str; 2] = ["In", "NotIn"];
const STATUSES: [&str; 3] = ["False", "True", "Unknown"];

pub(super) fn failure(policy: &Value, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let (rules, at) = (list(policy, "rules"), at.field("rules"));
    if rules.len() > MOST_RULES {
        faults.too_many(&at, rules.len(), MOST_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        failure_rule(rule, spec, &at.index(i), faults);
    }
}

fn failure_rule(rule: &Value, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let place = at.field("action");
    match text(rule, "action") {
        "FailIndex" if given(spec, "backoffLimitPerIndex").is_none() => {
            faults.invalid(&place, "FailIndex", "requires the backoffLimitPerIndex to be set");
        }
        other => known(other, &ACTIONS, &place, faults),
    }
    let codes = present(rule, "onExitCodes");
    let patterns = list(rule, "onPodConditions");
    if let Some(codes) = codes {
        exit_codes(codes, spec, &at.field("onExitCodes"), faults);
    }
    conditions(patterns, &at.field("onPodConditions"), faults);
    match (codes.is_some(), patterns.is_empty()) {
        (true, false) => {
            faults.invalid_whole(
                at,
                "specifying both OnExitCodes and OnPodConditions is not supported",
            );
        }
        (false, true) => {
            faults.invalid_whole(
                at,
                "specifying one of OnExitCodes and OnPodConditions is required",
            );
        }
        _ => {}
    }
}

/// One of a closed set; the names of all of it when it is missing.
fn known(value: &str, all: &[&str], at: &At<'_>, faults: &mut Faults) {
    if value.is_empty() {
        let names: Vec<String> = all.iter().map(|name| format!("{name:?}")).collect();
        faults.required(at, &format!("valid values: [{}]", names.join(" ")));
    } else if !all.contains(&value) {
        faults.not_supported(at, value, all);
    }
}

fn conditions(patterns: &[Value], at: &At<'_>, faults: &mut Faults) {
    if patterns.len() > MOST_PATTERNS {
        faults.too_many(at, patterns.len(), MOST_PATTERNS);
    }
    for (i, pattern) in patterns.iter().enumerate() {
        let at = at.index(i);
        let kind = text(pattern, "type");
        faults.all_invalid(&at.field("type"), kind, names::qualified_name(kind));
        known(text(pattern, "status"), &STATUSES, &at.field("status"), faults);
    }
}

fn exit_codes(codes: &Value, spec: &Value, at: &At<'_>, faults: &mut Faults) {
    let operator = text(codes, "operator");
    known(operator, &OPERATORS, &at.field("operator"), faults);
    if let Some(name) = codes.str_at(&["containerName"]) {
        let named = |list: &str| {
            let containers = spec.items_at(&["template", "spec", list]).iter();
            containers
                .filter_map(|one| one.str_at(&["name"]))
                .any(|own| own == name)
        };
        if !named("containers") && !named("initContainers") {
            let why = "must be one of the container or initContainer names in the pod template";
            faults.invalid(&at.field("containerName"), name, why);
        }
    }
    let (values, at) = (list(codes, "values"), at.field("values"));
    if values.is_empty() {
        let shown = codes.get("values").unwrap_or(&Value::Null);
        faults.invalid(&at, shown, "at least one value is required");
    } else if values.len() > MOST_CODES {
        faults.too_many(&at, values.len(), MOST_CODES);
    }
    let numbers: Vec<i64> = values.iter().filter_map(Value::as_int).collect();
    for (i, number) in numbers.iter().enumerate() {
        if operator == "In" && *number == 0 {
            faults.invalid(&at.index(i), number, "must not be 0 for the In operator");
        }
        if numbers[..i].contains(number) {
            faults.duplicate(&at.index(i), number);
        }
    }
    if !numbers.is_sorted() {
        let shown = codes.get("values").unwrap_or(&Value::Null);
        faults.invalid(&at, shown, "must be ordered");
    }
}

pub(super) fn success(policy: &Value, completions: i64, at: &At<'_>, faults: &mut Faults) {
    let (rules, at) = (list(policy, "rules"), at.field("rules"));
    if rules.is_empty() {
        let why = "at least one rules must be specified when the successPolicy is specified";
        faults.required(&at, why);
    }
    if rules.len() > MOST_RULES {
        faults.too_many(&at, rules.len(), MOST_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        success_rule(rule, completions, &at.index(i), faults);
    }
}

fn success_rule(rule: &Value, completions: i64, at: &At<'_>, faults: &mut Faults) {
    let (count, indexes) = (given(rule, "succeededCount"), rule.str_at(&["succeededIndexes"]));
    if count.is_none() && indexes.is_none() {
        let why = "at least one of succeededCount or succeededIndexes must be specified";
        faults.required(at, why);
    }
    let mut total = None;
    if let Some(indexes) = indexes {
        let place = at.field("succeededIndexes");
        if indexes.len() > LONGEST_INDEXES {
            faults.too_long(&place, LONGEST_INDEXES);
        }
        match indexes::total(indexes, completions) {
            Ok(sum) => total = Some(sum),
            Err(why) => {
                total = Some(0);
                faults.invalid(&place, indexes, &format!("error parsing succeededIndexes: {why}"));
            }
        }
    }
    let Some(count) = count else { return };
    let place = at.field("succeededCount");
    faults.not_negative(&place, count);
    if count > completions {
        let of = "the number of specified completions";
        let why = format!("must be less than or equal to {completions} ({of})");
        faults.invalid(&place, &count, &why);
    }
    if let Some(total) = total.filter(|total| count > *total) {
        let of = "the number of indexes in the specified succeededIndexes field";
        faults.invalid(
            &place,
            &count,
            &format!("must be less than or equal to {total} ({of})"),
        );
    }
}
