//! Tokens that a node asks for: bound to a pod on the node, for audiences that the pod names.

use cloudeck_auth::Attributes;
use cloudeck_machinery::Value;
use cloudeck_machinery::quote::quote;

use super::pods::stored_pod;
use crate::{AdmissionRequest, Context, Operation, Refusal};

pub(super) fn check(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    node: &str,
) -> Result<(), Refusal> {
    if request.operation != Operation::Create || request.subresource != "token" {
        return Ok(());
    }
    let bound = |field| {
        request
            .object
            .str_at(&["spec", "boundObjectRef", field])
            .unwrap_or_default()
    };
    if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
        return Err(request.forbid("node requested token not bound to a pod"));
    }
    let uid = bound("uid");
    if uid.is_empty() {
        return Err(request.forbid("node requested token with a pod binding without a uid"));
    }
    let pod = stored_pod(request, context, bound("name"))?;
    if pod.str_at(&["metadata", "uid"]) != Some(uid) {
        return Err(request.forbid(format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        )));
    }
    if pod.str_at(&["spec", "nodeName"]) != Some(node) {
        return Err(request.forbid("node requested token bound to a pod scheduled on a different node"));
    }
    check_audience(request, context, &pod)
}

fn check_audience(request: &AdmissionRequest<'_>, context: &Context<'_>, pod: &Value) -> Result<(), Refusal> {
    let audience = match request.object.items_at(&["spec", "audiences"]) {
        [] => "",
        [one] => one.as_str().unwrap_or_default(),
        _ => return Err(request.forbid("node may only request 0 or 1 audiences")),
    };
    let mut volumes = pod.items_at(&["spec", "volumes"]).iter();
    if volumes.any(|volume| volume_wants(request, context, pod, volume, audience)) {
        return Ok(());
    }
    let question = Attributes::resource(
        request.user,
        "request-serviceaccounts-token-audience",
        "",
        audience,
    );
    let question = question.in_namespace(request.namespace).of(request.name);
    if context.authorizer.authorize(&question).is_allowed() {
        return Ok(());
    }
    let user = &request.user.name;
    Err(request.forbid(format!(
        "{user} is not authorized to request tokens for audience {}",
        quote(audience)
    )))
}

fn volume_wants(
    request: &AdmissionRequest<'_>,
    context: &Context<'_>,
    pod: &Value,
    volume: &Value,
    audience: &str,
) -> bool {
    let mut tokens = volume
        .items_at(&["projected", "sources"])
        .iter()
        .filter_map(|source| source.get("serviceAccountToken"));
    if tokens.any(|token| !token.is_null() && token.str_at(&["audience"]).unwrap_or_default() == audience) {
        return true;
    }
    let claim = match volume.str_at(&["persistentVolumeClaim", "claimName"]) {
        Some(claim) => Some(claim.to_owned()),
        None => volume
            .get("ephemeral")
            .filter(|source| !source.is_null())
            .map(|_| {
                let of = |tree: &Value, path: &[&str]| tree.str_at(path).unwrap_or_default().to_owned();
                format!("{}-{}", of(pod, &["metadata", "name"]), of(volume, &["name"]))
            }),
    };
    let driver = match claim {
        Some(claim) => driver_of_claim(request, context, &claim),
        None => volume.str_at(&["csi", "driver"]).map(str::to_owned),
    };
    let driver = driver.and_then(|driver| context.reader.get("storage.k8s.io", "csidrivers", "", &driver));
    driver.is_some_and(|driver| {
        let wanted = driver.tree();
        let mut wanted = wanted.items_at(&["spec", "tokenRequests"]).iter();
        wanted.any(|token| token.str_at(&["audience"]).unwrap_or_default() == audience)
    })
}

fn driver_of_claim(request: &AdmissionRequest<'_>, context: &Context<'_>, claim: &str) -> Option<String> {
    let claim = context
        .reader
        .get("", "persistentvolumeclaims", request.namespace, claim)?
        .tree();
    let volume = context
        .reader
        .get(
            "",
            "persistentvolumes",
            "",
            claim.str_at(&["spec", "volumeName"])?,
        )?
        .tree();
    volume.str_at(&["spec", "csi", "driver"]).map(str::to_owned)
}
