//! `POST …/pods/NAME/binding`: the scheduler's decision.

use cloudeck_client::Response;
use cloudeck_machinery::{Cause, CauseType, Map, Status, Value, value};

use super::{body, created};
use crate::registry::Call;
use crate::registry::update::{self, Change};

pub(super) async fn bind(call: &mut Call<'_>) -> Result<Response, Status> {
    let (binding, _) = body(call, "v1", "Binding")?;
    check(call, &binding)?;
    update::run(call, &Bind { binding }).await?;
    Ok(created())
}

fn check(call: &Call<'_>, binding: &Value) -> Result<(), Status> {
    let mut causes = Vec::new();
    let kind = binding.str_at(&["target", "kind"]).unwrap_or_default();
    if !matches!(kind, "" | "Node") {
        let message = format!("Unsupported value: {kind:?}: supported values: \"Node\", \"<empty>\"");
        causes.push(Cause {
            cause: CauseType::NotSupported,
            message,
            field: "target.kind".into(),
        });
    }
    if binding.str_at(&["target", "name"]).unwrap_or_default().is_empty() {
        let message = "Required value".into();
        causes.push(Cause {
            cause: CauseType::Required,
            message,
            field: "target.name".into(),
        });
    }
    if causes.is_empty() {
        Ok(())
    } else {
        Err(Status::invalid("", "Binding", &call.request.name, causes))
    }
}

struct Bind {
    binding: Value,
}

impl Change for Bind {
    fn apply(&self, call: &mut Call<'_>, pod: &Value) -> Result<Value, Status> {
        let name = &call.request.name;
        let conflict = |why: &str| Status::conflict("", "pods/binding", name, why);
        let uid = self.binding.str_at(&["metadata", "uid"]).unwrap_or_default();
        let own = pod.str_at(&["metadata", "uid"]).unwrap_or_default();
        if !uid.is_empty() && uid != own {
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {own}");
            return Err(conflict(&why));
        }
        if pod.at(&["metadata", "deletionTimestamp"]).is_some() {
            return Err(conflict(&format!(
                "pod {name} is being deleted, cannot be assigned to a host"
            )));
        }
        let node = pod.str_at(&["spec", "nodeName"]).unwrap_or_default();
        if !node.is_empty() {
            return Err(conflict(&format!(
                "pod {name} is already assigned to node {node:?}"
            )));
        }
        if !pod.items_at(&["spec", "schedulingGates"]).is_empty() {
            return Err(conflict(&format!(
                "pod {name} has non-empty .spec.schedulingGates"
            )));
        }
        let mut bound = pod.clone();
        let target = self.binding.str_at(&["target", "name"]).unwrap_or_default();
        bound.set_at(&["spec", "nodeName"], target);
        // Where room was made for it matters no longer.
        bound.remove_at(&["status", "nominatedNodeName"]);
        for (key, value) in members(&self.binding, "annotations") {
            bound.set_at(&["metadata", "annotations", key], value.clone());
        }
        set_scheduled(&mut bound, &call.core.clock.timestamp());
        Ok(bound)
    }
}

fn members<'a>(tree: &'a Value, field: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let map = tree.at(&["metadata", field]).and_then(Value::as_object);
    map.into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| (key.as_str(), value))
}

fn set_scheduled(pod: &mut Value, now: &str) {
    let mut conditions = pod.items_at(&["status", "conditions"]).to_vec();
    conditions.retain(|condition| condition.str_at(&["type"]) != Some("PodScheduled"));
    conditions.push(value!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": (now)
    }));
    pod.set_at(&["status", "conditions"], conditions);
}
