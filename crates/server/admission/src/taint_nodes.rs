//! TaintNodesByCondition: a new node takes no pods until it is found ready.

use cloudeck_machinery::value;

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal};

const NOT_READY: &str = "node.kubernetes.io/not-ready";

pub(crate) struct TaintNodesByCondition;

impl Plugin for TaintNodesByCondition {
    fn name(&self) -> &'static str {
        "TaintNodesByCondition"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, _context: &Context<'_>) -> Result<(), Refusal> {
        if request.operation != Operation::Create || !request.is_for("", "nodes") {
            return Ok(());
        }
        let mut taints = request.object.items_at(&["spec", "taints"]).to_vec();
        let present = taints.iter().any(|taint| {
            taint.str_at(&["key"]) == Some(NOT_READY) && taint.str_at(&["effect"]) == Some("NoSchedule")
        });
        if !present {
            taints.push(value!({"effect": "NoSchedule", "key": (NOT_READY)}));
            request.object.set_at(&["spec", "taints"], taints);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, create, nobody};

    #[test]
    fn a_new_node_is_tainted_once() {
        let user = nobody();
        let run = |node| {
            World::default()
                .run(&TaintNodesByCondition, create(&user, "nodes", node))
                .unwrap()
                .to_string()
        };
        let tainted = r#"{"spec":{"taints":[{"effect":"NoSchedule","key":"node.kubernetes.io/not-ready"}]}}"#;
        assert_eq!(run(value!({})), tainted);
        let again = value!({"spec": {"taints": [{"effect": "NoSchedule", "key": (NOT_READY)}]}});
        assert_eq!(run(again), tainted);
    }
}
