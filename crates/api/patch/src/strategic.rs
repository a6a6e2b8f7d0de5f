//! Strategic merge patch: a merge patch that knows which lists are merged, by what key, and takes directives
//! (`$patch`, `$setElementOrder/…`, `$deleteFromPrimitiveList/…`, `$retainKeys`).
//!
//! Source: `apimachinery/pkg/util/strategicpatch`, whose results and errors this keeps. Where upstream depends on Go's
//! random order of maps, members are taken in the order of their names.

mod facts;
mod list;

use cloudeck_machinery::{Key, Map, Reason, Status, Value};
use cloudeck_schema::TypeRef;

use crate::go::{go, go_type};
use facts::{Member, Type};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_PREFIX: &str = "$deleteFromPrimitiveList";
const ORDER_PREFIX: &str = "$setElementOrder";

/// Why a patch was not applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrategicError {
    #[error("invalid JSON document")]
    NotAnObject,
    #[error("invalid patch format of primitive list")]
    PrimitiveList,
    #[error("invalid patch format of retainKeys")]
    RetainKeys,
    #[error("invalid patch format of setElementOrder list")]
    ElementOrder,
    #[error("lists of lists are not supported")]
    ListOfLists,
    /// Everything that upstream answers with 500.
    #[error("{0}")]
    Unfit(String),
}

impl From<StrategicError> for Status {
    fn from(error: StrategicError) -> Self {
        match error {
            StrategicError::ListOfLists => Status::new(
                Reason::Invalid,
                "the server rejected our request due to an error in our request",
            )
            .with_details("", "", ""),
            StrategicError::Unfit(message) => Status::new(Reason::Unknown, message),
            bad => Status::bad_request(bad.to_string()),
        }
    }
}

/// The refusal for kinds without Go types, whose lists nobody can merge.
pub fn unsupported() -> Status {
    let accepted = "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
    Status::new(
        Reason::UnsupportedMediaType,
        format!(
            "the body of the request was in an unknown format - accepted media types include: {accepted}"
        ),
    )
}

/// Applies `patch` to `document`, which is of type `ty`, in place.
///
/// # Errors
/// The patch is malformed or does not fit the type; the document is then unchanged.
pub fn apply(ty: TypeRef, document: &mut Value, patch: Value) -> Result<(), StrategicError> {
    let (Some(original), Value::Object(patch)) = (document.as_object(), patch) else {
        return Err(StrategicError::NotAnObject);
    };
    *document = Value::Object(merge_map(Type(ty), original.clone(), patch)?);
    Ok(())
}

fn merge_map(ty: Type, mut original: Map, mut patch: Map) -> Result<Map, StrategicError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(bad_directive(&directive.clone(), patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    merge_ordered_lists(ty, &mut original, &mut patch)?;
    for (key, value) in patch {
        merge_member(ty, &mut original, &key, value)?;
    }
    Ok(original)
}

fn bad_directive(directive: &Value, patch: Map) -> StrategicError {
    let directive = if directive.is_null() {
        "%!s(<nil>)".to_owned()
    } else {
        go(directive)
    };
    StrategicError::Unfit(format!(
        "unknown patch type: {} in map: {}",
        directive,
        go(&Value::Object(patch))
    ))
}

fn merge_member(ty: Type, original: &mut Map, key: &str, value: Value) -> Result<(), StrategicError> {
    let deletes = key.starts_with(DELETE_PREFIX);
    let key = if deletes {
        directive_key(key, DELETE_PREFIX).ok_or(StrategicError::PrimitiveList)?
    } else {
        key
    };
    if value.is_null() {
        original.remove(key);
        return Ok(());
    }
    let merged = match (original.get_mut(key).map(std::mem::take), value) {
        (Some(Value::Object(old)), Value::Object(new)) => {
            let member = ty.member(key)?;
            // A replaced map is taken as it is, directives and all.
            Value::Object(if member.replace {
                new
            } else {
                merge_map(member.ty(), old, new)?
            })
        }
        (Some(Value::Array(old)), Value::Array(new)) => {
            let member = ty.list_member(key)?;
            Value::Array(merge_list(&member, old, new, deletes)?)
        }
        (Some(old), _) if deletes => old,
        (None, _) if deletes => return Ok(()),
        (_, new) => {
            let Some(new) = fresh(new) else {
                original.remove(key);
                return Ok(());
            };
            new
        }
    };
    original.insert(key, merged);
    Ok(())
}

fn merge_list(
    member: &Member,
    old: Vec<Value>,
    new: Vec<Value>,
    deletes: bool,
) -> Result<Vec<Value>, StrategicError> {
    if member.merge || deletes {
        list::merge(member, old, new, deletes)
    } else {
        Ok(new)
    }
}

/// What a patch says of something new: without nulls and directives; `None` when it is a directive itself.
fn fresh(mut value: Value) -> Option<Value> {
    drop_nulls(&mut value);
    without_directives(value)
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|_, member| !member.is_null());
            members.iter_mut().for_each(|(_, member)| drop_nulls(member));
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(members) if members.contains_key(DIRECTIVE) => None,
        Value::Object(members) => {
            let kept = members
                .into_iter()
                .filter_map(|(key, member)| Some((key, without_directives(member)?)));
            Some(Value::Object(kept.collect()))
        }
        Value::Array(items) => Some(Value::Array(
            items.into_iter().filter_map(without_directives).collect(),
        )),
        other => Some(other),
    }
}

