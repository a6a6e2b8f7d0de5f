//! Validation of ConfigMaps and Secrets.

use cloudeck_machinery::{Cause, Value, json, names};

use crate::check::{At, Faults, entries, flag, present, text};

/// All values of an object together.
const MOST_BYTES: usize = 1024 * 1024;
const FROZEN: &str = "field is immutable when `immutable` is set";
const DATA: At<'static> = At::root("data");

pub(super) fn config_map(map: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    config_map_rules(map, &mut faults);
    faults.into_causes()
}

pub(super) fn config_map_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    frozen(new, old, &["data", "binaryData"], &mut faults);
    config_map_rules(new, &mut faults);
    faults.into_causes()
}

fn frozen(new: &Value, old: &Value, fields: &[&'static str], faults: &mut Faults) {
    if !flag(old, "immutable") {
        return;
    }
    if !flag(new, "immutable") {
        faults.forbidden(&At::root("immutable"), FROZEN);
    }
    for field in fields {
        if present(new, field) != present(old, field) {
            faults.forbidden(&At::root(field), FROZEN);
        }
    }
}

fn config_map_rules(map: &Value, faults: &mut Faults) {
    let binary_at = At::root("binaryData");
    let mut size = 0;
    for (key, value) in entries(map, "data") {
        faults.all_invalid(&DATA.key(key), key, names::config_map_key(key));
        if map.at(&["binaryData", key]).is_some() {
            faults.invalid(&DATA.key(key), key, "duplicate of key present in binaryData");
        }
        size += value.as_str().unwrap_or_default().len();
    }
    for (key, value) in entries(map, "binaryData") {
        faults.all_invalid(&binary_at.key(key), key, names::config_map_key(key));
        size += decoded_len(value);
    }
    if size > MOST_BYTES {
        faults.too_long(&At::root(""), MOST_BYTES);
    }
}

/// How many bytes a base64 text stands for.
fn decoded_len(value: &Value) -> usize {
    let text = value.as_str().unwrap_or_default();
    let padding = text.bytes().rev().take_while(|b| *b == b'=').count();
    (text.len() / 4 * 3).saturating_sub(padding)
}

pub(super) fn secret(secret: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    secret_rules(secret, &mut faults);
    faults.into_causes()
}

pub(super) fn secret_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut faults = Faults::default();
    faults.immutable(&At::root("type"), new.get("type"), old.get("type"));
    frozen(new, old, &["data"], &mut faults);
    secret_rules(new, &mut faults);
    faults.into_causes()
}

fn secret_rules(secret: &Value, faults: &mut Faults) {
    let mut size = 0;
    for (key, value) in entries(secret, "data") {
        faults.all_invalid(&DATA.key(key), key, names::config_map_key(key));
        size += decoded_len(value);
    }
    if size > MOST_BYTES {
        faults.too_long(&DATA, MOST_BYTES);
    }
    let value = |key: &str| secret.str_at(&["data", key]);
    let mut required = |keys: &[&'static str]| {
        for key in keys {
            faults.required(&DATA.key(key), "");
        }
    };
    match text(secret, "type") {
        "kubernetes.io/service-account-token" => account_token(secret, faults),
        "kubernetes.io/dockercfg" => json_value(secret, ".dockercfg", faults),
        "kubernetes.io/dockerconfigjson" => json_value(secret, ".dockerconfigjson", faults),
        "kubernetes.io/basic-auth" if value("username").is_none() && value("password").is_none() => {
            required(&["username", "password"]);
        }
        "kubernetes.io/ssh-auth" if value("ssh-privatekey").is_none_or(str::is_empty) => {
            required(&["ssh-privatekey"]);
        }
        "kubernetes.io/tls" => {
            for key in ["tls.crt", "tls.key"] {
                if value(key).is_none() {
                    required(&[key]);
                }
            }
        }
        _ => {}
    }
}

fn account_token(secret: &Value, faults: &mut Faults) {
    const NAME: &str = "kubernetes.io/service-account.name";
    let name = secret.str_at(&["metadata", "annotations", NAME]);
    if name.is_none_or(str::is_empty) {
        let metadata = At::root("metadata");
        let annotations = metadata.field("annotations");
        faults.required(&annotations.key(NAME), "");
    }
}

/// The value of a key must be a JSON object.
fn json_value(secret: &Value, key: &str, faults: &mut Faults) {
    let Some(encoded) = secret.str_at(&["data", key]) else {
        return faults.required(&DATA.key(key), "");
    };
    let bytes = decode(encoded);
    if bytes.is_empty() {
        let why = "unexpected end of JSON input";
        return faults.invalid(&DATA.key(key), "<secret contents redacted>", why);
    }
    let why = match json::parse(&bytes) {
        Ok(Value::Object(_) | Value::Null) => return,
        Ok(other) => {
            let kind = other.type_name();
            format!("json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}")
        }
        Err(error) => error.to_string(),
    };
    faults.invalid(&DATA.key(key), "<secret contents redacted>", &why);
}

/// Base64 that the schema found sound.
fn decode(text: &str) -> Vec<u8> {
    let value = |b: u8| match b {
        b'A'..=b'Z' => Some(b - b'A'),
        b'a'..=b'z' => Some(b - b'a' + 26),
        b'0'..=b'9' => Some(b - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut out, mut bits, mut held) = (Vec::with_capacity(text.len()), 0_u32, 0);
    for digit in text.bytes().filter_map(value) {
        bits = bits << 6 | u32::from(digit);
        held += 6;
        if held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    out
}

#[cfg(test)]
mod tests;
