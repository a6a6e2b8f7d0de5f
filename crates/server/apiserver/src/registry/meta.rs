//! Metadata that the server owns: names, uid, creation time, generation.

use std::collections::HashSet;

use cloudeck_machinery::{Reason, Status, Value, json};

use super::Call;
use super::facts;

/// Makes the metadata of a new object what the server wants it to be.
pub(crate) fn prepare_create(call: &Call<'_>, tree: &mut Value) -> Result<(), Status> {
    match_namespace(call, tree)?;
    if tree
        .str_at(&["metadata", "resourceVersion"])
        .is_some_and(|version| !version.is_empty())
    {
        return Err(Status::new(
            Reason::Unknown,
            "resourceVersion should not be set on objects to be created",
        ));
    }
    let Some(meta) = tree.ensure_object(&["metadata"]) else {
        return Err(Status::bad_request("metadata is not an object"));
    };
    for unwanted in [
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        meta.remove(unwanted);
    }
    if meta
        .get("name")
        .and_then(Value::as_str)
        .unwrap_or_default()
        .is_empty()
        && let Some(prefix) = meta
            .get("generateName")
            .and_then(Value::as_str)
            .filter(|prefix| !prefix.is_empty())
    {
        let name = call.core.ids.name_from(prefix);
        meta.insert("name", name.into());
    }
    meta.insert("uid", call.core.ids.uuid().into());
    meta.insert("creationTimestamp", call.core.clock.timestamp().into());
    if facts::has_generation(call.kind()) {
        meta.insert("generation", 1.into());
    }
    Ok(())
}

/// The object's namespace is the request's.
pub(crate) fn match_namespace(call: &Call<'_>, tree: &mut Value) -> Result<(), Status> {
    let wanted = &call.request.namespace;
    let own = tree.str_at(&["metadata", "namespace"]).unwrap_or_default();
    if own == wanted {
        return Ok(());
    }
    if own.is_empty() {
        tree.set_at(&["metadata", "namespace"], wanted.as_str());
    } else if wanted.is_empty() {
        tree.remove_at(&["metadata", "namespace"]);
    } else {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Keeps what an update may not change; `new` is the stored form, as is `old`.
pub(crate) fn carry_over(new: &mut Value, old: &Value) {
    for kept in [
        "uid",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match old.at(&["metadata", kept]) {
            Some(value) => {
                new.set_at(&["metadata", kept], value.clone());
            }
            None => {
                new.remove_at(&["metadata", kept]);
            }
        }
    }
    new.remove_at(&["metadata", "selfLink"]);
}

/// Raises the generation when anything but metadata and status changed.
pub(crate) fn raise_generation(new: &mut Value, old: &Value) {
    let differs = |name: &str| new.get(name) != old.get(name);
    let names = |tree: &Value| -> Vec<String> {
        tree.as_object()
            .map(|map| map.keys().map(ToString::to_string).collect())
            .unwrap_or_default()
    };
    let changed = names(new)
        .iter()
        .chain(&names(old))
        .any(|name| !matches!(name.as_str(), "metadata" | "status" | "kind" | "apiVersion") && differs(name));
    if changed {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
        new.set_at(&["metadata", "generation"], generation);
    }
}

/// Drops repeated owner references (by uid), which upstream warns of.
pub(crate) fn dedup_owners(call: &mut Call<'_>, tree: &mut Value) {
    let Some(owners) = tree
        .at_mut(&["metadata", "ownerReferences"])
        .and_then(Value::as_array_mut)
    else {
        return;
    };
    if owners.len() < 2 {
        return;
    }
    let mut seen = HashSet::with_capacity(owners.len());
    let before = owners.len();
    owners.retain(|owner| seen.insert(json::to_vec(owner)));
    if owners.len() < before {
        call.warn(
            ".metadata.ownerReferences contains duplicate entries; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests",
        );
    }
}

/// `name`'s finalizers.
pub(crate) fn has_finalizers(tree: &Value) -> bool {
    !tree.items_at(&["metadata", "finalizers"]).is_empty()
}
