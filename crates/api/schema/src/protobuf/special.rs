//! Types with message forms of their own: quantities, times, untyped JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cloudeck_machinery::time::duration;
use cloudeck_machinery::{MicroTime, Time, Value, json};

use super::wire::{Content, Reader};
use super::{DecodeError, envelope, message};
use crate::types::{Scalar, TypeRef};

/// What an envelope inside a message counts for: upstream nests one or two, and each takes much stack.
const ENVELOPE_DEPTH: usize = 20;

pub(super) fn scalar(scalar: Scalar, content: Content<'_>, name: &'static str) -> Result<Value, DecodeError> {
    Ok(match scalar {
        Scalar::String => content.text(name)?.into(),
        Scalar::Bool => Value::Bool(content.number(name)? != 0),
        // Negative numbers are sign-extended to 64 bits.
        Scalar::Int32 => Value::Int((content.number(name)? as i32).into()),
        Scalar::Int64 => Value::Int(content.number(name)? as i64),
        Scalar::Float => match content {
            Content::Fixed(bits) => float(f64::from_bits(bits)),
            _ => return Err(DecodeError::WrongWireType(name)),
        },
        Scalar::Bytes => BASE64.encode(content.bytes(name)?).into(),
        Scalar::Quantity => quantity(content.bytes(name)?, name)?,
        Scalar::IntOrString => int_or_string(content.bytes(name)?, name)?,
        Scalar::Time => match timestamp(content.bytes(name)?, name)? {
            Some((seconds, _)) => Time::from_unix(seconds).to_string().into(),
            None => Value::Null,
        },
        Scalar::MicroTime => match timestamp(content.bytes(name)?, name)? {
            Some((seconds, nanos)) => {
                let micros = seconds.saturating_mul(1_000_000).saturating_add(nanos / 1000);
                MicroTime::from_unix_micros(micros).to_string().into()
            }
            None => Value::Null,
        },
        Scalar::Duration => {
            let (nanos, _) = two_numbers(content.bytes(name)?, name)?;
            duration::format_go(nanos).into()
        }
    })
}

/// Whole numbers are printed without a fraction, as Go does.
fn float(number: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() < EXACT {
        Value::Int(number as i64)
    } else {
        Value::Float(number)
    }
}

fn quantity(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    let mut text = "0";
    for part in Reader::new(bytes) {
        if let (1, content) = part? {
            text = content.text(name)?;
        }
    }
    Ok(text.into())
}

fn int_or_string(bytes: &[u8], name: &'static str) -> Result<Value, DecodeError> {
    let (mut is_text, mut number, mut text) = (false, 0_i32, "");
    for part in Reader::new(bytes) {
        match part? {
            (1, content) => is_text = content.number(name)? == 1,
            (2, content) => number = content.number(name)? as i32,
            (3, content) => text = content.text(name)?,
            _ => {}
        }
    }
    Ok(if is_text { text.into() } else { number.into() })
}

/// Seconds and nanoseconds; an empty message is Go's zero time.
fn timestamp(bytes: &[u8], name: &'static str) -> Result<Option<(i64, i64)>, DecodeError> {
    if bytes.is_empty() {
        Ok(None)
    } else {
        two_numbers(bytes, name).map(Some)
    }
}

fn two_numbers(bytes: &[u8], name: &'static str) -> Result<(i64, i64), DecodeError> {
    let mut numbers = (0, 0);
    for part in Reader::new(bytes) {
        match part? {
            (1, content) => numbers.0 = content.number(name)? as i64,
            (2, content) => numbers.1 = content.number(name)? as i64,
            _ => {}
        }
    }
    Ok(numbers)
}

/// `RawExtension`, `FieldsV1` and `JSON` wrap bytes; three types of JSON schemas are a schema or something simple.
pub(super) fn untyped(ty: TypeRef, bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    let Some(alternative) = ty.name().strip_prefix(schema) else {
        return raw(bytes, depth);
    };
    let schema = TypeRef::by_name(schema).expect("the type is in the table");
    let mut found = Value::Null;
    let mut list = Vec::new();
    for part in Reader::new(bytes) {
        match (alternative, part?) {
            ("OrBool", (1, content)) if found.is_null() => {
                found = Value::Bool(content.number("allows")? != 0);
            }
            ("OrBool", (2, content)) | ("OrArray" | "OrStringArray", (1, content)) => {
                found = message(schema, content.bytes("schema")?, depth + 1)?;
            }
            ("OrArray", (2, content)) => {
                list.push(message(schema, content.bytes("jSONSchemas")?, depth + 1)?);
            }
            ("OrStringArray", (2, content)) => list.push(content.text("property")?.into()),
            _ => {}
        }
    }
    Ok(if list.is_empty() {
        found
    } else {
        Value::Array(list)
    })
}

/// Bytes in field 1: JSON, or an object in an envelope of its own.
fn raw(bytes: &[u8], depth: usize) -> Result<Value, DecodeError> {
    let mut raw: &[u8] = &[];
    for part in Reader::new(bytes) {
        if let (1, content) = part? {
            raw = content.bytes("raw")?;
        }
    }
    if raw.is_empty() {
        Ok(Value::Null)
    } else if raw.starts_with(super::MAGIC) {
        envelope(raw, depth + ENVELOPE_DEPTH).map(|(_, value)| value)
    } else {
        json::parse_within(raw, super::MAX_DEPTH.saturating_sub(depth)).map_err(DecodeError::Json)
    }
}
