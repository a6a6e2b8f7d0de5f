//! Priority: a pod's class decides its priority; there is one default class at most.

use std::sync::Arc;

use cloudeck_machinery::{Object, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};

const GROUP: &str = "scheduling.k8s.io";

pub(crate) struct Priority;

/// What follows from a class.
struct Computed {
    class: String,
    priority: i64,
    preemption: Option<String>,
}

impl Plugin for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        if !request.is_for("", "pods") {
            return Ok(());
        }
        match request.operation {
            Operation::Create => set_priority(request, context),
            Operation::Update => {
                keep_priority(request);
                Ok(())
            }
            Operation::Delete | Operation::Connect => Ok(()),
        }
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_for(GROUP, "priorityclasses") || !is_default(&request.object) {
            return Ok(());
        }
        let Some(default) = default_class(context) else {
            return Ok(());
        };
        let default = default.kept_tree();
        let name = default.str_at(&["metadata", "name"]).unwrap_or_default();
        if request.operation == Operation::Update
            && request.object.str_at(&["metadata", "name"]) == Some(name)
        {
            return Ok(());
        }
        Err(request.forbid(format!(
            "PriorityClass {name} is already marked as default. Only one default can exist"
        )))
    }
}

fn set_priority(request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
    let computed = compute(request, context)?;
    if let Some(given) = request
        .object
        .int_at(&["spec", "priority"])
        .filter(|given| *given != computed.priority)
    {
        return Err(request.forbid(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {} from the given PriorityClass name",
            computed.priority
        )));
    }
    if let (Some(given), Some(policy)) = (
        request.object.str_at(&["spec", "preemptionPolicy"]),
        computed.preemption.as_deref(),
    ) && given != policy
    {
        return Err(request.forbid(format!(
            "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission controller computed {policy} from the given PriorityClass name"
        )));
    }
    if !computed.class.is_empty() {
        request
            .object
            .set_at(&["spec", "priorityClassName"], computed.class);
    }
    request.object.set_at(&["spec", "priority"], computed.priority);
    if let Some(policy) = computed.preemption {
        request.object.set_at(&["spec", "preemptionPolicy"], policy);
    }
    Ok(())
}

/// An update that leaves them out does not mean to change them.
fn keep_priority(request: &mut AdmissionRequest<'_>) {
    let Some(old) = request.old else { return };
    for field in ["priority", "preemptionPolicy"] {
        let absent = request.object.at(&["spec", field]).is_none_or(Value::is_null);
        if let Some(value) = old.at(&["spec", field]).filter(|_| absent) {
            request.object.set_at(&["spec", field], value.clone());
        }
    }
}

fn compute(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Result<Computed, Refusal> {
    let wanted = request
        .object
        .str_at(&["spec", "priorityClassName"])
        .unwrap_or_default();
    let class = if wanted.is_empty() {
        default_class(context)
    } else {
        let found = context.reader.get(GROUP, "priorityclasses", "", wanted);
        let missing = || request.forbid(format!("no PriorityClass with name {wanted} was found"));
        Some(found.ok_or_else(missing)?)
    };
    Ok(match class.as_ref().map(|class| class.kept_tree()) {
        Some(class) => Computed {
            class: class.str_at(&["metadata", "name"]).unwrap_or_default().to_owned(),
            priority: class.int_at(&["value"]).unwrap_or_default(),
            preemption: class.str_at(&["preemptionPolicy"]).map(str::to_owned),
        },
        None => Computed {
            class: String::new(),
            priority: 0,
            preemption: Some("PreemptLowerPriority".to_owned()),
        },
    })
}

fn is_default(class: &Value) -> bool {
    class.bool_at(&["globalDefault"]) == Some(true)
}

/// Of several (which a race may leave), the one with the lowest value.
fn default_class(context: &Context<'_>) -> Option<Arc<Object>> {
    let classes = context.reader.list(GROUP, "priorityclasses", "").into_iter();
    let defaults = classes.filter(|class| is_default(class.kept_tree()));
    defaults.min_by_key(|class| class.kept_tree().int_at(&["value"]).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};
    use cloudeck_machinery::value;

    fn world() -> World {
        World::default()
            .with(
                "priorityclasses",
                "",
                "high",
                value!({"value": 1000, "preemptionPolicy": "Never"}),
            )
            .with(
                "priorityclasses",
                "",
                "usual",
                value!({"value": 7, "globalDefault": true, "preemptionPolicy": "PreemptLowerPriority"}),
            )
    }

    fn pod(world: &World, spec: Value) -> Result<String, String> {
        let user = nobody();
        let pod = value!({"metadata": {"name": "p"}, "spec": (spec)});
        world
            .run(&Priority, create(&user, "pods", pod))
            .map(|pod| pod.get("spec").unwrap().to_string())
    }

    #[test]
    fn the_class_decides() {
        assert_eq!(
            pod(&world(), value!({"priorityClassName": "high"})).unwrap(),
            r#"{"preemptionPolicy":"Never","priority":1000,"priorityClassName":"high"}"#
        );
        assert_eq!(
            pod(&world(), value!({})).unwrap(),
            r#"{"preemptionPolicy":"PreemptLowerPriority","priority":7,"priorityClassName":"usual"}"#
        );
        assert_eq!(
            pod(&World::default(), value!({})).unwrap(),
            r#"{"preemptionPolicy":"PreemptLowerPriority","priority":0}"#
        );
    }

    #[test]
    fn contradictions_are_refused_in_upstreams_words() {
        for (spec, message) in [
            (
                value!({"priorityClassName": "none"}),
                r#"pods "p" is forbidden: no PriorityClass with name none was found"#,
            ),
            (
                value!({"priorityClassName": "high", "priority": 5}),
                r#"pods "p" is forbidden: the integer value of priority (5) must not be provided in pod spec; priority admission controller computed 1000 from the given PriorityClass name"#,
            ),
            (
                value!({"priorityClassName": "high", "preemptionPolicy": "PreemptLowerPriority"}),
                r#"pods "p" is forbidden: the string value of PreemptionPolicy (PreemptLowerPriority) must not be provided in pod spec; priority admission controller computed Never from the given PriorityClass name"#,
            ),
        ] {
            assert_eq!(pod(&world(), spec).unwrap_err(), message);
        }
        assert!(pod(&world(), value!({"priorityClassName": "high", "priority": 1000})).is_ok());
    }

    #[test]
    fn an_update_keeps_the_priority() {
        let (user, world) = (nobody(), world());
        let old = value!({"spec": {"priority": 1000, "preemptionPolicy": "Never"}});
        let request = AdmissionRequest {
            operation: Operation::Update,
            old: Some(&old),
            ..create(&user, "pods", value!({"spec": {}}))
        };
        assert_eq!(world.run(&Priority, request).unwrap(), old);
    }

    #[test]
    fn there_is_one_default_class() {
        let (user, world) = (nobody(), world());
        let class = |operation, name: &str| {
            let object = value!({"metadata": {"name": (name)}, "globalDefault": true});
            let request = AdmissionRequest {
                operation,
                group: GROUP,
                namespace: "",
                ..create(&user, "priorityclasses", object)
            };
            world.run(&Priority, request).map(drop)
        };
        assert_eq!(
            class(Operation::Create, "mine").unwrap_err(),
            r#"priorityclasses.scheduling.k8s.io "mine" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"#
        );
        assert!(class(Operation::Update, "usual").is_ok());
        assert!(class(Operation::Update, "high").is_err());
    }
}
