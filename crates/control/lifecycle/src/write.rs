//! Writes under preconditions, and what their refusals mean.

use cloudeck_client::{Client, Response};
use cloudeck_machinery::{GroupVersionResource, ObjectKey, Reason, Status, Value};

/// Deletes; one that is gone counts as deleted.
pub(crate) async fn delete(
    client: &Client,
    resource: &GroupVersionResource,
    key: &ObjectKey,
    options: &Value,
) -> Result<(), Status> {
    let outcome = client.delete(resource, &key.namespace, &key.name, options).await;
    absent_is_fine(outcome.map(|_: Response| ()))
}

/// Treats "not found" as success.
pub(crate) fn absent_is_fine(outcome: Result<(), Status>) -> Result<(), Status> {
    match outcome {
        Err(status) if status.reason == Reason::NotFound => Ok(()),
        other => other,
    }
}
