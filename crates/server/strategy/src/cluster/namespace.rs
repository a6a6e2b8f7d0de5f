//! Namespaces.

use cloudeck_machinery::{Value, value};

use crate::fill;

const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(super) fn defaults(namespace: &mut Value) {
    label(namespace);
    if let Some(status) = fill::made(namespace, "status") {
        fill::text(status, "phase", "Active");
    }
}

fn label(namespace: &mut Value) {
    let name = namespace.str_at(&["metadata", "name"]).unwrap_or_default();
    if !name.is_empty() {
        let name = Value::from(name);
        namespace.set_at(&["metadata", "labels", NAME_LABEL], name);
    }
}

pub(super) fn prepare_create(namespace: &mut Value) {
    // A generated name is known only now.
    label(namespace);
    namespace.set_at(&["status"], value!({"phase": "Active"}));
    let finalizers = namespace.items_at(&["spec", "finalizers"]);
    if !finalizers.iter().any(|name| name.as_str() == Some("kubernetes")) {
        let mut finalizers = finalizers.to_vec();
        finalizers.push("kubernetes".into());
        namespace.set_at(&["spec", "finalizers"], finalizers);
    }
}

/// Finalizers change through their own subresource only.
pub(super) fn prepare_update(new: &mut Value, old: &Value) {
    match old.at(&["spec", "finalizers"]) {
        Some(finalizers) => {
            new.set_at(&["spec", "finalizers"], finalizers.clone());
        }
        None => {
            new.remove_at(&["spec", "finalizers"]);
        }
    }
}
