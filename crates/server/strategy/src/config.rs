//! ConfigMaps and Secrets.

mod validate;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::table::{self, AGE, Column, NAME, TableRow, text};
use crate::{Strategy, fill};

pub(crate) const CONFIG_MAP: Strategy = Strategy {
    validate_create: validate::config_map,
    validate_update: validate::config_map_update,
    columns: CONFIG_MAP_COLUMNS,
    row: config_map_row,
    ..Strategy::GENERIC
};

pub(crate) const SECRET: Strategy = Strategy {
    default: |secret| {
        fold_texts(secret);
        fill::text(secret, "type", "Opaque");
    },
    field_names: &["type"],
    fields: secret_fields,
    validate_create: validate::secret,
    validate_update: validate::secret_update,
    columns: SECRET_COLUMNS,
    row: secret_row,
    ..Strategy::GENERIC
};

/// What is written as text stands in `data` from the first; where both name a key, the text holds.
///
/// Source: `pkg/apis/core/v1/conversion.go` (`Convert_v1_Secret_To_core_Secret`).
fn fold_texts(secret: &mut Value) {
    let Some(Value::Object(texts)) = secret.as_object_mut().and_then(|map| map.remove("stringData")) else {
        return;
    };
    if texts.iter().next().is_none() {
        return;
    }
    let Some(data) = fill::made(secret, "data").and_then(Value::as_object_mut) else {
        return;
    };
    for (key, text) in texts.iter() {
        if let Some(text) = text.as_str() {
            data.insert(&**key, Value::from(STANDARD.encode(text)));
        }
    }
}

fn secret_fields(secret: &Value) -> Box<[(&'static str, CompactString)]> {
    let kind = secret.str_at(&["type"]).unwrap_or_default();
    Box::new([("type", kind.into())])
}

const CONFIG_MAP_COLUMNS: &[Column] = &[NAME, text("Data", "The number of entries."), AGE];

const SECRET_COLUMNS: &[Column] = &[
    NAME,
    text("Type", "What the secret is for."),
    text("Data", "The number of entries."),
    AGE,
];

fn entries(object: &Value, key: &str) -> i64 {
    let map = object.get(key).and_then(Value::as_object);
    map.map_or(0, |map| map.len() as i64)
}

fn config_map_row(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    let count = entries(object, "data") + entries(object, "binaryData");
    vec![table::name(object), Value::from(count), table::age(object, row)]
}

fn secret_row(object: &Value, row: TableRow<'_>) -> Vec<Value> {
    vec![
        table::name(object),
        table::string(object, &["type"]),
        Value::from(entries(object, "data")),
        table::age(object, row),
    ]
}

#[cfg(test)]
mod tests {
    use cloudeck_machinery::value;

    use super::*;

    #[test]
    fn texts_of_a_secret_become_its_data() {
        let mut secret = value!({"data": {"a": "MQ==", "b": "MQ=="}, "stringData": {"b": "two", "c": ""}});
        (SECRET.default)(&mut secret);
        let wanted = value!({"data": {"a": "MQ==", "b": "dHdv", "c": ""}, "type": "Opaque"});
        assert_eq!(secret, wanted);
    }
}
