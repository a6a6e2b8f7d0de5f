//! A tree without the fields of a set.

use cloudeck_machinery::{Map, Value};

use super::field_set::names;
use super::{Form, Type};
use crate::fieldset::{FieldSet, child, field_element, has_children};

/// `value` without the members of `set`. Containers of which nothing is left become null, as upstream has them.
pub(crate) fn remove(ty: Type, value: &Value, set: &FieldSet) -> Value {
    below(ty, value, set.members())
}

fn below(ty: Type, value: &Value, set: &Map) -> Value {
    match (ty.form(Some(value)), value) {
        (Form::Map, Value::Object(members)) => {
            let mut kept = Map::with_capacity(members.len());
            for (name, member) in members.iter() {
                let element = field_element(name);
                if names(set, &element) {
                    continue;
                }
                let member = match child(set, &element) {
                    Some(inner) if has_children(inner) => below(ty.member(name), member, inner),
                    _ => member.clone(),
                };
                kept.insert(name, member);
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Object(kept)
            }
        }
        (Form::List(items), Value::Array(list)) => {
            let mut kept = Vec::with_capacity(list.len());
            for item in list {
                let element = items.element(item).unwrap_or_default();
                if names(set, &element) {
                    continue;
                }
                kept.push(match child(set, &element) {
                    Some(inner) if has_children(inner) => below(items.item, item, inner),
                    _ => item.clone(),
                });
            }
            if kept.is_empty() {
                Value::Null
            } else {
                Value::Array(kept)
            }
        }
        // An atomic map or list goes whole.
        (Form::Leaf, Value::Object(_) | Value::Array(_)) => Value::Null,
        (_, value) => value.clone(),
    }
}
