//! Endpoints, the older form of endpoint slices.

use cloudeck_machinery::{Value, names};

use super::{row, validate};
use crate::{Strategy, fill};

pub(crate) const ENDPOINTS: Strategy = Strategy {
    default: defaults,
    validate_create: validate::endpoints,
    validate_update: validate::endpoints_update,
    warnings,
    columns: row::ENDPOINTS,
    row: row::endpoints,
    ..Strategy::GENERIC
};

fn defaults(endpoints: &mut Value) {
    for subset in fill::each(endpoints, "subsets") {
        for port in fill::each(subset, "ports") {
            fill::text(port, "protocol", "TCP");
        }
    }
}

fn warnings(endpoints: &Value, _old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    for (i, subset) in endpoints.items_at(&["subsets"]).iter().enumerate() {
        for kind in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.items_at(&[kind]).iter().enumerate() {
                let ip = address.str_at(&["ip"]).unwrap_or_default();
                found.extend(names::ip_warnings(&format!("subsets[{i}].{kind}[{j}].ip"), ip));
            }
        }
    }
    found
}
