//! ConfigMaps and Secrets.

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::{Strategy, fill};

pub(crate) const CONFIG_MAP: Strategy = Strategy::GENERIC;

pub(crate) const SECRET: Strategy = Strategy {
    default: |secret| fill::text(secret, "type", "Opaque"),
    field_names: &["type"],
    fields: secret_fields,
    ..Strategy::GENERIC
};

fn secret_fields(secret: &Value) -> Box<[(&'static str, CompactString)]> {
    let kind = secret.str_at(&["type"]).unwrap_or_default();
    Box::new([("type", kind.into())])
}
