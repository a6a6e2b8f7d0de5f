//! Go's decode and encode over the value tree: what upstream's structs would make of a written object.
//!
//! Quantities become canonical, times are cut to seconds, base64 is checked and integers are range-checked; unknown
//! fields go; null and empty stay or go, and absent fields appear, as `omitempty`, `omitzero` and pointers decide.

mod zero;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use cloudeck_machinery::time::duration;
use cloudeck_machinery::{Map, MicroTime, Time, Value, quantity};

use crate::types::{Field, Scalar, Shape, TypeRef};
use zero::{appears_when_absent, is_omitted, zero, zero_of};

/// What Go's decoder says of a value of the wrong type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TypeError(String);

/// Rewrites `value`, an object of type `ty`, into the form that upstream would store.
///
/// # Errors
/// Every value that Go could not decode, in upstream's words; the tree is then half-way rewritten and of no use.
pub fn normalise(ty: TypeRef, value: &mut Value) -> Result<(), Vec<TypeError>> {
    let mut walk = Walk {
        errors: Vec::new(),
        path: Vec::new(),
        inside: None,
    };
    walk.nullable(ty, value);
    if walk.errors.is_empty() {
        Ok(())
    } else {
        Err(walk.errors)
    }
}

/// Go's base64: padded, line breaks ignored, unused bits of the last symbol not looked at.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

struct Walk {
    errors: Vec<TypeError>,
    /// Names of the fields down to here; Go's errors leave indices and keys out.
    path: Vec<&'static str>,
    /// The innermost struct.
    inside: Option<TypeRef>,
}

impl Walk {
    /// A value that may be null where it stands: a member of a list or map, or the whole.
    fn nullable(&mut self, ty: TypeRef, value: &mut Value) {
        if value.is_null() {
            *value = zero(ty);
        } else {
            self.present(ty, value);
        }
    }

    fn present(&mut self, ty: TypeRef, value: &mut Value) {
        match ty.shape() {
            Shape::Scalar(scalar) => self.scalar(ty, scalar, value),
            Shape::Any => {}
            Shape::List { item, .. } => match value {
                Value::Array(items) => items.iter_mut().for_each(|value| self.nullable(item, value)),
                other => self.mismatch(ty, other),
            },
            Shape::Map { value: member, .. } => match value {
                Value::Object(map) => map.iter_mut().for_each(|(_, value)| self.nullable(member, value)),
                other => self.mismatch(ty, other),
            },
            Shape::Struct { .. } => match value {
                Value::Object(map) => self.structure(ty, map),
                other => self.mismatch(ty, other),
            },
        }
    }

    fn structure(&mut self, ty: TypeRef, map: &mut Map) {
        let outside = self.inside.replace(ty);
        map.retain(|name, value| {
            let Some(field) = ty.field(name) else {
                return false;
            };
            self.path.push(field.name());
            let keep = self.field(field, value);
            self.path.pop();
            keep
        });
        for field in ty.fields() {
            if appears_when_absent(field) && !map.contains_key(field.name()) {
                map.insert(field.name(), zero_of(field));
            }
        }
        self.inside = outside;
    }

    /// Returns whether the field stays.
    fn field(&mut self, field: Field, value: &mut Value) -> bool {
        if value.is_null() {
            *value = zero_of(field);
        } else {
            self.present(field.ty(), value);
        }
        !is_omitted(field, value)
    }

