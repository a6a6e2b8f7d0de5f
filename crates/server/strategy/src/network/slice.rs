//! Endpoint slices.

use cloudeck_machinery::Value;

use super::{row, validate};
use crate::{Strategy, fill};

pub(crate) const ENDPOINT_SLICE: Strategy = Strategy {
    default: defaults,
    prepare_create: |slice| drop_topology(slice, None),
    prepare_update: |new, old| {
        drop_topology(new, Some(old));
        labels_raise_generation(new, old);
    },
    validate_create: validate::slice,
    validate_update: validate::slice_update,
    columns: row::SLICE,
    row: row::slice,
    ..Strategy::GENERIC
};

fn defaults(slice: &mut Value) {
    for port in fill::each(slice, "ports") {
        fill::absent(port, "name", || "".into());
        fill::absent(port, "protocol", || "TCP".into());
    }
}

fn labels_raise_generation(new: &mut Value, old: &Value) {
    if new.at(&["metadata", "labels"]) != old.at(&["metadata", "labels"]) {
        let generation = old.int_at(&["metadata", "generation"]).unwrap_or(0) + 1;
        new.set_at(&["metadata", "generation"], generation);
    }
}

/// Writes of the deprecated topology are dropped, as v1 documents.
fn drop_topology(new: &mut Value, old: Option<&Value>) {
    if old.is_some_and(|old| old.get("endpoints") == new.get("endpoints")) {
        return;
    }
    for endpoint in fill::each(new, "endpoints") {
        endpoint.remove_at(&["deprecatedTopology"]);
    }
}
