//! Mirror pods, the status of the node's own pods, and their eviction.

use cloudeck_auth::named_by_pod;
use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Status, Value};

use crate::{AdmissionRequest, Context, Operation, Refusal};

const MIRROR: &str = "kubernetes.io/config.mirror";

pub(super) fn check(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    node: &str,
) -> Result<(), Refusal> {
    let quoted = quote(node);
    match (request.subresource, request.operation) {
        ("", Operation::Create) => check_mirror(request, context, node),
        ("", Operation::Delete) => {
            let pod = stored_pod(request, context, request.name)?;
            check_node(request, &pod, node, || {
                format!("node {quoted} can only delete pods with spec.nodeName set to itself")
            })
        }
        ("", operation) => Err(request.forbid(format!(
            "unexpected operation {}, node {quoted} can only create and delete mirror pods",
            quote(operation.as_str())
        ))),
        ("status", Operation::Update) => check_status(request, node),
        ("status", operation) => {
            Err(request.forbid(format!("unexpected operation {}", quote(operation.as_str()))))
        }
        ("eviction", Operation::Create) => {
            let in_body = request.object.str_at(&["metadata", "name"]).unwrap_or_default();
            let name = if request.name.is_empty() {
                in_body
            } else {
                request.name
            };
            if name.is_empty() {
                return Err(request.forbid("could not determine pod from request data"));
            }
            let pod = stored_pod(request, context, name)?;
            check_node(request, &pod, node, || {
                format!("node {node} can only evict pods with spec.nodeName set to itself")
            })
        }
        ("eviction", operation) => {
            Err(request.forbid(format!("unexpected operation {}", operation.as_str())))
        }
        (subresource, _) => Err(request.forbid(format!(
            "unexpected pod subresource {}, only 'status' and 'eviction' are allowed",
            quote(subresource)
        ))),
    }
}

pub(super) fn stored_pod(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    name: &str,
) -> Result<Value, Refusal> {
    let pod = context.reader.get("", "pods", request.namespace, name);
    pod.map(|pod| pod.tree())
        .ok_or_else(|| Refusal::new(Status::not_found("", "pods", name)))
}

fn check_node(
    request: &AdmissionRequest<'_>,
    pod: &Value,
    node: &str,
    why: impl Fn() -> String,
) -> Result<(), Refusal> {
    if pod.str_at(&["spec", "nodeName"]) == Some(node) {
        Ok(())
    } else {
        Err(request.forbid(why()))
    }
}

fn check_status(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    let quoted = quote(node);
    let Some(old) = request.old else {
        return Err(request.forbid("unexpected type <nil>"));
    };
    check_node(request, old, node, || {
        format!("node {quoted} can only update pod status for pods with spec.nodeName set to itself")
    })?;
    let differs = |path: &[&str]| {
        let non_empty = |tree: &Value| {
            tree.at(path)
                .filter(|value| {
                    !matches!(value, Value::Null) && value.to_string() != "{}" && value.to_string() != "[]"
                })
                .cloned()
        };
        non_empty(&request.object) != non_empty(old)
    };
    for (path, what) in [
        (["metadata", "labels"], "labels through pod status"),
        (["status", "resourceClaimStatuses"], "resource claim statues"),
        (
            ["status", "extendedResourceClaimStatus"],
            "extended resource claim status",
        ),
        (
            ["status", "nodeAllocatableResourceClaimStatuses"],
            "node allocatable resource claim statuses",
        ),
    ] {
        if differs(&path) {
            return Err(request.forbid(format!("node {quoted} cannot update {what}")));
        }
    }
    Ok(())
}

fn check_mirror(request: &AdmissionRequest<'_>, context: &Context<'_>, node: &str) -> Result<(), Refusal> {
    let (pod, quoted) = (&request.object, quote(node));
    if pod.at(&["metadata", "annotations", MIRROR]).is_none() {
        return Err(request.forbid(format!(
            "pod does not have \"{MIRROR}\" annotation, node {quoted} can only create mirror pods"
        )));
    }
    check_node(request, pod, node, || {
        format!("node {quoted} can only create pods with spec.nodeName set to itself")
    })?;
    check_owner(request, context, node)?;
    match referenced_resource(pod) {
        Some(resource) => Err(request.forbid(format!(
            "node {quoted} can not create pods that reference {resource}"
        ))),
        None => Ok(()),
    }
}

fn check_owner(request: &AdmissionRequest<'_>, context: &Context<'_>, node: &str) -> Result<(), Refusal> {
    let quoted = quote(node);
    let only = |what: &str| {
        Err(request.forbid(format!(
            "node {quoted} can only create pods with {what} set to itself"
        )))
    };
    let owner = match request.object.items_at(&["metadata", "ownerReferences"]) {
        [] => return only("an owner reference"),
        [owner] => owner,
        _ => return only("a single owner reference"),
    };
    let text = |field| owner.str_at(&[field]).unwrap_or_default();
    if (text("apiVersion"), text("kind"), text("name")) != ("v1", "Node", node) {
        return only("an owner reference");
    }
    if owner.bool_at(&["controller"]) != Some(true) {
        return only("a controller owner reference");
    }
    if owner.bool_at(&["blockOwnerDeletion"]) == Some(true) {
        return Err(request.forbid(format!(
            "node {quoted} must not set blockOwnerDeletion on an owner reference"
        )));
    }
    let Some(found) = context.reader.get("", "nodes", "", node) else {
        return Err(Refusal::new(Status::not_found("", "nodes", node)));
    };
    if text("uid") != found.uid {
        return Err(request.forbid(format!(
            "node {node} UID mismatch: expected {} got {}",
            text("uid"),
            found.uid
        )));
    }
    Ok(())
}

/// What in the API a pod refers to; a mirror pod must refer to nothing.
fn referenced_resource(pod: &Value) -> Option<&'static str> {
    let named = named_by_pod(pod);
    for resource in ["serviceaccounts", "secrets", "configmaps"] {
        if named.iter().any(|(found, _)| *found == resource) {
            return Some(resource);
        }
    }
    if !pod.items_at(&["spec", "resourceClaims"]).is_empty() {
        return Some("resourceclaims");
    }
    pod.items_at(&["spec", "volumes"])
        .iter()
        .find_map(referenced_by_volume)
}

fn referenced_by_volume(volume: &Value) -> Option<&'static str> {
    const REFERRING: [(&str, &str); 5] = [
        ("csi", "csidrivers (via CSI volumes)"),
        ("glusterfs", "endpoints (via glusterFS volumes)"),
        ("persistentVolumeClaim", "persistentvolumeclaims"),
        ("ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        ("azureFile", "secrets (via azureFile volumes)"),
    ];
    const PROJECTED: [(&str, &str); 3] = [
        ("serviceAccountToken", "serviceaccounts (via projected volumes)"),
        ("clusterTrustBundle", "clustertrustbundles"),
        ("podCertificate", "podcertificates"),
    ];
    let set = |tree: &Value, field: &str| tree.get(field).is_some_and(|value| !value.is_null());
    if let Some((_, what)) = REFERRING.iter().find(|(field, _)| set(volume, field)) {
        return Some(what);
    }
    let sources = volume.items_at(&["projected", "sources"]).iter();
    sources
        .flat_map(|source| PROJECTED.iter().filter(|(field, _)| set(source, field)))
        .map(|(_, what)| *what)
        .next()
}
