//! DefaultTolerationSeconds: every pod stays five minutes on a node that is not ready or unreachable.

use cloudeck_machinery::{Value, value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal};

const TAINTS: [&str; 2] = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const SECONDS: i64 = 300;

pub(crate) struct DefaultTolerationSeconds;

impl Plugin for DefaultTolerationSeconds {
    fn name(&self) -> &'static str {
        "DefaultTolerationSeconds"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, _context: &Context<'_>) -> Result<(), Refusal> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update);
        if !writes || !request.is_for("", "pods") {
            return Ok(());
        }
        let mut tolerations = request.object.items_at(&["spec", "tolerations"]).to_vec();
        let missing: Vec<Value> = TAINTS
            .into_iter()
            .filter(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
            .map(|taint| {
                value!({
                    "effect": "NoExecute", "key": (taint), "operator": "Exists", "tolerationSeconds": (SECONDS)
                })
            })
            .collect();
        if !missing.is_empty() {
            tolerations.extend(missing);
            request.object.set_at(&["spec", "tolerations"], tolerations);
        }
        Ok(())
    }
}

fn tolerates(toleration: &Value, taint: &str) -> bool {
    let text = |field| toleration.str_at(&[field]).unwrap_or_default();
    let (key, effect) = (text("key"), text("effect"));
    (key == taint || key.is_empty()) && (effect == "NoExecute" || effect.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};

    fn check(given: Value, expected: &[&str]) {
        let user = nobody();
        let pod = value!({"spec": {"tolerations": (given)}});
        let pod = World::default()
            .run(&DefaultTolerationSeconds, create(&user, "pods", pod))
            .unwrap();
        let keys: Vec<&str> = pod
            .items_at(&["spec", "tolerations"])
            .iter()
            .map(|t| t.str_at(&["key"]).unwrap_or(""))
            .collect();
        assert_eq!(keys, expected);
    }

    #[test]
    fn both_are_added_unless_tolerated_already() {
        check(value!([]), &TAINTS);
        check(value!(null), &TAINTS);
        check(value!([{"operator": "Exists"}]), &[""]);
        check(
            value!([{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]),
            &TAINTS,
        );
        check(
            value!([{"key": "node.kubernetes.io/unreachable", "effect": "NoSchedule"}]),
            &["node.kubernetes.io/unreachable", TAINTS[0], TAINTS[1]],
        );
    }

    #[test]
    fn the_toleration_reads_as_upstream() {
        let user = nobody();
        let pod = World::default()
            .run(&DefaultTolerationSeconds, create(&user, "pods", value!({})))
            .unwrap();
        assert!(pod.to_string().contains(
            r#"{"effect":"NoExecute","key":"node.kubernetes.io/not-ready","operator":"Exists","tolerationSeconds":300}"#
        ));
    }
}
