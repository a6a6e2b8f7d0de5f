//! Edits that defaulting is made of: setting what is absent, walking lists in place.

use cloudeck_machinery::{Map, Quantity, Value};

/// Sets a text that is absent, null or empty: the zero value of a Go string.
pub(crate) fn text(parent: &mut Value, key: &str, default: &str) {
    if let Some(map) = parent.as_object_mut()
        && !matches!(map.get(key), Some(Value::String(text)) if !text.is_empty())
    {
        map.insert(key, Value::from(default));
    }
}

/// Sets a number that is absent, null or zero: the zero value of a Go integer.
pub(crate) fn number(parent: &mut Value, key: &str, default: i64) {
    if let Some(map) = parent.as_object_mut()
        && !matches!(map.get(key), Some(Value::Int(number)) if *number != 0)
    {
        map.insert(key, Value::from(default));
    }
}

/// Sets a member that is absent or null: a nil pointer of Go.
pub(crate) fn absent(parent: &mut Value, key: &str, default: impl FnOnce() -> Value) {
    if let Some(map) = parent.as_object_mut()
        && map.get(key).is_none_or(Value::is_null)
    {
        map.insert(key, default());
    }
}

/// The object member `key`, to be changed in place; nothing when it is absent.
pub(crate) fn member<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    parent.get_mut(key).filter(|value| value.as_object().is_some())
}

/// The object member `key`, made when it is absent or null.
pub(crate) fn made<'a>(parent: &'a mut Value, key: &str) -> Option<&'a mut Value> {
    absent(parent, key, Value::object);
    member(parent, key)
}

/// The items of the list `key`, to be changed in place.
pub(crate) fn each<'a>(parent: &'a mut Value, key: &str) -> std::slice::IterMut<'a, Value> {
    match parent.get_mut(key).and_then(Value::as_array_mut) {
        Some(items) => items.iter_mut(),
        None => std::slice::IterMut::default(),
    }
}

/// Rounds the amounts of a resource list up to thousandths, as upstream does on every read.
pub(crate) fn round_resources(parent: &mut Value, key: &str) {
    let Some(list) = parent.get_mut(key).and_then(Value::as_object_mut) else {
        return;
    };
    for (_, amount) in list.iter_mut() {
        let Some(text) = amount.as_str() else { continue };
        // Only these can carry less than a thousandth.
        if !text.contains(['n', 'u', '.', 'e', 'E']) {
            continue;
        }
        let Ok(exact) = text.parse::<Quantity>() else {
            continue;
        };
        let rounded = Quantity::from_milli(exact.milli_value(), exact.format());
        if rounded != exact {
            *amount = Value::from(rounded.to_string());
        }
    }
}

/// Adds to the map `key` of `parent` the entries of `extra` that it lacks.
pub(crate) fn entries(parent: &mut Value, key: &str, extra: &Map) {
    let Some(map) = made(parent, key).and_then(Value::as_object_mut) else {
        return;
    };
    for (name, value) in extra.iter() {
        if !map.contains_key(name) {
            map.insert(name, value.clone());
        }
    }
}

/// Whether a list, map or text is absent or empty.
pub(crate) fn is_empty(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        Some(Value::Array(items)) => items.is_empty(),
        Some(Value::Object(map)) => map.is_empty(),
        Some(_) => false,
    }
}
