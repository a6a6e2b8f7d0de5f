//! LimitRanger: a namespace's limit ranges fill in missing requests and limits, and bound those that are given.

mod constraints;

use std::collections::BTreeMap;
use std::sync::Arc;

use cloudeck_kinds::amounts::{self, Amounts};
use cloudeck_machinery::{Map, Object, Quantity, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal, Remarks};
use constraints::Bound;

const ANNOTATION: &str = "kubernetes.io/limit-ranger";

pub(crate) struct LimitRanger;

impl Plugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        if request.resource != "pods" {
            return Ok(());
        }
        for range in ranges(request, context) {
            fill_in(&mut request.object, range.kept_tree());
        }
        Ok(())
    }

    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        context: &Context<'_>,
        _remarks: &mut Remarks,
    ) -> Result<(), Refusal> {
        for range in ranges(request, context) {
            let mut violations = Vec::new();
            for limit in range.kept_tree().items_at(&["spec", "limits"]) {
                check_limit(request, limit, &mut violations);
            }
            match violations.as_slice() {
                [] => {}
                [one] => return Err(request.forbid(one)),
                many => return Err(request.forbid(format!("[{}]", many.join(", ")))),
            }
        }
        Ok(())
    }
}

/// The limit ranges that concern the request.
fn ranges(request: &AdmissionRequest<'_>, context: &Context<'_>) -> Vec<Arc<Object>> {
    let creates = request.operation == Operation::Create;
    let updates = request.operation == Operation::Update;
    // The resources of a pod change through the subresource only.
    let concerned = (creates && request.is_for("", "pods"))
        || (updates && request.is_under("", "pods", "resize"))
        || ((creates || updates) && request.is_for("", "persistentvolumeclaims"));
    let ending = request
        .old
        .is_some_and(|old| old.at(&["metadata", "deletionTimestamp"]).is_some());
    if !concerned || ending {
        return Vec::new();
    }
    context.reader.list("", "limitranges", request.namespace)
}

fn fill_in(pod: &mut Value, range: &Value) {
    let (mut requests, mut limits) = (BTreeMap::new(), BTreeMap::new());
    let of_containers = range.items_at(&["spec", "limits"]).iter();
    for limit in of_containers.filter(|limit| limit.str_at(&["type"]) == Some("Container")) {
        for (field, into) in [("defaultRequest", &mut requests), ("default", &mut limits)] {
            let map = limit.at(&[field]).and_then(Value::as_object);
            into.extend(
                map.into_iter()
                    .flat_map(Map::iter)
                    .map(|(key, value)| (key.to_string(), value.clone())),
            );
        }
    }
    let mut remarks = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let containers = pod.at_mut(&["spec", list]).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let name = container.str_at(&["name"]).unwrap_or_default().to_owned();
            // Upstream decides about limits first but tells of requests first.
            let set_limits = add_missing(container, "limits", &limits);
            let set_requests = add_missing(container, "requests", &requests);
            for (set, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    remarks.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !remarks.is_empty() {
        let text = format!("LimitRanger plugin set: {}", remarks.join("; "));
        pod.set_at(&["metadata", "annotations", ANNOTATION], text);
    }
}

fn add_missing(container: &mut Value, field: &str, defaults: &BTreeMap<String, Value>) -> Vec<String> {
    let mut added = Vec::new();
    for (resource, amount) in defaults {
        if container.at(&["resources", field, resource]).is_none() {
            container.set_at(&["resources", field, resource], amount.clone());
            added.push(resource.clone());
        }
    }
    added
}

fn check_limit(request: &AdmissionRequest<'_>, limit: &Value, violations: &mut Vec<String>) {
    let kind = limit.str_at(&["type"]).unwrap_or_default();
    let object = &request.object;
    match (request.resource, kind) {
        ("persistentvolumeclaims", "PersistentVolumeClaim") => {
            let requests = amounts::read(object.at(&["spec", "resources", "requests"]));
            check_bounds(
                limit,
                kind,
                &[Bound::Min, Bound::MaxRequest],
                &requests,
                &Amounts::new(),
                violations,
            );
        }
        ("pods", "Container") => {
            for list in ["containers", "initContainers"] {
                for container in object.items_at(&["spec", list]) {
                    let of = |field| amounts::read(container.at(&["resources", field]));
                    check_bounds(
                        limit,
                        kind,
                        &Bound::OF_PODS,
                        &of("requests"),
                        &of("limits"),
                        violations,
                    );
                }
            }
        }
        ("pods", "Pod") => {
            let of = |field| amounts::of_pod(object, field);
            check_bounds(
                limit,
                kind,
                &Bound::OF_PODS,
                &of("requests"),
                &of("limits"),
                violations,
            );
        }
        _ => {}
    }
}

fn check_bounds(
    limit: &Value,
    kind: &str,
    bounds: &[Bound],
    requests: &Amounts,
    limits: &Amounts,
    violations: &mut Vec<String>,
) {
    for bound in bounds {
        for (resource, enforced) in amounts::read(limit.at(&[bound.field()])) {
            let given = |amounts: &Amounts| -> Option<Quantity> { amounts.get(&resource).copied() };
            violations.extend(bound.violation(kind, &resource, enforced, given(requests), given(limits)));
        }
    }
}

#[cfg(test)]
mod tests;
