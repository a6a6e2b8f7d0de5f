//! Endpoint slices.

use cloudeck_machinery::{Value, names};

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
    warnings,
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

fn warnings(slice: &Value, old: Option<&Value>) -> Vec<String> {
    let mut found = Vec::new();
    if old.is_none() && slice.str_at(&["addressType"]) == Some("FQDN") {
        // The path is upstream's, though there is no `spec`.
        found.push("spec.addressType: FQDN endpoints are deprecated".into());
    }
    let managed_by = ["metadata", "labels", "endpointslice.kubernetes.io/managed-by"];
    let manager = slice.str_at(&managed_by).unwrap_or_default();
    // They write nothing that would have to be warned of.
    if let "endpointslice-controller.k8s.io" | "endpointslicemirroring-controller.k8s.io" = manager {
        return found;
    }
    for (i, endpoint) in slice.items_at(&["endpoints"]).iter().enumerate() {
        let addresses = endpoint.items_at(&["addresses"]).iter();
        for (j, address) in addresses.filter_map(Value::as_str).enumerate() {
            let place = format!("endpoints[{i}].addresses[{j}]");
            found.extend(names::ip_warnings(&place, address));
        }
    }
    found
}
