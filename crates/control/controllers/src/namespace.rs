//! The life cycle of namespaces.

use crate::view::{Facts, Whole};

/// Whether the namespace lives.
pub(crate) fn is_active(namespace: &Whole) -> bool {
    let tree = namespace.object().tree();
    tree.at(&["metadata", "deletionTimestamp"]).is_none()
        && tree.str_at(&["status", "phase"]) != Some("Terminating")
}
