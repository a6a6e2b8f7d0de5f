//! Writes that cannot overtake each other: replacements of the whole tree at the revision it was read at, and deletions
//! of one incarnation.
//!
//! Upstream's default roles let most controllers `update` and not `patch`; a value tree loses no field, so putting it
//! back changes what was changed and nothing else.

use std::sync::Arc;

use cloudeck_client::{Body, Client, Request};
use cloudeck_machinery::{
    CauseType, GroupVersionResource, Object, ObjectKey, Reason, Status, Value, json, value,
};

/// Replaces an object, or its subresource when that is not empty. The tree holds the resourceVersion it was read at, so
/// a write over something newer is refused as a conflict.
pub(crate) async fn update(
    client: &Client,
    resource: &GroupVersionResource,
    subresource: &str,
    tree: &Value,
) -> Result<Arc<Object>, Status> {
    let meta = |field| tree.str_at(&["metadata", field]).unwrap_or_default();
    let body = Body::json(json::to_vec(tree));
    let request = Request::update(resource, meta("namespace"), meta("name"), subresource, body);
    client.send(request).await?.into_object()
}

/// Deletes this incarnation of the object; one that is gone counts as deleted.
pub(crate) async fn delete(
    client: &Client,
    resource: &GroupVersionResource,
    key: &ObjectKey,
    uid: &str,
) -> Result<(), Status> {
    let options = value!({"preconditions": {"uid": (uid)}});
    delete_with(client, resource, key, &options).await
}

pub(crate) async fn delete_with(
    client: &Client,
    resource: &GroupVersionResource,
    key: &ObjectKey,
    options: &Value,
) -> Result<(), Status> {
    let outcome = client.delete(resource, &key.namespace, &key.name, options).await;
    absent_is_fine(outcome.map(|_| ()))
}

/// Treats "not found" as success.
pub(crate) fn absent_is_fine(outcome: Result<(), Status>) -> Result<(), Status> {
    match outcome {
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        other => other,
    }
}

/// Whether a creation was refused because its namespace is going away: nothing to do about it, and nothing to report.
pub(crate) fn is_namespace_terminating(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice());
    causes
        .unwrap_or_default()
        .iter()
        .any(|cause| cause.cause == CauseType::NamespaceTerminating)
}

/// An entry of `metadata.ownerReferences` for the controlling owner.
pub(crate) fn controller_reference(api_version: &str, kind: &str, owner: &Object) -> Value {
    value!({
        "apiVersion": (api_version), "kind": (kind), "name": (owner.key.name.clone()), "uid": (owner.uid.clone()),
        "controller": true, "blockOwnerDeletion": true
    })
}
