//! Small walks over a tree beside its type: unknown fields, marker defaults, Go's order of writing.

use cloudeck_machinery::{FieldPath, Value, json};

use crate::types::{Field, Shape, TypeRef};

/// Upstream reports no more than this many strict decoding errors.
const MAX_UNKNOWN: usize = 100;

/// Paths of the members that `ty` does not have, such as `spec.containers[0].foo`.
///
/// Upstream's wording is `unknown field "PATH"`.
pub fn unknown_fields(ty: TypeRef, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    find_unknown(ty, value, &Trail::Root, &mut found);
    found
}

/// The way down to a value, told only when something is found there.
enum Trail<'a> {
    Root,
    Member(&'a Trail<'a>, &'a str),
    Index(&'a Trail<'a>, usize),
}

impl Trail<'_> {
    fn path(&self) -> FieldPath {
        match self {
            Self::Root => FieldPath::root(),
            Self::Member(parent, name) => parent.path().child(name),
            Self::Index(parent, index) => parent.path().index(*index),
        }
    }
}

fn find_unknown(ty: TypeRef, value: &Value, here: &Trail<'_>, found: &mut Vec<String>) {
    match (ty.shape(), value) {
        (Shape::List { item, .. }, Value::Array(items)) if has_members(item) => {
            for (i, value) in items.iter().enumerate() {
                find_unknown(item, value, &Trail::Index(here, i), found);
            }
        }
        (Shape::Map { value: member, .. }, Value::Object(map)) if has_members(member) => {
            for (key, value) in map.iter() {
                find_unknown(member, value, &Trail::Member(here, key), found);
            }
        }
        (Shape::Struct { .. }, Value::Object(map)) => {
            for (name, value) in map.iter() {
                match ty.field(name) {
                    Some(field) if has_members(field.ty()) => {
                        find_unknown(field.ty(), value, &Trail::Member(here, name), found);
                    }
                    Some(_) => {}
                    None if found.len() < MAX_UNKNOWN => {
                        found.push(here.path().child(name).as_str().to_owned());
                    }
                    None => return,
                }
            }
        }
        _ => {}
    }
}

fn has_members(ty: TypeRef) -> bool {
    !matches!(ty.shape(), Shape::Scalar(_) | Shape::Any)
}

/// Sets fields that are absent or zero to the value of their `+default=` marker, at every depth.
///
/// Few defaults are markers; most are code upstream, and a strategy here.
pub fn apply_defaults(ty: TypeRef, value: &mut Value) {
    match (ty.shape(), value) {
        (Shape::List { item, .. }, Value::Array(items)) if has_members(item) => {
            for value in items {
                apply_defaults(item, value);
            }
        }
        (Shape::Map { value: member, .. }, Value::Object(map)) if has_members(member) => {
            for (_, value) in map.iter_mut() {
                apply_defaults(member, value);
            }
        }
        (Shape::Struct { .. }, Value::Object(map)) => {
            for field in ty.fields().filter(|field| field.leads_to_defaults()) {
                if let Some(text) = field.default()
                    && map.get(field.name()).is_none_or(|value| is_unset(field, value))
                {
                    let default = json::parse(text.as_bytes()).expect("markers hold JSON; checked by a test");
                    map.insert(field.name(), default);
                }
                if has_members(field.ty())
                    && let Some(value) = map.get_mut(field.name())
                {
                    apply_defaults(field.ty(), value);
                }
            }
        }
        _ => {}
    }
}

fn is_unset(field: Field, value: &Value) -> bool {
    match value {
        Value::Null => true,
        _ if field.pointer() => false,
        Value::Bool(flag) => !flag,
        Value::Int(number) => *number == 0,
        Value::String(text) => text.is_empty(),
        _ => false,
    }
}

/// Appends compact JSON: the fields of structs in Go's order, everything else sorted.
pub fn write_json(ty: Option<TypeRef>, value: &Value, out: &mut Vec<u8>) {
    match ty {
        Some(ty) => write_typed(ty, value, &mut Vec::new(), out),
        None => json::write(value, out),
    }
}

/// A member of a struct that is being written.
type Member<'a> = (Option<Field>, &'a str, &'a Value);

/// `open` holds the members still to be written of all structs around: one allocation for all.
fn write_typed<'a>(ty: TypeRef, value: &'a Value, open: &mut Vec<Member<'a>>, out: &mut Vec<u8>) {
    match (ty.shape(), value) {
        (Shape::List { item, .. }, Value::Array(items)) if has_members(item) => {
            out.push(b'[');
            for (i, value) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                write_typed(item, value, open, out);
            }
            out.push(b']');
        }
        (Shape::Map { value: member, .. }, Value::Object(map)) if has_members(member) => {
            out.push(b'{');
            for (i, (key, value)) in map.iter().enumerate() {
                write_name(i, key, out);
                write_typed(member, value, open, out);
            }
            out.push(b'}');
        }
        (Shape::Struct { .. }, Value::Object(map)) => {
            let mine = open.len();
            open.extend(
                map.iter()
                    .map(|(name, value)| (ty.field(name), name.as_str(), value)),
            );
            // A normalised object has known members only; others come last.
            open[mine..].sort_by_key(|(field, _, _)| field.map_or(usize::MAX, Field::position));
            out.push(b'{');
            for i in 0..open.len() - mine {
                let (field, name, value) = open[mine + i];
                write_name(i, name, out);
                match field {
                    Some(field) => write_typed(field.ty(), value, open, out),
                    None => json::write(value, out),
                }
            }
            out.push(b'}');
            open.truncate(mine);
        }
        _ => json::write(value, out),
    }
}

fn write_name(i: usize, name: &str, out: &mut Vec<u8>) {
    if i > 0 {
        out.push(b',');
    }
    json::write_string(name, out);
    out.push(b':');
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;
    use crate::type_of_kind;

    fn pod() -> TypeRef {
        type_of_kind("", "v1", "Pod").unwrap()
    }

    #[test]
    fn unknown_fields_are_told_with_their_paths() {
        let tree = value!({
            "metadata": {"labels": {"anything": "x"}, "bogus": 1},
            "spec": {"foo": {}, "containers": [{"name": "c", "futureField": 1}]},
        });
        assert_eq!(
            unknown_fields(pod(), &tree),
            ["metadata.bogus", "spec.containers[0].futureField", "spec.foo"]
        );
    }

    #[test]
    fn marker_defaults_fill_what_is_unset() {
        let mut tree =
            value!({"spec": {"containers": [{"ports": [{"containerPort": 1}, {"protocol": "UDP"}]}]}});
        apply_defaults(pod(), &mut tree);
        assert_eq!(
            tree.to_string(),
            r#"{"spec":{"containers":[{"ports":[{"containerPort":1,"protocol":"TCP"},{"protocol":"UDP"}]}]}}"#
        );
    }

    #[test]
    fn every_marker_default_is_json() {
        for field in TypeRef::all().flat_map(TypeRef::fields) {
            if let Some(text) = field.default() {
                assert!(json::parse(text.as_bytes()).is_ok(), "{field:?}: {text}");
            }
        }
    }

    #[test]
    fn structs_are_written_in_gos_order() {
        let tree = value!({"metadata": {"uid": "u", "name": "n"}, "kind": "Pod", "apiVersion": "v1", "x": 1});
        let mut out = Vec::new();
        write_json(Some(pod()), &tree, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"n","uid":"u"},"x":1}"#
        );
    }
}
