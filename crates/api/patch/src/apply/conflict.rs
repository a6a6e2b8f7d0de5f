//! The refusal of an apply that would take fields from others.

use cloudeck_machinery::quote::quote;
use cloudeck_machinery::{Cause, CauseType, Reason, Status};

use crate::fieldset::FieldSet;
use crate::managed::Entry;

pub(super) fn status(conflicts: &[(Entry, FieldSet)]) -> Status {
    let mut conflicts: Vec<&(Entry, FieldSet)> = conflicts.iter().collect();
    conflicts.sort_by_cached_key(|(entry, _)| entry.identity());
    let owners: Vec<(String, Vec<String>)> = conflicts
        .iter()
        .map(|(entry, fields)| (owner(entry), fields.paths()))
        .collect();
    let causes: Vec<Cause> = owners
        .iter()
        .flat_map(|(owner, paths)| paths.iter().map(move |path| (owner, path)))
        .map(|(owner, path)| Cause {
            cause: CauseType::FieldManagerConflict,
            message: format!("conflict with {owner}"),
            field: path.clone(),
        })
        .collect();
    Status::new(Reason::Conflict, message(&owners, causes.len())).with_causes(causes)
}

fn message(owners: &[(String, Vec<String>)], count: usize) -> String {
    if let ([(owner, paths)], 1) = (owners, count) {
        return format!(
            "Apply failed with 1 conflict: conflict with {owner}: {}",
            paths.join("")
        );
    }
    let mut lines = Vec::with_capacity(count + owners.len());
    for (owner, paths) in owners {
        lines.push(format!("conflicts with {owner}:"));
        lines.extend(paths.iter().map(|path| format!("- {path}")));
    }
    format!("Apply failed with {count} conflicts: {}", lines.join("\n"))
}

/// `"kubectl" with subresource "scale" using apps/v1`; an applier has no version.
fn owner(entry: &Entry) -> String {
    let mut text = quote(&entry.manager);
    if !entry.subresource.is_empty() {
        text.push_str(" with subresource ");
        text.push_str(&quote(&entry.subresource));
    }
    if !entry.applied {
        text.push_str(" using ");
        text.push_str(&entry.api_version);
    }
    text
}
