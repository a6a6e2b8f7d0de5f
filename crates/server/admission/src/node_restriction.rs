//! NodeRestriction: a node agent writes only its own node, its lease, and what concerns the pods on it.

mod pods;
mod tokens;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Map, Value};

use crate::{AdmissionRequest, Context, Operation, Plugin, Refusal};

pub(crate) struct NodeRestriction;

impl Plugin for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn admit(&self, request: &mut AdmissionRequest<'_>, context: &Context<'_>) -> Result<(), Refusal> {
        let user = request.user;
        let Some(node) = user.node_name() else {
            return Ok(());
        };
        if node.is_empty() {
            return Err(request.forbid(format!(
                "could not determine node from user {}",
                quote(&user.name)
            )));
        }
        match (request.group, request.resource) {
            ("", "pods") => pods::check(request, context, node),
            ("", "nodes") => check_node(request, node),
            ("", "persistentvolumeclaims") => check_claim(request, node),
            ("", "serviceaccounts") => tokens::check(request, context, node),
            ("coordination.k8s.io", "leases") => check_lease(request, node),
            ("storage.k8s.io", "csinodes") => check_csi_node(request, node),
            ("resource.k8s.io", "resourceslices") => check_resource_slice(request, node),
            ("certificates.k8s.io", "certificatesigningrequests") => check_signing_request(request, node),
            ("certificates.k8s.io", "podcertificaterequests") => {
                // The request must be for a pod on the node, with the pod's own account: none is issued here yet.
                Err(request.forbid("podcertificaterequests are not supported for nodes"))
            }
            _ => Ok(()),
        }
    }
}

