//! Endpoints, the older form of endpoint slices.

use cloudeck_machinery::Value;

use super::{row, validate};
use crate::{Strategy, fill};

pub(crate) const ENDPOINTS: Strategy = Strategy {
    default: defaults,
    validate_create: validate::endpoints,
    validate_update: validate::endpoints_update,
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
