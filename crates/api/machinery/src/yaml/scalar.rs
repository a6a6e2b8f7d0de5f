//! What a scalar's text means.

use base64::Engine as _;
use saphyr_parser::Tag;

use super::YamlError;
use crate::value::Value;

/// The value of a scalar; `plain` when it stands without quotes.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&Tag>) -> Result<Value, YamlError> {
    let Some(tag) = tag else {
        return if plain {
            finite(plain_value(text))
        } else {
            Ok(Value::from(text))
        };
    };
    if !tag.is_yaml_core_schema() {
        return Ok(Value::from(text));
    }
    let value = match tag.suffix.as_str() {
        "binary" => {
            let data = base64::engine::general_purpose::STANDARD
                .decode(text.split_ascii_whitespace().collect::<String>())
                .map_err(|_| YamlError::Content("!!binary value contains invalid base64 data".into()))?;
            return Ok(Value::String(String::from_utf8_lossy(&data).into_owned().into()));
        }
        "int" | "float" | "bool" | "null" => plain_value(text),
        _ => return Ok(Value::from(text)),
    };
    let fits = match tag.suffix.as_str() {
        "int" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Int(_) | Value::Float(_)),
        "bool" => matches!(value, Value::Bool(_)),
        _ => value.is_null(),
    };
    if fits {
        finite(value)
    } else {
        let found = if value.as_str().is_some() {
            "str"
        } else {
            value.type_name()
        };
        let wanted = &tag.suffix;
        Err(YamlError::Content(format!(
            "cannot decode !!{found} `{text}` as a !!{wanted}"
        )))
    }
}

fn finite(value: Value) -> Result<Value, YamlError> {
    match value {
        Value::Float(number) if !number.is_finite() => {
            Err(YamlError::Content(format!("json: unsupported value: {number}")))
        }
        // Upstream writes the float as JSON and reads it again.
        Value::Float(number) if number.fract() == 0.0 && number.abs() < i64::MAX as f64 => {
            Ok(Value::Int(number as i64))
        }
        value => Ok(value),
    }
}

/// By YAML 1.1 as upstream's library has it. Infinities and NaN stay floats here.
pub(super) fn plain_value(text: &str) -> Value {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            return Value::Bool(true);
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            return Value::Bool(false);
        }
        ".nan" | ".NaN" | ".NAN" => return Value::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Value::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Value::Float(f64::NEG_INFINITY),
        _ => {}
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    };
    number.unwrap_or_else(|| Value::from(text))
}

/// Go's `ParseInt` with base 0; what only fits an unsigned integer becomes a float, as JSON's reader makes it.
fn integer(text: &str) -> Option<Value> {
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let prefix = digits.get(..2).unwrap_or_default().to_ascii_lowercase();
    let (radix, digits) = match prefix.as_str() {
        "0x" => (16, &digits[2..]),
        "0o" => (8, &digits[2..]),
        "0b" => (2, &digits[2..]),
        _ if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        _ => (10, digits),
    };
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let size = i128::from(u64::from_str_radix(digits, radix).ok()?);
    let number = if negative { -size } else { size };
    match i64::try_from(number) {
        Ok(number) => Some(Value::Int(number)),
        Err(_) if negative || text.starts_with('+') => None,
        Err(_) => Some(Value::Float(number as f64)),
    }
}

/// Decimal floats: `1.5`, `.5`, `1.`, `1e3`.
fn float(text: &str) -> Option<Value> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let mantissa_fits = match mantissa.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(mantissa),
    };
    let exponent_fits =
        exponent.is_none_or(|exponent| digits(exponent.strip_prefix(['+', '-']).unwrap_or(exponent)));
    let number: f64 = text.parse().ok().filter(|_| mantissa_fits && exponent_fits)?;
    // Too large for a float: a text, as Go's range error makes it.
    number.is_finite().then_some(Value::Float(number))
}
