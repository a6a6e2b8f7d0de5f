//! ConfigMaps and Secrets.

mod validate;

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
    default: |secret| fill::text(secret, "type", "Opaque"),
    field_names: &["type"],
    fields: secret_fields,
    validate_create: validate::secret,
    validate_update: validate::secret_update,
    columns: SECRET_COLUMNS,
    row: secret_row,
    ..Strategy::GENERIC
};

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
