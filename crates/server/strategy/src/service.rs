//! Services.

mod defaults;
pub(crate) mod row;
mod validate;
mod warnings;

use cloudeck_machinery::Value;
use compact_str::CompactString;

use crate::Strategy;

pub(crate) const SERVICE: Strategy = Strategy {
    default: defaults::service,
    prepare_update: defaults::drop_unneeded,
    validate_create: validate::create,
    validate_update: validate::update,
    validate_status_update: validate::status_update,
    warnings: warnings::service,
    field_names: &["spec.clusterIP", "spec.type"],
    fields,
    columns: row::COLUMNS,
    row: row::cells,
    ..Strategy::GENERIC
};

fn fields(service: &Value) -> Box<[(&'static str, CompactString)]> {
    let text = |key| CompactString::from(service.str_at(&["spec", key]).unwrap_or_default());
    Box::new([("spec.clusterIP", text("clusterIP")), ("spec.type", text("type"))])
}

/// The service's type, `ClusterIP` when it names none.
pub(crate) fn kind_of(service: &Value) -> &str {
    service
        .str_at(&["spec", "type"])
        .filter(|kind| !kind.is_empty())
        .unwrap_or("ClusterIP")
}

/// Whether clients outside the cluster can reach it.
pub(crate) fn externally_accessible(service: &Value) -> bool {
    match kind_of(service) {
        "LoadBalancer" | "NodePort" => true,
        "ClusterIP" => !service.items_at(&["spec", "externalIPs"]).is_empty(),
        _ => false,
    }
}
