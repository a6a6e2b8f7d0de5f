//! Zero values: what an absent field decodes to, and which fields Go's encoder leaves out.

use cloudeck_machinery::{Map, Value};

use crate::types::{Field, Scalar, Shape, TypeRef};

/// What the zero value of a type encodes to.
pub(super) fn zero(ty: TypeRef) -> Value {
    match ty.shape() {
        Shape::Scalar(Scalar::String) => Value::from(""),
        Shape::Scalar(Scalar::Bool) => Value::Bool(false),
        Shape::Scalar(Scalar::Int32 | Scalar::Int64 | Scalar::Float | Scalar::IntOrString) => Value::Int(0),
        Shape::Scalar(Scalar::Quantity) => Value::from("0"),
        Shape::Scalar(Scalar::Duration) => Value::from("0s"),
        Shape::Scalar(Scalar::Bytes | Scalar::Time | Scalar::MicroTime)
        | Shape::List { .. }
        | Shape::Map { .. }
        | Shape::Any => Value::Null,
        Shape::Struct { .. } => {
            let members: Map = ty
                .fields()
                .filter(|field| appears_when_absent(*field))
                .map(|field| (field.name(), zero_of(field)))
                .collect();
            Value::Object(members)
        }
    }
}

pub(super) fn zero_of(field: Field) -> Value {
    if field.pointer() {
        Value::Null
    } else {
        zero(field.ty())
    }
}

/// Whether the encoder writes a field that was never set.
pub(super) fn appears_when_absent(field: Field) -> bool {
    if field.omits_zero() {
        return false;
    }
    !field.omits_empty() || (!field.pointer() && is_struct(field.ty()))
}

/// Whether the encoder leaves out a field of this normalised value.
pub(super) fn is_omitted(field: Field, value: &Value) -> bool {
    if field.pointer() {
        return value.is_null() && (field.omits_empty() || field.omits_zero());
    }
    (field.omits_empty() && is_empty(field.ty(), value)) || (field.omits_zero() && is_zero(field.ty(), value))
}

/// Structs in Go, whatever their JSON form: `omitempty` never leaves them out.
fn is_struct(ty: TypeRef) -> bool {
    match ty.shape() {
        Shape::Struct { .. } | Shape::Any => true,
        Shape::Scalar(scalar) => matches!(
            scalar,
            Scalar::Quantity | Scalar::IntOrString | Scalar::Time | Scalar::MicroTime | Scalar::Duration
        ),
        Shape::List { .. } | Shape::Map { .. } => false,
    }
}

fn is_empty(ty: TypeRef, value: &Value) -> bool {
    !is_struct(ty)
        && match value {
            Value::Null | Value::Bool(false) | Value::Int(0) => true,
            Value::Float(number) => *number == 0.0,
            Value::String(text) => text.is_empty(),
            Value::Array(items) => items.is_empty(),
            Value::Object(map) => map.is_empty(),
            Value::Bool(true) | Value::Int(_) => false,
        }
}

fn is_zero(ty: TypeRef, value: &Value) -> bool {
    *value == zero(ty)
}