/// `$retainKeys`: members that it does not list go; a patch must not set others.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<(), StrategicError> {
    let Some(keys) = patch.remove(RETAIN_KEYS) else {
        return Ok(());
    };
    let keys = keys.as_array().ok_or(StrategicError::RetainKeys)?;
    let listed = |key: &str| keys.iter().any(|other| other.as_str() == Some(key));
    let stray = patch.iter().any(|(key, value)| {
        let directive = key.starts_with(DELETE_PREFIX) || key.starts_with(ORDER_PREFIX);
        !value.is_null() && !directive && !listed(key)
    });
    if stray {
        return Err(StrategicError::RetainKeys);
    }
    original.retain(|key, _| listed(key));
    Ok(())
}

/// The part of `$setElementOrder/key` behind the slash.
fn directive_key<'a>(key: &'a str, prefix: &str) -> Option<&'a str> {
    key.split_once('/')
        .filter(|(directive, _)| *directive == prefix)
        .map(|(_, key)| key)
}

/// Merges every list for which the patch gives an order, and takes it out of the patch.
fn merge_ordered_lists(ty: Type, original: &mut Map, patch: &mut Map) -> Result<(), StrategicError> {
    let directives: Vec<Key> = patch
        .keys()
        .filter(|key| key.starts_with(ORDER_PREFIX))
        .cloned()
        .collect();
    for directive in directives {
        let order = array(patch.remove(&directive).unwrap_or_default())?;
        let key = directive_key(&directive, ORDER_PREFIX).ok_or(StrategicError::ElementOrder)?;
        let old = original.get(key).cloned().map(array).transpose()?;
        let new = patch.get(key).cloned().map(array).transpose()?;
        let member = ty.list_member(key)?;
        list::check_order(new.as_deref().unwrap_or_default(), &order, member.key)?;
        let elements = list::Elements::of(&[
            old.as_deref().unwrap_or_default(),
            new.as_deref().unwrap_or_default(),
        ]);
        let live_order = list::live_order(old.as_deref().unwrap_or_default(), new.as_deref(), &member);
        let merged = match (old, new) {
            (None, None) => continue,
            (Some(old), None) => old,
            (None, Some(new)) => new.into_iter().filter_map(without_directives).collect(),
            (Some(old), Some(new)) => merge_list(&member, old, new, false)?,
        };
        let sorted = list::arrange(merged, &order, &live_order, member.key, elements?)?;
        original.insert(key, Value::Array(sorted));
        patch.remove(key);
    }
    Ok(())
}

fn array(value: Value) -> Result<Vec<Value>, StrategicError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong_type("[]interface {}", &other)),
    }
}

fn wrong_type(expected: &str, found: &Value) -> StrategicError {
    let found = if found.is_null() {
        "%!s(<nil>)"
    } else {
        go_type(found)
    };
    StrategicError::Unfit(format!("expected a {expected}, but received a {found}"))
}

#[cfg(test)]
mod tests;
