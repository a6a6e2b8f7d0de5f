//! What an update of a pod's status may say.

use cloudeck_machinery::{Cause, Value, names};

use super::{ANNOTATIONS, annotations};
use crate::check::{At, Faults, list, number, present, text};

const STATUS: At<'static> = At::root("status");

pub(in crate::pod) fn status_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    let none = Value::Null;
    annotations::update(new, old, &ANNOTATIONS, &mut faults);
    let [new_status, old_status] = [new, old].map(|pod| pod.get("status").unwrap_or(&none));
    let spec = old.get("spec").unwrap_or(&none);
    conditions(new_status, &mut faults);
    nominated(new_status, old_status, spec, &mut faults);
    let generation = number(new_status, "observedGeneration");
    if generation < 0 {
        let why = "must be a non-negative integer";
        faults.invalid(&STATUS.field("observedGeneration"), &generation, why);
    }
    let [new_class, old_class] = [new_status, old_status].map(|status| status.get("qosClass"));
    faults.immutable(&STATUS.field("qosClass"), new_class, old_class);
    for (field, containers) in [
        ("containerStatuses", "containers"),
        ("initContainerStatuses", "initContainers"),
        ("ephemeralContainerStatuses", ""),
    ] {
        transitions(new_status, old_status, spec, field, containers, &mut faults);
    }
    addresses(new_status, old_status, &mut faults);
    faults.into_causes()
}

fn conditions(status: &Value, faults: &mut Faults) {
    let at = STATUS.field("conditions");
    for (i, condition) in list(status, "conditions").iter().enumerate() {
        let at = at.index(i);
        let generation = number(condition, "observedGeneration");
        if generation < 0 {
            let why = "must be a non-negative integer";
            faults.invalid(&at.field("observedGeneration"), &generation, why);
        }
        let kind = text(condition, "type");
        if !matches!(kind, "PodScheduled" | "Ready" | "Initialized") {
            faults.all_invalid(&at.field("Type"), kind, names::qualified_name(kind));
        }
    }
}

fn nominated(new: &Value, old: &Value, spec: &Value, faults: &mut Faults) {
    let at = STATUS.field("nominatedNodeName");
    let (name, before) = (text(new, "nominatedNodeName"), text(old, "nominatedNodeName"));
    if name.is_empty() || name == before {
        return;
    }
    faults.all_invalid(&at, name, names::dns1123_subdomain(name));
    if !text(spec, "nodeName").is_empty() {
        faults.forbidden(&at, "may not be set on pods that are already bound to a node");
    }
}

/// A container that ended and will not be started again stays ended.
fn transitions(new: &Value, old: &Value, spec: &Value, field: &str, containers: &str, faults: &mut Faults) {
    if any_restarts_all(spec) && !containers.is_empty() {
        return;
    }
    let at = STATUS.field(field);
    for (i, was) in list(old, field).iter().enumerate() {
        let Some(end) = was.at(&["state", "terminated"]) else {
            continue;
        };
        let name = text(was, "name");
        let Some(is) = list(new, field)
            .iter()
            .find(|status| text(status, "name") == name)
        else {
            continue;
        };
        if is.at(&["state", "terminated"]).is_some() {
            continue;
        }
        let container = list(spec, containers)
            .iter()
            .find(|one| text(one, "name") == name);
        let restarts = container.is_some_and(|one| restarts(one, spec, number(end, "exitCode")));
        if !restarts {
            let why = "may not be transitioned to non-terminated state";
            faults.forbidden(&at.index(i).field("state"), why);
        }
    }
}

/// Whether a rule may restart every container of the pod.
fn any_restarts_all(spec: &Value) -> bool {
    ["initContainers", "containers"].iter().any(|key| {
        let rules = list(spec, key)
            .iter()
            .flat_map(|one| list(one, "restartPolicyRules"));
        rules
            .into_iter()
            .any(|rule| text(rule, "action") == "RestartAllContainers")
    })
}

/// Whether a container that ended with the code is started again.
fn restarts(container: &Value, spec: &Value, code: i64) -> bool {
    let by_rule = list(container, "restartPolicyRules").iter().any(|rule| {
        let values = rule.items_at(&["exitCodes", "values"]);
        let within = values.iter().any(|value| value.as_int() == Some(code));
        match rule.str_at(&["exitCodes", "operator"]) {
            Some("In") => within,
            Some("NotIn") => !within,
            _ => false,
        }
    });
    let own = present(container, "restartPolicy").and_then(Value::as_str);
    match own.unwrap_or(text(spec, "restartPolicy")) {
        _ if by_rule => true,
        "Always" => true,
        "OnFailure" => code != 0,
        _ => false,
    }
}

fn addresses(new: &Value, old: &Value, faults: &mut Faults) {
    let at = STATUS.field("podIPs");
    list_of_addresses(new, old, "podIPs", faults);
    let (single, all) = (text(new, "podIP"), list(new, "podIPs"));
    let first = all.first().map(|entry| text(entry, "ip"));
    let shown = new.get("podIPs").unwrap_or(&Value::Null);
    if single.is_empty() != all.is_empty() {
        let why = "podIP and podIPs must either both be set or both be unset";
        faults.invalid(&at, shown, why);
    } else if let Some(first) = first.filter(|first| *first != single) {
        faults.invalid(&at.index(0).field("ip"), first, "must be equal to `podIP`");
    }
    if let Some(first) = list(new, "hostIPs").first() {
        let first = text(first, "ip");
        if first != text(new, "hostIP") {
            let at = STATUS.field("hostIPs");
            faults.invalid(&at.index(0).field("ip"), first, "must be equal to `hostIP`");
        }
        list_of_addresses(new, old, "hostIPs", faults);
    }
}

fn list_of_addresses(new: &Value, old: &Value, field: &str, faults: &mut Faults) {
    let at = STATUS.field(field);
    let (all, before) = (list(new, field), list(old, field));
    for (i, entry) in all
        .iter()
        .enumerate()
        .filter(|(_, entry)| !before.contains(entry))
    {
        let ip = text(entry, "ip");
        faults.all_invalid(&at.index(i), ip, names::ip_legacy(ip));
    }
    let six = all.iter().filter(|entry| text(entry, "ip").contains(':')).count();
    if all.len() > 2 || (all.len() == 2 && six != 1) {
        let shown = Value::from(all.to_vec());
        faults.invalid(&at, &shown, "may specify no more than one IP for each IP family");
    }
}
