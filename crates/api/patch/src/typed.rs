//! What the parts of a tree mean to a merge: which maps and lists are one value, which are merged item by item, and by what
//! key. From the schema for known types; deduced for others (maps merge, lists are one value).
//!
//! Source: `structured-merge-diff/typed`.

mod compare;
mod field_set;
mod merge;
mod remove;
mod validate;

pub(crate) use compare::{compare, same};
pub(crate) use field_set::{field_set, with_named_fields};
pub(crate) use merge::merge;
pub(crate) use remove::remove;
pub(crate) use validate::validate;

use cloudeck_machinery::{Key, Map, Value, json};
use cloudeck_schema::{ListKeys, ListKind, Omit, Scalar, Shape, TypeRef};

/// The type of a part of a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Type {
    Known(TypeRef),
    /// No schema: what the value looks like decides.
    Deduced,
}

/// How a value is merged.
pub(crate) enum Form {
    /// As one value: a scalar, or an atomic map or list.
    Leaf,
    /// Member by member.
    Map,
    List(Items),
    /// Deduced, and the value is null or absent: whatever the other side is.
    Open,
}

/// A list merged item by item.
pub(crate) struct Items {
    pub(crate) item: Type,
    keys: ItemKeys,
}

enum ItemKeys {
    /// Items are scalars and their own keys.
    Value,
    /// Names in order, with the JSON text that stands in for an absent one.
    Fields(Vec<(&'static str, Option<&'static str>)>),
}

impl Type {
    pub(crate) fn of(ty: Option<TypeRef>) -> Self {
        ty.map_or(Self::Deduced, Self::Known)
    }

    pub(crate) fn form(self, value: Option<&Value>) -> Form {
        self.declared_form().unwrap_or(match value {
            None | Some(Value::Null) => Form::Open,
            Some(Value::Object(_)) => Form::Map,
            Some(_) => Form::Leaf,
        })
    }

    /// What the schema says, whatever the value.
    pub(crate) fn declared_form(self) -> Option<Form> {
        Some(match self.shape()? {
            Shape::Scalar(_)
            | Shape::List {
                kind: ListKind::Atomic,
                ..
            }
            | Shape::Struct { atomic: true }
            | Shape::Map { atomic: true, .. } => Form::Leaf,
            Shape::Struct { .. } | Shape::Map { .. } => Form::Map,
            Shape::List {
                item,
                kind: ListKind::Set,
            } => Form::List(Items {
                item: Self::Known(item),
                keys: ItemKeys::Value,
            }),
            Shape::List {
                item,
                kind: ListKind::Map(keys),
            } => Form::List(Items {
                item: Self::Known(item),
                keys: ItemKeys::Fields(key_fields(item, keys)),
            }),
            Shape::Any => return None,
        })
    }

    fn shape(self) -> Option<Shape> {
        match self {
            Self::Known(ty) => Some(ty.shape()),
            Self::Deduced => None,
        }
    }

    /// The type of a member of a map or struct.
    pub(crate) fn member(self, name: &str) -> Self {
        match self {
            Self::Known(ty) => match ty.shape() {
                Shape::Map { value, .. } => Self::Known(value),
                Shape::Struct { .. } => ty
                    .field(name)
                    .map_or(Self::Deduced, |field| Self::Known(field.ty())),
                _ => Self::Deduced,
            },
            Self::Deduced => Self::Deduced,
        }
    }

    /// Whether `name` is a declared field of a struct, not a key of a map.
    pub(crate) fn declares(self, name: &str) -> bool {
        matches!(self, Self::Known(ty) if matches!(ty.shape(), Shape::Struct { .. }) && ty.field(name).is_some())
    }
}

fn key_fields(item: TypeRef, keys: ListKeys) -> Vec<(&'static str, Option<&'static str>)> {
    let mut fields: Vec<_> = keys
        .iter()
        .map(|(name, default)| (name, default.or_else(|| zero_key(item, name))))
        .collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields
}

