//! JSON merge patch (RFC 7386).

use cloudeck_machinery::{Map, Reason, Status, Value};

/// The patch is no object; upstream answers 400 with these words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Invalid JSON Patch")]
pub struct BadMergePatch;

impl From<BadMergePatch> for Status {
    fn from(error: BadMergePatch) -> Self {
        Status::new(Reason::BadRequest, error.to_string())
    }
}

/// Applies `patch` to `document` in place: null removes a member, objects merge, everything else replaces.
///
/// # Errors
/// The patch is not an object.
pub fn apply(document: &mut Value, patch: Value) -> Result<(), BadMergePatch> {
    let Value::Object(patch) = patch else {
        return Err(BadMergePatch);
    };
    merge(document, patch);
    Ok(())
}

fn merge(target: &mut Value, patch: Map) {
    if target.as_object().is_none() {
        *target = Value::object();
    }
    let Some(members) = target.as_object_mut() else {
        return;
    };
    for (key, change) in patch {
        match change {
            Value::Null => {
                members.remove(&key);
            }
            Value::Object(change) => merge(members.get_or_insert_null(&key), change),
            mut change => {
                drop_nulls_below(&mut change);
                members.insert(&key, change);
            }
        }
    }
}

/// Upstream's library removes null members of objects inside new arrays, though the RFC would keep them.
fn drop_nulls_below(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(drop_nulls_below),
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members
                .iter_mut()
                .for_each(|(_, member)| drop_nulls_below(member));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests;