fn check_node(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    let object_name = request.object.str_at(&["metadata", "name"]).unwrap_or_default();
    let name = if request.name.is_empty() {
        object_name
    } else {
        request.name
    };
    let quoted = quote(node);
    if name != node {
        return Err(request.forbid(format!(
            "node {quoted} is not allowed to modify node {}",
            quote(name)
        )));
    }
    let source = |tree: &Value| {
        tree.at(&["spec", "configSource"])
            .filter(|source| !source.is_null())
            .cloned()
    };
    match (request.operation, request.old) {
        (Operation::Create, _) => {
            if source(&request.object).is_some() {
                return Err(request.forbid(format!(
                    "node {quoted} is not allowed to create pods with a non-nil configSource"
                )));
            }
            let labels = forbidden_labels(&request.object, &Value::Null);
            if !labels.is_empty() {
                let labels = labels.join(", ");
                return Err(request.forbid(format!(
                    "node {quoted} is not allowed to set the following labels: {labels}"
                )));
            }
            Ok(())
        }
        (Operation::Update, Some(old)) => {
            if source(&request.object).is_some() && source(&request.object) != source(old) {
                return Err(request.forbid(format!(
                    "node {quoted} is not allowed to update configSource to a new non-nil configSource"
                )));
            }
            if request.object.items_at(&["spec", "taints"]) != old.items_at(&["spec", "taints"]) {
                return Err(request.forbid(format!("node {quoted} is not allowed to modify taints")));
            }
            let owners = ["metadata", "ownerReferences"];
            if request.object.items_at(&owners) != old.items_at(&owners) {
                return Err(request.forbid(format!("node {quoted} is not allowed to modify ownerReferences")));
            }
            let labels = forbidden_labels(&request.object, old);
            if !labels.is_empty() {
                return Err(request.forbid(format!("is not allowed to modify labels: {}", labels.join(", "))));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Changed labels that a node may not set: they would let it draw pods to itself.
fn forbidden_labels(new: &Value, old: &Value) -> Vec<String> {
    let labels = |tree: &Value| {
        tree.at(&["metadata", "labels"])
            .and_then(Value::as_object)
            .cloned()
            .unwrap_or_default()
    };
    let (new, old): (Map, Map) = (labels(new), labels(old));
    let mut changed: Vec<String> = new
        .keys()
        .chain(old.keys())
        .filter(|key| new.get(key) != old.get(key))
        .map(ToString::to_string)
        .filter(|key| is_forbidden_label(key))
        .collect();
    changed.sort();
    changed.dedup();
    changed
}

fn is_forbidden_label(key: &str) -> bool {
    const ALLOWED: [&str; 11] = [
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/instance-type",
        "beta.kubernetes.io/os",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "kubernetes.io/arch",
        "kubernetes.io/hostname",
        "kubernetes.io/os",
        "node.kubernetes.io/instance-type",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    ];
    let Some((namespace, _)) = key.split_once('/') else {
        return false;
    };
    let within = |domain: &str| {
        namespace == domain
            || namespace
                .strip_suffix(domain)
                .is_some_and(|rest| rest.ends_with('.'))
    };
    if within("node-restriction.kubernetes.io") {
        return true;
    }
    let kubernetes = within("kubernetes.io") || within("k8s.io");
    kubernetes && !ALLOWED.contains(&key) && !within("kubelet.kubernetes.io") && !within("node.kubernetes.io")
}

fn check_claim(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    if request.subresource != "status" {
        return Err(request.forbid("may only update PVC status"));
    }
    let (Operation::Update, Some(old)) = (request.operation, request.old) else {
        return Err(request.forbid(format!(
            "unexpected operation {}",
            quote(request.operation.as_str())
        )));
    };
    let compared = |tree: &Value| {
        let mut tree = tree.clone();
        for path in [
            &["metadata", "resourceVersion"],
            &["metadata", "managedFields"],
            &["status", "capacity"],
            &["status", "conditions"],
            &["status", "allocatedResourceStatuses"],
            &["status", "allocatedResources"],
        ] {
            tree.remove_at(path);
        }
        tree
    };
    if compared(&request.object) == compared(old) {
        return Ok(());
    }
    // Upstream adds a difference of the two in Go's notation.
    let node = quote(node);
    Err(request.forbid(format!(
        "node {node} is not allowed to update fields other than status.quantity and status.conditions"
    )))
}

/// The name of what is written: on create it stands in the object only.
fn written_name<'r>(request: &'r AdmissionRequest<'_>) -> &'r str {
    if request.operation == Operation::Create {
        return request.object.str_at(&["metadata", "name"]).unwrap_or_default();
    }
    request.name
}

fn check_lease(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    if request.namespace != "kube-node-lease" {
        return Err(request.forbid("can only access leases in the \"kube-node-lease\" system namespace"));
    }
    if written_name(request) != node {
        return Err(request.forbid("can only access node lease with the same name as the requesting node"));
    }
    Ok(())
}

fn check_csi_node(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    if written_name(request) != node {
        return Err(request.forbid("can only access CSINode with the same name as the requesting node"));
    }
    Ok(())
}

fn check_resource_slice(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    let (slice, verb) = match (request.operation, request.old) {
        (Operation::Create, _) => (&request.object, "create"),
        (Operation::Delete, Some(old)) => (old, "delete"),
        _ => return Ok(()),
    };
    if slice.str_at(&["spec", "nodeName"]) == Some(node) {
        return Ok(());
    }
    Err(request.forbid(format!(
        "can only {verb} ResourceSlice with the same NodeName as the requesting node"
    )))
}

fn check_signing_request(request: &AdmissionRequest<'_>, node: &str) -> Result<(), Refusal> {
    let signer = request.object.str_at(&["spec", "signerName"]);
    let for_nodes = matches!(
        signer,
        Some("kubernetes.io/kubelet-serving" | "kubernetes.io/kube-apiserver-client-kubelet")
    );
    if request.operation != Operation::Create || !for_nodes {
        return Ok(());
    }
    let pem = STANDARD
        .decode(request.object.str_at(&["spec", "request"]).unwrap_or_default())
        .unwrap_or_default();
    let parsed = cloudeck_pki::SigningRequest::from_pem(&pem)
        .map_err(|error| request.forbid(format!("unable to parse csr: {error}")))?;
    if parsed.common_name != format!("system:node:{node}") {
        return Err(request.forbid(format!("can only create a node CSR with CN=system:node:{node}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
