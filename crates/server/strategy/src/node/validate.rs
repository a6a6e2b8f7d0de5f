//! Validation of nodes.

use cloudeck_machinery::{Cause, Value, names};

use crate::check::{At, Faults, entries, list, text};
use crate::pod::validate::{EFFECTS, quantity};

const SPEC: At<'static> = At::root("spec");
const STATUS: At<'static> = At::root("status");

pub(super) fn create(node: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    whole(node, &mut faults);
    faults.into_causes()
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    let spec = new.get("spec").unwrap_or(&none);
    let before = old.get("spec").unwrap_or(&none);
    if spec != before {
        whole(new, &mut faults);
    }
    addresses(new, &mut faults);
    let ranges = list(before, "podCIDRs");
    if !ranges.is_empty() && ranges != list(spec, "podCIDRs") {
        let why = "node updates may not change podCIDR except from \"\" to valid";
        faults.forbidden(&SPEC.field("podCIDRs"), why);
    }
    match (text(before, "providerID"), text(spec, "providerID")) {
        ("", _) => {}
        (_, "") => {
            let why = "field cannot be cleared once set";
            faults.invalid(&SPEC.field("providerID"), &Value::Null, why);
        }
        (was, is) if was != is => {
            let why = "field cannot be modified once set";
            faults.invalid(&SPEC.field("providerID"), &Value::Null, why);
        }
        _ => {}
    }
    if text(spec, "externalID") != text(before, "externalID") {
        faults.forbidden(&SPEC.field("externalID"), "may not be updated");
    }
    faults.into_causes()
}

pub(super) fn status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    if new.get("status") != old.get("status") {
        amounts(new, &mut faults);
        addresses(new, &mut faults);
    }
    faults.into_causes()
}

fn whole(node: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let spec = node.get("spec").unwrap_or(&none);
    // Upstream looks for taints under the metadata.
    let metadata = At::root("metadata");
    taints(list(spec, "taints"), &metadata.field("taints"), faults);
    amounts(node, faults);
    let at = SPEC.field("podCIDRs");
    let ranges = list(spec, "podCIDRs");
    for (i, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        faults.all_invalid(&at.index(i), range, names::cidr_legacy(range));
    }
    let six = ranges
        .iter()
        .filter(|range| range.as_str().is_some_and(|text| text.contains(':')));
    if ranges.len() > 2 || (ranges.len() == 2 && six.count() != 1) {
        let shown = Value::from(ranges.to_vec());
        let why = "may specify no more than one CIDR for each IP family";
        faults.invalid(&at, &shown, why);
    }
}

fn taints(all: &[Value], at: &At<'_>, faults: &mut Faults) {
    for (i, taint) in all.iter().enumerate() {
        let at = at.index(i);
        let (key, value, effect) = (text(taint, "key"), text(taint, "value"), text(taint, "effect"));
        faults.all_invalid(&at.field("key"), key, names::qualified_name(key));
        let problems = names::label_value(value);
        if !problems.is_empty() {
            faults.invalid(&at.field("value"), value, &problems.join(";"));
        }
        faults.one_of(&at.field("effect"), effect, &EFFECTS);
        let same = |other: &Value| text(other, "key") == key && text(other, "effect") == effect;
        if all[..i].iter().any(same) {
            let why = "taints must be unique by key and effect pair";
            faults.duplicate_because(&at, taint, why);
        }
    }
}

fn amounts(node: &Value, faults: &mut Faults) {
    let none = Value::Null;
    let status = node.get("status").unwrap_or(&none);
    for field in ["capacity", "allocatable"] {
        let at = STATUS.field(field);
        for (resource, amount) in entries(status, field) {
            let amount = amount.as_str().unwrap_or_default();
            quantity(resource, amount, &at.field(resource), faults);
        }
    }
}

fn addresses(node: &Value, faults: &mut Faults) {
    let at = STATUS.field("addresses");
    let all = node.items_at(&["status", "addresses"]);
    for (i, address) in all.iter().enumerate() {
        if all[..i].contains(address) {
            faults.duplicate(&at.index(i), address);
        }
    }
}