    fn scalar(&mut self, ty: TypeRef, scalar: Scalar, value: &mut Value) {
        let rewritten = match (scalar, &*value) {
            (Scalar::String, Value::String(_))
            | (Scalar::Bool, Value::Bool(_))
            | (Scalar::Int64 | Scalar::Float, Value::Int(_))
            | (Scalar::Float, Value::Float(_)) => return,
            (Scalar::Int32, Value::Int(number)) if i32::try_from(*number).is_ok() => return,
            (Scalar::Quantity, given) => rewrite_quantity(given),
            (Scalar::IntOrString, given) => return self.int_or_string(given),
            (Scalar::Bytes, Value::String(text)) => rewrite_base64(text),
            (Scalar::Time, Value::String(text)) => Time::parse(text)
                .map(|time| {
                    if time.is_zero() {
                        Value::Null
                    } else {
                        time.to_string().into()
                    }
                })
                .map_err(|error| error.to_string()),
            (Scalar::MicroTime, Value::String(text)) => MicroTime::parse(text)
                .map(|time| {
                    if time.is_zero() {
                        Value::Null
                    } else {
                        time.to_string().into()
                    }
                })
                .map_err(|error| error.to_string()),
            (Scalar::Duration, Value::String(text)) => duration::parse_go(text)
                .map(|nanos| duration::format_go(nanos).into())
                .map_err(|error| error.to_string()),
            // These decode their text on their own, without knowing where they stand.
            (Scalar::Time | Scalar::MicroTime | Scalar::Duration, other) => Err(format!(
                "json: cannot unmarshal {} into Go value of type string",
                described(other, Scalar::String)
            )),
            (_, other) => {
                let other = other.clone();
                return self.mismatch(ty, &other);
            }
        };
        match rewritten {
            Ok(new) => *value = new,
            Err(message) => self.errors.push(TypeError(message)),
        }
    }

    fn int_or_string(&mut self, value: &Value) {
        let fits = match value {
            Value::String(_) => true,
            Value::Int(number) => i32::try_from(*number).is_ok(),
            _ => false,
        };
        if !fits {
            let message = format!(
                "json: cannot unmarshal {} into Go value of type int32",
                described(value, Scalar::Int32)
            );
            self.errors.push(TypeError(message));
        }
    }

    fn mismatch(&mut self, ty: TypeRef, value: &Value) {
        let scalar = if let Shape::Scalar(scalar) = ty.shape() {
            scalar
        } else {
            Scalar::String
        };
        let found = described(value, scalar);
        let wanted = go_type(ty);
        let message = match self.inside {
            Some(structure) => {
                let name = last_segment(structure.name());
                let path = self.path.join(".");
                format!("json: cannot unmarshal {found} into Go struct field {name}.{path} of type {wanted}")
            }
            None => format!("json: cannot unmarshal {found} into Go value of type {wanted}"),
        };
        self.errors.push(TypeError(message));
    }
}

/// The kind of a value; numbers that do not fit into an integer are shown.
fn described(value: &Value, wanted: Scalar) -> String {
    match value {
        Value::Int(_) | Value::Float(_) if matches!(wanted, Scalar::Int32 | Scalar::Int64) => {
            format!("number {value}")
        }
        other => other.type_name().to_owned(),
    }
}

/// A type as Go's reflection prints it.
pub(crate) fn go_type(ty: TypeRef) -> String {
    if !ty.name().is_empty() {
        let mut segments = ty.name().rsplit('.');
        let name = segments.next().unwrap_or_default();
        let package = segments.next().unwrap_or_default();
        return format!("{package}.{name}");
    }
    match ty.shape() {
        Shape::Scalar(Scalar::String) => "string".to_owned(),
        Shape::Scalar(Scalar::Bool) => "bool".to_owned(),
        Shape::Scalar(Scalar::Int32) => "int32".to_owned(),
        Shape::Scalar(Scalar::Int64) => "int64".to_owned(),
        Shape::Scalar(Scalar::Float) => "float64".to_owned(),
        Shape::Scalar(Scalar::Bytes) => "[]uint8".to_owned(),
        Shape::List { item, .. } => format!("[]{}", go_type(item)),
        Shape::Map { value, .. } => format!("map[string]{}", go_type(value)),
        _ => "interface {}".to_owned(),
    }
}

fn last_segment(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

fn rewrite_quantity(value: &Value) -> Result<Value, String> {
    let text = match value {
        Value::String(text) => text.trim().into(),
        other => compact_str::format_compact!("{other}"),
    };
    quantity::canonical(&text)
        .map(Value::from)
        .map_err(|error| error.to_string())
}

fn rewrite_base64(text: &str) -> Result<Value, String> {
    let joined: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match BASE64.decode(&joined) {
        Ok(bytes) => Ok(BASE64.encode(bytes).into()),
        Err(error) => {
            let at = match error {
                base64::DecodeError::InvalidByte(at, _) | base64::DecodeError::InvalidLastSymbol(at, _) => at,
                base64::DecodeError::InvalidLength(_) | base64::DecodeError::InvalidPadding => joined.len(),
            };
            Err(format!("illegal base64 data at input byte {at}"))
        }
    }
}

#[cfg(test)]
mod tests;