/// Upstream's schema gives every required scalar its zero as default.
fn zero_key(item: TypeRef, name: &str) -> Option<&'static str> {
    let field = item
        .field(name)
        .filter(|field| !field.pointer() && field.omit() == Omit::Never)?;
    match field.ty().shape() {
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float) => Some("0"),
        Shape::Scalar(Scalar::String) => Some("\"\""),
        _ => None,
    }
}

impl Items {
    /// The path element of an item.
    ///
    /// # Errors
    /// The item cannot have one; the text is upstream's.
    pub(crate) fn element(&self, item: &Value) -> Result<Key, String> {
        match &self.keys {
            ItemKeys::Value => value_element(item),
            ItemKeys::Fields(fields) => keyed_element(fields, item),
        }
    }
}

fn value_element(item: &Value) -> Result<Key, String> {
    let problem = match item {
        Value::Object(_) => "associative list without keys has an element that's a map type",
        Value::Array(_) => "not supported: associative list with lists as elements",
        Value::Null => "associative list without keys has an element that's an explicit null",
        _ => return Ok(text_element(b"v:", |out| json::write(item, out))),
    };
    Err(problem.to_owned())
}

fn keyed_element(fields: &[(&'static str, Option<&'static str>)], item: &Value) -> Result<Key, String> {
    let members = match item {
        Value::Object(members) => members,
        Value::Null => return Err("associative list with keys may not have a null element".to_owned()),
        _ => return Err("associative list with keys may not have non-map elements".to_owned()),
    };
    let mut found = false;
    let element = text_element(b"k:{", |out| {
        for (name, default) in fields {
            let value = members.get(name);
            if value.is_none() && default.is_none() {
                continue;
            }
            if found {
                out.push(b',');
            }
            found = true;
            json::write_string(name, out);
            out.push(b':');
            match (value, default) {
                (Some(value), _) => json::write(value, out),
                (None, default) => out.extend_from_slice(default.unwrap_or_default().as_bytes()),
            }
        }
        out.push(b'}');
    });
    if found {
        return Ok(element);
    }
    let names: Vec<String> = fields
        .iter()
        .map(|(name, _)| cloudeck_machinery::quote::quote(name))
        .collect();
    Err(format!(
        "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
        names.join(" ")
    ))
}

fn text_element(prefix: &[u8], write: impl FnOnce(&mut Vec<u8>)) -> Key {
    let mut text = Vec::with_capacity(48);
    text.extend_from_slice(prefix);
    write(&mut text);
    Key::from_utf8_lossy(&text)
}

/// What Go encodes for a type without any value: the object that a creation is compared with.
///
/// Fields that are always encoded are there, null or zero; so a created object's `spec` counts as filled, not as added.
pub(crate) fn zero_object(ty: TypeRef) -> Value {
    let fields = ty.fields().filter_map(|field| {
        let shape = field.ty().shape();
        let is_struct = matches!(shape, Shape::Struct { .. });
        let kept = match field.omit() {
            Omit::Never => true,
            Omit::Empty => is_struct && !field.pointer(),
            Omit::Zero => false,
        };
        kept.then(|| {
            (
                field.name(),
                if field.pointer() {
                    Value::Null
                } else {
                    zero_value(field.ty(), shape)
                },
            )
        })
    });
    Value::Object(fields.collect::<Map>())
}

fn zero_value(ty: TypeRef, shape: Shape) -> Value {
    match shape {
        Shape::Struct { .. } => zero_object(ty),
        Shape::Scalar(Scalar::String | Scalar::Duration) => Value::from(""),
        Shape::Scalar(Scalar::Bool) => Value::Bool(false),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::IntOrString) => Value::Int(0),
        Shape::Scalar(Scalar::Float) => Value::Float(0.0),
        Shape::Scalar(Scalar::Quantity) => Value::from("0"),
        _ => Value::Null,
    }
}
