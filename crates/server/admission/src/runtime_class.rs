//! RuntimeClass: a pod takes over overhead, node selector and tolerations of its runtime class.

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Map, Quantity, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

const MISMATCH: &str = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";

pub(crate) struct RuntimeClass;

impl Plugin for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        let Some(class) = class_of(request, context)? else {
            return Ok(());
        };
        if let Some(overhead) = class.at(&["overhead", "podFixed"]).filter(|map| !is_empty(map)) {
            let given = request
                .object
                .at(&["spec", "overhead"])
                .filter(|map| !is_empty(map));
            if given.is_some_and(|given| !same_amounts(given, overhead)) {
                return Err(request.forbid(MISMATCH));
            }
            request.object.set_at(&["spec", "overhead"], overhead.clone());
        }
        set_scheduling(request, &class)
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is_for("", "pods") {
            return Ok(());
        }
        let class = class_of(request, context)?;
        let fixed = class
            .as_ref()
            .and_then(|class| class.at(&["overhead", "podFixed"]))
            .filter(|map| !is_empty(map));
        let given = request
            .object
            .at(&["spec", "overhead"])
            .filter(|map| !map.is_null());
        match (fixed, given) {
            (Some(fixed), given) if !given.is_some_and(|given| same_amounts(given, fixed)) => {
                Err(request.forbid(MISMATCH))
            }
            (None, Some(_)) => Err(request.forbid(
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            )),
            _ => Ok(()),
        }
    }
}

/// The class of a new pod, if it names one.
fn class_of(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Result<Option<Value>, Refusal> {
    if request.operation != Operation::Create || !request.is_for("", "pods") {
        return Ok(None);
    }
    let Some(name) = request.object.str_at(&["spec", "runtimeClassName"]) else {
        return Ok(None);
    };
    match context.reader.get("node.k8s.io", "runtimeclasses", "", name) {
        Some(class) => Ok(Some(class.tree())),
        None => Err(request.forbid(format!("pod rejected: RuntimeClass {} not found", quote(name)))),
    }
}

fn set_scheduling(request: &mut AdmissionRequest<'_>, class: &Value) -> Result<(), Refusal> {
    let selector = class
        .at(&["scheduling", "nodeSelector"])
        .and_then(Value::as_object);
    for (key, value) in selector.into_iter().flat_map(Map::iter) {
        let wanted = value.as_str().unwrap_or_default();
        let given = request.object.str_at(&["spec", "nodeSelector", key]);
        if let Some(given) = given.filter(|given| *given != wanted) {
            return Err(request.forbid(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; pod.spec.nodeSelector[{key}] = {given}"
            )));
        }
        request.object.set_at(&["spec", "nodeSelector", key], wanted);
    }
    let tolerations = class.items_at(&["scheduling", "tolerations"]);
    if !tolerations.is_empty() {
        let merged = merge_tolerations(request.object.items_at(&["spec", "tolerations"]), tolerations);
        request.object.set_at(&["spec", "tolerations"], merged);
    }
    Ok(())
}

/// Keeps of each two only the wider one.
fn merge_tolerations(first: &[Value], second: &[Value]) -> Vec<Value> {
    let all: Vec<&Value> = first.iter().chain(second).collect();
    let mut merged: Vec<&Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let covered_before = merged.iter().any(|other| is_superset(other, toleration));
        let covered_after = all[at + 1..]
            .iter()
            .any(|other| other != toleration && is_superset(other, toleration));
        if !covered_before && !covered_after {
            merged.push(toleration);
        }
    }
    merged.into_iter().cloned().collect()
}

fn is_superset(wide: &Value, narrow: &Value) -> bool {
    fn text<'a>(toleration: &'a Value, field: &str) -> &'a str {
        toleration.str_at(&[field]).unwrap_or_default()
    }
    if wide == narrow {
        return true;
    }
    let every_key = text(wide, "key").is_empty() && text(wide, "operator") == "Exists";
    let every_effect = text(wide, "effect").is_empty();
    if (text(wide, "key") != text(narrow, "key") && !every_key)
        || (text(wide, "effect") != text(narrow, "effect") && !every_effect)
    {
        return false;
    }
    let seconds = |toleration: &Value| toleration.int_at(&["tolerationSeconds"]);
    if text(wide, "effect") == "NoExecute"
        && let Some(limit) = seconds(wide)
        && seconds(narrow).is_none_or(|narrow| narrow > limit)
    {
        return false;
    }
    match text(wide, "operator") {
        "Exists" => true,
        "" | "Equal" => text(narrow, "operator") == "Equal" && text(wide, "value") == text(narrow, "value"),
        _ => false,
    }
}

fn is_empty(map: &Value) -> bool {
    map.as_object().is_none_or(Map::is_empty)
}

fn same_amounts(one: &Value, other: &Value) -> bool {
    let amounts = |map: &Value| -> Option<Vec<(String, Quantity)>> {
        let entries = map.as_object()?.iter();
        entries
            .map(|(key, value)| Some((key.to_string(), value.as_str()?.parse().ok()?)))
            .collect()
    };
    amounts(one) == amounts(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn run(spec: Value) -> Result<String, String> {
        let world = World::default().with(
            "runtimeclasses",
            "",
            "vm",
            value!({
                "handler": "vm",
                "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
                "scheduling": {
                    "nodeSelector": {"vm": "yes"},
                    "tolerations": [{"key": "vm", "operator": "Exists", "effect": "NoSchedule"}]
                }
            }),
        );
        let user = nobody();
        let pod = value!({"metadata": {"name": "p"}, "spec": (spec)});
        world
            .run(&RuntimeClass, create(&user, "pods", pod))
            .map(|pod| pod.get("spec").unwrap().to_string())
    }

    #[test]
    fn a_pod_takes_over_what_its_class_says() {
        assert_eq!(
            run(value!({"runtimeClassName": "vm", "nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "vm", "operator": "Equal", "value": "a", "effect": "NoSchedule"}]})).unwrap(),
            concat!(
                r#"{"nodeSelector":{"disk":"ssd","vm":"yes"},"overhead":{"cpu":"250m","memory":"64Mi"},"#,
                r#""runtimeClassName":"vm","tolerations":[{"effect":"NoSchedule","key":"vm","operator":"Exists"}]}"#
            )
        );
        assert_eq!(run(value!({})).unwrap(), "{}");
    }

    #[test]
    fn contradictions_are_refused_in_upstreams_words() {
        for (spec, why) in [
            (
                value!({"runtimeClassName": "none"}),
                r#"pod rejected: RuntimeClass "none" not found"#,
            ),
            (
                value!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
                MISMATCH,
            ),
            (
                value!({"overhead": {"cpu": "1"}}),
                "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
            ),
            (
                value!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
                "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
            ),
        ] {
            assert_eq!(run(spec).unwrap_err(), format!("pods \"p\" is forbidden: {why}"));
        }
        assert!(
            run(value!({"runtimeClassName": "vm", "overhead": {"cpu": "0.25", "memory": "65536Ki"}})).is_ok()
        );
    }
}
