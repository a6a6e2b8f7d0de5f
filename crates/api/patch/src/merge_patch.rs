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
    // What comes and what goes, all at once: each alone moves all members behind it.
    let (mut coming, mut going) = (Vec::new(), Map::new());
    for (key, change) in patch {
        match (members.get_mut(&key), change) {
            (Some(_), Value::Null) => {
                going.insert(&key, Value::Null);
            }
            (None, Value::Null) => {}
            (Some(member), Value::Object(change)) => merge(member, change),
            (None, Value::Object(change)) => {
                let mut member = Value::Null;
                merge(&mut member, change);
                coming.push((key, member));
            }
            (member, mut change) => {
                drop_nulls_below(&mut change);
                match member {
                    Some(member) => *member = change,
                    None => coming.push((key, change)),
                }
            }
        }
    }
    if !going.is_empty() {
        members.retain(|key, _| !going.contains_key(key));
    }
    if !coming.is_empty() {
        members.extend(coming);
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
