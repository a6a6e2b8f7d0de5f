//! managedFields: who wrote what, recorded with every write.

use cloudeck_machinery::Value;
use cloudeck_patch::apply::{UpdateInput, keep_times_of_no_change, manager_name, track_update};

use super::Call;
use crate::kinds::Kind;

/// Records the write's fields under its manager.
pub(crate) fn track(call: &Call<'_>, old: Option<&Value>, new: &mut Value) {
    let kind = call.kind();
    let api_version = crate::kinds::api_version(kind.group(), kind.info.version);
    let now = call.core.clock.timestamp();
    track_update(UpdateInput {
        old,
        new,
        ty: Some(kind.ty),
        manager: &manager_name(&call.request.params.field_manager, call.agent),
        subresource: &call.request.subresource,
        api_version: &api_version,
        reset_fields: reset_fields(kind, &call.request.subresource),
        now: &now,
    });
    if let Some(old) = old {
        keep_times_of_no_change(old, new);
    }
}

/// Fields that a write to this subresource does not touch, and so never owns.
pub(crate) fn reset_fields(kind: &Kind, subresource: &str) -> &'static [&'static [&'static str]] {
    match subresource {
        "" if kind.info.has_status => &[&["status"]],
        "status" if kind.is("", "pods") => &[
            &["spec"],
            &["metadata", "deletionTimestamp"],
            &["metadata", "ownerReferences"],
        ],
        "status" if kind.is("", "nodes") => &[&["spec"]],
        "status" => &[&["spec"], &["metadata", "labels"]],
        _ => &[],
    }
}
